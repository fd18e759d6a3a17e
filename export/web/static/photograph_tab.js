// The tab that denoises photographs at their full size, tile by tile.

import { $, addRadioButtons, save, setBusy, showMessage } from "./controls.js";
import { connectView } from "./compare.js";

const EXAMPLE = "photograph.jpg"; // see docs/examples/make_noisy_photograph.py
const MIN_SMOOTH_SIDE = 128; // pixels; smaller pictures are enlarged without smoothing

/** Connect the tab. Returns `{open, start, inputs}`: what to do with a file and the first model, and the choices. */
export function connectPhotographs(denoiser, models) {
  const showSize = connectView({ view: $("view"), split: $("split"), actual: $("actual") });
  let [file, model] = [null, null];
  let state = "stopped"; // or "running" or "done"
  let runs = 0; // number of runs started so far; only the last one is shown

  const show = (newState, text) => {
    state = newState;
    showState(state, text);
  };

  const run = async (chosen) => {
    const number = (runs += 1);
    const isCurrent = () => number === runs;
    const before = { file, state, text: $("photograph-facts").textContent };
    file = chosen;
    if (!model) return; // it is denoised when a model is loaded
    let isRead = false;
    const onProgress = (progress) => {
      if (!isCurrent()) return;
      if (progress.pixels) return showTile(progress);
      isRead = true;
      showBefore(file, progress);
      showSize(progress.width, progress.height);
    };
    setBusy("photograph", true);
    showMessage("");
    show("running", `Reading ${file.name}…`);
    $("progress").removeAttribute("value");
    try {
      const result = await denoiser.photograph(model, file, onProgress);
      if (!isCurrent()) return;
      show("done", facts(result));
      accelerate(denoiser, model);
      if (!performance.getEntriesByName("denoised").length) performance.mark("denoised"); // for benchmarks/web_page.py
    } catch (error) {
      if (!isCurrent()) return;
      showMessage(isRead ? `The photograph could not be denoised: ${error.message}` : error.message, true);
      const isKept = !isRead && before.file && before.state === "done"; // what is shown is still the photograph before
      if (!isRead) file = before.file ?? file;
      isKept ? show("done", before.text) : show("stopped", "");
    }
    setBusy("photograph", false);
  };

  const setModel = (id) => {
    model = models.find((candidate) => candidate.id === id);
    $("photograph-about").textContent = about(model);
    return run(file);
  };
  $("cancel").onclick = () => {
    runs += 1; // the worker still finishes the current tile
    denoiser.cancel();
    show("stopped", "Cancelled.");
    setBusy("photograph", false);
  };
  $("again").onclick = () => run(file);
  for (const [id, type, suffix] of [["save-png", "image/png", "png"], ["save-jpeg", "image/jpeg", "jpg"]]) {
    $(id).onclick = () => saveAs(denoiser, type, `${file.name.replace(/\.\w+$/, "")}-denoised.${suffix}`);
  }
  const options = models.map(({ id, name }) => ({ value: id, label: name, disabled: true }));
  const inputs = addRadioButtons($("photograph-models"), "photograph-model", options, setModel);
  $("photograph-models").hidden = models.length < 2;
  $("before").src = EXAMPLE;
  showSize(720, 480);
  const example = fetchFile(EXAMPLE);

  /** Choose the first model, and denoise the example, or the photograph that was opened meanwhile. */
  const start = async (id) => {
    const loaded = await example; // meanwhile, a file may be opened
    file ??= loaded;
    return setModel(id);
  };
  return { open: run, start, inputs };
}

/** Show the controls for a state, and a text about it. */
function showState(state, text) {
  const isRunning = state === "running";
  $("view").classList.toggle("done", state === "done");
  $("running").hidden = !isRunning;
  $("again").hidden = state !== "stopped";
  $("save-png").disabled = $("save-jpeg").disabled = state !== "done";
  $(isRunning ? "running-text" : "photograph-facts").textContent = text;
  $("photograph-facts").hidden = isRunning || !text;
}

let shownFile = null;

function showBefore(file, { width, height }) {
  if (file !== shownFile) {
    URL.revokeObjectURL($("before").src);
    $("before").src = URL.createObjectURL(file);
    shownFile = file;
  }
  Object.assign($("after"), { width, height }); // clears it
  $("view").classList.toggle("pixels", Math.max(width, height) < MIN_SMOOTH_SIDE);
}

function showTile({ left, top, pixels, width, height, done, total }) {
  $("after").getContext("2d").putImageData(new ImageData(pixels, width, height), left, top);
  $("progress").max = total;
  $("progress").value = done;
  $("running-text").textContent = `Denoising… ${Math.round((100 * done) / total)} %`;
}

async function saveAs(denoiser, type, name) {
  try {
    save(await denoiser.encode(await createImageBitmap($("after")), type), name);
  } catch (error) {
    showMessage(`The photograph could not be saved: ${error.message}`, true);
  }
}

/** Find out whether WebGPU makes the next photographs faster. If it fails, they are computed as before. */
async function accelerate(denoiser, model) {
  if (model.isCompared) return;
  model.isCompared = true;
  await denoiser.accelerate(model).catch((error) => console.info(`WebGPU is not used: ${error.message}`));
  $("photograph").dataset.compared = ""; // for tests
}

function facts({ milliseconds, device }) {
  const { width, height } = $("after");
  const megapixels = Number(((width * height) / 1e6).toPrecision(2));
  const on = device === "WebGPU" ? "with WebGPU" : `on ${device}`;
  return `${megapixels} megapixels (${width}×${height}) in ${(milliseconds / 1000).toFixed(1)} s ${on}.`;
}

function about({ trained_on, bytes }) {
  const size = bytes < 1e6 ? `${Math.round(bytes / 1000)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
  const trained = trained_on && `${trained_on[0].toUpperCase()}${trained_on.slice(1)}; `;
  return `${trained}${size}.`;
}

async function fetchFile(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`The example photograph cannot be loaded (status ${response.status}).`);
  const blob = await response.blob();
  return new File([blob], url, { type: blob.type });
}
