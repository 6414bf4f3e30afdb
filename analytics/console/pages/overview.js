// Overview: how much comes, how much fails, how long it takes, and whose it is.

import { ask } from "../core/api.js";
import { h } from "../core/dom.js";
import { clock, lasting, line, ms } from "../core/format.js";
import { before, keep } from "../core/range.js";
import { link } from "../core/router.js";
import { among, busiest, by, conditions, moment, series, total } from "../core/sql.js";
import { session } from "../core/session.js";
import { steps } from "../ui/chart.js";
import { Tiles, columns, errorChart, latencyChart, point, rateChart, statusTag } from "../ui/measures.js";
import { Panel, grid } from "../ui/panel.js";
import { Table } from "../ui/table.js";

const NONE = { requests: 0, errors: 0, error_rate: null, request_bytes: 0, response_bytes: 0 };

/** The statement of the tiles: this time and the time before. */
export function totals(span, filters) {
  const part = (name, where) => `SELECT '${name}' AS period, * FROM (${total(where)})`;
  return `${part("now", conditions(span, filters))}\nUNION ALL\n${part("before", conditions(before(span), filters))}`;
}

/** Tiles and three charts of the requests that meet some filters. */
export class Traffic {
  constructor() {
    this.tiles = new Tiles();
    this.charts = [rateChart(), errorChart(), latencyChart()];
    this.panels = [
      new Panel("Requests", { kind: "chart", span: "span-8" }),
      new Panel("Error rate", { kind: "chart", span: "span-4" }),
      new Panel("Latency", { kind: "chart", span: "span-8" }),
    ];
    this.head = h("div", { class: "hidden" });
  }

  async refresh(span, filters, signal) {
    const sums = ask(totals(span, filters), { signal }).then((rows) => {
      const of = (name) => rows.find((row) => row.period === name) ?? NONE;
      this.tiles.update(of("now"), of("before"), span.seconds);
      this.partial = rows.partial;
    }, (error) => { if (error.name !== "AbortError") console.warn(error.message); });
    const sql = series(conditions(span, filters), span.step_s);
    const note = `by ${lasting(span.step_s)}`;
    const [rates, errors, latency] = this.panels;
    const charts = rates.load(sql, (rows) => {
      const points = steps(rows, span, point);
      const drawn = this.charts.map((chart) => chart.update(points, span));
      [errors, latency].forEach((panel, index) => { panel.from(sql); panel.show(drawn[index + 1]); });
      for (const panel of this.panels) panel.note.textContent = note;
      return drawn[0];
    }, { signal });
    const [, rows] = await Promise.all([sums, charts]);
    if (!rows && !signal.aborted) [errors, latency].forEach((panel) => panel.show(h("div", { class: "state" }, "No answer")));
    return rows;
  }
}

export function open(context) {
  const traffic = new Traffic();
  let span = context.span();
  let most = { service: 1, consumer: 1 };
  const top = (name, title) => {
    const panel = new Panel(`${title}s`, { span: "span-6", note: "by requests" });
    const table = new Table([
      { key: name, label: title, cell: (row) => h("a", { class: "name cut", href: link(name, { args: [row[name]], params: keep(context.params()) }) }, row[name]) },
      ...columns({ seconds: () => span.seconds, most: () => most[name], few: true }),
    ], { label: `${title}s` });
    return {
      element: panel.element,
      load: (signal) => panel.load(async () => {
        const where = conditions(span);
        return by([name], where + among(name, await ask(busiest(name, where, 8), { signal })), 8);
      }, (rows) => {
        most = { ...most, [name]: Math.max(1, ...rows.map((row) => row.requests)) };
        return rows.length ? table.update(rows) : null;
      }, { signal }),
    };
  };
  const lists = [top("service", "Service")];
  lists.push(session.who.consumer ? top("route", "Route") : top("consumer", "Consumer"));
  const failures = new Panel("Latest errors", { span: "span-4" });
  const failed = new Table([
    { key: "time", label: "Time", fixed: true, class: "nowrap", cell: (row) => (row.trace_id ? h("a", { class: "name number", href: link("trace", { args: [row.trace_id] }) }, clock(row.time)) : clock(row.time)) },
    { key: "status", label: "Status", fixed: true, cell: statusTag },
    { key: "path", label: "Request", fixed: true, cell: (row) => h("span", { class: "cut", title: `${row.method} ${row.path}` }, row.path) },
    { key: "duration_ms", label: "Took", number: true, fixed: true, cell: (row) => line(ms(row.duration_ms)) },
  ], { label: "Latest errors" });
  const [rates, errors, latency] = traffic.panels;
  return {
    title: session.who.consumer ? [`${session.who.consumer} `, h("span", { class: "crumb" }, "own traffic")] : "Overview",
    element: [traffic.tiles.element, grid(rates.element, errors.element, latency.element, failures.element, lists.map((one) => one.element))],
    async refresh() {
      span = context.span();
      const { signal } = context;
      const latest = `SELECT time, method, path, status, outcome, duration_ms, service, trace_id
FROM errors
WHERE time >= ${moment(span.from)} AND time < ${moment(span.until)}
ORDER BY time DESC
LIMIT 5`;
      // What is looked at first comes first: others would have their share of the processors meanwhile.
      await traffic.refresh(span, {}, signal);
      await Promise.all([
        ...lists.map((list) => list.load(signal)),
        failures.load(latest, (rows) => (rows.length ? failed.update(rows) : null), { signal, empty: "No errors", more: "Every request in this time was answered." }),
      ]);
    },
  };
}
