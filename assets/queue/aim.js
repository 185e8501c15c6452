// Which picture a key was meant for: the one that was on the screen long enough to be seen.

export const SEEN_MS = 150;
const AFTER_MS = 250; // a key this soon after a decision was still meant for what was decided

/** @typedef {{ id: number, at: number }} Seen since when it has been painted, in ms */

export class Aim {
  /** @type {Seen | null} */
  now = null;
  /** @type {number | null} the one decided before it */
  before = null;
  left = -Infinity; // when that was decided

  /** A picture has been painted. @param {number} id @param {number} at */
  shown(id, at) {
    if (this.now?.id !== id) this.now = { id, at };
  }

  /** It was decided, and makes way for the next. @param {number} id @param {number} at */
  decided(id, at) {
    this.before = id;
    this.left = at;
    this.now = null;
  }

  /** It went without a decision. */
  clear() {
    this.now = null;
    this.before = null;
    this.left = -Infinity;
  }

  /**
   * The picture that a key pressed at that time was meant for; null: of none that was seen.
   * @param {number} at
   */
  of(at) {
    if (this.now && at - this.now.at >= SEEN_MS) return this.now.id;
    if (this.before !== null && (this.now ? this.now.at - this.left < AFTER_MS : at - this.left < AFTER_MS)) return this.before;
    return null;
  }
}
