// Runs the models in a worker, so that the page never waits for them.
//
// Messages to the worker are {id, task, …}, see `tasks`. Each is answered with {id, …result}, {id, error} or, if it was
// cancelled, {id, cancelled: true}. Before that, `photograph` sends {id, progress}: first the size, then each tile.

import * as ort from "./ort/ort.wasm.min.js";
import { denoiseTiles, encode, isGrey, readPhotograph } from "./photograph.js";

const MAX_THREADS = 4; // more threads do not make these small networks much faster

const absolute = (name) => new URL(`./ort/${name}`, import.meta.url).href; // onnxruntime-web needs absolute addresses
ort.env.wasm.wasmPaths = { mjs: absolute("ort-wasm-simd-threaded.js"), wasm: absolute("ort-wasm-simd-threaded.wasm") };
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MAX_THREADS) : 1;
const THREADS = ort.env.wasm.numThreads;
const models = {}; // name -> {bytes, processor, webgpu}; the latter two are {session, Tensor}, and webgpu may be null
let photograph = null; // id of the task whose photograph is denoised; a later one cancels it
let webgpuIdle = Promise.resolve(); // WebGPU does one thing at a time

const tasks = {
  /** Load a model. Answers `{threads}`. */
  async load({ model, url }) {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
    const bytes = await unpack(await response.arrayBuffer());
    const processor = { session: await ort.InferenceSession.create(bytes), Tensor: ort.Tensor };
    models[model] = { bytes, processor, webgpu: null };
    return { threads: THREADS };
  },

  /** Run a model with WebGPU from now on, if that gives the same pixels and is faster. Answers what was measured. */
  async accelerate({ model, channels, side }) {
    const { compare } = await import("./webgpu.js");
    const { bytes, processor } = models[model];
    const { webgpu, ...measured } = await oneAtATime(() => compare(bytes, processor, [1, side, side, channels]));
    models[model].webgpu = webgpu;
    return { ...measured, device: device(model) };
  },

  /** Denoise small grey pictures. Answers `{pixels, milliseconds}`. */
  async denoise({ model, pixels, shape }) {
    const start = performance.now();
    return { pixels: await run(model, pixels, shape), milliseconds: performance.now() - start };
  },

  /** Denoise the photograph in a file. Answers `{milliseconds, device}`. */
  async photograph({ id, model, channels, grid, file }) {
    photograph = id;
    const start = performance.now();
    const canvas = await readPhotograph(file);
    if (photograph !== id) return { cancelled: true };
    const grey = isGrey(canvas);
    self.postMessage({ id, progress: { width: canvas.width, height: canvas.height } });
    const network = (pixels, height, width) => run(model, pixels, [1, height, width, channels]);
    for await (const { image, ...tile } of denoiseTiles(canvas, grey, { channels, grid }, network)) {
      const { data: pixels, width, height } = image;
      await new Promise((resolve) => setTimeout(resolve)); // messages come in, such as `cancel`
      if (photograph !== id) return { cancelled: true };
      self.postMessage({ id, progress: { pixels, width, height, ...tile } }, [pixels.buffer]);
    }
    return { milliseconds: performance.now() - start, device: device(model) };
  },

  /** Stop denoising a photograph after the current tile. */
  async cancel() {
    photograph = null;
    return {};
  },

  /** Answers `{blob}`: a picture as PNG or JPEG. */
  async encode({ bitmap, type }) {
    return { blob: await encode(bitmap, type) };
  },
};

async function run(model, pixels, shape) {
  const { processor, webgpu } = models[model];
  if (webgpu) {
    try {
      return await oneAtATime(() => runOn(webgpu, pixels, shape));
    } catch {
      models[model].webgpu = null; // such as after the graphics driver was restarted
    }
  }
  return runOn(processor, pixels, shape);
}

async function runOn({ session, Tensor }, pixels, shape) {
  const { denoised } = await session.run({ noisy: new Tensor("float32", pixels, shape) });
  return denoised.data;
}

function oneAtATime(work) {
  const result = webgpuIdle.then(work);
  webgpuIdle = result.catch(() => {});
  return result;
}

function device(model) {
  return models[model].webgpu ? "WebGPU" : `${THREADS} thread${THREADS > 1 ? "s" : ""}`;
}

/** Unpack a gzip file. Other bytes are returned unchanged, because some hosts let the browser unpack .gz files. */
async function unpack(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

self.onmessage = async ({ data: { id, task, ...rest } }) => {
  try {
    self.postMessage({ id, ...(await tasks[task]({ id, ...rest })) });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};
