// What is measured of traffic, as tiles, charts and columns: the same on every page.

import { h, replace } from "../core/dom.js";
import { bytes, digits, line, ms, percent, perSecond, short, whole } from "../core/format.js";
import { Chart } from "./chart.js";
import { share } from "./table.js";

const size = (value, unit) => [value, unit && h("span", { class: "unit" }, unit)];

/** How a number differs from that of the time before. */
function change(now, then, { better } = {}) {
  if (!then || now === null || then === null || now === undefined) return h("span", { class: "faint" }, "nothing before");
  const part = (now - then) / then;
  if (Math.abs(part) < 0.005) return "same as before";
  const sign = part > 0 ? "+" : "−";
  const amount = Math.abs(part) >= 10 ? `${digits(Math.abs(part) + 1)}×` : `${sign}${digits(Math.round(Math.abs(part) * 1000) / 10)} %`;
  const worse = better && Math.abs(part) >= 0.1 && (better === "less" ? part > 0 : part < 0);
  return h("span", { class: worse ? "bad" : null, title: "Compared with the time of the same length before" }, `${amount} vs. before`);
}

/** Tiles of one total, and of the time before. */
export class Tiles {
  constructor() {
    const tile = (name) => {
      const [value, note] = [h("div", { class: "value" }, "–"), h("div", { class: "note" }, " ")];
      return { element: h("div", { class: "tile", role: "group", "aria-label": name }, h("div", { class: "name" }, name), value, note), value, note };
    };
    this.tiles = Object.fromEntries(["Requests", "Rate", "Errors", "p50", "p95", "p99", "Sent"].map((name) => [name, tile(name)]));
    this.element = h("div", { class: "tiles" }, Object.values(this.tiles).map((one) => one.element));
  }

  update(now, then, seconds) {
    const put = (name, [value, unit], note) => {
      const tile = this.tiles[name];
      replace(tile.value, size(value, unit));
      replace(tile.note, note);
    };
    put("Requests", short(now.requests), change(now.requests, then.requests));
    this.tiles.Requests.value.title = whole(now.requests);
    put("Rate", perSecond(now.requests / seconds), "on average");
    put("Errors", percent(now.requests ? now.error_rate : null), `${whole(now.errors)} failed`);
    this.tiles.Errors.value.classList.toggle("bad", now.error_rate > 0.01);
    for (const name of ["p50", "p95", "p99"]) put(name, ms(now[`${name}_ms`]), change(now[`${name}_ms`], then[`${name}_ms`], { better: "less" }));
    put("Sent", bytes(now.response_bytes ?? 0), [line(bytes(now.request_bytes ?? 0)), " received"]);
  }
}

export const rateChart = () => new Chart([
  { key: "good", name: "Answered", colour: "var(--series-1)" },
  { key: "bad", name: "Errors", colour: "var(--series-2)" },
], { format: perSecond, stacked: true, label: "Requests per second" });

export const errorChart = () => new Chart([
  { key: "error_rate", name: "Error rate", colour: "var(--series-2)", area: true },
], { format: percent, label: "Error rate", least: 0.01 });

export const latencyChart = () => new Chart([
  { key: "p99_ms", name: "p99", colour: "var(--p99)" },
  { key: "p95_ms", name: "p95", colour: "var(--p95)" },
  { key: "p50_ms", name: "p50", colour: "var(--p50)" },
], { format: ms, label: "Latency" });

/** Points of the three charts, of rows of a series. */
export function point(row, seconds) {
  return {
    good: row ? (row.requests - row.errors) / seconds : 0,
    bad: row ? row.errors / seconds : 0,
    error_rate: row ? row.error_rate : null,
    p50_ms: row?.p50_ms ?? null,
    p95_ms: row?.p95_ms ?? null,
    p99_ms: row?.p99_ms ?? null,
  };
}

/** An error rate as a tag: none, few, many. */
export function rateTag(rate) {
  if (rate === null || rate === undefined) return h("span", { class: "faint" }, "–");
  if (rate === 0) return h("span", { class: "faint" }, "0 %");
  return h("span", { class: `tag ${rate >= 0.05 ? "bad" : rate >= 0.01 ? "warn" : ""}` }, line(percent(rate)));
}

/** Columns of a table of measures. `most` gives the largest number of requests. */
export function columns({ seconds, most, few = false }) {
  const latency = (name) => ({ key: `${name}_ms`, label: name, number: true, cell: (row) => line(ms(row[`${name}_ms`])) });
  const all = [
    { key: "requests", label: "Requests", number: true, cell: (row) => share(whole(row.requests), row.requests / most()) },
    { key: "rate", label: "Rate", number: true, sort: (row) => row.requests, cell: (row) => line(perSecond(row.requests / seconds())), full: true },
    { key: "errors", label: "Errors", number: true, cell: (row) => whole(row.errors), full: true },
    { key: "error_rate", label: "Error rate", number: true, cell: (row) => rateTag(row.error_rate) },
    latency("p50"), { ...latency("p95") }, latency("p99"),
    { key: "response_bytes", label: "Sent", number: true, cell: (row) => line(bytes(row.response_bytes)), full: true },
  ];
  return few ? all.filter((column) => !column.full && column.key !== "p50_ms") : all;
}

/** A status as a tag; what there is instead where none was sent. */
export function statusTag(row) {
  const status = row.status;
  const kind = row.outcome === "client_closed" ? "warn" : !status ? "bad" : status >= 500 ? "bad" : status >= 400 ? "warn" : status >= 300 ? "accent" : "good";
  return h("span", { class: `tag ${kind}`, title: row.outcome }, status ?? row.outcome);
}
