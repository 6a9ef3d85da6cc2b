"""The built-in world: its drawings, its words, and the small Stable Diffusion that was trained on them."""
