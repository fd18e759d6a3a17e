"""What noise the images of a folder have, measured on the noisy images alone, and what follows for the training.

`python -m keras_dae.inspect FOLDER` is the command, and `keras_dae.inspect.folder.inspect_folder` the function. Neither
imports TensorFlow.
"""
