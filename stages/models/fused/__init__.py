"""Triton kernels for the memory-bound parts of the UNet and the text encoder, on NVIDIA GPUs."""
