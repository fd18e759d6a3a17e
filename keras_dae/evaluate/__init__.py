"""Measure runs on noisy test images: `python -m keras_dae.evaluate`."""
