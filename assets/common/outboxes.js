// The outboxes of the page, one for each dataset, whichever view labels.

import { kept, warn } from "./kept.js";
import "./offline.js";
import { Outbox } from "./outbox.js";
import { remember } from "./who.js";

/** @type {Map<number, Outbox>} */
const outboxes = new Map();

const page = {
  /** @type {typeof fetch} */
  fetch: (...request) => fetch(...request),
  hidden: () => document.hidden,
  remember,
};

/** @param {number} dataset */
export function outboxOf(dataset) {
  const box = outboxes.get(dataset) ?? new Outbox(dataset, { ...page, ...kept(`loupe.label.${dataset}`) });
  outboxes.set(dataset, box);
  return box;
}

warn(() => [...outboxes.values()].some((box) => box.ops.length));
addEventListener("pagehide", () => {
  for (const box of outboxes.values()) box.release();
});
addEventListener("online", () => {
  for (const box of outboxes.values()) box.pump(), box.poll();
});
document.addEventListener("visibilitychange", () => {
  for (const box of outboxes.values()) box.poll();
});
