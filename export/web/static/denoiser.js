// Calls worker.js from the page. Each call returns a promise.

export class Denoiser {
  /** Start the worker. Throws an Error that names what this browser lacks. */
  constructor() {
    for (const needed of ["WebAssembly", "Worker", "DecompressionStream"]) {
      if (!(needed in globalThis)) throw new Error(`This browser has no ${needed}, which the network needs to run.`);
    }
    this.waiting = new Map();
    this.sent = 0;
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data: { id, error, ...result } }) => {
      const { resolve, reject } = this.waiting.get(id);
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

  call(message) {
    return new Promise((resolve, reject) => {
      const id = this.sent++;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message });
    });
  }
}
