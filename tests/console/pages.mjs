// Opens every page of the console and holds what it shows against SQL. Called by main.rs with what it needs as JSON; the last
// line that it prints counts its checks. Without playwright-core and axe-core (`tests/run` installs them) it does nothing.

import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Checks, agrees, numbers } from "./checks.mjs";

const asked = JSON.parse(process.argv[2]);
const require = createRequire(join(asked.modules, "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const WAIT_MS = 30_000;
const SIZES = { desk: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } };

mkdirSync(asked.screens, { recursive: true });
const checks = new Checks();
const iso = (seconds) => new Date(seconds * 1000).toISOString();
const RANGE = `from=${iso(asked.from)}&until=${iso(asked.until)}`;
const SPAN = `time >= '${iso(asked.from)}' AND time < '${iso(asked.until)}'`;

/** Rows of a statement, asked beside the browser. */
async function sql(statement, token = asked.tokens.all, format = "json") {
  const reply = await fetch(`${asked.base}/sql?format=${format}`, { method: "POST", body: statement, headers: { Authorization: `Bearer ${token}` } });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`${statement}: ${text}`);
  return format === "json" ? JSON.parse(text) : text;
}

const browser = await chromium.launch({ executablePath: asked.chromium, args: ARGS });

/** A browser's window that notes what must not be. */
async function visitor(theme, size = "desk") {
  const context = await browser.newContext({ viewport: SIZES[size], colorScheme: theme, reducedMotion: "reduce", acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  page.wrong = [];
  page.allowed = [];
  page.on("pageerror", (error) => page.wrong.push(`error: ${error.stack}`));
  page.on("console", (message) => {
    const text = message.text();
    if (["error", "warning"].includes(message.type()) && !page.allowed.some((part) => text.includes(part))) page.wrong.push(`console: ${text}`);
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${asked.base}/`) && !url.startsWith("data:") && !url.startsWith("blob:")) page.wrong.push(`another host: ${url}`);
  });
  page.on("dialog", (dialog) => { page.wrong.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  return page;
}

const settled = (page) => page.evaluate(() => Number(document.documentElement.dataset.settled ?? 0));

/** Opens an address, and waits until all that its page asked is answered. */
async function open(page, hash) {
  if (await page.evaluate((to) => location.hash === to, hash)) return;
  const before = await settled(page);
  await page.evaluate((to) => { location.hash = to; }, hash);
  await page.waitForFunction((count) => Number(document.documentElement.dataset.settled ?? 0) > count, before);
}

async function signIn(page, token) {
  await page.goto(`${asked.base}/`);
  await page.fill("input[name=token]", token);
  await page.press("input[name=token]", "Enter");
  await page.waitForFunction(() => Number(document.documentElement.dataset.settled ?? 0) > 0);
}

/** No serious fault in the eyes of axe, nothing beyond the right edge, nothing wrong so far. */
async function sound(page, what) {
  await page.evaluate(`${axe};0`);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const bad = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  checks.same(bad.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).slice(0, 3).join(" ")}`), [], `${what}: axe`);
  checks.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${what}: is not wider than the window`);
  checks.same(page.wrong, [], `${what}: nothing wrong`);
}

/** Cells of a table by its label: a list of texts for each row. */
const table = (page, label) => page.locator(`table:has(caption:text-is("${label}")) tbody tr`).evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent.trim())));
const tile = (page, name) => page.locator(`.tile[aria-label="${name}"] .value`).textContent();

/** Rows of measures against those of a view: `keys` are its names, of which the columns come first. */
function measured(rows, expected, keys, what) {
  checks.same(rows.length, expected.length, `${what}: rows`);
  for (const row of expected) {
    const shown = rows.find((cells) => keys.every((key, index) => cells[index] === row[key]));
    checks.ok(shown, `${what}: ${keys.map((key) => row[key])} is in ${JSON.stringify(rows)}`);
    const [requests, , errors, rate, p50, p95, p99, bytes] = shown.slice(keys.length);
    for (const [text, value] of [[requests, row.requests], [errors, row.errors], [rate, row.error_rate], [p50, row.p50_ms], [p95, row.p95_ms], [p99, row.p99_ms], [bytes, row.response_bytes]]) {
      checks.ok(agrees(text, value), `${what} ${row[keys.at(-1)]}: ${text} for ${value}`);
    }
  }
}

const TOTAL = `SELECT count(*) AS requests, count(*) FILTER (WHERE status >= 500 OR outcome = 'upstream_timeout') AS errors,
  sum(response_bytes) AS response_bytes, latency_percentile(duration_us, 0.5) / 1000 AS p50_ms, latency_percentile(duration_us, 0.95) / 1000 AS p95_ms,
  latency_percentile(duration_us, 0.99) / 1000 AS p99_ms FROM requests WHERE ${SPAN}`;

async function totals(page, token, what) {
  const [total] = await sql(TOTAL, token);
  for (const [name, value] of [["Requests", total.requests], ["Rate", total.requests / (asked.until - asked.from)], ["Errors", total.errors / total.requests], ["p50", total.p50_ms], ["p95", total.p95_ms], ["p99", total.p99_ms], ["Sent", total.response_bytes]]) {
    const text = await tile(page, name);
    checks.ok(agrees(text, value), `${what}, ${name}: ${text} for ${value}`);
  }
  return total;
}

async function door() {
  for (const theme of ["light", "dark"]) {
    const page = await visitor(theme);
    page.allowed.push("401");
    await page.goto(`${asked.base}/`);
    await page.waitForSelector("input[name=token]");
    await sound(page, `door, ${theme}`);
    await page.screenshot({ path: join(asked.screens, `door-${theme}.png`) });
    for (const wrong of ["no such token of anybody", "nö"]) {
      await page.fill("input[name=token]", wrong);
      await page.press("input[name=token]", "Enter");
      await page.waitForFunction(() => document.querySelector("[role=alert]").textContent === "This token is not known.");
      await page.waitForSelector("button[type=submit]:enabled");
    }
    checks.same(await page.evaluate(() => sessionStorage.length), 0, "nothing of a wrong token is kept");
    await page.context().close();
  }
}

async function every(theme, size) {
  const page = await visitor(theme, size);
  page.allowed.push("401");
  await signIn(page, asked.tokens.all);
  const pages = {
    overview: `#/overview?${RANGE}`, services: `#/services?${RANGE}`, routes: `#/services?${RANGE}&of=routes`, service: `#/service/private?${RANGE}`,
    consumers: `#/consumers?${RANGE}`, consumer: `#/consumer/alice?${RANGE}`, map: `#/map?${RANGE}`, chosen: `#/map?${RANGE}&at=private`,
    traces: `#/traces?${RANGE}`, trace: `#/trace/${asked.trace}`, live: "#/live", query: "#/query", system: "#/system", configuration: "#/configuration",
    upstreams: "#/configuration?of=upstreams", people: "#/configuration?of=consumers", plugins: "#/configuration?of=plugins", history: "#/configuration?of=history", nowhere: "#/nowhere",
  };
  for (const [name, hash] of Object.entries(pages)) {
    await open(page, hash);
    checks.same(await page.locator(".state.error").count(), 0, `${name}: every panel has an answer`);
    await page.screenshot({ path: join(asked.screens, `${name}-${theme}-${size}.png`) });
    await sound(page, `${name}, ${theme}, ${size}`);
  }
  await page.context().close();
}

async function figures() {
  const page = await visitor("light");
  page.allowed.push("401");
  await signIn(page, asked.tokens.all);
  await open(page, `#/overview?${RANGE}`);
  const total = await totals(page, asked.tokens.all, "overview");
  checks.same(total.requests, asked.rows, "all rows are in this time");
  // The chart has as much as the tiles: its points are read out one by one.
  const stage = page.locator('.stage[aria-label^="Requests per second"]');
  await stage.focus();
  let drawn = 0;
  const step_s = 1;
  for (let point = 0; point < asked.until - asked.from; point += 1) {
    await page.keyboard.press("ArrowLeft");
    const said = await stage.locator("xpath=..").locator("[aria-live]").textContent();
    const [good, bad] = numbers(said.replace(/^[\d:]+:/, ""));
    drawn += (good + bad) * step_s;
  }
  checks.ok(Math.abs(drawn - total.requests) <= total.requests * 0.03 + 1, `the chart shows ${drawn} of ${total.requests} requests`);

  await open(page, `#/services?${RANGE}`);
  measured(await table(page, "Services"), await sql("SELECT * FROM services"), ["service"], "services");
  await open(page, `#/services?${RANGE}&of=routes`);
  measured(await table(page, "Routes"), await sql("SELECT * FROM routes"), ["service", "route"], "routes");
  await open(page, `#/consumers?${RANGE}`);
  measured(await table(page, "Consumers"), await sql("SELECT * FROM consumers"), ["consumer"], "consumers");
  await page.click('table button:text("p99")');
  const p99 = (await table(page, "Consumers")).map((row) => numbers(row[7])[0]);
  checks.same(p99, [...p99].sort((a, b) => b - a), "consumers by p99");

  await open(page, `#/service/private?${RANGE}`);
  const answers = await table(page, "Answers by status");
  const expected = await sql("SELECT status, outcome, count(*) AS n FROM requests WHERE service = 'private' GROUP BY 1, 2");
  checks.same(answers.map(([status, outcome, n]) => [status, outcome, numbers(n)[0]].join()).sort(), expected.map((row) => [row.status, row.outcome, row.n].join()).sort(), "answers by status");

  await open(page, `#/map?${RANGE}`);
  const edges = await sql("SELECT * FROM call_graph");
  const calls = await table(page, "Calls between services");
  checks.same(calls.length, edges.length, "calls");
  checks.ok(edges.some((edge) => edge.caller === "open" && edge.callee === "private"), "a service calls another");
  for (const edge of edges) {
    const shown = calls.find(([caller, callee]) => caller === edge.caller && callee === edge.callee);
    checks.ok(shown && agrees(shown[2], edge.requests) && agrees(shown[4], edge.error_rate) && agrees(shown[6], edge.p95_ms), `call ${edge.caller} to ${edge.callee}: ${shown}`);
  }
  checks.same(await page.locator("svg.map .edge").count(), edges.length, "edges on the map");
  await page.locator('svg.map .edge[data-key="open → private"]').focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector('.explain h3:text-is("open → private")');
  const wide = (await page.locator("svg.map .edge .line").evaluateAll((all) => all.map((line) => [line.closest("g").dataset.key, Number(line.getAttribute("stroke-width"))]))).sort((a, b) => b[1] - a[1]);
  const most = edges.reduce((one, other) => (other.requests > one.requests ? other : one));
  checks.same(wide[0][0], `${most.caller} → ${most.callee}`, "the thickest edge has most requests");

  await open(page, `#/traces?${RANGE}`);
  const traces = await sql("SELECT * FROM traces");
  checks.same((await table(page, "Traces")).length, Math.min(50, traces.length), "traces");
  await open(page, `#/traces?${RANGE}&only=errors`);
  checks.same((await table(page, "Traces")).length, traces.filter((trace) => trace.errors > 0).length, "traces with errors");
  await open(page, `#/trace/${asked.trace}`);
  const hops = await sql(`SELECT * FROM trace('${asked.trace}') ORDER BY n`);
  const shown = await page.locator(".waterfall li").evaluateAll((all) => all.map((hop) => [hop.querySelector("strong").textContent, hop.querySelector(".hop-time").textContent, Number.parseFloat(hop.querySelector(".hop-name").style.paddingLeft)]));
  checks.same(shown.map(([service]) => service), hops.map((hop) => hop.service), "hops in order");
  shown.forEach(([service, text, left], index) => {
    checks.ok(agrees(text, hops[index].duration_us / 1000), `hop ${service}: ${text} for ${hops[index].duration_us} us`);
    checks.same(left, 14 + 16 * hops[index].depth, `hop ${service} is as deep as it is`);
  });
  const [whole] = await sql(`SELECT duration_us FROM traces WHERE trace_id = '${asked.trace}'`);
  checks.ok(agrees(await page.locator(".tiles .value").first().textContent(), whole.duration_us / 1000), "how long the trace took");
  await page.locator(".hop-name").first().click();
  checks.ok((await page.locator(".hop-more .facts").first().textContent()).includes("method"), "details of a hop");

  await open(page, "#/system");
  for (const row of await sql("SELECT node, sink, produced, stored, dropped FROM system.ledger")) {
    const line = (await table(page, "Ledger")).find((cells) => cells[0] === row.node && cells[1] === row.sink);
    checks.ok(line && agrees(line[2], row.produced) && agrees(line[4], row.stored) && agrees(line[5], row.dropped) && line[7] === "balance", `ledger: ${line} for ${JSON.stringify(row)}`);
  }
  await open(page, "#/configuration");
  for (const [label, statement] of [["Services", "SELECT name FROM config.services"], ["Routes", "SELECT name FROM config.routes"]]) {
    const names = (await table(page, label)).map(([name]) => name).sort();
    checks.same(names, (await sql(statement)).map((row) => row.name).sort(), `configuration: ${label}`);
  }
  await open(page, "#/configuration?of=upstreams");
  checks.same((await table(page, "Health of targets")).length, (await sql("SELECT 1 FROM system.upstreams")).length, "targets");
  await open(page, "#/configuration?of=consumers");
  checks.same((await table(page, "Consumers")).map(([name]) => name), ["alice", "bob"], "configured consumers");
  checks.same(page.wrong, [], "figures: nothing wrong");
  await page.context().close();
}

async function strangers() {
  const page = await visitor("light");
  page.allowed.push("401");
  await signIn(page, asked.tokens.all);
  const [odd] = await sql("SELECT path FROM requests WHERE path LIKE '%onerror%'");
  await open(page, "#/live");
  await page.waitForFunction((count) => document.querySelectorAll(".tail tbody tr").length === count, asked.rows);
  const rows = await table(page, "Requests, the latest first");
  checks.ok(rows.some((cells) => cells[2].includes(odd.path)), `the odd path is a text: ${odd.path}`);
  // The one with the odd user agent is the slowest thing to find: by its path and status.
  const [agent] = await sql("SELECT time, path FROM requests WHERE user_agent LIKE '<img%'");
  await page.fill('input[placeholder="/orders"]', agent.path);
  await page.press('input[placeholder="/orders"]', "Enter");
  await page.waitForFunction((count) => { const n = document.querySelectorAll(".tail tbody tr").length; return n > 0 && n < count; }, asked.rows);
  const count = await page.locator(".tail tbody tr").count();
  let found = false;
  for (let index = 0; index < count && !found; index += 1) {
    await page.locator(".row-open").nth(index).click();
    await page.waitForSelector(".drawer .facts");
    found = (await page.locator(".drawer").textContent()).includes(asked.hostile);
    await page.keyboard.press("Escape");
  }
  checks.ok(found, "the hostile user agent is a text");
  await open(page, `#/query?sql=${encodeURIComponent("SELECT user_agent, path FROM requests WHERE user_agent LIKE '<img%' OR path LIKE '%onerror%'")}`).catch(() => {});
  await page.waitForSelector("table.rows tbody tr");
  checks.ok((await page.locator(".results").textContent()).includes(asked.hostile), "in rows too");
  await open(page, `#/service/${encodeURIComponent(asked.hostile)}?${RANGE}`);
  checks.ok((await page.locator("h1").textContent()).includes(asked.hostile), "in a heading too");
  checks.same(await page.evaluate(() => [document.images.length, window.hit ?? null]), [0, null], "no element was made of a text");
  checks.same(page.wrong, [], "strangers: nothing wrong");
  await page.context().close();
}

async function statements() {
  const page = await visitor("light");
  page.allowed.push("401", "400");
  await signIn(page, asked.tokens.all);
  await open(page, "#/query");
  const area = page.locator("textarea");
  // Completion by the keyboard alone: a table, then a column of it.
  await page.waitForFunction(() => document.querySelectorAll("aside details").length > 10);
  await area.focus();
  await page.keyboard.type("SELECT count(*) AS n FROM reque");
  await page.waitForSelector("#offers li");
  checks.same(await page.locator('#offers li[aria-selected="true"] span').first().textContent(), "requests", "a table is offered");
  await page.keyboard.press("Enter");
  await page.keyboard.type(" WHERE dura");
  await page.waitForSelector("#offers li");
  await page.keyboard.press("Tab");
  await page.keyboard.type(" > 0");
  checks.same(await area.inputValue(), "SELECT count(*) AS n FROM requests WHERE duration_us > 0", "what was completed");
  await page.keyboard.press("Control+Enter");
  await page.waitForFunction(() => document.querySelector(".results td")?.textContent);
  checks.same(await page.locator(".results td").textContent(), String(asked.rows), "the answer");
  // The address is the view: another window shows the same.
  const other = await visitor("dark");
  other.allowed.push("401");
  await signIn(other, asked.tokens.all);
  await other.goto(page.url());
  await other.waitForFunction(() => document.querySelector(".results td")?.textContent);
  checks.same(await other.locator(".results td").textContent(), String(asked.rows), "the same by its link");
  await other.context().close();
  // A file of all rows is what SQL gives.
  const statement = "SELECT time, path, status FROM requests ORDER BY time, path";
  await area.fill(statement);
  await page.click("summary:has-text('Export')");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("button:text-is('CSV')")]);
  checks.same(readFileSync(await download.path(), "utf8"), await sql(statement, asked.tokens.all, "csv"), "the file");
  // A chart of numbers over time, a plan, and a mistake with its place.
  await area.fill("SELECT date_bin(INTERVAL '1 second', time) AS time, count(*) AS requests FROM requests GROUP BY 1 ORDER BY 1");
  await page.keyboard.press("Control+Enter");
  await page.click("a:text-is('Chart')");
  await page.waitForSelector(".chart svg .stroke, .chart svg circle");
  await page.click("button:text-is('Explain')");
  await page.waitForSelector("pre.plan");
  await area.fill("SELECT 1\nFRM requests");
  await page.keyboard.press("Control+Enter");
  await page.waitForSelector(".state.error");
  checks.ok((await page.locator(".state.error").textContent()).includes("line 2"), "where the mistake is");
  checks.same(page.wrong, [], "statements: nothing wrong");
  await page.context().close();
}

async function portal() {
  const page = await visitor("dark");
  page.allowed.push("401");
  await signIn(page, asked.tokens.alice);
  checks.same(await page.locator("nav[aria-label=Pages] a").allTextContents(), ["Overview", "Services", "Live tail", "Traces", "Query"], "pages of a portal");
  await open(page, `#/overview?${RANGE}`);
  const total = await totals(page, asked.tokens.alice, "portal");
  const [whole] = await sql(`SELECT count(*) AS n FROM requests WHERE consumer = 'alice'`);
  checks.ok(total.requests === whole.n && whole.n < asked.rows, `${total.requests} of ${asked.rows} are alice's`);
  for (const [name, hash] of Object.entries({ overview: `#/overview?${RANGE}`, services: `#/services?${RANGE}`, service: `#/service/private?${RANGE}`, traces: `#/traces?${RANGE}`, live: "#/live", query: "#/query?sql=SELECT%20consumer,%20user_agent%20FROM%20requests" })) {
    await open(page, hash);
    if (name === "live") await page.waitForFunction((count) => document.querySelectorAll(".tail tbody tr").length === count, whole.n);
    if (name === "query") await page.waitForSelector(".results td");
    const text = await page.evaluate(() => document.documentElement.textContent);
    checks.ok(!/\bbob\b|anonymous|bob's/.test(text), `portal, ${name}: nothing of others`);
    await sound(page, `portal, ${name}`);
    await page.screenshot({ path: join(asked.screens, `portal-${name}.png`) });
  }
  for (const hash of ["#/system", "#/configuration", "#/consumers", "#/map"]) {
    await open(page, hash);
    checks.ok((await page.locator("main").textContent()).includes("There is no such page"), `portal: no ${hash}`);
  }
  await open(page, `#/consumer/bob?${RANGE}`);
  checks.same(numbers(await tile(page, "Requests"))[0], 0, "portal: bob has no rows");
  await page.click("button:has-text('Sign out')");
  await page.waitForSelector("input[name=token]");
  checks.same(await page.evaluate(() => [sessionStorage.length, document.body.textContent.includes("alice")]), [0, false], "signed out");
  await page.goBack();
  checks.ok(await page.locator("input[name=token]").isVisible(), "the way back leads to the door");
  checks.same(page.wrong, [], "portal: nothing wrong");
  await page.context().close();
}

async function keys() {
  const page = await visitor("light");
  page.allowed.push("401");
  await signIn(page, asked.tokens.all);
  await open(page, `#/overview?${RANGE}`);
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.press("Tab");
  checks.same(await page.evaluate(() => document.activeElement.textContent), "To the content", "the first stop leads to the content");
  await page.keyboard.press("Enter");
  checks.same(await page.evaluate(() => document.activeElement.tagName), "H1", "the content");
  await page.locator("[aria-haspopup=dialog]").focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("[role=dialog] button");
  await page.keyboard.press("Escape");
  checks.same(await page.locator("[role=dialog]").count(), 0, "Escape closes the choice of times");
  // The theme is what was chosen, here and after the next visit.
  const theme = page.locator('button[aria-label^="Theme"]');
  await theme.click();
  await theme.click();
  checks.same(await page.evaluate(() => document.documentElement.dataset.theme), "dark", "dark by choice");
  const before = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.reload();
  await page.waitForSelector("h1");
  checks.same(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), before, "dark after the next visit");
  checks.same(page.wrong, [], "keys: nothing wrong");
  await page.context().close();
}

try {
  for (const part of [door, figures, strangers, statements, portal, keys]) {
    await part();
    console.log(`${part.name}: ${checks.count} checks`);
  }
  for (const theme of ["light", "dark"]) for (const size of ["desk", "phone"]) await every(theme, size);
} finally {
  await browser.close();
}
console.log(`checks: ${checks.count}`);
