// Calls worker.js from the page. Each call returns a promise.

const CHECKED_SIDE = 256; // pixels of the tile on which WebGPU is compared with the processor

export class Denoiser {
  /** Start the worker. Throws an Error that names what this browser lacks. */
  constructor() {
    for (const needed of ["WebAssembly", "Worker", "DecompressionStream"]) {
      if (!(needed in globalThis)) throw new Error(`This browser has no ${needed}, which the network needs to run.`);
    }
    this.waiting = new Map();
    this.sent = 0;
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data: { id, error, progress, ...result } }) => {
      const { resolve, reject, onProgress } = this.waiting.get(id);
      if (progress) return onProgress(progress);
      this.waiting.delete(id);
      error === undefined ? resolve(result) : reject(new Error(error));
    };
    this.worker.onerror = (event) => {
      const failed = new Error(`onnxruntime-web cannot be started${event.message ? `: ${event.message}` : ""}.`);
      for (const { reject } of this.waiting.values()) reject(failed);
      this.waiting.clear();
      this.call = () => Promise.reject(failed);
    };
  }

  /** Load a model. Resolves to `{threads}`. */
  load(model, url) {
    return this.call({ task: "load", model, url: new URL(url, document.baseURI).href });
  }

  /** Denoise a picture, or `count` pictures of that size, one after the other. Resolves to `{pixels, milliseconds}`. */
  denoise(model, { pixels, width, height }, count = 1) {
    return this.call({ task: "denoise", model, pixels, shape: [count, height, width, 1] });
  }

  /**
   * Denoise the photograph in a file at its full size, instead of the one that is being denoised.
   *
   * `model` is an entry of models.js. `onProgress` is called with `{width, height}` when the file has been read, and
   * with `{left, top, pixels, width, height, done, total}` after each of `total` tiles; `pixels` are four bytes each.
   * Resolves to `{milliseconds, device}`, or to `{cancelled: true}`.
   */
  async photograph({ id, channels, grid }, file, onProgress) {
    if (!("OffscreenCanvas" in globalThis)) throw new Error("This browser has no OffscreenCanvas.");
    return this.call({ task: "photograph", model: id, channels, grid, file }, { onProgress });
  }

  /** Stop denoising the photograph after the current tile. */
  cancel() {
    return this.call({ task: "cancel" });
  }

  /**
   * Use WebGPU for a model from now on, if the browser has it and it gives the same pixels and is faster.
   *
   * Browsers without a graphics processor may compute WebGPU on the processor, which is slow and not tried.
   */
  async accelerate({ id, channels }) {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter || (adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter)) return null;
    return this.call({ task: "accelerate", model: id, channels, side: CHECKED_SIDE });
  }

  /** Encode an ImageBitmap as "image/png" or "image/jpeg". Resolves to a Blob. */
  async encode(bitmap, type) {
    return (await this.call({ task: "encode", bitmap, type }, { transfer: [bitmap] })).blob;
  }

  call(message, { onProgress, transfer = [] } = {}) {
    return new Promise((resolve, reject) => {
      const id = this.sent++;
      this.waiting.set(id, { resolve, reject, onProgress });
      this.worker.postMessage({ id, ...message }, transfer);
    });
  }
}
