"""From params to a grid of pictures."""
