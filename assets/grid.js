// Thumbnails one can select, label and flag. Streamlit tells us the images; what a person does goes to the server's own
// route through the dataset's outbox, and what others do comes back the same way.

const { el, icon, say, ICONS, remembered, count, percent, mac, Outbox } = await import(new URL("/assets/shared.js", location.origin));

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
    const box = Outbox.of(data.dataset_id);
    if (this.box !== box) this.box?.leave(this);
    this.box = box;
    box.join(this, data);
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
    const slow = this.box.slow;
    say(this.parts.unsaved, slow ? `${count(this.box.ops.length, "change", "changes")} not saved yet` : "");
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
    this.box.dismiss();
    this.focusCell();
  }

  paintCell(id, index) {
    const p = this.cells.get(id);
    const item = this.items.get(id);
    const { label, pending, ...state } = this.box.state(id);
    const by = pending ? null : state.by;
    const differs = Boolean(item.predicted && label && item.predicted !== label);
    const sure = item.confidence === undefined || item.confidence === null ? "" : percent(item.confidence);
    p.badge.hidden = !label;
    say(p.text, label ?? "");
    p.badge.title = label ?? "";
    const color = this.colors.get(label) ?? "var(--st-gray-color)";
    if (p.color !== color) p.dot.style.setProperty("--dot", (p.color = color));
    p.badge.classList.toggle("pending", pending);
    say(p.split, by ? `by ${by}` : ({ validation: "val" }[item.split] ?? item.split ?? ""));
    p.split.title = by ? `${by} set this label` : (item.split ?? "");
    p.cell.classList.toggle("refused", Boolean(by));
    p.cell.classList.toggle("differs", differs);
    const showChip = Boolean(item.predicted) && (differs || !label) && this.data.caption !== "prediction";
    p.chip.hidden = !showChip;
    if (showChip) say(p.chip, `${item.predicted} ${sure}`.trim());
    const sub = { name: item.name ?? "", prediction: item.predicted ? `${item.predicted} ${sure}`.trim() : "" }[this.data.caption] ?? "";
    say(p.sub, sub);
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
    const undo = tool("undo", ICONS.undo, "Undo the last labelling", mac ? "⌘Z" : "Ctrl+Z", () => this.box.undo(), "Undo");
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
    this.box.apply("label", this.order.filter((id) => this.selected.has(id)), label);
  }

  open(id) {
    this.fire("open", id);
  }

  changed(wait) {
    clearTimeout(this.changing);
    this.changing = setTimeout(() => this.fire("changed", ++this.counter), wait);
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
      if (key.toLowerCase() === "z" && !event.shiftKey) return this.box.undo(), true;
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
    this.box?.leave(this);
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
