// The confusion matrix and a few validation images, after any epoch.

import { ICONS, el, icon, say } from "../common/dom.js";
import { count, percent } from "../common/numbers.js";
import { shade } from "./curves.js";

/** @typedef {import("./curves.js").Answer} Answer */
/** @typedef {import("./curves.js").Sample} Sample */
/** @typedef {{ url: string, alt: string, pixelated: boolean }} Picture */
/** @typedef {{ mark: HTMLElement, name: HTMLElement, share: HTMLElement, fill: HTMLElement, box: HTMLElement }} Line */
/** @typedef {{ said: Line, is: Line, box: HTMLElement }} Card */
/** @typedef {{ classes: { name: string, color: string }[], images: { [id: string]: Picture } }} Pictured */

const MOST_CLASSES = 20; // with counts written into the cells of the matrix
const MOST_ROWS = 50; // of a matrix; of more classes the events hold no counts
const GREY = "#7b8494"; // of a class that is not known
const TICK = "M3 8.5l3.5 3.5L13 4.5";

/** @param {number} n */
const images = (n) => count(n, "image", "images");

export class Answers {
  /** @type {Answer[]} */
  all = [];
  /** @type {Answer | undefined} */
  painted;
  /** @type {HTMLElement[][] | null} the cells of the matrix by actual and predicted class */
  cells = null;
  /** @type {Uint32Array | null} images in each cell */
  counts = null;
  /** @type {number | undefined} the cell that is read */
  cursor;
  /** @type {HTMLElement | null} */
  marked = null;
  /** @type {Map<string, Card>} */
  cards = new Map();
  /** @type {HTMLInputElement} */
  range;
  /** @type {number[]} images of each class */
  rows = [];
  confused = ""; // most often, in words
  follow = true;
  at = -1; // place in all

  /** @param {Pictured} pictured */
  constructor({ classes, images: pictures }) {
    this.classes = classes;
    this.pictures = pictures;
    const step = (/** @type {number} */ by) => () => this.go(this.at + by);
    this.back = el("button", { type: "button", class: "lp-step", "aria-label": "One epoch back", onclick: step(-1) }, icon(ICONS.back));
    this.on = el("button", { type: "button", class: "lp-step", "aria-label": "One epoch on", onclick: step(1) }, icon(ICONS.next));
    this.range = el("input", { type: "range", min: "0", max: "0", step: "1", "aria-label": "Epoch", oninput: () => this.go(Number(this.range.value)) });
    this.epoch = el("span", { class: "lp-epoch" });
    this.newest = el("button", { type: "button", class: "lp-newest", onclick: () => this.go(Infinity) }, "Newest");
    this.sum = el("p", { class: "lp-sum" });
    this.hint = el("p", { class: "lp-readout", role: "status" });
    this.table = this.matrix();
    this.list = el("ul", { class: "lp-samples" });
    this.matrixBox = el("figure", { class: "lp-matrix" }, el("figcaption", {}, "Confusion matrix: what is taken for what"), this.sum, this.table, this.hint);
    this.tally = el("p", { class: "lp-sum" });
    this.samplesBox = el("figure", { class: "lp-some" }, el("figcaption", {}, "The same few validation images, epoch after epoch"), this.tally, this.list);
    this.root = el(
      "section",
      { class: "lp-answers", "aria-label": "What the network answers", hidden: true },
      el("div", { class: "lp-stepper", role: "group", "aria-label": "Epoch of the answers" }, this.epoch, this.back, this.range, this.on, this.newest),
      el("div", { class: this.classes.length > 30 ? "lp-two lp-wide" : "lp-two" }, this.matrixBox, this.samplesBox),
    );
  }

  /** @param {number} at */
  go(at) {
    const last = this.all.length - 1;
    this.at = Math.max(0, Math.min(last, at));
    this.follow = this.at === last;
    this.paint();
  }

  /** @param {Answer[]} all */
  update(all) {
    const shown = this.all[this.at];
    this.all = all;
    const last = all.length - 1;
    this.root.hidden = last < 0;
    if (last < 0) return;
    if (this.follow || !shown) this.at = last;
    else {
      const place = all.findIndex((a) => a.epoch >= shown.epoch); // older ones may have been thinned out
      this.at = place < 0 ? last : place;
    }
    this.paint();
  }

  paint() {
    const one = this.all[this.at];
    const last = this.all.length - 1;
    this.range.max = String(last);
    this.range.value = String(this.at);
    this.range.setAttribute("aria-valuetext", `epoch ${one.epoch}`);
    this.range.style.setProperty("--at", String(last ? this.at / last : 1));
    this.back.disabled = this.at === 0;
    this.on.disabled = this.newest.disabled = this.at === last;
    say(this.epoch, `What it answers after epoch ${one.epoch}`);
    if (this.painted === one) return;
    this.painted = one;
    this.fill(one);
    this.show(one);
  }

  // The matrix ---------------------------------------------------------------------------------

  matrix() {
    const n = this.classes.length;
    if (n > MOST_ROWS) return el("p", { class: "lp-sum" });
    const longest = Math.max(...this.classes.map((c) => c.name.length));
    const flat = longest <= 2 || (longest <= 6 && n <= 5);
    const corner = el("td", { class: "lp-corner" }, el("span", {}, "predicted →"), el("span", {}, "actual ↓"));
    const across = this.classes.map((c) => el("th", { scope: "col", title: c.name }, el("span", {}, c.name)));
    const cells = this.classes.map((_, row) => this.classes.map((__, column) => el("td", { class: row === column ? "lp-right" : "lp-wrong", "data-at": row * n + column })));
    this.cells = cells;
    const rows = this.classes.map((c, row) => el("tr", {}, el("th", { scope: "row", title: c.name }, c.name), ...cells[row]));
    const table = el("table", { tabindex: "0", "aria-label": "Confusion matrix. Arrow keys read its cells.", class: flat ? "lp-flat" : "" }, el("thead", {}, el("tr", {}, corner, ...across)), el("tbody", {}, ...rows));
    table.style.setProperty("--n", String(n));
    const most = n <= 6 ? 14 : n <= MOST_CLASSES ? 9 : 6;
    table.style.setProperty("--head", `min(${Math.max(4.5, Math.min(most, longest * 0.62))}rem, 42cqw)`);
    table.classList.toggle("lp-many", n > MOST_CLASSES);
    table.addEventListener("pointerover", (event) => {
      const cell = /** @type {HTMLElement} */ (event.target).closest("td[data-at]");
      this.read(cell ? Number(/** @type {HTMLElement} */ (cell).dataset.at) : undefined);
    });
    table.addEventListener("pointerleave", () => this.read());
    table.addEventListener("blur", () => this.read());
    table.addEventListener("keydown", (event) => {
      const by = new Map([["ArrowUp", -n], ["ArrowDown", n], ["ArrowLeft", -1], ["ArrowRight", 1]]).get(event.key);
      if (!by && event.key !== "Escape") return;
      event.preventDefault();
      if (!by) return this.read();
      const at = this.cursor === undefined ? 0 : this.cursor + by;
      if (at >= 0 && at < n * n) this.read(at);
    });
    return table;
  }

  /** @param {Answer} one */
  fill({ cells, rows, words, confused }) {
    this.matrixBox.hidden = !cells.length && this.classes.length <= MOST_ROWS;
    this.sum.hidden = this.hint.hidden = !this.cells;
    if (!this.cells) return say(this.table, `With more than ${MOST_ROWS} classes it is drawn on the Evaluate page, after the run.`);
    const n = this.classes.length;
    const counts = (this.counts = new Uint32Array(n * n));
    const shades = new Float64Array(n * n); // the scale is the same for every epoch
    for (const [actual, predicted, many, share] of cells) {
      counts[actual * n + predicted] = many;
      shades[actual * n + predicted] = shade(share, actual === predicted);
    }
    this.cells.flat().forEach((cell, at) => {
      const value = shades[at] ? shades[at].toFixed(3) : "0";
      if (cell.style.getPropertyValue("--v") !== value) cell.style.setProperty("--v", value);
      say(cell, counts[at] && n <= MOST_CLASSES ? counts[at].toLocaleString("en") : "");
    });
    this.rows = rows;
    this.confused = confused;
    say(this.sum, words);
    this.read(this.cursor);
  }

  /** Says what stands in a cell; without one, what is confused most. @param {number} [at] */
  read(at) {
    if (!this.counts || !this.cells) return;
    const n = this.classes.length;
    this.marked?.classList.remove("lp-cursor");
    this.marked = null;
    this.cursor = at;
    if (at === undefined) return say(this.hint, this.confused);
    const [actual, predicted] = [Math.floor(at / n), at % n];
    this.marked = this.cells[actual][predicted];
    this.marked.classList.add("lp-cursor");
    const where = `actual ${this.classes[actual].name}, predicted ${this.classes[predicted].name}`;
    say(this.hint, `${where}: ${images(this.counts[at])}, of ${this.rows[actual].toLocaleString("en")} in the row`);
  }

  // The samples --------------------------------------------------------------------------------

  /** @param {string} id */
  card(id) {
    const picture = this.pictures[id];
    const line = () => {
      const [mark, name, share, fill] = [el("span", { class: "lp-mark" }), el("span", { class: "lp-name" }), el("span", { class: "lp-p" }), el("i")];
      return { mark, name, share, fill, box: el("div", { class: "lp-answer" }, mark, name, share, el("span", { class: "lp-bar" }, fill)) };
    };
    const face = picture
      ? el("img", { src: picture.url, alt: picture.alt, class: picture.pixelated ? "lp-pixels" : "", loading: "lazy", width: "64", height: "64" })
      : el("span", { class: "lp-gone" }, "not in the dataset any more");
    const [said, is] = [line(), line()];
    const card = { said, is, box: el("li", { class: "lp-sample" }, face, el("div", { class: "lp-lines" }, said.box, is.box)) };
    this.cards.set(id, card);
    this.list.append(card.box);
    return card;
  }

  /** @param {Answer} one */
  show({ samples, sampled }) {
    this.samplesBox.hidden = !samples.length;
    /** @param {Line} line @param {Node | string} mark @param {number} index of its class @param {number} share */
    const put = (line, mark, index, share) => {
      const { name, color } = this.classes[index] ?? { name: "?", color: GREY };
      line.mark.replaceChildren(mark);
      say(line.name, name);
      line.name.title = name;
      say(line.share, percent(share));
      line.fill.style.width = `${share * 100}%`;
      line.fill.style.background = color;
    };
    for (const [id, actual, predicted, pPredicted, pActual] of samples) {
      const card = this.cards.get(id) ?? this.card(id);
      const correct = actual === predicted;
      card.box.classList.toggle("lp-miss", !correct);
      card.box.setAttribute("aria-label", `${correct ? "Right" : "Wrong"}: the network says ${this.classes[predicted]?.name}, ${percent(pPredicted)}; it is ${this.classes[actual]?.name}`);
      put(card.said, icon(correct ? TICK : ICONS.remove), predicted, pPredicted);
      put(card.is, "is", actual, pActual);
    }
    say(this.tally, sampled);
  }
}
