// Runs the models in a worker, so that drawing never waits for them.
//
// Messages: {id, task: "load", model, url} and {id, task: "denoise", model, pixels, shape}. Each is answered with
// {id, …result} or {id, error}.

import * as ort from "./ort/ort.wasm.min.js";

const MAX_THREADS = 4; // more threads do not make this small network faster

const absolute = (name) => new URL(`./ort/${name}`, import.meta.url).href; // onnxruntime-web needs absolute addresses
ort.env.wasm.wasmPaths = { mjs: absolute("ort-wasm-simd-threaded.js"), wasm: absolute("ort-wasm-simd-threaded.wasm") };
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MAX_THREADS) : 1;
const sessions = {};

const tasks = {
  async load({ model, url }) {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
    sessions[model] = await ort.InferenceSession.create(await unpack(await response.arrayBuffer()));
    return { threads: ort.env.wasm.numThreads };
  },

  async denoise({ model, pixels, shape }) {
    const noisy = new ort.Tensor("float32", pixels, shape);
    const start = performance.now();
    const { denoised } = await sessions[model].run({ noisy });
    return { pixels: denoised.data, milliseconds: performance.now() - start };
  },
};

/** Unpack a gzip file. Other bytes are returned unchanged, because some hosts let the browser unpack .gz files. */
async function unpack(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

self.onmessage = async ({ data: { id, task, ...rest } }) => {
  try {
    self.postMessage({ id, ...(await tasks[task](rest)) });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};
