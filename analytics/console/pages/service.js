// One service, route or consumer: its traffic, and what it is made of.

import { h } from "../core/dom.js";
import { clock, line, ms, percent, whole } from "../core/format.js";
import { keep } from "../core/range.js";
import { link } from "../core/router.js";
import { session } from "../core/session.js";
import { FAILED, conditions } from "../core/sql.js";
import { statusTag } from "../ui/measures.js";
import { Names } from "../ui/names.js";
import { Panel, grid } from "../ui/panel.js";
import { Table, share } from "../ui/table.js";
import { Traffic } from "./overview.js";

const PARTS = { service: [["route"], ["consumer"]], route: [["consumer"]], consumer: [["service", "route"]] };
const TITLES = { route: "Routes", consumer: "Consumers", service: "Routes" };
const LISTS = { service: "services", route: "services", consumer: "consumers" };

export function open(context) {
  const { page, args: [name = ""] } = context;
  const filters = { [page]: name };
  const traffic = new Traffic();
  const parts = PARTS[page]
    .filter(([first]) => !(first === "consumer" && session.who.consumer))
    .map((names) => new Names(names, TITLES[names[0]], { context }));
  const answers = new Panel("Answers", { span: "span-4", note: "by status" });
  let all = 1;
  const statuses = new Table([
    { key: "status", label: "Status", fixed: true, cell: statusTag },
    { key: "outcome", label: "Outcome", fixed: true },
    { key: "requests", label: "Requests", number: true, fixed: true, cell: (row) => share(whole(row.requests), row.requests / all) },
    { key: "part", label: "Share", number: true, fixed: true, cell: (row) => line(percent(row.requests / all)) },
  ], { label: "Answers by status" });
  const slow = new Panel("Slowest requests", { span: "span-6" });
  const failed = new Panel("Latest errors", { span: "span-6" });
  const requests = (label) => new Table([
    { key: "time", label: "Time", fixed: true, class: "nowrap", cell: (row) => (row.trace_id ? h("a", { class: "name number", href: link("trace", { args: [row.trace_id] }) }, clock(row.time)) : clock(row.time)) },
    { key: "status", label: "Status", fixed: true, cell: statusTag },
    { key: "path", label: "Request", fixed: true, cell: (row) => h("span", { class: "cut", title: row.path }, h("span", { class: "soft" }, row.method, " "), row.path) },
    { key: "duration_us", label: "Took", number: true, fixed: true, cell: (row) => line(ms(row.duration_us / 1000)) },
  ], { label });
  const [slowTable, failedTable] = [requests("Slowest requests"), requests("Latest errors")];
  const [rates, errors, latency] = traffic.panels;
  const list = LISTS[page];
  const tail = () => link("live", { params: { [page]: name } });
  return {
    title: [h("a", { class: "crumb", href: link(list, { params: keep(context.params()) }) }, list === "services" ? (page === "route" ? "Routes" : "Services") : "Consumers"), h("span", { class: "crumb", "aria-hidden": "true" }, "/"), h("span", { class: "cut" }, name)],
    tools: [
      h("a", { class: "button", href: link("traces", { params: { ...keep(context.params()), [page]: name } }) }, "Traces"),
      h("a", { class: "button", href: tail() }, "Live tail"),
    ],
    element: [traffic.tiles.element, grid(rates.element, errors.element, latency.element, answers.element, parts.map((part) => part.element), slow.element, failed.element)],
    async refresh() {
      const span = context.span();
      const { signal } = context;
      const where = conditions(span, filters);
      const columns = "time, method, path, status, outcome, duration_us, trace_id";
      await Promise.all([
        traffic.refresh(span, filters, signal),
        ...parts.map((part) => part.refresh(span, filters, signal)),
      ]);
      // Of rows, which takes longer than sums do.
      await Promise.all([
        answers.load(`SELECT status, outcome, count(*) AS requests\nFROM requests\nWHERE ${where}\nGROUP BY 1, 2\nORDER BY requests DESC\nLIMIT 8`, (rows) => {
          all = rows.reduce((sum, row) => sum + row.requests, 0) || 1;
          return rows.length ? statuses.update(rows) : null;
        }, { signal }),
        slow.load(`SELECT ${columns}\nFROM requests\nWHERE ${where}\nORDER BY duration_us DESC\nLIMIT 8`, (rows) => (rows.length ? slowTable.update(rows) : null), { signal }),
        failed.load(`SELECT ${columns}\nFROM requests\nWHERE ${where} AND (${FAILED})\nORDER BY time DESC\nLIMIT 8`, (rows) => (rows.length ? failedTable.update(rows) : null), { signal, empty: "No errors" }),
      ]);
    },
  };
}
