"""Image files in, denoised image files out: `python -m keras_dae.denoise`. No TensorFlow."""
