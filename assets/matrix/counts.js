// What is counted in a confusion matrix, and the orders its classes can stand in.

/** @typedef {{ classes: string[], rows: number[], columns: number[], counts: number[] }} Counted the cells that hold images */

export class Counts {
  /** @param {Counted} given */
  constructor({ classes, rows, columns, counts }) {
    this.classes = classes;
    this.size = classes.length;
    this.rows = Uint16Array.from(rows);
    this.columns = Uint16Array.from(columns);
    this.counts = Uint32Array.from(counts);
    this.actual = new Uint32Array(this.size);
    this.given = new Uint32Array(this.size);
    this.right = new Uint32Array(this.size);
    this.at = new Map();
    this.n = 0;
    this.wrong = 0;
    for (let i = 0; i < this.counts.length; i++) {
      const [row, column, n] = [this.rows[i], this.columns[i], this.counts[i]];
      this.at.set(row * this.size + column, n);
      this.actual[row] += n;
      this.given[column] += n;
      this.n += n;
      if (row === column) this.right[row] = n;
      else this.wrong += n;
    }
  }

  /** @param {number} row @param {number} column */
  count(row, column) {
    return this.at.get(row * this.size + column) ?? 0;
  }

  /** @param {number} row @param {number} column */
  share(row, column) {
    return this.actual[row] ? this.count(row, column) / this.actual[row] : 0;
  }

  /** @param {number} i */
  errors(i) {
    return this.actual[i] + this.given[i] - 2 * this.right[i];
  }

  /** @param {string} sort @param {boolean} hide */
  order(sort, hide) {
    const all = Array.from({ length: this.size }, (_, i) => i);
    if (sort === "name") all.sort((a, b) => this.classes[a].localeCompare(this.classes[b], "en", { numeric: true }));
    if (sort === "errors") all.sort((a, b) => this.errors(b) - this.errors(a) || a - b);
    const found = sort === "similarity" ? this.chained() : all;
    return hide ? found.filter((i) => this.errors(i) > 0) : found;
  }

  // Greedy: the two classes most often taken for each other are joined first, at the ends of the chains there are so far;
  // then chain follows chain, the one with the strongest join first, and classes without a mistake come last.
  chained() {
    const joins = new Map();
    for (let i = 0; i < this.counts.length; i++) {
      const [a, b] = [this.rows[i], this.columns[i]];
      if (a === b) continue;
      const key = Math.min(a, b) * this.size + Math.max(a, b);
      joins.set(key, (joins.get(key) ?? 0) + this.counts[i] / this.actual[a]);
    }
    const sorted = [...joins].sort((x, y) => y[1] - x[1] || x[0] - y[0]);
    /** @type {number[][]} */
    const beside = Array.from({ length: this.size }, () => []);
    const group = Array.from({ length: this.size }, (_, i) => i);
    const root = (/** @type {number} */ i) => {
      while (group[i] !== i) i = group[i] = group[group[i]];
      return i;
    };
    const firsts = [];
    for (const [key] of sorted) {
      const [a, b] = [Math.floor(key / this.size), key % this.size];
      if (beside[a].length > 1 || beside[b].length > 1 || root(a) === root(b)) continue;
      group[root(a)] = root(b);
      beside[a].push(b);
      beside[b].push(a);
      firsts.push(a);
    }
    const placed = new Uint8Array(this.size);
    /** @type {number[]} */
    const found = [];
    const walk = (/** @type {number | undefined} */ at) => {
      while (at !== undefined) {
        placed[at] = 1;
        found.push(at);
        at = beside[at].find((next) => !placed[next]);
      }
    };
    for (const a of firsts) {
      if (placed[a]) continue;
      let [end, before] = [a, -1]; // an end of a's chain
      for (let next; (next = beside[end].find((i) => i !== before)) !== undefined; ) [before, end] = [end, next];
      walk(end);
    }
    for (let i = 0; i < this.size; i++) if (!placed[i] && this.errors(i)) walk(i);
    for (let i = 0; i < this.size; i++) if (!placed[i]) walk(i);
    return found;
  }
}

/** Of the images of a row: what is almost nothing or almost all does not read as nothing or all. @param {number} share */
export const percent = (share) => `${share > 0 && share < 0.005 ? "<1" : share < 1 && share > 0.995 ? ">99" : Math.round(share * 100)}%`;
