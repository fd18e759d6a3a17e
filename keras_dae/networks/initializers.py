"""The initial weights of the layers of a network, by a named rule and a seed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dae.errors import UserError

INITIALIZATIONS = ("torch", "he")


def initializers(initialization: str, seed: int | None, layers: int) -> Callable[..., dict[str, Any]]:
    """Return a function that gives each layer, in order, its `kernel_initializer` and `bias_initializer`.

    Its arguments are `fan_in`, `torch_fan_in`, `bias` (default 0), `gain` (default 2) and `scale` (default 1):

    - `he`: kernels N(0, gain / fan_in), with gain 2 before a ReLU (He et al. 2015, arXiv:1502.01852, eq. 10) and 1
      elsewhere; biases are `bias`.
    - `torch`: kernels and biases U(-b, b), b = 1 / sqrt(torch_fan_in). This is `kaiming_uniform_(a=sqrt(5))` in
      PyTorch's `_ConvNd.reset_parameters`. For a transposed layer, PyTorch counts the output channels.

    `scale` multiplies the kernels of both.

    Args:
        initialization: one of INITIALIZATIONS.
        seed: fixes the weights; None draws new ones.
        layers: number of layers.

    Raises:
        UserError: the rule is unknown.
    """
    import keras

    if initialization not in INITIALIZATIONS:
        raise UserError(f"expected initialization to be one of {INITIALIZATIONS}, got {initialization!r}")
    seeds = (int(word) for word in np.random.SeedSequence(seed).generate_state(2 * layers))

    def next_layer(
        fan_in: float, torch_fan_in: float, bias: float = 0, gain: float = 2, scale: float = 1
    ) -> dict[str, Any]:
        if initialization == "he":
            kernel = keras.initializers.RandomNormal(stddev=scale * (gain / fan_in) ** 0.5, seed=next(seeds))
            return {"kernel_initializer": kernel, "bias_initializer": keras.initializers.Constant(bias)}
        bound = torch_fan_in**-0.5
        return {
            "kernel_initializer": keras.initializers.RandomUniform(-scale * bound, scale * bound, seed=next(seeds)),
            "bias_initializer": keras.initializers.RandomUniform(-bound, bound, seed=next(seeds)),
        }

    return next_layer
