// Query: a statement of one's own, its rows as a table or a chart, as a link and as a file.

import { ask, send, stream } from "../core/api.js";
import { h, icon, replace, toast } from "../core/dom.js";
import { line, ms, whole } from "../core/format.js";
import { change, changed } from "../core/router.js";
import { isPortal, session } from "../core/session.js";
import { Editor } from "../ui/editor.js";
import { nothing } from "../ui/panel.js";
import { ResultChart, columnsOf, isPlan, plan, resultTable } from "../ui/results.js";

export const ranged = false;

const ROWS_MAX = 5_000;
const HISTORY = "tollhouse.statements";
const HISTORY_MAX = 20;
const FORMATS = [["csv", "CSV"], ["json", "JSON"], ["ndjson", "NDJSON"], ["parquet", "Parquet"], ["arrow", "Arrow"]];

const EXAMPLES = [
  ["Traffic of the last hour, by service", "SELECT service, count(*) AS requests, latency_percentile(duration_us, 0.99) / 1000 AS p99_ms\nFROM requests\nWHERE time > now() - INTERVAL '1 hour'\nGROUP BY service\nORDER BY requests DESC"],
  ["Requests over time", "SELECT time, name, requests, errors, p95_ms\nFROM traffic_series(now() - INTERVAL '1 hour', step => INTERVAL '1 minute', by => service)\nORDER BY time"],
  ["What is unusual", "SELECT *\nFROM anomalies(now() - INTERVAL '1 hour')\nORDER BY abs(score) DESC\nLIMIT 50"],
  ["The slowest requests", "SELECT time, service, path, status, duration_us, trace_id\nFROM requests\nWHERE time > now() - INTERVAL '1 hour'\nORDER BY duration_us DESC\nLIMIT 50"],
  ["Service levels", "SELECT name, requests, availability, budget_left, burn_1h, burn_6h, alert\nFROM slo_report(0.999)\nORDER BY budget_left"],
];

export function open(context) {
  const first = context.params().sql;
  let running = null;
  let last = null;
  let asked = null;
  const chart = new ResultChart();
  const note = h("span", { class: "soft number", role: "status" });
  const result = h("div", { class: "body" }, nothing("Write a statement, or take one of the examples", "Control and Enter runs it."));
  const views = h("nav", { class: "tabs", "aria-label": "Shown as" });
  const runButton = h("button", { class: "button first", type: "button", onclick: () => (running ? running.abort() : run()) });
  const editor = new Editor({ onRun: () => run(), onChange: () => editor.wrong && editor.mark() });
  const exports = h("details", { class: "menu-list" }, h("summary", { class: "button" }, icon("down"), "Export"),
    h("div", { class: "popover" }, FORMATS.map(([format, name]) => h("button", { class: "button plain", type: "button", onclick: () => save(format) }, name))));
  const shareButton = h("button", { class: "button", type: "button", onclick: copy }, icon("link"), "Copy link");
  const explainButton = h("button", { class: "button", type: "button", onclick: () => run({ explain: true }) }, "Explain");
  const known = h("div", { class: "known" });
  const panel = h("section", { class: "panel", "aria-label": "Answer" }, h("header", { class: "answer-head" }, views, note), result);

  function buttons() {
    replace(runButton, icon(running ? "close" : "play"), running ? "Cancel" : "Run");
    explainButton.disabled = exports.inert = Boolean(running);
  }

  function tabs() {
    const shown = context.params().view === "chart" ? "chart" : "table";
    replace(views, [["table", "Table"], ["chart", "Chart"]].map(([name, title]) =>
      h("a", { href: changed({ view: name }), "aria-current": String(shown === name), onclick: (event) => { event.preventDefault(); change({ view: name }, { replace: true }); } }, title)));
    return shown;
  }

  function draw() {
    const shown = tabs();
    if (!last) return;
    if (!last.rows.length) replace(result, nothing("No rows", "The statement was answered; there is nothing in it."));
    else if (isPlan(last.columns)) replace(result, plan(last.rows));
    else if (shown === "chart") {
      replace(result, chart.element);
      chart.update(last.rows, last.columns);
    } else replace(result, resultTable(last.rows, last.columns));
  }

  async function run({ explain = false } = {}) {
    const sql = editor.value.trim().replace(/;\s*$/, "");
    if (!sql || running) return;
    asked = sql;
    change({ sql }, { replace: true });
    remember(sql);
    editor.mark();
    running = new AbortController();
    const { signal } = running;
    buttons();
    const begun = performance.now();
    result.setAttribute("aria-busy", "true");
    const count = (rows) => { note.textContent = `${whole(rows)} rows so far`; };
    note.textContent = "…";
    try {
      const text = explain && !/^explain\b/i.test(sql) ? `EXPLAIN ${sql}` : sql;
      const { rows, more, partial } = await stream(text, { rowsMax: ROWS_MAX, signal, onRows: count });
      const took = line(ms(performance.now() - begun));
      last = { rows, columns: columnsOf(rows) };
      note.textContent = more ? `the first ${whole(rows.length)} rows in ${took}; an export has all` : `${whole(rows.length)} ${rows.length === 1 ? "row" : "rows"} in ${took}`;
      draw();
      if (partial) result.prepend(h("p", { class: "notice" }, `Files that cannot be read are left out: ${partial}`));
    } catch (error) {
      last = null;
      if (error.name === "AbortError") {
        note.textContent = "";
        replace(result, nothing("Cancelled"));
      } else {
        note.textContent = "";
        const place = error.line ? ` (line ${error.line}, column ${error.column})` : "";
        editor.mark(error.line, error.column);
        replace(result, h("div", { class: "state error", role: "alert" }, h("strong", {}, `Not answered${place}`), h("p", { class: "mono" }, error.message)));
      }
    } finally {
      running = null;
      result.setAttribute("aria-busy", "false");
      buttons();
    }
  }

  async function save(format) {
    exports.open = false;
    const sql = editor.value.trim();
    if (!sql) return;
    try {
      const reply = await send(sql, { format });
      const url = URL.createObjectURL(await reply.blob());
      h("a", { href: url, download: `tollhouse.${format}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      toast(error.message);
    }
  }

  async function copy() {
    change({ sql: editor.value.trim() || null }, { replace: true });
    try {
      await navigator.clipboard.writeText(location.href);
      toast("The link is copied");
    } catch {
      toast("The link is in the address bar");
    }
  }

  function remembered() {
    try {
      return JSON.parse(localStorage.getItem(HISTORY)) ?? [];
    } catch {
      return [];
    }
  }

  // Statements of a shared portal stay where the token is: in this tab.
  function remember(sql) {
    if (isPortal()) return;
    const list = [sql, ...remembered().filter((one) => one !== sql)].slice(0, HISTORY_MAX);
    localStorage.setItem(HISTORY, JSON.stringify(list));
    side();
  }

  const take = (sql) => {
    editor.value = sql;
    run();
  };

  let schema = [];
  function side() {
    const list = (title, entries, open) => entries.length > 0 && h("details", { open }, h("summary", {}, title), h("ul", { class: "plain" }, entries));
    const closed = [...known.querySelectorAll("details")].filter((one) => !one.open).map((one) => one.querySelector("summary").textContent);
    const opened = known.childNodes.length ? (title) => !closed.includes(title) : (title, first) => first;
    replace(known,
      list("Examples", EXAMPLES.map(([title, sql]) => h("li", {}, h("button", { class: "button plain small", type: "button", onclick: () => take(sql) }, title))), opened("Examples", true)),
      list("Recent", isPortal() ? [] : remembered().slice(0, 10).map((sql) => h("li", {}, h("button", { class: "button plain small mono cut", type: "button", title: sql, onclick: () => take(sql) }, sql.replace(/\s+/g, " ")))), opened("Recent", false)),
      h("h2", {}, "Tables"),
      schema.map(([table, columns]) => h("details", {}, h("summary", { class: "mono" }, table),
        h("ul", { class: "plain" }, columns.map(({ name, type }) => h("li", {}, h("button", { class: "button plain small mono", type: "button", title: "Put it at the cursor", onclick: () => editor.insert(name) }, name), h("span", { class: "faint cut" }, type)))))));
  }

  async function learn() {
    const columns = "SELECT table_schema AS s, table_name AS t, column_name AS name, data_type AS type FROM information_schema.columns ORDER BY table_schema <> 'public', table_name <> 'requests', table_schema, table_name, ordinal_position";
    try {
      const [rows, functions] = await Promise.all([ask(columns), ask("SELECT DISTINCT routine_name AS name FROM information_schema.routines ORDER BY 1")]);
      const tables = new Map();
      for (const { s, t, name, type } of rows) {
        if (s === "information_schema") continue;
        const table = s === "public" ? t : `${s}.${t}`;
        if (!tables.has(table)) tables.set(table, []);
        tables.get(table).push({ name, type: short(type) });
      }
      const house = ["traffic_series", "anomalies", "compare_periods", "compare_versions", "compare_canary", "slo_report", "billing", "service_graph", "trace"];
      editor.learn({ tables, functions: [...house, ...functions.map((row) => row.name).filter((name) => /^\w+$/.test(name))] });
      schema = [...tables];
      side();
    } catch (error) {
      console.warn(error.message);
    }
  }

  buttons();
  tabs();
  side();
  learn();
  if (first) {
    editor.value = first;
    run();
  }
  return {
    title: "Query",
    wide: true,
    element: h("div", { class: "query" },
      h("div", { class: "stack" }, h("section", { class: "panel", "aria-label": "Statement" }, editor.element,
        h("div", { class: "bar padded run-bar" }, runButton, explainButton, shareButton, exports, h("span", { class: "faint push" }, session.who.rows_max && `at most ${whole(session.who.timeout_ms / 1000)} s`, " · ", h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "Enter")))), panel),
      h("aside", { class: "panel", "aria-label": "What there is" }, known)),
    changed() {
      const { sql } = context.params();
      if (sql !== undefined && sql !== asked && sql !== editor.value.trim()) take(sql);
      else draw();
    },
    close: () => running?.abort(),
  };
}

/** A type of Arrow, shorter. */
function short(type) {
  return type.replace(/^Dictionary\(\w+, (\w+)\)$/, "$1").replace(/Utf8(View)?/, "text").replace(/^Timestamp.*/, "timestamp").replace(/^List.*/, "list").replace(/^Map.*/, "map").replace(/^U?Int\d+$/, "integer").replace(/^Float\d+$/, "double").replace(/^Boolean$/, "boolean").replace(/^Binary(View)?$/, "bytes").toLowerCase();
}
