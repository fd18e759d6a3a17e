"""`python -m keras_dae COMMAND`: the same as `keras-dae COMMAND`."""

import sys

from keras_dae.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m keras_dae"))
