"""Where pictures come from: the built-in world, a folder, an archive, Kaggle."""
