"""Denoise on a Ray cluster: `python -m keras_dae.denoise --engine ray`. A worker is an actor of Ray."""
