// The span of time at the head of a page, and whether the page follows the clock.

import { h, icon, replace } from "../core/dom.js";
import { clock, day } from "../core/format.js";
import { DEFAULT, RANGES, resolve } from "../core/range.js";
import { change, current } from "../core/router.js";

function words(params) {
  const span = resolve(params);
  if (span.relative) return span.words;
  const [from, until] = [new Date(span.from), new Date(span.until)];
  const same = day(from) === day(until);
  return `${day(from)} ${clock(from)} – ${same ? "" : `${day(until)} `}${clock(until)}`;
}

// What an input of the type datetime-local takes: this place's time.
function local(time) {
  return `${day(time)}T${clock(time)}`;
}

/** `following` is { on, toggle() } of the page. */
export function timePicker(following) {
  const element = h("div", { class: "range" });
  let open = false;
  const close = () => {
    open = false;
    draw();
  };
  const outside = (event) => {
    if (open && !element.contains(event.target)) close();
  };
  document.addEventListener("pointerdown", outside);
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && open) {
      close();
      element.querySelector("[aria-haspopup]").focus();
    }
  });

  function pick(params) {
    open = false;
    change({ range: null, from: null, until: null, ...params });
    draw();
  }

  function panel() {
    const { params } = current();
    const span = resolve(params);
    const chosen = span.relative ? params.range ?? DEFAULT : null;
    const from = h("input", { class: "field", type: "datetime-local", step: 1, value: local(span.from), required: true });
    const until = h("input", { class: "field", type: "datetime-local", step: 1, value: local(span.until), required: true });
    const wrong = h("p", { class: "bad", role: "alert" });
    const apply = (event) => {
      event.preventDefault();
      const [begin, end] = [new Date(from.value), new Date(until.value)];
      if (!(begin < end)) wrong.textContent = "The beginning is to be before the end.";
      else pick({ from: begin.toISOString(), until: end.toISOString() });
    };
    return h("div", { class: "popover", role: "dialog", "aria-label": "Span of time" },
      h("div", { class: "choices" }, RANGES.map(([name, , text]) =>
        h("button", { class: "button small", type: "button", "aria-pressed": String(name === chosen), "aria-label": text, onclick: () => pick({ range: name }) }, name))),
      h("hr"),
      h("form", { onsubmit: apply },
        h("label", { class: "named" }, "From", from), h("label", { class: "named" }, "Until", until), wrong,
        h("button", { class: "button first", type: "submit" }, "Apply")));
  }

  function draw() {
    const { params } = current();
    const span = resolve(params);
    replace(element,
      h("button", { class: "button", type: "button", "aria-haspopup": "dialog", "aria-expanded": String(open), onclick: () => { open = !open; draw(); if (open) element.querySelector(".popover button").focus(); } },
        icon("clock"), words(params)),
      span.relative && h("button", {
        class: "button", type: "button", "aria-pressed": String(following.on), title: "Follow the clock",
        onclick: () => { following.toggle(); draw(); },
      }, h("span", { class: "live-dot" }), h("span", {}, "Live")),
      open && panel());
  }
  draw();
  return { element, draw, end: () => document.removeEventListener("pointerdown", outside) };
}
