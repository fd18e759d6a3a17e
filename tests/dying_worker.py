"""A worker of `denoise` that dies at one file. In a module of its own, since its processes import all of the module."""

import os
import signal

from keras_dae.denoise.chunk import denoise_chunk
from keras_dae.denoise.denoiser import load_denoiser


def dying_at_the_third(file, sha256, white):
    """Return a function that denoises chunks of files, and kills its process if 3.png is among them."""
    denoiser = load_denoiser(file, threads=1)

    def denoise(chunk):
        if any(work.source.name == "3.png" for work in chunk):
            os.kill(os.getpid(), signal.SIGKILL)
        return denoise_chunk(denoiser, chunk)

    return denoise
