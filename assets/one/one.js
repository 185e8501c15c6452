// One picture at a time. Streamlit gives the first pictures and further ones when asked; everything a person decides
// goes through the outbox of assets/common/outbox.js, so the next picture is there before the key is up.

import { dot, paintDot } from "../common/colours.js";
import { ICONS, closest, el, icon, mount, remembered, say } from "../common/dom.js";
import { Hold } from "../common/gestures.js";
import { digitKey, mac, spoken } from "../common/keys.js";
import { count, number, percent } from "../common/numbers.js";
import { Reporter } from "../common/outbox.js";
import { outboxOf } from "../common/outboxes.js";
import { KeysSheet } from "../common/sheet.js";
import { Visit } from "./visit.js";

/** @typedef {ReturnType<import("../common/outbox.js").Outbox["undo"]>} Travelled */
/** @typedef {import("../common/outbox.js").Step} Step */
/** @typedef {import("./visit.js").Item} Item */
/** @typedef {{ name: string, color?: string | null, key: string, guideline?: string, accepted?: string[], rejected?: string[] }} Class */
/**
 * @typedef {import("../common/outbox.js").Joining & {
 *   key: string, dataset_id: number, items: Item[], classes: Class[], done: number, total: number, left: number, blur: boolean }} Data
 */
/** @typedef {HTMLImageElement & { state: "loading" | "ready" | "broken" }} Picture */

const FEW = 10; // fewer than this undecided: ask for more
const ASK_AGAIN_MS = 5000; // a question may be lost among Streamlit's events
const PATIENCE_MS = 60000;
const AHEAD = 3; // full pictures loaded before they are needed; of thumbnails FEW
const STRIP = 10;
const JUST_NOW_MS = 1000; // a key this soon after somebody else's label was meant for the picture as it was before
const MANY = 12; // more classes than this get a box to find them
const PHONE = 560; // px wide at most, as in one.css
const OWN_ICONS = {
  skip: "M3 3.5l5 4.5-5 4.5zM9 3.5l4 4.5-4 4.5",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
  details: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 7.3V11M8 5h.01",
};

// The view -----------------------------------------------------------------------------------------

/** @type {View | null} */
let active = null;

document.addEventListener("keydown", (event) => active?.onKey(event));

class View {
  /** @type {Data} */
  data;
  /** @type {import("../common/dom.js").Tell} */
  fire;
  /** @type {import("../common/outbox.js").Outbox} */
  box;
  /** @type {Visit} */
  visit;
  /** @type {Map<string, string | null | undefined>} of the classes */
  colors;
  /** @type {string | null} the picture to go on with after a look back */
  resume = null;
  /** @type {string | null} the label that the picture is expected to have */
  expected = null;
  /** @type {{ at: number, text: string, label: string | null } | null} what somebody else did to it, and what is told of that */
  news = null;
  /** @type {View["news"]} */
  newsShown = null;
  /** @type {import("../common/outbox.js").Outbox["notice"]} */
  noticeShown = null;
  /** @type {Picture | null | undefined} in full size */
  largeShown;
  /** @type {string | undefined} the class whose guideline is shown */
  guided;
  /** @type {string | null} the class pointed at */
  pointed = null;
  /** @type {string | undefined} what the classes, and the guideline, were built from */
  sign;
  /** @type {string | undefined} */
  guideSign;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  asking;
  blurred = false;
  words = "";
  beyond = 0; // pictures to come

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    /** @type {Map<string, { thumb: Picture, full: Picture | null }>} */
    this.pictures = new Map();
    /** @type {{ id: string, after?: string, top?: Step }[]} after is the one before it, top the outbox's last step when it was skipped */
    this.skips = [];
    /** @type {{ id: string, top?: Step }[]} */
    this.unskips = [];
    /** @type {HTMLButtonElement[]} one for each class */
    this.choices = [];
    /** @type {Map<string, ReturnType<View["buildDecision"]>>} */
    this.decided = new Map();
    this.counter = 0;
    this.patience = ASK_AGAIN_MS;
    this.hidden = remembered("hide-model") === "1";
    /** @param {string} name @param {string} path @param {string} text @param {string} key @param {() => unknown} act @param {string} [label] */
    const tool = (name, path, text, key, act, label = text) =>
      el("button", { type: "button", class: `tool ${name}`, title: key ? `${label} (${key})` : label, "aria-label": label, onclick: (e) => this.press(e, act) }, icon(path), el("span", { class: "text" }, text));
    const command = mac ? "⌘" : "Ctrl+";
    this.sheet = new KeysSheet(() => this.focus());
    const p = (this.parts = {
      name: el("strong", { class: "name" }),
      place: el("span", { class: "place" }),
      hint: el("span", { class: "hint" }),
      hide: tool("hide", OWN_ICONS.eye, "Hide the model's answer", "", () => this.toggleHidden()),
      labelled: el("span", { class: "labelled" }),
      unsaved: el("span", { class: "unsaved", role: "status" }),
      bar: el("progress", { class: "done", "aria-label": "Labelled" }),
      frame: el("div", { class: "frame" }),
      flagged: el("span", { class: "flagged", hidden: true }, icon(ICONS.flag), "flagged"),
      trouble: el("div", { class: "trouble", hidden: true }),
      banner: el("div", { class: "banner", role: "alert", hidden: true }),
      alert: el("div", { class: "alert", role: "alert", hidden: true }),
      find: el("input", { class: "find", type: "search", placeholder: "Find a class", "aria-label": "Find a class", autocomplete: "off", hidden: true }),
      choices: el("div", { class: "choices", role: "group", "aria-label": "Classes" }),
      guide: el("div", { class: "guide" }),
      skip: tool("skip", OWN_ICONS.skip, "Skip", "Space", () => this.skip()),
      flag: tool("flag", ICONS.flag, "Flag", "f", () => this.flag(), "Flag for somebody to look at"),
      undo: tool("undo", ICONS.undo, "Undo", `${command}Z`, () => this.undo()),
      redo: tool("redo", ICONS.redo, "Redo", mac ? "⇧⌘Z" : "Ctrl+Shift+Z", () => this.redo()),
      zoom: tool("zoom", ICONS.zoom, "Zoom", "z", () => this.toggleZoom(), "Zoom to full size"),
      blur: tool("blur", ICONS.blur, "Blur", "b", () => this.toggleBlur(), "Blur the pictures"),
      details: tool("details", OWN_ICONS.details, "Details", "Enter", () => this.open(), "Details of this picture"),
      keys: tool("keys", ICONS.keys, "Keys", "?", () => this.showKeys(), "Show the keys"),
      said: el("span", { class: "said" }),
      strip: el("ol", { class: "strip", "aria-label": "Last decisions" }),
      over: el("p", { class: "over", hidden: true }),
      live: el("div", { class: "live", "aria-live": "polite" }),
      large: el("dialog", { class: "large", "aria-label": "Full size" }),
    });
    this.stage = el("div", { class: "stage", tabindex: "0", role: "group" }, p.frame, p.flagged, p.trouble, p.banner, p.alert);
    const tools = el("div", { class: "tools", role: "toolbar", "aria-label": "This picture" }, p.skip, p.flag, p.undo, p.redo, p.zoom, p.blur, p.details, p.keys);
    this.root = el(
      "div",
      { class: "one" },
      el(
        "div",
        { class: "layout" },
        el(
          "div",
          { class: "top" },
          el("div", { class: "what" }, p.name, p.place),
          el("div", { class: "answer" }, p.hint, p.hide),
          el("div", { class: "progress" }, el("div", { class: "numbers" }, p.unsaved, p.labelled), p.bar),
        ),
        this.stage,
        el("div", { class: "side" }, p.find, p.choices, p.guide, tools),
        p.over,
        el("div", { class: "past" }, el("div", { class: "pasthead" }, el("span", {}, "Last decisions"), p.said), p.strip),
      ),
      p.live,
      this.sheet.dialog,
      p.large,
    );
    parent.append(this.root);
    p.find.addEventListener("input", () => this.filter());
    p.find.addEventListener("keydown", (event) => this.onFind(event));
    p.large.addEventListener("close", () => this.focus());
    this.hold = new Hold(p.choices, (event) => this.onHold(event));
    this.reporter = new Reporter(() => this.fire("changed", ++this.counter));
    this.swipes();
    this.pans();
  }

  /** @param {import("../common/dom.js").Component<Data>} given */
  update({ data, setTriggerValue }) {
    active = this;
    this.fire = setTriggerValue;
    this.data = data;
    this.box = outboxOf(data.dataset_id);
    this.box.join(this, data);
    this.box.learn(data.items);
    this.colors = new Map(data.classes.map((c) => [c.name, c.color]));
    const kept = remembered("blur");
    this.setBlur(kept === null ? data.blur : kept === "1");
    const visit = Visit.of(data.key, data.dataset_id);
    const arrives = this.visit !== visit;
    if (arrives) {
      this.visit = visit;
      visit.restart(data.items);
      [this.skips, this.unskips, this.resume] = [[], [], null];
    }
    visit.refresh(data.items);
    for (const id of visit.touched.keys()) {
      if (this.box.state(id).pending) continue;
      visit.touched.set(id, this.box.state(id).label !== null);
    }
    this.beyond = Math.max(0, data.left - data.items.length);
    this.buildClasses();
    const id = visit.current;
    if (arrives && id && this.isOpen(id)) this.show(id);
    else if (arrives || !id) this.advance(-1);
    else this.ask(), this.paint();
    if (arrives) this.focus();
    if (arrives && this.root.clientWidth < PHONE) this.root.scrollIntoView({ block: "start" }); // past the page's own controls
  }

  // Which picture ----------------------------------------------------------------------------------

  /** Taken: it came without a label, and has got one from somebody else since. @param {string} id */
  taken(id) {
    if (id === this.visit.current || this.visit.back.has(id)) return false;
    return this.visit.first.get(id) === null && this.box.state(id).label !== null;
  }

  /** @param {string} id */
  isOpen(id) {
    return !this.visit.handled.has(id) && !this.taken(id);
  }

  /** The next to decide after that place in the order, or the first of those passed over. @param {number} index */
  advance(index) {
    const { visit } = this;
    visit.current = null;
    if (this.resume && visit.order.includes(this.resume) && this.isOpen(this.resume)) return this.show(this.resume);
    this.ask();
    const next = visit.order.find((id, i) => i > index && this.isOpen(id)) ?? visit.order.find((id) => this.isOpen(id)) ?? null;
    this.show(next);
  }

  /** @param {string | null} id */
  show(id) {
    const { visit } = this;
    if (id && !visit.order.includes(id)) visit.order.splice(Math.max(0, visit.index(visit.current)), 0, id);
    if (id === this.resume) this.resume = null;
    visit.current = id;
    this.news = null;
    this.expected = id ? this.box.state(id).label : null;
    if (id && this.box.state(id).refused && visit.back.has(id)) this.tellNews(id, 0);
    this.guide(null);
    this.ask();
    this.preload();
    this.paint();
    const item = id ? visit.item(id) : null;
    if (item) this.announce(`${item.alt || this.named(item)}, ${this.place(item.id)}`);
    else if (this.parts.large.open) this.parts.large.close();
    if (!item && !this.root.hidden) this.announce(this.parts.over.textContent || this.parts.name.textContent);
  }

  /** Back to one decided or refused; afterwards the person goes on where they were. @param {string} id */
  revisit(id) {
    const { current } = this.visit;
    if (current && current !== id && !this.resume && this.isOpen(current)) this.resume = current;
    this.show(id);
    this.focus();
  }

  /** @param {number} by */
  step(by) {
    const { visit } = this;
    const id = visit.order[visit.index(visit.current) + by];
    this.resume = null;
    if (id) this.show(id);
    else this.tell(by > 0 ? "This is the last one of the batch" : "This is the first one of the batch");
  }

  // What is at hand already comes first; then Python is asked, again after a while if it did not answer; and when all
  // is decided and saved, so that the page can say so.
  /** @returns {void} */
  ask() {
    const { visit } = this;
    const index = visit.index(visit.current);
    const left = visit.order.filter((id, i) => i >= index && this.isOpen(id) && !visit.skipped.has(id)).length;
    if (left >= FEW) return;
    if (visit.add(this.data.items)) {
      this.patience = ASK_AGAIN_MS;
      clearTimeout(this.asking);
      this.asking = undefined;
      if (visit.current) this.preload();
      return this.ask();
    }
    const end = this.data.items.length > 0 && !this.box.ops.length && !visit.order.some((id) => this.isOpen(id));
    if (this.asking || (!this.beyond && !(end && this.patience < PATIENCE_MS))) return;
    const passed = visit.order.filter((id, i) => i < index || visit.handled.has(id) || visit.skipped.has(id));
    this.fire("more", [...new Set([...visit.handled, ...visit.skipped, ...passed])]);
    this.asking = setTimeout(() => {
      this.asking = undefined;
      this.patience = Math.min(PATIENCE_MS, 2 * this.patience);
      this.ask();
      this.paint();
    }, this.patience);
  }

  // More was asked for and may come any moment; after a first silence it is only asked for now and then.
  get waits() {
    return this.beyond > 0 && this.patience === ASK_AGAIN_MS;
  }

  /** @param {string} id */
  place(id) {
    const { order } = this.visit;
    return `${number(order.indexOf(id) + 1)} of ${number(order.length)} in this batch`;
  }

  /** @param {Item} item */
  named(item) {
    return item.name || item.alt || item.id;
  }

  // Pictures ---------------------------------------------------------------------------------------

  /** @param {string | undefined} url @param {string} id */
  load(url, id) {
    const image = /** @type {Picture} */ (new Image());
    image.alt = this.visit.item(id).alt || "";
    image.draggable = false;
    image.decoding = "sync"; // it is decoded before it is shown
    image.state = url ? "loading" : "broken";
    const settled = (/** @type {"ready" | "broken"} */ state) => {
      image.state = state;
      if (id === this.visit.current) this.paintPicture();
    };
    if (url) {
      image.src = url;
      image.decode().then(
        () => settled("ready"),
        () => settled(image.complete && image.naturalWidth ? "ready" : "broken"),
      );
    }
    return image;
  }

  preload() {
    const { visit } = this;
    const index = visit.index(visit.current);
    const next = visit.order.filter((id, i) => i > index && this.isOpen(id)).slice(0, FEW);
    const beside = [visit.order[index + 1], visit.order[index - 1], this.resume];
    const full = [visit.current, ...next.slice(0, AHEAD), ...beside].flatMap((id) => (id && visit.items.has(id) ? [id] : []));
    for (const id of new Set([...full, ...next])) {
      const item = visit.item(id);
      const picture = this.pictures.get(id) ?? { thumb: this.load(item.thumb, id), full: null };
      this.pictures.set(id, picture);
      if (!picture.full && full.includes(id)) picture.full = this.load(item.url, id);
    }
    const keep = new Set([...full, ...next]);
    for (const id of this.pictures.keys()) if (!keep.has(id)) this.pictures.delete(id);
  }

  /** What there is to see of it: the picture, its thumbnail meanwhile, or null. @param {string | null} id */
  seen(id) {
    const picture = id ? this.pictures.get(id) : undefined;
    return [picture?.full, picture?.thumb].find((image) => image?.state === "ready") ?? null;
  }

  paintPicture() {
    const p = this.parts;
    const id = this.visit.current;
    const { full, thumb } = (id && this.pictures.get(id)) || { full: null, thumb: null };
    const image = this.seen(id);
    if (image !== p.frame.firstChild || !image) p.frame.replaceChildren(...(image ? [image] : []));
    const broken = full?.state === "broken";
    const unseen = broken && thumb?.state === "broken";
    const told = !id ? "" : unseen ? "unseen" : broken && image ? "small" : "";
    this.stage.dataset.state = !id || unseen ? "broken" : image ? "ready" : "loading";
    for (const button of this.choices) button.setAttribute("aria-disabled", String(unseen));
    if (p.trouble.dataset.told !== told) {
      p.trouble.dataset.told = told;
      p.trouble.hidden = !told;
      const again = el("button", { type: "button", class: "tool again", onclick: (e) => this.press(e, () => this.reload()) }, "Try again");
      const text = unseen ? "This picture cannot be shown. Skip it, or flag it for somebody to look at." : "The full picture cannot be loaded. This is its thumbnail.";
      p.trouble.replaceChildren(el("span", {}, text), again);
      if (unseen) this.announce(text);
    }
    if (p.large.open) this.paintLarge();
  }

  reload() {
    this.pictures.delete(this.visit.current ?? "");
    this.preload();
    this.paintPicture();
  }

  // What a person does -----------------------------------------------------------------------------

  /** @param {string} name */
  label(name) {
    const { visit, box } = this;
    const id = visit.current;
    if (!id) return;
    if (!this.seen(id)) {
      const broken = this.stage.dataset.state === "broken";
      return this.tell(broken ? "Not labelled: the picture cannot be seen" : "Not labelled: the picture is still loading");
    }
    if (this.news && Date.now() - this.news.at < JUST_NOW_MS) return this.tell("Not labelled: somebody else was a moment faster. Press again if you disagree");
    this.touch(id);
    this.expected = name;
    box.apply("label", [id], name);
    this.unskips = [];
    visit.decide(id, name);
    this.flash(name);
    this.tell(`${this.named(visit.item(id))}: ${name}`);
    this.advance(visit.order.indexOf(id));
  }

  unlabel() {
    const { visit, box } = this;
    const id = visit.current;
    if (!id || box.state(id).label === null) return this.undo();
    this.touch(id);
    box.apply("label", [id], null);
    this.unskips = [];
    visit.undecide(id);
    this.news = null;
    this.tell(`${this.named(visit.item(id))}: label removed`);
    this.paint();
  }

  // One that is decided already is only left; another comes again at the end.
  skip() {
    const { visit, box } = this;
    const id = visit.current;
    if (!id) return;
    const index = visit.order.indexOf(id);
    if (this.news) {
      visit.handled.add(id);
      visit.back.delete(id);
    }
    if (visit.handled.has(id)) return this.advance(index);
    visit.skipped.add(id);
    this.skips.push({ id, after: visit.order[index - 1], top: box.undos.at(-1) });
    visit.move(id);
    this.unskips = [];
    this.tell(`${this.named(visit.item(id))}: skipped, it comes again at the end`);
    this.advance(index - 1);
    if (visit.current === id) this.tell("This is the only one left");
  }

  flag() {
    const id = this.visit.current;
    if (!id) return;
    const flagged = !this.box.state(id).flagged;
    this.box.apply("flagged", [id], flagged);
    this.unskips = [];
    this.tell(`${this.named(this.visit.item(id))}: ${flagged ? "flagged for somebody to look at" : "no longer flagged"}`);
  }

  // Labels and flags lie in the outbox, skips here; each skip knows what came before it.
  undo() {
    const { visit, box } = this;
    const last = this.skips.at(-1);
    if (last && last.top === box.undos.at(-1)) {
      this.skips.pop();
      this.unskips.push({ id: last.id, top: box.redos.at(-1) });
      visit.skipped.delete(last.id);
      visit.move(last.id, last.after ?? null);
      this.tell(`${this.named(visit.item(last.id))}: no longer skipped`);
      return this.show(last.id);
    }
    this.travel("Undone", box.undo());
  }

  redo() {
    const { box } = this;
    const last = this.unskips.at(-1);
    if (!last || last.top !== box.redos.at(-1)) return this.travel("Done again", box.redo());
    const rest = this.unskips.slice(0, -1);
    this.show(last.id);
    this.skip();
    this.unskips = rest;
  }

  /** @param {string} word @param {Travelled} step */
  travel(word, step) {
    const { visit, box } = this;
    if (!step) return this.tell(word === "Undone" ? "Nothing to undo" : "Nothing to do again");
    const ids = step.groups.flatMap(([, each]) => each);
    const here = ids.filter((id) => visit.items.has(id));
    this.resume = null;
    if (step.field === "label") {
      for (const id of here) {
        if (!visit.touched.has(id)) visit.touched.set(id, visit.first.get(id) !== null);
        if (box.state(id).label === visit.first.get(id)) visit.undecide(id);
        else visit.decide(id, box.state(id).label);
      }
    }
    if (!here.length) {
      this.tell(ids.length ? `${word}: ${count(ids.length, "picture", "pictures")} not shown here` : `${word}: nothing, it was changed otherwise since`);
      return this.paint();
    }
    const id = here[0];
    const state = box.state(id);
    const now = step.field === "label" ? (state.label ?? "no label") : state.flagged ? "flagged" : "not flagged";
    this.tell(`${word}. ${this.named(visit.item(id))}: ${now}`);
    if (word === "Undone" || step.field !== "label") this.show(id);
    else this.advance(visit.order.indexOf(id));
  }

  /** @param {string} id */
  touch(id) {
    if (!this.visit.touched.has(id)) this.visit.touched.set(id, this.box.state(id).label !== null);
  }

  open() {
    if (this.visit.current) this.fire("open", this.visit.current);
  }

  /** @param {number} wait */
  changed(wait) {
    if (!this.visit.current) this.ask();
    this.reporter.tell(wait);
  }

  // Painting ---------------------------------------------------------------------------------------

  paint() {
    if (!this.visit) return;
    const { visit, box, parts: p } = this;
    this.bringBack();
    const id = visit.current;
    const item = id ? visit.item(id) : undefined;
    const waits = !id && this.waits;
    this.root.hidden = !id && !waits && !visit.decisions.length;
    this.root.dataset.view = id || waits ? "work" : "over";
    p.over.hidden = Boolean(id || waits);
    const end = this.beyond ? "No further picture has come yet: others may be working on the rest." : "That was the last one.";
    say(p.over, p.over.hidden ? "" : `${end} Your last decisions can still be changed here.`);
    if (item) {
      const state = box.state(item.id);
      if (!state.pending && state.label !== this.expected) this.tellNews(item.id, Date.now());
      this.expected = state.label;
      for (const button of this.choices) button.setAttribute("aria-pressed", String(button.dataset.label === state.label));
      p.flag.setAttribute("aria-pressed", String(state.flagged));
      p.flagged.hidden = !state.flagged;
      p.frame.classList.toggle("pixelated", Boolean(item.pixelated));
    } else {
      for (const button of this.choices) button.setAttribute("aria-pressed", "false");
      p.flagged.hidden = true;
    }
    say(p.name, item ? this.named(item) : waits ? "Fetching more pictures …" : "");
    p.name.title = p.name.textContent;
    say(p.place, item ? this.place(item.id) : "");
    p.place.title = this.beyond ? `${count(this.beyond, "more picture", "more pictures")} after these` : "";
    this.stage.setAttribute("aria-label", item ? `Picture to label: ${item.alt || this.named(item)}` : "No picture");
    this.paintAnswer(item);
    this.paintPicture();
    this.paintBanner();
    this.paintNotice();
    this.paintProgress();
    this.paintStrip();
    p.undo.setAttribute("aria-disabled", String(!box.undos.length && !this.skips.length));
    p.redo.setAttribute("aria-disabled", String(!box.redos.length && !this.unskips.length));
    if (!this.pointed) this.guide(null);
  }

  // Refused, since somebody else was faster, or not saved: it comes next; nothing moves under a person's eyes.
  bringBack() {
    const { visit, box } = this;
    for (const id of visit.decisions.slice(0, 200)) {
      const state = box.state(id);
      const refused = state.refused && visit.refusals.get(id) !== state.seq;
      const lost = !state.pending && state.label === visit.first.get(id) && state.label !== visit.chosen.get(id);
      if (!refused && !lost) continue;
      visit.refusals.set(id, state.seq);
      visit.handled.delete(id);
      if (lost) visit.undecide(id);
      if (id === visit.current) continue;
      visit.back.add(id);
      visit.move(id, visit.current);
    }
    if (!visit.current && visit.back.size) this.show([...visit.back][0]);
  }

  /** @param {string} id @param {number} at */
  tellNews(id, at) {
    const { label, by } = this.box.state(id);
    this.news = { at, text: `${by ?? "Another window of yours"} ${label === null ? "removed the label of this" : "labelled this"}`, label };
  }

  paintBanner() {
    const { banner } = this.parts;
    if (this.newsShown === this.news) return;
    this.newsShown = this.news;
    banner.hidden = !this.news;
    banner.replaceChildren();
    if (!this.news) return;
    const { text, label } = this.news;
    banner.append(
      el("span", {}, text, ...(label === null ? [] : [" ", el("strong", {}, label)]), ". Choose a class if you disagree."),
      el("button", { type: "button", class: "tool next", onclick: (e) => this.press(e, () => this.skip()) }, "Next", el("kbd", { "aria-hidden": "true" }, "Space")),
    );
  }

  paintNotice() {
    const { alert } = this.parts;
    const { notice } = this.box;
    if (this.noticeShown === notice) return;
    this.noticeShown = notice;
    alert.hidden = !notice;
    alert.classList.toggle("calm", Boolean(notice?.calm));
    alert.replaceChildren();
    if (!notice) return;
    const back = [...this.visit.back][0];
    alert.append(
      el("span", {}, el("strong", {}, notice.text), " ", notice.hint),
      ...(back ? [el("button", { type: "button", class: "tool", onclick: () => (this.box.dismiss(), this.revisit(back)) }, "Show it")] : []),
      el("button", { type: "button", class: "quiet", "aria-label": "Close this message", onclick: () => (this.box.dismiss(), this.focus()) }, icon(ICONS.remove)),
    );
  }

  /** @param {Item | undefined} item */
  paintAnswer(item) {
    const p = this.parts;
    const sure = typeof item?.confidence === "number" ? `, ${percent(item.confidence)}` : "";
    const words = [item?.predicted ? `model: ${item.predicted}${sure}` : "", item?.note ?? ""].filter(Boolean);
    say(p.hint, this.hidden && item?.predicted ? "" : words.join(" · ")); // beside an answer, a note may give it away
    p.hint.title = p.hint.textContent;
    p.hide.hidden = !this.data.items.some((each) => each.predicted) && !item?.predicted;
    p.hide.setAttribute("aria-pressed", String(this.hidden));
    this.root.classList.toggle("plain", p.hide.hidden && !this.data.items.some((each) => each.note));
  }

  // Python's count, and what has changed since it counted.
  paintProgress() {
    const { parts: p, box, data } = this;
    let done = data.done;
    for (const [id, was] of this.visit.touched) done += Number(box.state(id).label !== null) - Number(was);
    done = Math.max(0, Math.min(data.total, done));
    say(p.labelled, `${number(done)} of ${number(data.total)} labelled`);
    p.bar.max = Math.max(1, data.total);
    p.bar.value = done;
    say(p.unsaved, box.unsaved);
    p.unsaved.title = box.failing ? "The server does not answer. Trying again every two seconds; keep this page open." : "";
  }

  paintStrip() {
    const { visit, box, parts: p } = this;
    const ids = visit.decisions.slice(0, STRIP);
    const cells = ids.map((id) => {
      const cell = this.decided.get(id) ?? this.buildDecision(id);
      const state = box.state(id);
      const name = this.named(visit.item(id));
      paintDot(cell.dot, this.colors.get(state.label ?? ""));
      say(cell.text, state.label ?? "no label");
      cell.badge.classList.toggle("pending", state.pending);
      cell.classList.toggle("refused", state.refused);
      cell.button.setAttribute("aria-current", String(id === visit.current));
      cell.button.setAttribute("aria-label", `${name}, ${state.label ?? "no label"}${state.pending ? ", not saved yet" : ""}${state.refused ? `, by ${state.by}` : ""}. Change it`);
      cell.button.title = `${name}: change it`;
      return cell;
    });
    this.decided = new Map(ids.map((id, i) => [id, cells[i]]));
    if (cells.length !== p.strip.children.length || cells.some((cell, i) => cell !== p.strip.children[i])) p.strip.replaceChildren(...cells);
    if (!cells.length && !p.said.textContent) say(p.said, "The last ten appear here; each can be changed.");
  }

  /** @param {string} id */
  buildDecision(id) {
    const item = this.visit.item(id);
    const mark = dot(null);
    const text = el("span", { class: "text" });
    const badge = el("span", { class: "badge" }, mark, text);
    const image = el("img", { src: item.thumb || item.url, alt: "", draggable: "false" });
    const button = el("button", { type: "button", class: `decision${item.pixelated ? " pixelated" : ""}`, onclick: () => this.revisit(id) }, image, badge);
    return Object.assign(el("li", { "data-id": id }, button), { dot: mark, text, badge, button });
  }

  // Classes ----------------------------------------------------------------------------------------

  buildClasses() {
    const { parts: p, data } = this;
    const sign = JSON.stringify(data.classes.map((c) => [c.name, c.color, c.key]));
    const guided = data.classes.some((c) => c.guideline || c.accepted?.length || c.rejected?.length);
    p.guide.hidden = !guided;
    if (this.sign === sign) return;
    this.sign = sign;
    p.find.hidden = data.classes.length <= MANY;
    this.root.classList.toggle("many", data.classes.length > MANY);
    this.choices = data.classes.map((c) => {
      const button = el(
        "button",
        { type: "button", class: "class", "data-label": c.name, title: c.name, "aria-keyshortcuts": c.key ? spoken(c.key) : null },
        dot(c.color),
        el("span", { class: "text" }, c.name),
        ...(c.key ? [el("kbd", { "aria-hidden": "true" }, c.key)] : []),
      );
      button.addEventListener("click", (event) => this.hold.taken() || this.press(event, () => this.label(c.name)));
      button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && this.guide(c.name));
      button.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.guide(null));
      button.addEventListener("focus", () => button.matches(":focus-visible") && this.guide(c.name));
      button.addEventListener("blur", () => this.guide(null));
      return button;
    });
    p.choices.replaceChildren(...this.choices);
    this.filter();
  }

  /** A finger that rests on a class shows what belongs to it. @param {PointerEvent} event */
  onHold(event) {
    const name = closest(event, ".class")?.dataset.label;
    return name && !this.parts.guide.hidden ? () => this.guide(name) : null;
  }

  /** The guideline of the class pointed at, else of the one chosen, else of the last one looked at. @param {string | null} name */
  guide(name) {
    this.pointed = name;
    const { parts: p, data, visit, box } = this;
    if (p.guide.hidden) return;
    const chosen = visit.current ? box.state(visit.current).label : null;
    const c = data.classes.find((each) => each.name === (name ?? chosen ?? this.guided));
    this.guided = c?.name;
    const sign = JSON.stringify(c ?? null);
    if (this.guideSign === sign) return;
    this.guideSign = sign;
    p.guide.classList.toggle("asked", Boolean(c));
    if (!c) return p.guide.replaceChildren(el("p", { class: "soft" }, "Point at a class to read what belongs to it."));
    /** @param {string} kind @param {string} word @param {string[] | undefined} urls */
    const row = (kind, word, urls) => (urls?.length ? [el("div", { class: `examples ${kind}` }, el("span", {}, word), ...urls.map((url) => el("img", { src: url, alt: word, draggable: "false" })))] : []);
    p.guide.replaceChildren(
      el("strong", {}, c.name),
      el("p", { class: c.guideline ? "" : "soft" }, c.guideline || "No guideline is written for this class."),
      ...row("accepted", "belongs", c.accepted),
      ...row("rejected", "does not belong", c.rejected),
    );
    p.guide.scrollTop = 0;
  }

  filter() {
    const wanted = this.parts.find.value.trim().toLowerCase();
    let first = true;
    // Names that begin so come first, without moving a button.
    const name = (/** @type {HTMLElement} */ button) => (button.dataset.label ?? "").toLowerCase();
    const starts = this.choices.find((button) => name(button).startsWith(wanted));
    for (const button of this.choices) {
      const fits = name(button).includes(wanted);
      button.hidden = !fits;
      const match = Boolean(wanted) && fits && (starts ? button === starts : first);
      button.classList.toggle("match", match);
      if (fits) first = false;
    }
  }

  /** @param {KeyboardEvent} event */
  onFind(event) {
    event.stopPropagation();
    if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
    event.preventDefault();
    const match = this.choices.find((button) => button.matches(".match"))?.dataset.label;
    if (event.key === "Enter" && (match === undefined || event.repeat)) return;
    this.parts.find.value = "";
    this.filter();
    if (event.key === "Enter" && match !== undefined) this.label(match); // the box keeps the focus: type the next name
    else this.focus();
  }

  /** @param {string} name */
  flash(name) {
    const button = this.choices.find((each) => each.dataset.label === name);
    button?.classList.remove("hit");
    void button?.offsetWidth; // so that the same class flashes again
    button?.classList.add("hit");
  }

  // Seeing -----------------------------------------------------------------------------------------

  /** @param {boolean} on */
  setBlur(on) {
    this.blurred = Boolean(on);
    this.root.classList.toggle("blurred", this.blurred);
    this.parts.blur.setAttribute("aria-pressed", String(this.blurred));
  }

  toggleBlur() {
    this.setBlur(!this.blurred);
    remembered("blur", this.blurred ? "1" : "0");
  }

  toggleHidden() {
    this.hidden = !this.hidden;
    remembered("hide-model", this.hidden ? "1" : "0");
    this.paint();
  }

  /** @returns {void} */
  toggleZoom() {
    const { large } = this.parts;
    if (large.open) return large.close();
    if (!this.visit.current) return;
    large.showModal();
    this.paintLarge();
  }

  paintLarge() {
    const { large } = this.parts;
    const image = this.seen(this.visit.current);
    if (this.largeShown === image && large.firstChild) return;
    this.largeShown = image;
    const copy = image?.cloneNode();
    const fits = !image || (image.naturalWidth <= innerWidth && image.naturalHeight <= innerHeight);
    large.classList.toggle("fits", fits);
    large.classList.toggle("pixelated", Boolean(this.visit.items.get(this.visit.current ?? "")?.pixelated));
    const close = el("button", { type: "button", class: "tool", onclick: () => large.close() }, "Close", el("kbd", { "aria-hidden": "true" }, "z"));
    const pane = el("div", { class: "pane" }, ...(copy ? [copy] : []));
    large.replaceChildren(pane, close);
    pane.scrollTo((pane.scrollWidth - pane.clientWidth) / 2, (pane.scrollHeight - pane.clientHeight) / 2);
  }

  showKeys() {
    const shifted = this.data.classes.some((c) => c.key?.startsWith("⇧"));
    const rows = [
      ["1 … 9, 0", "the class with this key, and on to the next picture"],
      ...(shifted ? [["Shift + 1 … 0", "the classes with ⇧"]] : []),
      ...(this.parts.find.hidden ? [] : [["/", "find a class by its name; Enter takes it"]]),
      ["Space", "skip: it comes again at the end"],
      ["Backspace", "remove the label, or take back the last decision"],
      [mac ? "⌘ Z" : "Ctrl Z", "undo, back to that picture"],
      [mac ? "⇧ ⌘ Z" : "Ctrl Shift Z", "do it again"],
      ["← →", "look around without deciding"],
      ["f", "flag for somebody to look at"],
      ["z", "zoom to full size"],
      ["b", "blur the pictures"],
      ["Enter", "details of this picture"],
      ["Touch", this.parts.guide.hidden ? "swipe looks around" : "swipe looks around, hold a class for its guideline"],
    ];
    this.sheet.show(rows);
  }

  /** For the eye beside the last decisions, for the ear with the next picture's name. @param {string} text */
  tell(text) {
    say(this.parts.said, text);
    this.announce(text);
  }

  /** @param {string} text */
  announce(text) {
    this.words = this.words ? `${this.words}. ${text}` : text;
    queueMicrotask(() => {
      if (this.words) this.parts.live.textContent = this.words;
      this.words = "";
    });
  }

  // Keys and fingers -------------------------------------------------------------------------------

  focus() {
    const from = document.activeElement?.shadowRoot?.activeElement ?? document.activeElement;
    const typing = from?.matches("input, select, textarea, [contenteditable]") && !this.root.contains(from);
    if (!typing && !this.root.hidden && !document.querySelector("[role=dialog]")) this.stage.focus({ preventScroll: true });
  }

  /**
   * A click with the mouse gives the focus back to the picture; a key press leaves it on the button.
   * @param {MouseEvent} event @param {() => unknown} act
   */
  press(event, act) {
    if (closest(event, "button")?.getAttribute("aria-disabled") === "true") return;
    act();
    if (event.detail > 0 && !this.sheet.open && !this.parts.large.open) this.focus();
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const from = event.composedPath()[0];
    const on = (/** @type {string} */ selector) => event.composedPath().some((node) => node instanceof Element && node.matches(selector));
    if (!this.root.isConnected || this.root.hidden || this.sheet.open) return;
    if (event.defaultPrevented || event.isComposing || event.altKey) return;
    if (on("input, select, textarea, [contenteditable], [role=dialog], [role=listbox], [role=menu], [role=combobox], [role=slider]")) return;
    const onButton = from instanceof Element && from.closest("button, a, summary, [role=button], [role=tab], [role=radio]") !== null;
    const onGroup = on("[role=radiogroup], [role=tablist]");
    if (!this.handle(event, onButton, onGroup)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /**
   * True when the key was one of ours, even if it did nothing: a held key must not label the pictures that follow.
   * @param {KeyboardEvent} event @param {boolean} onButton @param {boolean} onGroup
   */
  handle(event, onButton, onGroup) {
    const { key, repeat } = event;
    const once = (/** @type {() => unknown} */ act) => {
      if (!repeat) act();
      return true;
    };
    if (event.ctrlKey || event.metaKey) {
      if (key.toLowerCase() === "z") return once(() => (event.shiftKey ? this.redo() : this.undo()));
      return key.toLowerCase() === "y" && !mac && once(() => this.redo());
    }
    if (this.root.dataset.view === "over") return key === "Backspace" && once(() => this.undo());
    if ((key === "ArrowLeft" || key === "ArrowRight") && !onGroup && !event.shiftKey) return this.step(key === "ArrowLeft" ? -1 : 1), true;
    if (key === " " && !onButton) return once(() => this.skip());
    if (key === "Enter" && !onButton) return once(() => this.open());
    if (key === "Backspace" || key === "Delete") return once(() => this.unlabel());
    if (key === "/" && !this.parts.find.hidden) return this.parts.find.focus(), true;
    if (key === "?") return once(() => this.showKeys());
    /** @type {Record<string, () => unknown>} */
    const acts = { f: () => this.flag(), z: () => this.toggleZoom(), b: () => this.toggleBlur() };
    if (key.toLowerCase() in acts) return once(acts[key.toLowerCase()]);
    const digit = digitKey(event);
    if (!digit) return false;
    const chosen = this.data.classes.find((c) => c.key === digit);
    return once(() => chosen && this.label(chosen.name));
  }

  swipes() {
    const { stage } = this;
    /** @type {Touch | null} */
    let start = null;
    stage.addEventListener("touchstart", (event) => (start = event.touches.length === 1 ? event.touches[0] : null), { passive: true });
    stage.addEventListener("touchend", (event) => {
      const end = event.changedTouches[0];
      if (!start || closest(event, "button")) return;
      const [dx, dy] = [end.clientX - start.clientX, end.clientY - start.clientY];
      if (Math.abs(dx) > 50 && Math.abs(dx) > 2 * Math.abs(dy)) this.step(dx < 0 ? 1 : -1);
      start = null;
    });
    stage.addEventListener("dblclick", (event) => closest(event, "button") || this.toggleZoom());
  }

  // In full size a drag moves the picture, a click closes it.
  pans() {
    const { large } = this.parts;
    let moved = 0;
    large.addEventListener("pointerdown", () => (moved = 0));
    large.addEventListener("pointermove", (event) => {
      if (!event.buttons || event.pointerType !== "mouse") return;
      moved += Math.abs(event.movementX) + Math.abs(event.movementY);
      large.firstElementChild?.scrollBy(-event.movementX, -event.movementY);
    });
    large.addEventListener("click", (event) => !closest(event, "button") && moved < 5 && large.close());
  }

  end() {
    this.box?.leave(this);
    this.reporter.stop();
    this.hold.stop();
    clearTimeout(this.asking);
    this.sheet.close();
    this.parts.large.close();
    if (active === this) active = null;
    this.root.remove(); // the place may be filled again
  }
}

export default mount(View);
