// One of a few as buttons side by side; the arrow keys go from one to the next.

import { el } from "./dom.js";
import { STEPS } from "./keys.js";

/**
 * @template {string} Name
 * @param {import("./dom.js").Attributes} props of the group
 * @param {{ name: Name, title: string, props: import("./dom.js").Attributes, children?: Node[] }[]} entries
 * @param {(name: Name) => void} choose
 */
export function radios(props, entries, choose) {
  const buttons = entries.map(({ name, title, props, children = [] }) =>
    el("button", { type: "button", role: "radio", ...props, onclick: () => choose(name) }, ...children, title),
  );
  const node = el("div", { role: "radiogroup", ...props }, ...buttons);
  node.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const next = (buttons.findIndex((b) => b.getAttribute("aria-checked") === "true") + step + buttons.length) % buttons.length;
    choose(entries[next].name);
    buttons[next].focus();
  });
  return {
    node,
    /** @param {Name} name */
    mark(name) {
      buttons.forEach((button, i) => {
        button.setAttribute("aria-checked", String(entries[i].name === name));
        button.tabIndex = entries[i].name === name ? 0 : -1;
      });
    },
  };
}
