"""Training: the command `python -m keras_dae.train` and what it consists of."""
