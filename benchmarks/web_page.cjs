// The browser's part of web_page.py: node web_page.cjs CHROMIUM URL ROUNDS PICTURE, puppeteer-core being on NODE_PATH.
// Prints {first: [ms], threads, models: {id: [ms of each image]}}.
const puppeteer = require("puppeteer-core");

/** Draw a 3 and take a picture of the page. */
async function takePicture(page, path) {
  await page.setViewport({ width: 1120, height: 860 });
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
  const results = { first: [], models: {} };
  for (let round = 0; round < Number(rounds); round++) {
    const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] }); // nothing in any cache
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
      for (const { id, url } of models) {
        ({ threads } = await denoiser.load(id, url));
        times[id] = [];
        for (const digit of digits) times[id].push((await denoiser.denoise(id, digit)).milliseconds);
      }
      return { threads, times };
    });
    results.threads = measured.threads;
    for (const [id, times] of Object.entries(measured.times)) (results.models[id] ??= []).push(...times);
    if (picture && round === 0) await takePicture(page, picture);
    await browser.close();
  }
  console.log(JSON.stringify(results));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
