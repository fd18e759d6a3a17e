// Denoise a PNG with onnxruntime in Node: node denoise_onnx.cjs model.onnx in.png out.png
// npm install onnxruntime-node pngjs
const fs = require("fs");
process.env.ORT_DISABLE_TELEMETRY = "1"; // else onnxruntime reports to its maker; it reads this when it is loaded
const ort = require("onnxruntime-node");
const { PNG } = require("pngjs");

async function main(model, source, target) {
  const session = await ort.InferenceSession.create(model);
  const png = PNG.sync.read(fs.readFileSync(source)); // always 4 bytes per pixel: red, green, blue, alpha
  const { width, height } = png;
  const pixels = Float32Array.from({ length: width * height }, (_, i) => png.data[4 * i] / 255);
  const noisy = new ort.Tensor("float32", pixels, [1, height, width, 1]);
  const { denoised } = await session.run({ noisy });
  denoised.data.forEach((value, i) => png.data.fill(Math.round(255 * value), 4 * i, 4 * i + 3));
  fs.writeFileSync(target, PNG.sync.write(png));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
