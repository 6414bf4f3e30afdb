// The span of time that a page is about: `range` in the URL counts back from now, `from` and `until` are moments.

export const RANGES = [
  ["5m", 300, "Last 5 minutes"],
  ["15m", 900, "Last 15 minutes"],
  ["1h", 3600, "Last hour"],
  ["3h", 10800, "Last 3 hours"],
  ["6h", 21600, "Last 6 hours"],
  ["24h", 86400, "Last 24 hours"],
  ["3d", 259200, "Last 3 days"],
  ["7d", 604800, "Last 7 days"],
  ["30d", 2592000, "Last 30 days"],
];

const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800, 2592000];
const POINTS_MAX = 100;
export const DEFAULT = "1h";

/** The smallest step that makes at most so many points; whole minutes from an hour on, which roll-ups answer. */
export function stepOf(seconds, points = POINTS_MAX) {
  const least = seconds >= 3600 ? 60 : 1;
  return STEPS_S.find((step) => step >= least && seconds / step <= points) ?? STEPS_S.at(-1);
}

/** What a page's parameters mean at this moment: { from, until } in milliseconds, the step, and words for it. */
export function resolve(params, points) {
  const from = Date.parse(params.from ?? "");
  const until = Date.parse(params.until ?? "");
  if (from < until) {
    const step_s = stepOf((until - from) / 1000, points);
    return { from, until, step_s, seconds: (until - from) / 1000, relative: false };
  }
  const [, seconds, words] = RANGES.find(([name]) => name === (params.range ?? DEFAULT)) ?? RANGES[2];
  const step_s = stepOf(seconds, points);
  const now = Date.now();
  // Whole steps, so that the first is no fragment.
  const begin = Math.floor((now - seconds * 1000) / (step_s * 1000)) * step_s * 1000;
  return { from: begin, until: now, step_s, seconds: (now - begin) / 1000, relative: true, words };
}

/** How often a page that counts back from now asks again, in milliseconds. */
export function paceOf(span) {
  return span.seconds <= 4000 ? 5_000 : span.seconds <= 90_000 ? 15_000 : 60_000;
}

/** The span of the same length before. */
export function before(span) {
  return { from: span.from - (span.until - span.from), until: span.from };
}

/** The parameters of a span as a link keeps them. */
export function keep(params) {
  const { range, from, until } = params;
  return Object.fromEntries(Object.entries({ range, from, until }).filter(([, value]) => value));
}
