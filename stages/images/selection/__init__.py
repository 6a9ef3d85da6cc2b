"""Choose and normalize the images to train on and to validate with."""
