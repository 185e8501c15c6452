// Review. One picture at a time, or many at once; all that is decided goes over the server's own routes.

import { el, mount, part, say } from "../common/dom.js";
import { percent } from "../common/numbers.js";
import { Aim } from "./aim.js";
import { patience, TOLD_MS } from "./desk.js";
import { Beside } from "./beside.js";
import { Hand } from "./hand.js";
import { Many } from "./many.js";
import { OWN_ICONS, Shell, words } from "./shell.js";

/** @typedef {import("./desk.js").Item} Item */
/** @typedef {import("./desk.js").Said} Said */
/** @typedef {import("./shell.js").Data} Data */
/** @typedef {HTMLImageElement & { state: "loading" | "ready" | "broken" }} Picture */

const AHEAD = 5; // pictures loaded before they are needed
const OWN = "own words"; // no reason of a list: those are sent as they are
const MANY = 12; // more classes than this stand in two columns
const SAID_MS = 4000;

export class One extends Shell {
  aim = new Aim();
  /** @type {number | null} the picture on the screen */
  onScreen = null;
  /** @type {Item | null} the one that a note is written for */
  noted = null;
  choiceSign = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  saying;
  /** @type {Map<number, number>} how often a picture has failed to load */
  tries = new Map();
  /** @type {{ id: number, image: Picture, shown: boolean } | null} what made the answer, in place of the picture it was made for */
  map = null;
  /** @type {Item | null} the one whose map is asked for */
  asking = null;

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    super(parent, "one");
    /** @type {Map<number, Picture>} */
    this.pictures = new Map();
    this.rows = [
      ["a", "yes: what the network says"],
      ["x", "none of these: it never joins the dataset"],
      ["e", "escalate to a lead, with a note"],
      ["Space", "skip: you do not get it again, others do"],
      ["h", "hold this picture for half an hour, also while you look elsewhere"],
      ["o", "hand it over to somebody by name"],
      ["Enter", "why: what made the network’s answer, over the picture"],
    ];
    const tool = this.tool.bind(this);
    const t = this.tools;
    const p = (this.parts = {
      name: el("strong", { class: "name" }),
      from: el("span", { class: "from" }),
      frame: el("div", { class: "frame" }),
      trouble: el("div", { class: "trouble", hidden: true }),
      clock: el("div", { class: "clock", role: "timer", hidden: true }),
      mapped: el("span", {}),
      lead: el("span", { class: "lead" }),
      says: el("span", { class: "says" }),
      would: el("span", { class: "would" }),
      unsure: el("div", { class: "unsure", role: "alert", hidden: true }),
      yes: el("button", { type: "button", class: "tool yes", hidden: true, onclick: (e) => this.press(e, () => this.accept()) }),
      said: el("div", { class: "tip", hidden: true }), // above what decides, where the eyes are, however far the page was scrolled
      or: el("span", { class: "or soft" }),
      choices: el("div", { class: "choices", role: "group", "aria-label": "It is" }),
      none: el("button", { type: "button", class: "class none", "aria-keyshortcuts": "x", onclick: (e) => this.press(e, () => this.act({ verdict: "rejected", label: null })) }, el("span", { class: "text" }, "None of these"), el("kbd", { "aria-hidden": "true" }, "x")),
      reason: el("select", { class: "reason", "aria-label": "Reason", hidden: true }),
      own: el("input", { class: "reason", type: "text", maxlength: "200", placeholder: "The reason, in your own words", "aria-label": "Reason in your own words", hidden: true }),
      note: el("textarea", { rows: "3", maxlength: "2000", placeholder: "What should the lead know?", "aria-label": "Note for the lead" }),
      noteSaid: el("p", { class: "soft" }),
    });
    this.box = el(
      "div",
      { class: "note", role: "group", "aria-label": "Escalate to a lead", hidden: true },
      p.noteSaid,
      p.note,
      el(
        "div",
        { class: "row" },
        el("button", { type: "button", class: "tool send", onclick: () => this.sendNote() }, "Escalate", el("kbd", {}, "Ctrl Enter")),
        el("button", { type: "button", class: "tool", onclick: () => this.closeNote() }, "Leave", el("kbd", {}, "Esc")),
      ),
    );
    p.reason.addEventListener("change", () => {
      p.own.hidden = p.reason.value !== OWN;
      (p.own.hidden ? this.place : p.own).focus({ preventScroll: true });
    });
    p.own.addEventListener("keydown", (event) => ["Enter", "Escape"].includes(event.key) && (event.stopPropagation(), this.place.focus({ preventScroll: true })));
    p.note.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") this.closeNote();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.sendNote();
    });
    const more = el("button", { type: "button", class: "link", onclick: () => this.explain() }, "More on Explain");
    this.caption = el("div", { class: "map", hidden: true }, p.mapped, more);
    this.place = el("div", { class: "stage", tabindex: "0", role: "group" }, p.frame, this.caption, p.trouble, p.clock);
    this.beside = new Beside(() => this.paintBody());
    this.hand = new Hand(this);
    const acts = el(
      "div",
      { class: "tools", role: "toolbar", "aria-label": "This picture" },
      tool("escalate", OWN_ICONS.up, "Escalate", "e", () => this.openNote(), "Escalate to a lead"),
      tool("skip", OWN_ICONS.skip, "Skip", "Space", () => this.skip(), "Skip: you do not get it again"),
      t.undo,
      tool("hold", OWN_ICONS.hold, "Hold", "h", () => this.hold(), "Keep this picture for half an hour"),
      tool("hand", OWN_ICONS.hand, "Hand over", "o", () => this.hand.open(), "Hand this picture over to somebody"),
      (this.asks = tool("why", OWN_ICONS.why, "Why", "Enter", () => this.why(), "Why the network answered so")),
      t.blur,
      t.grey,
      t.hide,
      t.care,
      t.keys,
    );
    const reveal = tool("clear", OWN_ICONS.eye, "Hold to see it", "r", () => {}, "Hold to see the picture clearly");
    for (const [name, on] of /** @type {const} */ ([["pointerdown", true], ["pointerup", false], ["pointerleave", false], ["pointercancel", false]])) reveal.addEventListener(name, () => this.reveal(on));
    this.place.append(reveal);
    this.body.append(
      el("div", { class: "what" }, p.name, p.from),
      this.place,
      el("div", { class: "side" }, el("p", { class: "answer" }, p.lead, p.says, p.would), p.unsure, this.box, this.hand.box, el("div", { class: "decide" }, el("div", { class: "said" }, p.said), p.yes, p.or, p.choices, p.none), p.reason, p.own, acts, this.beside.about, this.beside.guide),
    );
    this.shell.notices.remove();
    this.place.append(this.shell.notices);
  }

  get stage() {
    return this.place;
  }

  /** @param {boolean} arrives */
  arrived(arrives) {
    this.buildChoices();
    if (!arrives) return;
    this.onScreen = null;
    this.aim.clear();
    this.focus();
  }

  // What a person does -----------------------------------------------------------------------------

  /** Which picture a key or click was meant for. @param {number} at @returns {"current" | "before" | null} */
  meant(at) {
    const id = this.aim.of(at);
    if (id === null) return null;
    return id === this.desk.current?.id ? "current" : id === this.desk.past.at(-1)?.item.id ? "before" : null;
  }

  /** @param {Said} said @param {number} [at] when it was pressed */
  act(said, at = performance.now()) {
    const { desk } = this;
    const how = { hint: !this.hidden, seconds: null };
    const meant = this.meant(at);
    if (meant === "before") {
      const one = desk.past[desk.past.length - 1];
      if (!one.said || (one.said.verdict === said.verdict && one.said.label === said.label)) return; // a double press
      if (said.verdict === "accepted" && one.said.label === one.item.predicted) return;
      if (said.verdict === "accepted") return this.early();
      desk.change(one, said, { ...how, hint: !this.hidden && !one.item.blind });
      this.announce(`${one.item.name}: ${words(said)}, changed`);
      return this.paint();
    }
    const item = desk.current;
    if (!item) return;
    if (desk.lapsed) return void desk.renew();
    if (meant === null) return this.early();
    const { reason: listed, own } = this.parts;
    const reason = listed.value === OWN ? own.value.trim() : listed.value;
    const seconds = this.aim.now ? Math.max(0, (at - this.aim.now.at) / 1000) : null;
    this.leave(item, said);
    desk.decide(item, { ...said, ...(reason && said.verdict !== "escalated" ? { reason } : {}) }, { hint: !this.hidden && !item.blind, seconds });
    this.announce(`${item.name}: ${words(said)}`);
    this.aim.decided(item.id, at);
    this.paint();
  }

  early() {
    const { state } = this.place.dataset;
    const item = this.desk.current;
    if (!item) return;
    const why = state === "loading" ? "the picture is still loading" : state === "broken" ? "the picture cannot be seen: skip it" : "the picture had only just appeared. Press again";
    this.say(`Not decided: ${why}.`);
  }

  /** For a moment. @param {string} text */
  say(text) {
    const { said } = this.parts;
    this.announce(text);
    say(said, text);
    said.hidden = false;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => (said.hidden = true), SAID_MS);
  }

  /** @param {Item} item @param {Said | null} said */
  leave(item, said) {
    this.saw(item, said);
    this.map = null;
    this.beside.known.delete(item.id); // asked again if it comes back: somebody has decided since
    this.parts.reason.value = this.parts.own.value = "";
    this.parts.own.hidden = true;
    if (this.noted === item) this.closeNote();
    if (this.hand.item === item) this.hand.close();
  }

  accept(at = performance.now()) {
    const item = this.meant(at) === "before" ? this.desk.past.at(-1)?.item : this.desk.current;
    if (!item) return;
    if (item.blind || this.hidden) return this.say("The network’s answer is hidden here: choose a class.");
    this.act({ verdict: "accepted", label: item.predicted }, at);
  }

  skip(at = performance.now()) {
    const item = this.desk.current;
    if (!item) return;
    if (this.desk.lapsed) return void this.desk.renew();
    if (this.meant(at) !== "current" && this.place.dataset.state === "ready") return this.early();
    this.leave(item, null);
    this.desk.skip(item);
    this.announce(`${item.name}: skipped`);
    this.aim.clear();
    this.paint();
  }

  async hold() {
    const text = await this.desk.hold();
    if (text) this.say(text);
  }

  /** Shows what made the answer over the picture, or the picture again; what is decided meanwhile does not wait for it. */
  async why() {
    const { desk } = this;
    const item = desk.current;
    if (!item) return;
    if (desk.lapsed) return void desk.renew();
    if (this.told(item) === null) return this.say("The network’s answer is hidden here, and so is what made it.");
    if (this.map?.id === item.id) {
      this.map.shown = !this.map.shown;
      return this.paint();
    }
    this.say("Looking for what made the answer …");
    if (this.asking === item) return; // it is asked once
    this.map = null;
    this.asking = item;
    const found = await desk.why(item);
    if (this.asking === item) this.asking = null;
    if (desk.current !== item || this.told(item) === null) return;
    if (!found?.picture) return this.say(found?.error ? `${found.error.message} ${found.error.hint ?? ""}` : "The server does not answer.");
    const image = this.image();
    image.src = found.picture;
    const whole = await image.decode().then(
      () => true,
      () => false,
    );
    if (desk.current !== item) return;
    if (!whole) return this.say("The map cannot be shown: it did not come whole. Press again.");
    image.state = "ready";
    this.map = { id: item.id, image, shown: true };
    say(this.parts.mapped, found.words ?? "");
    this.parts.said.hidden = true;
    this.announce(found.words ?? "");
    this.paint();
  }

  /** The same on its own page, with other methods. */
  explain() {
    const item = this.desk.current;
    if (!item) return;
    this.desk.hold(); // it is there again on the way back
    this.fire("why", item.id);
  }

  shown() {
    this.aim.clear();
  }

  // The note ---------------------------------------------------------------------------------------

  openNote() {
    const item = this.desk.current;
    if (!item) return;
    this.noted = item;
    this.desk.noting = true;
    this.box.hidden = false;
    this.paintNote();
    this.parts.note.focus();
  }

  closeNote() {
    this.noted = null;
    this.desk.noting = false;
    this.box.hidden = true;
    this.parts.note.value = "";
    this.parts.note.blur();
    this.focus();
    this.paint();
  }

  sendNote() {
    const { noted, desk } = this;
    if (!noted) return;
    const note = this.parts.note.value.trim();
    if (!note) {
      say(this.parts.noteSaid, "Write a sentence for the lead: what makes it hard?");
      return this.parts.note.focus();
    }
    if (desk.current !== noted) desk.items.unshift(noted); // it may be free again: the server says
    const item = noted;
    this.leave(item, { verdict: "escalated", label: null });
    desk.decide(item, { verdict: "escalated", label: null, note }, { hint: !this.hidden && !item.blind, seconds: null });
    this.announce(`${item.name}: escalated`);
    this.aim.decided(item.id, performance.now());
    this.paint();
  }

  paintNote() {
    const { noted, desk } = this;
    if (!noted) return;
    const lost = desk.lapsed || desk.current !== noted;
    const text = lost ? `Your time on ${noted.name} ran out while you were writing. Your note is kept here: escalate to try all the same, or leave.` : `${noted.name} goes to a lead, with your note. It stays yours meanwhile.`;
    say(this.parts.noteSaid, text);
    this.parts.noteSaid.classList.toggle("late", lost);
  }

  // Pictures ---------------------------------------------------------------------------------------

  /** @param {Item} item */
  urlOf(item) {
    return this.beside.frameOf(item) ?? item.url;
  }

  /** @param {Item} item */
  load(item) {
    const url = this.urlOf(item);
    const known = this.pictures.get(item.id);
    if (known && known.getAttribute("src") === url) return known;
    const image = this.image();
    image.src = url;
    const settled = (/** @type {"ready" | "broken"} */ state) => {
      image.state = state;
      if (state === "broken") this.retry(item.id, image);
      if (item.id === this.desk.current?.id) this.paintPicture();
    };
    image.decode().then(
      () => settled("ready"),
      () => settled(image.complete && image.naturalWidth ? "ready" : "broken"),
    );
    this.pictures.set(item.id, image);
    return image;
  }

  image() {
    const image = /** @type {Picture} */ (new Image());
    image.alt = "The picture to decide on";
    image.draggable = false;
    image.decoding = "sync"; // it is decoded before it is shown
    image.state = "loading";
    return image;
  }

  /** The server may only have been away. @param {number} id @param {Picture} image */
  retry(id, image) {
    const tries = (this.tries.get(id) ?? 0) + 1;
    this.tries.set(id, tries);
    const again = () => {
      if (this.pictures.get(id) !== image) return;
      this.pictures.delete(id);
      const item = this.desk.items.slice(0, AHEAD).find((one) => one.id === id);
      if (item && this.root.isConnected) this.load(item), this.paintPicture();
    };
    setTimeout(again, patience(tries));
  }

  preload() {
    const next = this.desk.items.slice(0, AHEAD);
    for (const item of next) this.load(item);
    const keep = new Set([...next.map((item) => item.id), ...this.desk.past.slice(-3).map((one) => one.item.id)]);
    for (const id of this.pictures.keys()) if (!keep.has(id)) this.pictures.delete(id);
    this.beside.fetch(next.slice(0, 3), this.data.token, this.desk.want.unstored.length > 0);
  }

  paintPicture() {
    const { desk, parts: p } = this;
    const item = desk.current;
    const map = item && this.map?.id === item.id && this.map.shown && this.told(item) !== null ? this.map.image : null;
    const image = item && !desk.lapsed ? (map ?? this.load(item)) : null;
    const ready = image?.state === "ready";
    this.caption.hidden = !map || !image;
    this.asks.setAttribute("aria-pressed", String(!this.caption.hidden));
    const state = !item || !image ? "none" : image.state;
    this.place.dataset.state = state;
    if (ready ? p.frame.firstChild !== image : p.frame.firstChild) p.frame.replaceChildren(...(ready ? [image] : []));
    if (item) this.dress(p.frame, item);
    p.frame.classList.toggle("pixelated", Boolean(ready && Math.max(image.naturalWidth, image.naturalHeight) <= 128));
    if (ready && this.onScreen !== item?.id) {
      const id = /** @type {Item} */ (item).id;
      this.onScreen = id;
      requestAnimationFrame(() => this.desk.current?.id === id && this.aim.shown(id, performance.now()));
    } else if (ready && item && this.aim.now?.id !== item.id) requestAnimationFrame(() => this.desk.current?.id === item.id && this.aim.shown(item.id, performance.now()));
    if (!ready) this.onScreen = null;
    const told = desk.lapsed && item ? "lapsed" : state === "broken" ? "broken" : "";
    if (p.trouble.dataset.told === told) return;
    p.trouble.dataset.told = told;
    p.trouble.hidden = !told;
    const again = el("button", { type: "button", class: "tool", onclick: (e) => this.press(e, () => (told === "lapsed" ? desk.renew() : (this.pictures.delete(desk.current?.id ?? 0), this.paintPicture()))) }, told === "lapsed" ? "Go on" : "Try again");
    const text = told === "lapsed" ? "Your time on this picture ran out: somebody else may get it now." : "This picture cannot be shown. Skip it, or escalate it.";
    p.trouble.replaceChildren(...(told ? [el("span", {}, text), again] : []));
    if (told) this.announce(text);
  }

  // Painting ---------------------------------------------------------------------------------------

  buildChoices() {
    const { classes } = this.data;
    const sign = JSON.stringify(classes.map((c) => [c.name, c.color, c.key]));
    this.beside.learn(classes);
    if (this.choiceSign === sign) return;
    this.choiceSign = sign;
    this.root.classList.toggle("many", classes.length > MANY);
    const buttons = classes.map((c) => {
      const button = this.choice(c, (e) => this.press(e, () => this.act({ verdict: "corrected", label: c.name })));
      button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && this.beside.guideTo(c.name));
      button.addEventListener("focus", () => button.matches(":focus-visible") && this.beside.guideTo(c.name));
      return button;
    });
    this.parts.choices.replaceChildren(...buttons);
  }

  paintBody() {
    const { desk, parts: p } = this;
    const item = desk.current;
    this.preload();
    this.paintPicture();
    this.paintClock();
    this.paintNote();
    if (!item) return;
    const told = this.told(item);
    say(p.name, item.name);
    p.name.title = item.name;
    say(p.from, this.beside.from(item));
    const sure = item.top[0]?.[1];
    const about = this.beside.known.get(item.id);
    const before = about?.earlier.at(-1)?.verdict;
    const lead = before === undefined ? "A lead decides this one." : before === "escalated" ? "Somebody escalated it: you decide." : "Two answers differ: you decide.";
    say(p.lead, item.stage === "lead" ? lead : item.stage === "appeal" ? "This decision was appealed: decide anew." : "");
    say(p.says, told ? `The network is ${percent(sure ?? 0)} sure (${item.run}).` : item.blind ? "Decide without the network’s answer." : "The network’s answer is hidden.");
    say(p.would, told && item.band ? `The policy would ${{ pass: "let it pass", ask: "ask a person", block: "block it" }[item.band] ?? item.band}.` : "");
    p.yes.hidden = !told;
    const label = about?.have?.label;
    const other = told && label && label !== told ? label : null; // yes keeps it, and the answer's own class changes it
    if (told) {
      const key = this.data.classes.find((c) => c.name === told)?.key;
      p.yes.title = other ? `Yes: ${told} (a). The dataset’s label stays ${other}.` : `Yes: ${told} (a${key && about ? ` or ${key}` : ""})`;
      if (p.yes.dataset.label !== told) {
        p.yes.dataset.label = told;
        p.yes.setAttribute("aria-keyshortcuts", "a");
        p.yes.replaceChildren(el("span", { class: "text" }, `Yes: ${told}`), el("kbd", { "aria-hidden": "true" }, "a"));
      }
    }
    say(p.or, told ? "Or it is …" : "It is …");
    for (const child of p.choices.children) {
      const button = /** @type {HTMLElement} */ (child);
      const name = button.dataset.label ?? "";
      const changes = other !== null && name === told;
      button.hidden = told === name && !changes;
      if (changes || button.classList.contains("changes")) say(part(button, ".text"), changes ? `${name}: change the label from ${other}` : name);
      button.classList.toggle("changes", changes);
    }
    this.paintUnsure(item);
    this.paintReasons();
    this.place.setAttribute("aria-label", `Picture to decide on: ${item.name}`);
    this.beside.show(item, told === null);
  }

  paintClock() {
    const { desk, parts: p } = this;
    const item = desk.current;
    const left = item && !desk.lapsed ? desk.left(item.id) : Infinity;
    p.clock.hidden = left > TOLD_MS;
    if (left <= TOLD_MS) say(p.clock, `Yours for another ${Math.max(0, Math.ceil(left / 1000))} s`);
  }

  /** What the server did not take without a second word. @param {Item} item */
  paintUnsure(item) {
    const { unsure } = this.parts;
    const asked = this.desk.unsure.get(item.id);
    const sign = asked ? `${item.id} ${asked.problem}` : "";
    if (unsure.dataset.sign === sign) return;
    unsure.dataset.sign = sign;
    unsure.hidden = !asked;
    if (!asked) return unsure.replaceChildren();
    const { problem, ...said } = asked;
    const again = () => this.act({ ...said, sure: true });
    unsure.replaceChildren(el("span", {}, problem), el("button", { type: "button", class: "tool sure", onclick: (e) => this.press(e, again) }, `Change it all the same: ${words(said)}`));
  }

  paintReasons() {
    const { reason, own } = this.parts;
    const all = Object.entries(this.desk.reasons).filter(([, some]) => some.length);
    const sign = JSON.stringify(all);
    reason.hidden = this.desk.policy === null;
    own.hidden = reason.hidden || reason.value !== OWN;
    if (reason.dataset.sign === sign) return;
    reason.dataset.sign = sign;
    const before = reason.value;
    const groups = all.map(([name, some]) => el("optgroup", { label: name }, ...some.map((one) => el("option", { value: one }, one))));
    reason.replaceChildren(el("option", { value: "" }, "Reason, if one is asked for"), ...groups, el("option", { value: OWN }, "In your own words …"));
    if ([...reason.options].some((one) => one.value === before)) reason.value = before;
  }

  // Keys -------------------------------------------------------------------------------------------

  /** @param {KeyboardEvent} event @param {boolean} onButton */
  handle(event, onButton) {
    const { key, repeat, timeStamp } = event;
    if (super.handle(event, onButton)) return true;
    if (event.ctrlKey || event.metaKey) return false;
    const once = (/** @type {() => unknown} */ act) => {
      if (!repeat) act();
      return true;
    };
    if (key === " " && !onButton) return once(() => this.skip(timeStamp));
    if (key === "Enter" && !onButton) return once(() => this.why());
    /** @type {Record<string, () => unknown>} */
    const acts = { a: () => this.accept(timeStamp), x: () => this.act({ verdict: "rejected", label: null }, timeStamp), e: () => this.openNote(), h: () => this.hold(), o: () => this.hand.open() };
    if (key.toLowerCase() in acts) return once(acts[key.toLowerCase()]);
    const chosen = this.classOf(event);
    if (chosen === undefined) return false;
    return once(() => chosen && this.act({ verdict: "corrected", label: chosen.name }, timeStamp));
  }
}

// Which of the two a page asks for.
class View {
  /** @type {One | Many | null} */
  inner = null;

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    this.parent = parent;
  }

  /** @param {import("../common/dom.js").Component<Data>} given */
  update(given) {
    const Kind = given.data.view === "grid" ? Many : One;
    if (!(this.inner instanceof Kind)) {
      this.inner?.end();
      this.inner = new Kind(this.parent);
    }
    this.inner.update(given);
  }

  end() {
    this.inner?.end();
    this.inner = null;
  }
}

export default mount(View);
