// A visit: which pictures, in which order, what was decided.

/** @typedef {import("../common/outbox.js").Item & { url: string, thumb?: string, split?: string, note?: string, pixelated?: boolean, predicted?: string, confidence?: number | null }} Item */

/** @type {Map<string, Visit>} */
const visits = new Map(); // "dataset key" -> Visit: outlives a walk to another page

export class Visit {
  /** @param {string} key @param {number} dataset */
  static of(key, dataset) {
    const name = `${dataset} ${key}`;
    const visit = visits.get(name) ?? new Visit();
    visits.set(name, visit);
    return visit;
  }

  constructor() {
    /** @type {Map<string, Item>} */
    this.items = new Map();
    /** @type {Map<string, string | null>} the label an image came with */
    this.first = new Map();
    /** @type {string[]} skipped ones last */
    this.order = [];
    /** @type {Set<string>} */
    this.handled = new Set();
    /** @type {Set<string>} */
    this.skipped = new Set();
    /** @type {Set<string>} refused: to be decided again, though somebody else has labelled them */
    this.back = new Set();
    /** @type {Map<string, number>} the seq of the refusal already told */
    this.refusals = new Map();
    /** @type {string[]} newest first */
    this.decisions = [];
    /** @type {Map<string, string | null>} the label decided */
    this.chosen = new Map();
    /** @type {Map<string, boolean>} was it labelled when Python last counted */
    this.touched = new Map();
    /** @type {string | null} */
    this.current = null;
  }

  /** Another mount of the same view: what Python gives now is the order; the picture looked at stays. @param {Item[]} items */
  restart(items) {
    this.order = [];
    this.handled.clear();
    this.back.clear();
    this.add(items.filter((item) => !this.skipped.has(item.id)));
    this.add(items.filter((item) => this.skipped.has(item.id)));
    if (!this.current || !this.order.includes(this.current)) this.current = null;
  }

  /** @param {Item[]} items */
  refresh(items) {
    for (const item of items) if (this.items.has(item.id)) this.items.set(item.id, item);
  }

  /** New ones come before those skipped; answers how many were new. @param {Item[]} items */
  add(items) {
    const present = new Set(this.order);
    const fresh = items.filter((item) => !present.has(item.id) && !this.handled.has(item.id));
    for (const item of fresh) {
      this.items.set(item.id, item);
      this.first.set(item.id, item.label ?? null);
    }
    let at = this.order.length;
    while (at && this.skipped.has(this.order[at - 1]) && this.order[at - 1] !== this.current) at -= 1;
    const ids = fresh.map((item) => item.id);
    if (ids.length && this.skipped.has(ids[0])) at = this.order.length;
    this.order.splice(at, 0, ...ids);
    return fresh.length;
  }

  /** One that was given. @param {string} id @returns {Item} */
  item(id) {
    return /** @type {Item} */ (this.items.get(id));
  }

  /** @param {string | null} id the place in the order, -1 for none */
  index(id) {
    return id === null ? -1 : this.order.indexOf(id);
  }

  /** @param {string} id @param {string | null} label */
  decide(id, label) {
    this.handled.add(id);
    this.chosen.set(id, label);
    this.back.delete(id);
    this.skipped.delete(id);
    this.decisions = this.decisions.filter((each) => each !== id);
    this.decisions.unshift(id);
  }

  /** @param {string} id */
  undecide(id) {
    this.handled.delete(id);
    this.decisions = this.decisions.filter((each) => each !== id);
  }

  /** After another one, at the very front (null) or at the end. @param {string} id @param {string | null} [after] */
  move(id, after) {
    this.order = this.order.filter((each) => each !== id);
    this.order.splice(after === undefined ? this.order.length : after === null ? 0 : this.order.indexOf(after) + 1, 0, id);
  }
}
