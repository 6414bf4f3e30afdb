// Traces: those that hold a request that one looks for, as points over time and as a list.

import { h, replace, s } from "../core/dom.js";
import { clock, day, line, ms, whole } from "../core/format.js";
import { change, link } from "../core/router.js";
import { FAILED, conditions, moment } from "../core/sql.js";
import { ask } from "../core/api.js";
import { session } from "../core/session.js";
import { choice } from "../ui/filter.js";
import { statusTag } from "../ui/measures.js";
import { Panel } from "../ui/panel.js";
import { moments, ticks } from "../ui/scale.js";
import { Table, share } from "../ui/table.js";

const MATCHES_MAX = 200;
/** How far the other requests of a trace may be from the one that was found. */
const AROUND_MS = 5 * 60_000;

/** The statement: traces of the requests that meet the filters, the latest or the slowest ones. */
export function statement(span, params) {
  const wanted = [conditions(span, params), "trace_id IS NOT NULL"];
  if (params.only === "errors") wanted.push(`(${FAILED})`);
  if (Number(params.least) > 0) wanted.push(`duration_us >= ${Math.round(Number(params.least) * 1000)}`);
  const order = params.order === "slowest" ? "duration_us DESC" : "time DESC";
  return `SELECT trace_id, time, duration_us, hops, errors, services, service, method, path, status, outcome, consumer
FROM (
  SELECT trace_id, min(time) AS time, max(begin_us + duration_us) - min(begin_us) AS duration_us,
    count(*) AS hops, count(*) FILTER (WHERE ${FAILED}) AS errors, count(DISTINCT service) AS services,
    first_value(service ORDER BY time) AS service, first_value(method ORDER BY time) AS method,
    first_value(path ORDER BY time) AS path, first_value(status ORDER BY time) AS status,
    first_value(outcome ORDER BY time) AS outcome, first_value(consumer ORDER BY time) AS consumer
  FROM (SELECT *, CAST(time AS BIGINT) AS begin_us FROM requests)
  WHERE time >= ${moment(span.from - AROUND_MS)} AND time < ${moment(span.until + AROUND_MS)} AND trace_id IN (
    SELECT trace_id FROM requests
    WHERE ${wanted.join(" AND ")}
    ORDER BY ${order}
    LIMIT ${MATCHES_MAX}
  )
  GROUP BY trace_id
)
ORDER BY ${params.order === "slowest" ? "duration_us" : "time"} DESC`;
}

/** Traces as points: when they began, and how long they took. */
function scatter(rows, span, width) {
  const [height, left, right, top, bottom] = [150, 56, 14, 10, 22];
  const most = Math.max(...rows.map((row) => row.duration_us / 1000), 1);
  const marks = ticks(most, 3);
  const times = rows.map((row) => Date.parse(row.time));
  const [from, until] = [Math.min(...times), Math.max(...times)];
  const [begin, end] = until - from < 1000 ? [span.from, span.until] : [from - (until - from) * 0.02, until + (until - from) * 0.02];
  const x = (time) => left + ((time - begin) / (end - begin)) * (width - left - right);
  const y = (value) => top + (1 - value / marks.at(-1)) * (height - top - bottom);
  return s("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "group", "aria-label": "Traces by time and duration" },
    marks.map((mark) => [s("line", { class: mark ? "gridline" : "base", x1: left, x2: width - right, y1: y(mark), y2: y(mark) }), s("text", { x: left - 8, y: y(mark) + 4, "text-anchor": "end" }, line(ms(mark)))]),
    moments(begin, end, Math.max(2, Math.floor(width / 110))).map(({ time, label }) => s("text", { x: x(time), y: height - 4, "text-anchor": "middle" }, label)),
    rows.map((row) => {
      const words = `${row.method ?? ""} ${row.path ?? row.service}, ${line(ms(row.duration_us / 1000))}, ${row.hops} requests${row.errors ? `, ${row.errors} failed` : ""}`;
      const point = s("a", { href: link("trace", { args: [row.trace_id] }), tabindex: -1, "aria-hidden": "true" },
        s("title", {}, words),
        s("circle", { class: "point", cx: x(Date.parse(row.time)), cy: y(row.duration_us / 1000), r: Math.min(9, 2.5 + row.hops * 0.7), fill: row.errors ? "var(--series-2)" : "var(--series-1)" }));
      return point;
    }));
}

export function open(context) {
  const panel = new Panel("Traces", { span: "" });
  let longest = 1;
  let rows = [];
  const table = new Table([
    { key: "time", label: "Began", class: "nowrap", cell: (row) => `${day(row.time) === day(Date.now()) ? "" : `${day(row.time)} `}${clock(row.time, true)}` },
    { key: "path", label: "First request", cell: (row) => h("a", { class: "name cut", href: link("trace", { args: [row.trace_id] }) }, h("span", { class: "soft" }, row.method ?? "", " "), row.path ?? row.trace_id) },
    { key: "service", label: "Service", cell: (row) => row.service ?? "none" },
    { key: "consumer", label: "Consumer", cell: (row) => row.consumer ?? "anonymous" },
    { key: "status", label: "Status", cell: statusTag },
    { key: "hops", label: "Requests", number: true, cell: (row) => whole(row.hops) },
    { key: "services", label: "Services", number: true },
    { key: "errors", label: "Errors", number: true, cell: (row) => (row.errors ? h("span", { class: "tag bad" }, row.errors) : h("span", { class: "faint" }, "0")) },
    { key: "duration_us", label: "Duration", number: true, cell: (row) => share(line(ms(row.duration_us / 1000)), row.duration_us / longest) },
  ], { label: "Traces" });
  const bar = h("form", { class: "bar", role: "search", onsubmit: (event) => event.preventDefault() });
  const place = h("div", { class: "chart scatter" });
  let names = { service: [], consumer: [] };

  function fields() {
    const { activeElement } = document;
    if (bar.contains(activeElement) && activeElement.tagName === "INPUT") return;
    const params = context.params();
    const least = h("input", { class: "field", type: "number", min: 0, step: "any", inputmode: "decimal", value: params.least ?? "", placeholder: "0", style: { width: "90px" }, onchange: (event) => change({ least: event.target.value || null }) });
    const id = h("input", { class: "field mono", placeholder: "Trace id", "aria-label": "Open a trace by its id", spellcheck: "false", style: { width: "250px" } });
    const named = (label, field) => h("label", { class: "named" }, label, field);
    replace(bar,
      named("Service", choice("service", params, { label: "Service", options: names.service })),
      !session.who.consumer && named("Consumer", choice("consumer", params, { label: "Consumer", options: names.consumer })),
      named("Show", choice("only", params, { label: "Show", options: [["errors", "With errors"]] })),
      named("At least, ms", least),
      named("Order", choice("order", params, { label: "Order", options: [["slowest", "Slowest"]], none: "Latest" })),
      h("div", { class: "push" }, h("label", { class: "named" }, "Open by id", id)));
    id.addEventListener("keydown", (event) => {
      const wanted = id.value.trim().toLowerCase().replaceAll("-", "");
      if (event.key === "Enter" && /^[0-9a-f]{32}$/.test(wanted)) location.hash = link("trace", { args: [wanted] });
    });
  }
  fields();

  const size = new ResizeObserver(() => rows.length && replace(place, scatter(rows, context.span(), place.clientWidth)));
  size.observe(place);
  return {
    title: "Traces",
    element: [bar, panel.element],
    changed: fields,
    close: () => size.disconnect(),
    async refresh() {
      const span = context.span();
      const { signal } = context;
      const list = (name) => ask(`SELECT DISTINCT ${name} AS name FROM requests WHERE ${conditions(span)} AND ${name} IS NOT NULL ORDER BY 1 LIMIT 200`, { signal }).then((found) => found.map((row) => [row.name, row.name]), () => names[name]);
      const listed = Promise.all(["service", "consumer"].map(list));
      await panel.load(statement(span, context.params()), (found) => {
        rows = found;
        longest = Math.max(1, ...rows.map((row) => row.duration_us));
        panel.note.textContent = `${rows.length} found`;
        if (!rows.length) return null;
        requestAnimationFrame(() => rows.length && replace(place, scatter(rows, span, place.clientWidth || 800)));
        return [place, table.update(rows)];
      }, { signal, empty: "No traces", more: "No request in this time meets the filters." });
      const [service, consumer] = await listed;
      names = { service, consumer };
      fields();
    },
  };
}
