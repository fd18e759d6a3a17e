// The browser's part of web_page.py: node web_page.cjs CHROMIUM URL ROUNDS PICTURE, puppeteer-core being on NODE_PATH.
// Prints {first: [ms], threads, models: {id: [ms of each image]}, photographs: {id: [{ms, pause}]}}: `models` has those
// for digits, `photographs` the others, with the time for 12 megapixels in colour, and the longest pause between two
// frames of the page meanwhile.
const puppeteer = require("puppeteer-core");

/** Denoise noise of 4000×3000 pixels with every model for photographs, while the page shows each tile. */
async function measurePhotographs(page) {
  return page.evaluate(async () => {
    const here = (name) => import(new URL(name, document.baseURI));
    const [{ Denoiser }, { default: models }] = await Promise.all(["denoiser.js", "models.js"].map(here));
    const canvas = new OffscreenCanvas(4000, 3000);
    const context = canvas.getContext("2d");
    const image = new ImageData(4000, 500);
    for (let i = 0; i < image.data.length; i++) image.data[i] = i % 4 === 3 ? 255 : 256 * Math.random();
    for (let top = 0; top < 3000; top += 500) context.putImageData(image, 0, top);
    const file = new File([await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 })], "noise.jpg");
    const denoiser = new Denoiser();
    const times = {};
    for (const model of models.filter(({ tab }) => tab === "photograph")) {
      await denoiser.load(model.id, model.url);
      const after = document.querySelector("#after");
      let [pause, last, isRunning] = [0, performance.now(), true];
      const watch = (now) => {
        pause = Math.max(pause, now - last);
        last = now;
        if (isRunning) requestAnimationFrame(watch);
      };
      requestAnimationFrame(watch);
      const { milliseconds } = await denoiser.photograph(model, file, ({ pixels, left, top, width, height }) => {
        if (!pixels) Object.assign(after, { width, height });
        else after.getContext("2d").putImageData(new ImageData(pixels, width, height), left, top);
      });
      isRunning = false;
      times[model.id] = { ms: milliseconds, pause };
    }
    return times;
  });
}

/** Draw a 3 and take a picture of the page. */
async function takePicture(page, path) {
  await page.setViewport({ width: 1120, height: 860 });
  if (await page.$eval("#tabs", (tabs) => !tabs.hidden)) await page.click("#digits-tab");
  await page.click("#clear");
  const { x, y, width } = await (await page.$("#clean")).boundingBox();
  for (const [centre, radius, from, to] of [
    [0.35, 0.15, -0.9, 0.5],
    [0.65, 0.17, -0.5, 0.9],
  ]) {
    for (let step = 0; step <= 20; step++) {
      const angle = Math.PI * (from + ((to - from) * step) / 20);
      const [right, down] = [0.48 + 1.1 * radius * Math.cos(angle), centre + radius * Math.sin(angle)];
      await page.mouse.move(x + right * width, y + down * width);
      if (step === 0) await page.mouse.down();
    }
    await page.mouse.up();
  }
  await page.waitForSelector("main[aria-busy=false]");
  await page.screenshot({ path, fullPage: true });
}

async function main(executablePath, url, rounds, picture) {
  const results = { first: [], models: {}, photographs: {} };
  for (let round = 0; round < Number(rounds); round++) {
    const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"], protocolTimeout: 600000 }); // nothing in any cache
    const page = await browser.newPage();
    await page.goto(url);
    await page.waitForFunction(() => performance.getEntriesByName("denoised").length);
    results.first.push(await page.evaluate(() => performance.getEntriesByName("denoised")[0].startTime));
    await page.waitForSelector("main[data-ready][aria-busy=false]");
    const measured = await page.evaluate(async () => {
      const here = (name) => import(new URL(name, document.baseURI));
      const [{ Denoiser }, { default: models }, { readTiles }] = await Promise.all(
        ["denoiser.js", "models.js", "pictures.js"].map(here),
      );
      const digits = await readTiles("digits.png");
      const denoiser = new Denoiser();
      const times = {};
      let threads;
      for (const { id, url, tab } of models) {
        ({ threads } = await denoiser.load(id, url));
        if (tab !== "digits") continue;
        times[id] = [];
        for (const digit of digits) times[id].push((await denoiser.denoise(id, digit)).milliseconds);
      }
      return { threads, times };
    });
    results.threads = measured.threads;
    for (const [id, times] of Object.entries(measured.times)) (results.models[id] ??= []).push(...times);
    for (const [id, time] of Object.entries(await measurePhotographs(page))) (results.photographs[id] ??= []).push(time);
    if (picture && round === 0) await takePicture(page, picture);
    await browser.close();
  }
  console.log(JSON.stringify(results));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
