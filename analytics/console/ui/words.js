// SQL as pieces: for colours, and to know what stands at the cursor.

export const KEYWORDS = `all and any array as asc between by case cast cross current_timestamp date desc describe distinct else end except exists
explain extract false filter first following from full group having ilike in inner intersect interval is join last lateral left like limit natural not
null nulls offset on or order outer over partition preceding range recursive right row rows select show similar table then time timestamp true
unbounded union unnest using values view when where window with within analyze columns functions tables`.split(/\s+/);

const KNOWN = new Set(KEYWORDS);
const PIECE = /(--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))|('(?:[^']|'')*'?)|("(?:[^"]|"")*"?)|(\$?\b\d[\w.]*)|([A-Za-z_]\w*)|(\s+)|([\s\S])/g;

/** [[kind, text], ...] of a statement; the kinds are comment, text, name, number, keyword, function, and "". */
export function pieces(sql) {
  const list = [];
  for (const [whole, comment, text, quoted, number, word] of sql.matchAll(PIECE)) {
    const kind = comment ? "comment" : text ? "text" : quoted ? "name" : number ? "number" : word ? (KNOWN.has(word.toLowerCase()) ? "keyword" : "word") : "";
    list.push([kind, whole]);
  }
  list.forEach((piece, index) => {
    if (piece[0] === "word") piece[0] = list[index + 1]?.[1] === "(" ? "function" : "";
  });
  return list;
}

/** The names before the cursor: { word, before }, as `requests.st` is `st` after `requests`; null inside of texts and comments. */
export function atCursor(sql, cursor) {
  const head = sql.slice(0, cursor);
  let inside = false;
  let at = 0;
  for (const [kind, text] of pieces(sql)) {
    if (at < cursor && at + text.length >= cursor && (kind === "comment" || kind === "text")) inside = at + text.length > cursor || kind === "comment" || !text.endsWith("'");
    at += text.length;
  }
  if (inside) return null;
  const [, path = "", word = ""] = /((?:[A-Za-z_]\w*\.)*)([A-Za-z_]\w*)?$/.exec(head) ?? [];
  return { word, before: path.slice(0, -1).toLowerCase() };
}
