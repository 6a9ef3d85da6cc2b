"""Which pictures are chosen, and how they are shown."""
