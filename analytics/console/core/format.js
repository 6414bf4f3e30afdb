// Numbers, sizes and times as a person reads them. Each has a value and a unit, so that units can be set smaller.

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A whole number, with groups of digits. */
export function whole(value) {
  return value === null || value === undefined ? "–" : plain.format(value);
}

/** Three digits and a letter: 12.4 k, 3.1 M. */
export function short(value) {
  if (value === null || value === undefined) return ["–", ""];
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e4]]) {
    if (Math.abs(value) >= size) return [digits(value / (unit === "k" ? 1e3 : size)), unit];
  }
  return [Number.isInteger(value) ? plain.format(value) : digits(value), ""];
}

/** About three digits, no more. */
export function digits(value) {
  const size = Math.abs(value);
  if (size >= 100 || value === 0) return plain.format(value);
  return value.toLocaleString("en", size >= 10 ? { maximumFractionDigits: 1 } : size >= 0.1 ? { maximumFractionDigits: 2 } : { maximumSignificantDigits: 2 });
}

/** A time in milliseconds. */
export function ms(value) {
  if (value === null || value === undefined) return ["–", ""];
  if (value >= 60_000) return [digits(value / 60_000), "min"];
  if (value >= 1_000) return [digits(value / 1_000), "s"];
  if (value > 0 && value < 0.1) return [digits(value * 1_000), "µs"];
  return [digits(value), "ms"];
}

/** A size in bytes. */
export function bytes(value) {
  if (value === null || value === undefined) return ["–", ""];
  let size = value;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (Math.abs(size) < 1024 || unit === "TiB") return [unit === "B" ? plain.format(size) : digits(size), unit];
    size /= 1024;
  }
  return ["–", ""];
}

/** A share from 0 to 1. */
export function percent(value) {
  if (value === null || value === undefined) return ["–", ""];
  const hundred = value * 100;
  if (hundred === 0) return ["0", "%"];
  if (hundred < 0.01) return ["< 0.01", "%"];
  return [hundred >= 99.95 && hundred < 100 ? hundred.toFixed(2) : digits(Math.round(hundred * 100) / 100), "%"];
}

export function perSecond(value) {
  const [number, unit] = short(value === null || value === undefined ? value : Math.abs(value) >= 100 ? Math.round(value) : value);
  return [number, `${unit}/s`];
}

/** Value and unit in one text. */
export function line([value, unit]) {
  return unit ? `${value}${unit.startsWith("/") || unit === "k" || unit === "M" || unit === "G" ? "" : " "}${unit}` : value;
}

const pad = (value, width = 2) => String(value).padStart(width, "0");

/** Hours, minutes and seconds of this place. */
export function clock(time, thousandths = false) {
  const date = new Date(time);
  const seconds = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return thousandths ? `${seconds}.${pad(date.getMilliseconds(), 3)}` : seconds;
}

export function day(time) {
  const date = new Date(time);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

/** A moment in full; only the hour, if it is of today. */
export function when(time) {
  if (!time) return "–";
  return day(time) === day(Date.now()) ? clock(time) : `${day(time)} ${clock(time)}`;
}

/** How long ago. */
export function ago(time) {
  if (!time) return "–";
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size * 2) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return seconds < 5 ? "just now" : `${Math.floor(seconds)} s ago`;
}

export function lasting(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size && seconds % size === 0) return `${seconds / size} ${unit}`;
  }
  return `${seconds} s`;
}
