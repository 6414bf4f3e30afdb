// Starts the console: who looks, the frame, and a page for each address.

import { h, replace } from "./core/dom.js";
import { paceOf, resolve } from "./core/range.js";
import { current } from "./core/router.js";
import { enter } from "./core/session.js";
import { login } from "./pages/login.js";
import { newPage } from "./ui/chart.js";
import { nothing, refusal } from "./ui/panel.js";
import { Shell, mayOpen } from "./ui/shell.js";
import { timePicker } from "./ui/timepicker.js";

/** Pages by their names in an address. */
const PAGES = {
  overview: () => import("./pages/overview.js"),
  services: () => import("./pages/services.js"),
  service: () => import("./pages/service.js"),
  route: () => import("./pages/service.js"),
  consumers: () => import("./pages/consumers.js"),
  consumer: () => import("./pages/service.js"),
  map: () => import("./pages/map.js"),
  live: () => import("./pages/live.js"),
  traces: () => import("./pages/traces.js"),
  trace: () => import("./pages/trace.js"),
  query: () => import("./pages/query.js"),
  configuration: () => import("./pages/configuration.js"),
  system: () => import("./pages/system.js"),
};

const root = document.getElementById("app");
let shell = null;
let page = null;

// Whether pages follow the clock, here and after the next visit.
const following = {
  get on() {
    return localStorage.getItem("tollhouse.follow") !== "no";
  },
  toggle() {
    localStorage.setItem("tollhouse.follow", this.on ? "no" : "yes");
    page?.wait();
    if (this.on) page?.refresh();
  },
};

/** For who drives the console: counts how often all that a page asked was answered. */
function settle() {
  const { dataset } = document.documentElement;
  dataset.settled = String(Number(dataset.settled ?? 0) + 1);
}

/** A page that is open: asks anew when its parameters change, and by the clock. */
class Open {
  constructor(at, module) {
    this.at = at;
    this.params = at.params;
    this.abort = new AbortController();
    const open = this;
    const context = {
      args: at.args,
      page: at.page,
      params: () => this.params,
      span: (points) => resolve(this.params, points),
      /** Ends what is asked now, when its answer is not wanted any more. */
      get signal() {
        return open.abort.signal;
      },
      refresh: () => this.refresh(),
    };
    if (module.ranged !== false) this.picker = timePicker(following);
    newPage();
    this.view = module.open(context);
    shell.head(this.view.title, [this.view.tools, this.picker?.element].flat().filter(Boolean));
    shell.content.className = `content ${this.view.wide ? "full" : ""}`;
    replace(shell.content, this.view.element);
  }

  isOf(at) {
    return at.page === this.at.page && at.args.join("/") === this.at.args.join("/");
  }

  update(at) {
    this.params = at.params;
    this.picker?.draw();
    this.view.changed?.();
    this.abort.abort();
    return this.refresh();
  }

  async refresh() {
    clearTimeout(this.timer);
    if (this.running) {
      this.again = true;
      return;
    }
    this.running = true;
    shell.busy(true);
    do {
      this.again = false;
      this.abort = new AbortController();
      await this.view.refresh?.();
    } while (this.again && !this.closed);
    this.running = false;
    shell?.busy(false);
    if (this.closed) return;
    settle();
    this.wait();
  }

  // The next time by the clock. A tab that nobody sees asks nothing.
  wait() {
    clearTimeout(this.timer);
    if (!this.picker || !following.on) return;
    const span = resolve(this.params);
    if (!span.relative) return;
    this.timer = setTimeout(() => (document.hidden ? this.wait() : this.refresh()), paceOf(span));
  }

  close() {
    clearTimeout(this.timer);
    this.closed = true;
    this.abort.abort();
    this.picker?.end();
    this.view.close?.();
  }
}

async function show() {
  const at = current();
  shell.navigate();
  if (page?.isOf(at)) return page.update(at);
  const first = page === null;
  page?.close();
  page = null;
  const load = PAGES[at.page];
  if (!load || !mayOpen(at.page)) {
    shell.head("Not here");
    settle();
    replace(shell.content, nothing("There is no such page", load ? "This token does not show it." : "The address leads nowhere."));
    return;
  }
  try {
    const module = await load();
    if (location.hash !== "" && !sameAddress(at)) return;
    page = new Open(at, module);
  } catch (error) {
    console.error(error);
    shell.head("Not here");
    replace(shell.content, refusal(new Error("The page could not be loaded."), () => location.reload()));
    return;
  }
  window.scrollTo(0, 0);
  if (!first) shell.title.focus({ preventScroll: true });
  await page.refresh();
}

function sameAddress(at) {
  const now = current();
  return now.page === at.page && now.args.join("/") === at.args.join("/");
}

function door() {
  page?.close();
  page = null;
  shell = null;
  const form = login(begin);
  document.title = "Sign in · Tollhouse";
  replace(root, form.element);
  form.focus();
}

function begin() {
  shell = new Shell(door);
  replace(root, shell.element);
  return show();
}

window.addEventListener("hashchange", () => shell && show());
document.addEventListener("tollhouse:left", () => shell && door());
document.addEventListener("visibilitychange", () => { if (!document.hidden && following.on && page?.picker && resolve(page.params).relative) page.refresh(); });

try {
  if (await enter()) await begin();
  else door();
} catch (error) {
  console.error(error);
  replace(root, h("main", { class: "login" }, refusal(new Error("The service does not answer."), () => location.reload())));
}
