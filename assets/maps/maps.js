// Attribution maps over the picture the network saw. A row is one method, its cells are classes, and all its cells share one
// colour scale. How strongly the maps cover the picture, how much of them is shown and what is laid over what is the browser's
// work alone: the controls stand in a place of their own and speak to all rows of the page.

import { closest, context2d, el, focused, icon, mount, part } from "../common/dom.js";
import { radios } from "../common/radios.js";

/** @typedef {"both" | "picture" | "map"} Shown */
/**
 * @typedef {{
 *   title: string, caption?: string, doubt?: boolean, error?: string, stopped?: boolean, values?: string, most: number, width: number,
 *   height: number, file: string }} Cell values: base64 of signed 16-bit numbers
 */
/** @typedef {{ title: string, cells: Cell[], scale: number, scale_text: string, picture: string | null, width: number, height: number }} Data */
/** @typedef {{ cell: Cell, canvas: HTMLCanvasElement & { sign?: string }, decoded: ReturnType<typeof decoded> }} Drawn */
/** @typedef {HTMLElement & Partial<Drawn> & { column?: number, source?: string, shown?: Shown | null }} Figure */

const RED = [214, 39, 40];
const BLUE = [31, 93, 200];
const SMALL = 128; // pixels a side; below, every pixel is drawn as a square of so many that the whole is about
const WANTED = 208; // pixels wide
const DOWN = "M8 2.5v8M4.5 7L8 10.5 11.5 7M3 13.5h10";
const PHOTO = "M2.5 3.5h11v9h-11zM2.5 11l3.2-3.2 2.3 2.2 2-1.8 3.5 3";
const SPOTS = "M5.5 8a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM11 13a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM2.5 12.5h.01M13 4h.01";
/** @type {[Shown, string][]} */
const SHOWN = [
  ["both", "Map over picture"],
  ["picture", "Picture"],
  ["map", "Map"],
];

// One choice for the page; it outlives reruns.
/** @type {EventTarget & { opacity: number, top: number, shown: Shown }} */
const look = Object.assign(new EventTarget(), { opacity: 0.75, top: 100, shown: /** @type {Shown} */ ("both") });

/** @param {{ opacity?: number, top?: number, shown?: Shown }} values */
function choose(values) {
  Object.assign(look, values);
  look.dispatchEvent(new Event("change"));
}

class Controls {
  /** @param {ShadowRoot} parent */
  constructor(parent) {
    this.opacity = el("input", { type: "range", min: "0", max: "100", step: "1", class: "opacity" });
    this.opacity.addEventListener("input", () => choose({ opacity: Number(this.opacity.value) / 100 }));
    this.top = el("input", { type: "range", min: "1", max: "100", step: "1", class: "top" });
    this.top.addEventListener("input", () => choose({ top: Number(this.top.value) }));
    this.opacityValue = el("output", { class: "value" });
    this.topValue = el("output", { class: "value wide" });
    this.modes = radios(
      { class: "modes", "aria-label": "What is shown", title: "Under the map the picture is grey, so that red and blue are the map's alone" },
      SHOWN.map(([name, title]) => ({ name, title, props: { "data-shown": name } })),
      (shown) => choose({ shown }),
    );
    this.root = el(
      "div",
      { class: "maps controls" },
      this.modes.node,
      el("label", { class: "slide" }, el("span", {}, "Strength"), this.opacity, this.opacityValue),
      el("label", { class: "slide", title: "Hides all but the pixels that speak loudest, for or against" }, el("span", {}, "Only the top"), this.top, this.topValue),
      el("div", { class: "legend" }, el("span", {}, "against"), el("span", { class: "scale", "aria-hidden": "true" }), el("span", {}, "for")),
    );
    parent.append(this.root);
    this.changed = () => this.paint();
    look.addEventListener("change", this.changed);
  }

  update() {
    this.paint();
  }

  paint() {
    this.opacity.value = String(Math.round(look.opacity * 100));
    this.opacityValue.textContent = `${Math.round(look.opacity * 100)}%`;
    this.top.value = String(look.top);
    this.topValue.textContent = look.top === 100 ? "all pixels" : `${look.top}% of pixels`;
    this.modes.mark(look.shown);
  }

  end() {
    look.removeEventListener("change", this.changed);
  }
}

/** The signed 16-bit numbers of a map, and how large the n-th strongest of them is. @param {Cell} cell */
function decoded(cell) {
  const bytes = Uint8Array.from(atob(cell.values ?? ""), (c) => c.charCodeAt(0));
  const values = new Int16Array(bytes.buffer);
  const strongest = Uint16Array.from(values, (v) => Math.abs(v)).sort();
  return { values, strongest };
}

class Row {
  /** @type {Data} */
  data;
  frame = 0;

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    /** @type {Set<number>} columns that are enlarged */
    this.large = new Set();
    /** @type {Figure[]} */
    this.figures = [];
    this.columns = el("div", { class: "columns" });
    this.legend = el("div", { class: "legend row" });
    this.root = el("section", { class: "maps" }, this.columns, this.legend);
    parent.append(this.root);
    this.changed = () => {
      cancelAnimationFrame(this.frame);
      this.frame = requestAnimationFrame(() => this.paint());
    };
    look.addEventListener("change", this.changed);
    this.root.addEventListener("keydown", (event) => this.key(event, true));
    this.root.addEventListener("keyup", (event) => this.key(event, false));
  }

  /** @param {import("../common/dom.js").Component<Data>} given */
  update({ data }) {
    this.data = data;
    this.root.setAttribute("aria-label", data.title);
    data.cells.forEach((cell, column) => {
      const text = JSON.stringify([cell, data.picture, data.scale]);
      const old = this.figures[column];
      if (old?.source === text) return; // only what changed is drawn again
      const figure = this.figure(cell, column);
      figure.source = text;
      if (old) {
        const held = old.contains(focused(old));
        old.replaceWith(figure);
        if (held) figure.querySelector("button")?.focus();
      } else this.columns.append(figure);
      this.figures[column] = figure;
    });
    for (const figure of this.figures.splice(data.cells.length)) figure.remove();
    this.legend.hidden = !data.scale;
    if (data.scale) {
      this.legend.title = `Full colour begins at ${data.scale_text}. The pictures of this row share the scale; rows do not, for methods do not measure the same.`;
      this.legend.replaceChildren(
        el("span", {}, `−${data.scale_text}`),
        el("span", { class: "scale", "aria-hidden": "true" }),
        el("span", {}, `+${data.scale_text}`),
        el("span", { class: "unit" }, "one scale for the row"),
      );
    }
    this.paint();
  }

  /** @param {Cell} cell @param {number} column @returns {Figure} */
  figure(cell, column) {
    const caption = el("figcaption", {}, el("span", { class: "title" }, cell.title), ...(cell.caption ? [el("span", { class: cell.doubt ? "caption doubt" : "caption" }, cell.caption)] : []));
    if (cell.error) {
      return this.sized(el("figure", { class: "map failed" }, el("div", { class: "frame" }, el("p", { class: "error", role: "status" }, cell.error)), caption));
    }
    const picture = this.data.picture ? [this.image(this.data.picture)] : [];
    if (!cell.values) {
      const words = cell.stopped ? "Stopped" : `${this.data.title} for ${cell.title} is being computed`;
      const over = cell.stopped ? el("p", { class: "error" }, words) : el("span", { class: "skeleton", role: "img", "aria-label": words });
      return this.sized(el("figure", { class: cell.stopped ? "map stopped" : "map loading", "aria-busy": String(!cell.stopped) }, el("div", { class: "frame" }, ...picture, over), caption));
    }
    const canvas = el("canvas", { class: "overlay", width: cell.width, height: cell.height });
    const big = this.large.has(column);
    const frame = el(
      "button",
      {
        type: "button",
        class: "frame",
        "aria-expanded": String(big),
        "aria-label": `${this.data.title}: what speaks for and against ${cell.title}. Enlarge; hold P for the picture alone, M for the map alone`,
        title: big ? "Make smaller" : "Enlarge",
        onclick: () => this.toggle(column),
      },
      ...picture,
      canvas,
    );
    /** @type {Figure & Drawn} */
    const figure = Object.assign(el("figure", { class: big ? "map large" : "map" }), { cell, canvas, column, decoded: decoded(cell) });
    const tools = el(
      "div",
      { class: "tools" },
      this.peek(PHOTO, "picture", "The picture alone (hold P)"),
      this.peek(SPOTS, "map", "The map alone (hold M)"),
      el("button", { type: "button", class: "tool save", title: "Download as it is shown", "aria-label": `Download ${this.data.title} for ${cell.title}`, onclick: () => this.save(figure) }, icon(DOWN)),
    );
    figure.append(el("div", { class: "stage" }, frame, tools), caption);
    return this.sized(figure);
  }

  /** @param {Figure} figure */
  sized(figure) {
    const { width, height } = this.data;
    if (!width) return figure;
    const side = Math.max(width, height);
    const times = side < SMALL ? Math.max(1, Math.floor(WANTED / side)) : 1;
    figure.style.setProperty("--wide", `${width * times}px`);
    figure.style.setProperty("--ratio", `${width} / ${height}`);
    figure.classList.toggle("pixelated", side < SMALL);
    return figure;
  }

  /** @param {string} url */
  image(url) {
    const image = el("img", { class: "picture", alt: "", decoding: "async", draggable: "false" });
    image.src = url;
    return image;
  }

  /**
   * What is looked at for as long as the pointer or the focus rests on the tool.
   * @param {string} path @param {Shown} what @param {string} title
   */
  peek(path, what, title) {
    const show = (/** @type {boolean} */ on) => (/** @type {Event} */ event) => this.look(/** @type {Figure} */ (closest(event, ".map")), on ? what : null);
    return el(
      "button",
      { type: "button", class: "tool", title, "aria-label": title, onpointerenter: show(true), onpointerleave: show(false), onfocus: show(true), onblur: show(false) },
      icon(path),
    );
  }

  /** @param {KeyboardEvent} event @param {boolean} down */
  key(event, down) {
    /** @type {Record<string, Shown>} */
    const keys = { p: "picture", m: "map" };
    const what = keys[event.key.toLowerCase()];
    /** @type {Figure | null} */
    const figure = closest(event, ".map");
    if (event.key === "Escape" && down && figure?.column !== undefined && this.large.has(figure.column)) {
      event.stopPropagation();
      this.toggle(figure.column);
    }
    if (what && figure && !event.ctrlKey && !event.metaKey) this.look(figure, down ? what : null);
  }

  /** @param {Figure} figure @param {Shown | null} what */
  look(figure, what) {
    figure.shown = what;
    this.show(figure);
  }

  /** @param {Figure} figure */
  show(figure) {
    figure.dataset.shown = figure.shown ?? look.shown;
  }

  /** @param {number} column */
  toggle(column) {
    const figure = this.figures[column];
    const big = !this.large.delete(column);
    if (big) this.large.add(column);
    figure.classList.toggle("large", big);
    const frame = part(figure, ".frame");
    frame.setAttribute("aria-expanded", String(big));
    frame.title = big ? "Make smaller" : "Enlarge";
    if (big) figure.scrollIntoView({ block: "nearest" });
  }

  paint() {
    this.root.style.setProperty("--opacity", String(look.opacity));
    for (const figure of this.figures) {
      const { canvas, cell, decoded } = figure;
      if (!canvas || !cell || !decoded) continue;
      this.show(figure);
      this.colour({ canvas, cell, decoded });
    }
  }

  /** Red for, blue against, more opaque where stronger; below the n-th strongest nothing. @param {Drawn} given */
  colour({ canvas, cell, decoded: { values, strongest } }) {
    const sign = `${look.top} ${this.data.scale}`;
    if (canvas.sign === sign) return;
    canvas.sign = sign;
    const kept = Math.max(1, Math.round((values.length * look.top) / 100));
    const least = look.top === 100 ? 0 : strongest[values.length - kept];
    const full = (this.data.scale / cell.most) * 32767; // the number that is drawn opaque
    const drawn = new ImageData(cell.width, cell.height);
    for (let i = 0; i < values.length; i++) {
      const strength = Math.abs(values[i]);
      if (!strength || strength < least) continue;
      const [r, g, b] = values[i] > 0 ? RED : BLUE;
      drawn.data.set([r, g, b, Math.min(255, Math.round((strength / full) * 255))], 4 * i);
    }
    context2d(canvas).putImageData(drawn, 0, 0);
  }

  /** The cell as it is shown, large enough to be looked at. @param {Figure & Drawn} figure */
  save(figure) {
    const picture = /** @type {HTMLImageElement} */ (part(figure, ".picture"));
    const { width, height } = this.data;
    const times = Math.max(1, Math.round(448 / Math.max(width, height)));
    const out = el("canvas", { width: width * times, height: height * times });
    const pen = context2d(out);
    const { shown } = look;
    pen.imageSmoothingEnabled = Math.max(width, height) >= SMALL;
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, out.width, out.height);
    pen.filter = shown === "both" ? "grayscale(1)" : "none";
    if (shown !== "map") pen.drawImage(picture, 0, 0, out.width, out.height);
    pen.filter = "none";
    pen.globalAlpha = shown === "map" ? 1 : look.opacity;
    if (shown !== "picture") pen.drawImage(figure.canvas, 0, 0, out.width, out.height);
    out.toBlob((blob) => {
      if (!blob) return;
      const url = URL.createObjectURL(blob);
      el("a", { href: url, download: figure.cell.file }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    });
  }

  end() {
    look.removeEventListener("change", this.changed);
    cancelAnimationFrame(this.frame);
  }
}

class View {
  /** @type {Row | Controls | undefined} */
  drawn;

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    this.parent = parent;
  }

  /** @param {import("../common/dom.js").Component<Data>} component */
  update(component) {
    this.drawn ??= component.data.cells ? new Row(this.parent) : new Controls(this.parent);
    this.drawn.update(component);
  }

  end() {
    this.drawn?.end();
    this.drawn?.root.remove(); // the place may be used again
  }
}

export default mount(View);
