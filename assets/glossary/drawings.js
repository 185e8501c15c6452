// The live drawings of the glossary: eight small experiments with exact numbers (arithmetic.js). First the pieces that
// drawings are made of; then the drawings.

import { el, say } from "../common/dom.js";
import { ACTIVATIONS, convolve, crossEntropy, descend, fixed, missed, padded, patchAt, places, polynomial, pool, scheduled, short, shrink, signed, softmax, ticks } from "./arithmetic.js";

/** @typedef {[x: number, y: number]} Place */
/** @typedef {{ low: number, high: number, title: string, ticks?: number }} Axis */
/** @typedef {{ text: string, class?: string, style?: string }} Cell */
/** @typedef {{ label: string, x: Axis, y: Axis, height?: number, draw: (plot: Plot) => void, ondrag?: (x: number) => void }} PlotOptions */
/** @typedef {{ label: string, onpick?: (row: number, column: number) => void, className?: string }} TableOptions */
/** @typedef {{ node: HTMLElement, stop?: () => void }} Drawing */
/** @typedef {{ term: string, title: string, hint: string, make: (term: string) => Drawing }} Kind */
/**
 * @typedef {{
 *   name: string, label: string, min: number, max: number, step: number, value: number, words?: (value: number) => string,
 *   onchange: () => void }} SliderOptions
 */

// Pieces -----------------------------------------------------------------------------------------

const NS = "http://www.w3.org/2000/svg";
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag @param {Record<string, string | number>} props @param {...(Node | string)} children
 */
function svg(tag, props, ...children) {
  const node = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

/** @param {string} text @param {() => void} onclick @param {import("../common/dom.js").Attributes} [props] */
const button = (text, onclick, props = {}) => el("button", { type: "button", class: "tool", onclick, ...props }, text);

/** A slider with its value in words. @param {SliderOptions} given */
function slider({ name, label, min, max, step, value, words = (v) => short(v), onchange }) {
  const input = el("input", { type: "range", name, min, max, step, value });
  const said = el("output", {});
  const node = el("label", { class: "slider" }, el("span", {}, label), input, said);
  const write = () => {
    say(said, words(Number(input.value)));
    input.setAttribute("aria-valuetext", said.textContent);
    input.style.setProperty("--at", `${(100 * (Number(input.value) - min)) / (Number(input.max) - min)}%`);
  };
  input.addEventListener("input", () => {
    write();
    onchange();
  });
  write();
  return {
    node,
    input,
    said,
    get value() {
      return Number(input.value);
    },
    set value(v) {
      input.value = String(v);
      write();
    },
    write,
  };
}

let counter = 0;

/**
 * One of a few, as radio buttons: the arrow keys come with them.
 * @param {{ label: string, options: string[][], value: string, onchange: () => void }} given
 */
function choice({ label, options, value, onchange }) {
  const name = `choice-${++counter}`;
  const inputs = options.map(([each]) => el("input", { type: "radio", name, value: each, checked: each === value, onchange }));
  const node = el(
    "div",
    { class: "choice", role: "radiogroup", "aria-label": label },
    el("span", { class: "label", "aria-hidden": "true" }, label),
    ...options.map(([, title], i) => el("label", {}, inputs[i], el("span", {}, title))),
  );
  return {
    node,
    get value() {
      return inputs.find((input) => input.checked)?.value ?? "";
    },
    // "": none of them
    set value(v) {
      for (const input of inputs) input.checked = input.value === v;
    },
  };
}

/**
 * What happens again and again while somebody looks; who wants no motion sees the end at once.
 * @param {() => boolean} step @param {number} ms @param {(on: boolean) => void} changed
 */
function ticker(step, ms, changed) {
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let timer;
  const stop = () => {
    clearInterval(timer);
    timer = undefined;
    changed(false);
  };
  const go = () => {
    if (!step()) stop();
  };
  return {
    stop,
    get on() {
      return timer !== undefined;
    },
    toggle() {
      if (timer) return stop();
      if (calm.matches) {
        for (let i = 0; i < 200 && step(); i++);
        return changed(false);
      }
      timer = setInterval(go, ms);
      changed(true);
      go();
    },
  };
}

/** Cells in rows; each is {text, class, style}. @param {Cell[][]} rows @param {TableOptions} given */
function table(rows, { label, onpick, className = "" }) {
  const cells = rows.flatMap((row, r) =>
    row.map((cell, c) => {
      const node = el("span", { class: `cell ${cell.class ?? ""}`, style: cell.style }, cell.text);
      if (onpick) node.addEventListener("click", () => onpick(r, c));
      return node;
    }),
  );
  return el("div", { class: `cells ${className}${onpick ? " pick" : ""}`, role: "img", "aria-label": label, style: `--n: ${rows[0].length}` }, ...cells);
}

/** @param {number} share */
const ink = (share) => `--ink: ${Math.round(share * 100)}%`;
/** @param {number} value @param {number} most */
const tone = (value, most) => `--tone: ${Math.round((Math.abs(value) / (most || 1)) * 52)}%`;
/** @param {number} value */
const shade = (value) => (value > 5 ? " bright" : value ? "" : " dark");
/** @param {number} value */
const side = (value) => (value > 1e-9 ? "plus" : value < -1e-9 ? "minus" : "");

// Axes with names; a drawing adds lines and dots in its own units.
class Plot {
  /** @param {PlotOptions} given */
  constructor({ label, x, y, height = 220, draw, ondrag }) {
    this.svg = svg("svg", { role: "img", "aria-label": label, height });
    this.node = el("div", { class: `plot${ondrag ? " drag" : ""}` }, this.svg);
    this.x = x;
    this.y = y;
    this.height = height;
    this.drawn = draw;
    this.left = 46; // px beside the plot and above it
    this.top = 10;
    this.wide = this.high = 0; // px of the plot
    this.inner = svg("svg", {});
    new ResizeObserver(() => this.draw()).observe(this.node);
    if (ondrag) this.drag(ondrag);
  }

  /** @param {(x: number) => void} ondrag */
  drag(ondrag) {
    const move = (/** @type {PointerEvent} */ event) => {
      const left = this.svg.getBoundingClientRect().left;
      const share = (event.clientX - left - this.left) / this.wide;
      ondrag(this.x.low + Math.min(1, Math.max(0, share)) * (this.x.high - this.x.low));
    };
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.svg.setPointerCapture(event.pointerId);
      move(event);
    });
    this.svg.addEventListener("pointermove", (event) => this.svg.hasPointerCapture(event.pointerId) && move(event));
  }

  draw() {
    const width = this.node.clientWidth;
    if (!width) return;
    [this.wide, this.high] = [width - this.left - 12, this.height - this.top - 40];
    this.svg.setAttribute("width", String(width));
    const axes = svg("g", { class: "axes" });
    for (const { value, text } of ticks(this.x.low, this.x.high, this.x.ticks ?? Math.max(5, Math.min(8, width / 80)))) {
      axes.append(svg("text", { x: this.px(value) + this.left, y: this.top + this.high + 15, "text-anchor": "middle" }, text));
    }
    for (const { value, text } of ticks(this.y.low, this.y.high, 4)) {
      const y = this.py(value) + this.top;
      axes.append(svg("line", { x1: this.left, x2: this.left + this.wide, y1: y, y2: y }));
      axes.append(svg("text", { x: this.left - 6, y: y + 4, "text-anchor": "end" }, text));
    }
    const middle = this.top + this.high / 2;
    axes.append(svg("text", { class: "name", x: this.left + this.wide / 2, y: this.height - 6, "text-anchor": "middle" }, this.x.title));
    axes.append(svg("text", { class: "name", x: 11, y: middle, "text-anchor": "middle", transform: `rotate(-90 11 ${middle})` }, this.y.title));
    this.inner = svg("svg", { x: this.left, y: this.top, width: this.wide, height: this.high, class: "inner" });
    this.svg.replaceChildren(axes, this.inner);
    this.drawn(this);
  }

  /** @param {number} x */
  px(x) {
    return ((x - this.x.low) / (this.x.high - this.x.low)) * this.wide;
  }

  /** @param {number} y */
  py(y) {
    return (1 - (y - this.y.low) / (this.y.high - this.y.low)) * this.high;
  }

  /** @param {Place[]} points @param {string} className */
  line(points, className) {
    const limit = (/** @type {number} */ v) => Math.max(-1e4, Math.min(1e4, v));
    const path = points.map(([x, y]) => `${limit(this.px(x)).toFixed(1)},${limit(this.py(y)).toFixed(1)}`).join(" ");
    this.inner.append(svg("polyline", { points: path, class: `line ${className}` }));
  }

  /** @param {(x: number) => number} f @param {string} className @param {number} [low] @param {number} [high] @param {number} [n] */
  curve(f, className, low = this.x.low, high = this.x.high, n = 160) {
    this.line(
      Array.from({ length: n + 1 }, (_, i) => low + ((high - low) * i) / n).map((x) => [x, f(x)]),
      className,
    );
  }

  /** @param {number} x @param {number} y @param {string} className @param {number} [r] */
  dot(x, y, className, r = 5) {
    this.inner.append(svg("circle", { cx: this.px(x), cy: Math.max(-1e4, this.py(y)), r, class: `dot ${className}` }));
  }
}

/** @param {...(Node | string)} children */
const row = (...children) => el("div", { class: "row" }, ...children);
const formula = () => el("p", { class: "formula" });
const aside = () => el("p", { class: "aside", role: "status" });

// Drawings ---------------------------------------------------------------------------------------

// A seven, drawn by hand; brightness from 0 to 9.
export const DIGIT = [
  [0, 0, 0, 0, 0, 0, 0, 0],
  [0, 7, 9, 9, 9, 9, 4, 0],
  [0, 3, 5, 5, 6, 9, 4, 0],
  [0, 0, 0, 0, 5, 9, 1, 0],
  [0, 0, 0, 2, 9, 6, 0, 0],
  [0, 0, 0, 6, 9, 2, 0, 0],
  [0, 0, 1, 9, 7, 0, 0, 0],
  [0, 0, 2, 9, 4, 0, 0, 0],
];
const NINTH = 1 / 9;
/** @type {Record<string, number[][]>} */
const FILTERS = {
  upright: [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
  level: [[-1, -1, -1], [0, 0, 0], [1, 1, 1]],
  blur: [[NINTH, NINTH, NINTH], [NINTH, NINTH, NINTH], [NINTH, NINTH, NINTH]],
  sharpen: [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
};
const FILTER_TITLES = { upright: "Upright edges", level: "Level edges", blur: "Blur", sharpen: "Sharpen" };

/** @param {string} term */
function convolution(term) {
  let filter = FILTERS.upright.map((line) => [...line]);
  const size = filter.length;
  const kinds = choice({
    label: "Filter",
    options: Object.entries(FILTER_TITLES),
    value: "upright",
    onchange: () => {
      filter = FILTERS[kinds.value].map((line) => [...line]);
      fields.forEach((field, i) => (field.value = String(Number(filter.flat()[i].toFixed(2)))));
      draw();
    },
  });
  const again = () => {
    place.value = 1;
    draw();
  };
  const numbers = (/** @type {string} */ label, /** @type {number[]} */ values, /** @type {string} */ value) => choice({ label, options: values.map((v) => [String(v), String(v)]), value, onchange: again });
  const stride = numbers("Stride", [1, 2, 3], term === "stride" ? "2" : "1");
  const padding = numbers("Padding", [0, 1, 2], term === "padding" ? "1" : "0");
  const place = slider({ name: "place", label: "Window", min: 1, max: 36, step: 1, value: 9, words: () => "", onchange: () => draw() });
  const fields = filter.flat().map((value, i) => {
    const where = `Filter, row ${Math.floor(i / size) + 1}, column ${(i % size) + 1}`;
    const change = () => {
      if (field.value.trim() === "" || !Number.isFinite(Number(field.value))) return;
      filter[Math.floor(i / size)][i % size] = Math.max(-99, Math.min(99, Number(field.value)));
      kinds.value = "";
      draw();
    };
    const leave = () => (field.value = String(Number(filter.flat()[i].toFixed(2))));
    const field = el("input", { class: "cell", type: "number", step: "any", min: -99, max: 99, value, "aria-label": where, oninput: change, onchange: leave });
    return field;
  });
  const weights = el("div", { class: "cells filter", role: "group", "aria-label": "Weights of the filter", style: `--n: ${size}` }, ...fields);
  const numbers_ = el("div");
  const frame = el("div", { class: "frame" });
  const picture = el("div", { class: "slot" }, numbers_, frame);
  const map = el("div", { class: "slot" });
  const captions = [el("figcaption"), el("figcaption")];
  const [patches, products] = [el("div"), el("div")];
  const total = el("output", { class: "total" });
  const shape = formula();
  const note = aside();

  const forward = () => {
    if (place.value >= Number(place.input.max)) return false;
    place.value += 1;
    draw();
    return true;
  };
  const play = button("Play", () => {
    if (place.value >= Number(place.input.max)) again();
    run.toggle();
  });
  const run = ticker(forward, 280, (on) => say(play, on ? "Pause" : "Play"));

  function draw() {
    const [s, p] = [Number(stride.value), Number(padding.value)];
    const image = padded(DIGIT, p);
    const exact = places(DIGIT.length, size, p, s);
    const result = convolve(DIGIT, filter, s, p);
    const n = result.length;
    place.input.max = String(n * n);
    const at = Math.min(n * n, place.value) - 1;
    const [r, c] = [Math.floor(at / n), at % n];
    place.value = at + 1;
    say(place.said, `row ${r + 1}, column ${c + 1}`);
    place.input.setAttribute("aria-valuetext", `row ${r + 1}, column ${c + 1}: ${short(result[r][c])}`);
    const rim = (/** @type {number} */ i, /** @type {number} */ j) => i < p || j < p || i >= p + DIGIT.length || j >= p + DIGIT.length;
    const pixels = image.map((line, i) =>
      line.map((value, j) => ({
        text: String(value),
        class: `pixel${rim(i, j) ? " rim" : ""}${shade(value)}`,
        style: ink(value / 9),
      })),
    );
    const go = (/** @type {number} */ i, /** @type {number} */ j) => {
      place.value = Math.min(n - 1, Math.max(0, i)) * n + Math.min(n - 1, Math.max(0, j)) + 1;
      draw();
    };
    const toWindow = (/** @type {number} */ i) => Math.round((i - 1) / s);
    const edge = (/** @type {number} */ place_, /** @type {number} */ length) => `${(100 * place_) / length}%`;
    Object.assign(frame.style, { left: edge(c * s, image.length), top: edge(r * s, image.length), width: edge(size, image.length), height: edge(size, image.length) });
    numbers_.replaceChildren(table(pixels, { label: "The picture as numbers, with the window on it", className: "picture", onpick: (i, j) => go(toWindow(i), toWindow(j)) }));
    const most = Math.max(...result.flat().map(Math.abs));
    const outcome = result.map((line, i) =>
      line.map((value, j) => {
        const done = i * n + j <= at;
        return { text: done ? short(value, Number.isInteger(value) ? 0 : 1) : "", class: `out ${done ? side(value) : "empty"}${i === r && j === c ? " here" : ""}`, style: done ? tone(value, most) : "" };
      }),
    );
    map.replaceChildren(table(outcome, { label: "The map so far", className: "map", onpick: go }));
    say(captions[0], `Picture 8 × 8${p ? `, with padding ${image.length} × ${image.length}` : ""}`);
    say(captions[1], `Map ${n} × ${n}`);

    const patch = patchAt(image, r * s, c * s, size);
    const product = patch.map((line, i) => line.map((value, j) => value * filter[i][j]));
    /** @param {number[][]} rows @param {string} label @param {string} className @param {(value: number) => string} [style] */
    const grid = (rows, label, className, style) => table(rows.map((line) => line.map((value) => ({ text: short(value), class: `${className} ${style ? side(value) : ""}`, style: style?.(value) }))), { label, className: "small" });
    const widest = Math.max(...product.flat().map(Math.abs));
    patches.replaceChildren(grid(patch, "Patch under the window", "patch"));
    products.replaceChildren(grid(product, "Products", "product", (value) => tone(value, widest)));
    total.className = `total ${side(result[r][c])}`;
    say(total, short(result[r][c]));
    const rounded = Number.isInteger(exact) ? "" : `, rounded down to ${n}`;
    say(shape, `(W − F + 2P) / S + 1 = (8 − 3 + 2 × ${p}) / ${s} + 1 = ${short(exact)}${rounded}`);
    const left = image.length - ((n - 1) * s + size);
    const size_ = `The map is ${n} × ${n}.`;
    const rest = left ? ` The last ${left === 1 ? "row and column" : `${left} rows and columns`} of the ${p ? "padded " : ""}picture are never looked at.` : "";
    say(note, size_ + rest);
  }
  draw();
  /** @param {string} sign @param {string} name @param {Node} content */
  const part = (sign, name, content) => el("figure", {}, el("figcaption", {}, el("b", {}, sign), name), content);
  const node = el(
    "div",
    { class: "convolution" },
    row(kinds.node, stride.node, padding.node),
    el(
      "div",
      { class: "stage" },
      el("div", { class: "left" }, el("figure", {}, captions[0], picture), place.node, row(button("Step", forward), play)),
      el("div", { class: "sum" }, part("", "Patch", patches), part("×", "Filter: change it", weights), part("=", "Products", products), el("p", {}, "Together ", total)),
      el("div", { class: "right" }, el("figure", {}, captions[1], map), shape, note),
    ),
  );
  return { node, stop: run.stop };
}

function pooling() {
  let seed = 7;
  const random = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
  const fresh = () => Array.from({ length: 6 }, () => Array.from({ length: 6 }, () => Math.floor(random() * 10)));
  let image = fresh();
  const kind = choice({ label: "Keep", options: [["max", "The largest"], ["average", "The average"]], value: "max", onchange: () => draw() });
  const place = slider({ name: "place", label: "Square", min: 1, max: 9, step: 1, value: 1, words: (v) => `${v} of 9`, onchange: () => draw() });
  const [numbers, after, frame] = [el("div"), el("div", { class: "slot" }), el("div", { class: "frame" })];
  const before = el("div", { class: "slot" }, numbers, frame);
  const words = formula();
  const other = button("Other numbers", () => {
    image = fresh();
    draw();
  });

  function draw() {
    const result = pool(image, kind.value);
    const [r, c] = [Math.floor((place.value - 1) / 3), (place.value - 1) % 3];
    const pick = (/** @type {number} */ i, /** @type {number} */ j) => {
      place.value = i * 3 + j + 1;
      draw();
    };
    const kept = (/** @type {number} */ i, /** @type {number} */ j) => {
      const values = patchAt(image, i - (i % 2), j - (j % 2), 2).flat();
      return kind.value === "max" && values.indexOf(Math.max(...values)) === (i % 2) * 2 + (j % 2);
    };
    const cells = image.map((line, i) =>
      line.map((value, j) => {
        const edges = `${i % 2 ? " bottom" : ""}${j % 2 ? " end" : ""}`;
        return { text: String(value), class: `pixel${kept(i, j) ? " kept" : ""}${shade(value)}${edges}`, style: ink(value / 9) };
      }),
    );
    Object.assign(frame.style, { left: `${(100 * c) / 3}%`, top: `${(100 * r) / 3}%`, width: `${100 / 3}%`, height: `${100 / 3}%` });
    numbers.replaceChildren(table(cells, { label: "Six rows of six numbers in squares of two by two", className: "picture", onpick: (i, j) => pick(Math.floor(i / 2), Math.floor(j / 2)) }));
    const kept_ = result.map((line, i) => line.map((value, j) => ({ text: short(value), class: `pixel out${i === r && j === c ? " here" : ""}${shade(value)}`, style: ink(value / 9) })));
    after.replaceChildren(table(kept_, { label: "One number of each square", className: "map", onpick: pick }));
    const values = patchAt(image, r * 2, c * 2, 2).flat();
    const list = `${values.slice(0, 3).join(", ")} and ${values[3]}`;
    say(words, kind.value === "max" ? `The largest of ${list} is ${short(result[r][c])}` : `(${values.join(" + ")}) / 4 = ${short(result[r][c])}`);
    place.input.setAttribute("aria-valuetext", words.textContent);
  }
  draw();
  const figure = (/** @type {string} */ caption, /** @type {Node} */ content) => el("figure", {}, el("figcaption", {}, caption), content);
  const node = el("div", { class: "pooling" }, row(kind.node, other), el("div", { class: "stage" }, figure("Map 6 × 6", before), figure("After pooling 3 × 3", after)), row(place.node), words);
  return { node };
}

const MOST_STEPS = 200;

/** @param {string} term */
function descent(term) {
  /** @type {{ x: number, velocity: number }[]} */
  let path = [];
  const start = slider({ name: "start", label: "Start", min: -2, max: 2, step: 0.05, value: 1.6, words: (v) => fixed(v), onchange: () => reset() });
  const rate = slider({ name: "rate", label: "Learning rate", min: 0.01, max: 1.2, step: 0.01, value: 0.1, words: (v) => fixed(v), onchange: () => reset() });
  const momentum = slider({ name: "momentum", label: "Momentum", min: 0, max: 0.95, step: 0.05, value: term === "momentum" ? 0.8 : 0, words: (v) => (v ? fixed(v) : "none"), onchange: () => reset() });
  const now = () => path[path.length - 1];
  const ended = () => path.length > MOST_STEPS || Math.abs(now().x) > 1e6 || Math.abs(now().x) + momentum.value * Math.abs(now().velocity) < 1e-3;
  const forward = () => {
    if (ended()) return false;
    path.push(descend(now(), rate.value, momentum.value));
    draw();
    return !ended();
  };
  const play = button("Run", () => {
    if (ended()) reset();
    run.toggle();
  });
  const run = ticker(forward, 350, (on) => say(play, on ? "Pause" : "Run"));
  const plot = new Plot({
    label: "The curve x², the way down it so far and the slope at the present place",
    x: { low: -2.2, high: 2.2, title: "x: one weight" },
    y: { low: 0, high: 4.84, title: "x²: the loss" },
    height: 210,
    ondrag: (x) => {
      start.value = Math.max(-2, Math.min(2, x));
      reset();
    },
    draw: (p) => {
      p.curve((x) => x * x, "quiet");
      const shown = path.slice(-25);
      const { x } = now();
      const reach = (p.x.high - p.x.low) * 0.11;
      p.line([[x - reach, x * x - 2 * x * reach], [x + reach, x * x + 2 * x * reach]], "slope");
      p.line(shown.map((one) => [one.x, one.x ** 2]), "way");
      for (const one of shown.slice(0, -1)) p.dot(one.x, one.x ** 2, "past", 3);
      p.dot(x, x * x, "ball", 8);
    },
  });
  const [sum, second] = [formula(), formula()];
  const verdict = aside();
  const rows = el("tbody");
  const head = ["Step", "x", "Loss x²", "Slope 2x", "Change"].map((text) => el("th", { scope: "col" }, text));
  const steps = el("table", { class: "steps" }, el("thead", {}, el("tr", {}, ...head)), rows);

  function reset() {
    run.stop();
    path = [{ x: start.value, velocity: 0 }];
    draw();
  }

  function draw() {
    const at = now();
    const farthest = Math.max(...path.slice(-25).map((one) => Math.abs(one.x)));
    const half = 2.2 * 2 ** Math.max(0, Math.ceil(Math.log2(farthest / 2.2)));
    Object.assign(plot.x, { low: -half, high: half });
    Object.assign(plot.y, { low: -0.04 * half * half, high: half * half });
    plot.draw();
    const [lr, m] = [rate.value, momentum.value];
    const next = descend(at, lr, m);
    const down = (/** @type {string} */ name, /** @type {number} */ pull) => `next x = x − learning rate × ${name} = ${short(at.x, 3)} − ${fixed(lr)} × ${signed(pull, 3)} = ${short(next.x, 3)}`;
    say(sum, m ? `pull = momentum × last pull + slope = ${fixed(m)} × ${signed(at.velocity, 3)} + ${signed(2 * at.x, 3)} = ${short(next.velocity, 3)}` : down("slope", 2 * at.x));
    say(second, m ? down("pull", next.velocity) : "");
    second.hidden = !m;
    const first = Math.max(0, path.length - 5);
    const shown = path.slice(first).map((one, i) => {
      const change = descend(one, lr, m).x - one.x;
      return el("tr", {}, ...[String(first + i), fixed(one.x, 3), fixed(one.x ** 2, 3), fixed(2 * one.x, 3), fixed(change, 3)].map((text) => el("td", {}, text)));
    });
    rows.replaceChildren(...shown);
    say(verdict, judged(lr, m));
  }

  /** @param {number} lr @param {number} m */
  function judged(lr, m) {
    const factor = shrink(lr, m);
    if (!start.value) return "The slope is 0 here: nothing moves. Choose another start.";
    const each = m ? `In the long run each step leaves ${fixed(factor, 3)} of the distance.` : `Each step multiplies x by 1 − 2 × ${fixed(lr)} = ${fixed(1 - 2 * lr)}.`;
    if (factor > 1 + 1e-9) return `${each} It flies apart: in a real run the loss soon is no number any more (NaN).`;
    if (factor > 1 - 1e-9) return `${each} It jumps to and fro for ever and never arrives.`;
    const needed = Math.ceil(Math.log(0.01) / Math.log(factor || 1e-9));
    const speed = `about ${needed} ${needed === 1 ? "step" : "steps"} to a hundredth of the distance`;
    if (factor < 1e-6) return `${each} The very first step hits the bottom: so well does it fit only here.`;
    const jumps = m ? (1 + m - 2 * lr) ** 2 < 4 * m : lr > 0.5;
    if (jumps && m) return `${each} It rolls through the bottom and swings to rest: ${speed}.`;
    if (jumps) return `${each} It jumps across the valley and comes nearer each time: ${speed}.`;
    if (factor > 0.93) return `${each} It crawls: ${speed}.`;
    return `${each} It walks down steadily: ${speed}.`;
  }
  reset();
  const node = el("div", { class: "descent" }, row(start.node, rate.node, momentum.node), plot.node, row(button("Step", forward), play, button("Start over", () => reset())), sum, second, verdict, steps);
  return { node, stop: run.stop };
}

const NAMES = ["cat", "dog", "horse", "car"];

function softmax_() {
  const scores = NAMES.map((name, i) => slider({ name, label: name, min: -5, max: 5, step: 0.1, value: [2, 1, 0.1, -1.5][i], words: (v) => fixed(v, 1), onchange: () => draw() }));
  const heat = slider({ name: "temperature", label: "Temperature T", min: 0.1, max: 5, step: 0.1, value: 1, words: (v) => fixed(v, 1), onchange: () => draw() });
  const lines = NAMES.map((name, i) => {
    const [power, share, bar] = [el("td", { class: "power" }), el("td", { class: "share" }), el("span", { class: `bar c${i}` })];
    return { power, share, bar, row: el("tr", {}, el("th", { scope: "row" }, scores[i].node), power, share, el("td", { class: "bars" }, bar)) };
  });
  const total = [el("td", { class: "power" }), el("td", { class: "share" })];
  const head = [["Score (logit)"], ["e", el("sup", {}, "score / T")], ["Share"]].map((parts) => el("th", { scope: "col" }, ...parts));
  const blocks = NAMES.map((name, i) => el("span", { class: `c${i}` }, name));
  const stack = el("div", { class: "stack", "aria-hidden": "true" }, ...blocks);
  const words = aside();
  const raise = button("Add 1 to every score", () => {
    for (const one of scores) one.value += 1;
    draw();
  });

  function draw() {
    const [logits, t] = [scores.map((one) => one.value), heat.value];
    const shares = softmax(logits, t);
    const powers = logits.map((z) => Math.exp(z / t));
    const most = Math.max(...shares);
    lines.forEach((line, i) => {
      say(line.power, fixed(powers[i]));
      say(line.share, fixed(shares[i], 3));
      line.bar.style.width = `${shares[i] * 100}%`;
      line.row.classList.toggle("first", shares[i] === most);
      blocks[i].style.flexGrow = String(shares[i]);
      blocks[i].classList.toggle("thin", shares[i] < 0.09);
    });
    say(total[0], fixed(powers.reduce((a, b) => a + b)));
    say(total[1], fixed(shares.reduce((a, b) => a + b), 3));
    raise.disabled = Math.max(...logits) > 4; // a score cut off at the end of its slider would change the shares
    const best = shares.indexOf(most);
    say(words, `${NAMES[best]}: ${fixed(powers[best])} / ${total[0].textContent} = ${fixed(most, 3)}. ${t < 0.6 ? "A low temperature makes the winner surer." : t > 1.9 ? "A high temperature makes all shares more alike." : "The four shares add up to 1, whatever the scores are."}`);
  }
  draw();
  const foot = el("tr", { class: "total" }, el("th", { scope: "row" }, "Together"), ...total, el("td", { class: "bars" }));
  const node = el("div", { class: "softmax" }, el("table", {}, el("thead", {}, el("tr", {}, ...head, el("td", { class: "bars" }))), el("tbody", {}, ...lines.map((line) => line.row), foot)), stack, row(heat.node, raise), words);
  return { node };
}

// y = sin(2.6 x) and noise with a spread of 0.25: one of many draws, chosen because it shows clearly what most show.
/** @type {Record<"train" | "validation", Place[]>} */
export const POINTS = {
  train: [[-0.97, -0.66], [-0.77, -1.24], [-0.56, -0.81], [-0.32, -0.8], [-0.06, 0.18], [0.12, 0.18], [0.37, 0.89], [0.55, 1.07], [0.76, 0.52], [0.98, 0.53], [-0.34, -0.74], [-0.46, -0.72], [0.15, -0.07], [0.11, 0.65], [-0.17, -0.38], [0.54, 1.15], [0.84, 1], [-0.17, -0.58], [0.06, 0.4], [0.44, 0.51], [0.09, 0], [-0.65, -1.05], [0.28, 0.4], [-0.57, -1.17], [0.77, 1.13], [-0.38, -0.79], [-0.8, -0.44], [-0.59, -1.34], [0.15, 0.19], [0.8, 1.02], [-0.05, 0.37], [-0.7, -0.66], [0.56, 0.6], [-0.38, -1.19], [0.65, 1.31], [-0.41, -0.99], [-0.68, -1.17], [0.69, 0.81], [-0.58, -1.03], [0.2, 0.47]],
  validation: [[-0.88, -0.72], [-0.79, -0.89], [-0.64, -0.78], [-0.47, -0.61], [-0.35, -0.52], [0, 0.36], [0.09, 0.32], [0.1, 0.54], [0.12, 0.27], [0.14, 0.57], [0.16, 0.36], [0.19, 0.27], [0.28, 0.91], [0.28, 0.51], [0.3, 0.76], [0.39, 0.83], [0.71, 0.96], [0.71, 0.94], [0.78, 1.05], [0.82, 1.16]],
};
const MOST_DEGREE = 9;

function overfitting() {
  const degree = slider({ name: "degree", label: "Degree of the curve", min: 0, max: MOST_DEGREE, step: 1, value: 3, words: (v) => `${v}: ${v + 1} ${v ? "weights" : "weight"}`, onchange: () => draw() });
  const count = choice({ label: "Training points", options: [["10", "10"], ["40", "40"]], value: "10", onchange: () => draw() });
  const facts = formula();
  const words = aside();
  /** @type {(x: number) => number} */
  let curve = () => 0;
  /** @type {[training: number, validation: number][]} */
  let errors = [];
  const train = () => POINTS.train.slice(0, Number(count.value));
  const fit = new Plot({
    label: "Training and validation points with the curve that was fitted to the training points",
    x: { low: -1.05, high: 1.05, title: "what goes in" },
    y: { low: -1.8, high: 1.8, title: "what comes out" },
    height: 240,
    draw: (p) => {
      p.curve(curve, "way", -1.05, 1.05, 300);
      for (const [x, y] of POINTS.validation) p.dot(x, y, "open", 4);
      for (const [x, y] of train()) p.dot(x, y, "solid", 4);
    },
  });
  const both = new Plot({
    label: "Training and validation error of every degree",
    x: { low: -0.3, high: MOST_DEGREE + 0.3, title: "degree", ticks: MOST_DEGREE },
    y: { low: -0.04, high: 1, title: "error" },
    height: 240,
    ondrag: (x) => {
      degree.value = Math.max(0, Math.min(MOST_DEGREE, Math.round(x)));
      draw();
    },
    draw: (p) => {
      for (const [i, name] of /** @type {const} */ ([[0, "training"], [1, "validation"]])) {
        p.line(errors.map((e, d) => [d, e[i]]), name);
        errors.forEach((e, d) => p.dot(d, e[i], `${name}${d === degree.value ? " now" : ""}`, d === degree.value ? 6 : 3));
      }
    },
  });

  function draw() {
    const points = train();
    errors = Array.from({ length: MOST_DEGREE + 1 }, (_, d) => {
      const f = polynomial(points, d);
      return [missed(points, f), missed(POINTS.validation, f)];
    });
    curve = polynomial(points, degree.value);
    const [seen, unseen] = errors[degree.value];
    const least = errors.reduce((best, e, d) => (e[1] < errors[best][1] ? d : best), 0);
    fit.draw();
    both.draw();
    say(facts, `Training error ${fixed(seen, 3)} (n = ${points.length}) · validation error ${fixed(unseen, 3)} (n = ${POINTS.validation.length})`);
    const free = points.length > 10 && degree.value > 5 ? " Forty points hold even a free curve in place." : "";
    const said =
      unseen <= errors[least][1] * 1.12
        ? `About the lowest validation error: the curve follows the pattern and not the noise.${free}`
        : degree.value < least
          ? "Too stiff: it misses the pattern, and both errors are high (underfitting)."
          : "It bends to meet every single point: the training error falls, the validation error rises (overfitting).";
    say(words, said);
  }
  draw();
  const key = el("p", { class: "key" }, el("span", { class: "solid" }, "training"), el("span", { class: "open" }, "validation"), "Error: root of the mean squared distance");
  const node = el("div", { class: "overfitting" }, row(degree.node, count.node), el("div", { class: "pair" }, fit.node, both.node), key, facts, words);
  return { node };
}

/** @type {Record<string, string>} */
const ACTIVATION_WORDS = {
  relu: "What is above 0 passes, the rest becomes 0: cheap, and the slope on the right never fades.",
  gelu: "A ReLU with a soft corner, usual in newer networks.",
  tanh: "Squeezes everything between −1 and 1; far from 0 the slope fades, and little is learned there.",
  sigmoid: "Squeezes everything between 0 and 1, so that it can be read as a probability; far from 0 the slope fades.",
};

/** @param {string} term */
function activation(term) {
  const kind = choice({ label: "Function", options: [["relu", "ReLU"], ["gelu", "GELU"], ["tanh", "tanh"], ["sigmoid", "Sigmoid"]], value: term === "sigmoid" ? "sigmoid" : "relu", onchange: () => draw() });
  const input = slider({ name: "x", label: "What comes in", min: -4, max: 4, step: 0.05, value: 1.5, words: (v) => fixed(v), onchange: () => draw() });
  const facts = formula();
  const words = aside();
  const plot = new Plot({
    label: "The function, and its slope at the chosen place",
    x: { low: -4.2, high: 4.2, title: "x: what comes in" },
    y: { low: -1.4, high: 4.2, title: "what goes on" },
    height: 250,
    ondrag: (x) => {
      input.value = Math.max(-4, Math.min(4, x));
      draw();
    },
    draw: (p) => {
      const f = ACTIVATIONS[kind.value];
      const [y, slope] = f(input.value);
      p.curve((x) => f(x)[0], "way", -4.2, 4.2, 420);
      p.line([[input.value - 0.9, y - 0.9 * slope], [input.value + 0.9, y + 0.9 * slope]], "slope");
      p.dot(input.value, y, "ball", 7);
    },
  });

  function draw() {
    const narrow = ["tanh", "sigmoid"].includes(kind.value);
    Object.assign(plot.y, narrow ? { low: -1.25, high: 1.25 } : { low: -0.8, high: 4.4 });
    plot.draw();
    const [y, slope] = ACTIVATIONS[kind.value](input.value);
    say(facts, `In ${fixed(input.value)} · out ${fixed(y, 3)} · slope ${fixed(slope, 3)}`);
    say(words, ACTIVATION_WORDS[kind.value]);
  }
  draw();
  return { node: el("div", { class: "activation" }, row(kind.node, input.node), plot.node, facts, words) };
}

const EPOCHS = 30;
const BATCHES = 20; // in an epoch
const PEAK = 0.1;

/** @param {string} term */
function schedules(term) {
  /** @type {Record<string, string>} */
  const named = { "one-cycle": "one_cycle", "warm-up": "cosine", cosine: "cosine" };
  const first = named[term] ?? "one_cycle";
  const kind = choice({ label: "Schedule", options: [["constant", "Constant"], ["step", "Step"], ["cosine", "Cosine"], ["one_cycle", "One-cycle"]], value: first, onchange: () => draw() });
  const warm = slider({ name: "warm", label: "Warm-up", min: 0, max: 6, step: 1, value: term === "warm-up" ? 4 : 0, words: (v) => `${v} ${v === 1 ? "epoch" : "epochs"}`, onchange: () => draw() });
  const every = slider({ name: "every", label: "Drop every", min: 2, max: 15, step: 1, value: 10, words: (v) => `${v} epochs`, onchange: () => draw() });
  const factor = slider({ name: "factor", label: "to this share", min: 0.1, max: 0.9, step: 0.1, value: 0.1, words: (v) => fixed(v, 1), onchange: () => draw() });
  const epoch = slider({ name: "epoch", label: "Look at", min: 0, max: EPOCHS - 0.05, step: 0.05, value: 5, words: (v) => `epoch ${fixed(v, 1)}`, onchange: () => draw() });
  const facts = formula();
  const words = aside();
  const rate = (/** @type {number} */ step) =>
    scheduled(kind.value, step, { peak: PEAK, total: EPOCHS * BATCHES, warm: kind.value === "one_cycle" ? 0 : warm.value * BATCHES, every: every.value * BATCHES, factor: factor.value });
  const plot = new Plot({
    label: "The learning rate over a run of 30 epochs",
    x: { low: 0, high: EPOCHS, title: "epochs done" },
    y: { low: 0, high: PEAK * 1.08, title: "learning rate" },
    height: 230,
    ondrag: (x) => {
      epoch.value = Math.min(EPOCHS - 0.05, x);
      draw();
    },
    draw: (p) => {
      p.line(
        Array.from({ length: EPOCHS * BATCHES }, (_, step) => [step / BATCHES, rate(step)]),
        "way",
      );
      p.dot(epoch.value, rate(Math.round(epoch.value * BATCHES)), "ball", 7);
    },
  });
  /** @type {Record<string, string>} */
  const said = {
    constant: "Simple, and enough for a first try; at the end the steps may be too large to settle.",
    step: "Large steps until nothing improves, then smaller ones: the classic plan for long runs.",
    cosine: "Falls smoothly to 0: nothing to choose but the number of epochs.",
    one_cycle: "Climbs in the first quarter, which is its own warm-up, and then sinks to almost 0: much learned in few epochs.",
  };

  function draw() {
    const own = kind.value === "one_cycle";
    warm.input.disabled = own;
    warm.node.classList.toggle("off", own);
    every.node.hidden = factor.node.hidden = kind.value !== "step";
    plot.draw();
    const now = rate(Math.round(epoch.value * BATCHES));
    say(facts, `Learning rate ${fixed(now, 5)} · ${fixed((100 * now) / PEAK, 1)}% of the ${PEAK} that was chosen`);
    say(words, said[kind.value]);
  }
  draw();
  return { node: el("div", { class: "schedules" }, row(kind.node), row(warm.node, epoch.node, every.node, factor.node), plot.node, facts, words) };
}

const CLASSES = 10;

/** @param {string} term */
function crossEntropy_(term) {
  const p = slider({ name: "p", label: "Probability of the right class", min: 0.005, max: 0.995, step: 0.005, value: 0.6, words: (v) => fixed(v, 3), onchange: () => draw() });
  const smoothing = slider({ name: "smoothing", label: "Label smoothing", min: 0, max: 0.3, step: 0.01, value: term === "label-smoothing" ? 0.1 : 0, words: (v) => (v ? fixed(v) : "none"), onchange: () => draw() });
  const facts = formula();
  const words = aside();
  const plot = new Plot({
    label: "The loss for every probability of the right class",
    x: { low: 0, high: 1, title: "probability that the network gives to the right class" },
    y: { low: 0, high: 5.5, title: "loss" },
    height: 250,
    ondrag: (x) => {
      p.value = Math.max(0.005, Math.min(0.995, x));
      draw();
    },
    draw: (plot_) => {
      const s = smoothing.value;
      if (s) plot_.curve((x) => crossEntropy(x), "quiet", 0.001, 1, 400);
      plot_.curve((x) => crossEntropy(x, s, CLASSES), "way", 0.001, s ? 0.9999 : 1, 400);
      if (s) plot_.dot(lowest(s), crossEntropy(lowest(s), s, CLASSES), "least", 5);
      plot_.dot(p.value, crossEntropy(p.value, s, CLASSES), "ball", 7);
    },
  });
  const lowest = (/** @type {number} */ s) => 1 - s + s / CLASSES;

  function draw() {
    plot.draw();
    const [share, s] = [p.value, smoothing.value];
    const loss = crossEntropy(share, s, CLASSES);
    if (s) {
      const other = (1 - share) / (CLASSES - 1);
      say(facts, `loss = −${fixed(lowest(s), 3)} × ln ${fixed(share, 3)} − 9 × ${fixed(s / CLASSES, 3)} × ln ${fixed(other, 4)} = ${fixed(loss, 3)}`);
      say(words, `Of ten classes the right one is asked for with ${fixed(lowest(s), 3)} instead of 1: there the loss is lowest, and more certainty costs again.`);
    } else {
      say(facts, `loss = −ln ${fixed(share, 3)} = ${fixed(loss, 3)}`);
      say(words, share < 0.1 ? "Sure and wrong: this is what costs most." : share > 0.9 ? "Sure and right: hardly any loss is left to learn from." : "The less of the right class, the steeper the loss rises.");
    }
  }
  draw();
  return { node: el("div", { class: "cross-entropy" }, row(p.node, smoothing.node), plot.node, facts, words) };
}

export const DRAWINGS = {
  convolution: { term: "convolution", title: "Slide the window over a seven", hint: "Patch × filter, added up, gives one number of the map.", make: convolution },
  pooling: { term: "pooling", title: "Pool squares of two by two", hint: "Every four numbers become one.", make: pooling },
  activation: { term: "activation", title: "Bend a number", hint: "Drag the point along ReLU, GELU, tanh or sigmoid.", make: activation },
  descent: { term: "gradient-descent", title: "Step down the slope of x²", hint: "Drag the ball, choose a learning rate, and see it arrive, crawl or fly apart.", make: descent },
  cross_entropy: { term: "cross-entropy", title: "What an answer costs", hint: "Drag the probability of the right class.", make: crossEntropy_ },
  schedules: { term: "schedule", title: "Plan the learning rate", hint: "Choose a schedule and drag along the run.", make: schedules },
  overfitting: { term: "overfitting", title: "Bend a curve until it memorises", hint: "Raise the degree and watch the two errors part.", make: overfitting },
  softmax: { term: "softmax", title: "Turn four scores into shares", hint: "Move a score: the shares always add up to 1.", make: softmax_ },
};
