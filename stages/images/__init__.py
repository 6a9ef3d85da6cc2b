"""Images as files: sources, quality, selection."""
