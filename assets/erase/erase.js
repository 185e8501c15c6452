// Erase and ask again: a mask is painted over the picture as the network sees it, the server fills it and answers anew.
// One question is under way at a time, and the next one carries the mask as it is by then: answers never overtake each other.

import { ICONS, context2d, el, icon, mount, say } from "../common/dom.js";
import { change, points } from "../common/numbers.js";
import { radios } from "../common/radios.js";
import { bits, box, stroke } from "./mask.js";

/** @typedef {{ name: string, title: string, help: string, path?: string }} Choice */
/** @typedef {{ key: string, url: string, token: string, classes: string[], name: string }} Data */
/** @typedef {import("./mask.js").Point} Point */
/** @typedef {{ picture: string, probabilities: number[], width: number, height: number }} Answer */
/**
 * @typedef {import("./mask.js").Masked & {
 *   picture: HTMLImageElement | null, before: number[], after: number[] | null, patch: HTMLImageElement | null, known: string | null,
 *   version: number, undos: Uint8Array[], redos: Uint8Array[] }} Painting
 */

const WAIT_MS = 80; // of strokes that one question carries
const RETRY_MS = 2000;
const MOST_STEPS = 60; // that can be undone: 50 kB each at 224 × 224
const MOST_KEPT = 6; // pictures whose painting outlives a walk through the app
const SMALL = 128; // pixels; below, a picture is shown pixel by pixel
const SHOWN = 5; // classes
/** @type {Choice[]} */
const TOOLS = [
  { name: "brush", title: "Brush", help: "Erase what the brush passes over", path: "M13.3 2.7c-3 1-5.6 3.3-7.2 6l1.3 1.3c2.7-1.7 5-4.3 5.9-7.3zM5 9.6c-1.5 0-2.3 1-2.3 2.3 0 .6-.3 1-.9 1.3 1.8.6 4.6.2 4.6-2.2" },
  { name: "rectangle", title: "Rectangle", help: "Erase a rectangle, from one corner to the other", path: "M2.5 4h11v8h-11z" },
  { name: "eraser", title: "Bring back", help: "Bring back what the brush passes over", path: "M6 13l-3.5-3.5 6.5-6.5 4 4-6 6H6zM6 6l4 4M6 13h7.5" },
];
/** @type {Choice[]} */
const FILLS = [
  { name: "blur", title: "Blurred", help: "Its colours stay, its shapes go" },
  { name: "grey", title: "Grey", help: "The mean colour of the pictures the network learned from" },
  { name: "inpaint", title: "Painted in", help: "Continued smoothly from what lies around it" },
];
// What is painted on one picture, for one run.
/** @type {Map<string, Painting>} */
const paintings = new Map();

/** @param {Data} data */
function painting(data) {
  const name = `${data.key} ${new URL(data.url, location.origin).pathname}`; // the signature changes from day to day
  /** @type {Painting} */
  const fresh = { picture: null, width: 0, height: 0, before: [], mask: new Uint8Array(), version: 0, known: null, undos: [], redos: [], patch: null, after: null };
  const found = paintings.get(name) ?? fresh;
  paintings.delete(name);
  paintings.set(name, found);
  if (paintings.size > MOST_KEPT) paintings.delete(paintings.keys().next().value ?? "");
  return found;
}

/** @param {string} url */
async function decoded(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

/** @param {number} width @param {number} height */
const sheet = (width, height) => el("canvas", { width, height });

/**
 * The border between what is painted and what is not, as lines between pixels.
 * @param {Uint8Array} mask @param {number} width @param {number} height
 */
function outline(mask, width, height) {
  const path = new Path2D();
  const at = (/** @type {number} */ x, /** @type {number} */ y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x] === 1;
  /**
   * @param {number} rows @param {number} columns
   * @param {(row: number, column: number) => boolean} differs @param {(row: number, from: number, to: number) => void} line
   */
  const walk = (rows, columns, differs, line) => {
    for (let row = 0; row <= rows; row++) {
      let start = -1;
      for (let column = 0; column <= columns; column++) {
        const edge = column < columns && differs(row, column);
        if (edge && start < 0) start = column;
        if (!edge && start >= 0) {
          line(row, start, column);
          start = -1;
        }
      }
    }
  };
  walk(height, width, (y, x) => at(x, y) !== at(x, y - 1), (y, from, to) => (path.moveTo(from, y), path.lineTo(to, y)));
  walk(width, height, (x, y) => at(x, y) !== at(x - 1, y), (x, from, to) => (path.moveTo(x, from), path.lineTo(x, to)));
  return path;
}

class View {
  /** @type {Data} */
  data;
  /** @type {Painting} */
  painting;
  /** @type {Point | null} the brush, in pixels of the picture */
  at = null;
  /** @type {Point | null} where the stroke has come to */
  last = null;
  /** @type {Point | null} of the rectangle that is drawn */
  corner = null;
  /** @type {Uint8Array} the mask before the stroke */
  before = new Uint8Array();
  /** @type {HTMLCanvasElement} the mask as pixels */
  masked = sheet(1, 1);
  border = new Path2D();
  asking = false;
  gone = false;
  /** @type {ReturnType<typeof setTimeout> | null} */
  timer = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  retry;
  /** @type {number | null} */
  frame = null;

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    this.tool = "brush";
    this.fill = "blur";
    this.share = 0.16; // the brush's width of the picture's
    this.looking = false; // the pointer or the keys are on the picture: then the outline is drawn
    const entries = (/** @type {Choice[]} */ of) => of.map(({ name, title, help, path }) => ({ name, title, props: { class: "tool", "data-name": name, title: help }, children: path ? [icon(path)] : [] }));
    this.tools = radios({ class: "set", "aria-label": "Tool" }, entries(TOOLS), (name) => this.choose("tool", name));
    this.fills = radios({ class: "set", "aria-label": "Fill with" }, entries(FILLS), (name) => this.choose("fill", name));
    this.fills.node.prepend(el("span", { class: "word" }, "Fill"));
    this.size = el("input", { type: "range", class: "size", min: "3", max: "60", step: "1", value: String(100 * this.share), "aria-label": "Size of the brush, per cent of the picture's width" });
    this.size.addEventListener("input", () => this.resize(Number(this.size.value) / 100));
    /** @param {string} name @param {string} title @param {string} path @param {() => void} work */
    const act = (name, title, path, work) => el("button", { type: "button", class: "tool", title, "aria-label": title, onclick: work }, icon(path), ...(name ? [name] : []));
    this.undoButton = act("Undo", "Undo (Ctrl+Z)", ICONS.undo, () => this.travel("undos", "redos"));
    this.redoButton = act("", "Redo (Ctrl+Shift+Z)", ICONS.redo, () => this.travel("redos", "undos"));
    this.clearButton = act("Clear", "Clear: bring the whole picture back", ICONS.remove, () => this.clear());
    this.canvas = el("canvas", { tabindex: "0", role: "application", "aria-roledescription": "painting" });
    this.stage = el("div", { class: "stage" }, this.canvas);
    this.facts = el("div", { class: "facts" });
    this.headline = el("p", { class: "headline", role: "status" }, "Asking …");
    this.rows = el("tbody");
    const head = (/** @type {string} */ name, /** @type {string} */ words) => el("th", { scope: "col" }, ...(name ? [el("span", { class: `key ${name}` })] : []), words);
    this.error = el("p", { class: "error", role: "alert", hidden: true });
    const table = el(
      "table",
      { class: "answers" },
      el("thead", {}, el("tr", {}, head("", "class"), head("before", "before"), head("after", "after"), el("th", { scope: "col", title: "Percentage points" }, "difference"))),
      this.rows,
    );
    const keys = el("p", { class: "help keys" });
    keys.append("By keyboard, on the picture: ", el("kbd", {}, "arrows"), " move the brush, ", el("kbd", {}, "space"), " held down paints, ", el("kbd", {}, "["), " ", el("kbd", {}, "]"), " change its size, ", el("kbd", {}, "Ctrl+Z"), " takes back.");
    this.root = el(
      "div",
      { class: "erase" },
      el("div", { class: "bar" }, this.tools.node, el("label", { class: "set" }, el("span", { class: "word" }, "Size"), this.size), this.fills.node, el("div", { class: "set" }, this.undoButton, this.redoButton, this.clearButton)),
      el("div", { class: "body" }, el("div", {}, this.stage, this.facts), el("div", {}, this.headline, table, this.error, keys)),
    );
    parent.append(this.root);
    this.listen();
    this.sized = new ResizeObserver(() => this.draw());
    this.sized.observe(this.stage);
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.painting.picture) return;
      canvas.setPointerCapture(event.pointerId);
      this.begin(this.place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      const all = event.getCoalescedEvents?.() ?? [];
      for (const one of all.length ? all : [event]) this.move(this.place(one));
    });
    canvas.addEventListener("pointerup", () => this.end_stroke());
    canvas.addEventListener("pointercancel", () => this.end_stroke());
    canvas.addEventListener("pointerenter", () => this.look(true));
    canvas.addEventListener("pointerleave", () => {
      if (this.last || this.corner) return;
      this.at = null;
      this.look(false);
    });
    canvas.addEventListener("focus", () => {
      if (canvas.matches(":focus-visible")) this.look(true);
    });
    canvas.addEventListener("blur", () => {
      this.end_stroke();
      this.look(false);
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("keyup", (event) => {
      if (event.key === " " && this.tool !== "rectangle") this.end_stroke();
    });
    this.root.addEventListener("keydown", (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
      const name = event.key.toLowerCase();
      if (name !== "z" && name !== "y") return;
      event.preventDefault();
      event.stopPropagation();
      if (name === "y" || event.shiftKey) this.travel("redos", "undos");
      else this.travel("undos", "redos");
    });
  }

  /** @param {import("../common/dom.js").Component<Data>} given */
  update({ data }) {
    const before = this.painting;
    this.data = data;
    this.painting = painting(data);
    if (this.painting === before) return;
    this.canvas.setAttribute("aria-label", `${data.name}, as the network sees it. Arrow keys move the brush, space paints.`);
    this.last = this.corner = this.at = null;
    this.fail("");
    this.changed(false);
    if (this.painting.picture) this.answered();
    else {
      say(this.headline, "Asking …");
      this.rows.replaceChildren();
    }
    this.ask();
  }

  end() {
    this.sized.disconnect();
    clearTimeout(this.timer ?? undefined);
    clearTimeout(this.retry);
    this.gone = true;
  }

  // Asking ---------------------------------------------------------------------------------------

  schedule() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.ask();
    }, WAIT_MS);
  }

  // What has to be asked now: the picture itself first, then for each mask and kind of fill.
  get question() {
    const { picture, mask } = this.painting;
    if (!picture) return "picture";
    return mask.includes(1) ? `${this.fill} ${this.painting.version}` : null;
  }

  async ask() {
    if (this.asking || this.gone) return; // asked again when the answer is here
    const { painting: of, question, fill } = this;
    if (question === null || question === of.known) return;
    this.asking = true;
    const mask = of.picture ? of.mask.slice() : null;
    let failed = "";
    let again = false;
    try {
      const response = await fetch(`${this.data.url}&fill=${fill}`, { method: "POST", headers: { "X-Loupe-Token": this.data.token, "Content-Type": "application/octet-stream" }, body: mask ? bits(mask) : null });
      const answer = await response.json().catch(() => null);
      if (response.ok && answer) await this.take(of, mask, answer, question);
      else {
        failed = [answer?.error?.message || "The network did not answer.", answer?.error?.hint].filter(Boolean).join(" ");
        again = response.status >= 500;
      }
    } catch {
      [failed, again] = ["No connection to the server. It is asked again.", true];
    }
    this.asking = false;
    if (this.gone) return;
    if (of === this.painting) this.fail(failed);
    clearTimeout(this.retry);
    if (again) this.retry = setTimeout(() => this.ask(), RETRY_MS);
    else if (!failed || of !== this.painting) this.ask();
  }

  /** @param {Painting} of @param {Uint8Array | null} mask @param {Answer} answer @param {string} question */
  async take(of, mask, answer, question) {
    const image = await decoded(answer.picture);
    if (mask) Object.assign(of, { patch: image, after: answer.probabilities, known: question });
    else {
      const { width, height } = answer;
      Object.assign(of, { picture: image, width, height, before: answer.probabilities, mask: new Uint8Array(width * height), known: "" });
    }
    if (of !== this.painting || this.gone) return;
    if (!mask) this.changed(false);
    this.answered();
  }

  /** @param {string} words */
  fail(words) {
    this.error.hidden = !words;
    say(this.error, words);
    this.root.toggleAttribute("data-failed", Boolean(words));
  }

  answered() {
    const { before, mask, picture } = this.painting;
    if (!picture) return;
    const erased = mask.includes(1);
    const after = (erased && this.painting.after) || before;
    const { classes } = this.data;
    const first = (/** @type {number[]} */ all) => all.indexOf(Math.max(...all));
    const [old, now] = [first(before), first(after)];
    if (!erased) say(this.headline, `${classes[old]}, ${points(before[old])}`);
    else if (old !== now) say(this.headline, `The answer changes from ${classes[old]} to ${classes[now]}, ${points(after[now])}`);
    else say(this.headline, `Still ${classes[old]}: ${points(before[old])} → ${points(after[old])}`);
    const shown = classes.map((_, i) => i).sort((a, b) => Math.max(before[b], after[b]) - Math.max(before[a], after[a])).slice(0, SHOWN);
    shown.sort((a, b) => before[b] - before[a]);
    this.rows.replaceChildren(
      ...shown.flatMap((i) => [
        el("tr", { class: "row", "data-class": classes[i] }, el("td", {}, classes[i]), el("td", {}, points(before[i])), el("td", {}, points(after[i])), el("td", {}, erased ? change(after[i] - before[i]) : "")),
        el("tr", { class: "bars", "aria-hidden": "true" }, el("td", { colspan: "4" }, el("div", { class: "pair" }, el("i", { class: "before", style: `--share:${100 * before[i]}%` }), el("i", { class: "after", style: `--share:${100 * after[i]}%` })))),
      ]),
    );
    this.root.dataset.answered = erased ? "erased" : "whole";
    this.draw();
  }

  // Painting -------------------------------------------------------------------------------------

  /** @param {{ clientX: number, clientY: number }} event @returns {Point} */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.painting.width, ((event.clientY - box.top) / box.height) * this.painting.height];
  }

  /** @param {Point} at */
  begin(at) {
    this.at = at;
    this.before = this.painting.mask.slice();
    if (this.tool === "rectangle") this.corner = at;
    else {
      this.last = at;
      this.stamp(at, at);
    }
    this.look(true);
  }

  /** @param {Point} at */
  move(at) {
    if (!this.painting.picture) return;
    this.at = at;
    if (this.last) {
      this.stamp(this.last, at);
      this.last = at;
    } else if (this.corner) this.box(at);
    else this.draw();
  }

  end_stroke() {
    if (!this.last && !this.corner) return;
    this.last = this.corner = null;
    const { before, painting: of } = this;
    if (before.some((v, i) => v !== of.mask[i])) {
      of.undos.push(before);
      if (of.undos.length > MOST_STEPS) of.undos.shift();
      of.redos = [];
    }
    this.changed();
  }

  /** @param {Point} from @param {Point} to */
  stamp(from, to) {
    stroke(this.painting, from, to, this.share, this.tool === "eraser" ? 0 : 1);
    this.changed();
  }

  /** @param {Point} at */
  box(at) {
    if (!this.corner) return;
    this.painting.mask.set(this.before);
    box(this.painting, this.corner, at);
    this.changed();
  }

  /** @param {"undos" | "redos"} from @param {"undos" | "redos"} to */
  travel(from, to) {
    const of = this.painting;
    if (!of[from].length || this.last || this.corner) return;
    of[to].push(of.mask);
    of.mask = of[from].pop() ?? of.mask;
    this.changed();
  }

  clear() {
    const of = this.painting;
    if (!of.mask?.includes(1)) return;
    of.undos.push(of.mask);
    of.redos = [];
    of.mask = new Uint8Array(of.mask.length);
    this.changed();
  }

  /** The mask or the kind of fill is another one now. @param {boolean} [ask] */
  changed(ask = true) {
    const { mask, width, height, undos, redos, picture } = this.painting;
    this.tools.mark(this.tool);
    this.fills.mark(this.fill);
    this.stage.classList.toggle("square", this.tool === "rectangle");
    this.size.disabled = this.tool === "rectangle";
    this.undoButton.disabled = !undos.length;
    this.redoButton.disabled = !redos.length;
    if (!picture) return this.draw();
    let erased = 0;
    for (const v of mask) erased += v;
    this.clearButton.disabled = !erased;
    say(this.facts, `As the network gets it: ${width} × ${height} pixels, ${erased ? `${((100 * erased) / mask.length).toFixed(1)}% erased` : "nothing erased"}.`);
    this.stage.style.aspectRatio = `${width} / ${height}`;
    this.masked = sheet(width, height);
    const context = context2d(this.masked);
    const pixels = context.createImageData(width, height);
    const data = new Uint32Array(pixels.data.buffer);
    for (let i = 0; i < mask.length; i++) data[i] = mask[i] ? 0xff8a7d12 : 0; // the accent's teal, for what waits for an answer
    context.putImageData(pixels, 0, 0);
    this.border = outline(mask, width, height);
    if (ask) {
      this.painting.version += 1;
      if (erased) this.schedule();
      else this.painting.after = this.painting.patch = null;
      if (!erased) this.answered();
    }
    this.draw();
  }

  /** @param {"tool" | "fill"} what @param {string} name */
  choose(what, name) {
    if (this[what] === name) return;
    this[what] = name;
    if (what === "fill" && this.painting.picture) this.changed();
    else this.changed(false);
  }

  /** @param {number} share */
  resize(share) {
    this.share = Math.min(0.6, Math.max(0.03, share));
    this.size.value = String(Math.round(100 * this.share));
    this.draw();
  }

  /** @param {boolean} looking */
  look(looking) {
    this.looking = looking;
    this.draw();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.painting.picture) return;
    const { width, height } = this.painting;
    /** @type {Record<string, Point>} */
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const at = this.at ?? [width / 2, height / 2];
    if (event.key in arrows) {
      const step = Math.max(1, Math.round(width / 56)) * (event.shiftKey ? 4 : 1);
      const [x, y] = arrows[event.key];
      this.looking = true;
      this.move([Math.min(width, Math.max(0, at[0] + x * step)), Math.min(height, Math.max(0, at[1] + y * step))]);
    } else if (event.key === " ") {
      if (event.repeat) {
        /* the brush is down already */
      } else if (this.corner) this.end_stroke();
      else this.begin(at);
    } else if (event.key === "[" || event.key === "]") this.resize(this.share + (event.key === "[" ? -0.03 : 0.03));
    else if (event.key === "Escape" && this.corner) {
      this.painting.mask.set(this.before);
      this.end_stroke();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // Drawing --------------------------------------------------------------------------------------

  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.paint();
    });
  }

  paint() {
    const { canvas, painting: of } = this;
    const scale = window.devicePixelRatio || 1;
    const [wide, high] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
    if (!wide || !high) return;
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    const context = context2d(canvas);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, wide, high);
    if (!of.picture) return;
    const { width, height } = of;
    const shown = context2d(sheet(width, height));
    if (of.patch) { // the filling of the last answer, where the mask still is
      shown.drawImage(of.patch, 0, 0);
      shown.globalCompositeOperation = "destination-in";
      shown.drawImage(this.masked, 0, 0);
      shown.globalCompositeOperation = "destination-over";
    }
    shown.drawImage(of.picture, 0, 0);
    context.imageSmoothingEnabled = Math.max(width, height) >= SMALL;
    context.imageSmoothingQuality = "high";
    context.drawImage(shown.canvas, 0, 0, wide, high);
    const waiting = context2d(sheet(width, height));
    waiting.drawImage(this.masked, 0, 0);
    if (of.patch) {
      waiting.globalCompositeOperation = "destination-out";
      waiting.drawImage(of.patch, 0, 0);
    }
    context.globalAlpha = 0.55;
    context.drawImage(waiting.canvas, 0, 0, wide, high);
    context.globalAlpha = 1;
    if (!this.looking) return;
    context.setTransform(wide / width, 0, 0, high / height, 0, 0);
    const unit = (width / wide) * scale; // one pixel of the screen
    const twice = (/** @type {Path2D} */ path, /** @type {boolean} */ dash) => {
      for (const [offset, color] of ["#000c", "#fffc"].entries()) {
        context.strokeStyle = color;
        context.lineWidth = unit;
        context.setLineDash(dash ? [4 * unit, 4 * unit] : []);
        context.lineDashOffset = dash ? 4 * unit * offset : 0;
        if (!dash && offset) context.lineWidth = unit / 2;
        context.stroke(path);
      }
    };
    twice(this.border, true);
    if (this.at) {
      const cursor = new Path2D();
      const [x, y] = this.at;
      if (this.tool === "rectangle") {
        cursor.moveTo(x - 6 * unit, y), cursor.lineTo(x + 6 * unit, y);
        cursor.moveTo(x, y - 6 * unit), cursor.lineTo(x, y + 6 * unit);
      } else cursor.arc(x, y, Math.max(unit, (this.share * width) / 2), 0, 2 * Math.PI);
      context.strokeStyle = "#000c";
      context.setLineDash([]);
      context.lineWidth = 2.5 * unit;
      context.stroke(cursor);
      context.strokeStyle = "#fff";
      context.lineWidth = 1.25 * unit;
      context.stroke(cursor);
    }
  }
}

export default mount(View);
