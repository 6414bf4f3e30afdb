// Consumers: who asks how much, and how it is for them.

import { search } from "../ui/filter.js";
import { Names } from "../ui/names.js";

export function open(context) {
  const consumers = new Names(["consumer"], "Consumers", { context });
  return {
    title: "Consumers",
    tools: search("find", context.params(), { label: "Find a consumer", placeholder: "Find…" }),
    element: consumers.element,
    refresh: () => consumers.refresh(context.span(), {}, context.signal),
  };
}
