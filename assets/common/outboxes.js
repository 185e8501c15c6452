// The outboxes of the page, one for each dataset, whichever view labels.

import { Outbox } from "./outbox.js";
import { remember } from "./who.js";

/** @type {Map<number, Outbox>} */
const outboxes = new Map();

/** @type {import("./outbox.js").Page} */
const page = {
  fetch: (...request) => fetch(...request),
  hidden: () => document.hidden,
  remember,
};

/** @param {number} dataset */
export function outboxOf(dataset) {
  const box = outboxes.get(dataset) ?? new Outbox(dataset, page);
  outboxes.set(dataset, box);
  return box;
}

addEventListener("beforeunload", (event) => {
  if ([...outboxes.values()].some((box) => box.ops.length)) event.preventDefault();
});
// Streamlit's own message about a lost connection lies over the page and swallows the keys. Here they are kept and sent
// again, and every view says how many wait.
new MutationObserver(() => {
  const dialog = document.querySelector('body > [data-testid="stDialog"]');
  if (!dialog?.textContent?.startsWith("Connection error")) return;
  /** @type {HTMLElement | null} */ (dialog.querySelector('section [aria-label="Close"]'))?.click();
}).observe(document.body, { childList: true });

addEventListener("pagehide", () => {
  for (const box of outboxes.values()) box.release();
});
addEventListener("online", () => {
  for (const box of outboxes.values()) box.pump(), box.poll();
});
document.addEventListener("visibilitychange", () => {
  for (const box of outboxes.values()) box.poll();
});
