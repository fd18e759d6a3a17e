"""Library calls leave the process as they found it."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_same_run

from keras_dae._util.process_state import unchanged_process_state

PROGRAM = """
import gc, json, logging, os, random, signal, sys, tempfile, threading, warnings
import keras, matplotlib, numpy as np, onnxruntime, PIL.Image, PIL.ImageFile, tensorflow as tf
import export, keras_dae
from export.run import export_run
from keras_dae import TrainConfig, load_denoiser, train_and_evaluate
from keras_dae.denoise.files import denoise_files

random.seed(5), np.random.seed(5), tf.random.set_seed(5)
matplotlib.use("svg")
matplotlib.rcParams["font.size"] = 7.5
logging.getLogger("a users logger").setLevel(logging.DEBUG)
warnings.simplefilter("error", BytesWarning)
signal.signal(signal.SIGTERM, lambda *_: None)
for package in sys.argv[3:]:
    __import__(package)  # these add filters of warnings, which their modules need

def loggers():
    everyone = {"": logging.getLogger(), **logging.Logger.manager.loggerDict}
    return {
        name: (logger.level, logger.disabled, logger.propagate, len(logger.handlers), len(logger.filters))
        for name, logger in everyone.items() if isinstance(logger, logging.Logger) and (logger.handlers or logger.level)
    }

def must_be_deterministic():
    tf.random.set_seed(None)
    try:
        tf.random.normal(())
    except RuntimeError:  # TensorFlow then refuses random operations without a seed
        return True
    finally:
        tf.random.set_seed(5)
    return False

def state():
    threading_config = tf.config.threading
    return {
        "threads per operation": threading_config.get_intra_op_parallelism_threads(),
        "operations at a time": threading_config.get_inter_op_parallelism_threads(),
        "determinism": must_be_deterministic(),
        "eager": tf.config.functions_run_eagerly(),
        "jit": tf.config.optimizer.get_jit(),
        "soft placement": tf.config.get_soft_device_placement(),
        "random": repr(random.getstate()),
        "numpy": repr(np.random.get_state()),
        "tensorflow logging": tf.get_logger().level,
        "policy": keras.config.dtype_policy().name,
        "floatx": keras.config.floatx(),
        "image_data_format": keras.config.image_data_format(),
        "interactive logging": keras.config.is_interactive_logging_enabled(),
        "traceback filtering": keras.config.is_traceback_filtering_enabled(),
        "logging": loggers(),
        "disabled logging": logging.root.manager.disable,
        "warnings": repr(warnings.filters),
        "environ": dict(os.environ),
        "backend": matplotlib.get_backend(),
        "rcParams": repr(dict(matplotlib.rcParams)),
        "signals": [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "umask": os.umask(os.umask(0o22) or 0o22) and None,
        "cwd": os.getcwd(),
        "path": sys.path,
        "hooks": repr((sys.excepthook, sys.unraisablehook, threading.excepthook)),
        "streams": repr((sys.stdout, sys.stderr)),
        "numpy errors": np.geterr(),
        "print options": repr(np.get_printoptions()),
        "recursion": sys.getrecursionlimit(),
        "collector": (gc.isenabled(), gc.get_threshold()),
        "temporary folder": tempfile.tempdir,
        "threads": [thread.name for thread in threading.enumerate()],
        "pixels": (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES),
    }

def check(name, call):
    before, result = state(), None
    try:
        result = call()
    except keras_dae.UserError as error:
        changed[name] = {"error": str(error)[:500]}
    after = state()
    for key in before:
        if before[key] != after[key]:
            old, new = before[key], after[key]
            if isinstance(old, dict):
                old, new = ({k: v.get(k) for k in {**old, **new} if old.get(k) != new.get(k)} for v in (old, new))
            changed.setdefault(name, {})[key] = [repr(old)[:500], repr(new)[:500]]
    return result

changed = {}
npz, folder = sys.argv[1:3]
config = TrainConfig(dataset=npz, epochs=1, batch_size=16, initialization="he")
run = check("train", lambda: train_and_evaluate(config, folder + "/library"))
tf.random.set_seed(5)
first = float(tf.random.normal(()))
tf.random.set_seed(5)
check("train again", lambda: train_and_evaluate(config, folder + "/again"))
if float(tf.random.normal(())) != first:
    changed["train again"] = changed.get("train again", {}) | {"tensorflow": "the state of the random numbers"}
check("export", lambda: export_run(run))
denoiser = check("load", lambda: load_denoiser("mnist"))
check("denoise", lambda: denoiser(np.zeros((30, 30), np.uint8)))
np.save(folder + "/noisy.npy", np.zeros((30, 30), np.uint8))
check("denoise files", lambda: denoise_files([folder + "/noisy.npy"], "mnist", folder + "/denoised"))
print("CHANGED", json.dumps(changed))
"""
ROOT = Path(__file__).parent.parent
IMPORTED = ("scipy.ndimage", "skimage.restoration", "tifffile")


@pytest.fixture(scope="module")
def changed(digits_npz, tmp_path_factory):
    """What each call changed in a fresh process: call -> name -> [before, after]."""
    folder = tmp_path_factory.mktemp("effects")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, digits_npz, folder, *IMPORTED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("CHANGED ")]
    return json.loads(line.removeprefix("CHANGED "))


@pytest.mark.slow
@pytest.mark.parametrize("call", ["train", "train again", "export", "load", "denoise", "denoise files"])
def test_the_process_is_left_as_it_was(changed, call):
    assert changed.get(call, {}) == {}


def test_what_packages_change_while_they_are_imported():
    def state():
        return dict(os.environ), sys.path[:], random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    before = state()
    with unchanged_process_state():
        os.environ["A_PACKAGE"] = "1"
        os.environ.pop("PATH")
        sys.path.append("a package")
        random.random()
        np.random.seed(1)  # noqa: NPY002
    assert state() == before


RUN = """
import sys
from keras_dae import TrainConfig, train_and_evaluate

config = TrainConfig(dataset=sys.argv[1], epochs=2, batch_size=32, initialization="he")
train_and_evaluate(config, sys.argv[2], set_up_tensorflow=True)
"""


@pytest.mark.slow
def test_library_gives_the_bits_of_the_command(digits_npz, tmp_path):
    """In fresh processes, if TensorFlow is set up as the command does it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = ["--dataset", digits_npz, "--epochs", "2", "--batch-size", "32", "--initialization", "he", "--no-export"]
    command = [sys.executable, "-m", "keras_dae.train", *options, "--output-dir", tmp_path / "command"]
    for arguments in (command, [sys.executable, "-c", RUN, digits_npz, tmp_path / "library"]):
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "command", tmp_path / "library")
