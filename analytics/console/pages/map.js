// Service map: who calls whom. An edge is as thick as its traffic, and coloured by its errors.

import { h, replace, s } from "../core/dom.js";
import { line, ms, percent, perSecond, whole } from "../core/format.js";
import { keep } from "../core/range.js";
import { change, link } from "../core/router.js";
import { moment } from "../core/sql.js";
import { NODE, curve, middle, place } from "../ui/layers.js";
import { rateTag } from "../ui/measures.js";
import { Panel, grid } from "../ui/panel.js";
import { Table, share } from "../ui/table.js";

const EDGES_MAX = 150;
const PAD = 16;

const grade = (rate) => (rate >= 0.05 ? "bad" : rate >= 0.01 ? "warn" : rate > 0 ? "some" : "none");
const width = (requests, most) => 1.5 + 8 * Math.sqrt(requests / most);
const fits = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
const key = (edge) => `${edge.from} → ${edge.to}`;

/** Nodes with what they get and what they ask. */
function nodesOf(edges) {
  const nodes = new Map();
  const of = (name) => {
    if (!nodes.has(name)) nodes.set(name, { name, service: false, requests: 0, errors: 0, rate: 0, asks: 0 });
    return nodes.get(name);
  };
  for (const edge of edges) {
    const [caller, callee] = [of(edge.from), of(edge.to)];
    caller.asks += edge.requests;
    Object.assign(callee, { service: true, requests: callee.requests + edge.requests, errors: callee.errors + edge.errors, rate: callee.rate + edge.requests_per_s });
  }
  return nodes;
}

/** What stands at an edge, and where. */
function labelOf(edge) {
  const { x, y } = middle(edge.points);
  const rate = line(perSecond(edge.requests_per_s));
  return { x, y: y + 4, label: edge.error_rate >= 0.0005 ? `${rate} · ${line(percent(edge.error_rate))}` : rate };
}

/** Edges whose labels do not stand on one another or on a node; those of more traffic first. */
function free(edges, places) {
  const taken = [...places.values()].map(({ x, y }) => [x - 4, y - 4, x + NODE.width + 4, y + NODE.height + 4]);
  return new Set(edges.filter((edge) => {
    const { x, y, label } = labelOf(edge);
    const half = label.length * 3.2 + 4;
    const box = [x - half, y - 12, x + half, y + 5];
    if (taken.some(([left, top, right, bottom]) => box[0] < right && box[2] > left && box[1] < bottom && box[3] > top)) return false;
    taken.push(box);
    return true;
  }));
}

function pressable(element, act) {
  element.addEventListener("click", act);
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    act(event);
  });
  return element;
}

export function open(context) {
  const map = new Panel("Service map", { kind: "chart", span: "span-8" });
  const about = new Panel("Details", { span: "span-4" });
  const calls = new Panel("Calls");
  let [edges, nodes, most] = [[], new Map(), 1];
  const name = (value, key) => h("a", { class: "name cut", href: link(key, { args: [value], params: keep(context.params()) }) }, value);
  const table = new Table([
    { key: "from", label: "Caller", cell: (edge) => (nodes.get(edge.from)?.service ? name(edge.from, "service") : edge.from === "anonymous" ? edge.from : name(edge.from, "consumer")) },
    { key: "to", label: "Called", cell: (edge) => name(edge.to, "service") },
    { key: "requests", label: "Requests", number: true, cell: (edge) => share(whole(edge.requests), edge.requests / most) },
    { key: "requests_per_s", label: "Rate", number: true, cell: (edge) => line(perSecond(edge.requests_per_s)) },
    { key: "error_rate", label: "Error rate", number: true, cell: (edge) => rateTag(edge.error_rate) },
    { key: "p50_ms", label: "p50", number: true, cell: (edge) => line(ms(edge.p50_ms)) },
    { key: "p95_ms", label: "p95", number: true, cell: (edge) => line(ms(edge.p95_ms)) },
    { key: "p99_ms", label: "p99", number: true, cell: (edge) => line(ms(edge.p99_ms)) },
    { key: "critical_share", label: "Of critical time", title: "Share of the time of traces that was spent in the callee itself", number: true, cell: (edge) => line(percent(edge.critical_share)) },
  ], { label: "Calls between services", shown: 20 });

  const chosen = () => context.params().at ?? null;
  const choose = (what) => change({ at: chosen() === what ? null : what }, { replace: true });

  function draw() {
    const at = chosen();
    const near = (edge) => !at || key(edge) === at || edge.from === at || edge.to === at;
    const { nodes: places, width: wide, height } = place([...nodes.keys()], edges);
    const labels = free(edges.filter((edge) => edge.points && near(edge)), places);
    const lines = edges.filter((edge) => edge.points).map((edge) => {
      const path = curve(edge.points);
      const words = `${key(edge)}: ${whole(edge.requests)} requests, ${line(percent(edge.error_rate))} errors, p95 ${line(ms(edge.p95_ms))}`;
      return pressable(s("g", { class: `edge ${grade(edge.error_rate)} ${near(edge) ? "" : "far"} ${key(edge) === at ? "chosen" : ""}`, tabindex: 0, role: "button", "aria-label": words, "data-key": key(edge) },
        s("title", {}, words),
        s("path", { class: "reach", d: path }),
        s("path", { class: "line", d: path, "stroke-width": width(edge.requests, most).toFixed(1) })), () => choose(key(edge)));
    });
    const words = s("g", { class: "labels", "aria-hidden": "true" }, [...labels].map((edge) => {
      const { x, y, label } = labelOf(edge);
      return s("text", { x, y, "text-anchor": "middle" }, label);
    }));
    const boxes = [...places].map(([name, { x, y }]) => {
      const node = nodes.get(name);
      const rate = node.requests ? node.errors / node.requests : 0;
      const close = !at || name === at || edges.some((edge) => near(edge) && (edge.from === name || edge.to === name));
      const second = node.service ? `${line(perSecond(node.rate))}${rate > 0 ? ` · ${line(percent(rate))} errors` : ""}` : `asks ${line(perSecond(node.asks / span().seconds))}`;
      return pressable(s("g", { class: `node ${node.service ? grade(rate) : "client"} ${close ? "" : "far"} ${name === at ? "chosen" : ""}`, tabindex: 0, role: "button", "data-key": name, transform: `translate(${x},${y})` },
        s("rect", { width: NODE.width, height: NODE.height, rx: 8 }),
        s("rect", { class: "mark", x: 0, y: 10, width: 3.5, height: NODE.height - 20, rx: 1.75 }),
        s("text", { class: "name", x: 15, y: 24 }, fits(name, 20)),
        s("text", { class: "rate", x: 15, y: 42 }, fits(second, 26))), () => choose(name));
    });
    const box = [-PAD, -PAD - 6, wide + 2 * PAD, height + 2 * PAD + 6];
    const drawing = s("svg", { class: "map", viewBox: box.join(" "), role: "group", "aria-label": "Map of services. The table below has the same.", style: { "min-width": `${Math.min(box[2], Math.max(340, box[2] * 0.62))}px`, "max-width": `${box[2] * 1.25}px` } }, lines, words, boxes);
    const key_ = (grade, words) => h("span", { class: `key ${grade}` }, h("i"), words);
    map.show(h("div", { class: "map-place" }, drawing),
      h("div", { class: "map-key", role: "note" }, key_("none", "no errors"), key_("some", "below 1 %"), key_("warn", "1 to 5 %"), key_("bad", "5 % and above"), h("span", { class: "faint" }, "Thickness: requests")));
    explain();
  }

  function explain() {
    const at = chosen();
    const edge = edges.find((one) => key(one) === at);
    const node = nodes.get(at);
    const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
    const buttons = (page, name) => h("div", { class: "bar" },
      page && h("a", { class: "button", href: link(page, { args: [name], params: keep(context.params()) }) }, `Open ${page}`),
      h("a", { class: "button", href: link("traces", { params: { ...keep(context.params()), [page ?? "service"]: name } }) }, "Traces"));
    if (edge) {
      about.show(h("div", { class: "padded explain" },
        h("h3", {}, key(edge)),
        h("dl", { class: "facts" }, fact("Requests", `${whole(edge.requests)} (${line(perSecond(edge.requests_per_s))})`), fact("Errors", `${whole(edge.errors)} (${line(percent(edge.error_rate))})`),
          fact("p50", line(ms(edge.p50_ms))), fact("p95", line(ms(edge.p95_ms))), fact("p99", line(ms(edge.p99_ms))), fact("Of critical time", line(percent(edge.critical_share)))),
        buttons("service", edge.to)));
    } else if (node) {
      const list = (title, some, other) => some.length > 0 && h("section", {}, h("h3", {}, title), h("ul", { class: "plain" }, some.map((one) =>
        h("li", {}, h("button", { class: "button plain small", type: "button", onclick: () => choose(key(one)) }, other(one)), h("span", { class: "number soft" }, line(perSecond(one.requests_per_s))), rateTag(one.error_rate)))));
      about.show(h("div", { class: "padded explain" },
        h("h3", {}, node.service ? `Service ${at}` : `Caller ${at}`),
        node.service && h("dl", { class: "facts" }, fact("Requests", `${whole(node.requests)} (${line(perSecond(node.rate))})`), fact("Errors", `${whole(node.errors)} (${line(percent(node.requests ? node.errors / node.requests : 0))})`)),
        list("Called by", edges.filter((one) => one.to === at), (one) => one.from),
        list("Calls", edges.filter((one) => one.from === at), (one) => one.to),
        buttons(node.service ? "service" : at === "anonymous" ? null : "consumer", at)));
    } else {
      about.show(h("div", { class: "state" }, h("strong", {}, "Choose a service or a call"), h("p", {}, "Its numbers and the way to its traces are shown here.")));
    }
  }

  const span = () => context.span();
  return {
    title: "Service map",
    wide: true,
    element: grid(map.element, about.element, calls.element),
    changed: () => edges.length && draw(),
    async refresh() {
      const { from, until } = span();
      const sql = `SELECT *\nFROM service_graph(${moment(from)}, ${moment(until)})\nORDER BY requests DESC\nLIMIT ${EDGES_MAX}`;
      about.from(sql);
      await map.load(sql, (rows) => {
        edges = rows.map((row) => ({ ...row, from: row.caller, to: row.callee }));
        nodes = nodesOf(edges);
        most = Math.max(1, ...edges.map((edge) => edge.requests));
        calls.from(sql);
        if (!edges.length) {
          explain();
          calls.show(h("div", { class: "state" }, "Nothing in this time"));
          return null;
        }
        const focused = document.activeElement?.closest?.(".map g")?.dataset.key;
        draw();
        if (focused) [...map.body.querySelectorAll("g[tabindex]")].find((one) => one.dataset.key === focused)?.focus();
        calls.show(table.update(edges));
        return [...map.body.childNodes];
      }, { signal: context.signal, empty: "No calls in this time" });
    },
  };
}
