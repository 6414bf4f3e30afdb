// The frame: navigation by what one may see, the head of the page, the theme, and signing out.

import { brand, h, icon, replace } from "../core/dom.js";
import { keep } from "../core/range.js";
import { current, link } from "../core/router.js";
import { isPortal, leave, session } from "../core/session.js";

/** Pages in the order of the navigation: name, title, group, and who sees them. */
const PAGES = [
  ["overview", "Overview", "Traffic", () => true],
  ["services", "Services", "Traffic", () => true],
  ["consumers", "Consumers", "Traffic", () => !session.who.consumer],
  ["map", "Service map", "Traffic", () => !isPortal()],
  ["live", "Live tail", "Requests", () => true],
  ["traces", "Traces", "Requests", () => true],
  ["query", "Query", "Requests", () => true],
  ["configuration", "Configuration", "Gateway", () => session.who.system],
  ["system", "System", "Gateway", () => session.who.system],
];

export function mayOpen(page) {
  return PAGES.find(([name]) => name === page)?.[3]() ?? true;
}

const THEMES = ["system", "light", "dark"];

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function themeButton() {
  const button = h("button", { class: "button plain square", type: "button" });
  const draw = () => {
    const dark = theme() === "dark" || (theme() === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
    button.setAttribute("aria-label", `Theme: ${theme()}. Change it.`);
    button.title = `Theme: ${theme()}`;
    replace(button, icon(dark ? "moon" : "sun"));
  };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
    if (next === "system") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("tollhouse.theme");
    } else {
      document.documentElement.dataset.theme = next;
      localStorage.setItem("tollhouse.theme", next);
    }
    draw();
  });
  draw();
  return button;
}

/** The frame around pages; `onLeave` is called when one signs out. */
export class Shell {
  constructor(onLeave) {
    this.title = h("h1", { tabindex: "-1" });
    this.tools = h("div", { class: "bar" });
    this.content = h("main", { class: "content", id: "content" });
    this.progress = h("div", { class: "progress", "aria-hidden": "true" });
    this.side = h("aside", { class: "side", id: "side" });
    this.veil = h("button", { class: "veil hidden", type: "button", "aria-label": "Close the navigation", onclick: () => this.#open(false) });
    this.menu = h("button", { class: "button plain square menu", type: "button", "aria-label": "Navigation", "aria-expanded": "false", "aria-controls": "side", onclick: () => this.#open(!this.side.classList.contains("open")) }, icon("menu"));
    this.list = h("nav", { "aria-label": "Pages" });
    const { who } = session;
    const whose = who.consumer ?? who.workspace;
    replace(this.side,
      h("a", { class: "brand", href: "#/overview" }, brand(), "Tollhouse"),
      this.list,
      h("div", { class: "foot" },
        h("div", { class: "who" },
          h("strong", { class: "cut" }, whose ?? who.name),
          h("span", { class: "soft cut" }, who.consumer ? "own traffic only" : who.workspace ? "this workspace only" : who.tokens ? "signed in" : "no token is needed")),
        h("div", { class: "row" }, themeButton(),
          who.tokens && h("button", { class: "button plain", type: "button", onclick: () => { leave(); onLeave(); } }, icon("out"), "Sign out"),
          h("span", { class: "faint number", style: { "margin-left": "auto" } }, who.version))));
    this.element = [
      h("a", { class: "skip button", href: "#content", onclick: (event) => { event.preventDefault(); this.title.focus(); } }, "To the content"),
      this.progress, this.veil, this.side,
      h("div", { class: "main" }, h("header", { class: "top" }, this.menu, this.title, this.tools), this.content),
    ];
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") this.#open(false); });
  }

  #open(open) {
    this.side.classList.toggle("open", open);
    this.veil.classList.toggle("hidden", !open);
    this.menu.setAttribute("aria-expanded", String(open));
    if (open) this.list.querySelector("a").focus();
  }

  /** Marks the page in the navigation; its links keep the span of time. */
  navigate() {
    const { page, params } = current();
    const seen = PAGES.filter(([, , , may]) => may());
    const at = { service: "services", consumer: "consumers", route: "services", trace: "traces" }[page] ?? page;
    const groups = [...new Set(seen.map(([, , group]) => group))];
    replace(this.list, groups.map((group) => [
      h("div", { class: "group" }, group),
      h("ul", {}, seen.filter((one) => one[2] === group).map(([name, title]) =>
        h("li", {}, h("a", { href: link(name, { params: keep(params) }), "aria-current": name === at ? "page" : null, onclick: () => this.#open(false) }, icon(name), title)))),
    ]));
  }

  head(title, tools = []) {
    const texts = [title].flat();
    document.title = `${texts.map((part) => part.textContent ?? part).join(" ")} · Tollhouse`;
    replace(this.title, texts);
    replace(this.tools, tools);
  }

  busy(busy) {
    this.progress.classList.toggle("on", busy);
  }
}
