// A network drawn as blocks (height: side of its pictures, width: channels) above the table of its layers. For a network of
// one's own the table is a form: what is typed goes to the page, which answers with what comes out of every layer.

import { ICONS, el, icon, mount, part, say } from "../common/dom.js";
import { number } from "../common/numbers.js";

/** @typedef {"convolution" | "normalisation" | "activation" | "pooling" | "dropout" | "dense"} Kind */
/** @typedef {{ size?: number | null, window?: number | null, stride?: number | null, padding?: number | null, rate?: number | null, function?: string }} Settings */
/** @typedef {Settings & { kind: Kind }} Layer of a network of one's own */
/** @typedef {{ title: string, kind: string, side: number, channels: number, layers: number, parameters: number }} Block */
/**
 * @typedef {{
 *   name: string, kind: string, detail: string, shape: number[], parameters: number, number?: number, formula?: string, problem?: string,
 *   title?: string }} LayerRow
 */
/** @typedef {{ side: number, channels: number }} Size */
/** @typedef {{ picture: Size, blocks: Block[], rows: LayerRow[], facts: string, layers?: Layer[], examples?: Record<string, Layer[]> }} Data */

let open = false; // the table stays open, whichever network is chosen
const TYPING_MS = 250; // after the last key
const UP = "M8 13V3M4 7l4-4 4 4";
const DOWN = "M8 3v10M4 9l4 4 4-4";
/** @type {Record<Kind, { title: string, fresh: Settings }>} */
const KINDS = {
  convolution: { title: "Convolution", fresh: { size: 32, window: 3, stride: 1, padding: 1 } },
  normalisation: { title: "Normalisation", fresh: {} },
  activation: { title: "Activation", fresh: { function: "relu" } },
  pooling: { title: "Pooling", fresh: { function: "max", window: 2, stride: 2, padding: 0 } },
  dropout: { title: "Dropout", fresh: { rate: 0.5 } },
  dense: { title: "Dense", fresh: { size: 100 } },
};
/** @type {Record<string, string>} */
const WORDS = { flatten: "Flatten", output: "Output", attention: "Attention", weights: "Weights", other: "Other" };
/** @type {Record<keyof Settings, string>} */
const NAMES = { size: "Filters", window: "Window F", stride: "Stride S", padding: "Padding P", rate: "Share", function: "Function" };
/** @type {Partial<Record<Kind, Record<string, string>>>} */
const FUNCTIONS = {
  activation: { relu: "ReLU", gelu: "GELU", tanh: "tanh", sigmoid: "Sigmoid" },
  pooling: { max: "Maximum", average: "Average" },
};

/** @param {number[]} shape */
const dims = (shape) => shape.map(number).join(" × ");
/** @param {string} kind */
const word = (kind) => KINDS[/** @type {Kind} */ (kind)]?.title ?? WORDS[kind] ?? kind;
/** @param {string} kind */
const swatch = (kind) => el("span", { class: `swatch ${kind}`, "aria-hidden": "true" });

const kinds = /** @type {Kind[]} */ (Object.keys(KINDS));

class View {
  /** @type {() => void} what is set so far, to the page */
  send;
  /** @type {Layer[]} */
  layers = [];
  /** @type {Record<string, Layer[]>} */
  examples = {};
  formed = false; // what is typed goes before what the page sends
  /** @type {ReturnType<View["row"]>[]} */
  cells = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  wait;
  /** @type {string | undefined} */
  sign;

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    this.list = el("div", { class: "list" });
    this.flat = el("div", { class: "row auto" }, el("span", {}), el("span", { class: "what" }, swatch("flatten"), "Flatten"), el("span", { class: "soft title" }, "the picture becomes one row of numbers"), el("span", { class: "shape" }));
    this.out = el("div", { class: "row auto" }, el("span", {}), el("span", { class: "what" }, swatch("output"), "Output"), el("span", { class: "soft title" }), el("span", { class: "shape" }), el("span", { class: "count" }), el("span", { class: "problem", role: "status" }));
    this.strip = el("div", { class: "strip", role: "img", tabindex: "0" });
    this.legend = el("div", { class: "legend" });
    this.facts = el("p", { class: "facts" });
    this.body = el("div", { class: "body" });
    this.root = el("div", { class: "network" }, this.strip, this.legend, this.facts, this.body);
    parent.append(this.root);
  }

  /** @param {import("../common/dom.js").Component<Data>} given */
  update({ data, setStateValue }) {
    this.send = () => setStateValue("layers", this.layers);
    const { layers } = data;
    if (layers && !this.formed) {
      this.formed = true;
      this.layers = layers.map((layer) => ({ ...layer }));
      this.examples = data.examples ?? {};
      this.form();
    }
    // What was typed since the page asked is on its way: the next answer fits it.
    if (layers && JSON.stringify(layers) !== JSON.stringify(this.layers)) return;
    const sign = JSON.stringify(data);
    if (this.sign === sign) return;
    this.sign = sign;
    this.draw(data);
    say(this.facts, data.facts);
    if (layers) this.answer(data.rows);
    else this.table(data.rows);
  }

  end() {
    clearTimeout(this.wait);
  }

  // The drawing ----------------------------------------------------------------------------------

  /** @param {Data} given */
  draw({ picture, blocks }) {
    const largest = Math.max(picture.side, ...blocks.map((block) => block.side));
    const figures = [this.figure({ title: "Picture", kind: "picture", side: picture.side, channels: picture.channels, layers: 1, parameters: 0 }, largest)];
    for (const block of blocks) figures.push(this.figure(block, largest));
    this.strip.replaceChildren(...figures);
    this.strip.setAttribute("aria-label", `The network from left to right: ${blocks.map((b) => `${b.title}, ${this.size(b)}`).join("; ")}`);
    const kinds = [...new Set(blocks.map((block) => block.kind))];
    this.legend.replaceChildren(
      ...kinds.map((kind) => el("span", { class: "key" }, swatch(kind), word(kind))),
      el("span", { class: "key how" }, "height: side of the picture · width: channels"),
    );
  }

  /** @param {Size} block */
  size(block) {
    return block.side > 1 ? `${number(block.channels)} × ${number(block.side)} × ${number(block.side)}` : number(block.channels);
  }

  /** @param {Block} block @param {number} largest */
  figure(block, largest) {
    const height = block.side > 1 ? 10 + 90 * Math.sqrt(block.side / largest) : Math.min(64, 8 + 5 * Math.log2(1 + block.channels));
    const width = block.side > 1 ? 6 + 4 * Math.log2(1 + block.channels) : 8;
    const many = block.layers > 1 ? `${number(block.layers)} layers` : word(block.kind);
    const parameters = block.parameters ? `, ${number(block.parameters)} parameters` : "";
    const box = el("span", { class: `box ${block.kind}${block.layers > 1 ? " stage" : ""}` });
    box.style.width = `${width}px`;
    box.style.height = `${height}px`;
    return el(
      "span",
      { class: "block", title: block.kind === "picture" ? "What the network receives" : `${block.title}: ${many}${parameters}` },
      el("span", { class: "stand" }, box),
      el("span", { class: "name" }, block.title),
      el("span", { class: "size" }, this.size(block)),
      el("span", { class: "size" }, block.layers > 1 ? many : "\u00a0"),
    );
  }

  // The table ------------------------------------------------------------------------------------

  /** @param {LayerRow[]} rows */
  table(rows) {
    const head = el("tr", {}, ...["Layer", "Kind", "", "Comes out", "Parameters"].map((text, i) => el("th", { scope: "col", class: i > 2 ? "right" : null }, text)));
    const lines = rows.map((row) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", class: "path" }, row.name || "the whole"),
        el("td", {}, swatch(row.kind), word(row.kind)),
        el("td", { class: "soft" }, row.detail),
        el("td", { class: "right" }, row.shape.length ? dims(row.shape) : "–"),
        el("td", { class: "right" }, row.parameters ? number(row.parameters) : "–"),
      ),
    );
    this.body.replaceChildren(
      el(
        "details",
        { open, ontoggle: (event) => (open = /** @type {HTMLDetailsElement} */ (event.target).open) },
        el("summary", {}, `All ${number(rows.length)} layers, in the order in which they work`),
        el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Layers" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...lines))),
      ),
    );
  }

  // One's own ------------------------------------------------------------------------------------

  form() {
    const examples = Object.entries(this.examples).map(([name, layers]) =>
      el("button", { type: "button", class: "chip", onclick: () => this.change(() => (this.layers = layers.map((layer) => ({ ...layer })))) }, name),
    );
    const more = kinds.map((kind) =>
      el("button", { type: "button", class: "chip", "aria-label": `Add ${word(kind).toLowerCase()}`, onclick: () => this.add({ kind, ...KINDS[kind].fresh }) }, swatch(kind), word(kind)),
    );
    this.body.replaceChildren(
      el("div", { class: "line" }, el("span", { class: "soft" }, "Begin with"), ...examples),
      this.list,
      el("div", { class: "line" }, el("span", { class: "soft" }, "Add"), ...more),
      el("p", { class: "soft formula-key" }, "Side of what comes out: (W − F + 2P) / S + 1, with W the side of what goes in."),
    );
    this.rows();
  }

  rows() {
    this.cells = this.layers.map((layer, i) => this.row(layer, i));
    const head = el("div", { class: "row heads" }, ...["", "Kind", "Settings", "Comes out", ""].map((text) => el("span", {}, text)));
    this.list.replaceChildren(head, ...this.cells.map((cell) => cell.node), this.flat, this.out);
  }

  /** @param {Layer} layer @param {number} i */
  row(layer, i) {
    const name = (/** @type {string} */ what) => `Layer ${i + 1} ${what}`;
    const kind = el("select", { class: "kind", "aria-label": name("kind"), "data-at": `${i}-kind` }, ...this.options(Object.fromEntries(kinds.map((each) => [each, word(each)])), layer.kind));
    kind.addEventListener("change", () => {
      const chosen = /** @type {Kind} */ (kind.value);
      this.change(() => (this.layers[i] = { kind: chosen, ...KINDS[chosen].fresh }), `${i}-kind`);
    });
    const fields = /** @type {(keyof Settings)[]} */ (Object.keys(KINDS[layer.kind].fresh)).map((field) => this.field(layer, i, field, name));
    /** @param {string} label @param {string} path @param {boolean} disabled @param {() => void} act */
    const button = (label, path, disabled, act) => {
      const node = el("button", { type: "button", class: "tool", "aria-label": name(label), title: label, disabled, onclick: act });
      node.append(icon(path));
      return node;
    };
    const tools = el(
      "span",
      { class: "tools" },
      button("up", UP, i === 0, () => this.move(i, i - 1)),
      button("down", DOWN, i === this.layers.length - 1, () => this.move(i, i + 1)),
      button("remove", ICONS.remove, false, () => this.change(() => this.layers.splice(i, 1))),
    );
    const shape = el("span", { class: "shape" });
    const count = el("span", { class: "count" });
    const formula = el("span", { class: "formula" });
    const problem = el("span", { class: "problem", role: "status" });
    const node = el("div", { class: "row" }, el("span", { class: "place" }, String(i + 1)), el("span", { class: "what" }, swatch(layer.kind), kind), el("span", { class: "settings" }, ...fields), shape, tools, formula, count, problem);
    return { node, shape, count, formula, problem };
  }

  /** @param {Record<string, string>} titles @param {string | undefined} chosen */
  options(titles, chosen) {
    return Object.entries(titles).map(([value, title]) => el("option", { value, selected: value === chosen }, title));
  }

  /** @param {Layer} layer @param {number} i @param {keyof Settings} field @param {(what: string) => string} name */
  field(layer, i, field, name) {
    const title = field === "size" && layer.kind === "dense" ? "Units" : NAMES[field];
    const label = name(title.split(" ")[0].toLowerCase());
    if (field === "function") {
      const functions = FUNCTIONS[layer.kind] ?? {};
      const select = el("select", { "aria-label": label, "data-at": `${i}-${field}` }, ...this.options(functions, layer.function || Object.keys(functions)[0]));
      select.addEventListener("change", () => this.typed(layer, field, select.value, 0));
      return el("label", { class: "field function" }, select);
    }
    const share = field === "rate";
    const input = el("input", { type: "number", min: share || field === "padding" ? "0" : "1", step: share ? "0.05" : "1", max: share ? "0.95" : null, value: layer[field] ?? "", "aria-label": label, "data-at": `${i}-${field}` });
    input.addEventListener("input", () => this.typed(layer, field, input.value === "" ? null : Number(input.value), TYPING_MS));
    return el("label", { class: `field ${field}` }, el("span", {}, title), input);
  }

  /** @param {Layer} layer @param {keyof Settings} field @param {string | number | null} value @param {number} wait */
  typed(layer, field, value, wait) {
    Object.assign(layer, { [field]: value });
    clearTimeout(this.wait);
    this.wait = setTimeout(this.send, wait);
  }

  /** @param {Layer} layer */
  add(layer) {
    this.change(() => this.layers.push(layer));
    part(this.list, `[data-at="${this.layers.length - 1}-kind"]`)?.focus();
  }

  /** @param {number} from @param {number} to */
  move(from, to) {
    this.change(() => this.layers.splice(to, 0, ...this.layers.splice(from, 1)));
    const names = from > to ? ["up", "down"] : ["down", "up"];
    const tools = names.map((what) => part(this.list, `[aria-label="Layer ${to + 1} ${what}"]`));
    tools.find((tool) => tool && !tool.hasAttribute("disabled"))?.focus();
  }

  /** @param {() => unknown} act @param {string} [focus] */
  change(act, focus) {
    act();
    clearTimeout(this.wait);
    this.rows();
    if (focus) part(this.list, `[data-at="${focus}"]`)?.focus();
    this.send();
  }

  /** @param {LayerRow | undefined} row */
  weights(row) {
    return row?.parameters ? `${number(row.parameters)} parameters` : "";
  }

  /** @param {LayerRow[]} rows */
  answer(rows) {
    const byNumber = new Map(rows.filter((row) => row.number).map((row) => [row.number, row]));
    this.cells.forEach((cell, i) => {
      const row = byNumber.get(i + 1);
      say(cell.shape, row?.shape.length ? dims(row.shape) : "–");
      say(cell.count, this.weights(row));
      say(cell.formula, row?.formula ?? "");
      say(cell.problem, row?.problem ?? "");
      cell.node.classList.toggle("wrong", Boolean(row?.problem));
    });
    const flat = rows.find((row) => row.kind === "flatten");
    const before = flat ? rows[rows.indexOf(flat) + 1] : null;
    this.flat.hidden = !flat;
    if (flat) {
      say(part(this.flat, ".shape"), dims(flat.shape));
      this.list.insertBefore(this.flat, before?.number ? this.cells[before.number - 1].node : this.out);
    }
    const out = rows.find((row) => row.kind === "output");
    say(part(this.out, ".title"), out?.title ?? "");
    say(part(this.out, ".shape"), out?.shape.length ? dims(out.shape) : "–");
    say(part(this.out, ".count"), this.weights(out));
    say(part(this.out, ".problem"), out?.problem ?? "");
    this.out.classList.toggle("wrong", Boolean(out?.problem));
  }
}

export default mount(View);
