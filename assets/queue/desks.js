// The desks of the page, one for each dataset: they outlive a rerun and a walk through the app.

import { kept, warn } from "../common/kept.js";
import "../common/offline.js";
import { uuid } from "../common/uuid.js";
import { Desk } from "./desk.js";
import { ANSWER_MS, Outbox } from "./outbox.js";

const GONE_MS = 1500; // a view that is drawn anew comes back sooner

/** @type {Map<number, Desk>} */
const desks = new Map();
const session = uuid(); // of this page as it was loaded: to it pictures are dealt out

/** @param {number} dataset */
export function deskOf(dataset) {
  const known = desks.get(dataset);
  if (known) return known;
  const box = new Outbox({ fetch: (...request) => fetch(...request), ...kept(`loupe.review.${dataset}`) });
  /** @param {string} path @param {Record<string, unknown>} body @param {boolean} [keepalive] */
  const post = async (path, body, keepalive = false) => {
    try {
      const response = await fetch(`/api/review/${path}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Loupe-Token": box.token },
        body: JSON.stringify(body),
        keepalive,
        signal: AbortSignal.timeout(ANSWER_MS), // a server that goes in mid-answer must not leave the page waiting for ever
      });
      if (response.status === 401) desk.expired();
      return response.status >= 500 || response.status === 401 ? null : await response.json();
    } catch {
      return null;
    }
  };
  const desk = new Desk(dataset, box, { post, now: () => performance.now(), session, focused: () => !document.hidden && document.hasFocus() });
  desks.set(dataset, desk);
  return desk;
}

/** A view goes: unless another comes, what was dealt out goes back. @param {Desk} desk @param {import("./desk.js").View} view */
export function leave(desk, view) {
  if (desk.view === view) desk.view = null;
  setTimeout(() => desk.view ?? desk.release(), GONE_MS);
}

setInterval(() => {
  for (const desk of desks.values()) if (desk.view) desk.tick();
}, 1000);
warn(() => [...desks.values()].some((desk) => desk.box.ops.length && desk.box.failing));
addEventListener("pagehide", () => {
  for (const desk of desks.values()) desk.release();
});
addEventListener("online", () => {
  for (const desk of desks.values()) desk.box.pump();
});
addEventListener("focus", () => {
  for (const desk of desks.values()) if (desk.view && desk.items.length) desk.renew();
});
