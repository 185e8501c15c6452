// Handing the picture on the screen to somebody by name.

import { el } from "../common/dom.js";

const NOBODY = "Nobody else has decided here this week: escalate it, or skip it so that others get it.";

export class Hand {
  /** @type {import("./desk.js").Item | null} */
  item = null;

  /** @param {import("./queue.js").One} shell */
  constructor(shell) {
    this.shell = shell;
    this.names = el("select", { class: "reason", "aria-label": "To whom" });
    const send = el("button", { type: "button", class: "tool send", onclick: () => this.send() }, "Hand over");
    const leave = el("button", { type: "button", class: "tool", onclick: () => this.close() }, "Leave", el("kbd", {}, "Esc"));
    this.said = el("p", { class: "soft" }, "Dealt to that person next, and to anybody if they do not come within half an hour.");
    this.box = el("div", { class: "note", role: "group", "aria-label": "Hand over", hidden: true }, this.names, this.said, el("div", { class: "row" }, send, leave));
    this.box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
      else if (event.key !== "Enter" || event.composedPath()[0] !== this.names) return;
      else this.send();
      event.preventDefault();
      event.stopPropagation();
    });
  }

  async open() {
    const { desk } = this.shell;
    const item = desk.current;
    if (!item) return;
    const people = await desk.colleagues();
    if (desk.current !== item) return;
    if (!people?.length) return this.shell.say(people ? NOBODY : "The server does not answer.");
    this.shell.closeNote();
    this.item = item;
    desk.noting = true;
    this.names.replaceChildren(...people.map((name) => el("option", { value: name }, name)));
    this.box.hidden = false;
    this.names.focus();
  }

  close() {
    this.item = null;
    this.shell.desk.noting = false;
    this.box.hidden = true;
    this.names.blur();
    this.shell.focus();
  }

  send() {
    const { item } = this;
    const to = this.names.value;
    this.close();
    if (!item || this.shell.desk.current !== item) return;
    this.shell.leave(item, null);
    this.shell.desk.hand(item, to);
    this.shell.announce(`${item.name}: handed to ${to}`);
    this.shell.aim.clear();
    this.shell.paint();
  }
}
