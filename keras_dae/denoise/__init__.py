"""Denoise image files: `python -m keras_dae.denoise`. Nothing here imports TensorFlow."""
