// Every view is a link: `#/page/argument?name=value`.

/** What the address says: { page, args, params }. */
export function current() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [page, ...args] = path.split("/").filter(Boolean).map(decode);
  return { page: page ?? "overview", args, params: Object.fromEntries(new URLSearchParams(query)) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a view. */
export function link(page, { args = [], params = {} } = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(given).toString();
  return `#/${[page, ...args].map(encodeURIComponent).join("/")}${query ? `?${query}` : ""}`;
}

/** The present view with other parameters; null takes one away. */
export function changed(params) {
  const now = current();
  return link(now.page, { args: now.args, params: { ...now.params, ...params } });
}

export function change(params, { replace = false } = {}) {
  const next = changed(params);
  if (next === location.hash) return;
  if (replace) {
    history.replaceState(null, "", next);
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = next;
  }
}

export function go(page, to) {
  location.hash = link(page, to);
}
