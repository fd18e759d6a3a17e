"""Training: `python -m keras_dae.train`."""
