// Questions to `/sql`: the only place where the console gets numbers from.

import { authorization, leave } from "./session.js";

/** Why there is no answer, as the service says it. */
export class AskError extends Error {
  constructor(message, details = {}) {
    super(message);
    Object.assign(this, details);
  }
}

// A number that a double cannot hold stays the text that it is, where the browser shows it to us.
function exact(key, value, context) {
  if (typeof value === "number" && !Number.isSafeInteger(value) && context?.source && /^-?\d+$/.test(context.source)) {
    return context.source;
  }
  return value;
}

export const parse = (text) => JSON.parse(text, exact);

/** Sends a statement; the response, or an AskError. */
export async function send(sql, { format = "json", signal } = {}) {
  let reply;
  try {
    reply = await fetch(`/sql?format=${format}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...authorization() },
      body: JSON.stringify({ query: sql }),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new AskError("The service does not answer. It is asked again.", { code: "unreachable" });
  }
  if (reply.ok) return reply;
  if (reply.status === 401) {
    leave();
    document.dispatchEvent(new CustomEvent("tollhouse:left"));
  }
  const said = await reply.json().catch(() => null);
  throw new AskError(said?.error?.message ?? `The service answered ${reply.status}.`, { ...said?.error, status: reply.status });
}

/** The rows of a statement. */
export async function ask(sql, options) {
  const reply = await send(sql, options);
  try {
    const rows = parse(await reply.text());
    rows.partial = reply.headers.get("x-tollhouse-partial");
    return rows;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new AskError("The answer broke off.", { code: "cut" });
  }
}

/** The first rows of a statement, as they come; stops after `rowsMax`. */
export async function stream(sql, { rowsMax, signal, onRows }) {
  const stop = new AbortController();
  signal?.addEventListener("abort", () => stop.abort(), { once: true });
  const reply = await send(sql, { format: "ndjson", signal: stop.signal });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  const rows = [];
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) {
      if (line === "") continue;
      const row = parse(line);
      const keys = Object.keys(row);
      if (keys.length === 1 && keys[0] === "error" && typeof row.error?.message === "string") {
        throw new AskError(row.error.message, row.error);
      }
      if (rows.length === rowsMax) {
        stop.abort();
        return { rows, more: true, partial: reply.headers.get("x-tollhouse-partial") };
      }
      rows.push(row);
    }
    onRows?.(rows.length);
    if (done) return { rows, more: false, partial: reply.headers.get("x-tollhouse-partial") };
  }
}
