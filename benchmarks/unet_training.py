"""Speed of training the network `unet` by the recipe `photo`, next to PyTorch: `python -m benchmarks.unet_training`.

Contenders take turns, each in its own process, on all cores. Each measures patches/s over an epoch on the same patches
of 64×64 grey pixels, noise, clipping of gradients and averaging of weights included.

python -m benchmarks.unet_training serve CONTENDER    (started by the command above)
"""

import argparse
import sys
import time

import numpy as np

from benchmarks.contender import add_rounds, ratio, serve, take_turns
from keras_dae.config import RECIPES

PATCHES, SIZE, BATCH_SIZE = 960, 64, RECIPES["photo"]["batch_size"]


def patches():
    """Return uint8 `(PATCHES, SIZE, SIZE, 1)`: parts of a photograph of scikit-image."""
    from skimage.data import camera

    image, random = camera(), np.random.default_rng(0)
    corners = random.integers(0, np.array(image.shape) - SIZE, (PATCHES, 2))
    return np.stack([image[top : top + SIZE, left : left + SIZE, None] for top, left in corners])


def ours():
    """Return a function that measures the second epoch of `model.fit` on the package's own pipeline."""
    from benchmarks.training import second_epoch
    from keras_dae.config import TrainConfig

    return second_epoch(TrainConfig.from_recipe("photo", epochs=2), patches())


def torch_loop(channels_last):
    """Return a function that measures an epoch of `benchmarks.torch_unet.Training`."""
    import torch

    from benchmarks.torch_original import to_tensor
    from benchmarks.torch_unet import Training

    torch.manual_seed(0)
    training = Training(to_tensor(patches()), BATCH_SIZE, channels_last)

    def measure():
        start = time.perf_counter()
        training.epoch()
        return {"images/s": PATCHES / (time.perf_counter() - start)}

    return measure


CONTENDERS = {
    "keras_dae": ours,
    "PyTorch": lambda: torch_loop(channels_last=False),
    "PyTorch, channels_last": lambda: torch_loop(channels_last=True),
}


def main(argv=None):
    """Measure all contenders and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unet_training", description=__doc__.splitlines()[0])
    add_rounds(parser, 5)
    rounds = parser.parse_args(argv).rounds
    results = take_turns({name: ["benchmarks.unet_training", "serve", name] for name in CONTENDERS}, rounds, "training")
    print("| | patches/s (median) | keras_dae is so many times as fast | peak MiB |\n|---|---|---|---|")
    for name, figures in results.items():
        faster = ratio(results["keras_dae"]["images/s"], figures["images/s"])
        speed, peak = np.median(figures["images/s"]), np.median(figures["peak MiB"])
        print(f"| {name} | {speed:.0f} | {faster:.2f} | {peak:,.0f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(CONTENDERS[sys.argv[2]]())
    else:
        main()
