"""Pictures as files: sources, decoding, quality, duplicates, selection."""
