// What fingers, the mouse and its wheel do on a drawing that can be moved and zoomed, and the long press.

const HOLD_MS = 450;
const TIP_MS = 1800;

/** @typedef {[x: number, y: number]} Point in pixels of the node */

// The pointers that are down on a node.
export class Pointers {
  /** @param {Element} node */
  constructor(node) {
    this.node = node;
    /** @type {Map<number, Point>} */
    this.down = new Map();
  }

  get size() {
    return this.down.size;
  }

  /** @param {{ clientX: number, clientY: number }} event @returns {Point} */
  at(event) {
    const box = this.node.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** Notes where the pointer is. @param {PointerEvent} event */
  set(event) {
    this.down.set(event.pointerId, this.at(event));
  }

  /** Where it was when noted last. @param {PointerEvent} event */
  last(event) {
    return this.down.get(event.pointerId);
  }

  /** @param {PointerEvent} event */
  delete(event) {
    this.down.delete(event.pointerId);
  }

  // How far apart the first two are, and the place between them.
  spread() {
    const [a, b] = [...this.down.values()];
    return { wide: Math.hypot(a[0] - b[0], a[1] - b[1]), x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2 };
  }

  /** One of two fingers moved: how far their middle came, and by how much they spread. @param {PointerEvent} event */
  pinch(event) {
    const before = this.spread();
    this.set(event);
    const { wide, x, y } = this.spread();
    return { dx: x - before.x, dy: y - before.y, by: wide / Math.max(1, before.wide), x, y };
  }
}

/**
 * By how much a turn of the wheel enlarges; two fingers on a touchpad arrive as a turn with Ctrl.
 * @param {{ deltaY: number, deltaMode: number, ctrlKey: boolean }} event
 */
export function wheelFactor({ deltaY, deltaMode, ctrlKey }) {
  const delta = Math.max(-240, Math.min(240, deltaY * (deltaMode === 1 ? 16 : 1))); // lines of 16 pixels
  return Math.exp(-delta * (ctrlKey ? 0.006 : 0.002));
}

// Shown for a moment where the wheel scrolls the page over a drawing that has not the focus.
export class Tip {
  /** @param {HTMLElement} node */
  constructor(node) {
    this.node = node;
    node.hidden = true;
  }

  show() {
    this.hide();
    this.node.hidden = false;
    this.timer = setTimeout(() => this.hide(), TIP_MS);
  }

  hide() {
    clearTimeout(this.timer);
    this.node.hidden = true;
  }
}

// A finger that rests on something does another thing than one that taps it.
export class Hold {
  /**
   * @param {HTMLElement} node
   * @param {(event: PointerEvent) => ((() => void) | null)} wanted what a long press here does
   */
  constructor(node, wanted) {
    this.held = false;
    node.addEventListener("pointerdown", (event) => {
      this.stop();
      this.held = false;
      const act = event.pointerType === "touch" ? wanted(event) : null;
      if (!act) return;
      this.timer = setTimeout(() => {
        this.held = true;
        act();
      }, HOLD_MS);
    });
    for (const end of ["pointerup", "pointercancel", "pointerleave", "scroll"]) node.addEventListener(end, () => this.stop());
    node.addEventListener("contextmenu", (event) => this.held && event.preventDefault());
  }

  // Whether the click that comes now is only the end of a long press.
  taken() {
    const { held } = this;
    this.held = false;
    return held;
  }

  stop() {
    clearTimeout(this.timer);
  }
}
