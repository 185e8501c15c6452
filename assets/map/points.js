// The points of a map: where they lie, which one is under the pointer and which are inside a lasso.

/** @typedef {"label" | "predicted" | "split" | "answer"} Coding */
/**
 * What the route answers: the names of a coding once, and for each point the place of its name, -1 for none.
 * @typedef {{
 *   ids: string[], x: number[], y: number[], labels: string[], splits: string[], answers?: string[],
 *   label: number[], predicted: number[], split: number[], answer?: number[] }} Answer
 */

export const SIDE = 4096; // of the square the points lie in
const CELL = 32; // of the grid that finds the point under the pointer
const CELLS = SIDE / CELL;

export class Points {
  /** @param {Answer} answer */
  constructor(answer) {
    this.ids = answer.ids;
    this.n = answer.ids.length;
    this.x = Uint16Array.from(answer.x);
    this.y = Uint16Array.from(answer.y);
    /** @type {Record<Coding, string[]>} */
    this.named = { label: answer.labels, predicted: answer.labels, split: answer.splits, answer: answer.answers ?? [] };
    /** @type {Record<Coding, number[]>} */
    this.code = { label: answer.label, predicted: answer.predicted, split: answer.split, answer: answer.answer ?? [] };
    // Shuffled, the same each time: in the order of a list the last class would cover the others.
    this.order = Uint32Array.from({ length: this.n }, (_, i) => i);
    let seed = 1;
    for (let i = this.n - 1; i > 0; i--) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const j = seed % (i + 1);
      [this.order[i], this.order[j]] = [this.order[j], this.order[i]];
    }
    let [left, top, right, bottom] = [SIDE, SIDE, 0, 0];
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < this.n; i++) {
      this.starts[this.cell(this.x[i], this.y[i]) + 1] += 1;
      left = Math.min(left, this.x[i]);
      right = Math.max(right, this.x[i]);
      top = Math.min(top, this.y[i]);
      bottom = Math.max(bottom, this.y[i]);
    }
    this.box = this.n ? { left, top, right, bottom } : { left: 0, top: 0, right: SIDE, bottom: SIDE };
    for (let c = 0; c < CELLS * CELLS; c++) this.starts[c + 1] += this.starts[c];
    const next = this.starts.slice();
    this.inside = new Uint32Array(this.n);
    for (let i = 0; i < this.n; i++) this.inside[next[this.cell(this.x[i], this.y[i])]++] = i;
  }

  /** @param {number} x @param {number} y */
  cell(x, y) {
    return (y >> 5) * CELLS + (x >> 5); // 32 units
  }

  /** @param {number} x @param {number} y @param {number} reach */
  nearest(x, y, reach) {
    const range = (/** @type {number} */ v) => [Math.max(0, Math.floor((v - reach) / CELL)), Math.min(CELLS - 1, Math.floor((v + reach) / CELL))];
    const [x0, x1] = range(x);
    const [y0, y1] = range(y);
    let best = -1;
    let least = reach * reach;
    for (let row = y0; row <= y1; row++) {
      for (let at = this.starts[row * CELLS + x0]; at < this.starts[row * CELLS + x1 + 1]; at++) {
        const i = this.inside[at];
        const far = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
        if (far <= least) [best, least] = [i, far];
      }
    }
    return best;
  }

  /** @param {[x: number, y: number][]} path */
  within(path) {
    const [xs, ys] = [path.map((p) => p[0]), path.map((p) => p[1])];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const found = [];
    for (let i = 0; i < this.n; i++) {
      const [x, y] = [this.x[i], this.y[i]];
      if (x < left || x > right || y < top || y > bottom) continue;
      let inside = false;
      for (let a = 0, b = path.length - 1; a < path.length; b = a++) {
        if (ys[a] > y !== ys[b] > y && x < ((xs[b] - xs[a]) * (y - ys[a])) / (ys[b] - ys[a]) + xs[a]) inside = !inside;
      }
      if (inside) found.push(i);
    }
    return found;
  }
}
