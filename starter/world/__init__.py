"""The built-in world: creatures in scenes, drawn from seeds, and class folders with known defects."""
