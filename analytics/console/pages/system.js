// System: the books, files, queries, and how many names there are.

import { h } from "../core/dom.js";
import { ago, bytes, line, ms, when, whole } from "../core/format.js";
import { authorization } from "../core/session.js";
import { toast } from "../core/dom.js";
import { Panel, grid } from "../ui/panel.js";
import { Table, share } from "../ui/table.js";

export const ranged = false;

const KINDS = { hot: "Hot rows", parquet: "Requests", rollup_1m: "Roll-ups by the minute", rollup_1h: "Roll-ups by the hour", bucket: "Bucket" };
const PACE_MS = 5_000;

const LEDGER = "SELECT node, sink, produced, recovered, stored, dropped, in_flight, reasons, at\nFROM system.ledger\nORDER BY node, sink";
const FILES = `SELECT kind, place, count(*) AS files, sum(rows) AS rows, sum(bytes) AS bytes, min(time_min) AS since, max(time_max) AS until,
  count(*) FILTER (WHERE status <> 'ok') AS damaged
FROM system.files
GROUP BY 1, 2
ORDER BY bytes DESC`;
const BAD = "SELECT path, kind, status\nFROM system.files\nWHERE status <> 'ok'\nORDER BY path\nLIMIT 50";
const QUERIES = "SELECT id, started, user, protocol, status, duration_us, rows, bytes, client, error, sql\nFROM system.queries\nORDER BY id DESC\nLIMIT 200";
const NAMES = `SELECT count(DISTINCT service) AS services, count(DISTINCT route) AS routes, count(DISTINCT consumer) AS consumers,
  count(DISTINCT source_service) AS callers, count(*) AS groups,
  coalesce(sum(requests) FILTER (WHERE service = '__overflow__'), 0) AS overflowed, sum(requests) AS requests
FROM traffic_1m
WHERE time >= now() - INTERVAL '1 hour'`;
const CONNECTIONS = "SELECT node, kind, reason, count\nFROM system.connections\nORDER BY count DESC";
const ERASURES = "SELECT at, done_at, rows, files, set_aside\nFROM system.erasures\nORDER BY at DESC\nLIMIT 50";
const SETTINGS = "SELECT name, value\nFROM system.settings\nORDER BY name";

const number = (key, label) => ({ key, label, number: true, cell: (row) => whole(row[key]) });

export function open(context) {
  let timer;
  const refresh = () => view.refresh();
  const ledger = new Panel("Ledger", { note: "what became of each event, by adapter" });
  const balanced = (row) => row.produced + row.recovered === row.stored + row.dropped + row.in_flight;
  const ledgerTable = new Table([
    { key: "node", label: "Node" }, { key: "sink", label: "Adapter" },
    number("produced", "Produced"), number("recovered", "Recovered"), number("stored", "Stored"),
    { key: "dropped", label: "Dropped", number: true, cell: (row) => (row.dropped ? h("span", { class: "tag bad", title: row.reasons }, whole(row.dropped)) : "0") },
    number("in_flight", "In flight"),
    { key: "balance", label: "Books", fixed: true, cell: (row) => (balanced(row) ? h("span", { class: "tag good" }, "balance") : h("span", { class: "tag bad" }, "do not balance")) },
    { key: "at", label: "As of", cell: (row) => ago(row.at) },
  ], { label: "Ledger" });
  const files = new Panel("Files", { span: "span-7", note: "what tables are made of" });
  const filesTable = new Table([
    { key: "kind", label: "Kind", cell: (row) => KINDS[row.kind] ?? row.kind }, { key: "place", label: "Place" },
    number("files", "Files"), number("rows", "Rows"), { key: "bytes", label: "Size", number: true, cell: (row) => line(bytes(row.bytes)) },
    { key: "since", label: "Since", cell: (row) => when(row.since) },
    { key: "damaged", label: "Left out", number: true, cell: (row) => (row.damaged ? h("span", { class: "tag bad" }, whole(row.damaged)) : "0") },
  ], { label: "Files by kind" });
  const names = new Panel("Cardinality", { span: "span-5", note: "names in the last hour" });
  const bad = new Panel("Damaged files");
  const badTable = new Table([{ key: "path", label: "File", cell: (row) => h("span", { class: "mono" }, row.path) }, { key: "kind", label: "Kind" }, { key: "status", label: "What is wrong" }], { label: "Damaged files" });
  const queries = new Panel("Queries", { note: "the latest, of all doors" });
  const end = async (row) => {
    const reply = await fetch(`/queries/${row.id}`, { method: "DELETE", headers: authorization() });
    toast(reply.ok ? `Query ${row.id} is cancelled` : `Query ${row.id} has ended`);
    refresh();
  };
  const status = { ok: "good", running: "accent", failed: "bad", cancelled: "warn" };
  const queriesTable = new Table([
    { key: "id", label: "Id", number: true },
    { key: "started", label: "Started", class: "nowrap", cell: (row) => when(row.started) },
    { key: "user", label: "User" }, { key: "protocol", label: "Door" },
    { key: "status", label: "Status", cell: (row) => h("span", { class: `tag ${status[row.status] ?? ""}`, title: row.error }, row.status) },
    { key: "duration_us", label: "Took", number: true, cell: (row) => line(ms(row.duration_us === null ? null : row.duration_us / 1000)) },
    number("rows", "Rows"),
    { key: "sql", label: "Statement", fixed: true, cell: (row) => h("code", { class: "cut statement", title: row.sql }, row.sql) },
    { key: "end", label: "", heard: "Cancel", fixed: true, cell: (row) => row.status === "running" && h("button", { class: "button small", type: "button", "aria-label": `Cancel query ${row.id}`, onclick: () => end(row) }, "Cancel") || "" },
  ], { label: "Queries", shown: 15 });
  const connections = new Panel("Connections of clients", { span: "span-6" });
  let most = 1;
  const connectionsTable = new Table([
    { key: "node", label: "Node" }, { key: "kind", label: "Kind" }, { key: "reason", label: "Bound", cell: (row) => row.reason || h("span", { class: "faint" }, "–") },
    { key: "count", label: "Count", number: true, cell: (row) => share(whole(row.count), row.count / most) },
  ], { label: "Connections of clients", shown: 12 });
  const erasures = new Panel("Orders to erase", { span: "span-6" });
  const erasuresTable = new Table([
    { key: "at", label: "Given", cell: (row) => when(row.at) }, { key: "done_at", label: "Done", cell: (row) => (row.done_at ? when(row.done_at) : h("span", { class: "tag accent" }, "waiting")) },
    number("rows", "Rows"), number("files", "Files"), number("set_aside", "Set aside"),
  ], { label: "Orders to erase" });
  const settings = new Panel("Settings of the analytics");
  const settingsTable = new Table([{ key: "name", label: "Name", cell: (row) => h("code", {}, row.name) }, { key: "value", label: "Value", cell: (row) => h("code", { class: "cut statement", title: row.value }, row.value) }], { label: "Settings", shown: 12 });
  const badPlace = h("div", { class: "hidden" }, bad.element);

  const view = {
    title: "System",
    element: [ledger.element, badPlace, grid(files.element, names.element), queries.element, grid(connections.element, erasures.element), settings.element],
    close: () => clearTimeout(timer),
    async refresh() {
      clearTimeout(timer);
      const { signal } = context;
      const rows = (panel, sql, table, options = {}) => panel.load(sql, (found) => (found.length ? table.update(found) : null), { signal, ...options });
      await Promise.all([
        rows(ledger, LEDGER, ledgerTable, { empty: "No books yet" }),
        rows(files, FILES, filesTable, { empty: "No files yet" }),
        rows(bad, BAD, badTable, { empty: "None" }).then((found) => badPlace.classList.toggle("hidden", !found?.length)),
        names.load(NAMES, ([row]) => h("dl", { class: "facts padded" }, [
          ["Services", whole(row.services)], ["Routes", whole(row.routes)], ["Consumers", whole(row.consumers)], ["Calling services", whole(row.callers)],
          ["Groups of roll-ups", `${whole(row.groups)} of ${whole(row.requests ?? 0)} requests`],
          ["Beyond groups_max", row.overflowed ? h("span", { class: "tag warn" }, `${whole(row.overflowed)} requests`) : "none"],
        ].map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])), { signal }),
        connections.load(CONNECTIONS, (found) => {
          most = Math.max(1, ...found.map((row) => row.count));
          return found.length ? connectionsTable.update(found) : null;
        }, { signal, empty: "None yet" }),
        rows(erasures, ERASURES, erasuresTable, { empty: "None was given" }),
        rows(settings, SETTINGS, settingsTable),
      ]);
      // Last, so that it does not tell of the questions above.
      await rows(queries, QUERIES, queriesTable);
      if (!signal.aborted) timer = setTimeout(() => (document.hidden ? (timer = setTimeout(refresh, PACE_MS)) : refresh()), PACE_MS);
    },
  };
  return view;
}
