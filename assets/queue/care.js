// What a person set for their own comfort, and what they saw today: kept in this browser, told to nobody.

const BREAK_MS = 5 * 60000; // without a decision: that was a pause

/** @typedef {"blur" | "grey" | "small"} Effect */
/** @typedef {{ classes: Record<string, Effect[]>, without: string[], pause: number }} Chosen pause: minutes, 0 for none */
/** @typedef {{ day: string, seen: Record<string, number>, clear: number }} Day clear: how many that this veiled were looked at clearly */
/** @typedef {{ get: (name: string) => string | null, set: (name: string, value: string) => void }} Store */

/** @type {Effect[]} */
export const EFFECTS = ["blur", "grey", "small"];
export const UNTOLD = "without the network's answer";

export class Care {
  /** @type {Chosen} */
  chosen = { classes: {}, without: [], pause: 0 };
  since = 0; // when this stretch of work began, in ms
  lately = 0;

  /** @param {string} person @param {Store} store */
  constructor(person, store) {
    this.person = person;
    this.store = store;
    this.chosen = { ...this.chosen, ...this.read("care", {}) };
  }

  /** @param {string} what @param {any} otherwise */
  read(what, otherwise) {
    try {
      return JSON.parse(this.store.get(`${what}.${this.person}`) ?? "") ?? otherwise;
    } catch {
      return otherwise;
    }
  }

  save() {
    this.store.set(`care.${this.person}`, JSON.stringify(this.chosen));
  }

  /** @param {string} name @param {Effect} effect @param {boolean} on */
  set(name, effect, on) {
    const others = (this.chosen.classes[name] ?? []).filter((one) => one !== effect);
    this.chosen.classes[name] = on ? [...others, effect] : others;
    if (!this.chosen.classes[name].length) delete this.chosen.classes[name];
    this.save();
  }

  /** @param {string} name @param {boolean} out */
  leaveOut(name, out) {
    const others = this.chosen.without.filter((one) => one !== name);
    this.chosen.without = out ? [...others, name].sort() : others;
    this.save();
  }

  /** @param {number} minutes */
  remind(minutes) {
    this.chosen.pause = Math.max(0, Math.min(600, Math.round(minutes) || 0));
    this.save();
  }

  /** The classes whose pictures this browser must not keep. */
  get unstored() {
    return Object.keys(this.chosen.classes).sort();
  }

  /**
   * How a picture is shown; one whose class is not told, as all that are chosen: else its look would tell.
   * @param {string | null} name @returns {Effect[]}
   */
  effects(name) {
    if (name !== null) return this.chosen.classes[name] ?? [];
    return EFFECTS.filter((effect) => Object.values(this.chosen.classes).some((some) => some.includes(effect)));
  }

  // What was seen today, and for how long --------------------------------------------------------------

  /** @param {string} name of the class, or UNTOLD @param {Date} now */
  saw(name, now) {
    const today = this.today(now);
    today.seen[name] = (today.seen[name] ?? 0) + 1;
    this.keep(today);
    const at = now.getTime();
    if (at - this.lately > BREAK_MS) this.since = at;
    this.lately = at;
  }

  /** One that was veiled is looked at clearly. @param {Date} now */
  revealed(now) {
    const today = this.today(now);
    today.clear += 1;
    this.keep(today);
  }

  /** @param {Day} today */
  keep(today) {
    this.store.set(`seen.${this.person}`, JSON.stringify(today));
  }

  /** @param {Date} now @returns {Day} */
  today(now) {
    const day = `${now.getFullYear()}-${now.getMonth() + 1}-${now.getDate()}`;
    const kept = this.read("seen", null);
    return { day, seen: {}, clear: 0, ...(kept?.day === day ? kept : {}) };
  }

  /** Minutes of work without a pause, once they are as many as the person chose; else 0. @param {Date} now */
  due(now) {
    if (!this.chosen.pause || !this.since || now.getTime() - this.lately > BREAK_MS) return 0;
    const minutes = (now.getTime() - this.since) / 60000;
    return minutes >= this.chosen.pause ? Math.floor(minutes) : 0;
  }

  /** The stretch begins anew. @param {Date} now */
  rested(now) {
    this.since = now.getTime();
  }
}
