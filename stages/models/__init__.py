"""What the pipeline knows of a model family; one file a family."""
