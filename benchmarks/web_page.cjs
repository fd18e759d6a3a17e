// The browser's part of web_page.py: node web_page.cjs CHROMIUM URL ROUNDS, puppeteer-core being on NODE_PATH.
// Prints {first: [ms], threads, models: {id: [ms of each image]}}.
const puppeteer = require("puppeteer-core");

async function main(executablePath, url, rounds) {
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
    await browser.close();
  }
  console.log(JSON.stringify(results));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
