// The page: its tabs, and the models that they share.

import { $, listenForFiles, listenForTabs, setBusy, showMessage } from "./controls.js";
import { Denoiser } from "./denoiser.js";
import { connectDigits } from "./digits_tab.js";
import MODELS from "./models.js"; // written by `python -m export web`
import { connectPhotographs } from "./photograph_tab.js";

const TABS = ["photograph", "digits"];
const PANELS = Object.fromEntries(TABS.map((name) => [name, MODELS.filter(({ tab }) => tab === name)]));

/** Show one panel. */
function show(name) {
  for (const id of Object.keys(PANELS)) $(id).hidden = id !== name;
  $("lead").textContent = $(name).dataset.lead;
}

/** Load all models, so that the page needs no network later. The first one of a tab is used as soon as it is loaded. */
async function loadModels(denoiser, tabs) {
  const failures = [];
  for (const [name, { start, inputs }] of Object.entries(tabs)) {
    let isStarted = false;
    for (const model of PANELS[name]) {
      try {
        Object.assign(model, await denoiser.load(model.id, model.url));
      } catch (error) {
        failures.push(`The model ${model.name} (${model.format}) cannot be loaded: ${error.message}`);
        inputs[model.id].dataset.failed = "";
        continue;
      }
      inputs[model.id].disabled = false;
      if (isStarted) continue;
      isStarted = true;
      inputs[model.id].checked = true;
      showMessage("");
      start(model.id);
    }
  }
  if (failures.length) showMessage(failures.join(" "), true);
  setBusy("loading", false);
}

async function start() {
  const names = Object.keys(PANELS).filter((name) => PANELS[name].length);
  show(names[0]);
  showMessage("Loading the network…");
  const denoiser = new Denoiser();
  let shown = names[0];
  const tabs = {};
  if (names.includes("photograph")) tabs.photograph = connectPhotographs(denoiser, PANELS.photograph);
  if (names.includes("digits")) tabs.digits = await connectDigits(denoiser, PANELS.digits);
  listenForFiles(document.querySelectorAll("input[type=file]"), (file) => tabs[shown].open(file));
  if (names.length > 1) {
    $("tabs").hidden = false;
    for (const name of names) $(name).setAttribute("role", "tabpanel");
    listenForTabs($("tabs"), (name) => {
      shown = name;
      showMessage("");
      show(name);
    });
  }
  await loadModels(denoiser, tabs);
  document.querySelector("main").dataset.ready = ""; // everything is loaded
  tabs.digits?.refresh(); // run once more: the first run is slower, and its time would stay on the page
}

setBusy("loading", true);
start().catch((error) => {
  showMessage(error.message, true);
  setBusy("loading", false);
});
