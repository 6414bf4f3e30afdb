// Opens the console's first page a number of times, each time in a browser that knows nothing of it, and says when the
// tiles and charts were drawn, and when all panels were, in milliseconds since the navigation began.

import { createRequire } from "node:module";

const asked = JSON.parse(process.argv[2]);
const { chromium } = createRequire(`${asked.modules}/`)("playwright-core");

/** Runs in the page, before its own scripts: notes the first moment at which something holds. */
function watch() {
  const notes = (window.drawn = {});
  const look = () => {
    const note = (name, holds) => { if (!(name in notes) && holds) notes[name] = performance.now(); };
    const tiles = document.querySelector('.tile[aria-label="Requests"] .value[title]');
    note("charts", tiles && ["Requests", "Error rate", "Latency"].every((name) => document.querySelector(`section[aria-label="${name}"] svg`)));
    note("all", Number(document.documentElement.dataset.settled ?? 0) > 0);
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
}

const browser = await chromium.launch({ executablePath: asked.chromium, args: ["--no-sandbox", "--disable-gpu"] });
const found = [];
try {
  for (let round = 0; round <= asked.rounds; round++) {
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    const page = await context.newPage();
    await page.addInitScript(watch);
    await page.goto(`${asked.base}/#/overview?from=${asked.from}&until=${asked.until}`);
    await page.waitForFunction(() => "all" in window.drawn && "charts" in window.drawn);
    const refused = await page.locator(".state.error").count();
    if (refused) throw new Error(`${refused} panels have no answer`);
    const requests = await page.locator('.tile[aria-label="Requests"] .value[title]').getAttribute("title");
    // The first one warms what the service keeps in memory.
    if (round > 0) found.push({ ...(await page.evaluate(() => window.drawn)), requests: Number(requests.replace(/\D/g, "")) });
    await context.close();
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(found));
