// A drawing of who calls whom: callers to the left of what they call, in layers, with few crossings (after K. Sugiyama, S.
// Tagawa and M. Toda, 1981). Edges over several layers get a place in each of them.

export const NODE = { width: 168, height: 56, across: 118, apart: 26 };
const SWEEPS = 8;

/** Edges that would close a circle, by a walk from each node in order. */
function backwards(nodes, edges) {
  const state = new Map();
  const back = new Set();
  const out = new Map(nodes.map((node) => [node, []]));
  for (const edge of edges) out.get(edge.from).push(edge);
  const walk = (node, depth) => {
    state.set(node, 1);
    for (const edge of out.get(node)) {
      if (state.get(edge.to) === 1) back.add(edge);
      else if (!state.has(edge.to) && depth < 500) walk(edge.to, depth + 1);
    }
    state.set(node, 2);
  };
  const called = new Set(edges.map((edge) => edge.to));
  for (const node of [...nodes].sort((a, b) => called.has(a) - called.has(b))) if (!state.has(node)) walk(node, 0);
  return back;
}

/** The layer of each node: one more than the furthest of its callers. */
function layersOf(nodes, edges) {
  const layer = new Map(nodes.map((node) => [node, 0]));
  for (let round = 0; round < nodes.length; round += 1) {
    let moved = false;
    for (const { from, to } of edges) {
      if (layer.get(to) <= layer.get(from)) {
        layer.set(to, layer.get(from) + 1);
        moved = true;
      }
    }
    if (!moved) break;
  }
  return layer;
}

/**
 * Places of names and edges ({ from, to }): `nodes` is a map of { x, y }, each edge has `points` from its caller's right side
 * to its callee's left one.
 */
export function place(names, edges) {
  const back = backwards(names, edges);
  const turned = edges.filter((edge) => edge.from !== edge.to).map((edge) => (back.has(edge) ? { edge, from: edge.to, to: edge.from } : { edge, from: edge.from, to: edge.to }));
  const layer = layersOf(names, turned);
  const rows = [];
  const seat = (id, at) => (rows[at] ??= []).push(id);
  for (const name of names) seat(name, layer.get(name));
  // Neighbours in the next layer only: long edges are cut.
  const links = [];
  for (const one of turned) {
    one.stops = [one.from];
    for (let at = layer.get(one.from) + 1; at < layer.get(one.to); at += 1) {
      const stop = { of: one };
      seat(stop, at);
      one.stops.push(stop);
    }
    one.stops.push(one.to);
    one.stops.slice(1).forEach((stop, index) => links.push([one.stops[index], stop]));
  }
  const before = new Map();
  const after = new Map();
  for (const [from, to] of links) {
    if (!after.has(from)) after.set(from, []);
    if (!before.has(to)) before.set(to, []);
    after.get(from).push(to);
    before.get(to).push(from);
  }
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const down = sweep % 2 === 0;
    const order = down ? rows.keys() : [...rows.keys()].reverse();
    for (const at of order) {
      const beside = rows[down ? at - 1 : at + 1];
      if (!beside) continue;
      const index = new Map(beside.map((id, n) => [id, n]));
      const weight = new Map(rows[at].map((id, n) => {
        const near = ((down ? before : after).get(id) ?? []).map((other) => index.get(other)).filter((n) => n !== undefined);
        return [id, near.length ? near.reduce((sum, n) => sum + n, 0) / near.length : n];
      }));
      rows[at].sort((a, b) => weight.get(a) - weight.get(b));
    }
  }
  const size = (id) => (typeof id === "string" ? NODE.height : 12);
  const heights = rows.map((row) => row.reduce((sum, id) => sum + size(id) + NODE.apart, -NODE.apart));
  const height = Math.max(...heights, NODE.height);
  const places = new Map();
  rows.forEach((row, at) => {
    let y = (height - heights[at]) / 2;
    for (const id of row) {
      places.set(id, { x: at * (NODE.width + NODE.across), y });
      y += size(id) + NODE.apart;
    }
  });
  for (const { edge, stops } of turned) {
    const points = stops.map((id, index) => {
      const { x, y } = places.get(id);
      return { x: typeof id !== "string" ? x + NODE.width / 2 : index === 0 ? x + NODE.width : x, y: y + size(id) / 2 };
    });
    edge.back = back.has(edge);
    edge.points = edge.back ? points.reverse() : points;
  }
  spread(turned.map(({ edge }) => edge));
  const nodes = new Map(names.map((name) => [name, places.get(name)]));
  return { nodes, width: rows.length * (NODE.width + NODE.across) - NODE.across, height };
}

/** Edges at one side of a node get places of their own there, in the order of where they lead. */
function spread(edges) {
  const sides = new Map();
  for (const edge of edges) {
    const ends = [[`${edge.from}>`, edge.points[0], edge.points[1]], [`>${edge.to}`, edge.points.at(-1), edge.points.at(-2)]];
    for (const [side, end, next] of ends) {
      if (!sides.has(side)) sides.set(side, []);
      sides.get(side).push({ end, next: next.y });
    }
  }
  for (const ends of sides.values()) {
    ends.sort((a, b) => a.next - b.next);
    const apart = Math.min(9, (NODE.height - 16) / Math.max(1, ends.length - 1));
    ends.forEach(({ end }, index) => { end.y += (index - (ends.length - 1) / 2) * apart; });
  }
}

/** A smooth line through points. */
export function curve(points) {
  let path = `M${points[0].x},${points[0].y}`;
  points.slice(1).forEach((to, index) => {
    const from = points[index];
    const bend = (to.x - from.x) / 2;
    path += `C${from.x + bend},${from.y} ${to.x - bend},${to.y} ${to.x},${to.y}`;
  });
  return path;
}

/** The middle of such a line. */
export function middle(points) {
  const at = Math.floor((points.length - 1) / 2);
  const [from, to] = [points[at], points[at + 1] ?? points[at]];
  return { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
}
