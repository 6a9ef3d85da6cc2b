"""What is in a file, and how good it is."""
