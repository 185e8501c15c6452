// Many pictures at once: choose some, decide on all of them with one key.

import { closest, el, say } from "../common/dom.js";
import { STEPS } from "../common/keys.js";
import { count } from "../common/numbers.js";
import { OWN_ICONS, Shell, words } from "./shell.js";

/** @typedef {import("./desk.js").Item} Item */
/** @typedef {import("./desk.js").Said} Said */

export class Many extends Shell {
  choiceSign = "";
  at = 0; // the cell with the focus
  filled = false; // the next batch was asked for
  /** @type {number | null} where a choice with Shift begins */
  anchor = null;

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    super(parent, "many-at-once");
    /** @type {Item[]} */
    this.batch = [];
    /** @type {Set<number>} */
    this.chosen = new Set();
    /** @type {Map<number, ReturnType<Many["build"]>>} */
    this.cells = new Map();
    this.rows = [
      ["Arrows", "from picture to picture"],
      ["Space", "choose it, or not"],
      ["Ctrl A, Esc", "choose all, none"],
      ["a", "yes to what the network says of each chosen one"],
      ["x", "none of these, for all chosen"],
      ["s", "skip the chosen: you do not get them again, others do"],
    ];
    const t = this.tools;
    this.parts = {
      chosen: el("span", { class: "chosen", role: "status" }),
      yes: this.tool("yes", OWN_ICONS.up, "Yes to each", "a", () => this.decide({ verdict: "accepted", label: null })),
      choices: el("div", { class: "choices", role: "group", "aria-label": "It is" }),
      none: this.tool("none", OWN_ICONS.skip, "None of these", "x", () => this.decide({ verdict: "rejected", label: null })),
      skip: this.tool("skip", OWN_ICONS.skip, "Skip", "s", () => this.skip(), "Skip the chosen: you do not get them again"),
      all: el("button", { type: "button", class: "tool all", onclick: (e) => this.press(e, () => this.all()) }, "Choose all"),
    };
    const p = this.parts;
    p.yes.querySelector("svg")?.remove();
    p.none.querySelector("svg")?.remove();
    this.list = el("div", { class: "cells", role: "listbox", "aria-multiselectable": "true", "aria-label": "Pictures to decide on" });
    this.list.addEventListener("click", (event) => this.onClick(event));
    const acts = el("div", { class: "tools", role: "toolbar", "aria-label": "These pictures" }, t.undo, t.blur, t.grey, t.hide, t.care, t.keys);
    this.body.append(el("div", { class: "bar" }, this.shell.notices, p.chosen, p.all, p.yes, p.choices, p.none, p.skip), this.list, acts); // a message is where the eyes are
  }

  get stage() {
    return this.cells.get(this.batch[this.at]?.id)?.node ?? this.root;
  }

  /** @param {boolean} arrives */
  arrived(arrives) {
    const { classes } = this.data;
    const sign = JSON.stringify(classes.map((c) => [c.name, c.color, c.key]));
    if (this.choiceSign !== sign) {
      this.choiceSign = sign;
      this.parts.choices.replaceChildren(...classes.map((c) => this.choice(c, (e) => this.press(e, () => this.decide({ verdict: "corrected", label: c.name })))));
    }
    if (arrives) {
      this.batch = [];
      this.chosen.clear();
    }
  }

  /** @param {number} id */
  open(id) {
    return this.desk.items.some((item) => item.id === id);
  }

  // Choosing ---------------------------------------------------------------------------------------

  /** @param {MouseEvent} event */
  onClick(event) {
    const id = Number(closest(event, ".cell")?.dataset.id);
    const index = this.batch.findIndex((item) => item.id === id);
    if (index < 0) return;
    if (event.shiftKey && this.anchor !== null) {
      const [from, to] = [Math.min(this.anchor, index), Math.max(this.anchor, index)];
      for (const item of this.batch.slice(from, to + 1)) if (this.open(item.id)) this.chosen.add(item.id);
    } else this.choose(index);
    this.move(index);
  }

  /** @param {number} index */
  choose(index) {
    const { id } = this.batch[index];
    this.anchor = index;
    if (this.open(id) && !this.chosen.delete(id)) this.chosen.add(id);
    this.paint();
  }

  all() {
    const open = this.batch.filter((item) => this.open(item.id));
    if (open.every((item) => this.chosen.has(item.id))) this.chosen.clear();
    else for (const item of open) this.chosen.add(item.id);
    this.paint();
  }

  /** @param {number} index */
  move(index) {
    this.at = Math.max(0, Math.min(this.batch.length - 1, index));
    this.paint();
    this.stage.focus({ preventScroll: false });
  }

  // Deciding ---------------------------------------------------------------------------------------

  /** The chosen ones that can be seen. */
  ready() {
    if (this.desk.lapsed) {
      this.desk.renew();
      return [];
    }
    const some = this.batch.filter((item) => this.chosen.has(item.id) && this.open(item.id));
    if (!some.length) this.desk.tell("Choose pictures first: click them, or move with the arrow keys and press Space.");
    const seen = some.filter((item) => this.cells.get(item.id)?.image.complete);
    if (seen.length < some.length) this.desk.tell(`${count(some.length - seen.length, "picture is", "pictures are")} still loading.`);
    return seen;
  }

  /** @param {Said} said */
  decide(said) {
    const some = this.ready();
    const fit = said.verdict === "accepted" ? some.filter((item) => this.told(item) !== null) : some;
    for (const item of fit) {
      const mine = said.verdict === "accepted" ? { ...said, label: item.predicted } : said;
      this.saw(item, mine);
      this.desk.decide(item, mine, { hint: !this.hidden && !item.blind, seconds: null });
      this.chosen.delete(item.id);
      this.note(item, words(mine));
    }
    if (fit.length < some.length) this.desk.tell(`${count(some.length - fit.length, "picture has", "pictures have")} no answer that could be accepted: choose a class.`);
    if (fit.length) this.announce(`${count(fit.length, "picture", "pictures")}: ${said.verdict === "accepted" ? "yes" : words(said)}`);
    this.paint();
  }

  skip() {
    for (const item of this.ready()) {
      this.saw(item, null);
      this.desk.skip(item);
      this.chosen.delete(item.id);
      this.note(item, "skipped");
    }
    this.paint();
  }

  /** @param {import("./desk.js").Decision} [meant] */
  undo(meant) {
    super.undo(meant);
    const item = this.desk.current;
    if (item && !this.batch.some((one) => one.id === item.id)) this.batch.unshift(item);
    this.paint();
  }

  // Painting ---------------------------------------------------------------------------------------

  paintBody() {
    const { desk, parts: p } = this;
    const open = this.batch.filter((item) => this.open(item.id));
    if (!open.length && !desk.dealing && desk.items.length < this.data.size && !this.filled) {
      this.filled = true; // as many as there are
      desk.deal();
    } else if (!open.length && !desk.dealing && desk.items.length) {
      this.filled = false;
      this.batch = desk.items.slice(0, this.data.size);
      this.cells.clear();
      this.chosen.clear();
      this.at = 0;
      this.anchor = null;
    }
    for (const id of this.chosen) if (!this.open(id)) this.chosen.delete(id);
    const cells = this.batch.map((item, index) => {
      const cell = this.cells.get(item.id) ?? this.build(item);
      this.cells.set(item.id, cell);
      const mine = this.open(item.id);
      cell.node.classList.toggle("done", !mine);
      cell.node.setAttribute("aria-selected", String(this.chosen.has(item.id)));
      cell.node.tabIndex = index === this.at ? 0 : -1;
      const told = this.told(item);
      if (mine) {
        cell.said = false;
        say(cell.what, told ?? (item.blind ? "decide blind" : ""));
      } else if (!cell.said) say(cell.what, "decided");
      const asked = desk.unsure.get(item.id);
      cell.node.classList.toggle("unsure", Boolean(asked));
      cell.node.title = asked ? asked.problem : item.blind ? item.name : `${item.name}, sent by ${item.by}`;
      this.dress(cell.node, item);
      return cell.node;
    });
    const before = [...this.list.children];
    if (cells.length !== before.length || cells.some((cell, i) => cell !== before[i])) this.list.replaceChildren(...cells);
    this.list.classList.toggle("lapsed", desk.lapsed);
    say(p.chosen, desk.lapsed ? "Your time on these ran out: press any key to go on." : `${count(this.chosen.size, "picture", "pictures")} of ${open.length || this.batch.length} chosen`);
    for (const button of [p.yes, p.none, p.skip, ...p.choices.children]) button.setAttribute("aria-disabled", String(!this.chosen.size));
  }

  /** @param {Item} item */
  build(item) {
    const image = el("img", { src: item.url, alt: item.name, draggable: "false" });
    const what = el("span", { class: "what" });
    const node = el("div", { class: "cell", role: "option", "data-id": item.id, tabindex: "-1" }, el("span", { class: "picture" }, image), what);
    return { node, image, what, said: false };
  }

  /** What became of one. @param {Item} item @param {string} text */
  note(item, text) {
    const cell = this.cells.get(item.id);
    if (!cell) return;
    cell.said = true;
    say(cell.what, text);
  }

  /** @param {KeyboardEvent} event @param {boolean} onButton */
  handle(event, onButton) {
    const { key, repeat } = event;
    if (super.handle(event, onButton)) return true;
    const onCell = event.composedPath().some((node) => node instanceof Element && node.matches(".cell"));
    if (event.ctrlKey || event.metaKey) return key.toLowerCase() === "a" && (this.all(), true);
    if (STEPS[key]) return this.step(key), true;
    if (key === " " && (!onButton || onCell)) return repeat || this.choose(this.at), true;
    if (key === "Escape") return this.chosen.clear(), this.paint(), true;
    /** @type {Record<string, () => unknown>} */
    const acts = { a: () => this.decide({ verdict: "accepted", label: null }), x: () => this.decide({ verdict: "rejected", label: null }), s: () => this.skip() };
    if (key.toLowerCase() in acts) return repeat || acts[key.toLowerCase()](), true;
    const chosen = this.classOf(event);
    if (chosen === undefined) return false;
    if (!repeat && chosen) this.decide({ verdict: "corrected", label: chosen.name });
    return true;
  }

  /** @param {string} key */
  step(key) {
    const tops = [...this.list.children].map((cell) => /** @type {HTMLElement} */ (cell).offsetTop);
    const row = Math.max(1, tops.filter((top) => top === tops[0]).length);
    this.move(this.at + STEPS[key] * (key === "ArrowUp" || key === "ArrowDown" ? row : 1));
  }
}
