// What the events route has sent of a run so far, put together for drawing.

export const MOST_POINTS = 2000; // of a curve; then neighbours become one
export const MOST_ANSWERS = 200; // epochs to step back through; then every second one goes

/** @typedef {{ step: number, x: number, loss: number, accuracy: number, rate: number | null, speed: number }} Point x in epochs */
/** @typedef {{ epoch: number, loss: number | null, accuracy: number | null }} End validation's figures after an epoch */
/** @typedef {[actual: number, predicted: number, images: number, share: number]} Cell share of its row */
/** @typedef {[id: string, actual: number, predicted: number, ofPredicted: number, ofActual: number]} Sample with two probabilities */
/**
 * What the network answers after an epoch.
 * @typedef {{ epoch: number, cells: Cell[], rows: number[], words: string, confused: string, samples: Sample[], sampled: string }} Answer
 */
/**
 * How the run stands.
 * @typedef {{
 *   status: "pending" | "queued" | "running" | "paused" | "succeeded" | "stopped" | "failed" | "lost", active: boolean,
 *   what: string, facts: string[], words: string, share: number, epochs: number, best: number | null,
 * }} Now
 */
/**
 * What was new.
 * @typedef {{
 *   back: { epoch: number, step: number } | null, points: [number, number, number, number, number | null, number][],
 *   ends: [number, number | null, number | null][], answers: Answer[], now: Now, next: number, more: boolean,
 * }} Part
 */

export class Curves {
  /** @type {Point[]} */
  points = [];
  /** @type {End[]} */
  ends = [];
  /** @type {Answer[]} */
  answers = [];
  /** @type {Now | null} */
  now = null;

  /** Whether it brought anything to draw. @param {Part} part */
  add({ back, points, ends, answers, now }) {
    if (back) {
      this.points = this.points.filter((p) => p.step <= back.step);
      this.ends = this.ends.filter((e) => e.epoch <= back.epoch);
      this.answers = this.answers.filter((a) => a.epoch <= back.epoch);
    }
    this.points = thinned([...this.points, ...points.map(([step, x, loss, accuracy, rate, speed]) => ({ step, x, loss, accuracy, rate, speed }))]);
    this.ends.push(...ends.map(([epoch, loss, accuracy]) => ({ epoch, loss, accuracy })));
    this.answers = everySecond([...this.answers, ...answers]);
    this.now = now;
    return back !== null || points.length + ends.length + answers.length > 0;
  }

  /** How far it has come, in epochs. */
  get x() {
    return this.points[this.points.length - 1]?.x ?? 0;
  }

  /** @returns {End | undefined} */
  get end() {
    return this.ends[this.ends.length - 1];
  }
}

/** Two neighbours become their mean, where the later one was, until few enough are left. @param {Point[]} points @param {number} most */
export function thinned(points, most = MOST_POINTS) {
  const mean = (/** @type {number} */ a, /** @type {number} */ b) => (a + b) / 2;
  let kept = points;
  while (kept.length > most) {
    kept = kept.flatMap((b, i, all) => {
      const a = all[i - 1];
      if (i % 2) return [{ ...b, loss: mean(a.loss, b.loss), accuracy: mean(a.accuracy, b.accuracy), speed: mean(a.speed, b.speed) }];
      return i === all.length - 1 ? [b] : [];
    });
  }
  return kept;
}

/** The newest stays. @template One @param {One[]} all @param {number} most @returns {One[]} */
export function everySecond(all, most = MOST_ANSWERS) {
  let kept = all;
  while (kept.length > most) kept = kept.filter((_, i, them) => i % 2 || i === them.length - 1);
  return kept;
}

/**
 * What the axis of epochs shows: the whole plan from the start, so that nothing jumps; of a long plan a half, a quarter …, while
 * that holds the curve with room to grow. What was trained, once it ended early.
 * @param {Curves} curves
 * @returns {[number, number]}
 */
export function span({ now, end, x }) {
  if (end && now && ["succeeded", "stopped", "failed"].includes(now.status)) return [0, end.epoch * 1.02];
  let last = now?.epochs || 1;
  while (last >= 40 && last / 2 > x * 1.25) last /= 2;
  return [0, last * 1.02];
}

/**
 * Whether the learning rate goes down by powers of ten; one that swings down to 0 at the very end is easier to read as it is.
 * @param {Point[]} points
 */
export function decades(points) {
  const rates = points.flatMap((p) => (p.rate !== null && p.rate > 0 ? [p.rate] : [])).sort((a, b) => a - b);
  return rates.length > 0 && rates[rates.length - 1] > 9.9 * rates[Math.floor(rates.length / 2)];
}

/** How dark a cell is, 0 to 1. The root lets a single mistake be seen. @param {number} share of its row @param {boolean} right */
export function shade(share, right) {
  if (!share) return 0;
  return right ? share : 0.25 + 0.75 * Math.sqrt(share);
}
