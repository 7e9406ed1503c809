"""Measures the classes of diffusers: what one call of a denoiser, VAE or text encoder allocates, under fake tensors."""
