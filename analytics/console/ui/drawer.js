// A sheet at the side with details, over the page. Escape closes it, and the focus goes back to where it was.

import { h, icon } from "../core/dom.js";

let open = null;

export function closeDrawer() {
  open?.();
}

/** Opens a sheet; what stood in an earlier one is gone. */
export function drawer(title, ...children) {
  closeDrawer();
  const from = document.activeElement;
  const close = h("button", { class: "button plain square", type: "button", "aria-label": "Close" }, icon("close"));
  const element = h("div", { class: "drawer", role: "dialog", "aria-label": "Details" },
    h("header", {}, h("h2", {}, title), close), h("div", { class: "inside", tabindex: "0" }, children));
  const end = () => {
    element.remove();
    document.removeEventListener("keydown", key);
    window.removeEventListener("hashchange", end);
    open = null;
    if (from?.isConnected) from.focus();
  };
  const key = (event) => { if (event.key === "Escape") end(); };
  close.addEventListener("click", end);
  document.addEventListener("keydown", key);
  window.addEventListener("hashchange", end);
  open = end;
  document.body.append(element);
  close.focus();
  return element;
}
