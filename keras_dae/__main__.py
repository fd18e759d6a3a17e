"""The same as the console script `keras-dae`: `python -m keras_dae COMMAND`."""

import sys

from keras_dae.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m keras_dae"))
