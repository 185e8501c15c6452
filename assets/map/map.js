// The images of a dataset as points. All of them are written into one buffer of pixels: that takes some milliseconds
// for 100,000, where a call of the canvas for each would take ten times as long. What follows the pointer lies on a
// second canvas above it.

import { clusterColor, css, dot, packed, paintDot, rgb, unpacked } from "../common/colours.js";
import { ICONS, context2d, el, focused, mount, remembered, say, tool } from "../common/dom.js";
import { Pointers, Tip, wheelFactor } from "../common/gestures.js";
import { count, number } from "../common/numbers.js";
import { KeysSheet } from "../common/sheet.js";
import { disc, mixed, stamp } from "./pixels.js";
import { Points, SIDE } from "./points.js";

/** @typedef {"label" | "cluster" | "predicted" | "split" | "answer"} Colour */
/** @typedef {{ name: string, color: string }} Named */
/**
 * @typedef {{
 *   key: string, points_url: string, thumb_url: string, token: string, version: string, colour: Colour, classes: Named[], splits: Named[],
 *   answers: Named[], clusters: string | null, dataset_id: number, height: number }} Data
 */
/** @typedef {{ at: number, name: string, color: number, dim: number, n: number, none: boolean }} Entry */
/** @typedef {{ at: number, button: HTMLButtonElement, number: HTMLElement }} Row of the legend */
/** @typedef {{ points: Points | null, version: string | null, chosen: Uint8Array, size: number, cut: boolean, x: number, y: number, zoom: number }} Kept */
/** @typedef {{ kind: "pinch", moved: boolean } | { kind: "pan" | "lasso", moved: boolean, from: Point, path: Point[] }} Gesture */
/** @typedef {{ shiftKey?: boolean, altKey?: boolean }} Modifiers */
/** @typedef {import("../common/gestures.js").Point} Point */

const MOST_SELECTED = 20000;
const MOST_PICTURES = 150; // with fewer points in view they are drawn as pictures
const MOST_KEPT = 600; // pictures
const MOST_MAPS = 4;
const AT_ONCE = 4; // requests
const WANT_MS = 120; // a map that is being moved asks for no pictures at every step
const MAX_ZOOM = 80;
const CLICK_PX = 4;
const DOUBLE_MS = 280; // a click waits so long: a second one opens the image and leaves the selection alone
const SHAPES = {
  lasso: "M8 2.5c3.3 0 5.5 1.6 5.5 3.7S11.3 10 8 10 2.5 8.4 2.5 6.2 4.7 2.5 8 2.5zM4.8 9.2c-1.2.8-.8 2.2.5 2.2 1.4 0 1.6 1.3.5 2.3",
  hand: "M8 2v12M2 8h12M6.2 3.8L8 2l1.8 1.8M6.2 12.2L8 14l1.8-1.8M3.8 6.2L2 8l1.8 1.8M12.2 6.2L14 8l-1.8 1.8",
};
const TITLES = { label: "Label", cluster: "Cluster", predicted: "Prediction", split: "Split", answer: "Answer" };

// Names and pictures of single points, a few at a time; what nobody wants any more is not fetched to its end.
class Thumbs {
  url = "";
  token = "";

  /** @param {(id: string) => void} ready */
  constructor(ready) {
    this.ready = ready;
    /** @type {Map<string, { name: string, image: HTMLImageElement | null }>} */
    this.found = new Map();
    /** @type {Map<string, AbortController>} */
    this.under = new Map();
    /** @type {string[]} */
    this.wanted = [];
  }

  /** @param {string[]} ids */
  want(ids) {
    const set = new Set(ids);
    for (const [id, abort] of this.under) if (!set.has(id)) abort.abort();
    this.wanted = ids.filter((id) => !this.found.has(id));
    this.pump();
  }

  pump() {
    for (const id of this.wanted) {
      if (this.under.size >= AT_ONCE) return;
      if (!this.under.has(id) && !this.found.has(id)) this.load(id);
    }
  }

  /** @param {string} id */
  async load(id) {
    const abort = new AbortController();
    this.under.set(id, abort);
    /** @type {{ name: string, image: HTMLImageElement | null } | null} */
    let entry = { name: "", image: null };
    try {
      const response = await fetch(this.url + encodeURIComponent(id), { headers: { "X-Loupe-Token": this.token }, signal: abort.signal });
      if (response.ok) {
        const { url, name } = await response.json();
        entry.name = name ?? "";
        const image = Object.assign(new Image(), { src: url });
        await image.decode();
        entry.image = image;
      }
    } catch {
      if (abort.signal.aborted) entry = null;
    }
    this.under.delete(id);
    if (entry) {
      this.found.set(id, entry);
      if (this.found.size > MOST_KEPT) this.found.delete(this.found.keys().next().value ?? "");
      this.ready(id);
    }
    this.pump();
  }
}

// One map ----------------------------------------------------------------------------------------

/** @type {Map<string, Kept>} */
const kept = new Map(); // points, zoom and selection outlive a rerun and a walk through the app

class View {
  /** @type {Data} */
  data;
  /** @type {import("../common/dom.js").Tell} */
  fire;
  /** @type {import("../common/dom.js").Tell} */
  keep;
  /** @type {Kept} */
  map;
  /** @type {Row[]} */
  rows = [];
  /** @type {Uint16Array} the entry of each point */
  entry = new Uint16Array();
  /** @type {Uint32Array} in which the points are drawn */
  order = new Uint32Array();
  /** @type {{ text: string, x: number, y: number }[]} of the clusters */
  centres = [];
  paper = 0;
  ink = 0;
  /** @type {import("../common/colours.js").Rgb} */
  accent = [0, 0, 0];
  /** @type {{ version: string, map: Kept, abort: AbortController } | null} */
  fetching = null;
  /** @type {string | undefined} what the legend was built from */
  sign;
  /** @type {number | null} the frame asked for */
  next = null;
  /** @type {ImageData | null} */
  pixels = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  wanting;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  sending;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  dwelling;
  waiting = false; // the page is still to hear of the selection
  stale = true;
  spaced = false;
  dwelt = false;
  shown = 0; // the side of the pictures, 0 while the points are dots
  clicked = -1e4;
  /** @type {{ list: number[], waiting: boolean }} what was selected before the click */
  before = { list: [], waiting: false };
  /** @type {Point} */
  pointed = [0, 0];

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    /** @type {Gesture | null} */
    this.gesture = null;
    this.hovered = -1;
    /** @type {Entry[]} */
    this.entries = [];
    /** @type {number[]} */
    this.inView = [];
    this.thumbs = new Thumbs(() => this.schedule());
    /** @type {"lasso" | "hand"} */
    this.tool = remembered("map.tool") === "hand" ? "hand" : "lasso";
    this.tools = {
      lasso: tool(SHAPES.lasso, "Lasso: draw around images to select them", "l", () => this.use("lasso"), "Lasso"),
      hand: tool(SHAPES.hand, "Hand: move the map", "h, or hold Space", () => this.use("hand"), "Hand"),
    };
    this.zoomed = el("span", { class: "zoom" });
    this.counted = el("span", { class: "count", role: "status" });
    this.clearing = tool(ICONS.remove, "Clear the selection", "Escape", () => this.pick([], {}), "Clear");
    this.base = el("canvas", { class: "base", "aria-hidden": "true" });
    this.top = el("canvas", { class: "top", role: "img", tabindex: "0" });
    this.image = el("img", { alt: "", draggable: "false" });
    this.what = el("span", { class: "text" });
    this.whatDot = dot(null);
    this.name = el("div", { class: "name" });
    this.card = el("div", { class: "card", hidden: true }, el("div", { class: "picture" }, this.image), el("div", { class: "what" }, this.whatDot, this.what), this.name);
    this.tip = new Tip(el("div", { class: "tip" }, "Click into the map, or hold Ctrl, to zoom with the wheel"));
    this.pointers = new Pointers(this.top);
    this.empty = el("div", { class: "empty", role: "status", hidden: true });
    this.stage = el("div", { class: "stage" }, this.base, this.top, this.tip.node, this.card, this.empty);
    this.title = el("div", { class: "title" });
    this.list = el("div", { class: "entries" });
    this.note = el("p", { class: "note" });
    this.sheet = new KeysSheet(() => this.top.focus({ preventScroll: true }));
    this.root = el(
      "div",
      { class: "map" },
      el(
        "div",
        { class: "bar", role: "toolbar", "aria-label": "Map" },
        this.tools.lasso,
        this.tools.hand,
        el("span", { class: "rule" }),
        tool(ICONS.out, "Zoom out", "−", () => this.zoom(1 / 1.5)),
        this.zoomed,
        tool(ICONS.in, "Zoom in", "+", () => this.zoom(1.5)),
        tool(ICONS.fit, "Show all", "0", () => this.fit(), "Fit"),
        el("span", { class: "rule" }),
        tool(ICONS.keys, "Show the keys", "?", () => this.showKeys()),
        el("div", { class: "state" }, this.counted, this.clearing),
      ),
      el("div", { class: "body" }, this.stage, el("div", { class: "legend", role: "group" }, this.title, this.list)),
      this.note,
      this.sheet.dialog,
    );
    parent.append(this.root);
    this.use(this.tool);
    this.top.addEventListener("pointerdown", (event) => this.onDown(event));
    this.top.addEventListener("pointermove", (event) => this.onMove(event));
    this.top.addEventListener("pointerup", (event) => this.onUp(event));
    this.top.addEventListener("pointercancel", (event) => this.onUp(event));
    this.top.addEventListener("pointerleave", () => this.hover(-1));
    this.top.addEventListener("mousedown", (event) => event.button === 1 && event.preventDefault()); // no autoscroll
    this.top.addEventListener("contextmenu", (event) => event instanceof PointerEvent && event.pointerType === "touch" && event.preventDefault());
    this.top.addEventListener("dblclick", (event) => this.onDouble(event));
    this.top.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.top.addEventListener("blur", () => this.space(false));
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.root.addEventListener("keyup", (event) => event.key === " " && this.space(false));
    this.stage.addEventListener("transitionend", () => this.recolour());
    this.observer = new ResizeObserver(() => this.schedule());
    this.observer.observe(this.stage);
  }

  /** @param {import("../common/dom.js").Component<Data>} given */
  update({ data, setTriggerValue, setStateValue }) {
    this.fire = setTriggerValue;
    const fresh = !this.keep;
    this.keep = setStateValue;
    this.data = data;
    this.root.style.setProperty("--height", `${data.height}px`);
    this.thumbs.url = data.thumb_url;
    this.thumbs.token = data.token;
    const name = `${data.key}\n${data.dataset_id}`;
    const map = kept.get(name) ?? { points: null, version: null, chosen: new Uint8Array(0), size: 0, cut: false, x: SIDE / 2, y: SIDE / 2, zoom: 1 };
    kept.set(name, map);
    if (kept.size > MOST_MAPS) kept.delete(kept.keys().next().value ?? "");
    if (this.map !== map) {
      this.map = map;
      this.hovered = -1;
    }
    if (fresh && this.map.size) this.report(); // it was kept here while the person walked through the app
    this.recolour();
    if (this.map.version !== data.version) this.fetch();
  }

  async fetch() {
    const { map } = this;
    const { version, points_url: url, token } = this.data;
    if (this.fetching?.version === version && this.fetching.map === map) return;
    this.fetching?.abort.abort();
    const mine = (this.fetching = { version, map, abort: new AbortController() });
    if (!map.points) this.tell("Loading the map…");
    /** @type {string | null} */
    let problem = "The map did not load: the server does not answer.";
    try {
      const response = await fetch(url, { headers: { "X-Loupe-Token": token }, signal: mine.abort.signal });
      const answer = await response.json().catch(() => null);
      if (response.ok && answer) {
        const before = new Set(map.points?.ids.filter((_, i) => map.chosen[i]));
        map.points = new Points(answer);
        map.version = version;
        map.chosen = Uint8Array.from(map.points.ids, (id) => (before.has(id) ? 1 : 0));
        map.size = map.chosen.reduce((sum, one) => sum + one, 0);
        problem = null;
      } else {
        problem = [answer?.error?.message ?? "The map did not load.", answer?.error?.hint].filter(Boolean).join(" ");
      }
    } catch {
      if (mine.abort.signal.aborted) return;
    }
    if (this.fetching !== mine) return;
    this.fetching = null;
    this.hover(-1);
    if (problem) return this.tell(problem, () => this.fetch());
    this.tell(map.points?.n ? "" : "No image has a place on the map yet.");
    this.recolour();
  }

  /** @param {string} text @param {() => void} [again] */
  tell(text, again) {
    this.empty.hidden = !text;
    this.empty.replaceChildren(el("span", {}, text), ...(again ? [el("button", { type: "button", class: "tool", onclick: again }, "Try again")] : []));
  }

  // Colours and legend -------------------------------------------------------------------------

  // The entries of the legend, and for each point which of them it belongs to.
  recolour() {
    const style = getComputedStyle(this.stage);
    this.paper = packed(rgb(style.backgroundColor));
    this.ink = packed(rgb(style.color));
    this.accent = rgb(style.getPropertyValue("--st-primary-color") || style.color);
    const { points } = this.map;
    if (!points) return this.schedule();
    const { colour } = this.data;
    /** @type {ArrayLike<number>} */
    let code;
    /** @type {string[]} */
    let names;
    /** @type {(name: string, i: number) => string} */
    let color;
    if (colour === "cluster") {
      const bytes = Uint8Array.from(atob(this.data.clusters ?? ""), (c) => c.charCodeAt(0));
      let clusters = new Int16Array(bytes.buffer);
      if (clusters.length !== points.n) clusters = new Int16Array(points.n).fill(-1); // the page is ahead of the points
      code = clusters;
      names = Array.from({ length: clusters.reduce((most, c) => Math.max(most, c + 1), 0) }, (_, i) => `Cluster ${i + 1}`);
      color = (_, i) => clusterColor(i);
    } else {
      [code, names] = [points.code[colour], points.named[colour]];
      const given = { label: this.data.classes, predicted: this.data.classes, split: this.data.splits, answer: this.data.answers }[colour];
      color = (name) => given.find((c) => c.name === name)?.color ?? "#8a8f98";
    }
    const rank = new Map(this.data.classes.map((c, i) => [c.name, i]));
    const counts = new Array(names.length + 1).fill(0);
    for (let i = 0; i < points.n; i++) counts[code[i] < 0 ? names.length : code[i]] += 1;
    this.entries = names.map((name, i) => ({ at: i, name, color: packed(rgb(color(name, i))), dim: 0, n: counts[i], none: false }));
    if (colour === "label" || colour === "predicted") this.entries.sort((a, b) => (rank.get(a.name) ?? 1e6) - (rank.get(b.name) ?? 1e6));
    this.entries.push({ at: names.length, name: `No ${TITLES[colour].toLowerCase()}`, color: mixed(this.ink, this.paper, 76), dim: 0, none: true, n: counts[names.length] });
    const place = new Uint16Array(names.length + 1);
    this.entries.forEach((entry, i) => (place[entry.at] = i));
    this.entry = Uint16Array.from({ length: points.n }, (_, i) => place[code[i] < 0 ? names.length : code[i]]);
    for (const entry of this.entries) entry.dim = mixed(entry.color, this.paper, entry.none ? 96 : 56);
    const none = this.entries.length - 1;
    const known = points.order.filter((i) => this.entry[i] !== none);
    this.order = new Uint32Array(points.n); // those without a colour lie below
    this.order.set(points.order.filter((i) => this.entry[i] === none));
    this.order.set(known, points.n - known.length);
    this.centres = colour === "cluster" ? this.entries.filter((e) => !e.none && e.n).map((e) => this.centre(e)) : [];
    this.buildLegend();
    this.paintState();
    this.schedule();
  }

  /**
   * The image nearest to the middle one of each coordinate: strays do not move it, and a cluster in two parts has its
   * number beside one of its own.
   * @param {Entry} entry
   */
  centre(entry) {
    const { x, y } = /** @type {Points} */ (this.map.points);
    const mine = this.members(this.entries.indexOf(entry));
    const middle = (/** @type {Uint16Array} */ values) => Uint16Array.from(mine, (i) => values[i]).sort()[mine.length >> 1];
    const [midX, midY] = [middle(x), middle(y)];
    const far = (/** @type {number} */ i) => (x[i] - midX) ** 2 + (y[i] - midY) ** 2;
    const at = mine.reduce((best, i) => (far(i) < far(best) ? i : best));
    return { text: String(entry.at + 1), x: x[at], y: y[at] };
  }

  /** @param {number} entry */
  members(entry) {
    const found = [];
    for (let i = 0; i < this.entry.length; i++) if (this.entry[i] === entry) found.push(i);
    return found;
  }

  buildLegend() {
    const n = this.map.points?.n ?? 0;
    const shown = this.entries.filter((entry) => entry.n);
    const sign = JSON.stringify([this.data.colour, this.paper, shown]);
    if (this.sign === sign) return;
    this.sign = sign;
    this.title.replaceChildren(el("span", {}, TITLES[this.data.colour]), el("span", {}, "n"));
    this.list.parentElement?.setAttribute("aria-label", `${TITLES[this.data.colour]}: select all of one kind`);
    this.rows = shown.map((entry) => {
      const number = el("span", { class: "n" });
      const button = el(
        "button",
        { type: "button", class: "entry", title: `Select ${entry.name}. Shift adds, Alt takes away`, onclick: (event) => this.pickEntry(this.entries.findIndex((e) => e.at === entry.at), event) },
        dot(css(unpacked(entry.color))),
        el("span", { class: "text" }, entry.name),
        number,
      );
      return { at: entry.at, button, number };
    });
    const place = [...this.list.children].findIndex((button) => button === focused(this.root));
    this.list.replaceChildren(...this.rows.map(({ button }) => button));
    this.rows[place]?.button.focus({ preventScroll: true });
    say(this.note, `Near means similar to the network; the axes have no unit. n = ${count(n, "image", "images")}.`);
  }

  // Selection ----------------------------------------------------------------------------------

  /** @param {number[]} list */
  choose(list) {
    const { map } = this;
    const { points } = map;
    if (!points) return;
    map.chosen = new Uint8Array(points.n);
    map.cut = list.length > MOST_SELECTED;
    if (map.cut) {
      const mean = (/** @type {Uint16Array} */ values) => list.reduce((sum, i) => sum + values[i], 0) / list.length;
      const [x, y] = [mean(points.x), mean(points.y)];
      const far = new Float64Array(points.n);
      for (const i of list) far[i] = (points.x[i] - x) ** 2 + (points.y[i] - y) ** 2;
      list = list.sort((a, b) => far[a] - far[b]).slice(0, MOST_SELECTED);
    }
    for (const i of list) map.chosen[i] = 1;
    map.size = list.length;
    this.paintState();
    this.schedule();
  }

  chosen() {
    const found = [];
    for (let i = 0; i < this.map.chosen.length; i++) if (this.map.chosen[i]) found.push(i);
    return found;
  }

  // A state and not a trigger: a rerun that is cut short by another one would lose a trigger.
  report() {
    this.keep("selected", this.chosen().map((i) => this.map.points?.ids[i]));
  }

  /**
   * Shift adds to the selection, Alt takes away; the page hears of it.
   * @param {number[]} list @param {Modifiers} given @param {{ wait?: number }} [given]
   */
  pick(list, { shiftKey, altKey }, { wait = 0 } = {}) {
    if (!this.map.points) return;
    const before = this.map.size;
    if (shiftKey) list = [...new Set([...this.chosen(), ...list])];
    else if (altKey) {
      const drop = new Set(list);
      list = this.chosen().filter((i) => !drop.has(i));
    }
    this.choose(list);
    clearTimeout(this.sending);
    if (!before && !list.length && !this.waiting) return;
    this.waiting = true;
    this.sending = setTimeout(() => {
      this.waiting = false;
      this.report();
    }, wait);
  }

  /** @param {number} index @param {Modifiers} event @param {{ wait?: number }} [options] */
  pickEntry(index, event, options = {}) {
    const list = this.members(index);
    const { shiftKey, altKey } = event;
    const alone = list.length === this.map.size && list.every((i) => this.map.chosen[i]);
    if (alone && !shiftKey && !altKey && !options.wait) return this.pick([], {}); // the legend's button lets go again
    this.pick(list, { shiftKey, altKey }, options);
  }

  paintState() {
    const { points, size, cut, chosen } = this.map;
    if (!points) return;
    const all = number(points.n);
    say(this.counted, `${number(size)} of ${all} selected${cut ? ": the most at once, those nearest to the middle" : ""}`);
    this.counted.classList.toggle("cut", cut);
    this.clearing.setAttribute("aria-disabled", String(!size));
    const counts = new Array(this.entries.length).fill(0);
    if (size) for (let i = 0; i < points.n; i++) if (chosen[i]) counts[this.entry[i]] += 1;
    for (const { at, button, number: words } of this.rows) {
      const index = this.entries.findIndex((e) => e.at === at);
      const entry = this.entries[index];
      if (!entry) continue;
      const [mine, all] = [counts[index], number(entry.n)];
      words.replaceChildren(...(size ? [el(mine ? "b" : "span", {}, number(mine)), ` of ${all}`] : [all]));
      button.setAttribute("aria-pressed", String(size > 0 && counts[index] === entry.n));
    }
    const parts = this.entries.filter((e) => e.n).map((e) => `${e.name}: ${number(e.n)}`);
    const more = parts.length > 20 ? `, and ${parts.length - 20} more` : "";
    this.top.setAttribute("aria-label", `Map of ${count(points.n, "image", "images")} by ${TITLES[this.data.colour].toLowerCase()}. ${parts.slice(0, 20).join(", ")}${more}. ${number(size)} selected.`);
  }

  // Where things are ---------------------------------------------------------------------------

  // The pixels of a unit and the middle of the stage.
  frame() {
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    const { left, right, top, bottom } = this.map.points?.box ?? { left: 0, right: SIDE, top: 0, bottom: SIDE };
    const margin = 2 * Math.min(28, width / 12);
    const fit = Math.min((width - margin) / Math.max(64, right - left), (height - margin) / Math.max(64, bottom - top));
    return { width, height, fit, scale: fit * this.map.zoom };
  }

  /** @param {number} px @param {number} py @returns {Point} */
  toMap(px, py) {
    const { width, height, scale } = this.frame();
    return [(px - width / 2) / scale + this.map.x, (py - height / 2) / scale + this.map.y];
  }

  /** @param {number} x @param {number} y @param {number} zoom */
  place(x, y, zoom) {
    const { left, right, top, bottom } = this.map.points?.box ?? { left: 0, right: SIDE, top: 0, bottom: SIDE };
    this.map.zoom = Math.min(MAX_ZOOM, Math.max(1, zoom));
    if (this.map.zoom === 1) [x, y] = [(left + right) / 2, (top + bottom) / 2];
    this.map.x = Math.min(right, Math.max(left, x));
    this.map.y = Math.min(bottom, Math.max(top, y));
    this.schedule();
  }

  fit() {
    this.place(0, 0, 1);
  }

  /** What lies under this pixel stays there. @param {number} factor @param {number} [px] @param {number} [py] */
  zoom(factor, px = this.stage.clientWidth / 2, py = this.stage.clientHeight / 2) {
    const [x, y] = this.toMap(px, py);
    const zoom = Math.min(MAX_ZOOM, Math.max(1, this.map.zoom * factor));
    const share = this.map.zoom / zoom;
    this.place(x + (this.map.x - x) * share, y + (this.map.y - y) * share, zoom);
  }

  /** @param {number} dx @param {number} dy */
  pan(dx, dy) {
    const { scale } = this.frame();
    this.place(this.map.x - dx / scale, this.map.y - dy / scale, this.map.zoom);
  }

  // Drawing ------------------------------------------------------------------------------------

  schedule() {
    this.stale = true;
    this.next ??= requestAnimationFrame(() => this.draw());
  }

  scheduleTop() {
    this.next ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.next = null;
    if (!this.map || !this.stage.clientWidth) return;
    if (this.map.zoom === 1 && this.map.points) {
      const { left, right, top, bottom } = this.map.points.box;
      [this.map.x, this.map.y] = [(left + right) / 2, (top + bottom) / 2];
    }
    if (this.stale) this.drawPoints();
    this.stale = false;
    this.drawTop();
    say(this.zoomed, `${Math.round(this.map.zoom * 100)}%`);
  }

  drawPoints() {
    const { points, chosen, size, zoom, x: midX, y: midY } = this.map;
    const { width, height, scale } = this.frame();
    const density = devicePixelRatio || 1;
    const [w, h] = [Math.round(width * density), Math.round(height * density)];
    for (const canvas of [this.base, this.top]) {
      if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    }
    const n = points?.n ?? 0;
    const crowd = n > 50000 ? 1.1 : n > 10000 ? 1.6 : n > 2000 ? 2.2 : n > 500 ? 3 : 4;
    const radius = Math.min(6, crowd * zoom ** 0.4) * density;
    // A margin as wide as a disc: no pixel of it falls outside the buffer, so none is checked.
    const margin = Math.ceil(radius + density) + 2;
    const stride = w + 2 * margin;
    let { pixels } = this;
    if (pixels?.width !== stride || pixels.height !== h + 2 * margin) pixels = this.pixels = new ImageData(stride, h + 2 * margin);
    const buffer = new Int32Array(pixels.data.buffer);
    buffer.fill(this.paper);
    this.inView = [];
    if (points) {
      const unit = scale * density;
      const [left, top] = [w / 2 - midX * unit + margin, h / 2 - midY * unit + margin];
      const dot = disc(radius, stride);
      const halo = radius >= 2.2 * density ? disc(radius + density, stride) : null; // parts those that overlap
      const [right, bottom] = [w + margin, h + margin];
      const colors = Int32Array.from(this.entries, (entry) => entry.color);
      const dim = Int32Array.from(this.entries, (entry) => entry.dim);
      for (const layer of size ? [0, 1] : [0]) {
        const paints = size && !layer ? dim : colors;
        for (let k = 0; k < n; k++) {
          const i = this.order[k];
          if (size && chosen[i] !== layer) continue;
          const x = (points.x[i] * unit + left) | 0;
          const y = (points.y[i] * unit + top) | 0;
          if (x < margin || y < margin || x >= right || y >= bottom) continue;
          if (this.inView.length <= MOST_PICTURES) this.inView.push(i);
          const at = y * stride + x;
          if (halo) stamp(buffer, at, halo, this.paper);
          stamp(buffer, at, dot, paints[this.entry[i]]);
        }
      }
    }
    const brush = context2d(this.base);
    brush.putImageData(pixels, -margin, -margin);
    brush.setTransform(density, 0, 0, density, 0, 0);
    /** @type {(x: number, y: number) => Point} */
    const at = (x, y) => [(x - midX) * scale + width / 2, (y - midY) * scale + height / 2];
    this.shown = 0;
    if (n && this.inView.length < MOST_PICTURES && this.inView.length && remembered("blur") !== "1") this.drawPictures(brush, at, width, height);
    this.wanting ??= setTimeout(() => this.wantThumbs(), WANT_MS);
    brush.font = `600 13px ${getComputedStyle(this.root).fontFamily}`;
    brush.textAlign = "center";
    brush.textBaseline = "middle";
    brush.lineJoin = "round";
    brush.lineWidth = 4;
    brush.strokeStyle = css(unpacked(this.paper));
    brush.fillStyle = css(unpacked(this.ink));
    const above = radius / density + 9;
    for (const centre of this.centres) {
      const [x, y] = at(centre.x, centre.y);
      brush.strokeText(centre.text, x, y - above);
      brush.fillText(centre.text, x, y - above);
    }
  }

  /** @param {CanvasRenderingContext2D} brush @param {(x: number, y: number) => Point} at @param {number} width @param {number} height */
  drawPictures(brush, at, width, height) {
    const { points, chosen, size } = this.map;
    if (!points) return;
    const side = Math.round(Math.min(72, Math.max(28, 0.55 * Math.sqrt((width * height) / this.inView.length))));
    this.shown = side;
    for (const i of this.inView) {
      const image = this.thumbs.found.get(points.ids[i])?.image;
      if (!image) continue;
      const [x, y] = at(points.x[i], points.y[i]);
      const by = side / Math.max(image.naturalWidth, image.naturalHeight);
      const [w, h] = [image.naturalWidth * by, image.naturalHeight * by];
      const faint = size && !chosen[i];
      const edge = size && !faint ? 3 : 2;
      const entry = this.entries[this.entry[i]];
      brush.fillStyle = css(unpacked(this.paper));
      brush.fillRect(x - w / 2 - edge - 1, y - h / 2 - edge - 1, w + 2 * edge + 2, h + 2 * edge + 2);
      brush.fillStyle = css(unpacked(faint ? entry.dim : entry.color));
      brush.fillRect(x - w / 2 - edge, y - h / 2 - edge, w + 2 * edge, h + 2 * edge);
      brush.fillStyle = css(unpacked(this.paper));
      brush.fillRect(x - w / 2, y - h / 2, w, h);
      brush.globalAlpha = faint ? 0.35 : 1;
      brush.imageSmoothingEnabled = image.naturalWidth > 64;
      brush.drawImage(image, x - w / 2, y - h / 2, w, h);
      brush.globalAlpha = 1;
    }
  }

  wantThumbs() {
    clearTimeout(this.wanting);
    this.wanting = undefined;
    const names = this.map.points?.ids ?? [];
    const ids = this.shown ? this.inView.map((i) => names[i]) : [];
    if (this.hovered >= 0 && this.dwelt) ids.unshift(names[this.hovered]);
    this.thumbs.want(ids);
    this.paintCard();
  }

  drawTop() {
    const brush = context2d(this.top);
    const density = devicePixelRatio || 1;
    brush.setTransform(density, 0, 0, density, 0, 0);
    const { width, height, scale } = this.frame();
    brush.clearRect(0, 0, width, height);
    /** @type {(place: Point) => Point} */
    const at = ([x, y]) => [(x - this.map.x) * scale + width / 2, (y - this.map.y) * scale + height / 2];
    if (this.gesture?.kind === "lasso" && this.gesture.moved) {
      brush.beginPath();
      for (const point of this.gesture.path) brush.lineTo(...at(point));
      brush.fillStyle = css(this.accent, 0.12);
      brush.fill();
      brush.lineWidth = 1.5;
      brush.strokeStyle = css(this.accent);
      brush.stroke();
      brush.setLineDash([3, 4]);
      brush.beginPath();
      brush.moveTo(...at(this.gesture.path[0]));
      brush.lineTo(...at(this.gesture.path[this.gesture.path.length - 1]));
      brush.stroke();
      brush.setLineDash([]);
    }
    if (this.hovered >= 0 && this.map.points) {
      const [x, y] = at([this.map.points.x[this.hovered], this.map.points.y[this.hovered]]);
      brush.lineWidth = 2;
      brush.strokeStyle = css(unpacked(this.ink));
      const half = this.shown / 2 + 5;
      brush.beginPath();
      if (this.shown && this.thumbs.found.get(this.map.points.ids[this.hovered])?.image) brush.rect(x - half, y - half, 2 * half, 2 * half);
      else brush.arc(x, y, 8, 0, 7);
      brush.stroke();
    }
  }

  // The pointer --------------------------------------------------------------------------------

  /** @param {"lasso" | "hand"} tool */
  use(tool) {
    this.tool = tool;
    remembered("map.tool", tool);
    for (const [name, button] of Object.entries(this.tools)) button.setAttribute("aria-pressed", String(name === tool));
    this.paintCursor();
  }

  /** @param {boolean} held */
  space(held) {
    this.spaced = held;
    this.paintCursor();
  }

  paintCursor() {
    const hand = this.tool === "hand" || this.spaced;
    this.root.classList.toggle("hand", Boolean(hand));
    this.root.classList.toggle("panning", this.gesture?.kind === "pan" || this.gesture?.kind === "pinch");
    this.root.classList.toggle("over", this.hovered >= 0 && !hand && !this.gesture);
  }

  /** @param {Point} given */
  under([px, py]) {
    if (!this.map?.points) return -1;
    const { scale } = this.frame();
    return this.map.points.nearest(...this.toMap(px, py), Math.max(12, this.shown / 2) / scale);
  }

  /** @param {PointerEvent} event */
  onDown(event) {
    if (!this.map?.points || event.button === 2) return;
    this.top.setPointerCapture(event.pointerId);
    this.pointers.set(event);
    const hand = event.button === 1 || this.spaced || this.tool === "hand";
    if (this.pointers.size > 1) this.gesture = { kind: "pinch", moved: true };
    else this.gesture = { kind: hand ? "pan" : "lasso", moved: false, from: this.pointers.at(event), path: [this.toMap(...this.pointers.at(event))] };
    this.tip.hide();
    this.paintCursor();
  }

  /** @param {PointerEvent} event */
  onMove(event) {
    if (!this.map?.points) return;
    const now = this.pointers.at(event);
    const last = this.pointers.last(event);
    if (!last || !this.gesture) {
      if (event.pointerType !== "touch") this.hover(this.under(now), now);
      return;
    }
    const gesture = this.gesture;
    if (gesture.kind === "pinch") {
      if (this.pointers.size < 2) return;
      const { dx, dy, by, x, y } = this.pointers.pinch(event);
      this.pan(dx, dy);
      this.zoom(by, x, y);
      return;
    }
    if (!gesture.moved && Math.hypot(now[0] - gesture.from[0], now[1] - gesture.from[1]) < CLICK_PX) return;
    gesture.moved = true;
    this.hover(-1);
    if (gesture.kind === "pan") {
      this.pan(now[0] - last[0], now[1] - last[1]);
    } else {
      if (Math.hypot(now[0] - last[0], now[1] - last[1]) < 2) return;
      gesture.path.push(this.toMap(...now));
      this.scheduleTop();
    }
    this.pointers.set(event);
  }

  /** @param {PointerEvent} event */
  onUp(event) {
    const { gesture } = this;
    const points = this.map?.points;
    this.pointers.delete(event);
    if (gesture?.kind === "pinch" && this.pointers.size) return; // the finger that stays does not draw
    this.gesture = null;
    this.paintCursor();
    this.scheduleTop();
    if (!gesture || !points || event.type === "pointercancel") return;
    if (gesture.kind === "lasso" && gesture.moved) this.pick(points.within(gesture.path), event);
    else if (!gesture.moved && event.button === 0) this.click(event);
  }

  /** @param {PointerEvent} event */
  click(event) {
    if (event.timeStamp - this.clicked < DOUBLE_MS && this.waiting) return; // the second of two
    this.clicked = event.timeStamp;
    this.before = { list: this.chosen(), waiting: this.waiting };
    const i = this.under(this.pointers.at(event));
    if (i < 0) {
      if (!event.shiftKey && !event.altKey) this.pick([], {});
      return;
    }
    const index = this.entry[i];
    if (this.data.colour === "cluster" && !this.entries[index].none) this.pickEntry(index, event, { wait: DOUBLE_MS });
    else this.pick([i], event, { wait: DOUBLE_MS });
  }

  /** @param {MouseEvent} event */
  onDouble(event) {
    const i = this.under(this.pointers.at(event));
    if (i < 0) return;
    if (this.waiting && !this.before.waiting) {
      clearTimeout(this.sending);
      this.waiting = false;
      this.choose(this.before.list);
    }
    this.fire("open", this.map.points?.ids[i]);
  }

  /** @param {WheelEvent} event */
  onWheel(event) {
    if (!this.map?.points) return;
    if (!event.ctrlKey && !event.metaKey && !this.root.matches(":focus-within")) {
      return this.tip.show(); // the page scrolls
    }
    event.preventDefault();
    this.tip.hide();
    this.zoom(wheelFactor(event), ...this.pointers.at(event));
  }

  /** @param {number} i @param {Point} [now] */
  hover(i, now) {
    if (now) this.pointed = now;
    if (i === this.hovered) return this.paintCard();
    this.hovered = i;
    this.dwelt = false;
    clearTimeout(this.dwelling);
    if (i >= 0) {
      this.dwelling = setTimeout(() => {
        this.dwelt = true;
        this.wantThumbs();
      }, 70);
    }
    this.paintCard();
    this.paintCursor();
    this.scheduleTop();
  }

  paintCard() {
    const { points } = this.map;
    this.card.hidden = this.hovered < 0 || !points;
    if (this.hovered < 0 || !points) return;
    const thumb = this.thumbs.found.get(points.ids[this.hovered]);
    this.image.hidden = !thumb?.image;
    if (thumb?.image) {
      if (this.image.src !== thumb.image.src) this.image.src = thumb.image.src;
      this.image.classList.toggle("pixelated", thumb.image.naturalWidth <= 64);
      this.image.classList.toggle("blurred", remembered("blur") === "1");
    }
    const entry = this.entries[this.entry[this.hovered]];
    say(this.what, entry.name);
    paintDot(this.whatDot, css(unpacked(entry.color)));
    say(this.name, thumb?.name ?? "");
    const [px, py] = this.pointed;
    const [w, h] = [this.card.offsetWidth, this.card.offsetHeight];
    const x = px + 18 + w > this.stage.clientWidth ? px - 18 - w : px + 18;
    const y = Math.min(this.stage.clientHeight - h - 4, Math.max(4, py - h / 2));
    this.card.style.transform = `translate(${Math.max(4, x)}px, ${y}px)`;
  }

  // Keys ---------------------------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (this.sheet.open || event.isComposing || event.ctrlKey || event.metaKey) return;
    if (this.handle(event, event.composedPath()[0] !== this.top)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  /** @param {KeyboardEvent} event @param {boolean} onButton */
  handle(event, onButton) {
    const { key } = event;
    const step = 0.12 * this.stage.clientWidth;
    /** @type {Record<string, Point>} */
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (key in moves && !onButton) return this.pan(...moves[key]), true;
    if (key === " " && !onButton) return this.space(true), true;
    if (key === "+" || key === "=") return this.zoom(1.5), true;
    if (key === "-" || key === "_") return this.zoom(1 / 1.5), true;
    if (key === "0") return this.fit(), true;
    if (key === "l") return this.use("lasso"), true;
    if (key === "h") return this.use("hand"), true;
    if (key === "?") return this.showKeys(), true;
    if (key === "Escape") {
      if (this.gesture) {
        this.gesture = null;
        this.paintCursor();
        return this.scheduleTop(), true;
      }
      const something = this.map?.size > 0;
      if (something) this.pick([], {});
      return something;
    }
    if (key.toLowerCase() === "a") return this.pickVisible(event), true;
    return false;
  }

  /** @param {KeyboardEvent} event */
  pickVisible(event) {
    const { points } = this.map;
    if (!points) return;
    const [left, top] = this.toMap(0, 0);
    const [right, bottom] = this.toMap(this.stage.clientWidth, this.stage.clientHeight);
    const list = [];
    for (let i = 0; i < points.n; i++) {
      if (points.x[i] >= left && points.x[i] < right && points.y[i] >= top && points.y[i] < bottom) list.push(i);
    }
    this.pick(list, event);
  }

  showKeys() {
    const rows = [
      ["Drag", "draw around images to select them"],
      ["Shift + drag", "add to the selection"],
      ["Alt + drag", "take away from it"],
      ["Click", "select one image, or its cluster when coloured by cluster"],
      ["Double click", "open the image"],
      ["Space + drag", "move the map"],
      ["Arrows", "move the map"],
      ["+ and −", "zoom; the wheel does too once you clicked into the map"],
      ["0", "show all"],
      ["a", "select all in view"],
      ["Escape", "clear the selection"],
      ["l, h", "lasso, hand"],
      ["Touch", "one finger draws, two move and zoom"],
    ];
    this.sheet.show(rows);
  }

  end() {
    this.observer.disconnect();
    this.fetching?.abort.abort();
    this.thumbs.want([]);
    cancelAnimationFrame(this.next ?? 0);
    clearTimeout(this.wanting);
    clearTimeout(this.dwelling);
    this.tip.hide();
    this.sheet.close();
    this.root.remove(); // the place may be filled again
  }
}

export default mount(View);
