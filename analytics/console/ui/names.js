// Lists of things that traffic is of: a table with measures and a small chart for each name.

import { h } from "../core/dom.js";
import { keep, stepOf } from "../core/range.js";
import { ask } from "../core/api.js";
import { link } from "../core/router.js";
import { by, conditions, sparks } from "../core/sql.js";
import { columns } from "./measures.js";
import { Panel } from "./panel.js";
import { Table, spark } from "./table.js";

const SPARK_POINTS = 30;

/** A panel with one row per name. `links` makes the link of a row's column; `filters` narrows what is counted. */
export class Names {
  constructor(names, title, { context, columns: more = [], empty }) {
    this.context = context;
    this.names = names;
    this.empty = empty;
    this.most = 1;
    this.sparks = new Map();
    this.panel = new Panel(title);
    this.element = this.panel.element;
    const name = (key) => ({
      key, label: key[0].toUpperCase() + key.slice(1),
      cell: (row) => h("a", { class: "name cut", href: link(key, { args: [row[key]], params: keep(context.params()) }) }, row[key]),
    });
    this.table = new Table([
      ...names.map(name), ...more,
      ...columns({ seconds: () => this.span.seconds, most: () => this.most }),
      { key: "spark", label: "Requests over time", fixed: true, cell: (row) => this.sparks.get(row[names.at(-1)]) },
    ], { label: title });
  }

  async refresh(span, filters, signal) {
    this.span = span;
    const where = conditions(span, filters);
    const wanted = this.context.params().find?.toLowerCase();
    const step_s = stepOf(span.seconds, SPARK_POINTS);
    const key = this.names.at(-1);
    const small = ask(sparks(key, where, step_s), { signal }).then((rows) => this.#draw(rows, key, step_s), () => {});
    const rows = await this.panel.load(by(this.names, where), (all) => {
      this.most = Math.max(1, ...all.map((row) => row.requests));
      const rows = wanted ? all.filter((row) => this.names.some((name) => row[name].toLowerCase().includes(wanted))) : all;
      this.panel.note.textContent = rows.length === all.length ? `${all.length}` : `${rows.length} of ${all.length}`;
      return rows.length ? this.table.update(rows) : null;
    }, { signal, empty: wanted ? "No name has this in it" : this.empty });
    await small;
    // The first answer may have come before the small charts.
    if (rows?.length) this.table.update(this.table.rows);
  }

  #draw(rows, key, step_s) {
    const size = step_s * 1000;
    const begin = Math.floor(this.span.from / size) * size;
    const count = Math.max(2, Math.ceil((this.span.until - begin) / size));
    const found = new Map();
    for (const row of rows) {
      const index = Math.round((Date.parse(row.time) - begin) / size);
      if (!found.has(row[key])) found.set(row[key], [Array(count).fill(0), Array(count).fill(0)]);
      const [requests, errors] = found.get(row[key]);
      if (index >= 0 && index < count) [requests[index], errors[index]] = [row.requests, row.errors];
    }
    // The last step is not over: it would always seem to fall.
    this.sparks = new Map([...found].map(([name, [requests, errors]]) => [name, spark(requests.slice(0, -1), errors.slice(0, -1))]));
  }
}
