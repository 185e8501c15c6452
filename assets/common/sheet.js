// The sheet that lists a component's keys.

import { el } from "./dom.js";

export class KeysSheet {
  /** @param {() => void} closed gives the focus back */
  constructor(closed) {
    this.dialog = el("dialog", { class: "sheet", "aria-label": "Keys" });
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.close());
    this.dialog.addEventListener("close", closed);
  }

  get open() {
    return this.dialog.open;
  }

  /** @param {string[][]} rows of [key, what it does] */
  show(rows) {
    const close = el("button", { type: "button", class: "tool", onclick: () => this.close() }, "Close");
    const list = rows.flatMap(([key, what]) => [el("dt", {}, key), el("dd", {}, what)]);
    this.dialog.replaceChildren(el("h2", {}, "Keys"), el("dl", {}, ...list), close);
    this.dialog.showModal();
    close.focus();
  }

  close() {
    this.dialog.close();
  }
}
