// A visit: which pictures, in which order, what was decided.

const visits = new Map(); // "dataset key" -> Visit: outlives a walk to another page

export class Visit {
  static of(key, dataset) {
    const name = `${dataset} ${key}`;
    if (!visits.has(name)) visits.set(name, new Visit());
    return visits.get(name);
  }

  constructor() {
    this.items = new Map();
    this.first = new Map(); // image id -> the label it came with
    this.order = []; // skipped ones last
    this.handled = new Set();
    this.skipped = new Set();
    this.back = new Set(); // refused: to be decided again, though somebody else has labelled them
    this.refusals = new Map(); // image id -> seq of the refusal already told
    this.decisions = []; // image ids, newest first
    this.chosen = new Map(); // image id -> the label decided
    this.touched = new Map(); // image id -> was it labelled when Python last counted
    this.current = null;
  }

  // Another mount of the same view: what Python gives now is the order; the picture looked at stays.
  restart(items) {
    this.order = [];
    this.handled.clear();
    this.back.clear();
    this.add(items.filter((item) => !this.skipped.has(item.id)));
    this.add(items.filter((item) => this.skipped.has(item.id)));
    if (!this.order.includes(this.current)) this.current = null;
  }

  refresh(items) {
    for (const item of items) if (this.items.has(item.id)) this.items.set(item.id, item);
  }

  // New ones come before those skipped; answers how many were new.
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

  decide(id, label) {
    this.handled.add(id);
    this.chosen.set(id, label);
    this.back.delete(id);
    this.skipped.delete(id);
    this.decisions = this.decisions.filter((each) => each !== id);
    this.decisions.unshift(id);
  }

  undecide(id) {
    this.handled.delete(id);
    this.decisions = this.decisions.filter((each) => each !== id);
  }

  move(id, after) {
    this.order = this.order.filter((each) => each !== id);
    this.order.splice(after === undefined ? this.order.length : this.order.indexOf(after) + 1, 0, id);
  }
}
