// The filters of a page, as chips that can be taken away, and fields that put them into the address.

import { h } from "../core/dom.js";
import { change } from "../core/router.js";

/** A field for words; what is typed is in the address after a moment. */
export function search(name, params, { label, placeholder }) {
  let timer;
  const field = h("input", {
    class: "field", type: "search", value: params[name] ?? "", placeholder, "aria-label": label, spellcheck: "false",
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(() => change({ [name]: field.value || null }, { replace: true }), 250);
    },
  });
  return field;
}

/** A choice of a few: [[value, text], ...]. */
export function choice(name, params, { label, options, none = "All" }) {
  const list = options.some(([value]) => value === params[name]) || !params[name] ? options : [...options, [params[name], params[name]]];
  return h("select", { class: "field", "aria-label": label, onchange: (event) => change({ [name]: event.target.value || null }) },
    h("option", { value: "" }, none),
    list.map(([value, text]) => h("option", { value, selected: params[name] === value }, text ?? value)));
}
