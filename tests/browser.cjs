// Drives a browser for test_web_browser.py: node browser.cjs CHROMIUM [FLAG …]. NODE_PATH must have puppeteer-core.
//
// Reads one JSON object per line from stdin: {scenario, url, …}. Each scenario runs in a new page and is answered with
// a line on stdout: {result, errors, requests}, or {failure} if the scenario did not finish.
const readline = require("readline");
const puppeteer = require("puppeteer-core");

const PATIENCE = 120_000; // milliseconds: of a busy machine
const READY = "main[data-ready][aria-busy=false]"; // everything is loaded, and nothing is being denoised

const scenarios = {
  /** Return what the page shows when everything is loaded. */
  async look(page) {
    return { ...(await shown(page)), ...(await pixels(page)) };
  },

  /** Draw lines with the mouse or a finger. Lines are lists of [x, y], from 0 to 1 across the canvas. */
  async draw(page, { lines, finger }) {
    if (finger) await usePhone(page, 360);
    await page.click("#clear");
    const canvas = await page.$("#clean");
    await page.evaluate(() => scrollTo(0, 0));
    const box = await canvas.boundingBox();
    const { mouse, touchscreen } = page;
    for (const line of lines) {
      const [first, ...others] = line.map(([x, y]) => [box.x + x * box.width, box.y + y * box.height]);
      if (!finger) await mouse.move(...first);
      await (finger ? touchscreen.touchStart(...first) : mouse.down());
      for (const point of others) await (finger ? touchscreen.touchMove(...point) : mouse.move(...point));
      await (finger ? touchscreen.touchEnd() : mouse.up());
    }
    await idle(page);
    return { ...(await shown(page)), ...(await pixels(page)), scrolled: await page.evaluate(() => scrollY) };
  },

  /** Draw a line with one finger while another finger taps the canvas at `tap`. */
  async tapped(page, { line, tap }) {
    await usePhone(page, 360);
    await page.click("#clear");
    await page.evaluate(() => scrollTo(0, 0));
    const box = await (await page.$("#clean")).boundingBox();
    const at = ([x, y], id) => ({ x: box.x + x * box.width, y: box.y + y * box.height, id });
    const client = await page.createCDPSession();
    const touch = (type, ...touchPoints) => client.send("Input.dispatchTouchEvent", { type, touchPoints });
    const [first, ...others] = line.map((point) => at(point, 0));
    await touch("touchStart", first);
    await touch("touchStart", first, at(tap, 1));
    await touch("touchEnd", at(tap, 1));
    for (const point of others) await touch("touchMove", point);
    await touch("touchEnd");
    await idle(page);
    return pixels(page);
  },

  /** Return what the page shows after two files, the second opened while the first is being read. */
  async hurry(page, { files }) {
    for (const file of files) await (await page.$("#file")).uploadFile(file);
    await new Promise((resolve) => setTimeout(resolve, 1000)); // by now, the first file has been read
    await idle(page);
    return { ...(await shown(page)), ...(await pixels(page)) };
  },

  /** Return what the page shows when a run of the network fails, and after the next run, which succeeds. */
  async failing(page) {
    await page.evaluate(async () => {
      const { Denoiser } = await import(new URL("denoiser.js", document.baseURI));
      const { denoise } = Denoiser.prototype;
      Denoiser.prototype.denoise = async function () {
        Denoiser.prototype.denoise = denoise;
        throw new Error("out of memory");
      };
    });
    const seen = [];
    for (const id of ["another", "renew"]) {
      await page.click(`#${id}`);
      await idle(page);
      seen.push({ ...(await shown(page)), ...(await pixels(page)), save: await page.$eval("#save", (it) => it.disabled) });
    }
    return seen;
  },

  /** Return the message about a file that the page refuses. */
  async refuse(page, { file }) {
    await (await page.$("#file")).uploadFile(file);
    await page.waitForSelector("#message.error");
    return (await shown(page)).message;
  },

  /** Open an image file without noise, with the button or by dropping it on the page. */
  async open(page, { file, base64, size: [width, height] }) {
    await page.$eval("#factor", (slider) => {
      slider.value = 0;
      slider.dispatchEvent(new Event("input"));
    });
    if (file) {
      await (await page.$("#file")).uploadFile(file);
    } else {
      await page.evaluate((base64) => {
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
      }, base64);
    }
    const isShown = (width, height) => {
      const canvas = document.querySelector("#denoised");
      const isBusy = document.querySelector("main").ariaBusy === "true";
      return !isBusy && canvas.width === width && canvas.height === height;
    };
    await page.waitForFunction(isShown, {}, width, height);
    return { ...(await shown(page)), ...(await pixels(page)) };
  },

  /** Denoise float32 pictures of 28×28 pixels, given in base64, with models of the site. */
  async denoise(page, { ids, count, base64 }) {
    return page.evaluate(
      async (ids, count, base64) => {
        const here = (name) => import(new URL(name, document.baseURI));
        const { Denoiser } = await here("denoiser.js");
        const { default: models } = await here("models.js");
        const denoiser = new Denoiser();
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        const noisy = { pixels: new Float32Array(bytes.buffer), width: 28, height: 28 };
        const result = { isolated: crossOriginIsolated, base64: {} };
        for (const id of ids) {
          result.threads = (await denoiser.load(id, models.find((model) => model.id === id).url)).threads;
          const { pixels } = await denoiser.denoise(id, noisy, count);
          const text = Array.from(new Uint8Array(pixels.buffer), (byte) => String.fromCharCode(byte)).join("");
          result.base64[id] = btoa(text);
        }
        return result;
      },
      ids,
      count,
      base64,
    );
  },

  /** Return mean, standard deviation and first value of the noisy pixels of a grey surface, for each seed and noise. */
  async noise(page, { grey, factor, seeds }) {
    return page.evaluate(
      async (grey, factor, seeds) => {
        const { NOISES, addNoise, draw } = await import(new URL("noise.js", document.baseURI));
        const clean = new Float32Array(2 ** 18).fill(grey);
        const moments = (name, seed) => {
          const noisy = addNoise(clean, name, factor, draw(clean.length, seed));
          const mean = noisy.reduce((sum, value) => sum + value, 0) / noisy.length;
          const variance = noisy.reduce((sum, value) => sum + (value - mean) ** 2, 0) / noisy.length;
          const share = noisy.filter((value, i) => value !== clean[i]).length / noisy.length;
          return { mean, std: Math.sqrt(variance), share, first: noisy[0] };
        };
        return seeds.map((seed) => Object.fromEntries(Object.keys(NOISES).map((name) => [name, moments(name, seed)])));
      },
      grey,
      factor,
      seeds,
    );
  },

  /** Use every model, noise and button by keyboard, without a network. Return what was shown after each. */
  async offline(page) {
    await page.setOfflineMode(true);
    const seen = [];
    const press = async (name, key) => {
      await page.keyboard.press(key);
      await idle(page);
      const { noisy, denoised } = await pixels(page);
      seen.push({ name, noisy, denoised, ...(await shown(page)) });
    };
    for (const id of ["another", "renew", "clear"]) {
      await page.focus(`#${id}`);
      await press(id, "Enter");
    }
    await page.focus("#another");
    await press("another", "Enter");
    await page.focus("#factor");
    await press("factor", "ArrowRight");
    for (const box of ["noises", "models"]) {
      await page.focus(`#${box} input:checked`);
      const count = await page.$$eval(`#${box} input`, (inputs) => inputs.length);
      for (let i = 1; i < count; i++) await press(box, "ArrowRight");
    }
    return seen;
  },

  /** Return how far the page is wider than narrow screens, and the smallest height of a button, in CSS pixels. */
  async narrow(page, { widths, tab }) {
    const found = [];
    for (const width of widths) {
      await usePhone(page, width);
      if (tab) await page.click(`#${tab}`);
      const measured = await page.evaluate(() => {
        const boxes = [...document.querySelectorAll("button, .button, .choice span")];
        const heights = boxes.filter((box) => box.offsetParent).map((box) => box.offsetHeight); // of those that are shown
        const { scrollWidth } = document.documentElement;
        return { overflow: scrollWidth - innerWidth, target: Math.min(...heights) };
      });
      found.push(measured);
    }
    return found;
  },

  /** Open a file in the tab for photographs, or leave the example. Return what is shown, and the steps of the progress. */
  async photograph(page, { file, model }) {
    if (model) await choose(page, model);
    await page.evaluate(() => {
      const progress = document.querySelector("#progress");
      globalThis.steps = [];
      new MutationObserver(() => progress.hasAttribute("value") && steps.push([progress.value, progress.max])).observe(
        progress, { attributes: true, attributeFilter: ["value"] });
    });
    if (file) await (await page.$("#photograph-file")).uploadFile(file);
    await idle(page);
    return { ...(await photographShown(page)), steps: await page.evaluate(() => steps) };
  },

  /** Save the photograph that is shown, as PNG and as JPEG. Return names and contents of the files, in base64. */
  async save(page, { file }) {
    await (await page.$("#photograph-file")).uploadFile(file);
    await idle(page);
    await page.evaluate(() => {
      const { createObjectURL } = URL;
      globalThis.saved = [];
      URL.createObjectURL = (blob) => saved.push({ blob }) && createObjectURL(blob);
      HTMLAnchorElement.prototype.click = function () {
        saved.at(-1).name = this.download;
      };
    });
    for (const id of ["save-png", "save-jpeg"]) {
      const count = await page.evaluate(() => saved.length);
      await page.click(`#${id}`);
      await page.waitForFunction((count) => saved[count]?.name, {}, count);
    }
    const files = await page.evaluate(async () => {
      const base64 = (blob) => new Promise((resolve) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result.split(",")[1]);
        reader.readAsDataURL(blob);
      });
      return Promise.all(saved.map(async ({ blob, name }) => ({ name, type: blob.type, base64: await base64(blob) })));
    });
    return { ...(await photographShown(page)), files };
  },

  /** Open a large photograph; after its first tile, cancel it or open another. Return what is shown then. */
  async interrupted(page, { file, other }) {
    await (await page.$("#photograph-file")).uploadFile(file);
    await page.waitForFunction(() => document.querySelector("#progress").value > 0);
    if (other) await (await page.$("#photograph-file")).uploadFile(other);
    else await page.click("#cancel");
    await idle(page);
    const left = await page.$eval("#progress", ({ value, max }) => max - value);
    return { ...(await photographShown(page)), left };
  },

  /** Open a file that the page refuses. Return what is shown then. */
  async refusedPhotograph(page, { file }) {
    await (await page.$("#photograph-file")).uploadFile(file);
    await page.waitForSelector("#message.error");
    await idle(page);
    return photographShown(page);
  },

  /** Denoise again after a run of the network fails. Return what is shown after each of the two runs. */
  async failingPhotograph(page, { file }) {
    await page.evaluate(async () => {
      const { Denoiser } = await import(new URL("denoiser.js", document.baseURI));
      const { photograph } = Denoiser.prototype;
      Denoiser.prototype.photograph = async function (model, file, onProgress) {
        Denoiser.prototype.photograph = photograph;
        onProgress({ width: 40, height: 30 });
        throw new Error("out of memory");
      };
    });
    await (await page.$("#photograph-file")).uploadFile(file);
    await page.waitForSelector("#message.error");
    const failed = await photographShown(page);
    await page.click("#again");
    await idle(page);
    return [failed, await photographShown(page)];
  },

  /** Move the line with keys, mouse and finger, and the photograph at its real pixels. Return what is seen after each. */
  async compared(page, { file }) {
    await page.setViewport({ width: 800, height: 1000, hasTouch: true }); // nothing must be scrolled
    await page.waitForSelector(READY);
    await (await page.$("#photograph-file")).uploadFile(file);
    await idle(page);
    const seen = {};
    const look = async (name) => {
      seen[name] = await page.evaluate(() => {
        const [view, after] = ["view", "after"].map((id) => document.getElementById(id).getBoundingClientRect());
        const line = document.querySelector(".line").getBoundingClientRect();
        const share = (line.left + line.width / 2 - view.left) / view.width;
        const value = document.getElementById("split").valueAsNumber;
        return { share, value, left: after.left - view.left, top: after.top - view.top, width: after.width };
      });
    };
    const { x, y, width, height } = await (await page.$("#view")).boundingBox();
    const at = (right, down) => [x + right * width, y + down * height];
    const drag = async (from, to) => {
      await page.mouse.move(...from);
      await page.mouse.down();
      await page.mouse.move(...to, { steps: 3 });
      await page.mouse.up();
    };
    await look("start");
    await page.focus("#split");
    for (let i = 0; i < 5; i++) await page.keyboard.press("ArrowRight");
    await look("keys");
    await drag(at(0.2, 0.5), at(0.3, 0.5));
    await look("mouse");
    await page.touchscreen.touchStart(...at(0.3, 0.5));
    for (const right of [0.5, 0.6, 0.7]) await page.touchscreen.touchMove(...at(right, 0.5));
    await page.touchscreen.touchEnd();
    await look("finger");
    await page.focus("#actual");
    await page.keyboard.press("Enter");
    await look("actual");
    await drag(at(0.2, 0.2), at(0.3, 0.3));
    await look("moved");
    await drag(at(0.7, 0.2), at(0.8, 0.2));
    await look("line");
    await page.focus("#view");
    await page.keyboard.press("ArrowDown");
    await look("down");
    await page.click("#actual");
    await look("fit");
    return { seen, size: [width, height] };
  },

  /** Return which tab is chosen and which panels are shown, at first and after the keys, and what fails. */
  async tabs(page, { keys = [] }) {
    const look = () => page.evaluate(() => {
      const isShown = (selector) => [...document.querySelectorAll(selector)].filter((it) => it.offsetParent);
      const chosen = isShown("[role=tab][aria-selected=true]").map((tab) => tab.textContent);
      const message = document.querySelector("#message").textContent;
      return { chosen, panels: isShown("main > section").map(({ id }) => id), message };
    });
    const seen = [await look()];
    if (keys.length) await page.focus("[role=tab][aria-selected=true]");
    for (const key of keys) {
      await page.keyboard.press(key);
      seen.push(await look());
    }
    return seen;
  },

  /** Open a file after the page has decided whether to use WebGPU. Return what is shown. */
  async accelerated(page, { file }) {
    await page.waitForSelector("#photograph[data-compared]");
    await (await page.$("#photograph-file")).uploadFile(file);
    await idle(page);
    return photographShown(page);
  },

  /** Compare WebGPU with the processor on a tile of `side` pixels. Return what the worker measured, or null. */
  async webgpu(page, { model, side }) {
    return page.evaluate(async (model, side) => {
      if (!(await navigator.gpu?.requestAdapter())) return null;
      const here = (name) => import(new URL(name, document.baseURI));
      const [{ Denoiser }, { default: models }] = [await here("denoiser.js"), await here("models.js")];
      const { id, url, channels } = models.find(({ name }) => name === model);
      const denoiser = new Denoiser();
      await denoiser.load(id, url);
      return denoiser.call({ task: "accelerate", model: id, channels, side });
    }, model, side);
  },

  /** Return the message of a page that cannot start. Screen readers read it only when the page is not busy. */
  async message(page) {
    await page.waitForSelector("main[aria-busy=false]");
    return page.$eval("#message", (message) => message.textContent);
  },
};

/** Take the screen of a phone, for which the page is loaded again. */
async function usePhone(page, width) {
  await page.setViewport({ width, height: 640, isMobile: true, hasTouch: true });
  await page.waitForSelector(READY);
}

/** Wait until the page has handled all input and has denoised the picture. */
async function idle(page) {
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  await page.waitForSelector("main[aria-busy=false]");
}

async function shown(page) {
  return page.evaluate(() => {
    const text = (id) => document.getElementById(id).textContent;
    const ids = ["message", "noisy-psnr", "denoised-psnr", "facts", "about", "note", "meaning", "factor-value"];
    return { title: document.title, ...Object.fromEntries(ids.map((id) => [id, text(id)])) };
  });
}

/** Choose a model for photographs by its name, and wait for the result. */
async function choose(page, name) {
  await page.$$eval("#photograph-models label", (labels, name) => {
    labels.find((label) => label.textContent === name).querySelector("input").click();
  }, name);
  await idle(page);
}

/** Return what the tab for photographs shows, and the pixels of the result: RGBA in base64. */
async function photographShown(page) {
  return page.evaluate(() => {
    const element = (id) => document.getElementById(id);
    const { width, height } = element("after");
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(element("after"), 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    let text = "";
    for (let i = 0; i < data.length; i += 4096) text += String.fromCharCode(...data.subarray(i, i + 4096));
    return {
      message: element("message").textContent,
      facts: element("photograph-facts").textContent,
      about: element("photograph-about").textContent,
      isRunning: !element("running").hidden,
      canSave: !element("save-png").disabled && !element("save-jpeg").disabled,
      canRunAgain: !element("again").hidden,
      width,
      height,
      base64: btoa(text),
    };
  });
}

/** Return the three pictures as rows of 8-bit values. */
async function pixels(page) {
  return page.evaluate(() => {
    const rows = (canvas) => {
      const { width, height } = canvas;
      const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
      const row = (y) => Array.from({ length: width }, (_, x) => data[4 * (y * width + x)]);
      return Array.from({ length: height }, (_, y) => row(y));
    };
    const ids = ["clean", "noisy", "denoised"];
    return Object.fromEntries(ids.map((id) => [id, rows(document.getElementById(id))]));
  });
}

/** Run one scenario in a new page. */
async function run(browser, { scenario, url, without, adapter, ready = READY, ...rest }) {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  const [errors, requests] = [[], []];
  const isError = (message) => ["error", "warn"].includes(message.type()) && message.text() !== "No available adapters.";
  page.on("console", (message) => isError(message) && errors.push(message.text())); // without WebGPU, Chromium says so
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  if (without) await page.evaluateOnNewDocument((name) => delete globalThis[name], without);
  if (adapter) {
    await page.evaluateOnNewDocument(() => {
      Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => ({ info: {} }) } });
    });
  }
  try {
    await page.goto(url);
    await page.waitForSelector(ready);
    const worker = page.workers().find((worker) => worker.url().endsWith("/worker.js")); // its threads do not answer
    const names = () => performance.getEntriesByType("resource").map((entry) => entry.name);
    if (worker) requests.push(...(await worker.evaluate(names)));
    return { result: await scenarios[scenario](page, rest), errors, requests };
  } catch (error) {
    return { failure: `${error.stack}\n${errors.join("\n")}` };
  } finally {
    await page.close();
  }
}

async function main(executablePath, flags) {
  const args = ["--no-sandbox", "--disable-background-networking", ...flags];
  const browser = await puppeteer.launch({ executablePath, args, protocolTimeout: PATIENCE });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await run(browser, JSON.parse(line))));
  }
  await browser.close();
}

main(process.argv[2], process.argv.slice(3)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
