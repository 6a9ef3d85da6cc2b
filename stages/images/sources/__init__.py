"""Where images come from: the built-in world, a folder, an archive, or Kaggle."""
