// Runs a model with WebGPU, if that gives the same pixels as the processor, and is faster.

const MAX_DIFFERENCE = 1e-3; // between pixels in [0, 1]
const absolute = (name) => new URL(`./ort/${name}`, import.meta.url).href;

/**
 * Return `{webgpu, same, milliseconds}`. `webgpu` is `{session, Tensor}`, or null if its pixels differ or it is slower.
 *
 * `processor` has the session that runs the model on the processor. Both run twice on the same random tile. The second
 * runs are timed, because in the first one WebGPU compiles its programs. Throws an Error if WebGPU fails.
 */
export async function compare(bytes, processor, shape) {
  const ort = await import("./ort/ort.webgpu.min.js"); // 27 MB with its .wasm file, so only now
  const name = "ort-wasm-simd-threaded.asyncify";
  ort.env.wasm.wasmPaths = { mjs: absolute(`${name}.js`), wasm: absolute(`${name}.wasm`) };
  ort.env.wasm.numThreads = 1;
  // Without the level, it warns that shapes are computed on the processor, which is meant.
  const options = { executionProviders: ["webgpu"], logSeverityLevel: 3 };
  const session = await ort.InferenceSession.create(bytes, options);
  const candidate = { session, Tensor: ort.Tensor };
  const pixels = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, Math.random);
  const expected = await measure(processor, pixels, shape);
  const actual = await measure(candidate, pixels, shape);
  const same = actual.pixels.every((value, i) => Math.abs(value - expected.pixels[i]) <= MAX_DIFFERENCE); // not if NaN
  const isBetter = same && actual.milliseconds < expected.milliseconds;
  if (!isBetter) await session.release();
  const milliseconds = { webgpu: actual.milliseconds, processor: expected.milliseconds };
  return { webgpu: isBetter ? candidate : null, same, milliseconds };
}

/** Run a session twice. Return the pixels, and the milliseconds of the second run. */
async function measure({ session, Tensor }, pixels, shape) {
  let [denoised, start] = [null, 0];
  for (let run = 0; run < 2; run++) {
    start = performance.now();
    ({ denoised } = await session.run({ noisy: new Tensor("float32", pixels, shape) }));
  }
  return { pixels: denoised.data, milliseconds: performance.now() - start };
}
