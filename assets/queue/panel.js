// Care: what a person sets for their own comfort, class by class, and what they saw today.

import { el } from "../common/dom.js";
import { count, number } from "../common/numbers.js";
import { EFFECTS } from "./care.js";

const TITLES = { blur: "Blur", grey: "Grey", small: "Small" };

export class CarePanel {
  /** @param {() => void} changed @param {() => void} closed */
  constructor(changed, closed) {
    this.changed = changed;
    this.dialog = el("dialog", { class: "sheet care-sheet", "aria-label": "Care" });
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", closed);
  }

  /** @param {import("./care.js").Care} care @param {import("./shell.js").Class[]} classes */
  show(care, classes) {
    /** @param {string} label @param {boolean} checked @param {(on: boolean) => void} set */
    const box = (label, checked, set) => {
      const input = el("input", { type: "checkbox", "aria-label": label, checked });
      input.addEventListener("change", () => (set(input.checked), this.changed()));
      return el("td", {}, input);
    };
    const rows = classes.map((c) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, c.name),
        ...EFFECTS.map((effect) => box(`${TITLES[effect]} ${c.name}`, care.effects(c.name).includes(effect), (on) => care.set(c.name, effect, on))),
        box(`Leave ${c.name} to others`, care.chosen.without.includes(c.name), (on) => care.leaveOut(c.name, on)),
      ),
    );
    const head = ["Pictures taken for", ...EFFECTS.map((effect) => TITLES[effect]), "Leave to others"].map((text) => el("th", { scope: "col" }, text));
    const minutes = el("input", { type: "number", min: "0", max: "600", step: "5", value: care.chosen.pause || "", placeholder: "never", "aria-label": "Remind me to pause after so many minutes" });
    minutes.addEventListener("change", () => (care.remind(Number(minutes.value)), this.changed()));
    const { seen, clear } = care.today(new Date());
    const counts = Object.entries(seen).sort((a, b) => b[1] - a[1]);
    const total = counts.reduce((sum, [, n]) => sum + n, 0);
    const saw = total ? `Today you looked at ${count(total, "picture", "pictures")}, by class: ${counts.map(([name, n]) => `${number(n)} × ${name}`).join(", ")}.` : "Today you have looked at none yet.";
    const clearly = clear ? ` ${count(clear, "time", "times")} you looked clearly at one that was veiled.` : "";
    const close = el("button", { type: "button", class: "tool", onclick: () => this.dialog.close() }, "Close");
    this.dialog.replaceChildren(
      el("h2", {}, "Care"),
      el("p", {}, "For your comfort; it does not protect from what a picture shows. The network’s answer decides which class a picture is taken for, and it can be wrong. Where the answer is hidden from you, a picture is shown as all that you chose. Hold r to see a picture clearly. Pictures of the classes chosen here are not kept by this browser. Nothing in Loupe makes a sound."),
      el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows))),
      el("p", {}, "No reason is asked for what you leave to others, and nobody is told."),
      el("label", { class: "minutes" }, "Remind me to pause after ", minutes, " minutes"),
      el("p", {}, saw + clearly),
      el("p", { class: "soft" }, "All of this is kept in this browser and seen by you alone."),
      close,
    );
    this.dialog.showModal();
    close.focus();
  }
}
