"""Textual inversion: noise, captions, objective, validation, checkpoints, the loop."""
