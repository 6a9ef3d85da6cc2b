"""Textual inversion: latents, captions, sampler, loss, validation, optimizer, checkpoints and the training loop."""
