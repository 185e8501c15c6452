// Thumbnails one can select, label and flag. Streamlit tells us the images; what a person does goes to the server's own
// route through the dataset's outbox, and what others do comes back the same way.

import { dot, paintDot } from "../common/colours.js";
import { ICONS, closest, el, focused, hostOf, icon, mount, named, remembered, say } from "../common/dom.js";
import { Hold } from "../common/gestures.js";
import { COMMAND, digitKey, mac, spoken } from "../common/keys.js";
import { count, number, percent } from "../common/numbers.js";
import { Reporter } from "../common/outbox.js";
import { outboxOf } from "../common/outboxes.js";
import { KeysSheet } from "../common/sheet.js";

/** @typedef {import("../common/outbox.js").Field} Field */
/** @typedef {import("../common/outbox.js").Value} Value */
/** @typedef {ReturnType<import("../common/outbox.js").Outbox["undo"]>} Travelled */
/** @typedef {{ name: string, color?: string | null, key?: string }} Class */
/** @typedef {import("../common/outbox.js").Item & { url: string, picture?: string, split?: string, note?: string, pixelated?: boolean, predicted?: string, confidence?: number | null }} Item */
/**
 * @typedef {import("../common/outbox.js").Joining & {
 *   key: string, dataset_id: number, items: Item[], classes: Class[], size: number, prefetch?: string[], caption: keyof typeof CAPTIONS,
 *   words?: { remove?: string, flag?: string }, shown?: string | number | null, act?: Act | null }} Data
 */
/** @typedef {{ icon: "bin" | "restore", text: string, title: string }} Act on the selection, which the page carries out */
/** @typedef {ReturnType<View["build"]>} Parts */

const SAID_MS = 5000;
const DRAG_PX = 5;
const EDGE_PX = 48; // a drag so near the window's lower edge scrolls
const CAPTIONS = { name: "Caption: name", label: "Caption: label", prediction: "Caption: answer", none: "No caption" };

/** @type {View | null} */
let lastUsed = null;

// A key pressed while nothing has the focus belongs to the grid used last.
document.addEventListener("keydown", (event) => {
  if (!lastUsed?.root.isConnected || lastUsed.sheet.open || lastUsed.zoom.open) return;
  const focus = document.activeElement ?? document.body; // the page, or the scrolling area around the grid
  const host = hostOf(lastUsed.root);
  if (!host) return;
  if (focus !== host && focus.contains(host)) lastUsed.onKey(event);
});

/** "3 labelled cat" @param {Field} field @param {number} n @param {Value} value */
function described(field, n, value) {
  if (field === "flagged") return `${number(n)} ${value ? "flagged" : "unflagged"}`;
  return value === null ? count(n, "label removed", "labels removed") : `${number(n)} labelled ${value}`;
}

/** @param {string | null} name @returns {name is keyof typeof CAPTIONS} */
const isCaption = (name) => name !== null && name in CAPTIONS;

/** @param {Event} event */
const cellOf = (event) => closest(event, ".cell");

class View {
  /** @type {Data} */
  data;
  /** @type {import("../common/dom.js").Tell} */
  fire;
  /** @type {import("../common/outbox.js").Outbox} */
  box;
  /** @type {Map<string, string | null | undefined>} of the classes */
  colors;
  /** @type {ReturnType<View["buildParts"]>} of the bar, once something can be labelled */
  parts;
  /** @type {keyof typeof CAPTIONS} */
  caption;
  /** @type {number | undefined} the side of a thumbnail in pixels, and what the page gave for it */
  size;
  /** @type {number | undefined} */
  given;
  /** @type {string | undefined} what the bar was built from */
  sign;
  /** @type {Data["shown"]} */
  broughtFor;
  /** @type {import("../common/outbox.js").Outbox["notice"]} */
  shown;

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    /** @type {Set<string>} */
    this.selected = new Set();
    /** @type {string[]} */
    this.order = [];
    /** @type {Map<string, Item>} */
    this.items = new Map();
    this.turned = false;
    /** @type {Map<string, Parts>} */
    this.cells = new Map();
    this.dragged = false;
    this.current = 0;
    this.anchor = 0;
    this.gathering = false; // arrows leave the selection alone while it is gathered with x or ctrl
    this.follows = false; // the selection is one cell that only followed the arrows
    this.counter = 0;
    this.blurred = remembered("blur") === "1";
    this.said = "";
    this.grid = el("div", { class: "cells" });
    this.band = el("div", { class: "band", "aria-hidden": "true" });
    this.bar = el("div", { class: "bar", role: "group", "aria-label": "Label the selected images", hidden: true });
    this.alert = el("div", { class: "alert", role: "alert", hidden: true });
    this.sheet = new KeysSheet(() => this.focusCell());
    this.zoom = new Zoom(this);
    this.root = el("div", { class: "grid" }, el("div", { class: "head" }, this.bar, this.alert), this.grid, this.zoom.dialog, this.sheet.dialog);
    parent.append(this.root);
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.root.addEventListener("focusin", () => (lastUsed = this));
    this.grid.addEventListener("click", (event) => this.onClick(event));
    this.grid.addEventListener("dblclick", (event) => {
      const id = cellOf(event)?.dataset.id;
      if (id && this.editable && !closest(event, ".open")) this.open(id);
    });
    this.hold = new Hold(this.grid, (event) => this.onHold(event));
    this.grid.addEventListener("pointerdown", (event) => event.pointerType !== "touch" && this.onDrag(event));
    this.reporter = new Reporter(() => this.fire("changed", ++this.counter));
  }

  /** @param {import("../common/dom.js").Component<Data>} given */
  update({ data, setTriggerValue }) {
    this.fire = setTriggerValue;
    this.data = data;
    this.labels = Boolean(data.post_url && data.classes.length);
    this.editable = this.labels || Boolean(data.act); // pictures can be selected
    this.colors = new Map(data.classes.map((c) => [c.name, c.color]));
    const box = outboxOf(data.dataset_id);
    if (this.box && this.box !== box) this.box.leave(this);
    this.box = box;
    box.learn(data.items);
    if (this.size === undefined || this.given !== data.size) {
      this.given = data.size;
      const fitting = innerWidth < 640 ? Math.min(data.size, 104) : data.size; // three beside each other on a phone
      this.size = Number(remembered(`size.${data.key}`)) || fitting;
    }
    this.notes = data.items.some((item) => item.note);
    this.answers = this.notes || data.items.some((item) => item.predicted);
    this.setCaption(remembered(`caption.${data.key}`));
    this.root.style.setProperty("--size", `${this.size}px`);
    this.root.classList.toggle("editable", this.editable);
    this.root.classList.toggle("labels", this.labels);
    this.root.classList.toggle("worded", Object.keys(data.words ?? {}).length > 0);
    this.root.classList.toggle("blurred", this.blurred);
    this.grid.setAttribute("role", this.editable ? "listbox" : "group");
    this.grid.setAttribute("aria-label", this.labels ? "Images to label" : "Images");
    if (this.editable) this.grid.setAttribute("aria-multiselectable", "true");
    else this.grid.removeAttribute("aria-multiselectable");
    this.rebuild(data.items);
    this.buildBar();
    box.join(this, data);
    this.paint();
    const turned = this.turned && this.root.getBoundingClientRect().top < 0; // to another page, by a button below this one
    if (turned || (data.shown !== null && data.shown !== undefined && data.shown !== this.broughtFor)) this.bringIntoView();
    this.broughtFor = data.shown;
    clearTimeout(this.prefetching);
    this.prefetching = setTimeout(() => {
      this.fetched = (data.prefetch ?? []).map((url) => Object.assign(new Image(), { src: url }));
    }, 150);
  }

  /** A person's choice goes before the page's; a note is there to be read. @param {string | null} chosen */
  setCaption(chosen) {
    const possible = isCaption(chosen) && (chosen !== "prediction" || this.answers);
    this.caption = possible ? chosen : this.notes ? "prediction" : this.data.caption;
    this.root.dataset.caption = this.caption;
  }

  // Cells --------------------------------------------------------------------------------------

  /** @param {Item[]} items */
  rebuild(items) {
    const focusId = this.order[this.current];
    const anchorId = this.order[this.anchor];
    const hadFocus = this.grid.contains(focused(this.root));
    const same = items.some((item) => this.items.has(item.id)); // else it is another page of images
    this.turned = !same && this.items.size > 0;
    this.order = items.map((item) => item.id);
    this.items = new Map(items.map((item) => [item.id, item]));
    for (const [id, parts] of this.cells) {
      if (!this.items.has(id)) {
        parts.cell.remove();
        this.cells.delete(id);
      }
    }
    for (const id of [...this.selected]) if (!this.items.has(id)) this.selected.delete(id);
    if (!this.selected.size) this.gathering = this.follows = false;
    let next = this.grid.firstElementChild;
    for (const item of items) {
      const parts = this.cells.get(item.id) ?? this.build(item);
      if (parts.cell === next) next = parts.cell.nextElementSibling;
      else this.grid.insertBefore(parts.cell, next);
      if (item.url && parts.image.getAttribute("src") !== item.url) parts.image.src = item.url;
      parts.cell.classList.toggle("pixelated", Boolean(item.pixelated));
    }
    const place = (/** @type {string} */ id, /** @type {number} */ index) => (this.items.has(id) ? this.order.indexOf(id) : Math.min(index, items.length - 1));
    this.current = same ? Math.max(0, place(focusId, this.current)) : 0;
    this.anchor = same ? Math.max(0, place(anchorId, this.current)) : 0;
    if (hadFocus && !this.grid.contains(focused(this.root))) this.focusCell();
    if (this.zoom.open) this.zoom.show();
  }

  /** @param {Item} item */
  build(item) {
    // A picture is never dragged out by accident, and has its place before it loads.
    const image = el("img", { alt: "", loading: "lazy", decoding: "async", draggable: "false" });
    image.addEventListener("load", () => image.classList.add("loaded"));
    image.addEventListener("error", () => cell.classList.add("broken"));
    const open = el("span", { class: "open", title: "Open (Enter)" }, icon(ICONS.open)); // for the mouse: in an option no button may lie
    const flag = el("span", { class: "flag", title: "Flagged (f)", hidden: true }, icon(ICONS.flag));
    const chip = el("span", { class: "prediction", hidden: true });
    const mark = dot(null);
    const text = el("span", { class: "text" });
    const badge = el("span", { class: "badge", hidden: true }, mark, text);
    const split = el("span", { class: "split" });
    const sub = el("span", { class: "sub" });
    const cell = el(
      "div",
      { class: "cell", "data-id": item.id, tabindex: "-1" },
      el("div", { class: "picture" }, image, flag, chip, open),
      " ", // between words, for those who hear them
      el("div", { class: "foot" }, badge, " ", split),
      " ",
      sub,
    );
    const parts = { cell, image, flag, chip, dot: mark, text, badge, split, sub, color: "", name: "", role: "", drawn: "", item };
    this.cells.set(item.id, parts);
    return parts;
  }

  paint() {
    this.order.forEach((id, index) => this.paintCell(id, index));
    if (this.zoom.open) this.zoom.paint();
    if (!this.editable) return;
    const n = this.selected.size;
    const all = n > 0 && n === this.order.length;
    const able = (/** @type {Element} */ button, /** @type {number} */ yes) => button.setAttribute("aria-disabled", String(!yes));
    say(this.parts.count, n ? `${number(n)} selected` : this.labels ? "Click pictures, then press a class" : "Click pictures to select them");
    for (const button of this.bar.querySelectorAll(".class, .remove, .act")) able(button, n);
    if (this.parts.more) this.parts.more.disabled = !n;
    able(this.parts.undo, this.box.undos.length);
    able(this.parts.redo, this.box.redos.length);
    say(/** @type {Element} */ (this.parts.all.querySelector(".text")), all ? "Select none" : "Select page");
    this.parts.all.setAttribute("aria-label", all ? "Select none" : "Select page");
    this.paintSaid();
    if (this.shown === this.box.notice) return;
    this.shown = this.box.notice;
    this.alert.replaceChildren();
    this.alert.hidden = !this.shown;
    if (!this.shown) return;
    this.alert.setAttribute("role", this.shown.calm ? "status" : "alert");
    this.alert.classList.toggle("calm", Boolean(this.shown.calm));
    this.alert.append(
      el("span", {}, el("strong", {}, this.shown.text), " ", this.shown.hint),
      el("button", { type: "button", class: "quiet", "aria-label": "Close this message", onclick: () => this.dismiss() }, icon(ICONS.remove)),
    );
  }

  paintSaid() {
    const slow = this.box.slow;
    say(this.parts.said, this.box.unsaved || this.said);
    this.parts.said.classList.toggle("unsaved", slow);
    this.parts.said.title = slow && this.box.failing ? "The server does not answer. Trying again every two seconds; keep this page open." : this.said;
  }

  /** @param {string} id @param {number} index */
  paintCell(id, index) {
    const [p, item] = [this.cells.get(id), this.items.get(id)];
    if (!p || !item) return;
    const state = this.box.state(id);
    const drawn = JSON.stringify([state, this.selected.has(id), index === this.current, this.caption, this.editable]);
    if (p.item === item && p.drawn === drawn) return; // a key changes one cell of sixty: 2 ms for all of them, four times a key
    Object.assign(p, { item, drawn });
    const { label, flagged, pending, by, refused } = state;
    const differs = Boolean(item.predicted && label && item.predicted !== label);
    const answer = item.predicted ? `${item.predicted}${item.confidence == null ? "" : `: ${percent(item.confidence)}`}` : "";
    const sub = { name: item.name ?? "", prediction: item.note || answer, label: "", none: "" }[this.caption];
    p.badge.hidden = !label;
    say(p.text, label ?? "");
    p.badge.title = label ?? "";
    const color = this.colors.get(label ?? "") ?? "";
    if (p.color !== color) paintDot(p.dot, (p.color = color) || null);
    p.badge.classList.toggle("pending", pending);
    p.flag.hidden = !flagged;
    const named = !pending && by;
    say(p.split, named ? `by ${by}` : (item.split === "validation" ? "val" : (item.split ?? "")));
    p.split.title = named ? `${by} changed this` : (item.split ?? "");
    p.split.classList.toggle("by", Boolean(named));
    p.cell.classList.toggle("refused", Boolean(named && refused));
    p.cell.classList.toggle("differs", differs);
    p.chip.hidden = !answer || sub === answer || !(differs || !label);
    say(p.chip, answer);
    say(p.sub, sub);
    p.sub.title = sub;
    p.sub.classList.toggle("answer", sub === answer);
    const words = [item.alt || item.name || id, label ? `labelled ${label}` : "no label"];
    if (flagged) words.push("flagged");
    if (pending) words.push("not saved yet");
    if (named) words.push(`by ${by}`);
    if (answer) words.push(`${differs ? "the model disagrees: " : "predicted "}${answer}`);
    if (item.note) words.push(item.note);
    if (item.split) words.push(item.split);
    const role = this.editable ? "option" : "button";
    // Who speaks to the computer says what is seen: that is a part of the name.
    const seen = [p.chip.hidden ? "" : answer, label, p.split.textContent, sub].filter(Boolean).join(" ");
    const name = [...words, seen].filter(Boolean).join(", ");
    if (p.name !== name) p.cell.setAttribute("aria-label", (p.name = name));
    if (p.role !== role) p.cell.setAttribute("role", (p.role = role));
    if (this.editable) p.cell.setAttribute("aria-selected", String(this.selected.has(id)));
    else p.cell.removeAttribute("aria-selected");
    p.cell.tabIndex = index === this.current ? 0 : -1;
  }

  // The bar ------------------------------------------------------------------------------------

  buildBar() {
    this.bar.hidden = !this.editable;
    const sign = JSON.stringify([this.editable, this.labels, this.answers, this.notes, this.data.classes, this.data.words, this.data.act]);
    if (this.sign === sign) {
      if (this.editable) this.parts.caption.value = this.caption;
      return;
    }
    this.sign = sign;
    this.bar.replaceChildren();
    this.zoom.classes.replaceChildren();
    if (!this.editable) return;
    if (this.labels) this.zoom.classes.append(...this.classButtons());
    this.parts = this.buildParts();
  }

  buildParts() {
    /** @param {keyof typeof ICONS} name @param {string} label @param {string} key @param {() => unknown} act @param {string} [text] */
    const tool = (name, label, key, act, text) => {
      const words = text ? [el("span", { class: "text" }, text)] : [];
      return el("button", { type: "button", class: `tool ${name}`, title: `${label} (${key})`, "aria-label": named(label, text), onclick: (e) => this.press(e, act) }, icon(ICONS[name]), ...words);
    };
    const words = this.data.words ?? {};
    const classes = this.labels ? this.classButtons() : [];
    const blur = tool("blur", "Blur all pictures", "b", () => this.toggleBlur());
    blur.setAttribute("aria-pressed", String(this.blurred));
    const parts = {
      count: el("span", { class: "count" }),
      said: el("span", { class: "said", role: "status" }),
      more: classes.find((node) => node instanceof HTMLSelectElement),
      all: tool("page", "Select page", `${COMMAND}A`, () => this.selectPage(), "Select page"),
      undo: tool("undo", "Undo", `${COMMAND}Z`, () => this.undo(), "Undo"),
      redo: tool("redo", "Redo", `${COMMAND}Shift Z`, () => this.redo(), "Redo"),
      caption: this.captionChoice(),
      blur,
    };
    this.bar.append(
      el("div", { class: "state" }, parts.count, parts.said),
      ...(this.labels ? [el("div", { class: "classes" }, ...classes)] : []),
      el(
        "div",
        { class: "tools" },
        parts.all,
        ...(this.labels
          ? [
              tool("remove", "Remove label", "Backspace", () => this.assign(null), words.remove ?? "Remove label"),
              tool("flag", "Flag or unflag", "f", () => this.toggleFlag(), words.flag ?? "Flag"),
              parts.undo,
              parts.redo,
            ]
          : []),
        ...(this.data.act ? [this.actButton(this.data.act)] : []),
        el("span", { class: "rule" }),
        tool("zoom", "Show the picture large", "z", () => this.zoom.toggle()),
        blur,
        parts.caption,
        this.sizeSlider(),
        tool("keys", "Show the keys", "?", () => this.showKeys()),
      ),
    );
    return parts;
  }

  classButtons() {
    const classes = this.data.classes;
    const few = classes.length > 12 ? classes.slice(0, 9) : classes;
    const nodes = few.map(({ name, color, key = "" }) =>
      el(
        "button",
        { type: "button", class: "class", title: `Label “${name}”${key && ` (${key})`}`, "aria-keyshortcuts": spoken(key), onclick: (e) => this.press(e, () => this.assign(name)) },
        dot(color),
        el("span", { class: "text" }, name),
        ...(key ? [el("kbd", { "aria-hidden": "true" }, key)] : []),
      ),
    );
    const rest = classes.slice(few.length);
    if (!rest.length) return nodes;
    const options = rest.map((c, i) => el("option", { value: String(i) }, `${c.name}${c.key && `  (${c.key})`}`));
    const more = el("select", { class: "more", "aria-label": "More classes" }, el("option", { value: "" }, `${rest.length} more…`), ...options);
    more.addEventListener("change", () => {
      if (more.value !== "") this.assign(rest[Number(more.value)].name);
      more.value = "";
      this.focusCell();
    });
    return [...nodes, more];
  }

  /** @param {Act} act */
  actButton(act) {
    const button = { type: "button", class: "tool act", title: act.title, "aria-label": named(act.title, act.text) };
    return el("button", { ...button, onclick: (e) => this.press(e, () => this.act()) }, icon(ICONS[act.icon]), el("span", { class: "text" }, act.text));
  }

  captionChoice() {
    const names = Object.keys(CAPTIONS).filter(isCaption).filter((name) => name !== "prediction" || this.answers || this.caption === name);
    const choice = el("select", { class: "more", "aria-label": "Caption under the pictures", title: "What stands under the pictures" });
    choice.append(...names.map((name) => el("option", { value: name, selected: name === this.caption }, name === "prediction" && this.notes ? "Caption: note" : CAPTIONS[name])));
    choice.addEventListener("change", () => {
      remembered(`caption.${this.data.key}`, choice.value);
      this.setCaption(choice.value);
      this.paint();
      this.focusCell();
    });
    return choice;
  }

  sizeSlider() {
    const size = el("input", { type: "range", class: "size", min: "64", max: "256", step: "8", value: String(this.size), "aria-label": "Thumbnail size" });
    size.addEventListener("input", () => {
      this.size = Number(size.value);
      this.root.style.setProperty("--size", `${this.size}px`);
      remembered(`size.${this.data.key}`, String(this.size));
    });
    size.addEventListener("pointerup", () => this.focusCell());
    return el("label", { class: "sizes", title: "Thumbnail size" }, icon(ICONS.small), size, icon(ICONS.large));
  }

  /**
   * A click with the mouse gives the focus back to the pictures; a key press leaves it on the button.
   * @param {MouseEvent} event @param {() => unknown} act
   */
  press(event, act) {
    if (closest(event, "button")?.getAttribute("aria-disabled") === "true") return;
    act();
    if (event.detail > 0 && !this.sheet.open) this.focusCell();
  }

  /** @param {string} text */
  announce(text) {
    this.said = text;
    clearTimeout(this.saying);
    if (text) this.saying = setTimeout(() => this.announce(""), SAID_MS);
    if (this.editable) this.paintSaid();
    if (this.zoom.open) this.zoom.paint();
  }

  dismiss() {
    this.box.dismiss();
    this.focusCell();
  }

  showKeys() {
    const moves = [
      ["Arrows", this.editable ? "go to the next picture and select it" : "go to the next picture"],
      ["Enter", "open the picture"],
      ["z", "show the picture large; arrows go on"],
      ["b", "blur all pictures"],
    ];
    const labels = [
      ["1 … 9, 0", "give the selection class 1 … 10"],
      ...(this.data.classes.length > 10 ? [["Shift 1 … 0", "class 11 … 20"]] : []),
      ["Space", "go on to the next picture"],
      ["Backspace", "remove the label"],
      ["f", "flag or unflag"],
      [`${COMMAND}Z`, "undo"],
      [`${COMMAND}Shift Z`, "redo"],
    ];
    const selecting = [
      ["Shift arrows", "extend the selection"],
      ["x", "add or drop this picture; arrows then only move"],
      [`${COMMAND}A`, "select all on this page"],
      ["Escape", "select none"],
      ["Mouse", `drag a rectangle to select; ${mac ? "⌘" : "Ctrl"} adds`],
      ["Touch", "tap selects, hold selects up to here"],
    ];
    this.sheet.show([...(this.labels ? labels : []), ...(this.editable ? selecting : []), ...moves]);
  }

  // What a person does -------------------------------------------------------------------------

  get currentId() {
    return this.order[this.current];
  }

  // Under the zoom only the picture one sees is meant.
  targets() {
    return this.zoom.open ? [this.currentId] : this.order.filter((id) => this.selected.has(id));
  }

  act() {
    const ids = this.targets();
    if (!ids.length) return this.announce("Select pictures first");
    this.fire("acted", ids);
    this.selected.clear(); // a second click acts on nothing
    this.gathering = this.follows = false;
    this.paint();
  }

  /** @param {string | null} label */
  assign(label) {
    if (!this.labels) return;
    const ids = this.targets();
    if (!ids.length) return this.announce("Select pictures first");
    const n = this.box.apply("label", ids, label);
    this.announce(n ? described("label", n, label) : label === null ? "No label there" : `Already ${label}`);
  }

  toggleFlag() {
    if (!this.labels) return;
    const chosen = this.targets();
    const ids = chosen.length ? chosen : [this.currentId];
    const value = !ids.every((id) => this.box.state(id).flagged);
    this.announce(described("flagged", this.box.apply("flagged", ids, value), value));
  }

  undo() {
    this.announceStep("Undone", "Nothing to undo", this.box.undo());
  }

  redo() {
    this.announceStep("Redone", "Nothing to redo", this.box.redo());
  }

  /** @param {string} done @param {string} nothing @param {Travelled} step */
  announceStep(done, nothing, step) {
    const parts = step?.groups.map(([value, ids]) => described(step.field, ids.length, value)) ?? [];
    this.announce(parts.length ? `${done}: ${parts.join(", ")}` : nothing);
  }

  selectPage() {
    const all = this.selected.size === this.order.length;
    this.selected = new Set(all ? [] : this.order);
    this.gathering = !all;
    this.follows = false;
    this.paint();
  }

  toggleBlur() {
    this.blurred = !this.blurred;
    remembered("blur", this.blurred ? "1" : "0");
    this.root.classList.toggle("blurred", this.blurred);
    this.parts?.blur.setAttribute("aria-pressed", String(this.blurred));
  }

  /** @param {string} id */
  open(id) {
    if (this.zoom.open) this.zoom.dialog.close();
    this.fire("open", id);
  }

  /** @param {number} wait */
  changed(wait) {
    this.reporter.tell(wait);
  }

  focusCell() {
    const parts = this.cells.get(this.currentId);
    if (!parts) return;
    if (this.zoom.open) this.zoom.dialog.focus();
    else parts.cell.focus({ preventScroll: true });
    this.reveal(parts.cell);
  }

  // Somebody chose these images elsewhere on the page: they are shown where the first of them would be out of sight.
  bringIntoView() {
    requestAnimationFrame(() => {
      const { top } = this.grid.getBoundingClientRect();
      if (top >= 0 && top < innerHeight - 160) return;
      this.root.style.scrollMarginTop = innerWidth < 640 ? "19rem" : "15rem"; // with the words above it
      this.root.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    });
  }

  /** Into view, and out from under the bar that stays at the top. @param {HTMLElement} cell */
  reveal(cell) {
    cell.style.scrollMarginTop = `${this.bar.hidden ? 80 : this.bar.getBoundingClientRect().height + 72}px`;
    cell.scrollIntoView({ block: "nearest" });
  }

  /** @param {number} to @param {boolean} keep */
  range(to, keep) {
    if (!keep) this.selected.clear();
    const [a, b] = [Math.min(this.anchor, to), Math.max(this.anchor, to)];
    for (let i = a; i <= b; i++) this.selected.add(this.order[i]);
  }

  /** @param {string} id */
  toggle(id) {
    if (!this.selected.delete(id)) this.selected.add(id);
    this.gathering = this.selected.size > 0;
    this.follows = false;
  }

  /** @param {number} index */
  only(index) {
    this.selected.clear();
    if (this.order[index] !== undefined) this.selected.add(this.order[index]);
    this.anchor = index;
    this.gathering = this.follows = false;
  }

  /** @param {MouseEvent & Partial<PointerEvent>} event */
  onClick(event) {
    const cell = cellOf(event);
    const id = cell?.dataset.id;
    if (!cell || !id || this.dragged) return;
    const index = this.order.indexOf(id);
    this.current = index;
    if (this.hold.taken()) {
      // selected while it was held
    } else if (closest(event, ".open") || !this.editable) {
      this.open(id);
    } else if (event.shiftKey) {
      this.range(index, event.ctrlKey || event.metaKey);
      this.gathering = this.follows = false;
    } else if (event.ctrlKey || event.metaKey || event.pointerType === "touch") {
      this.toggle(id);
      this.anchor = index;
    } else {
      this.only(index);
    }
    this.paint();
    cell.focus({ preventScroll: true });
  }

  /** @param {PointerEvent} event */
  onHold(event) {
    const cell = cellOf(event);
    if (!cell || !this.editable) return null;
    return () => {
      this.current = this.order.indexOf(cell.dataset.id ?? "");
      this.range(this.current, true);
      this.gathering = true;
      this.paint();
    };
  }

  /**
   * A rectangle selects what it touches. It lives in the grid's own coordinates and is drawn anew in every frame,
   * so its first corner stays where it was put while the page scrolls under the pointer.
   * @param {PointerEvent} event
   */
  onDrag(event) {
    if (!this.editable || event.button !== 0 || event.shiftKey || closest(event, ".open")) return;
    const base = event.ctrlKey || event.metaKey ? new Set(this.selected) : new Set();
    const place = (/** @type {PointerEvent} */ { clientX, clientY }) => {
      const { left, top } = this.grid.getBoundingClientRect();
      return [clientX - left, clientY - top];
    };
    const [fromX, fromY] = place(event);
    const scroller = this.scroller();
    const end = new AbortController();
    let pointer = event;
    let drawn = "";
    let frame = 0;

    const draw = () => {
      const [x, y] = place(pointer);
      if (!this.dragged && Math.hypot(x - fromX, y - fromY) <= DRAG_PX) return;
      const [left, right, top, bottom] = [Math.min(x, fromX), Math.max(x, fromX), Math.min(y, fromY), Math.max(y, fromY)];
      const now = [left, top, right, bottom].join(" ");
      if (now === drawn) return;
      drawn = now;
      this.dragged = true;
      if (!this.band.isConnected) this.grid.append(this.band);
      this.band.style.cssText = `left:${left}px;top:${top}px;width:${right - left}px;height:${bottom - top}px`;
      const touched = this.order.filter((id) => {
        const cell = this.cells.get(id)?.cell;
        if (!cell) return false;
        const { offsetLeft, offsetTop, offsetWidth, offsetHeight } = cell;
        return offsetLeft < right && offsetLeft + offsetWidth > left && offsetTop < bottom && offsetTop + offsetHeight > top;
      });
      this.selected = new Set([...base, ...touched]);
      this.gathering = base.size > 0;
      this.follows = false;
      if (touched.length) {
        const ends = [touched[0], touched[touched.length - 1]].map((id) => this.order.indexOf(id));
        [this.anchor, this.current] = y < fromY ? ends.reverse() : ends;
      }
      this.paint();
    };
    const follow = () => {
      const below = Math.max(0, pointer.clientY - innerHeight + EDGE_PX);
      const above = Math.max(0, this.bar.getBoundingClientRect().bottom - pointer.clientY);
      if (this.dragged && below + above) scroller.scrollBy(0, (below - above) / 3);
      draw();
      frame = requestAnimationFrame(follow);
    };
    const finish = () => {
      end.abort();
      cancelAnimationFrame(frame);
      draw();
      this.band.remove();
      if (!this.dragged) return;
      this.cells.get(this.currentId)?.cell.focus({ preventScroll: true });
      setTimeout(() => (this.dragged = false)); // the click that follows is not one
    };
    addEventListener("pointermove", (moved) => (pointer = moved), { signal: end.signal });
    for (const name of ["pointerup", "pointercancel"]) addEventListener(name, finish, { signal: end.signal });
    frame = requestAnimationFrame(follow);
  }

  scroller() {
    /** @type {Element | undefined} */
    let node = this.root;
    for (; node; node = node.parentElement ?? hostOf(node)) {
      if (node.scrollHeight > node.clientHeight && /auto|scroll/.test(getComputedStyle(node).overflowY)) return node;
    }
    return document.documentElement;
  }

  /** @param {MouseEvent | KeyboardEvent} event @param {number} step */
  move(event, step) {
    const to = Math.max(0, Math.min(this.order.length - 1, this.current + step));
    this.current = to;
    if (this.editable) {
      if (event.shiftKey) {
        this.range(to, false);
        this.gathering = this.follows = false;
      } else if (!event.ctrlKey && !event.metaKey && !this.gathering) {
        this.only(to);
        this.follows = true;
      }
    }
    this.moved();
  }

  skip() {
    if (this.current === this.order.length - 1) this.announce("Last picture of this page");
    else this.current += 1;
    if (this.editable) {
      this.only(this.current);
      this.follows = true;
    }
    this.moved();
  }

  moved() {
    this.paint();
    if (!this.zoom.open) return this.focusCell();
    this.zoom.show();
    const shown = this.cells.get(this.currentId);
    if (shown) this.reveal(shown.cell);
  }

  columns() {
    return Math.max(1, getComputedStyle(this.grid).gridTemplateColumns.split(" ").length);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const from = event.composedPath()[0];
    if (from instanceof Element && from.closest("input, select, textarea, .sheet")) return;
    if (event.isComposing || event.altKey) return;
    if (this.handle(event, from instanceof Element && Boolean(from.closest("button")))) {
      event.preventDefault();
      event.stopPropagation();
      lastUsed = this;
    }
  }

  /** Answers whether the key was one of ours. @param {KeyboardEvent} event @param {boolean} onButton */
  handle(event, onButton) {
    const command = event.ctrlKey || event.metaKey;
    const key = event.key;
    const id = this.currentId;
    const zoomed = this.zoom.open;
    if (!id) return false;
    /** @type {Record<string, number>} */
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    /** @type {Record<string, number>} */
    const rows = { ArrowUp: -1, ArrowDown: 1, PageUp: -3, PageDown: 3 };
    if (key in steps) return this.move(event, steps[key]), true;
    if (key in rows) {
      const step = zoomed ? Math.sign(rows[key]) : rows[key] * this.columns();
      const to = this.current + step;
      if (key.startsWith("Arrow") && (to < 0 || to >= this.order.length)) return true;
      return this.move(event, step), true;
    }
    if (command) return this.editable && this.handleCommand(event);
    if (key === "?") return this.showKeys(), true;
    if (key === "b") return this.toggleBlur(), true;
    if (key === "z") return this.zoom.toggle(), true;
    if (key === "Escape" && zoomed) return this.zoom.toggle(), true;
    if (key === "Enter" && !onButton) return this.open(id), true;
    if (key === " " && !onButton) return this.editable || zoomed ? this.skip() : this.open(id), true;
    if (!this.editable) return false;
    if (key === "Escape") {
      const something = this.selected.size || this.box.notice;
      this.selected.clear();
      this.gathering = this.follows = false;
      this.box.dismiss();
      return Boolean(something);
    }
    if (key === "x" && !zoomed) {
      // One that only followed the arrows is kept: gathering begins with it.
      if (this.follows && this.selected.has(id)) [this.follows, this.gathering] = [false, true];
      else this.toggle(id);
      this.anchor = this.current;
      return this.paint(), true;
    }
    if (key === "f") return this.toggleFlag(), true;
    if (key === "Backspace" || key === "Delete") return this.assign(null), true;
    const digit = digitKey(event);
    if (!digit) return false;
    const chosen = this.data.classes.find((c) => c.key === digit);
    if (chosen) this.assign(chosen.name);
    return true;
  }

  /** @param {KeyboardEvent} event */
  handleCommand(event) {
    const key = event.key.toLowerCase();
    if (key === "a" && !event.shiftKey && !this.zoom.open) {
      if (this.selected.size < this.order.length) this.selectPage();
      return true;
    }
    if (!this.labels) return false;
    if (key === "z") return event.shiftKey ? this.redo() : this.undo(), true;
    if (key === "y" && !event.shiftKey) return this.redo(), true;
    return false;
  }

  end() {
    this.box?.leave(this);
    this.reporter.stop();
    this.hold.stop();
    clearTimeout(this.prefetching);
    clearTimeout(this.saying);
    this.sheet.close();
    if (this.zoom.open) this.zoom.dialog.close();
    if (lastUsed === this) lastUsed = null;
    this.root.remove(); // the place may be filled again
  }
}

// The current picture as large as the window allows. It takes its keys from the view.
class Zoom {
  /** @type {HTMLDialogElement} */
  dialog;
  /** @type {Item | undefined} */
  item;

  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.image = el("img", { alt: "", draggable: "false" });
    this.plate = el("div", { class: "plate" }, this.image);
    this.image.addEventListener("load", () => this.loaded());
    this.name = el("span", { class: "name" });
    this.dot = dot(null);
    this.label = el("span", { class: "text" });
    this.flag = el("span", { class: "mark", hidden: true }, icon(ICONS.flag), "flagged");
    this.by = el("span", { class: "by" });
    this.place = el("span", { class: "place" });
    this.said = el("span", { class: "said", role: "status" });
    this.classes = el("div", { class: "classes" });
    /** @param {keyof typeof ICONS} name @param {string} label @param {(event: MouseEvent) => unknown} act */
    const button = (name, label, act) => el("button", { type: "button", class: `tool ${name}`, title: label, "aria-label": label, onclick: (e) => view.press(e, () => act(e)) }, icon(ICONS[name]));
    this.flagging = button("flag", "Flag or unflag (f)", () => view.toggleFlag());
    this.dialog = el(
      "dialog",
      { class: "lightbox", "aria-label": "The picture, large", tabindex: "-1" },
      el("div", { class: "plates" }, this.plate),
      el(
        "div",
        { class: "info" },
        button("back", "Back (left arrow)", (e) => view.move(e, -1)),
        button("next", "Next (right arrow)", (e) => view.move(e, 1)),
        el("span", { class: "what", "aria-live": "polite" }, el("span", { class: "badge" }, this.dot, this.label), this.flag, this.by, this.name),
        this.said,
        this.place,
        this.flagging,
        button("remove", "Close (z)", () => this.toggle()),
      ),
      this.classes,
    );
    this.dialog.addEventListener("close", () => view.focusCell());
  }

  get open() {
    return this.dialog.open;
  }

  toggle() {
    if (this.open) return this.dialog.close();
    this.dialog.showModal();
    this.dialog.focus();
    this.show();
  }

  show() {
    const item = this.view.items.get(this.view.currentId);
    if (!item) return this.dialog.close();
    const same = this.item?.id === item.id;
    this.item = item;
    this.paint();
    if (same) return;
    this.image.classList.remove("loaded");
    this.plate.classList.toggle("pixelated", Boolean(item.pixelated));
    this.plate.style.backgroundImage = `url(${JSON.stringify(item.url)})`;
    this.image.src = item.picture || item.url;
    const next = this.view.items.get(this.view.order[this.view.current + 1]);
    if (next?.picture) this.ahead = Object.assign(new Image(), { src: next.picture });
  }

  loaded() {
    this.image.classList.add("loaded");
    this.plate.style.backgroundImage = "none";
  }

  paint() {
    const view = this.view;
    const { label, flagged, pending, by } = view.box.state(view.currentId);
    paintDot(this.dot, view.colors.get(label ?? ""));
    say(this.label, label ?? "no label");
    this.label.classList.toggle("pending", pending);
    this.flag.hidden = !flagged;
    this.flagging.hidden = !view.labels;
    say(this.by, !pending && by ? `by ${by}` : "");
    say(this.name, this.item?.name ?? "");
    say(this.place, `${view.current + 1} of ${view.order.length}`);
    say(this.said, view.box.notice?.text ?? view.said);
  }
}

export default mount(View);
