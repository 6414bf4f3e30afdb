// Services and their routes.

import { h } from "../core/dom.js";
import { change, changed } from "../core/router.js";
import { search } from "../ui/filter.js";
import { Names } from "../ui/names.js";

export function open(context) {
  const services = new Names(["service"], "Services", { context });
  const routes = new Names(["service", "route"], "Routes", { context });
  const tab = (name, text) => {
    const chosen = () => (context.params().of ?? "services") === name;
    return h("a", { href: changed({ of: name }), "aria-current": String(chosen()), "data-tab": name, onclick: (event) => { event.preventDefault(); change({ of: name }); } }, text);
  };
  const tabs = h("nav", { class: "tabs", "aria-label": "What is listed" }, tab("services", "Services"), tab("routes", "Routes"));
  const place = h("div", {}, services.element);
  const draw = () => {
    const of = context.params().of ?? "services";
    for (const link of tabs.children) link.setAttribute("aria-current", String(link.dataset.tab === of));
    place.replaceChildren(of === "routes" ? routes.element : services.element);
  };
  draw();
  return {
    title: "Services",
    tools: search("find", context.params(), { label: "Find a service or route", placeholder: "Find…" }),
    element: [tabs, place],
    changed: draw,
    refresh: () => ((context.params().of ?? "services") === "routes" ? routes : services).refresh(context.span(), {}, context.signal),
  };
}
