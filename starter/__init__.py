"""The built-in world, its captions, and a small Stable Diffusion that was trained on them."""
