"""Try shapes of U-Nets: `python -m benchmarks.network_shapes --images FOLDER --seconds 240`.

Each shape is trained for the same processor time on one thread, by the recipe `photo` in batches of 16, with a learning
rate that falls to 0 over that time, and measured on the validation images at σ 15, 25 and 50. Its speed in onnxruntime
is measured on one thread. Prints a row of a Markdown table for each shape.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from keras_dae.errors import run_command

SIGMAS = (15, 25, 50)  # of 255
SIDE = 512  # pixels: height and width of the image that onnxruntime is timed on
# Name: (channels at each resolution, residual blocks on the way down, in the middle and up, whether the first layer
# halves the resolution, whether the noisy image is added at the end).
SHAPES = {
    "S1": ((16, 32, 64), (0, 1, 2, 1, 1), False, True),
    "S2": ((16, 32, 64), (1, 2, 2, 2, 1), False, True),
    "H1": ((32, 64), (1, 2, 1), True, True),
    "H1 without the last sum": ((32, 64), (1, 2, 1), True, False),
    "H1 with 3 middle blocks": ((32, 64), (1, 3, 1), True, True),
    "H1 with 4 middle blocks": ((32, 64), (1, 4, 1), True, True),
    "H1 with 96 channels": ((32, 96), (1, 2, 1), True, True),
    "H2": ((32, 64, 128), (1, 1, 2, 1, 1), True, True),
}


def build(widths, blocks, starts_at_half, adds_noisy):
    """Return an untrained U-Net for grey images, of the layers that `keras_dae.networks.unet` has."""
    import keras

    def convolve(x, filters, size=3, stride=1, gain=1.0, transposed=False):
        layer = keras.layers.Conv2DTranspose if transposed else keras.layers.Conv2D
        fan_in = x.shape[-1] * (size / stride if transposed else size) ** 2
        kernel = keras.initializers.RandomNormal(stddev=(gain / fan_in) ** 0.5)
        return layer(filters, size, stride, "same", use_bias=False, kernel_initializer=kernel)(x)

    def residual(x, filters, count):
        for _ in range(count):
            branch = keras.layers.ReLU()(convolve(x, filters, gain=2))
            x = keras.layers.Add()([x, convolve(branch, filters, gain=0.01)])
        return x

    noisy = keras.Input((None, None, 1), name="noisy")
    x, skips, levels = convolve(noisy, widths[0], *((6, 2) if starts_at_half else ())), [], len(widths)
    for level in range(levels - 1):
        x = residual(x, widths[level], blocks[level])
        skips.append(x)
        x = convolve(x, widths[level + 1], 2, 2)
    x = residual(x, widths[-1], blocks[levels - 1])
    for level in reversed(range(levels - 1)):
        x = keras.layers.Add()([convolve(x, widths[level], 2, 2, transposed=True), skips[level]])
        x = residual(x, widths[level], blocks[-1 - level])
    size = {"size": 6, "stride": 2, "transposed": True} if starts_at_half else {}
    x = convolve(x, 1, gain=0.01 if adds_noisy else 1, **size)
    return keras.Model(noisy, keras.layers.Add()([noisy, x]) if adds_noisy else x)


def main(argv=None):
    """Train and measure the shapes one after the other; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network_shapes", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of clean images")
    parser.add_argument("--seconds", type=float, default=240, help="processor time of each training (240)")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="some of the shapes")
    return run_command(measure, **vars(parser.parse_args(argv)))


def measure(images, seconds, shapes):
    """Print the table."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_dae.config import TrainConfig
    from keras_dae.data.load import load_dataset
    from keras_dae.metrics import psnr
    from keras_dae.noise import add_noise

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    config = TrainConfig.from_recipe("photo", dataset=str(images), batch_size=16, epochs=10**6)
    dataset = load_dataset(config)
    clean = tf.constant(dataset.validation.clean, tf.float32) / 255
    noisy = {sigma: add_noise(clean, "gaussian", sigma / 255, (0, sigma), clip=False) for sigma in SIGMAS}
    print("| shape | parameters | steps | " + " | ".join(f"σ {sigma} (dB)" for sigma in SIGMAS) + " | megapixels/s |")
    print("|---" * (4 + len(SIGMAS)) + "|")
    for shape in shapes:
        keras.utils.set_random_seed(0)
        model = build(*SHAPES[shape])
        steps = train(model, dataset.train, config, seconds)
        quality = [float(np.mean(psnr(clean, tf.clip_by_value(model(noisy[sigma]), 0, 1)))) for sigma in SIGMAS]
        figures = [f"{model.count_params():,}", f"{steps:,}", *(f"{mean:.2f}" for mean in quality)]
        print(f"| {shape} | " + " | ".join(figures) + f" | {megapixels_per_second(model):.2f} |", flush=True)


def train(model, images, config, seconds):
    """Train for so much processor time; return the number of steps. The model gets its averaged weights."""
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_dae.data.batches import training_batches

    optimizer = keras.optimizers.Adam(
        0.0, config.beta_1, config.beta_2, global_clipnorm=config.clip_norm, use_ema=True, ema_momentum=0.99
    )

    @tf.function
    def step(noisy, clean):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(noisy) - clean))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    optimizer.build(model.trainable_variables)
    start, steps = None, 0
    for noisy, clean in training_batches(images, config):
        step(noisy, clean)
        start, steps = start or time.process_time(), steps + 1  # the first step builds the graph
        done = (time.process_time() - start) / seconds
        if done >= 1:
            break
        optimizer.learning_rate = config.learning_rate * min(1, steps / 100) * (1 + np.cos(np.pi * done)) / 2
    optimizer.finalize_variable_values(model.trainable_variables)
    return steps


def megapixels_per_second(model):
    """Return the speed of the model's ONNX export on one thread of onnxruntime."""
    import numpy as np
    import tensorflow as tf
    import tf2onnx

    from benchmarks.inference import onnx_session, seconds_per_call
    from export.graph import layers

    noisy = tf.TensorSpec((None, None, None, 1), tf.float32, "noisy")
    function = tf.function(layers.network(model), input_signature=[noisy])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        tf2onnx.convert.from_function(function, input_signature=[noisy], opset=17, output_path=str(path))
        session = onnx_session(path, 1)
    image = np.random.default_rng(0).random((1, SIDE, SIDE, 1), np.float32)
    return SIDE**2 / 1e6 / seconds_per_call(lambda: session.run(None, {"noisy": image}))


if __name__ == "__main__":
    sys.exit(main())
