// The door: a token, which is kept in this tab until it is closed.

import { brand, h, icon } from "../core/dom.js";
import { enter } from "../core/session.js";

/** `then` is called once the token is known. */
export function login(then) {
  const field = h("input", { class: "field", type: "password", name: "token", autocomplete: "current-password", required: true, "aria-describedby": "said", spellcheck: "false" });
  const said = h("p", { class: "bad", id: "said", role: "alert" });
  const button = h("button", { class: "button first", type: "submit" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    said.textContent = "";
    try {
      // A header takes printable ASCII only; what it cannot take is no token.
      const given = field.value.trim();
      const who = /^[\x21-\x7e]+$/.test(given) ? await enter(given) : null;
      if (who) return then();
      said.textContent = "This token is not known.";
      field.select();
    } catch {
      said.textContent = "The service does not answer.";
    } finally {
      button.disabled = false;
    }
  };
  const element = h("main", { class: "login" },
    h("div", { class: "card" },
      h("h1", { class: "brand" }, brand(), "Tollhouse"),
      h("p", { class: "soft" }, "Sign in with a token of this gateway. It stays in this tab, and is forgotten when you close it."),
      h("form", { onsubmit: submit }, h("label", { class: "named" }, "Token", field), said, button)));
  return { element, focus: () => field.focus() };
}
