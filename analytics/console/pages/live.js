// Live tail: requests as they end, with filters.

import { ask } from "../core/api.js";
import { add, h, icon, replace } from "../core/dom.js";
import { bytes, clock, line, ms } from "../core/format.js";
import { change } from "../core/router.js";
import { session } from "../core/session.js";
import { FAILED, moment, text } from "../core/sql.js";
import { drawer } from "../ui/drawer.js";
import { choice } from "../ui/filter.js";
import { statusTag } from "../ui/measures.js";
import { nothing, refusal, sqlLink } from "../ui/panel.js";
import { details } from "../ui/request.js";

export const ranged = false;

const PACE_MS = 1_000;
const ROWS_MAX = 300;
/** How far back one looks at first, and how much later than its beginning a request may be seen. */
const BEFORE_MS = 5 * 60_000;
const LATE_MS = 15_000;

const STATUSES = [["failed", "Errors"], ["2", "2xx"], ["3", "3xx"], ["4", "4xx"], ["5", "5xx"], ["none", "No status"]];

function conditions(params) {
  const all = [];
  if (params.service) all.push(params.service === "none" ? "service IS NULL" : `service = ${text(params.service)}`);
  if (params.route) all.push(params.route === "none" ? "route IS NULL" : `route = ${text(params.route)}`);
  if (params.consumer) all.push(params.consumer === "anonymous" ? "consumer IS NULL" : `consumer = ${text(params.consumer)}`);
  if (params.method) all.push(`method = ${text(params.method)}`);
  if (params.path) all.push(`strpos(path, ${text(params.path)}) > 0`);
  if (Number(params.least) > 0) all.push(`duration_us >= ${Math.round(Number(params.least) * 1000)}`);
  if (params.status === "failed") all.push(`(${FAILED})`);
  else if (params.status === "none") all.push("status IS NULL");
  else if (/^[1-5]$/.test(params.status ?? "")) all.push(`status >= ${params.status}00 AND status < ${Number(params.status) + 1}00`);
  return all;
}

function statement(params, since) {
  return `SELECT time, node, core, CAST(sequence AS VARCHAR) AS sequence, consumer, service, method, host, path, status, outcome, duration_us, response_bytes
FROM requests
WHERE ${[`time >= ${moment(since)}`, ...conditions(params)].join(" AND ")}
ORDER BY time DESC
LIMIT ${ROWS_MAX}`;
}

const key = (row) => `${row.node}/${row.core}/${row.sequence}`;

export function open(context) {
  let rows = new Map();
  let paused = false;
  let timer;
  let since = Date.now() - BEFORE_MS;
  let asked = new AbortController();
  let names = { service: [], consumer: [] };
  const body = h("tbody", {});
  const state = h("div", { class: "body" }, nothing("Waiting for requests…"));
  const table = h("div", { class: "scroll tail hidden", tabindex: "0", role: "group", "aria-label": "Requests" },
    h("table", { class: "rows" }, h("caption", { class: "only-heard" }, "Requests, the latest first"),
      h("thead", {}, h("tr", {}, ["Time", "Status", "Request", "Service", "Consumer"].map((name) => h("th", { scope: "col" }, h("span", {}, name))),
        ["Took", "Sent"].map((name) => h("th", { scope: "col", class: "number" }, h("span", {}, name))))), body));
  const note = h("small", {});
  const sqlPlace = h("span", {});
  const panel = h("section", { class: "panel", "aria-label": "Requests" }, h("header", {}, h("h2", {}, "Requests", note), sqlPlace), table, state);
  const bar = h("form", { class: "bar", role: "search", onsubmit: (event) => event.preventDefault() });
  const pause = h("button", { class: "button", type: "button", "aria-pressed": "true", onclick: () => { paused = !paused; draw(); if (!paused) poll(); } });
  const clear = h("button", { class: "button", type: "button", onclick: () => { rows = new Map(); since = Date.now(); fill(); } }, "Clear");

  function draw() {
    pause.setAttribute("aria-pressed", String(!paused));
    replace(pause, paused ? icon("play") : h("span", { class: "live-dot" }), paused ? "Go on" : "Live");
  }

  function fields() {
    const { activeElement } = document;
    if (bar.contains(activeElement) && activeElement.tagName === "INPUT") return;
    const params = context.params();
    const named = (label, field) => h("label", { class: "named" }, label, field);
    const input = (name, properties) => h("input", { class: "field", value: params[name] ?? "", spellcheck: "false", onchange: (event) => change({ [name]: event.target.value || null }, { replace: true }), ...properties });
    replace(bar,
      named("Service", choice("service", params, { label: "Service", options: names.service })),
      !session.who.consumer && named("Consumer", choice("consumer", params, { label: "Consumer", options: names.consumer })),
      named("Status", choice("status", params, { label: "Status", options: STATUSES })),
      named("Method", choice("method", params, { label: "Method", options: ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"].map((one) => [one, one]) })),
      named("Path has", input("path", { type: "search", placeholder: "/orders" })),
      named("At least, ms", input("least", { type: "number", min: 0, step: "any", inputmode: "decimal", placeholder: "0", style: { width: "90px" } })),
      params.route && h("span", { class: "chip" }, `route: ${params.route}`, h("button", { type: "button", "aria-label": "Any route", onclick: () => change({ route: null }) }, "×")));
  }

  function cell(row) {
    const open = h("button", { class: "row-open", type: "button", onclick: () => show(row) }, clock(row.time, true));
    const line_ = h("tr", { "data-key": key(row) });
    for (const [value, name] of [[open, "nowrap"], [statusTag(row)],
      [h("span", { class: "cut", title: row.path }, h("span", { class: "soft" }, row.method ?? "", " "), row.path ?? "–")],
      [row.service ?? h("span", { class: "faint" }, "none")], [row.consumer ?? h("span", { class: "faint" }, "anonymous")],
      [line(ms(row.duration_us / 1000)), "number"], [line(bytes(row.response_bytes)), "number"]]) {
      line_.append(add(h("td", { class: name }), value));
    }
    line_.addEventListener("click", (event) => { if (!event.target.closest("button")) show(row); });
    return line_;
  }

  // Only what is new is made; the rest stays where it is.
  function fill() {
    const wanted = [...rows.values()].sort((a, b) => (a.time < b.time ? 1 : a.time > b.time ? -1 : 0)).slice(0, ROWS_MAX);
    rows = new Map(wanted.map((row) => [key(row), row]));
    const known = new Map([...body.children].map((line) => [line.dataset.key, line]));
    const lines = wanted.map((row) => known.get(key(row)) ?? cell(row));
    for (const line of known.values()) if (!rows.has(line.dataset.key)) line.remove();
    lines.forEach((line, index) => { if (body.children[index] !== line) body.insertBefore(line, body.children[index] ?? null); });
    table.classList.toggle("hidden", !wanted.length);
    state.classList.toggle("hidden", wanted.length > 0);
    note.textContent = wanted.length ? `the latest ${wanted.length}` : "";
  }

  async function show(row) {
    const sql = `SELECT * FROM requests WHERE time = '${row.time}' AND node = ${text(row.node)} AND core = ${row.core} AND sequence = ${row.sequence}`;
    const place = h("div", {}, h("p", { class: "soft" }, "…"));
    drawer(h("span", {}, row.method ?? "", " ", row.path ?? ""), place);
    try {
      const [whole] = await ask(sql);
      replace(place, whole ? details(whole) : nothing("It is not kept any more"));
    } catch (error) {
      replace(place, refusal(error));
    }
  }

  async function poll() {
    clearTimeout(timer);
    if (paused) return;
    const begun = Date.now();
    const sql = statement(context.params(), since);
    replace(sqlPlace, sqlLink(sql, "the requests"));
    const { signal } = asked;
    try {
      const found = await ask(sql, { signal });
      if (signal.aborted || paused) return;
      for (const row of found) rows.set(key(row), row);
      since = Math.max(since, begun - LATE_MS);
      replace(state, nothing("Waiting for requests…", "None of the last minutes meets the filters."));
      fill();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!rows.size) replace(state, refusal(error));
      note.textContent = error.message;
    }
    timer = setTimeout(poll, document.hidden ? PACE_MS * 10 : PACE_MS);
  }

  async function list() {
    const of = (name) => ask(`SELECT DISTINCT ${name} AS name FROM requests WHERE time >= now() - INTERVAL '1 hour' AND ${name} IS NOT NULL ORDER BY 1 LIMIT 200`).then((found) => found.map((row) => [row.name, row.name]), () => []);
    const [service, consumer] = await Promise.all(["service", "consumer"].map(of));
    names = { service, consumer };
    fields();
  }

  draw();
  fields();
  list();
  return {
    title: "Live tail",
    tools: [clear, pause],
    element: [bar, panel],
    changed() {
      asked.abort();
      asked = new AbortController();
      rows = new Map();
      since = Date.now() - BEFORE_MS;
      fields();
      fill();
    },
    refresh: poll,
    close() {
      paused = true;
      asked.abort();
      clearTimeout(timer);
    },
  };
}
