// Series over time, as SVG: lines or areas, stacked or not. A crosshair is shared by all charts of a page, dragging picks a
// span of time, the arrow keys read values out.

import { h, replace, s } from "../core/dom.js";
import { clock, day, line } from "../core/format.js";
import { change } from "../core/router.js";
import { moments, ticks } from "./scale.js";

// Those of one page move together.
let shared = new EventTarget();

/** Lets go of the charts of the page before. */
export function newPage() {
  shared = new EventTarget();
}

const MARGIN = { left: 52, right: 8, top: 8, bottom: 20 };

export class Chart {
  /**
   * Series: { key, name, colour, area }. `format` makes [value, unit] of a number. `zoom: false` where dragging is to mean
   * nothing.
   */
  constructor(series, { format, height = 170, stacked = false, label, zoom = true, least = 0 }) {
    Object.assign(this, { series, format, height, stacked, label, zoom, least });
    this.off = new Set();
    this.data = null;
    this.svg = s("svg", { height, role: "img", "aria-label": label });
    this.tip = h("div", { class: "tip hidden" });
    this.heard = h("div", { class: "only-heard", "aria-live": "polite" });
    this.stage = h("div", { class: "stage", tabindex: "0", role: "group", "aria-label": `${label}. Arrow keys read values.` }, this.svg, this.tip);
    this.legend = h("div", { class: "legend" }, series.length > 1 && series.map((one) => this.#key(one)));
    this.element = h("div", { class: "chart" }, this.stage, this.legend, this.heard);
    this.width = 0;
    new ResizeObserver(([entry]) => {
      if (Math.abs(entry.contentRect.width - this.width) < 1) return;
      this.width = entry.contentRect.width;
      this.#draw();
    }).observe(this.stage);
    this.#listen();
  }

  #key(one) {
    const button = h("button", { type: "button", "aria-pressed": "true", style: { color: null } },
      h("i", { style: { color: one.colour } }), one.name);
    button.addEventListener("click", () => {
      const hidden = this.off.has(one.key);
      if (hidden) this.off.delete(one.key);
      else if (this.off.size < this.series.length - 1) this.off.add(one.key);
      button.setAttribute("aria-pressed", String(!this.off.has(one.key)));
      this.#draw();
    });
    return button;
  }

  /** Points: [{ time (ms), ...values }] in order; `from` and `until` are the ends of the axis. */
  update(points, { from, until, step_s }) {
    this.data = { points, from, until, step_s };
    this.#draw();
    return this.element;
  }

  #shown() {
    return this.series.filter((one) => !this.off.has(one.key));
  }

  #draw() {
    if (!this.data || this.width < 40) return;
    const { points, from, until } = this.data;
    const { left, right, top, bottom } = MARGIN;
    const [wide, high] = [this.width - left - right, this.height - top - bottom];
    const shown = this.#shown();
    const value = (point, one) => point[one.key];
    const sum = (point, upTo) => shown.slice(0, upTo + 1).reduce((all, one) => all + (value(point, one) ?? 0), 0);
    const heights = this.stacked
      ? points.map((point) => sum(point, shown.length - 1))
      : points.flatMap((point) => shown.map((one) => value(point, one) ?? 0));
    const marks = ticks(Math.max(this.least, ...heights, 0), this.height < 130 ? 2 : 4);
    const most = marks.at(-1);
    this.x = (time) => left + ((time - from) / (until - from)) * wide;
    this.y = (amount) => top + high - (amount / most) * high;
    this.place = (point, index) => this.y(this.stacked ? sum(point, index) : value(point, shown[index]) ?? 0);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    replace(this.svg,
      marks.map((mark) => [
        s("line", { class: mark === 0 ? "base" : "gridline", x1: left, x2: left + wide, y1: this.y(mark), y2: this.y(mark) }),
        s("text", { x: left - 8, y: this.y(mark) + 4, "text-anchor": "end" }, line(this.format(mark))),
      ]),
      moments(from, until, Math.max(2, Math.floor(wide / 76))).map(({ time, label }) =>
        s("text", { x: Math.min(this.x(time), this.width - 16), y: this.height - 4, "text-anchor": "middle" }, label)),
      shown.map((one, index) => this.#series(one, index, shown)).reverse(),
      (this.cross = s("g", {})));
    this.svg.setAttribute("aria-label", this.#summary());
  }

  #series(one, index, shown) {
    const { points } = this.data;
    const runs = [];
    let run = [];
    points.forEach((point) => {
      if (point[one.key] === null || point[one.key] === undefined) {
        if (run.length) runs.push(run);
        run = [];
      } else run.push(point);
    });
    if (run.length) runs.push(run);
    const path = (list, level) => list.map((point, n) => `${n ? "L" : "M"}${this.x(point.time).toFixed(1)},${level(point).toFixed(1)}`).join("");
    const lower = (point) => (this.stacked && index > 0 ? this.place(point, index - 1) : this.y(0));
    return runs.map((list) => {
      const upper = path(list, (point) => this.place(point, index));
      if (list.length === 1) {
        return s("circle", { cx: this.x(list[0].time), cy: this.place(list[0], index), r: 2, fill: one.colour });
      }
      const back = path([...list].reverse(), lower).replace("M", "L");
      return [
        (this.stacked || one.area) && s("path", { class: "fill", d: `${upper}${back}Z`, fill: one.colour }),
        s("path", { class: "stroke", d: upper, stroke: one.colour }),
      ];
    });
  }

  #summary() {
    const { points } = this.data;
    const parts = this.#shown().map((one) => {
      const values = points.map((point) => point[one.key]).filter((value) => value !== null && value !== undefined);
      if (!values.length) return `${one.name}: nothing`;
      return `${one.name}: from ${line(this.format(Math.min(...values)))} to ${line(this.format(Math.max(...values)))}, last ${line(this.format(values.at(-1)))}`;
    });
    return `${this.label}. ${parts.join("; ")}`;
  }

  #nearest(time) {
    let best = null;
    for (const point of this.data?.points ?? []) {
      if (best === null || Math.abs(point.time - time) < Math.abs(best.time - time)) best = point;
    }
    return best;
  }

  #time(event) {
    const box = this.stage.getBoundingClientRect();
    const { from, until } = this.data;
    const share = (event.clientX - box.left - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    return from + Math.max(0, Math.min(1, share)) * (until - from);
  }

  #listen() {
    let begun = null;
    const page = shared;
    const tell = (time, by) => page.dispatchEvent(new CustomEvent("time", { detail: { time, by } }));
    this.stage.addEventListener("pointermove", (event) => {
      if (!this.data) return;
      const time = this.#time(event);
      tell(time, this);
      if (begun !== null && this.zoom) this.#band(begun, time);
    });
    this.stage.addEventListener("pointerleave", () => { if (begun === null) tell(null, this); });
    this.stage.addEventListener("pointerdown", (event) => {
      if (!this.data || !this.zoom || event.pointerType === "touch" || event.button !== 0) return;
      begun = this.#time(event);
      this.stage.setPointerCapture(event.pointerId);
    });
    this.stage.addEventListener("pointerup", (event) => {
      if (begun === null) return;
      const [from, until] = [begun, this.#time(event)].sort((a, b) => a - b);
      begun = null;
      this.band?.remove();
      if (this.x(until) - this.x(from) < 8) return;
      change({ from: new Date(Math.floor(from / 1000) * 1000).toISOString(), until: new Date(Math.ceil(until / 1000) * 1000).toISOString(), range: null });
    });
    this.stage.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") tell(null, this);
      if (!step || !this.data?.points.length) return;
      event.preventDefault();
      const { points } = this.data;
      const at = this.read === undefined ? points.length - 1 : this.read + step;
      this.read = Math.max(0, Math.min(points.length - 1, at));
      tell(points[this.read].time, this);
      this.heard.textContent = `${clock(points[this.read].time)}: ${this.#lines(points[this.read]).map(([one, text]) => `${one.name} ${text}`).join(", ")}`;
    });
    this.stage.addEventListener("blur", () => { this.read = undefined; tell(null, this); });
    page.addEventListener("time", ({ detail: { time, by } }) => {
      this.#point(time === null ? null : this.#nearest(time), by === this);
    });
  }

  #lines(point) {
    return this.#shown().map((one) => [one, line(this.format(point[one.key]))]);
  }

  #band(from, until) {
    this.band?.remove();
    const [x1, x2] = [this.x(from), this.x(until)].sort((a, b) => a - b);
    this.band = s("rect", { class: "zoom", x: x1, width: x2 - x1, y: MARGIN.top, height: this.height - MARGIN.top - MARGIN.bottom });
    this.svg.append(this.band);
  }

  #point(point, own) {
    if (!this.cross) return;
    if (!point) {
      replace(this.cross);
      this.tip.classList.add("hidden");
      return;
    }
    const x = this.x(point.time);
    const shown = this.#shown();
    replace(this.cross,
      s("line", { class: "cross", x1: x, x2: x, y1: MARGIN.top, y2: this.height - MARGIN.bottom }),
      shown.map((one, index) => point[one.key] !== null && point[one.key] !== undefined &&
        s("circle", { class: "dot", cx: x, cy: this.place(point, index), r: 3.5, fill: one.colour })));
    this.tip.classList.toggle("hidden", !own);
    if (!own) return;
    const today = day(point.time) === day(Date.now());
    replace(this.tip, h("div", { class: "when" }, today ? "" : `${day(point.time)} `, clock(point.time)),
      this.#lines(point).map(([one, text]) =>
        h("div", { class: "line" }, h("i", { style: { background: one.colour } }), h("span", {}, one.name), h("span", {}, text))));
    const wide = this.tip.offsetWidth;
    this.tip.style.left = `${x + 14 + wide > this.width ? x - wide - 14 : x + 14}px`;
  }
}

/** One point for each step of a span, with zeros or nothing where no row came. */
export function steps(rows, span, fields) {
  const size = span.step_s * 1000;
  const known = new Map(rows.map((row) => [Date.parse(row.time), row]));
  const points = [];
  for (let time = Math.floor(span.from / size) * size; time < span.until; time += size) {
    const row = known.get(time);
    const begin = Math.max(time, span.from);
    const end = Math.min(time + size, span.until);
    const seconds = (end - begin) / 1000;
    // The present step says little in its first moments.
    if (time + size > span.until && seconds < span.step_s * 0.25 && points.length > 1) continue;
    points.push({ time, ...fields(row, seconds) });
  }
  return points;
}
