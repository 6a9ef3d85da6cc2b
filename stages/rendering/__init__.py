"""Render prompts with the learned embedding, and draw the grid."""
