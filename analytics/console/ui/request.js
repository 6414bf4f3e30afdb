// All that is known of one request, in groups.

import { h } from "../core/dom.js";
import { bytes, line, ms } from "../core/format.js";
import { link } from "../core/router.js";
import { PHASES, segments } from "./phases.js";

const GROUPS = {
  Request: ["time", "method", "scheme", "host", "path", "query", "protocol", "request_bytes", "content_type", "user_agent"],
  Caller: ["consumer", "consumer_groups", "credential_id", "auth_method", "source_service", "client_ip", "peer_ip", "forwarded_for", "tls_version", "tls_sni", "workspace"],
  Answer: ["status", "outcome", "error", "source", "response_bytes", "grpc_status", "cache_status", "limit_policy", "limit_remaining"],
  Way: ["node", "listener", "role", "service", "service_version", "route", "upstream", "upstream_addr", "upstream_status", "config_version"],
  Ids: ["request_id", "trace_id", "span_id", "parent_span_id", "upstream_span_id"],
};

function shown(name, value) {
  if (name === "trace_id") return h("a", { class: "mono", href: link("trace", { args: [value] }) }, value);
  if (["service", "route", "consumer"].includes(name)) return h("a", { href: link(name, { args: [value] }) }, value);
  if (name.endsWith("_bytes")) return line(bytes(value));
  if (name.endsWith("_id") || name === "config_version") return h("span", { class: "mono" }, value);
  return value;
}

function facts(row, names) {
  const known = names.filter((name) => row[name] !== null && row[name] !== undefined && row[name] !== "");
  return known.length > 0 && h("dl", { class: "facts" }, known.map((name) => [h("dt", {}, name), h("dd", {}, shown(name, row[name]))]));
}

/** Phases with their times, and a bar for each. */
function phases(row) {
  const parts = segments(row);
  const most = Math.max(1, row.duration_us);
  return h("div", { class: "phases" }, parts.map((part) => h("div", { class: "phase-line" },
    h("span", {}, PHASES[part.phase]),
    h("span", { class: "phase-lane", "aria-hidden": "true" }, h("i", { class: `phase ${part.phase}`, style: { left: `${(part.from / most) * 100}%`, width: `max(1px, ${(part.us / most) * 100}%)` } })),
    h("span", { class: "number" }, line(ms(part.us / 1000))))));
}

function attempts(row) {
  return row.attempts?.length > 0 && h("ol", { class: "attempts" }, row.attempts.map((attempt) =>
    h("li", {}, h("span", { class: "mono" }, attempt.addr ?? "no address"), h("span", { class: attempt.error ? "bad" : "soft" }, attempt.error ?? `status ${attempt.status}`),
      h("span", { class: "soft" }, attempt.connection_reused ? "kept connection" : "new connection"), h("span", { class: "number" }, line(ms(attempt.duration_us / 1000))))));
}

/** A node with everything about a request. */
export function details(row) {
  const section = (title, body) => body && h("section", {}, h("h3", {}, title), body);
  const extra = Object.entries(row.extra ?? {});
  return h("div", { class: "details" },
    section(`Time: ${line(ms(row.duration_us / 1000))}`, phases(row)),
    section("Attempts", attempts(row)),
    Object.entries(GROUPS).map(([title, names]) => section(title, facts(row, names))),
    extra.length > 0 && section("Extra", h("dl", { class: "facts" }, extra.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))));
}
