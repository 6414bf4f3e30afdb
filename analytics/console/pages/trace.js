// One trace: a waterfall of its requests, each with the phases of its time.

import { ask } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { clock, day, line, ms, whole } from "../core/format.js";
import { link } from "../core/router.js";
import { text } from "../core/sql.js";
import { details } from "../ui/request.js";
import { statusTag } from "../ui/measures.js";
import { nothing, refusal, sqlLink } from "../ui/panel.js";
import { PHASES, segments } from "../ui/phases.js";

const COLOURS = 8;

export const ranged = false;

export function open(context) {
  const id = context.args[0] ?? "";
  const place = h("div", { class: "stack" }, h("div", { class: "panel" }, h("div", { class: "bones" }, Array.from({ length: 8 }, () => h("div", { class: "bone" })))));

  async function load() {
    const tree = `SELECT n, depth, self_us, span_id FROM trace(${text(id)}) ORDER BY n`;
    const rows = `SELECT * FROM requests WHERE trace_id = ${text(id)} ORDER BY time`;
    try {
      const [hops, all] = await Promise.all([ask(tree, { signal: context.signal }), ask(rows, { signal: context.signal })]);
      const of = new Map(all.map((row) => [row.span_id, row]));
      const listed = hops.map((hop) => ({ ...of.get(hop.span_id), depth: hop.depth, self_us: hop.self_us })).filter((hop) => hop.time);
      if (!listed.length) replace(place, h("div", { class: "panel" }, nothing("There is no such trace", "It may be older than what is kept, or not be yours to see.")));
      else draw(listed, rows);
    } catch (error) {
      if (error.name !== "AbortError") replace(place, h("div", { class: "panel" }, refusal(error, load)));
    }
  }

  function draw(hops, sql) {
    const start = Math.min(...hops.map((hop) => micro(hop.time)));
    const end = Math.max(...hops.map((hop) => micro(hop.time) + hop.duration_us));
    const whole_us = Math.max(1, end - start);
    const services = [...new Set(hops.map((hop) => hop.service ?? "none"))];
    const colour = (service) => `var(--series-${(services.indexOf(service ?? "none") % COLOURS) + 1})`;
    const failed = hops.filter((hop) => hop.status >= 500 || hop.status === null).length;
    const percent = (us) => `${(us / whole_us) * 100}%`;
    const used = new Set();
    // When what a hop called ran, within the hop's own time.
    const below = (hop) => hops.filter((other) => hop.upstream_span_id && other.parent_span_id === hop.upstream_span_id).map((other) => {
      const from = Math.max(0, micro(other.time) - micro(hop.time));
      return [from, Math.min(hop.duration_us, from + other.duration_us)];
    });
    const lines = hops.map((hop) => {
      const offset = micro(hop.time) - start;
      const parts = segments(hop);
      parts.forEach((part) => used.add(part.phase));
      const more = h("div", { class: "hop-more hidden" });
      const button = h("button", { class: "hop-name", type: "button", "aria-expanded": "false", style: { "padding-left": `${14 + Math.min(hop.depth, 12) * 16}px` } },
        h("i", { style: { background: colour(hop.service) }, "aria-hidden": "true" }),
        h("strong", {}, hop.service ?? "none"), h("span", { class: "soft cut" }, hop.method ?? hop.protocol, " ", hop.path ?? ""));
      const bar = h("div", { class: "hop-lane" },
        h("div", { class: `hop-bar ${hop.status >= 500 || hop.status === null ? "bad" : ""}`, style: { left: percent(offset), width: `max(2px, ${percent(hop.duration_us)})` } },
          parts.map((part) => h("span", { class: `phase ${part.phase}`, style: { left: `${(part.from / Math.max(1, hop.duration_us)) * 100}%`, width: `${(part.us / Math.max(1, hop.duration_us)) * 100}%` }, title: `${PHASES[part.phase]}: ${line(ms(part.us / 1000))}` })),
          below(hop).map(([from, until]) => h("span", { class: "below", style: { left: `${(from / Math.max(1, hop.duration_us)) * 100}%`, width: `${((until - from) / Math.max(1, hop.duration_us)) * 100}%` } }))));
      const row = h("div", { class: "hop" }, button, h("div", { class: "hop-status" }, statusTag(hop)),
        h("div", { class: "hop-time", title: `${line(ms(hop.self_us / 1000))} of its own` }, line(ms(hop.duration_us / 1000))), bar);
      const toggle = () => {
        const opened = more.classList.toggle("hidden");
        button.setAttribute("aria-expanded", String(!opened));
        if (!opened && !more.childNodes.length) more.append(details(hop));
      };
      button.addEventListener("click", toggle);
      bar.addEventListener("click", toggle);
      return h("li", {}, row, more);
    });
    const first = hops[0];
    const fact = (name, value) => h("div", { class: "tile" }, h("div", { class: "name" }, name), h("div", { class: "value" }, value));
    const unit = ([value, unit]) => [value, h("span", { class: "unit" }, unit)];
    replace(place,
      h("div", { class: "tiles short" },
        fact("Duration", unit(ms(whole_us / 1000))), fact("Requests", whole(hops.length)), fact("Services", whole(services.length)),
        fact("Errors", h("span", { class: failed ? "bad" : "" }, whole(failed))), fact("Began", h("span", { title: first.time }, clock(first.time), h("span", { class: "unit" }, day(first.time))))),
      h("section", { class: "panel waterfall", "aria-label": "Waterfall" },
        h("header", {}, h("h2", {}, "Waterfall", h("small", { class: "mono" }, id)), sqlLink(sql, "the trace")),
        h("div", { class: "hop axis", "aria-hidden": "true" }, h("span"), h("span"), h("span"), h("div", { class: "hop-lane" }, [0, 0.25, 0.5, 0.75, 1].map((part) =>
          h("span", { style: part === 1 ? { right: 0 } : { left: `${part * 100}%` } }, line(ms((whole_us * part) / 1000)))))),
        h("ol", {}, lines),
        h("div", { class: "map-key" }, Object.entries(PHASES).filter(([phase]) => used.has(phase)).map(([phase, words]) => h("span", { class: "key" }, h("i", { class: `phase ${phase}` }), words)),
          hops.length > 1 && h("span", { class: "faint" }, "Lighter: in services below"))));
    if (hops.length === 1) place.querySelector(".hop-name").click();
  }

  return {
    title: [h("a", { class: "crumb", href: link("traces") }, "Traces"), h("span", { class: "crumb", "aria-hidden": "true" }, "/"), h("span", { class: "mono" }, id.slice(0, 16))],
    element: place,
    refresh: load,
  };
}

/** Microseconds of a moment as `/sql` writes it: Date knows thousandths only. */
function micro(time) {
  const [, seconds, fraction = ""] = /^(.*?)(?:\.(\d+))?Z$/.exec(time) ?? [null, time];
  return Date.parse(`${seconds}Z`) * 1000 + Number(fraction.padEnd(6, "0").slice(0, 6));
}
