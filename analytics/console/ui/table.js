// A table of rows that is sorted by its headings, and whose place and order outlast the next answer.

import { add, h, replace, s } from "../core/dom.js";

const SHOWN = 50;

export class Table {
  /**
   * Columns: { key, label, number, cell(row), sort(row), fixed }; `cell` makes a node or a text of a row. Rows are as they
   * come until a heading is pressed.
   */
  constructor(columns, { label, shown = SHOWN, order, onRow } = {}) {
    this.columns = columns;
    this.limit = shown;
    this.label = label;
    this.order = order ?? null;
    this.rows = [];
    this.onRow = onRow;
    this.head = h("tr", {});
    this.body = h("tbody", {});
    this.more = h("div", { class: "more hidden" });
    this.element = h("div", {},
      h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label },
        h("table", { class: "rows" }, h("caption", { class: "only-heard" }, label), h("thead", {}, this.head), this.body)),
      this.more);
    this.#heading();
  }

  update(rows) {
    this.rows = rows;
    this.#draw();
    return this.element;
  }

  #heading() {
    replace(this.head, this.columns.map((column) => {
      const sorted = this.order?.key === column.key ? this.order.direction : null;
      const arrow = h("span", { class: "arrow", "aria-hidden": "true" }, sorted === "ascending" ? "▲" : sorted ? "▼" : "");
      const sortable = !column.fixed;
      return h("th", { scope: "col", class: column.number ? "number" : null, "aria-sort": sorted ?? (sortable ? "none" : null), title: column.title },
        sortable
          ? h("button", { type: "button", onclick: () => this.#sort(column) }, column.label, arrow)
          : h("span", {}, column.label || h("span", { class: "only-heard" }, column.heard ?? "")));
    }));
  }

  #sort(column) {
    const first = column.number ? "descending" : "ascending";
    const other = column.number ? "ascending" : "descending";
    const again = this.order?.key === column.key && this.order.direction === first;
    this.order = { key: column.key, direction: again ? other : first };
    const index = this.columns.indexOf(column);
    this.#heading();
    this.#draw();
    this.head.children[index].querySelector("button").focus();
  }

  #sorted() {
    if (!this.order) return this.rows;
    const column = this.columns.find((one) => one.key === this.order.key);
    const value = column.sort ?? ((row) => row[column.key]);
    const sign = this.order.direction === "ascending" ? 1 : -1;
    return [...this.rows].sort((one, two) => {
      const [a, b] = [value(one), value(two)];
      if (a === b) return 0;
      if (a === null || a === undefined) return 1;
      if (b === null || b === undefined) return -1;
      return (a < b ? -1 : 1) * sign;
    });
  }

  #draw() {
    const rows = this.#sorted();
    replace(this.body, rows.slice(0, this.limit).map((row) => {
      const line = h("tr", { class: row.class });
      for (const column of this.columns) {
        const shown = column.cell ? column.cell(row) : row[column.key];
        line.append(add(h("td", { class: [column.number ? "number" : "", column.class ?? ""].join(" ").trim() || null }), shown ?? "–"));
      }
      return line;
    }));
    const rest = rows.length - this.limit;
    this.more.classList.toggle("hidden", rest <= 0);
    replace(this.more, `${this.limit} of ${rows.length} are shown.`,
      h("button", { class: "button small", type: "button", onclick: () => { this.limit += 200; this.#draw(); } }, "Show more"));
  }
}

/** A number with a bar for its share of the largest. */
export function share(shown, part, colour) {
  const bar = h("b", { style: { width: `${Math.max(0, Math.min(1, part || 0)) * 100}%`, background: colour ?? "" } });
  return h("span", { class: "share" }, shown, h("i", { "aria-hidden": "true" }, bar));
}

/** A chart without axes: values, and which of them are bad. */
export function spark(values, bad = []) {
  const [wide, high] = [110, 24];
  const most = Math.max(...values, 1e-9);
  const x = (index) => (values.length > 1 ? (index / (values.length - 1)) * wide : wide);
  const y = (value) => high - 2 - (value / most) * (high - 4);
  const line = (list) => list.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)},${y(value ?? 0).toFixed(1)}`).join("");
  return s("svg", { class: "spark", viewBox: `0 0 ${wide} ${high}`, "aria-hidden": "true" },
    s("path", { d: `${line(values)}L${wide},${high}L0,${high}Z`, fill: "var(--series-1)", opacity: 0.14 }),
    s("path", { d: line(values), fill: "none", stroke: "var(--series-1)", "stroke-width": 1.4 }),
    bad.some((value) => value > 0) && s("path", { d: line(bad), fill: "none", stroke: "var(--series-2)", "stroke-width": 1.4 }));
}
