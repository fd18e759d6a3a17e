"""The geometry of the networks, and all that follows from it: which sizes fit, and how far a pixel sees.

Pure Python, so that denoising and exporting know it without importing TensorFlow. Everything is computed from the
layers; nothing else in the package states a size, a multiple or a radius of a network.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True)
class ConvLayer:
    """A square convolution, or a square transposed one, as PyTorch describes it.

    Attributes:
        name: of the Keras layer.
        kind: `conv` (Conv2d) or `transposed` (ConvTranspose2d).
        filters: output channels; None for as many as the image has.
        kernel, stride, padding: pixels along each axis.
        output_padding: pixels that a transposed layer adds after the last row and column.
        bias: whether the layer has one.
        torch_name: of the layer in a state_dict of PyTorch.
    """

    name: str
    kind: Literal["conv", "transposed"]
    filters: int | None
    kernel: int
    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    bias: bool = True
    torch_name: str = ""

    def output_size(self, size: int) -> int:
        """Return the output's height for an input of height `size`, at least 1; 0 or less if it is too small.

        PyTorch's documentation of Conv2d and ConvTranspose2d has the formulas.
        """
        if self.kind == "conv":
            return (size + 2 * self.padding - self.kernel) // self.stride + 1
        return (size - 1) * self.stride - 2 * self.padding + self.kernel + self.output_padding

    def inputs_of(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and the last input row that the output rows `first` to `last` depend on."""
        if self.kind == "conv":
            return first * self.stride - self.padding, last * self.stride - self.padding + self.kernel - 1
        # Output row = stride · input row - padding + tap, with taps from 0 to kernel - 1.
        return -(-(first + self.padding - self.kernel + 1) // self.stride), (last + self.padding) // self.stride


@dataclass(frozen=True)
class Grid:
    """Which sizes a network takes, and how far a pixel sees: what is needed to pad images and to cut them into tiles.

    Attributes:
        multiple: pixels. The output has the input's size if height and width are multiples of this.
        min_padded_size: pixels; the smallest multiple that the network takes.
        receptive_radius: the largest distance along an axis, in pixels, between an output pixel and an input pixel that
            it depends on.
    """

    multiple: int
    min_padded_size: int
    receptive_radius: int

    @property
    def halo(self) -> int:
        """`receptive_radius` rounded up to the multiple: how far a tile must be extended, in pixels."""
        return -(-self.receptive_radius // self.multiple) * self.multiple

    def padded_size(self, size: int) -> int:
        """Return the size, in pixels, to which an image of `size` pixels must be padded before the network runs."""
        return max(self.min_padded_size, -(-size // self.multiple) * self.multiple)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Return what the `metadata_props` of an ONNX file say; files without them hold the autoencoder.

        Raises:
            ValueError: they hold something else than sizes that fit together.

        Example:
            >>> Grid.from_metadata({}) == AUTOENCODER.grid
            True
        """
        if not any(name in metadata for name in GRID_FIELDS):
            metadata = AUTOENCODER.grid.to_metadata()
        grid = cls(*(int(metadata.get(name, "")) for name in GRID_FIELDS))
        if grid.multiple < 1 or grid.min_padded_size % grid.multiple or min(grid.min_padded_size, grid.halo + 1) < 1:
            raise ValueError(f"the sizes {grid} do not fit together")
        return grid

    def to_metadata(self) -> dict[str, str]:
        """Return what `from_metadata` reads."""
        return {name: str(getattr(self, name)) for name in GRID_FIELDS}


GRID_FIELDS = ("multiple", "min_padded_size", "receptive_radius")


@dataclass(frozen=True)
class Geometry:
    """What a stack of layers does to sizes.

    Skips that leave layers out change nothing: a pixel sees furthest through all layers.

    Example:
        >>> AUTOENCODER.multiple, AUTOENCODER.min_size, AUTOENCODER.receptive_radius, AUTOENCODER.halo
        (4, 17, 22, 24)
        >>> AUTOENCODER.padded_size(1), AUTOENCODER.padded_size(28), AUTOENCODER.padded_size(30)
        (20, 28, 32)
    """

    layers: tuple[ConvLayer, ...]

    @functools.cached_property
    def encoder(self) -> tuple[ConvLayer, ...]:
        """The convolutions."""
        return tuple(layer for layer in self.layers if layer.kind == "conv")

    @functools.cached_property
    def decoder(self) -> tuple[ConvLayer, ...]:
        """The transposed convolutions."""
        return tuple(layer for layer in self.layers if layer.kind == "transposed")

    @functools.cached_property
    def multiple(self) -> int:
        """Pixels. The output has the input's size if height and width are multiples of this."""
        product = 1
        for layer in self.encoder:
            product *= layer.stride
        return product

    @functools.cached_property
    def min_size(self) -> int:
        """The smallest height and width, in pixels, for which no layer's output is empty."""
        size = 1
        while not self._fits(size):
            size += 1
        return size

    @functools.cached_property
    def min_padded_size(self) -> int:
        """`min_size` rounded up to the multiple: the smallest size that the network does not change, in pixels."""
        return -(-self.min_size // self.multiple) * self.multiple

    @functools.cached_property
    def receptive_radius(self) -> int:
        """The largest distance along an axis, in pixels, between an output pixel and an input pixel it depends on."""
        radius = 0
        for row in range(self.multiple):  # the pattern repeats after that
            first = last = row
            for layer in reversed(self.layers):
                first, last = layer.inputs_of(first, last)
            radius = max(radius, row - first, last - row)
        return radius

    @functools.cached_property
    def grid(self) -> Grid:
        """The sizes that fit, and how far a pixel sees."""
        return Grid(self.multiple, self.min_padded_size, self.receptive_radius)

    @property
    def halo(self) -> int:
        """See `Grid.halo`."""
        return self.grid.halo

    def padded_size(self, size: int) -> int:
        """See `Grid.padded_size`."""
        return self.grid.padded_size(size)

    def describe(self, channels: int) -> str:
        """Return the stack in PyTorch's words, for images of so many channels.

        Example:
            >>> AUTOENCODER.describe(1)
            'Conv2d 1→16→32→64, ConvTranspose2d 64→32→16→1'
        """
        encoder = [channels, *(layer.filters for layer in self.encoder)]
        decoder = [encoder[-1], *(layer.filters or channels for layer in self.decoder)]
        return f"Conv2d {'→'.join(map(str, encoder))}, ConvTranspose2d {'→'.join(map(str, decoder))}"

    def _fits(self, size):
        for layer in self.layers:
            size = layer.output_size(size)
            if size < 1:
                return False
        return True


# The PyTorch original: Conv2d 1→16→32→64, ConvTranspose2d 64→32→16→1.
DOWN: dict[str, Any] = {"kernel": 3, "stride": 2, "padding": 1}
UP: dict[str, Any] = {**DOWN, "output_padding": 1}
AUTOENCODER = Geometry(
    (
        ConvLayer("encoder_conv1", "conv", 16, torch_name="encoder.0", **DOWN),
        ConvLayer("encoder_conv2", "conv", 32, torch_name="encoder.2", **DOWN),
        ConvLayer("encoder_conv3", "conv", 64, torch_name="encoder.4", kernel=5),
        ConvLayer("decoder_conv_transpose1", "transposed", 32, torch_name="decoder.0", kernel=5),
        ConvLayer("decoder_conv_transpose2", "transposed", 16, torch_name="decoder.2", **UP),
        ConvLayer("decoder_conv_transpose3", "transposed", None, torch_name="decoder.4", **UP),
    )
)
