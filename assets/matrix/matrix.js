// A confusion matrix: rows actual, columns predicted, from 2 to 1,000 classes. Only the cells that hold images are known;
// the cells lie on one canvas, and what follows the pointer and the keys on a second one above it.

import { css, packed, rgb } from "../common/colours.js";
import { ICONS, context2d, el, focused, mount, remembered, say, tool } from "../common/dom.js";
import { Pointers, Tip, wheelFactor } from "../common/gestures.js";
import { count, number } from "../common/numbers.js";
import { KeysSheet } from "../common/sheet.js";
import { Counts, percent } from "./counts.js";

/** @typedef {import("../common/gestures.js").Point} Point */
/** @typedef {import("../common/colours.js").Rgb} Rgb */
/** @typedef {[row: number, column: number]} Spot places, -1 for a header */
/** @typedef {import("./counts.js").Counted & { split: string, chosen: [string | null, string | null] | null }} Data */
/** @typedef {{ k: number, width: number, left: number, head: number, side: number, slanted: boolean, name: number, longest: number, cell: number, wide: number, height: number }} Lies in px */

const SORTS = { given: "Class order", name: "Name", errors: "Most errors", similarity: "Most confused together" };
const SHOWS = { count: "Counts", share: "Row percent" };
const ROOMY = 72; // px, the largest side of a cell that is not zoomed
const FEW_ROOMY = 140; // of up to four classes
const LARGEST = 88; // px, of a cell that is zoomed
const READABLE = 34; // px; a matrix of such cells needs no zoom
const LEAST = 8; // px, the smallest letters of a number
const NUMBERED = 15; // px; a smaller cell holds no number of two digits
const BLOCKY = 5; // device pixels; smaller cells are written into a buffer of pixels, where none can vanish
const AXIS = 20; // px for the words “actual” and “predicted”
const LABEL = 12; // px, the letters of class names
const SLANT = Math.SQRT1_2; // names that do not fit over their column stand at 45 degrees
const DRAG_PX = 4;


// Colours ------------------------------------------------------------------------------------------

const STEPS = 64;
/** @param {Rgb} from @param {Rgb} to @param {number} share @returns {Rgb} */
function between(from, to, share) {
  const part = (/** @type {0 | 1 | 2} */ k) => Math.round(from[k] + (to[k] - from[k]) * share);
  return [part(0), part(1), part(2)];
}

/** @param {Rgb} from @param {Rgb} to */
const ramp = (from, to) => Array.from({ length: STEPS + 1 }, (_, i) => between(from, to, i / STEPS));

// The view -------------------------------------------------------------------------------------------

/**
 * @template {string} Name
 * @param {string} name @param {Record<Name, string>} allowed @param {Name} otherwise
 */
function kept(name, allowed, otherwise) {
  const value = remembered(`matrix.${name}`);
  return value !== null && value in allowed ? /** @type {Name} */ (value) : otherwise;
}

class View {
  /** @type {Data} */
  data;
  /** @type {import("../common/dom.js").Tell} */
  fire;
  /** @type {Counts} */
  counts;
  /** @type {Lies} */
  lies;
  /** @type {ReturnType<View["palette"]>} */
  colors;
  /** @type {Spot | null} under the pointer */
  spot = null;
  /** @type {Spot | null} of the keys */
  cursor = null;
  /** @type {Spot | null} classes, not places: what is shown below */
  chosen = null;
  /** @type {number[]} the class at each place */
  order = [];
  /** @type {Int32Array} the place of each class, -1 when it is hidden */
  place = new Int32Array();
  /** @type {{ moved: boolean, from: Point } | null} */
  gesture = null;
  /** @type {number | null} px of the longest name */
  widest = null;
  /** @type {number | null} the frames asked for */
  next = null;
  /** @type {number | null} */
  nextTop = null;
  /** @type {string | undefined} */
  family;
  most = 1; // the largest count beside the diagonal, and the largest share of a row
  mostShare = 1;
  tiny = false;
  panning = false;

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    this.zoom = 1;
    this.x = this.y = 0; // the cell at the upper left corner, in cells
    /** @type {keyof typeof SORTS} */
    this.sort = kept("sort", SORTS, "given");
    /** @type {keyof typeof SHOWS} */
    this.show = kept("show", SHOWS, "count");
    this.hide = remembered("matrix.hide") === "1";
    /** @param {keyof typeof SHOWS} name */
    const half = (name) => el("button", { type: "button", class: "tool half", "data-name": name, onclick: () => this.choose({ show: name }) }, SHOWS[name]);
    this.shows = [half("count"), half("share")];
    this.sorts = el("select", { class: "more", "aria-label": "Order of the classes", title: "Order of the classes" }, ...Object.entries(SORTS).map(([name, title]) => el("option", { value: name }, title)));
    this.sorts.addEventListener("change", () => this.choose({ sort: /** @type {keyof typeof SORTS} */ (this.sorts.value) }));
    this.hiding = el("input", { type: "checkbox" });
    this.hiding.addEventListener("change", () => this.choose({ hide: this.hiding.checked }));
    this.hidingText = el("span", {});
    this.hidingLabel = el("label", { class: "check" }, this.hiding, this.hidingText);
    this.zoomed = el("span", { class: "zoom" });
    this.base = el("canvas", { class: "base", "aria-hidden": "true" });
    this.top = el("canvas", { class: "top", role: "application", "aria-roledescription": "confusion matrix", tabindex: "0" });
    this.card = el("div", { class: "card", "aria-hidden": "true", hidden: true });
    this.tip = new Tip(el("div", { class: "tip" }, "Click into the matrix, or hold Ctrl, to zoom with the wheel"));
    this.pointers = new Pointers(this.top);
    this.stage = el("div", { class: "stage" }, this.base, this.top, this.card, this.tip.node);
    this.spoken = el("span", { class: "spoken", "aria-live": "polite" });
    this.darkest = el("span", {});
    this.scale = el("span", { class: "scale" }, "right", el("i", { class: "right" }), "100%", el("span", { class: "next" }, "wrong"), el("i", { class: "wrong" }), this.darkest);
    this.note = el("span", {});
    this.sheet = new KeysSheet(() => this.top.focus({ preventScroll: true }));
    this.zooming = el(
      "div",
      { class: "group" },
      tool(ICONS.out, "Zoom out", "−", () => this.zoomBy(1 / 1.5)),
      this.zoomed,
      tool(ICONS.in, "Zoom in", "+", () => this.zoomBy(1.5)),
      tool(ICONS.fit, "Show all", "0", () => this.fit()),
    );
    this.root = el(
      "div",
      { class: "matrix" },
      el(
        "div",
        { class: "bar", role: "toolbar", "aria-label": "Confusion matrix" },
        el("div", { class: "group halves", role: "group", "aria-label": "Numbers" }, ...this.shows),
        this.sorts,
        this.hidingLabel,
        this.zooming,
        tool(ICONS.keys, "Show the keys", "?", () => this.showKeys()),
      ),
      this.stage,
      el("p", { class: "note" }, this.note, this.scale),
      this.spoken,
      this.sheet.dialog,
    );
    parent.append(this.root);
    this.top.addEventListener("pointerdown", (event) => this.onDown(event));
    this.top.addEventListener("pointermove", (event) => this.onMove(event));
    this.top.addEventListener("pointerup", (event) => this.onUp(event));
    this.top.addEventListener("pointercancel", (event) => this.onUp(event));
    this.top.addEventListener("pointerleave", () => this.hover(null));
    this.top.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.top.addEventListener("focus", () => this.scheduleTop());
    this.top.addEventListener("blur", () => this.scheduleTop());
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.stage.addEventListener("transitionend", () => this.schedule()); // another theme: the style sheet says so by a transition
    this.observer = new ResizeObserver(() => this.schedule());
    this.observer.observe(this.stage);
  }

  /** @param {import("../common/dom.js").Component<Data>} given */
  update({ data, setTriggerValue }) {
    this.fire = setTriggerValue;
    const before = this.data;
    this.data = data;
    if (!before || /** @type {const} */ (["rows", "columns", "counts", "classes"]).some((name) => before[name].join() !== data[name].join())) {
      const same = before?.classes.join("\n") === data.classes.join("\n");
      this.counts = new Counts(data);
      this.arrange(same);
    }
    const named = (/** @type {string | null} */ name) => (name === null ? -1 : data.classes.indexOf(name));
    this.chosen = data.chosen && [named(data.chosen[0]), named(data.chosen[1])];
    this.top.setAttribute("aria-label", this.described());
    this.schedule();
  }

  described() {
    const { n, wrong, size } = this.counts;
    const hidden = size - this.order.length;
    return `Confusion matrix of ${number(n)} ${this.data.split} images and ${size} classes${hidden ? `, ${hidden} hidden` : ""}: ${number(wrong)} wrong. Rows are actual, columns predicted. Arrows move, Enter shows the images.`;
  }

  /** @param {boolean} stay */
  arrange(stay) {
    const clean = this.counts.classes.filter((_, i) => !this.counts.errors(i)).length;
    this.hidingLabel.hidden = !clean || clean === this.counts.size;
    this.hidingText.textContent = `Hide ${count(clean, "class", "classes")} without mistakes`;
    const focus = this.cursor && this.classes(this.cursor);
    this.order = this.counts.order(this.sort, this.hide && !this.hidingLabel.hidden);
    this.place = new Int32Array(this.counts.size).fill(-1);
    this.order.forEach((i, place) => (this.place[i] = place));
    const back = (/** @type {number} */ i) => (i < 0 ? -1 : Math.max(0, this.place[i]));
    this.cursor = focus && [back(focus[0]), back(focus[1])];
    if (!stay) [this.zoom, this.x, this.y] = [1, 0, 0];
    const off = this.order.length ? this.counts.counts.reduce((most, n, i) => (this.counts.rows[i] === this.counts.columns[i] ? most : Math.max(most, n)), 0) : 0;
    this.most = Math.max(1, off);
    this.mostShare = this.counts.counts.reduce((most, n, i) => (this.counts.rows[i] === this.counts.columns[i] ? most : Math.max(most, n / this.counts.actual[this.counts.rows[i]])), 0) || 1;
    this.spot = null;
    this.widest = null;
  }

  /** The classes at the places of a spot. @param {Spot} spot @returns {Spot} */
  classes([row, column]) {
    const at = (/** @type {number} */ place) => (place < 0 ? -1 : this.order[place]);
    return [at(row), at(column)];
  }

  /** @param {{ sort?: keyof typeof SORTS, show?: keyof typeof SHOWS, hide?: boolean }} values */
  choose(values) {
    Object.assign(this, values);
    for (const [name, value] of Object.entries(values)) remembered(`matrix.${name}`, typeof value === "boolean" ? String(Number(value)) : value);
    if (!values.show) this.arrange(values.sort !== undefined);
    if (values.sort) [this.x, this.y] = [0, 0];
    this.top.setAttribute("aria-label", this.described());
    this.schedule();
  }

  // Where things lie -----------------------------------------------------------------------------------

  /** @param {CanvasRenderingContext2D} brush @param {string} name @param {number} most */
  short(brush, name, most) {
    if (brush.measureText(name).width <= most) return name;
    let [low, high] = [0, name.length];
    while (low < high) {
      const mid = (low + high + 1) >> 1;
      if (brush.measureText(`${name.slice(0, mid)}…`).width <= most) low = mid;
      else high = mid - 1;
    }
    return `${name.slice(0, low)}…`;
  }

  layout() {
    const k = Math.max(1, this.order.length);
    const width = this.stage.clientWidth;
    const most = Math.max(280, Math.min(640, 0.72 * innerHeight));
    const brush = context2d(this.base);
    brush.font = this.font(LABEL, 600);
    if (this.widest === null) this.widest = this.order.reduce((most, i) => Math.max(most, brush.measureText(this.counts.classes[i]).width), 0);
    const { widest } = this;
    const longest = Math.min(widest, Math.max(60, Math.min(150, 0.17 * width))); // on a phone the numbers need the room more
    const left = AXIS + Math.ceil(Math.max(18, longest)) + 8;
    const roomy = k <= 4 ? FEW_ROOMY : ROOMY;
    let [head, right] = [AXIS + LABEL + 10, 2];
    let side = Math.min(roomy, (width - left - right) / k, (most - head) / k);
    const slanted = widest > side * this.zoom - 8;
    let name = side * this.zoom - 8; // px that a name may have over its column
    if (slanted) {
      name = Math.min(widest, Math.max(60, Math.min(110, 0.17 * width)));
      const up = Math.ceil(name * SLANT) + 10;
      [head, right] = [AXIS + up, Math.min(up, 64)];
      side = Math.min(roomy, (width - left - right) / k, (most - head) / k);
    }
    this.lies = { k, width, left, head, side, slanted, name, longest, cell: side * this.zoom, wide: side * k, height: head + side * k + 2 };
    this.clamp();
    this.stage.style.height = `${Math.ceil(this.lies.height)}px`;
    // where a test, or anything else that knows only the page, finds the cells
    Object.assign(this.top.dataset, { left: left - this.x * this.lies.cell, top: head - this.y * this.lies.cell, cell: this.lies.cell });
  }

  /** @param {number} size @param {number} [weight] */
  font(size, weight = 400) {
    return `${weight} ${size}px ${(this.family ??= getComputedStyle(this.root).fontFamily)}`;
  }

  clamp() {
    const { k } = this.lies;
    this.zoom = Math.max(1, Math.min(this.mostZoom(), this.zoom));
    this.lies.cell = this.lies.side * this.zoom;
    const last = k - k / this.zoom;
    this.x = Math.max(0, Math.min(last, this.x));
    this.y = Math.max(0, Math.min(last, this.y));
  }

  mostZoom() {
    return this.lies.side < READABLE ? LARGEST / this.lies.side : 1;
  }

  /** The row and column at a point of the stage, -1 for the headers; null outside. @param {Point} given @returns {Spot | null} */
  under([px, py]) {
    const { left, head, cell, wide, slanted } = this.lies;
    const inside = (/** @type {number} */ v, /** @type {number} */ from) => v >= from && v < from + wide;
    /** @param {number} v @param {number} from @param {number} first */
    const place = (v, from, first) => Math.min(this.order.length - 1, Math.floor((v - from) / cell + first));
    if (inside(px, left) && inside(py, head)) return [place(py, head, this.y), place(px, left, this.x)];
    if (px < left && px >= AXIS && inside(py, head)) return [place(py, head, this.y), -1];
    const lean = slanted ? head - py : 0; // a slanted name leans to the right
    if (py < head && py >= AXIS && inside(px - lean, left)) return [-1, place(px - lean, left, this.x)];
    return null;
  }

  // Drawing ----------------------------------------------------------------------------------------------

  schedule() {
    this.next ??= requestAnimationFrame(() => {
      this.next = null;
      if (this.counts && this.stage.clientWidth) this.draw();
    });
  }

  scheduleTop() {
    this.nextTop ??= requestAnimationFrame(() => {
      this.nextTop = null;
      if (this.lies) this.drawTop();
    });
  }

  palette() {
    const style = getComputedStyle(this.stage);
    const [paper, ink, accent] = [rgb(style.backgroundColor), rgb(style.color), rgb(style.getPropertyValue("--st-primary-color") || "teal")];
    const dark = paper[0] + paper[1] + paper[2] < 384;
    const mix = (/** @type {number} */ share) => between(paper, ink, share);
    const right = ramp(mix(0.06), dark ? [24, 118, 108] : [126, 206, 194]);
    const wrong = ramp(paper, dark ? [196, 76, 46] : [236, 106, 72]);
    return { paper, ink, accent, soft: mix(0.62), line: mix(0.07), empty: mix(0.025), own: mix(0.09), right, wrong };
  }

  paint() {
    this.colors = this.palette();
    this.root.style.setProperty("--right", css(this.colors.right[STEPS]));
    this.root.style.setProperty("--wrong", css(this.colors.wrong[STEPS]));
    this.root.style.setProperty("--paper", css(this.colors.paper));
  }

  /**
   * Mistakes have a scale of their own, and no straight one: beside a diagonal of hundreds a dozen errors would be white.
   * @param {number} row @param {number} column @param {number} n
   */
  shade(row, column, n) {
    const share = this.counts.actual[row] ? n / this.counts.actual[row] : 0;
    if (row === column) return this.colors.right[Math.round(STEPS * share)];
    const part = this.show === "share" ? share / this.mostShare : n / this.most;
    const least = this.tiny ? 0.45 : 0.08; // alone, a pixel must be seen
    return this.colors.wrong[Math.round(STEPS * (least + (1 - least) * part ** 0.65))];
  }

  /** @param {HTMLCanvasElement} canvas */
  fitCanvas(canvas) {
    const density = devicePixelRatio || 1;
    const [w, h] = [Math.round(this.lies.width * density), Math.round(this.lies.height * density)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    canvas.style.height = `${this.lies.height}px`;
    const brush = context2d(canvas);
    brush.setTransform(density, 0, 0, density, 0, 0);
    brush.clearRect(0, 0, this.lies.width, this.lies.height);
    return brush;
  }

  draw() {
    this.paint();
    this.layout();
    const { left, head, wide, cell, k } = this.lies;
    const brush = this.fitCanvas(this.base);
    const { colors } = this;
    brush.fillStyle = css(colors.empty);
    brush.fillRect(left, head, wide, wide);
    this.tiny = cell * (devicePixelRatio || 1) < BLOCKY;
    if (this.tiny) this.drawPixels(brush);
    else this.drawCells(brush);
    this.drawNames(brush);
    brush.strokeStyle = css(colors.line);
    brush.strokeRect(left - 0.5, head - 0.5, wide + 1, wide + 1);
    for (const button of this.shows) button.setAttribute("aria-pressed", String(button.dataset.name === this.show));
    this.sorts.value = this.sort;
    this.hiding.checked = this.hide;
    say(this.zoomed, `${Math.round(this.zoom * 100)}%`);
    this.zooming.hidden = this.mostZoom() === 1;
    this.top.style.touchAction = this.zoom > 1 ? "none" : "pan-y";
    const hidden = this.counts.size - k;
    say(this.darkest, this.show === "count" ? number(this.most) : percent(this.mostShare));
    say(this.note, `n = ${number(this.counts.n)} ${this.data.split} images${hidden ? `, ${number(hidden)} classes without mistakes hidden` : ""}`);
    this.drawTop();
  }

  /** @param {CanvasRenderingContext2D} brush */
  drawPixels(brush) {
    const { left, head, cell, wide } = this.lies;
    const density = devicePixelRatio || 1;
    const unit = cell * density;
    const side = Math.max(1, Math.round(wide * density));
    const pixels = brush.createImageData(side, side);
    const buffer = new Int32Array(pixels.data.buffer).fill(packed(this.colors.empty));
    const weight = new Float32Array(side * side); // the heaviest of the cells that meet in a pixel is seen
    const { rows, columns, counts } = this.counts;
    const least = Math.max(1, Math.round(1.6 * density));
    for (let i = 0; i < counts.length; i++) {
      const [y, x] = [this.place[rows[i]], this.place[columns[i]]];
      if (x < 0 || y < 0) continue;
      const [x0, y0] = [Math.round((x - this.x) * unit), Math.round((y - this.y) * unit)];
      if (x0 >= side || y0 >= side || x0 + unit < 0 || y0 + unit < 0) continue;
      const [x1, y1] = [Math.max(x0 + least, Math.round((x - this.x + 1) * unit)), Math.max(y0 + least, Math.round((y - this.y + 1) * unit))];
      const own = rows[i] === columns[i];
      const heavy = own ? 1e-6 : counts[i];
      const color = packed(this.shade(rows[i], columns[i], counts[i]));
      for (let py = Math.max(0, y0); py < Math.min(side, y1); py++) {
        for (let px = Math.max(0, x0); px < Math.min(side, x1); px++) {
          const at = py * side + px;
          if (weight[at] >= heavy) continue;
          weight[at] = heavy;
          buffer[at] = color;
        }
      }
    }
    brush.putImageData(pixels, Math.round(left * density), Math.round(head * density));
  }

  /** @param {CanvasRenderingContext2D} brush */
  drawCells(brush) {
    const { left, head, cell, wide, k } = this.lies;
    brush.save();
    brush.beginPath();
    brush.rect(left, head, wide, wide);
    brush.clip();
    const gap = cell > 14 ? 1 : cell > 7 ? 0.5 : 0;
    const [firstX, firstY] = [Math.floor(this.x), Math.floor(this.y)];
    const seen = Math.ceil(k / this.zoom) + 1;
    const { rows, columns, counts } = this.counts;
    brush.fillStyle = css(this.colors.own); // the diagonal is seen where it is empty, too
    for (let i = Math.max(firstX, firstY); i < Math.min(k, Math.max(firstX, firstY) + seen); i++) {
      brush.fillRect(left + (i - this.x) * cell + gap, head + (i - this.y) * cell + gap, cell - 2 * gap, cell - 2 * gap);
    }
    const numbers = cell >= NUMBERED;
    const size = Math.max(LEAST, Math.min(15, Math.floor(cell * 0.36)));
    brush.textAlign = "center";
    brush.textBaseline = "middle";
    for (let i = 0; i < counts.length; i++) {
      const [y, x] = [this.place[rows[i]], this.place[columns[i]]];
      if (x < firstX || y < firstY || x > firstX + seen || y > firstY + seen) continue;
      const [px, py] = [left + (x - this.x) * cell, head + (y - this.y) * cell];
      brush.fillStyle = css(this.shade(rows[i], columns[i], counts[i]));
      brush.fillRect(px + gap, py + gap, cell - 2 * gap, cell - 2 * gap);
      if (!numbers) continue;
      const text = this.show === "share" ? percent(counts[i] / this.counts.actual[rows[i]]) : number(counts[i]);
      for (let letters = size; letters >= LEAST; letters--) {
        brush.font = this.font(letters, rows[i] === columns[i] ? 400 : 600);
        if (brush.measureText(text).width > cell - (letters > LEAST ? 5 : 2)) continue;
        brush.fillStyle = css(this.colors.ink);
        brush.fillText(text, px + cell / 2, py + cell / 2 + 0.5);
        break;
      }
    }
    brush.restore();
  }

  /** @param {CanvasRenderingContext2D} brush */
  drawNames(brush) {
    const { left, head, wide, cell, slanted, longest, name, k } = this.lies;
    brush.font = this.font(11);
    brush.fillStyle = css(this.colors.soft);
    brush.textBaseline = "middle";
    brush.textAlign = "left";
    brush.fillText("predicted", left, AXIS / 2 - 2);
    brush.save();
    brush.translate(AXIS / 2 - 2, head);
    brush.rotate(-Math.PI / 2);
    brush.textAlign = "right";
    brush.fillText("actual", 0, 0);
    brush.restore();
    const step = Math.max(1, Math.ceil((LABEL + 1) / cell)); // names that would overlap are left out; the pointer tells them
    brush.font = this.font(LABEL);
    for (let place = Math.floor(this.y / step) * step; place < k; place += step) {
      const middle = head + (place + 0.5 - this.y) * cell;
      if (middle < head) continue;
      if (middle > head + wide) break;
      this.drawRowName(brush, place, middle, css(step > 1 ? this.colors.soft : this.colors.ink), longest);
    }
    for (let place = Math.floor(this.x / step) * step; place < k; place += step) {
      const middle = left + (place + 0.5 - this.x) * cell;
      if (middle < left) continue;
      if (middle > left + wide) break;
      this.drawColumnName(brush, place, middle, css(step > 1 ? this.colors.soft : this.colors.ink), slanted, name);
    }
  }

  /** @param {CanvasRenderingContext2D} brush @param {number} place @param {number} middle @param {string} color @param {number} longest */
  drawRowName(brush, place, middle, color, longest) {
    brush.fillStyle = color;
    brush.textAlign = "right";
    brush.textBaseline = "middle";
    brush.fillText(this.short(brush, this.counts.classes[this.order[place]], longest), this.lies.left - 6, middle);
  }

  /**
   * @param {CanvasRenderingContext2D} brush
   * @param {number} place
   * @param {number} middle
   * @param {string} color
   * @param {boolean} slanted
   * @param {number} name
   */
  drawColumnName(brush, place, middle, color, slanted, name) {
    const { head } = this.lies;
    brush.fillStyle = color;
    const text = this.short(brush, this.counts.classes[this.order[place]], name);
    if (!slanted) {
      brush.textAlign = "center";
      brush.textBaseline = "alphabetic";
      return brush.fillText(text, middle, head - 7);
    }
    brush.save();
    brush.translate(middle + 1, head - 4);
    brush.rotate(-Math.PI / 4);
    brush.textAlign = "left";
    brush.textBaseline = "middle";
    brush.fillText(text, 0, 0);
    brush.restore();
  }

  drawTop() {
    const { left, head, wide, cell, k } = this.lies;
    const brush = this.fitCanvas(this.top);
    const { ink, accent, paper } = this.colors;
    const box = (/** @type {Spot} */ [row, column]) => {
      const x = column < 0 ? AXIS : left + (column - this.x) * cell;
      const y = row < 0 ? AXIS : head + (row - this.y) * cell;
      return [x, y, column < 0 ? left + wide - AXIS : cell, row < 0 ? head + wide - AXIS : cell];
    };
    /** @param {Spot} spot @param {string} color @param {number} line */
    const outline = (spot, color, line) => {
      brush.save();
      brush.beginPath();
      brush.rect(spot[1] < 0 ? 0 : left - 2, spot[0] < 0 ? 0 : head - 2, wide + left + 4, wide + head + 4);
      brush.clip();
      brush.strokeStyle = color;
      brush.lineWidth = line;
      const [x, y, w, h] = box(spot);
      const grow = cell < 8 ? 2 : 0;
      brush.strokeRect(x - grow, y - grow, w + 2 * grow, h + 2 * grow);
      brush.restore();
    };
    const at = (/** @type {number} */ i) => (i < 0 ? -1 : this.place[i]);
    /** @type {Spot | null} */
    const places = this.chosen && [at(this.chosen[0]), at(this.chosen[1])];
    const hidden = this.chosen?.some((i) => i >= 0 && at(i) < 0);
    if (places && !hidden && places.some((place) => place >= 0)) outline(places, css(accent), 2.5);
    const awake = focused(this.root) === this.top;
    const spot = this.spot ?? (awake ? this.cursor : null);
    if (spot) {
      const [row, column] = spot;
      brush.fillStyle = css(ink, 0.06);
      const [x, y] = [left + (column - this.x) * cell, head + (row - this.y) * cell];
      if (row >= 0) brush.fillRect(left, y, column < 0 ? wide : Math.max(0, x - left), cell);
      if (column >= 0) brush.fillRect(x, head, cell, row < 0 ? wide : Math.max(0, y - head));
      if (row >= 0 && column >= 0) outline(spot, css(ink), awake && spot === this.cursor ? 2 : 1.25);
      this.nameSpot(brush, spot, paper, ink);
    }
    this.top.style.cursor = this.panning ? "grabbing" : this.spot ? "pointer" : "default";
    if (k && this.cursor && awake) say(this.spoken, this.words(this.cursor));
  }

  /**
   * The names of the row and column that are pointed at, whole and over all others.
   * @param {CanvasRenderingContext2D} brush @param {Spot} given @param {Rgb} paper @param {Rgb} ink
   */
  nameSpot(brush, [row, column], paper, ink) {
    const { left, head, cell, slanted, longest, name } = this.lies;
    brush.font = this.font(LABEL, 600);
    if (row >= 0) {
      const y = head + (row + 0.5 - this.y) * cell;
      brush.fillStyle = css(paper);
      brush.fillRect(AXIS, y - 9, left - AXIS - 1, 18);
      this.drawRowName(brush, row, y, css(ink), longest);
    }
    if (column < 0) return;
    const x = left + (column + 0.5 - this.x) * cell;
    brush.fillStyle = css(paper);
    if (slanted) {
      brush.save();
      brush.beginPath();
      brush.rect(0, 0, this.lies.width, head - 1);
      brush.clip();
      brush.translate(x + 1, head - 4);
      brush.rotate(-Math.PI / 4);
      brush.fillRect(-6, -9, name + 12, 18);
      brush.restore();
    } else {
      brush.fillRect(x - cell / 2, AXIS, cell, head - AXIS - 2);
    }
    this.drawColumnName(brush, column, x, css(ink), slanted, slanted ? name : cell);
  }

  /** @param {Spot} given */
  words([row, column]) {
    const name = (/** @type {number} */ place) => this.counts.classes[this.order[place]];
    const of = (/** @type {number} */ n, /** @type {number} */ all) => `${number(n)} of ${number(all)} (${percent(n / all)})`;
    if (row < 0 && column < 0) return "";
    if (column < 0) {
      const i = this.order[row];
      return this.counts.actual[i] ? `actual ${name(row)}: ${of(this.counts.right[i], this.counts.actual[i])} right` : `actual ${name(row)}: no image`;
    }
    if (row < 0) {
      const i = this.order[column];
      return this.counts.given[i] ? `predicted ${name(column)}: ${of(this.counts.right[i], this.counts.given[i])} right` : `predicted ${name(column)}: no image`;
    }
    const [i, j] = [this.order[row], this.order[column]];
    const where = `actual ${name(row)}, predicted ${name(column)}`;
    return this.counts.actual[i] ? `${where}: ${of(this.counts.count(i, j), this.counts.actual[i])}` : `${where}: no image is ${name(row)}`;
  }

  // The pointer --------------------------------------------------------------------------------------------

  /** @param {Spot | null} spot @param {Point} [at] */
  hover(spot, at) {
    this.spot = spot;
    const words = spot ? this.words(spot) : "";
    this.card.hidden = !words;
    if (words && at) {
      say(this.card, words);
      const [w, h] = [this.card.offsetWidth, this.card.offsetHeight];
      const x = Math.max(0, Math.min(this.stage.clientWidth - w, at[0] - w / 2));
      const y = at[1] - h - 12 < 0 ? at[1] + 20 : at[1] - h - 12;
      this.card.style.transform = `translate(${x}px, ${y}px)`;
    }
    this.scheduleTop();
  }

  /** @param {PointerEvent} event */
  onDown(event) {
    if (!this.lies || event.button > 1) return;
    this.pointers.set(event);
    if (this.zoom > 1 || this.pointers.size > 1) this.top.setPointerCapture(event.pointerId);
    this.gesture = { moved: this.pointers.size > 1, from: this.pointers.at(event) };
  }

  /** @param {PointerEvent} event */
  onMove(event) {
    if (!this.lies) return;
    const now = this.pointers.at(event);
    const last = this.pointers.last(event);
    if (!last || !this.gesture) return event.pointerType === "touch" ? undefined : this.hover(this.under(now), now);
    if (this.pointers.size > 1) {
      const { dx, dy, by, x, y } = this.pointers.pinch(event);
      this.pan(dx, dy);
      return this.zoomBy(by, x, y);
    }
    if (!this.gesture.moved && Math.hypot(now[0] - this.gesture.from[0], now[1] - this.gesture.from[1]) < DRAG_PX) return;
    this.gesture.moved = true;
    if (this.zoom === 1) return;
    this.panning = true;
    this.hover(null);
    this.pan(now[0] - last[0], now[1] - last[1]);
    this.pointers.set(event);
  }

  /** @param {PointerEvent} event */
  onUp(event) {
    const { gesture } = this;
    this.pointers.delete(event);
    if (this.pointers.size) return;
    this.gesture = null;
    this.panning = false;
    this.scheduleTop();
    if (!gesture || gesture.moved || event.type === "pointercancel" || event.button !== 0) return;
    const spot = this.under(this.pointers.at(event));
    if (!spot) return;
    this.cursor = spot;
    this.pick(spot);
  }

  /** @param {Spot} given */
  pick([row, column]) {
    if (row < 0 && column < 0) return;
    this.chosen = this.classes([row, column]);
    this.scheduleTop();
    this.fire("pick", this.chosen.map((i) => (i < 0 ? null : i)));
  }

  /** @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.x -= dx / this.lies.cell;
    this.y -= dy / this.lies.cell;
    this.clamp();
    this.schedule();
  }

  /** @param {number} by @param {number} [px] @param {number} [py] */
  zoomBy(by, px, py) {
    const { left, head, wide } = this.lies;
    const [fx, fy] = [(px ?? left + wide / 2) - left, (py ?? head + wide / 2) - head];
    const [atX, atY] = [this.x + fx / this.lies.cell, this.y + fy / this.lies.cell];
    this.zoom *= by;
    this.clamp();
    this.x = atX - fx / this.lies.cell;
    this.y = atY - fy / this.lies.cell;
    this.clamp();
    this.schedule();
  }

  fit() {
    [this.zoom, this.x, this.y] = [1, 0, 0];
    this.schedule();
  }

  /** @param {WheelEvent} event */
  onWheel(event) {
    if (!this.lies || this.mostZoom() === 1) return;
    if (!event.ctrlKey && !event.metaKey && focused(this.root) !== this.top) {
      return this.tip.show(); // the page scrolls
    }
    if (this.zoom === 1 && event.deltaY > 0 && !event.ctrlKey && !event.metaKey) return; // all is shown: the page scrolls
    event.preventDefault();
    this.tip.hide();
    this.hover(null);
    this.zoomBy(wheelFactor(event), ...this.pointers.at(event));
  }

  // Keys -----------------------------------------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const from = event.composedPath()[0];
    if (this.sheet.open || event.isComposing || event.altKey || from instanceof HTMLSelectElement) return;
    if (this.handle(event, from !== this.top)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  /** @param {KeyboardEvent} event @param {boolean} onButton */
  handle(event, onButton) {
    const { key } = event;
    /** @type {Record<string, Spot>} */
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (key in moves && !onButton) return this.move(moves[key], event.ctrlKey || event.metaKey || event.shiftKey), true;
    if (event.ctrlKey || event.metaKey) return false;
    const last = this.order.length - 1;
    if (key === "Home" && !onButton) return this.go([this.cursor?.[0] ?? 0, -1]), true;
    if (key === "End" && !onButton) return this.go([this.cursor?.[0] ?? 0, last]), true;
    if ((key === "Enter" || key === " ") && !onButton) return this.cursor && this.pick(this.cursor), true;
    const { left, head, cell } = this.lies;
    /** @type {[number?, number?]} */
    const here = this.cursor ? [left + (Math.max(0, this.cursor[1]) + 0.5 - this.x) * cell, head + (Math.max(0, this.cursor[0]) + 0.5 - this.y) * cell] : [];
    if (key === "+" || key === "=") return this.zoomBy(1.5, ...here), true;
    if (key === "-" || key === "_") return this.zoomBy(1 / 1.5, ...here), true;
    if (key === "0") return this.fit(), true;
    if (key === "?") return this.showKeys(), true;
    return false;
  }

  /** From cell to cell; far: to the next one that holds images, over the empty ones. @param {Spot} given @param {boolean} far */
  move([down, right], far) {
    const last = this.order.length - 1;
    if (!this.cursor) return this.go([0, 0]);
    let [row, column] = this.cursor;
    do {
      [row, column] = [row + down, column + right];
    } while (far && row >= 0 && column >= 0 && row < last && column < last && !this.counts.count(this.order[row], this.order[column]));
    row = Math.max(-1, Math.min(last, row));
    column = Math.max(-1, Math.min(last, column));
    if (row < 0 && column < 0) return; // the corner heads nothing
    this.go([row, column]);
  }

  /** @param {Spot} spot */
  go(spot) {
    this.cursor = spot;
    this.spot = null;
    const { k } = this.lies;
    const seen = k / this.zoom;
    const into = (/** @type {number} */ at, /** @type {number} */ first) => (at < 0 ? first : Math.min(at, Math.max(first, at + 1 - seen)));
    [this.y, this.x] = [into(spot[0], this.y), into(spot[1], this.x)];
    this.clamp();
    const words = this.words(spot);
    this.card.hidden = true;
    say(this.spoken, words);
    this.schedule();
    const { left, head, cell } = this.lies;
    this.hover(spot, [left + (spot[1] + 0.5 - this.x) * cell, head + (spot[0] - this.y) * cell]);
    this.spot = null; // the card shows it; the cursor is what stays
  }

  showKeys() {
    const rows = [
      ["Click", "show the images of a cell; of a row or a column by its name"],
      ["Arrows", "move from cell to cell, and into the names"],
      ["Shift + arrows", "move to the next cell that holds images"],
      ["Enter", "show the images"],
      ["Home, End", "first and last cell of the row"],
      ["+ and −", "zoom; the wheel does too once you clicked into the matrix"],
      ["0", "show all"],
      ["Drag", "move, where it is zoomed"],
      ["Touch", "two fingers zoom and move"],
    ];
    this.sheet.show(rows);
  }

  end() {
    this.observer.disconnect();
    cancelAnimationFrame(this.next ?? 0);
    cancelAnimationFrame(this.nextTop ?? 0);
    this.tip.hide();
    this.sheet.close();
    this.root.remove(); // the place may be filled again
  }
}

export default mount(View);
