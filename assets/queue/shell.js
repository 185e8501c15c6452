// What the queue and its grid have in common: counts, messages, the last decisions, care, and the keys that mean the same in both.

import { dot } from "../common/colours.js";
import { ICONS, closest, el, icon, remembered, say } from "../common/dom.js";
import { COMMAND, digitKey, spoken } from "../common/keys.js";
import { count, number } from "../common/numbers.js";
import { KeysSheet } from "../common/sheet.js";
import { stamp } from "../common/times.js";
import { remember } from "../common/who.js";
import { Care, UNTOLD } from "./care.js";
import { CarePanel } from "./panel.js";
import { deskOf, leave } from "./desks.js";

const PHONE = 560; // px wide at most, as in queue.css
const SIDEWAYS = matchMedia("(max-height: 520px) and (orientation: landscape)"); // as there
const QUIET_MS = 2000; // after the last decision the page's own numbers follow

/** @typedef {import("./desk.js").Item} Item */
/** @typedef {import("./desk.js").Said} Said */
/** @typedef {import("./desk.js").Decision} Decision */
/** @typedef {{ name: string, color?: string | null, key: string, guideline?: string, accepted?: string[], rejected?: string[] }} Class */
/**
 * @typedef {{ key: string, view: "one" | "grid", dataset_id: number, token: string, user: string, named: boolean, classes: Class[],
 *   order: string, predicted: string | null, source: string | null, size: number }} Data
 */

export const OWN_ICONS = {
  skip: "M3 3.5l5 4.5-5 4.5zM9 3.5l4 4.5-4 4.5",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
  up: "M8 13V3.5M4 7.5l4-4 4 4",
  hold: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 4.8V8l2.2 1.6",
  hand: "M2 8h10M8.5 4.5L12 8l-3.5 3.5M14 3v10",
  grey: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 2v12",
  heart: "M8 13.5S2.5 10 2.5 6.2A2.9 2.9 0 0 1 8 5a2.9 2.9 0 0 1 5.5 1.2C13.5 10 8 13.5 8 13.5z",
  why: "M6.2 6a1.8 1.8 0 1 1 2.6 1.6c-.6.3-.8.7-.8 1.4M8 11.3h.01M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12z",
};

/** In words. @param {{ verdict: string, label: string | null }} said */
export function words({ verdict, label }) {
  if (verdict === "escalated") return "escalated";
  if (verdict === "appealed") return "appealed";
  return verdict === "rejected" ? "none of these" : (label ?? "");
}

/** @type {Shell | null} */
let active = null;

document.addEventListener("keydown", (event) => active?.onKey(event));
document.addEventListener("keyup", (event) => event.key.toLowerCase() === "r" && active?.reveal(false));
addEventListener("blur", () => active?.reveal(false));
SIDEWAYS.addEventListener("change", () => active?.top());

export class Shell {
  /** @type {Data} */
  data;
  /** @type {import("../common/dom.js").Tell} */
  fire;
  /** @type {import("./desk.js").Desk} */
  desk;
  /** @type {Care} */
  care;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  quiet;
  counter = 0;
  spokenLast = "";
  pastSign = "";
  noticesShown = "";

  /** @param {ShadowRoot} parent @param {string} name */
  constructor(parent, name) {
    this.hidden = remembered("hide-model") === "1";
    this.sheet = new KeysSheet(() => this.focus());
    this.panel = new CarePanel(
      () => this.paint(),
      () => this.cared(),
    );
    const tool = this.tool.bind(this);
    this.tools = {
      undo: tool("undo", ICONS.undo, "Undo", "Backspace", () => this.undo(), "Take your last decision back"),
      blur: tool("blur", ICONS.blur, "Blur", "b", () => this.toggle("blur"), "Blur all pictures"),
      grey: tool("grey", OWN_ICONS.grey, "Grey", "g", () => this.toggle("grey"), "Show all pictures without colour"),
      hide: tool("hide", OWN_ICONS.eye, "Hide the answer", "", () => this.toggleHidden(), "Hide the network’s answer"),
      care: tool("care", OWN_ICONS.heart, "Care", "", () => this.panel.show(this.care, this.data.classes), "What you set for your own comfort"),
      keys: tool("keys", ICONS.keys, "Keys", "?", () => this.showKeys(), "Show the keys"),
    };
    this.shell = {
      counts: el("span", { class: "counts" }),
      back: el("button", { type: "button", class: "link back", hidden: true, onclick: (e) => this.press(e, () => this.bringBack()) }),
      unsaved: el("span", { class: "unsaved", role: "status" }),
      who: el("span", { class: "who" }),
      notices: el("div", { class: "notices" }),
      empty: el("div", { class: "empty", hidden: true }),
      rest: el("div", { class: "rest", role: "status", hidden: true }),
      strip: el("ol", { class: "past", "aria-label": "Last decisions" }),
      live: el("div", { class: "live", "aria-live": "polite" }),
    };
    const s = this.shell;
    this.body = el("div", { class: "body" });
    this.root = el(
      "div",
      { class: `queue ${name}` },
      el("div", { class: "line" }, s.counts, s.back, s.unsaved, s.who),
      s.rest,
      s.empty,
      this.body,
      s.notices,
      el("section", { class: "lately" }, el("h2", {}, "Last decisions"), s.strip),
      s.live,
      this.sheet.dialog,
      this.panel.dialog,
    );
    parent.append(this.root);
    for (const effect of ["blur", "grey"]) this.set(effect, remembered(effect) === "1");
  }

  /** @param {string} name @param {string} path @param {string} text @param {string} key @param {() => unknown} act @param {string} [label] */
  tool(name, path, text, key, act, label = text) {
    const title = key ? `${label} (${key})` : label;
    const words = [icon(path), el("span", { class: "text" }, text), ...(key ? [el("kbd", { "aria-hidden": "true" }, key)] : [])];
    return el("button", { type: "button", class: `tool ${name}`, title, onclick: (e) => this.press(e, act) }, ...words);
  }

  /** @param {import("../common/dom.js").Component<Data>} given */
  update({ data, setTriggerValue }) {
    active = this;
    const arrives = !this.desk || this.data.key !== data.key;
    const person = this.data?.user;
    this.fire = setTriggerValue;
    this.data = data;
    this.desk = deskOf(data.dataset_id);
    this.desk.view = this;
    if (data.named) remember(data.user);
    if (!this.care || person !== data.user) this.care = new Care(data.user, { get: remembered, set: remembered });
    this.desk.box.join(data.token, data.user);
    this.arrived(arrives);
    if (arrives) requestAnimationFrame(() => this.top());
    this.begin();
    if (arrives) this.desk.ask();
    this.paint();
  }

  /** On a phone past the page's own controls, so that picture and keys are in sight. */
  top() {
    if (this.root.clientWidth < PHONE || SIDEWAYS.matches) this.root.scrollIntoView({ block: "start" });
  }

  /** What the subclass builds anew. @param {boolean} _arrives */
  arrived(_arrives) {}

  begin() {
    const { order, predicted, source, size } = this.data;
    const { care } = this;
    this.desk.begin({ order, predicted, source, without: [...care.chosen.without], unstored: care.unstored }, size);
  }

  renew() {
    this.fire("renew", ++this.counter);
  }

  stored() {
    clearTimeout(this.quiet);
    this.desk.ask();
    this.quiet = setTimeout(() => this.fire("changed", ++this.counter), QUIET_MS);
    this.paint();
  }

  // Care -------------------------------------------------------------------------------------------

  cared() {
    this.begin();
    this.paint();
    this.focus();
  }

  /** What it is taken for here; null where that is not told. @param {Item} item */
  told(item) {
    return item.blind || this.hidden ? null : item.predicted;
  }

  /** @param {Element} node @param {Item} item */
  dress(node, item) {
    const effects = this.care.effects(this.told(item));
    for (const effect of /** @type {const} */ (["blur", "grey", "small"])) node.classList.toggle(`care-${effect}`, effects.includes(effect));
  }

  /** @param {Item} item @param {Said | null} said */
  saw(item, said) {
    this.care.saw(said?.verdict === "rejected" ? "none of the classes" : (said?.label ?? this.told(item) ?? UNTOLD), new Date());
  }

  /** @param {boolean} on */
  reveal(on) {
    const veiled = this.root.matches(".blurred, .greyed") || this.root.querySelector(".care-blur, .care-grey, .care-small");
    if (on && veiled && !this.root.classList.contains("revealed")) this.care.revealed(new Date());
    this.root.classList.toggle("revealed", on);
  }

  /** @param {string} effect @param {boolean} on */
  set(effect, on) {
    this.root.classList.toggle(effect === "blur" ? "blurred" : "greyed", on);
    this.tools[/** @type {"blur" | "grey"} */ (effect)].setAttribute("aria-pressed", String(on));
  }

  /** @param {string} effect */
  toggle(effect) {
    const on = !this.root.classList.contains(effect === "blur" ? "blurred" : "greyed");
    this.set(effect, on);
    remembered(effect, on ? "1" : "0");
  }

  toggleHidden() {
    this.hidden = !this.hidden;
    remembered("hide-model", this.hidden ? "1" : "0");
    this.paint();
  }

  paintRest() {
    const { rest } = this.shell;
    const minutes = this.care.due(new Date());
    rest.hidden = !minutes;
    const text = minutes ? `You have looked at pictures for ${count(minutes, "minute", "minutes")}. A few minutes away from the screen do good.` : "";
    if (rest.dataset.text === text) return;
    rest.dataset.text = text;
    const rested = () => (this.care.rested(new Date()), this.paint(), this.focus());
    rest.replaceChildren(el("span", {}, text), el("button", { type: "button", class: "tool", onclick: rested }, "I have rested"));
  }

  // Undo -------------------------------------------------------------------------------------------

  /** @param {Decision} [meant] */
  undo(meant) {
    const item = this.desk.undo(meant);
    if (item) this.announce(`Taken back: ${item.name}`);
    this.shown();
    this.paint();
  }

  /** Another picture may be on the screen now. */
  shown() {}

  bringBack() {
    this.desk.bringBack();
    this.paint();
  }

  // Painting ---------------------------------------------------------------------------------------

  paint() {
    const { desk, shell: s } = this;
    if (!desk || !this.root.isConnected) return;
    const { waiting, others, skipped, lead } = desk.counts;
    const parts = [`${number(waiting)} waiting`, ...(lead ? [`${number(lead)} for a lead`] : []), ...(others ? [`${number(others)} with others`] : [])];
    say(s.counts, desk.asked ? parts.join(" · ") : "");
    s.back.hidden = !skipped;
    say(s.back, `Bring back what I skipped (${number(skipped)})`);
    say(s.unsaved, desk.box.unsaved);
    say(s.who, this.data.named ? `as ${this.data.user}` : "");
    this.tools.hide.setAttribute("aria-pressed", String(this.hidden));
    this.paintEmpty();
    this.paintNotices();
    this.paintPast();
    this.paintRest();
    this.paintBody();
  }

  paintBody() {}

  paintEmpty() {
    const { desk } = this;
    const { empty } = this.shell;
    const none = desk.asked && !desk.items.length && !desk.dealing;
    if (desk.items.length || none) empty.hidden = !none;
    this.body.hidden = !empty.hidden;
    if (!none) return;
    const { predicted, source } = this.data;
    const narrow = predicted || source ? "Only a part of the queue is shown: choose all classes and sources above to see the rest." : "";
    const text = desk.empty || `The queue is empty. ${narrow || "Predictions come here from the Predict page."}`;
    const more = desk.empty && narrow ? ` ${narrow}` : "";
    const sign = `${text}${more}`;
    if (empty.dataset.sign === sign) return;
    empty.dataset.sign = sign;
    const predict = desk.empty ? [] : [el("button", { type: "button", class: "tool", onclick: () => this.fire("predict", ++this.counter) }, "Predict pictures")];
    empty.replaceChildren(el("p", {}, sign), el("p", { class: "soft" }, "What arrives is shown here by itself."), ...predict);
  }

  paintNotices() {
    const { desk } = this;
    const sign = desk.notices.map((one) => one.text).join("\n");
    if (this.noticesShown === sign) return;
    this.noticesShown = sign;
    this.shell.notices.replaceChildren(
      ...desk.notices.map((one) =>
        el(
          "div",
          { class: "notice", role: "alert" },
          el("span", {}, one.text),
          el("button", { type: "button", class: "quiet", "aria-label": "Close this message", onclick: () => (desk.dismiss(one), this.focus()) }, icon(ICONS.remove)),
        ),
      ),
    );
  }

  paintPast() {
    const { desk } = this;
    const { decisions } = desk;
    const sign = JSON.stringify(decisions);
    if (this.pastSign === sign) return;
    this.pastSign = sign;
    const colors = new Map(this.data.classes.map((c) => [c.name, c.color]));
    const rows = decisions.map((one) => {
      const picture = one.url ? el("img", { src: one.url, alt: "", draggable: "false", loading: "lazy" }) : el("span", { class: "gone" });
      const by = one.mine ? "you" : one.by;
      const what = el("span", { class: "what" }, ...(one.label ? [dot(colors.get(one.label))] : []), words(one));
      const text = el("span", { class: "said" }, el("span", { class: "file", title: one.name }, one.name), what, el("span", { class: "soft" }, one.at ? `by ${by}, ${stamp(one.at)}` : "being saved …"));
      const back = one.may ? [el("button", { type: "button", class: "tool take", "aria-label": `Take back ${one.name}`, onclick: (e) => this.press(e, () => this.undo(one)) }, icon(ICONS.undo), "Take back")] : [];
      return el("li", { "data-id": one.id }, picture, text, ...back);
    });
    this.shell.strip.replaceChildren(...(rows.length ? rows : [el("li", { class: "soft" }, "The last ten appear here; yours can be taken back.")]));
  }

  /** @param {string} text */
  announce(text) {
    if (text !== this.spokenLast) say(this.shell.live, (this.spokenLast = text));
  }

  /** @type {string[][]} */
  rows = [];

  showKeys() {
    const shifted = this.data.classes.some((c) => c.key?.startsWith("⇧"));
    this.sheet.show([
      ...this.rows,
      ["1 … 9, 0", "the class with this key"],
      ...(shifted ? [["Shift + 1 … 0", "the classes with ⇧"]] : []),
      [`Backspace, ${COMMAND}Z`, "take back your last decision: its picture comes back"],
      ["b, g", "blur all pictures, show them without colour"],
      ["r", "hold it to see a picture clearly"],
      ["?", "this sheet"],
    ]);
  }

  // Keys -------------------------------------------------------------------------------------------

  /** Where the keys go. @returns {HTMLElement} */
  get stage() {
    return this.root;
  }

  focus() {
    const from = document.activeElement?.shadowRoot?.activeElement ?? document.activeElement;
    const typing = from?.matches("input:not([type=checkbox]), select, textarea, [contenteditable]");
    if (!typing && !document.querySelector("[role=dialog]")) this.stage.focus({ preventScroll: true });
  }

  /**
   * A click with the mouse gives the focus back to the picture; a key press leaves it on the button.
   * @param {MouseEvent} event @param {() => unknown} act
   */
  press(event, act) {
    if (closest(event, "button")?.getAttribute("aria-disabled") === "true") return;
    act();
    if (event.detail > 0 && !this.sheet.open && !this.panel.dialog.open) this.focus();
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const on = (/** @type {string} */ selector) => event.composedPath().some((node) => node instanceof Element && node.matches(selector));
    if (!this.root.isConnected || this.sheet.open || this.panel.dialog.open) return;
    if (event.defaultPrevented || event.isComposing || event.altKey) return;
    if (on("input:not([type=checkbox]), select, textarea, [contenteditable], [role=dialog]")) return;
    if (!event.composedPath().includes(this.root) && on("[role=listbox], [role=menu], [role=combobox], [role=slider]")) return;
    const from = event.composedPath()[0];
    const onButton = from instanceof Element && from.closest("button, a, summary, input, [role=button], [role=tab], [role=radio], [role=option]") !== null;
    if (!this.handle(event, onButton)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /**
   * True when the key was one of ours, even if it did nothing: a held key must not decide on the pictures that follow.
   * @param {KeyboardEvent} event @param {boolean} _onButton
   */
  handle(event, _onButton) {
    const { key, repeat } = event;
    const lower = key.toLowerCase();
    if (event.ctrlKey || event.metaKey) return lower === "z" && !event.shiftKey && (repeat || this.undo(), true);
    /** @type {Record<string, () => unknown>} */
    const acts = { backspace: () => this.undo(), b: () => this.toggle("blur"), g: () => this.toggle("grey"), "?": () => this.showKeys(), r: () => this.reveal(true) };
    if (!(lower in acts)) return false;
    if (!repeat) acts[lower]();
    return true;
  }

  /** The class of a digit key. @param {KeyboardEvent} event */
  classOf(event) {
    const digit = digitKey(event);
    return digit ? (this.data.classes.find((c) => c.key === digit) ?? null) : undefined;
  }

  /** @param {Class} c @param {(event: MouseEvent) => unknown} act */
  choice(c, act) {
    const kbd = c.key ? [el("kbd", { "aria-hidden": "true" }, c.key)] : [];
    const keys = c.key ? spoken(c.key) : null;
    return el("button", { type: "button", class: "class", "data-label": c.name, title: c.name, "aria-keyshortcuts": keys, onclick: act }, dot(c.color), el("span", { class: "text" }, c.name), ...kbd);
  }

  end() {
    clearTimeout(this.quiet);
    this.sheet.close();
    this.panel.dialog.close();
    if (this.desk) leave(this.desk, this);
    if (active === this) active = null;
    this.root.remove(); // the place may be filled again
  }
}
