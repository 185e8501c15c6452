// Thumbnails one can select and label. Streamlit tells us the images, the server's own route takes the labels:
// every labelling is an operation in an outbox that belongs to the grid's key, not to its DOM, so it outlives
// a rerun, a page of images and a walk through the app until the server has answered.

const RETRY_MS = 2000;
const CHANGED_MS = 400;
const SLOW_MS = 1000; // only then is a change that is on its way worth a line
const LETTERS = "1234567890";

// Small tools ------------------------------------------------------------------------------------

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

function icon(path) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(ns, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

const ICONS = {
  open: "M9.5 2.5h4v4M13.5 2.5l-5 5M6.5 13.5h-4v-4M2.5 13.5l5-5",
  undo: "M3 6.5h6.5a3.5 3.5 0 0 1 0 7H6M3 6.5l3-3M3 6.5l3 3",
  remove: "M4 4l8 8M12 4l-8 8",
  blur: "M8 2.5c2.4 2.7 4 4.7 4 6.8a4 4 0 0 1-8 0c0-2.1 1.6-4.1 4-6.8z",
  keys: "M2 4.5h12v7H2zM4.5 7h.01M7 7h.01M9.5 7h.01M11.8 7h.01M5 9.3h6",
  small: "M5 5h6v6H5z",
  large: "M2.5 2.5h11v11h-11z",
};

// crypto.randomUUID needs https; a server in the house often has none.
function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 15) | 64;
  b[8] = (b[8] & 63) | 128;
  const hex = [...b].map((v) => v.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

function remembered(name, value) {
  try {
    if (value === undefined) return localStorage.getItem("loupe." + name);
    localStorage.setItem("loupe." + name, value);
  } catch {
    /* a browser may forbid storage: then a choice lasts as long as the page */
  }
  return null;
}

const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const percent = (p) => `${Math.round(p * 100)} %`;
const mac = /Mac|iP(hone|ad)/.test(navigator.platform);

// The outbox -------------------------------------------------------------------------------------

const outboxes = new Map();

class Outbox {
  constructor() {
    this.ops = []; // oldest first; only the first is under way
    this.known = new Map(); // image id -> {label, seq, by}: what the server last said
    this.names = new Map();
    this.undos = []; // {label, previous: Map(image id -> label)}
    this.views = new Set();
    this.sending = false;
    this.failing = false;
    this.waitingSince = 0;
    this.notice = null; // {text, hint}
  }

  static of(key, dataset) {
    const name = `${key}\n${dataset}`;
    if (!outboxes.has(name)) outboxes.set(name, new Outbox());
    return outboxes.get(name);
  }

  learn(items) {
    for (const item of items) {
      const seq = item.seq ?? 0;
      const before = this.known.get(item.id);
      if (!before || seq > before.seq || (seq === before.seq && !before.by)) {
        this.known.set(item.id, { label: item.label ?? null, seq, by: null });
      }
      this.names.set(item.id, item.name || item.alt || item.id);
    }
  }

  label(id) {
    for (let i = this.ops.length - 1; i >= 0; i--) if (this.ops[i].ids.has(id)) return this.ops[i].label;
    return this.known.get(id)?.label ?? null;
  }

  pending(id) {
    return this.ops.some((op) => op.ids.has(id));
  }

  apply(ids, label, target) {
    const changed = ids.filter((id) => this.label(id) !== label);
    if (!changed.length) return;
    const previous = new Map(changed.map((id) => [id, this.label(id)]));
    this.push(changed, label, target, { label, previous });
  }

  undo(target) {
    const last = this.undos.pop();
    if (!last) return;
    const groups = new Map(); // label -> ids; whatever was labelled otherwise since then stays
    for (const [id, label] of last.previous) {
      if (this.label(id) !== last.label) continue;
      if (!groups.has(label)) groups.set(label, []);
      groups.get(label).push(id);
    }
    for (const [label, ids] of groups) this.push(ids, label, target, null);
    if (!groups.size) this.tell();
  }

  push(ids, label, target, undo) {
    const op = { operation: uuid(), label, ids: new Set(ids), seen: {}, target, undo };
    for (const id of ids) if (!this.pending(id)) op.seen[id] = this.known.get(id)?.seq ?? 0;
    if (undo) this.undos.push(undo);
    if (!this.ops.length) {
      this.waitingSince = Date.now();
      setTimeout(() => this.tell(), SLOW_MS + 20);
    }
    this.ops.push(op);
    this.notice = null;
    this.tell();
    this.pump();
  }

  // What a later operation on the same image must have seen is known when the earlier one is answered.
  chain(id, seq) {
    const next = this.ops.find((op) => op.ids.has(id));
    if (next && !(id in next.seen)) next.seen[id] = seq;
  }

  forget(id) {
    for (const op of this.ops) op.ids.delete(id), delete op.seen[id];
    this.ops = this.ops.filter((op) => op.ids.size);
    for (const undo of this.undos) undo.previous.delete(id);
    this.undos = this.undos.filter((undo) => undo.previous.size);
  }

  async pump() {
    if (this.sending || !this.ops.length) return;
    clearTimeout(this.timer);
    this.sending = true;
    const op = this.ops[0];
    const abort = new AbortController();
    const limit = setTimeout(() => abort.abort(), 20000);
    let answer = null;
    let status = 0;
    try {
      const response = await fetch(op.target.url, {
        method: "POST",
        credentials: "same-origin",
        headers: { "Content-Type": "application/json", "X-Loupe-Token": op.target.token },
        body: JSON.stringify({
          operation: op.operation,
          dataset_id: op.target.dataset,
          label: op.label,
          seen: op.seen,
        }),
        signal: abort.signal,
      });
      status = response.status;
      answer = await response.json().catch(() => null);
    } catch {
      status = 0;
    }
    clearTimeout(limit);
    this.sending = false;
    const later = status === 0 || status >= 500 || [408, 425, 429].includes(status) || (status === 200 && !answer);
    if (later) {
      this.failing = true;
      this.timer = setTimeout(() => this.pump(), RETRY_MS);
      return this.tell();
    }
    this.failing = false;
    this.waitingSince = Date.now();
    this.ops.shift();
    if (status >= 200 && status < 300) this.confirmed(op, answer);
    else this.rejected(op, answer);
    this.tell();
    this.pump();
  }

  confirmed(op, answer) {
    const refused = answer.refused ?? {};
    for (const id of op.ids) {
      if (id in refused) continue;
      const seq = answer.seqs?.[id] ?? this.known.get(id)?.seq ?? 0;
      if (seq >= (this.known.get(id)?.seq ?? 0)) this.known.set(id, { label: op.label, seq, by: null });
      this.chain(id, seq);
    }
    const others = Object.entries(refused);
    for (const [id, other] of others) {
      this.known.set(id, { label: other.label ?? null, seq: other.seq ?? 0, by: other.by || "someone else" });
      this.forget(id);
    }
    if (others.length) this.notice = this.explain(others);
    for (const view of this.views) view.changed();
  }

  explain(others) {
    const people = [...new Set(others.map(([, other]) => other.by || "someone else"))].join(", ");
    if (others.length === 1) {
      const [id, other] = others[0];
      const now = other.label ? `It is “${other.label}” now.` : "It has no label now.";
      return { text: `${people} changed ${this.names.get(id) ?? "this image"} before you. ${now}`, hint: "Your label was not saved. Choose again if you disagree." };
    }
    return {
      text: `${people} changed ${others.length} of these images before you. Their labels are shown now.`,
      hint: "Your labels for them were not saved. Choose again if you disagree.",
    };
  }

  rejected(op, answer) {
    for (const id of op.ids) {
      this.chain(id, op.seen[id]);
      op.undo?.previous.delete(id);
    }
    this.undos = this.undos.filter((undo) => undo.previous.size);
    const error = answer?.error ?? {};
    this.notice = {
      text: error.message || "The label was not saved.",
      hint: error.hint || (error.message ? "" : "Reload the page and try again."),
    };
  }

  tell() {
    for (const view of this.views) view.paint();
  }
}

addEventListener("beforeunload", (event) => {
  if ([...outboxes.values()].some((box) => box.ops.length)) event.preventDefault();
});
addEventListener("online", () => outboxes.forEach((box) => box.pump()));

// One grid ---------------------------------------------------------------------------------------

const views = new WeakMap();
let lastUsed = null;

// A key pressed while nothing has the focus belongs to the grid used last.
document.addEventListener("keydown", (event) => {
  if (!lastUsed?.root.isConnected || lastUsed.sheet.open) return;
  const focus = document.activeElement ?? document.body; // the page, or the scrolling area around the grid
  const host = lastUsed.root.getRootNode().host;
  if (focus !== host && focus.contains(host)) lastUsed.onKey(event);
});

class View {
  constructor(parent) {
    this.selected = new Set();
    this.order = [];
    this.items = new Map();
    this.cells = new Map();
    this.current = 0;
    this.anchor = 0;
    this.gathering = false; // arrows leave the selection alone while it is gathered with x or ctrl
    this.follows = false; // the selection is one cell that only followed the arrows
    this.counter = 0;
    this.blurred = remembered("blur") === "1";
    this.grid = el("div", { class: "cells" });
    this.bar = el("div", { class: "bar", role: "toolbar", "aria-label": "Label the selected images", hidden: true });
    this.alert = el("div", { class: "alert", role: "alert", hidden: true });
    this.sheet = el("dialog", { class: "sheet", "aria-label": "Keys" });
    this.root = el("div", { class: "grid" }, el("div", { class: "head" }, this.bar, this.alert), this.grid, this.sheet);
    parent.append(this.root);
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.root.addEventListener("focusin", () => (lastUsed = this));
    this.grid.addEventListener("click", (event) => this.onClick(event));
    this.grid.addEventListener("dblclick", (event) => {
      const cell = event.target.closest(".cell");
      if (cell && this.editable && !event.target.closest(".open")) this.open(cell.dataset.id);
    });
    this.grid.addEventListener("pointerdown", (event) => this.onHold(event));
    for (const end of ["pointerup", "pointercancel", "pointerleave", "scroll"]) {
      this.grid.addEventListener(end, () => clearTimeout(this.hold));
    }
    this.grid.addEventListener("contextmenu", (event) => this.held && event.preventDefault());
    this.sheet.addEventListener("click", (event) => event.target === this.sheet && this.sheet.close());
    this.sheet.addEventListener("close", () => this.focusCell());
  }

  update({ data, setTriggerValue }) {
    this.fire = setTriggerValue;
    this.data = data;
    this.editable = Boolean(data.post_url && data.classes.length);
    this.colors = new Map(data.classes.map((c) => [c.name, c.color]));
    this.target = { url: data.post_url, token: data.token, dataset: data.dataset_id };
    const box = Outbox.of(data.key, data.dataset_id);
    if (this.box !== box) {
      this.box?.views.delete(this);
      this.box = box;
      box.views.add(this);
    }
    for (const op of box.ops) op.target = { ...op.target, token: data.token }; // a fresher token may be the cure
    box.learn(data.items);
    if (this.size === undefined || this.given !== data.size) {
      this.given = data.size;
      const fitting = innerWidth < 640 ? Math.min(data.size, 104) : data.size; // three beside each other on a phone
      this.size = Number(remembered(`size.${data.key}`)) || fitting;
    }
    this.root.style.setProperty("--size", `${this.size}px`);
    this.root.dataset.caption = data.caption;
    this.root.classList.toggle("editable", this.editable);
    this.root.classList.toggle("blurred", this.blurred);
    this.grid.setAttribute("role", this.editable ? "listbox" : "group");
    this.grid.setAttribute("aria-label", this.editable ? "Images to label" : "Images");
    if (this.editable) this.grid.setAttribute("aria-multiselectable", "true");
    else this.grid.removeAttribute("aria-multiselectable");
    this.rebuild(data.items);
    this.buildBar();
    this.paint();
    clearTimeout(this.prefetching);
    this.prefetching = setTimeout(() => {
      this.fetched = (data.prefetch ?? []).map((url) => Object.assign(new Image(), { src: url }));
    }, 150);
  }

  // Cells --------------------------------------------------------------------------------------

  rebuild(items) {
    const focusId = this.order[this.current];
    const anchorId = this.order[this.anchor];
    const hadFocus = this.grid.contains(this.root.getRootNode().activeElement);
    const same = items.some((item) => this.items.has(item.id)); // else it is another page of images
    this.order = items.map((item) => item.id);
    this.items = new Map(items.map((item) => [item.id, item]));
    for (const [id, parts] of this.cells) {
      if (!this.items.has(id)) {
        parts.cell.remove();
        this.cells.delete(id);
      }
    }
    for (const id of [...this.selected]) if (!this.items.has(id)) this.selected.delete(id);
    if (!this.selected.size) this.gathering = this.follows = false;
    let next = this.grid.firstElementChild;
    for (const item of items) {
      const parts = this.cells.get(item.id) ?? this.build(item);
      if (parts.cell === next) next = next.nextElementSibling;
      else this.grid.insertBefore(parts.cell, next);
      if (item.url && parts.image.getAttribute("src") !== item.url) parts.image.src = item.url;
      parts.cell.classList.toggle("pixelated", Boolean(item.pixelated));
    }
    const place = (id, index) => (this.items.has(id) ? this.order.indexOf(id) : Math.min(index, items.length - 1));
    this.current = same ? Math.max(0, place(focusId, this.current)) : 0;
    this.anchor = same ? Math.max(0, place(anchorId, this.current)) : 0;
    if (hadFocus && !this.grid.contains(this.root.getRootNode().activeElement)) this.focusCell();
  }

  build(item) {
    // A picture is never dragged out by accident, and has its place before it loads.
    const image = el("img", { alt: "", loading: "lazy", decoding: "async", draggable: "false" });
    image.addEventListener("load", () => image.classList.add("loaded"));
    image.addEventListener("error", () => cell.classList.add("broken"));
    const open = el("button", { class: "open", type: "button", tabindex: "-1", title: "Open (Enter)", "aria-label": `Open ${item.name || item.id}` }, icon(ICONS.open));
    const chip = el("span", { class: "prediction", hidden: true });
    const dot = el("span", { class: "dot" });
    const text = el("span", { class: "text" });
    const badge = el("span", { class: "badge", hidden: true }, dot, text);
    const split = el("span", { class: "split" });
    const sub = el("span", { class: "sub" });
    const cell = el(
      "div",
      { class: "cell", "data-id": item.id, tabindex: "-1" },
      el("div", { class: "picture" }, image, chip, open),
      el("div", { class: "foot" }, badge, split),
      sub,
    );
    const parts = { cell, image, chip, dot, text, badge, split, sub };
    this.cells.set(item.id, parts);
    return parts;
  }

  paint() {
    if (!this.box) return;
    this.order.forEach((id, index) => this.paintCell(id, index));
    if (!this.editable) return;
    const n = this.selected.size;
    const usable = n > 0;
    this.parts.count.textContent = n ? `${n.toLocaleString("en")} selected` : "None selected";
    for (const button of this.bar.querySelectorAll(".class, .remove")) button.setAttribute("aria-disabled", String(!usable));
    if (this.parts.more) this.parts.more.disabled = !usable;
    this.parts.undo.setAttribute("aria-disabled", String(!this.box.undos.length));
    const waiting = this.box.ops.length;
    const slow = waiting && (this.box.failing || Date.now() - this.box.waitingSince > SLOW_MS);
    this.say(this.parts.unsaved, slow ? `${count(waiting, "change", "changes")} not saved yet` : "");
    this.parts.unsaved.title = slow && this.box.failing ? "The server does not answer. Trying again every two seconds; keep this page open." : "";
    if (this.shown !== this.box.notice) {
      this.shown = this.box.notice;
      this.alert.replaceChildren();
      this.alert.hidden = !this.shown;
      if (this.shown) {
        this.alert.append(
          el("span", {}, el("strong", {}, this.shown.text), " ", this.shown.hint),
          el("button", { type: "button", class: "quiet", "aria-label": "Close this message", onclick: () => this.dismiss() }, icon(ICONS.remove)),
        );
      }
    }
  }

  say(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  dismiss() {
    this.box.notice = null;
    this.box.tell();
    this.focusCell();
  }

  paintCell(id, index) {
    const p = this.cells.get(id);
    const item = this.items.get(id);
    const label = this.box.label(id);
    const pending = this.box.pending(id);
    const by = pending ? null : this.box.known.get(id)?.by;
    const differs = Boolean(item.predicted && label && item.predicted !== label);
    const sure = item.confidence === undefined || item.confidence === null ? "" : percent(item.confidence);
    p.badge.hidden = !label;
    this.say(p.text, label ?? "");
    p.badge.title = label ?? "";
    const color = this.colors.get(label) ?? "var(--st-gray-color)";
    if (p.color !== color) p.dot.style.setProperty("--dot", (p.color = color));
    p.badge.classList.toggle("pending", pending);
    this.say(p.split, by ? `by ${by}` : ({ validation: "val" }[item.split] ?? item.split ?? ""));
    p.split.title = by ? `${by} set this label` : (item.split ?? "");
    p.cell.classList.toggle("refused", Boolean(by));
    p.cell.classList.toggle("differs", differs);
    const showChip = Boolean(item.predicted) && (differs || !label) && this.data.caption !== "prediction";
    p.chip.hidden = !showChip;
    if (showChip) this.say(p.chip, `${item.predicted} ${sure}`.trim());
    const sub = { name: item.name ?? "", prediction: item.predicted ? `${item.predicted} ${sure}`.trim() : "" }[this.data.caption] ?? "";
    this.say(p.sub, sub);
    p.sub.title = sub;
    const words = [item.alt || item.name || id, label ? `labelled ${label}` : "no label"];
    if (pending) words.push("not saved yet");
    if (item.predicted) words.push(`${differs ? "the model disagrees: " : "predicted "}${item.predicted} ${sure}`.trim());
    if (item.split) words.push(item.split);
    const name = words.join(", ");
    if (p.name !== name) p.cell.setAttribute("aria-label", (p.name = name));
    const role = this.editable ? "option" : "button";
    if (p.role !== role) p.cell.setAttribute("role", (p.role = role));
    if (this.editable) p.cell.setAttribute("aria-selected", String(this.selected.has(id)));
    else p.cell.removeAttribute("aria-selected");
    p.cell.tabIndex = index === this.current ? 0 : -1;
  }

  // The bar ------------------------------------------------------------------------------------

  buildBar() {
    this.bar.hidden = !this.editable;
    const sign = JSON.stringify([this.editable, this.data.classes]);
    if (this.sign === sign) return;
    this.sign = sign;
    this.bar.replaceChildren();
    if (!this.editable) return;
    const classes = this.data.classes;
    const shown = classes.length > 12 ? classes.slice(0, 9) : classes;
    const buttons = shown.map((c, i) => {
      const key = this.keyOf(i);
      const dot = el("span", { class: "dot" });
      dot.style.setProperty("--dot", c.color ?? "var(--st-gray-color)");
      return el(
        "button",
        { type: "button", class: "class", "data-label": c.name, title: `Label the selection “${c.name}” (${key})`, "aria-keyshortcuts": key.replace("⇧", "Shift+"), onclick: (e) => this.press(e, () => this.assign(c.name)) },
        dot,
        el("span", { class: "text" }, c.name),
        el("kbd", { "aria-hidden": "true" }, key),
      );
    });
    const tool = (name, path, label, key, act, text) =>
      el("button", { type: "button", class: `tool ${name}`, title: `${label} (${key})`, "aria-label": label, onclick: (e) => this.press(e, act) }, icon(path), ...(text ? [el("span", { class: "text" }, text)] : []));
    const more = shown.length < classes.length && el("select", { class: "more", "aria-label": "More classes" }, el("option", { value: "" }, `${classes.length - shown.length} more…`), ...classes.slice(shown.length).map((c, i) => el("option", { value: String(i + shown.length) }, `${c.name}${this.keyOf(i + shown.length) && `  (${this.keyOf(i + shown.length)})`}`)));
    if (more) {
      more.addEventListener("change", () => {
        const chosen = classes[Number(more.value)];
        if (more.value !== "" && chosen) this.assign(chosen.name);
        more.value = "";
        this.focusCell();
      });
    }
    const size = el("input", { type: "range", class: "size", min: "64", max: "256", step: "8", value: String(this.size), "aria-label": "Thumbnail size" });
    size.addEventListener("input", () => {
      this.size = Number(size.value);
      this.root.style.setProperty("--size", `${this.size}px`);
      remembered(`size.${this.data.key}`, String(this.size));
    });
    size.addEventListener("pointerup", () => this.focusCell());
    const blur = tool("blur", ICONS.blur, "Blur all pictures", "b", () => this.toggleBlur());
    blur.setAttribute("aria-pressed", String(this.blurred));
    const undo = tool("undo", ICONS.undo, "Undo the last labelling", mac ? "⌘Z" : "Ctrl+Z", () => this.box.undo(this.target), "Undo");
    this.parts = {
      count: el("span", { class: "count", role: "status" }),
      unsaved: el("span", { class: "unsaved", role: "status" }),
      undo,
      blur,
      more: more || null,
    };
    this.bar.append(
      el("div", { class: "state" }, this.parts.count, this.parts.unsaved),
      el("div", { class: "classes" }, ...buttons, ...(more ? [more] : [])),
      el(
        "div",
        { class: "tools" },
        tool("remove", ICONS.remove, "Remove the label", "Backspace", () => this.assign(null), "Remove label"),
        undo,
        el("label", { class: "sizes", title: "Thumbnail size" }, icon(ICONS.small), size, icon(ICONS.large)),
        blur,
        tool("keys", ICONS.keys, "Show the keys", "?", () => this.showKeys()),
      ),
    );
  }

  keyOf(index) {
    return this.data.classes[index].key ?? "";
  }

  // A click with the mouse gives the focus back to the pictures; a key press leaves it on the button.
  press(event, act) {
    if (event.currentTarget.getAttribute("aria-disabled") === "true") return;
    act();
    if (event.detail > 0 && !this.sheet.open) this.focusCell();
  }

  toggleBlur() {
    this.blurred = !this.blurred;
    remembered("blur", this.blurred ? "1" : "0");
    this.root.classList.toggle("blurred", this.blurred);
    this.parts?.blur.setAttribute("aria-pressed", String(this.blurred));
  }

  showKeys() {
    const rows = this.editable
      ? [
          ["1 … 9, 0", "give the selection class 1 … 10"],
          ...(this.data.classes.length > 10 ? [["Shift + 1 … 0", "class 11 … 20"]] : []),
          ["Backspace", "remove the label"],
          [mac ? "⌘ Z" : "Ctrl Z", "undo the last labelling"],
          ["Arrows", "go to the next picture and select it"],
          ["Shift + arrows", "extend the selection"],
          ["x", "add or drop this picture; arrows then only move"],
          [mac ? "⌘ A" : "Ctrl A", "select all on this page"],
          ["Escape", "select none"],
          ["Enter", "open the picture"],
          ["b", "blur all pictures"],
          ["Touch", "tap selects, hold selects up to here"],
        ]
      : [
          ["Arrows", "go to the next picture"],
          ["Enter", "open the picture"],
          ["b", "blur all pictures"],
        ];
    const close = el("button", { type: "button", class: "tool", onclick: () => this.sheet.close() }, "Close");
    this.sheet.replaceChildren(
      el("h2", {}, "Keys"),
      el("dl", {}, ...rows.flatMap(([key, what]) => [el("dt", {}, key), el("dd", {}, what)])),
      close,
    );
    this.sheet.showModal();
    close.focus();
  }

  // What a person does -------------------------------------------------------------------------

  assign(label) {
    this.box.apply(this.order.filter((id) => this.selected.has(id)), label, this.target);
  }

  open(id) {
    this.fire("open", id);
  }

  changed() {
    clearTimeout(this.changing);
    this.changing = setTimeout(() => this.fire("changed", ++this.counter), CHANGED_MS);
  }

  focusCell() {
    const parts = this.cells.get(this.order[this.current]);
    if (!parts) return;
    parts.cell.focus({ preventScroll: true });
    this.reveal(parts.cell);
  }

  // Into view, and out from under the bar that stays at the top.
  reveal(cell) {
    cell.style.scrollMarginTop = `${this.bar.hidden ? 80 : this.bar.getBoundingClientRect().height + 72}px`;
    cell.scrollIntoView({ block: "nearest" });
  }

  range(to, keep) {
    if (!keep) this.selected.clear();
    const [a, b] = [Math.min(this.anchor, to), Math.max(this.anchor, to)];
    for (let i = a; i <= b; i++) this.selected.add(this.order[i]);
  }

  toggle(id) {
    if (!this.selected.delete(id)) this.selected.add(id);
    this.gathering = this.selected.size > 0;
    this.follows = false;
  }

  only(index) {
    this.selected.clear();
    if (this.order[index] !== undefined) this.selected.add(this.order[index]);
    this.anchor = index;
    this.gathering = this.follows = false;
  }

  onClick(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const id = cell.dataset.id;
    const index = this.order.indexOf(id);
    this.current = index;
    if (this.held) {
      this.held = false;
    } else if (event.target.closest(".open") || !this.editable) {
      this.open(id);
    } else if (event.shiftKey) {
      this.range(index, event.ctrlKey || event.metaKey);
      this.gathering = this.follows = false;
    } else if (event.ctrlKey || event.metaKey || event.pointerType === "touch") {
      this.toggle(id);
      this.anchor = index;
    } else {
      this.only(index);
    }
    this.paint();
    cell.focus({ preventScroll: true });
  }

  onHold(event) {
    clearTimeout(this.hold);
    this.held = false;
    const cell = event.target.closest(".cell");
    if (!cell || !this.editable || event.pointerType !== "touch") return;
    this.hold = setTimeout(() => {
      this.held = true;
      this.current = this.order.indexOf(cell.dataset.id);
      this.range(this.current, true);
      this.gathering = true;
      this.paint();
    }, 450);
  }

  move(event, step) {
    const to = Math.max(0, Math.min(this.order.length - 1, this.current + step));
    this.current = to;
    if (this.editable) {
      if (event.shiftKey) {
        this.range(to, false);
        this.gathering = this.follows = false;
      } else if (!event.ctrlKey && !event.metaKey && !this.gathering) {
        this.only(to);
        this.follows = true;
      }
    }
    this.paint();
    this.focusCell();
  }

  columns() {
    return Math.max(1, getComputedStyle(this.grid).gridTemplateColumns.split(" ").length);
  }

  onKey(event) {
    const from = event.composedPath()[0];
    if (from instanceof Element && from.closest("input, select, textarea, dialog")) return;
    if (event.isComposing || event.altKey) return;
    if (this.handle(event, from instanceof Element && Boolean(from.closest("button")))) {
      event.preventDefault();
      event.stopPropagation();
      lastUsed = this;
    }
  }

  handle(event, onButton) {
    const command = event.ctrlKey || event.metaKey;
    const key = event.key;
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    const rows = { ArrowUp: -1, ArrowDown: 1, PageUp: -3, PageDown: 3 };
    if (key in steps) return this.move(event, steps[key]), true;
    if (key in rows) {
      const step = rows[key] * this.columns();
      const to = this.current + step;
      if (key.startsWith("Arrow") && (to < 0 || to >= this.order.length)) return true;
      return this.move(event, step), true;
    }
    if (!command && key === "?") return this.showKeys(), true;
    if (!command && key === "b") return this.toggleBlur(), true;
    const id = this.order[this.current];
    if (!this.editable) {
      if ((key === "Enter" || key === " ") && !onButton && id) return this.open(id), true;
      return false;
    }
    if (command) {
      if (key.toLowerCase() === "a" && !event.shiftKey) {
        this.order.forEach((each) => this.selected.add(each));
        this.gathering = true;
        return this.paint(), true;
      }
      if (key.toLowerCase() === "z" && !event.shiftKey) return this.box.undo(this.target), true;
      return false;
    }
    if (key === "Enter" && !onButton && id) return this.open(id), true;
    if (key === "Escape") {
      const something = this.selected.size || this.box.notice;
      this.selected.clear();
      this.gathering = this.follows = false;
      this.box.notice = null;
      return this.paint(), Boolean(something);
    }
    if ((key === "x" || (key === " " && !onButton)) && id) {
      // One that only followed the arrows is kept: gathering begins with it.
      if (this.follows && this.selected.has(id)) [this.follows, this.gathering] = [false, true];
      else this.toggle(id);
      this.anchor = this.current;
      return this.paint(), true;
    }
    if (key === "Backspace" || key === "Delete") return this.assign(null), true;
    const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
    if (digit) {
      const chosen = this.data.classes.find((c) => c.key === (event.shiftKey ? "⇧" : "") + digit[1]);
      if (chosen) this.assign(chosen.name);
      return true;
    }
    return false;
  }

  end() {
    this.box?.views.delete(this);
    clearTimeout(this.changing);
    clearTimeout(this.prefetching);
    clearTimeout(this.hold);
    if (this.sheet.open) this.sheet.close();
    if (lastUsed === this) lastUsed = null;
  }
}

export default function (component) {
  const parent = component.parentElement;
  let view = views.get(parent);
  if (!view) views.set(parent, (view = new View(parent)));
  view.update(component);
  return () => {
    view.end();
    views.delete(parent);
  };
}
