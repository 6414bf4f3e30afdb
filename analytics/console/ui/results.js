// The rows of an answer: as a table, or as a chart.

import { add, h, replace } from "../core/dom.js";
import { digits, whole } from "../core/format.js";
import { link } from "../core/router.js";
import { Chart } from "./chart.js";
import { share } from "./table.js";

const SHOWN_STEP = 500;
const BARS_MAX = 60;
const LINES_MAX = 8;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d/;

const isNumber = (value) => typeof value === "number" || (typeof value === "string" && /^-?\d{16,}$/.test(value));

/** The columns of rows: { name, kind }, of which the kinds are number, time, text and nested. */
export function columnsOf(rows) {
  const names = [...new Set(rows.slice(0, 200).flatMap(Object.keys))];
  return names.map((name) => {
    const values = rows.slice(0, 200).map((row) => row[name]).filter((value) => value !== null && value !== undefined);
    const all = (test) => values.length > 0 && values.every(test);
    const kind = all(isNumber) ? "number" : all((value) => typeof value === "string" && TIME.test(value)) ? "time" : values.some((value) => typeof value === "object") ? "nested" : "text";
    return { name, kind };
  });
}

function cell(name, value) {
  if (value === null || value === undefined) return h("span", { class: "faint" }, "null");
  if (typeof value === "object") return h("span", { class: "cut mono", title: JSON.stringify(value) }, JSON.stringify(value));
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(9)));
  if (name === "trace_id" && /^[0-9a-f]{32}$/.test(value)) return h("a", { class: "mono", href: link("trace", { args: [value] }) }, value);
  return h("span", { class: "cut", title: value }, String(value));
}

/** A table of rows as they came. */
export function resultTable(rows, columns) {
  const body = h("tbody", {});
  const more = h("div", { class: "more" });
  let shown = 0;
  const go = () => {
    for (const row of rows.slice(shown, shown + SHOWN_STEP)) {
      body.append(h("tr", {}, columns.map(({ name, kind }) => h("td", { class: kind === "number" ? "number" : null }, cell(name, row[name])))));
    }
    shown = Math.min(rows.length, shown + SHOWN_STEP);
    more.classList.toggle("hidden", shown >= rows.length);
    replace(more, `${whole(shown)} of ${whole(rows.length)} rows are shown.`, h("button", { class: "button small", type: "button", onclick: go }, "Show more"));
  };
  go();
  return [h("div", { class: "scroll results", tabindex: "0", role: "group", "aria-label": "Rows of the answer" },
    h("table", { class: "rows" }, h("caption", { class: "only-heard" }, "Answer"),
      h("thead", {}, h("tr", {}, columns.map(({ name, kind }) => h("th", { scope: "col", class: kind === "number" ? "number" : null }, h("span", {}, name))))), body)), more];
}

/** A plan of EXPLAIN, as it is written. */
export function isPlan(columns) {
  return columns.length === 2 && columns[0].name === "plan_type" && columns[1].name === "plan";
}

export function plan(rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Plan" }, rows.map((row) => [h("h3", { class: "padded" }, row.plan_type), h("pre", { class: "plan" }, row.plan)]));
}

/** Charts of rows: a line for each number over time, else bars. Nothing without a number. */
export class ResultChart {
  constructor() {
    this.element = h("div", {});
  }

  update(rows, columns) {
    const numbers = columns.filter((column) => column.kind === "number");
    const time = columns.find((column) => column.kind === "time");
    if (!rows.length || !numbers.length) {
      replace(this.element, h("div", { class: "state" }, h("strong", {}, "No chart of these rows"), h("p", {}, "A chart is made of numbers: over time where there is a time, else by the first text.")));
      return;
    }
    const names = columns.filter((column) => column.kind === "text");
    this.choices ??= {};
    const known = (list, wanted) => (list.some((column) => column.name === wanted) ? wanted : list[0]?.name);
    const y = known(numbers, this.choices.y);
    const all = this.choices.y === "*";
    const by = time ? (this.choices.by === undefined ? names[0]?.name ?? "" : this.choices.by) : known([...names, ...columns.filter((column) => column.kind !== "text")], this.choices.x);
    const pick = (label, key, value, options) => h("label", { class: "named" }, label, h("select", { class: "field", onchange: (event) => { this.choices[key] = event.target.value; this.update(rows, columns); } },
      options.map(([name, text]) => h("option", { value: name, selected: name === value }, text ?? name))));
    const bar = h("div", { class: "bar padded" },
      pick("Value", "y", all ? "*" : y, [...numbers.map((column) => [column.name]), ...(time && numbers.length > 1 && !by ? [["*", "all of them"]] : [])]),
      time ? names.length > 0 && pick("A line for each", "by", by, [["", "nothing"], ...names.map((column) => [column.name])]) : pick("By", "x", by, columns.filter((column) => column.name !== y).map((column) => [column.name])));
    replace(this.element, bar, time ? this.#lines(rows, time.name, all && !by ? numbers.map((column) => column.name) : [y], by) : this.#bars(rows, by, y));
  }

  #lines(rows, time, values, by) {
    const series = new Map();
    const points = new Map();
    for (const row of rows) {
      const at = Date.parse(row[time]);
      if (!points.has(at)) points.set(at, { time: at });
      for (const value of values) {
        const name = by ? String(row[by]) : value;
        series.set(name, (series.get(name) ?? 0) + Math.abs(Number(row[value]) || 0));
        points.get(at)[name] = row[value] === null ? null : Number(row[value]);
      }
    }
    const most = [...series].sort((a, b) => b[1] - a[1]).slice(0, LINES_MAX).map(([name]) => name);
    const ordered = [...points.values()].sort((a, b) => a.time - b.time);
    const [from, until] = [ordered[0].time, ordered.at(-1).time];
    const chart = new Chart(most.map((name, index) => ({ key: name, name, colour: `var(--series-${index + 1})`, area: most.length === 1 })),
      { format: (value) => [value === null || value === undefined ? "–" : digits(value), ""], height: 320, zoom: false, label: values.length === 1 ? values[0] : "Values" });
    return [chart.update(ordered, { from, until: until > from ? until : from + 1000, step_s: 1 }),
      series.size > LINES_MAX && h("p", { class: "more" }, `The ${LINES_MAX} largest of ${series.size} lines are drawn.`)];
  }

  #bars(rows, x, y) {
    const most = Math.max(...rows.map((row) => Number(row[y]) || 0), 1e-9);
    return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `${y} by ${x}` }, h("table", { class: "rows bars" }, h("caption", { class: "only-heard" }, `${y} by ${x}`), h("tbody", {}, rows.slice(0, BARS_MAX).map((row) =>
      h("tr", {}, h("th", { scope: "row" }, h("span", { class: "cut" }, x ? String(row[x]) : "")), add(h("td", {}), share(row[y] === null ? "null" : digits(Number(row[y])), (Number(row[y]) || 0) / most)))))),
    rows.length > BARS_MAX && h("p", { class: "more" }, `The first ${BARS_MAX} of ${rows.length} rows are drawn.`));
  }
}
