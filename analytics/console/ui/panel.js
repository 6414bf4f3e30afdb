// A panel: a heading, a way to its SQL, and one of four bodies: bones while the first answer is awaited, what it shows, that
// there is nothing, or why there is no answer. An old answer stays while the next one is awaited.

import { ask } from "../core/api.js";
import { add, h, replace } from "../core/dom.js";
import { link } from "../core/router.js";

/** The body that says that there is nothing. */
export function nothing(words, more) {
  return h("div", { class: "state" }, h("strong", {}, words), more && h("p", {}, more));
}

/** The body that says why there is no answer. */
export function refusal(error, again) {
  return h("div", { class: "state error", role: "alert" },
    h("strong", {}, "No answer"),
    h("p", {}, error.message),
    again && h("button", { class: "button small", type: "button", onclick: again }, "Try again"));
}

function bones(kind) {
  const count = kind === "chart" ? 1 : 5;
  return h("div", { class: `bones ${kind}`, "aria-hidden": "true" }, Array.from({ length: count }, () => h("div", { class: "bone" })));
}

/** A link to a statement on the Query page. */
export function sqlLink(sql, of) {
  return h("a", { class: "sql", href: link("query", { params: { sql } }), "aria-label": `Show the SQL of ${of}`, title: "Show the SQL" }, "SQL");
}

export class Panel {
  /** `kind` is what its bones look like: chart or rows. */
  constructor(title, { note, kind = "rows", span, tools } = {}) {
    this.title = title;
    this.kind = kind;
    this.note = h("small", {}, note);
    this.place = h("span", {});
    this.body = h("div", { class: "body", "aria-busy": "true" }, bones(kind));
    this.element = h("section", { class: `panel ${span ?? ""}`, "aria-label": title },
      h("header", {}, h("h2", {}, title, this.note), tools, this.place), this.body);
    this.asked = 0;
    this.shown = null;
  }

  /** Shows the statement behind the panel. */
  from(sql) {
    replace(this.place, sqlLink(sql, this.title));
  }

  show(...nodes) {
    this.body.setAttribute("aria-busy", "false");
    // What already stands there is left alone: the focus stays, nothing jumps.
    if (nodes.length === 1 && this.body.childNodes.length === 1 && this.body.firstChild === nodes[0]) return;
    replace(this.body, nodes);
  }

  /** Asks and shows; `draw` makes nodes of rows, or nothing if there is nothing. The rows, or null. A statement that depends
   * on the answer to another is a function that finds it out. */
  async load(sql, draw, { signal, empty = "Nothing in this time", more } = {}) {
    const number = ++this.asked;
    this.body.setAttribute("aria-busy", "true");
    try {
      const statement = typeof sql === "function" ? await sql() : sql;
      if (number !== this.asked) return null;
      this.from(statement);
      const rows = await ask(statement, { signal });
      if (number !== this.asked) return null;
      const nodes = draw(rows);
      if (nodes) this.show(...[nodes].flat());
      else this.show(nothing(empty, more));
      return rows;
    } catch (error) {
      if (error.name === "AbortError" || number !== this.asked) return null;
      if (!error.code && !error.status) console.error(error);
      this.show(refusal(error, () => this.load(sql, draw, { signal, empty, more })));
      return null;
    }
  }
}

/** Panels beside one another, of twelve columns. */
export function grid(...children) {
  return add(h("div", { class: "grid" }), children);
}
