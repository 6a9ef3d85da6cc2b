"""The denoiser's bandwidth-bound pieces as kernels of our own, in Triton, for NVIDIA GPUs."""
