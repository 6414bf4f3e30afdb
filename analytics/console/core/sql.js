// The statements of the pages are put together here, with every text as a literal: what a panel shows is what its link to
// the Query page asks.

/** What is an error: the service failed, whatever the client saw. The same words as in the views. */
export const FAILED =
  "status >= 500 OR outcome IN ('circuit_open', 'no_healthy_upstream', 'connect_failed', 'upstream_reset', 'upstream_timeout', 'gateway_error', 'overloaded')";

/** A text as a literal of SQL. */
export function text(value) {
  return `'${String(value).replaceAll("'", "''")}'`;
}

/** A moment as a literal. */
export function moment(milliseconds) {
  return `'${new Date(milliseconds).toISOString()}'`;
}

/** Conditions that a URL may ask for, by the name of the parameter. */
const FILTERS = {
  service: (value) => (value === "none" ? "service IS NULL" : `service = ${text(value)}`),
  route: (value) => (value === "none" ? "route IS NULL" : `route = ${text(value)}`),
  consumer: (value) => (value === "anonymous" ? "consumer IS NULL" : `consumer = ${text(value)}`),
};

export const FILTER_NAMES = Object.keys(FILTERS);

/** The conditions of a span of time and of the filters of a page. */
export function conditions(span, filters = {}) {
  const all = [`time >= ${moment(span.from)}`, `time < ${moment(span.until)}`];
  for (const [name, condition] of Object.entries(FILTERS)) {
    if (filters[name]) all.push(condition(filters[name]));
  }
  return all.join(" AND ");
}

/** What is counted of a group of requests. */
const SUMS = `count(*) AS requests,
    count(*) FILTER (WHERE ${FAILED}) AS errors,
    sum(request_bytes) AS request_bytes, sum(response_bytes) AS response_bytes,
    latency_sketch(duration_us) AS latency`;

const MEASURES = `requests, errors, errors / CAST(nullif(requests, 0) AS DOUBLE) AS error_rate, request_bytes, response_bytes,
  sketch_percentile(latency, 0.5) / 1000.0 AS p50_ms,
  sketch_percentile(latency, 0.95) / 1000.0 AS p95_ms,
  sketch_percentile(latency, 0.99) / 1000.0 AS p99_ms`;

/** The measures of all requests that meet the conditions. */
export function total(where) {
  return `SELECT ${MEASURES}
FROM (
  SELECT ${SUMS}
  FROM requests
  WHERE ${where}
)`;
}

/** The same by steps of time. */
export function series(where, step_s) {
  return `SELECT time, ${MEASURES}
FROM (
  SELECT date_bin(INTERVAL '${step_s} seconds', time) AS time, ${SUMS}
  FROM requests
  WHERE ${where}
  GROUP BY 1
)
ORDER BY time`;
}

/** The names of things that requests are of, and what stands for nothing. */
const NAMES = {
  service: "coalesce(service, 'none')",
  route: "coalesce(route, 'none')",
  consumer: "coalesce(consumer, 'anonymous')",
};

const named = (name) => `${NAMES[name]} AS ${name}`;

/** The same by names, as in ["service", "route"]. */
export function by(names, where, limit) {
  const keys = names.map(named).join(", ");
  const numbers = names.map((_, index) => index + 1).join(", ");
  return `SELECT ${names.join(", ")}, ${MEASURES}
FROM (
  SELECT ${keys}, ${SUMS}
  FROM requests
  WHERE ${where}
  GROUP BY ${numbers}
)
ORDER BY requests DESC, ${names.join(", ")}${limit ? `\nLIMIT ${limit}` : ""}`;
}

/** The names with the most requests: of thousands of names, percentiles are asked for those alone. */
export function busiest(name, where, limit) {
  return `SELECT ${named(name)}, count(*) AS requests
FROM requests
WHERE ${where}
GROUP BY 1
ORDER BY requests DESC, ${name}
LIMIT ${limit}`;
}

/** The condition that a name is one of those of some rows. */
export function among(name, rows) {
  return rows.length ? ` AND ${NAMES[name]} IN (${rows.map((row) => text(row[name])).join(", ")})` : "";
}

/** Requests and errors by name and step: what small charts are drawn of. */
export function sparks(name, where, step_s) {
  return `SELECT ${named(name)}, date_bin(INTERVAL '${step_s} seconds', time) AS time,
  count(*) AS requests, count(*) FILTER (WHERE ${FAILED}) AS errors
FROM requests
WHERE ${where}
GROUP BY 1, 2
ORDER BY 1, 2`;
}
