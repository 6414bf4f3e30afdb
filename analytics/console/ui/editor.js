// The editor of statements: a text area with colours behind it, and completion of tables, columns, functions and words of SQL.

import { h, replace } from "../core/dom.js";
import { KEYWORDS, atCursor, pieces } from "./words.js";

const OFFERS_MAX = 50;

export class Editor {
  /** `onRun` is called by Ctrl+Enter. */
  constructor({ onRun, onChange }) {
    this.names = { tables: new Map(), functions: [] };
    this.offers = [];
    this.chosen = 0;
    this.colours = h("pre", { class: "colours", "aria-hidden": "true" });
    this.numbers = h("pre", { class: "numbers", "aria-hidden": "true" });
    this.area = h("textarea", {
      spellcheck: "false", autocapitalize: "off", autocomplete: "off", wrap: "off", rows: 9,
      "aria-label": "Statement in SQL", "aria-autocomplete": "list", "aria-haspopup": "listbox", "aria-describedby": "editor-help",
    });
    this.list = h("ul", { class: "offers hidden", role: "listbox", id: "offers", "aria-label": "Completions" });
    this.heard = h("div", { class: "only-heard", "aria-live": "polite" });
    this.measure = h("span", { class: "measure", "aria-hidden": "true" }, "0000000000");
    this.element = h("div", { class: "editor" }, this.numbers,
      h("div", { class: "sheet" }, this.colours, this.area, this.measure, this.list), this.heard,
      h("p", { class: "only-heard", id: "editor-help" }, "Control and Enter runs it, Control and Space completes."));
    this.area.addEventListener("input", () => { this.#paint(); this.#offer(false); onChange?.(); });
    this.area.addEventListener("scroll", () => this.#scroll());
    this.area.addEventListener("blur", () => this.#close());
    this.area.addEventListener("click", () => this.#close());
    this.area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.#close();
        onRun();
      } else if (event.key === " " && event.ctrlKey) {
        event.preventDefault();
        this.#offer(true);
      } else if (this.offers.length) this.#pick(event);
    });
    this.#paint();
  }

  get value() {
    return this.area.value;
  }

  set value(text) {
    this.area.value = text;
    this.#close();
    this.#paint();
  }

  /** What may be completed: tables with their columns, and functions. */
  learn(names) {
    this.names = names;
  }

  insert(text) {
    const { selectionStart: from, selectionEnd: until, value } = this.area;
    this.area.value = value.slice(0, from) + text + value.slice(until);
    this.area.setSelectionRange(from + text.length, from + text.length);
    this.area.focus();
    this.#paint();
  }

  /** Marks where something is wrong: a line and a column, from 1. */
  mark(line, column) {
    this.wrong = line ? { line, column } : null;
    this.#paint();
  }

  #paint() {
    const { value } = this.area;
    const lines = value.split("\n").length;
    let at = 0;
    const begin = this.wrong ? value.split("\n").slice(0, this.wrong.line - 1).reduce((sum, line) => sum + line.length + 1, 0) + Math.max(0, (this.wrong.column ?? 1) - 1) : -1;
    replace(this.colours, pieces(value).map(([kind, text]) => {
      const bad = begin >= at && begin < at + text.length && text.trim() !== "";
      at += text.length;
      return kind || bad ? h("span", { class: `${kind ? `sql-${kind}` : ""} ${bad ? "wrong" : ""}` }, text) : text;
    }), "\n");
    replace(this.numbers, Array.from({ length: lines }, (_, index) => `${index + 1}\n`).join(""));
    this.area.rows = Math.max(7, Math.min(22, lines + 1));
    this.#scroll();
  }

  #scroll() {
    this.colours.style.transform = `translate(${-this.area.scrollLeft}px, ${-this.area.scrollTop}px)`;
    this.numbers.style.transform = `translateY(${-this.area.scrollTop}px)`;
  }

  #candidates(before, word) {
    const { tables, functions } = this.names;
    const text = this.value.toLowerCase();
    if (before) {
      // A table's columns, or those of an alias; or the tables of a schema.
      const alias = new RegExp(`([\\w.]+)\\s+(?:as\\s+)?${before.replaceAll(".", "\\.")}\\b`, "i").exec(this.value)?.[1]?.toLowerCase();
      const columns = tables.get(before) ?? tables.get(alias);
      if (columns) return columns.map(({ name, type }) => ({ text: name, kind: type }));
      return [...tables.keys()].filter((name) => name.startsWith(`${before}.`)).map((name) => ({ text: name.slice(before.length + 1), kind: "table" }));
    }
    const used = [...tables].filter(([name]) => new RegExp(`\\b${name.replaceAll(".", "\\.")}\\b`).test(text));
    const columns = new Map(used.flatMap(([name, list]) => list.map((column) => [column.name, { text: column.name, kind: name }])));
    const written = word !== "" && word === word.toLowerCase() ? (name) => name : (name) => name.toUpperCase();
    return [
      ...columns.values(),
      ...[...tables.keys()].map((name) => ({ text: name, kind: "table" })),
      ...functions.map((name) => ({ text: name, kind: "function", after: "(" })),
      ...KEYWORDS.map((name) => ({ text: written(name), kind: "" })),
    ];
  }

  #offer(asked) {
    const at = atCursor(this.value, this.area.selectionStart);
    if (!at || (!asked && at.word.length < 2 && !at.before)) return this.#close();
    const word = at.word.toLowerCase();
    const fits = this.#candidates(at.before, at.word).filter(({ text }) => text.toLowerCase().startsWith(word) && text.toLowerCase() !== word);
    this.offers = fits.slice(0, OFFERS_MAX);
    this.word = at.word;
    if (!this.offers.length) return this.#close();
    this.chosen = 0;
    this.#list();
    this.heard.textContent = `${this.offers.length} completions, the first is ${this.offers[0].text}`;
  }

  #list() {
    replace(this.list, this.offers.map(({ text, kind }, index) =>
      h("li", { role: "option", id: `offer-${index}`, "aria-selected": String(index === this.chosen), onpointerdown: (event) => { event.preventDefault(); this.chosen = index; this.#take(); } },
        h("span", {}, text), h("span", { class: "faint" }, kind))));
    const before = this.value.slice(0, this.area.selectionStart - this.word.length).split("\n");
    const wide = this.measure.getBoundingClientRect().width / 10;
    const left = before.at(-1).length * wide + 12 - this.area.scrollLeft;
    this.list.style.left = `${Math.max(0, Math.min(left, this.area.clientWidth - 240))}px`;
    this.list.style.top = `${before.length * 20 + 12 - this.area.scrollTop}px`;
    this.list.classList.remove("hidden");
    this.area.setAttribute("aria-controls", "offers");
    this.area.setAttribute("aria-activedescendant", `offer-${this.chosen}`);
    this.list.children[this.chosen].scrollIntoView({ block: "nearest" });
  }

  #close() {
    this.offers = [];
    this.list.classList.add("hidden");
    this.area.removeAttribute("aria-activedescendant");
    this.area.removeAttribute("aria-controls");
  }

  #pick(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step) {
      event.preventDefault();
      this.chosen = Math.max(0, Math.min(this.offers.length - 1, this.chosen + step));
      this.#list();
    } else if ((event.key === "Enter" || event.key === "Tab") && !event.shiftKey) {
      event.preventDefault();
      this.#take();
    } else if (event.key === "Escape") {
      event.preventDefault();
      this.#close();
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") this.#close();
  }

  #take() {
    const { text, after = "" } = this.offers[this.chosen];
    const until = this.area.selectionStart;
    this.area.setSelectionRange(until - this.word.length, until);
    this.#close();
    this.insert(text + after);
  }
}
