// The part of the worker that denoises whole photographs: it reads the file, runs the network on tiles, and encodes the
// result. Whole pictures are kept as bytes; only one tile at a time is float.

import { readBitmap } from "./bitmap.js";
import { cut, reflect } from "./tiles.js";

const STRIP = 256; // rows that are read at once to find out whether a picture is grey
const UNIT = Float32Array.from({ length: 256 }, (_, value) => value / 255);

/** Return the picture in an image file, upright, as an OffscreenCanvas. Throws an Error if it cannot be read. */
export async function readPhotograph(file) {
  const bitmap = await readBitmap(file);
  try {
    const { width, height } = bitmap;
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true }); // kept in main memory
    context?.fillRect(width - 1, height - 1, 1, 1);
    // Beyond their limits, some browsers give a canvas that stays empty.
    if (context?.getImageData(width - 1, height - 1, 1, 1).data[3] !== 255) {
      throw new Error(`${file.name} has ${width}×${height} pixels, more than this browser can process.`);
    }
    context.clearRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    return canvas;
  } finally {
    bitmap.close();
  }
}

/** Return whether red, green and blue are the same in every pixel. */
export function isGrey(canvas) {
  const context = canvas.getContext("2d");
  for (let top = 0; top < canvas.height; top += STRIP) {
    const { data } = context.getImageData(0, top, canvas.width, Math.min(STRIP, canvas.height - top));
    for (let i = 0; i < data.length; i += 4) {
      if (data[i] !== data[i + 1] || data[i] !== data[i + 2]) return false;
    }
  }
  return true;
}

/**
 * Denoise a picture tile by tile. Yields `{left, top, image, done, total}` for each tile; `image` is an ImageData.
 *
 * A network for grey images denoises each colour separately. A network for colour images gets a grey picture as a
 * colour picture, and the mean of its three channels is the result. Alpha is left unchanged.
 *
 * `run(pixels, height, width)` runs the network, and resolves to its pixels. `model` has the number of `channels`, and
 * the `grid` that `cut` takes.
 */
export async function* denoiseTiles(canvas, grey, { channels, grid }, run) {
  const rows = cut(canvas.height, grid);
  const columns = cut(canvas.width, grid);
  const groups = channels === 3 ? [[0, 1, 2]] : grey ? [[0]] : [[0], [1], [2]]; // the channels of each run
  const total = rows.length * columns.length;
  let done = 0;
  for (const row of rows) {
    for (const column of columns) {
      const tile = readTile(canvas, row, column);
      const image = innerImage(canvas, row, column);
      for (const group of groups) {
        const denoised = await run(toUnit(tile, group), row.length, column.length);
        fromUnit(denoised, group, grey, image, row, column);
      }
      done += 1;
      yield { left: column.from, top: row.from, image, done, total };
    }
  }
}

/** Return the pixels of a tile, four bytes each. Beyond the picture, they are its reflection. */
function readTile(canvas, row, column) {
  const width = Math.min(column.length, canvas.width - column.start);
  const height = Math.min(row.length, canvas.height - row.start);
  const { data } = canvas.getContext("2d").getImageData(column.start, row.start, width, height);
  if (width === column.length && height === row.length) return data;
  const [from, to] = [new Uint32Array(data.buffer), new Uint32Array(row.length * column.length)];
  const xs = Array.from({ length: column.length }, (_, x) => reflect(column.start + x, canvas.width) - column.start);
  for (let y = 0, i = 0; y < row.length; y++) {
    const start = (reflect(row.start + y, canvas.height) - row.start) * width;
    for (const x of xs) to[i++] = from[start + x];
  }
  return new Uint8ClampedArray(to.buffer);
}

/** Return the pixels for which the result of a tile is used. */
function innerImage(canvas, row, column) {
  return canvas.getContext("2d").getImageData(column.from, row.from, column.to - column.from, row.to - row.from);
}

function toUnit(tile, group) {
  const pixels = new Float32Array((tile.length / 4) * group.length);
  for (let i = 0, pixel = 0; pixel < tile.length; pixel += 4) {
    for (const channel of group) pixels[i++] = UNIT[tile[pixel + channel]];
  }
  return pixels;
}

/** Write what the network made of a tile into `image`. */
function fromUnit(denoised, group, grey, image, row, column) {
  const { data, width, height } = image; // `data` rounds to the nearest integer, and clips to 0 … 255
  for (let y = 0, to = 0; y < height; y++) {
    let from = ((row.from - row.start + y) * column.length + column.from - column.start) * group.length;
    for (let x = 0; x < width; x++, to += 4, from += group.length) {
      if (grey) {
        let sum = 0;
        for (let i = 0; i < group.length; i++) sum += denoised[from + i];
        data[to] = data[to + 1] = data[to + 2] = (255 * sum) / group.length;
      } else {
        for (let i = 0; i < group.length; i++) data[to + group[i]] = 255 * denoised[from + i];
      }
    }
  }
}

/** Return a Blob with a picture as PNG or JPEG. JPEG has no transparency: the background is white. */
export async function encode(bitmap, type) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  if (type === "image/jpeg") {
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.convertToBlob({ type, quality: 0.95 });
}
