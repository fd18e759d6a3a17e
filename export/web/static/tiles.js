// How a large picture is cut into tiles so that no seams show. keras_dae/denoise/denoiser.py does the same.
//
// A tile is what the network gets: some pixels of the picture, and around them a halo that covers the receptive field.
// All tiles of a picture have the same size, which is faster, because onnxruntime plans its memory once.

// Pixels along each side. Tiles of 1024 pixels save 4 % of the time, but take twice the memory.
const MAX_TILE = 768;

/**
 * Cut one side of a picture. Returns a list of `{start, length, from, to}`, in pixels: a tile is the rows `start` to
 * `start + length`, and its result is used for the rows `from` to `to`. Tiles start at multiples of the network's
 * multiple. The last one may reach beyond the picture, see `reflect`.
 *
 * `grid` is `{multiple, min_padded_size, halo}`, see keras_dae/networks/geometry.py.
 */
export function cut(size, grid, maxTile = MAX_TILE) {
  const roundUp = (pixels) => Math.ceil(pixels / grid.multiple) * grid.multiple;
  const padded = Math.max(grid.min_padded_size, roundUp(size));
  const largest = Math.max(roundUp(maxTile), 4 * roundUp(grid.halo));
  if (padded <= largest) return [{ start: 0, length: padded, from: 0, to: size }];
  const inner = padded - 2 * grid.halo; // what remains to be cut: the first and the last tile have a halo on one side
  const count = Math.ceil(inner / (largest - 2 * grid.halo));
  const step = roundUp(inner / count);
  const length = step + 2 * grid.halo;
  return Array.from({ length: count }, (_, index) => ({
    start: Math.min(index * step, padded - length),
    length,
    from: index === 0 ? 0 : index * step + grid.halo,
    to: index === count - 1 ? size : (index + 1) * step + grid.halo,
  }));
}

/** Return the row of a picture of `size` rows that is shown at `row`, which may lie beyond the last one. */
export function reflect(row, size) {
  const period = Math.max(1, 2 * (size - 1));
  const within = row % period;
  return size === 1 ? 0 : Math.min(within, period - within);
}
