"""Denoising on a Ray cluster: `python -m keras_dae.denoise --engine ray`."""
