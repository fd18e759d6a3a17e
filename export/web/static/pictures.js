// Grey pictures: `{pixels, width, height}`. `pixels` is a Float32Array in [0, 1], row by row.

import { readBitmap } from "./bitmap.js";
import { SIZE } from "./drawing.js";

const MAX_PIXELS = 4e6; // every stage of the network then fits into the memory of a phone
const MAX_SIDE = 16384; // pixels; the canvas of every browser can be this wide and high
const MIN_SMOOTH_SIDE = 128; // pixels; smaller pictures are enlarged without smoothing

/**
 * Return the picture in an image file, converted to grey as Pillow does it. `original` is its size in the file.
 *
 * Pictures with more than MAX_PIXELS, or a side longer than MAX_SIDE, are made smaller. Throws an Error if the file
 * cannot be read.
 */
export async function readPicture(file) {
  const bitmap = await readBitmap(file);
  try {
    const original = { width: bitmap.width, height: bitmap.height };
    const areaScale = Math.sqrt(MAX_PIXELS / (original.width * original.height));
    const scale = Math.min(1, areaScale, MAX_SIDE / Math.max(original.width, original.height));
    const [width, height] = [original.width, original.height].map((size) => Math.max(1, Math.floor(size * scale)));
    return { pixels: greyOf(bitmap, width, height), width, height, original };
  } finally {
    bitmap.close();
  }
}

/** Return the pictures in a square sprite of SIZE × SIZE tiles, row by row. */
export async function readTiles(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`The test digits cannot be loaded (status ${response.status}).`);
  const bitmap = await createImageBitmap(await response.blob());
  const pixels = greyOf(bitmap, bitmap.width, bitmap.height);
  const [across, down] = [bitmap.width / SIZE, bitmap.height / SIZE];
  return Array.from({ length: across * down }, (_, tile) => {
    const start = Math.floor(tile / across) * SIZE * bitmap.width + (tile % across) * SIZE;
    const at = (i) => pixels[start + Math.floor(i / SIZE) * bitmap.width + (i % SIZE)];
    return { pixels: Float32Array.from({ length: SIZE * SIZE }, (_, i) => at(i)), width: SIZE, height: SIZE };
  });
}

/** Return a black picture to draw on. */
export function blank() {
  return { pixels: new Float32Array(SIZE * SIZE), width: SIZE, height: SIZE };
}

/** Show a picture on a canvas, and give the canvas the size of the picture. */
export function paint(canvas, { pixels, width, height }) {
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) words[i] = 0xff000000 | (Math.round(255 * pixels[i]) * 0x010101);
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  canvas.classList.toggle("pixels", Math.max(width, height) < MIN_SMOOTH_SIDE);
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0); // kept in main memory
}

/** Return the peak signal-to-noise ratio of pixels in dB, at most 100, as keras_dae/metrics.py computes it. */
export function psnr(clean, pixels) {
  let sum = 0;
  for (let i = 0; i < clean.length; i++) sum += (clean[i] - pixels[i]) ** 2;
  return -10 * Math.log10(Math.max(sum / clean.length, 1e-10));
}

function greyOf(bitmap, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // the background of transparent pixels
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return Float32Array.from({ length: data.length / 4 }, (_, i) => {
    const [red, green, blue] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16) / 255; // ITU-R 601-2, as Pillow rounds it
  });
}
