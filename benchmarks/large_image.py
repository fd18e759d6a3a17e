"""Contenders on one large image in memory: 4,000×4,000 grey pixels of 8 bits, on all cores.

python -m benchmarks.large_image CONTENDER FOLDER    (started by `python -m benchmarks`)
"""

import sys
import time

import numpy as np

from benchmarks import inference
from benchmarks.contender import serve
from keras_dae._util.threads import cores

SIDE = 4000  # pixels


def whole(prepare):
    """Return a contender that gives the whole image at once to a function of `benchmarks.inference`."""

    def prepared(folder):
        denoise = prepare(folder, cores())

        def run(image):
            denoised = denoise(np.float32(image)[None, :, :, None] / 255)
            return np.uint8(np.rint(denoised[0, :, :, 0] * 255))

        return run

    return prepared


CONTENDERS = {
    "load_denoiser, in tiles": lambda folder: inference.load_denoiser(folder, cores()),
    "model.onnx, whole": whole(inference.model_onnx),
    "PyTorch eager, channels_last, whole": whole(inference.torch_channels_last),
}


def main(name, folder):
    """Measure pixels/s of one image, whenever `python -m benchmarks` asks for it."""
    denoise = CONTENDERS[name](folder)
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)

    def measure():
        start = time.perf_counter()
        denoise(image)
        return {"pixels/s": image.size / (time.perf_counter() - start)}

    serve(measure)


if __name__ == "__main__":
    main(*sys.argv[1:])
