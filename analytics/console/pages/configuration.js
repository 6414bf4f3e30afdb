// Configuration: the entities in force, how targets are, and what changed when. It is read only.

import { ask } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { ago, clock, day, lasting, line, percent, when, whole } from "../core/format.js";
import { change, changed, link } from "../core/router.js";
import { drawer } from "../ui/drawer.js";
import { search } from "../ui/filter.js";
import { Panel } from "../ui/panel.js";
import { Table } from "../ui/table.js";

export const ranged = false;

const PACE_MS = 5_000;
const STATES = { healthy: "good", unhealthy: "bad", ejected: "bad", dns_error: "bad", dns_pending: "warn", unchecked: "" };
const CHANGES = { added: "good", changed: "accent", removed: "bad" };

const STATUS = "SELECT CAST(version AS VARCHAR) AS version, since, attempts, last_attempt, successful, problems, needs_restart\nFROM config.status";
const HEALTH = `SELECT coalesce(upstream, service) AS upstream, target, address, state, since, weight, active, connections, requests, failures,
  last_failure, last_failure_by, last_failure_at, ejected_until, node
FROM system.upstreams
ORDER BY 1, 2, 3`;
const CIRCUITS = "SELECT *\nFROM system.circuits\nLIMIT 500";
const HISTORY = `SELECT CAST(version AS VARCHAR) AS version, at, kind, name, change, fields
FROM config.changes
ORDER BY at DESC, kind, name
LIMIT 500`;
const VERSIONS = `SELECT CAST(version AS VARCHAR) AS version, since, until, source, services, routes, upstreams, targets, consumers, plugins, certificates
FROM config.versions
ORDER BY since DESC
LIMIT 100`;
const all = (table, order) => `SELECT *\nFROM config.${table}\nORDER BY ${order}`;

const texts = (list, none = "any") => (list?.length ? list.map((text) => h("code", { class: "word" }, text)) : h("span", { class: "faint" }, none));
const truth = (value) => (value === false ? h("span", { class: "tag warn" }, "off") : h("span", { class: "tag good" }, "on"));

/** All fields of an entity, those of `settings` among them. */
function fieldsOf({ settings, ...fields }) {
  return { ...fields, ...(settings ? JSON.parse(settings) : {}) };
}

function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function show(kind, name, row) {
  const fields = Object.entries(fieldsOf(row)).filter(([, value]) => value !== null && value !== undefined && !(Array.isArray(value) && !value.length));
  const shown = (value) => {
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    return /^[[{]/.test(text) ? h("pre", { class: "json" }, indented(text)) : text;
  };
  drawer(`${kind} ${name}`, h("dl", { class: "facts" }, fields.map(([field, value]) => [h("dt", {}, field), h("dd", {}, shown(value))])));
}

const opener = (kind, key = "name") => (row) =>
  h("button", { class: "row-open", type: "button", onclick: () => show(kind, row[key] ?? row.id ?? "", row) }, row[key] ?? row.id ?? h("span", { class: "faint" }, "no name"));

function tables() {
  const health = (row) => h("span", { class: `tag ${STATES[row.state] ?? ""}` }, row.state);
  return {
    services: [{
      title: "Services", sql: all("services", "name"), empty: "No services", columns: [
        { key: "name", label: "Service", cell: opener("Service") },
        { key: "host", label: "Where to", cell: (row) => h("code", {}, `${row.protocol}://${row.host}${row.port ? `:${row.port}` : ""}${row.path ?? ""}`) },
        { key: "retries", label: "Retries", number: true },
        { key: "connect_timeout_ms", label: "Connect", number: true, cell: (row) => timeout(row.connect_timeout_ms) },
        { key: "write_timeout_ms", label: "Write", number: true, cell: (row) => timeout(row.write_timeout_ms) },
        { key: "read_timeout_ms", label: "Read", number: true, cell: (row) => timeout(row.read_timeout_ms) },
        { key: "enabled", label: "State", cell: (row) => truth(row.enabled) },
        { key: "tags", label: "Tags", fixed: true, cell: (row) => texts(row.tags, "–") },
        { key: "traffic", label: "", heard: "Traffic", fixed: true, cell: (row) => (row.name ?? "") && h("a", { href: link("service", { args: [row.name] }) }, "Traffic") },
      ],
    }, {
      title: "Routes", sql: all("routes", "service, name"), empty: "No routes", columns: [
        { key: "name", label: "Route", cell: opener("Route") },
        { key: "service", label: "Service", cell: (row) => row.service ?? h("span", { class: "faint" }, "none") },
        { key: "protocols", label: "Protocols", fixed: true, cell: (row) => texts(row.protocols) },
        { key: "methods", label: "Methods", fixed: true, cell: (row) => texts(row.methods) },
        { key: "hosts", label: "Hosts", fixed: true, cell: (row) => texts(row.hosts) },
        { key: "paths", label: "Paths", fixed: true, cell: (row) => texts(row.paths) },
        { key: "traffic", label: "", heard: "Traffic", fixed: true, cell: (row) => (row.name ?? "") && h("a", { href: link("route", { args: [row.name] }) }, "Traffic") },
      ],
    }],
    upstreams: [{
      title: "Health of targets", note: "as the gateway sees them", sql: HEALTH, empty: "No target was asked yet", columns: [
        { key: "upstream", label: "Upstream or service" },
        { key: "target", label: "Target", cell: (row) => h("code", {}, row.target) },
        { key: "address", label: "Address", cell: (row) => (row.address ? h("code", {}, row.address) : h("span", { class: "faint" }, "none")) },
        { key: "state", label: "State", cell: health },
        { key: "since", label: "Since", cell: (row) => ago(row.since) },
        { key: "weight", label: "Weight", number: true },
        { key: "active", label: "Under way", number: true }, { key: "connections", label: "Connections", number: true },
        { key: "requests", label: "Requests", number: true, cell: (row) => whole(row.requests) },
        { key: "failures", label: "Failures", number: true, cell: (row) => (row.failures ? `${whole(row.failures)} (${line(percent(row.failures / Math.max(1, row.requests)))})` : "0") },
        { key: "last_failure", label: "Last failure", cell: (row) => (row.last_failure ? h("span", {}, `${row.last_failure} `, h("span", { class: "faint" }, ago(row.last_failure_at))) : h("span", { class: "faint" }, "none")) },
      ],
    }, {
      title: "Upstreams", sql: all("upstreams", "name"), empty: "No upstreams: services name their hosts themselves", columns: [
        { key: "name", label: "Upstream", cell: opener("Upstream") },
        { key: "algorithm", label: "Algorithm" }, { key: "hash_on", label: "Hash on" }, { key: "tags", label: "Tags", fixed: true, cell: (row) => texts(row.tags, "–") },
      ],
    }, {
      title: "Targets", sql: all("targets", "upstream, target"), empty: "No targets", columns: [
        { key: "upstream", label: "Upstream" }, { key: "target", label: "Target", cell: opener("Target", "target") }, { key: "weight", label: "Weight", number: true },
        { key: "failover", label: "Only when others fail", cell: (row) => (row.failover ? "yes" : "no") },
      ],
    }, {
      title: "Circuit breakers", sql: CIRCUITS, empty: "No circuit breaker is set", columns: null,
    }],
    consumers: [{
      title: "Consumers", sql: all("consumers", "username"), empty: "No consumers", columns: [
        { key: "username", label: "Consumer", cell: opener("Consumer", "username") },
        { key: "custom_id", label: "Custom id" }, { key: "credentials", label: "Credentials", number: true }, { key: "tags", label: "Tags", fixed: true, cell: (row) => texts(row.tags, "–") },
        { key: "traffic", label: "", heard: "Traffic", fixed: true, cell: (row) => (row.username ?? "") && h("a", { href: link("consumer", { args: [row.username] }) }, "Traffic") },
      ],
    }, {
      title: "Credentials", note: "without their secrets", sql: all("credentials", "consumer, id"), empty: "No credentials", columns: [
        { key: "id", label: "Credential", cell: (row) => h("code", {}, row.id) }, { key: "consumer", label: "Consumer" }, { key: "kind", label: "Kind" },
      ],
    }],
    plugins: [{
      title: "Plugins", sql: all("plugins", "name"), empty: "No plugins", columns: [
        { key: "name", label: "Plugin", cell: opener("Plugin") },
        { key: "on", label: "On", fixed: true, cell: (row) => (row.route ? `route ${row.route}` : row.service ? `service ${row.service}` : row.consumer ? `consumer ${row.consumer}` : "everything") },
        { key: "enabled", label: "State", cell: (row) => truth(row.enabled) },
        { key: "config", label: "Settings", fixed: true, cell: (row) => h("code", { class: "cut statement", title: row.config }, row.config ?? "") },
      ],
    }, {
      title: "Certificates", sql: all("certificates", "id"), empty: "No certificates", columns: [
        { key: "id", label: "Certificate", cell: opener("Certificate", "id") }, { key: "snis", label: "Names", fixed: true, cell: (row) => texts(row.snis, "–") }, { key: "cert_file", label: "File", cell: (row) => h("code", {}, row.cert_file ?? "") },
      ],
    }],
    history: [{
      title: "What changed when", sql: HISTORY, empty: "Nothing has changed", more: "Changes are listed from the second configuration on.", columns: [
        { key: "at", label: "When", class: "nowrap", cell: (row) => `${day(row.at)} ${clock(row.at)}` },
        { key: "change", label: "Change", cell: (row) => h("span", { class: `tag ${CHANGES[row.change] ?? ""}` }, row.change) },
        { key: "kind", label: "Kind" }, { key: "name", label: "Name", cell: (row) => h("strong", {}, row.name) },
        { key: "fields", label: "Fields", fixed: true, cell: (row) => texts(row.fields, "–") },
        { key: "version", label: "Version", cell: (row) => h("code", {}, row.version) },
      ],
    }, {
      title: "Configurations", note: "that were in force", sql: VERSIONS, empty: "None", columns: [
        { key: "since", label: "Since", class: "nowrap", cell: (row) => `${day(row.since)} ${clock(row.since)}` },
        { key: "until", label: "For", cell: (row) => (row.until ? lasting(Math.max(1, Math.round((Date.parse(row.until) - Date.parse(row.since)) / 1000))) : h("span", { class: "tag good" }, "in force")) },
        ...["services", "routes", "upstreams", "targets", "consumers", "plugins"].map((key) => ({ key, label: key[0].toUpperCase() + key.slice(1), number: true })),
        { key: "source", label: "Source", cell: (row) => h("code", { class: "cut", title: row.source }, row.source) },
        { key: "version", label: "Version", cell: (row) => h("code", {}, row.version) },
        { key: "compare", label: "", heard: "Compare", fixed: true, cell: (row) => (row.before ? h("a", { href: link("query", { params: { sql: `SELECT *\nFROM compare_versions(${row.version}, ${row.before})\nORDER BY requests DESC` } }) }, "Compare with before") : "") },
      ],
    }],
  };
}

function timeout(value) {
  return value === null || value === undefined ? "–" : value % 1000 === 0 ? lasting(value / 1000) : `${value} ms`;
}

const TABS = [["services", "Services and routes"], ["upstreams", "Upstreams and health"], ["consumers", "Consumers"], ["plugins", "Plugins and certificates"], ["history", "History"]];

export function open(context) {
  const parts = Object.fromEntries(Object.entries(tables()).map(([name, list]) => [name, list.map((one) => ({ ...one, panel: new Panel(one.title, { note: one.note }), table: one.columns && new Table(one.columns, { label: one.title }) }))]));
  const of = () => (context.params().of in parts ? context.params().of : "services");
  const tabs = h("nav", { class: "tabs", "aria-label": "What is listed" });
  const place = h("div", { class: "stack" });
  const state = h("div", { class: "tiles short" });
  let timer;

  function draw() {
    replace(tabs, TABS.map(([name, title]) => h("a", { href: changed({ of: name }), "aria-current": String(name === of()), onclick: (event) => { event.preventDefault(); change({ of: name }); } }, title)));
    replace(place, parts[of()].map((part) => part.panel.element));
  }

  async function status(signal) {
    const tile = (name, value, note) => h("div", { class: "tile" }, h("div", { class: "name" }, name), h("div", { class: "value small" }, value), h("div", { class: "note", title: note }, note));
    try {
      const [now] = await ask(STATUS, { signal });
      if (!now) {
        replace(state, tile("In force", "–", "no gateway has run on this data folder"));
        return;
      }
      replace(state,
        tile("In force since", when(now.since), ago(now.since)),
        tile("Version", h("span", { class: "mono" }, now.version), `${whole(now.attempts)} reloads`),
        tile("Last attempt", now.successful ? h("span", { class: "good" }, "taken") : h("span", { class: "bad" }, "refused"), now.successful ? when(now.last_attempt) : now.problems),
        tile("Waits for a restart", now.needs_restart || "nothing", now.needs_restart ? "these are read at the start only" : "all of it is in force"));
    } catch (error) {
      if (error.name !== "AbortError") replace(state, tile("In force", "–", error.message));
    }
  }

  draw();
  return {
    title: "Configuration",
    tools: search("find", context.params(), { label: "Find an entity", placeholder: "Find…" }),
    element: [state, tabs, place],
    changed: draw,
    close: () => clearTimeout(timer),
    async refresh() {
      clearTimeout(timer);
      const { signal } = context;
      const wanted = context.params().find?.toLowerCase();
      await Promise.all([status(signal), ...parts[of()].map((part) => part.panel.load(part.sql, (rows) => {
        rows.forEach((row, index) => { if (part.sql === VERSIONS) row.before = rows[index + 1]?.version; });
        const found = wanted ? rows.filter((row) => JSON.stringify(row).toLowerCase().includes(wanted)) : rows;
        if (!part.note) part.panel.note.textContent = found.length ? `${found.length}` : "";
        if (!found.length) return null;
        part.table ??= new Table(Object.keys(found[0]).map((key) => ({ key, label: key, number: typeof found[0][key] === "number" })), { label: part.title });
        return part.table.update(found);
      }, { signal, empty: wanted ? "None has this in it" : part.empty, more: wanted ? null : part.more }))]);
      if (!signal.aborted) timer = setTimeout(() => (document.hidden ? null : context.refresh()), PACE_MS);
    },
  };
}
