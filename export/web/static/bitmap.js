// Reading image files, in the page and in the worker.

/** Return the picture in an image file as an ImageBitmap, upright. Throws an Error if it cannot be read. */
export async function readBitmap(file) {
  try {
    return await createImageBitmap(file); // applies the orientation that a camera stored
  } catch {
    throw new Error(`${file.name} is no image that this browser can read (such as PNG, JPEG or WebP).`);
  }
}
