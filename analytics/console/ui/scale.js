// Axes: round numbers for values, round moments for times.

import { clock, day } from "../core/format.js";

/** Ticks from 0 to at least `most`, about so many. */
export function ticks(most, count = 4) {
  if (!(most > 0)) return [0, 1];
  const raw = most / count;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * size).find((candidate) => candidate >= raw);
  const list = [];
  for (let value = 0; value < most + step * 0.999; value += step) list.push(Number(value.toPrecision(12)));
  return list;
}

const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600];

/** Moments of this place's clock between two, with their labels. */
export function moments(from, until, count) {
  const step = STEPS_S.find((candidate) => (until - from) / 1000 / candidate <= count) ?? STEPS_S.at(-1);
  const zone = new Date(from).getTimezoneOffset() * 60_000;
  const list = [];
  const begin = Math.ceil((from - zone) / (step * 1000)) * step * 1000 + zone;
  for (let time = begin; time <= until; time += step * 1000) {
    const label = step >= 86400 ? day(time).slice(5) : step >= 60 ? clock(time).slice(0, 5) : clock(time);
    const midnight = step < 86400 && clock(time) === "00:00:00";
    list.push({ time, label: midnight ? day(time).slice(5) : label });
  }
  return list;
}
