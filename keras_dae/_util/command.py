"""What a command sets in its own process before it does anything. Library calls set none of it."""

import os
import sys
import warnings


def prepare_command() -> None:
    """Prepare the process of a command: its output, and how TensorFlow and Keras will start. Nothing is imported.

    - A standard stream that is closed is the null device. Otherwise, Python has none there, and the next file that is
      opened gets its number.
    - Characters that the output's encoding lacks are printed as escapes; by default, they would end the command.
    - Keras runs on TensorFlow, whatever KERAS_BACKEND or keras.json say.
    - TensorFlow prints errors, so that a broken CUDA is seen, but not its remarks on the processor.
    - Warnings of other packages are printed, also if PYTHONWARNINGS makes errors of them; Keras itself gives some.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open until the process ends
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a stream that replaces stdout may not have it
            stream.reconfigure(errors="backslashreplace")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if "error" in os.environ.get("PYTHONWARNINGS", ""):
        os.environ["PYTHONWARNINGS"] = "default"
        warnings.simplefilter("default")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
