// The phases of a request's time, as the gateway measured them.

/** Names of phases, in the order in which they come. */
export const PHASES = {
  gateway: "Gateway",
  auth: "Authentication",
  limit: "Limits",
  cache: "Cache",
  queue: "Wait for a connection",
  dns: "DNS",
  connect: "Connect",
  tls: "TLS",
  failed: "Failed attempt",
  upstream: "Wait for the service",
  body: "Response body",
};

/** The parts of a request's bar: { phase, from, us } in microseconds from its beginning. */
export function segments(row) {
  const parts = [];
  const put = (phase, from, us) => us > 0 && parts.push({ phase, from, us });
  const attempts = row.attempts ?? [];
  const begun = attempts.length ? attempts[0].start_us : row.first_byte_us ?? row.duration_us;
  let at = 0;
  for (const [phase, us] of [["auth", row.auth_us], ["limit", row.limit_us], ["cache", row.cache_us]]) {
    const taken = Math.min(us ?? 0, begun - at);
    put(phase, at, taken);
    at += Math.max(0, taken);
  }
  put("gateway", at, begun - at);
  attempts.forEach((attempt, index) => {
    const end = attempt.start_us + attempt.duration_us;
    if (index < attempts.length - 1) {
      put("failed", attempt.start_us, attempt.duration_us);
      put("gateway", end, attempts[index + 1].start_us - end);
      return;
    }
    let from = attempt.start_us;
    for (const [phase, us] of [["queue", row.queue_us], ["dns", row.dns_us], ["connect", row.connect_us], ["tls", row.tls_us]]) {
      const taken = Math.min(us ?? 0, end - from);
      put(phase, from, taken);
      from += Math.max(0, taken);
    }
    put(attempt.error ? "failed" : "upstream", from, end - from);
    put("body", end, row.duration_us - end);
  });
  if (!attempts.length) put("body", begun, row.duration_us - begun);
  return parts;
}
