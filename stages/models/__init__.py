"""Base models: one file per model family behind one protocol, and what makes them load, repeat and run fast."""
