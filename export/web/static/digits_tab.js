// The tab that denoises digits while they are drawn, and other small grey pictures.

import { $, addRadioButtons, save, setBusy, showMessage } from "./controls.js";
import { SIZE, listenForStrokes, stroke } from "./drawing.js";
import { NOISES, addNoise, draw } from "./noise.js";
import { blank, paint, psnr, readPicture, readTiles } from "./pictures.js";

const state = {
  clean: blank(),
  noise: "gaussian",
  seed: 1,
  draws: null, // random numbers of the noise, for this seed and size
  model: null, // an entry of models.js, as soon as it is loaded
};
let denoiser;
let [busy, stale, failed] = [false, false, false];
let requested = 0; // number of pictures requested so far; only the last one is shown, however long each takes to read

/** Show the state. While a picture is being denoised, this happens as soon as it is finished. */
async function refresh() {
  stale = true;
  if (busy || !state.model) return;
  busy = true;
  setBusy("digits", true);
  while (stale) {
    await new Promise(requestAnimationFrame); // several changes between two frames cause one run
    stale = false;
    try {
      await show(state);
      if (failed) showMessage("");
      failed = false;
    } catch (error) {
      failed = true;
      paint($("denoised"), blank());
      for (const id of ["denoised-psnr", "facts", "note"]) $(id).textContent = "";
      showMessage(`The picture could not be denoised: ${error.message}`, true);
    }
    $("save").disabled = failed;
  }
  busy = false;
  setBusy("digits", false);
}

async function show({ clean, noise, model }) {
  const { pixels, width, height } = clean;
  if (state.draws?.normal.length !== pixels.length) state.draws = draw(pixels.length, state.seed);
  const noisy = { pixels: addNoise(pixels, noise, $("factor").valueAsNumber, state.draws), width, height };
  const before = psnr(pixels, noisy.pixels);
  paint($("clean"), clean);
  paint($("noisy"), noisy);
  $("noisy-psnr").textContent = decibels(before);

  const denoised = await denoiser.denoise(model.id, noisy);
  const after = psnr(pixels, denoised.pixels);
  paint($("denoised"), { ...denoised, width, height });
  const gain = Object.assign(document.createElement("span"), {
    className: after < before ? "loss" : "gain",
    textContent: `${after < before ? "−" : "+"}${Math.abs(after - before).toFixed(1)}`,
  });
  $("denoised-psnr").replaceChildren(`${decibels(after)} `, gain);
  const threads = `${model.threads} thread${model.threads > 1 ? "s" : ""}`;
  $("facts").textContent = `${width}×${height} pixels in ${denoised.milliseconds.toFixed(1)} ms on ${threads}.`;
  const warning = `It was trained only on ${model.dataset}, and treats this picture like those.`;
  const int8Warning = "The 8-bit model may be far from the float model on such a picture.";
  const warnings = [model.dataset && warning, model.format === "int8" && int8Warning].filter(Boolean);
  $("note").textContent = isDigit(clean) ? "" : warnings.join(" ");
  if (!performance.getEntriesByName("denoised").length) performance.mark("denoised"); // for benchmarks/web_page.py
}

function decibels(value) {
  return value >= 100 ? "identical" : `${value.toFixed(1)} dB`;
}

function isDigit({ width, height }) {
  return width === SIZE && height === SIZE;
}

function setClean(picture) {
  state.clean = picture;
  $("clean").classList.toggle("drawable", isDigit(picture));
  $("hint").textContent = isDigit(picture) ? "draw here" : "";
  refresh();
}

function setNoise(name) {
  state.noise = name;
  $("meaning").textContent = NOISES[name].meaning;
  refresh();
}

function setModel(model) {
  state.model = model;
  const training = [
    model.dataset && `on ${model.dataset}`,
    model.noise && `for ${model.noise.replaceAll("_", " ")} noise`,
    model.noise_factor && `of strength ${model.noise_factor}`,
  ].filter(Boolean);
  const trained = training.length ? `Trained ${training.join(" ")}; ` : "";
  const precision = model.format === "int8"
    ? "computes with 8-bit integers, whose ranges fit images like the training images; " : "";
  $("about").textContent = `${trained}${precision}${Math.round(model.bytes / 1000)} KB.`;
  refresh();
}

/** Connect the tab. Returns the same as `connectPhotographs`, and `refresh`. */
export async function connectDigits(worker, models) {
  denoiser = worker;
  const digits = await readTiles("digits.png");
  const take = (picture, message = "") => {
    requested += 1;
    showMessage(message);
    setClean(picture);
  };
  const open = async (file) => {
    const number = (requested += 1);
    try {
      const { original, ...picture } = await readPicture(file);
      const shrunk = `${file.name} is made smaller here, from ${original.width}×${original.height} pixels to ` +
        `${picture.width}×${picture.height}. python -m keras_dae.denoise takes any size.`;
      if (number === requested) take(picture, original.width > picture.width ? shrunk : "");
    } catch (error) {
      if (number === requested) showMessage(error.message, true);
    }
  };
  listenForStrokes($("clean"), () => isDigit(state.clean), (from, to) => {
    stroke(state.clean.pixels, from, to);
    refresh();
  });
  $("clear").onclick = () => take(blank());
  $("another").onclick = () => take(structuredClone(digits[Math.floor(Math.random() * digits.length)]));
  $("save").onclick = () => $("denoised").toBlob((blob) => save(blob, "denoised.png"));
  $("renew").onclick = () => {
    state.seed += 1;
    state.draws = null;
    refresh();
  };
  $("factor").oninput = () => {
    $("factor-value").textContent = $("factor").valueAsNumber.toFixed(2);
    refresh();
  };
  const noises = Object.entries(NOISES).map(([value, { label }]) => ({ value, label, checked: value === state.noise }));
  addRadioButtons($("noises"), "noise", noises, setNoise);
  const options = models.map(({ id, name, format }) => ({ value: id, label: `${name} · ${format}`, disabled: true }));
  const start = (id) => setModel(models.find((model) => model.id === id));
  const inputs = addRadioButtons($("models"), "model", options, start);
  setNoise(state.noise);
  setClean(structuredClone(digits[0]));
  return { open, start, inputs, refresh };
}
