// What a test of the console asserts with: comparisons that count themselves, and numbers as a person reads them.

import assert from "node:assert/strict";

export class Checks {
  count = 0;

  ok(value, what) {
    this.count += 1;
    assert.ok(value, what);
  }

  same(value, expected, what) {
    this.count += 1;
    assert.deepEqual(value, expected, what);
  }
}

const UNITS = { "": 1, k: 1e3, M: 1e6, G: 1e9, "%": 0.01, "µs": 1e-3, ms: 1, s: 1e3, min: 6e4, B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, "/s": 1, "k/s": 1e3, "M/s": 1e6 };
const NUMBER = /(<\s*)?(\d[\d,]*)(\.\d+)?\s*(KiB|MiB|GiB|min|k\/s|M\/s|\/s|µs|ms|k|M|G|s|%|B)?(?![A-Za-z])/g;

/** The numbers in a text, in ms, bytes and shares, each with half of what its last digit is worth. */
function read(text) {
  return [...text.matchAll(NUMBER)].map(([, below, whole, part = "", unit = ""]) => {
    const scale = UNITS[unit];
    const value = Number(whole.replaceAll(",", "") + part) * scale;
    return { value, half: (0.5 * scale) / 10 ** Math.max(0, part.length - 1), below: Boolean(below) };
  });
}

export function numbers(text) {
  return read(text).map(({ value }) => value);
}

/** Whether a text says a value, as exactly as its digits go. "–" says that there is none. */
export function agrees(text, value) {
  if (value === null || value === undefined) return text.trim() === "–";
  const [first] = read(text);
  if (!first) return false;
  if (first.below) return value > 0 && value < first.value;
  return Math.abs(first.value - Number(value)) <= first.half * 1.001;
}
