// What the live drawings compute; tests compare it with PyTorch and numpy.

/** @typedef {number[][]} Grid rows of numbers */
/** @typedef {[x: number, y: number]} Point */

/**
 * (W − F + 2P) / S + 1: how often the window fits, not rounded.
 * @param {number} width @param {number} window @param {number} padding @param {number} stride
 */
export const places = (width, window, padding, stride) => (width - window + 2 * padding) / stride + 1;

/** @param {Grid} image @param {number} padding */
export function padded(image, padding) {
  const width = image[0].length + 2 * padding;
  const rim = () => Array.from({ length: padding }, () => Array(width).fill(0));
  return [...rim(), ...image.map((row) => [...Array(padding).fill(0), ...row, ...Array(padding).fill(0)]), ...rim()];
}

/** @param {Grid} image @param {number} row @param {number} column @param {number} window */
export function patchAt(image, row, column, window) {
  return image.slice(row, row + window).map((line) => line.slice(column, column + window));
}

/**
 * As networks do it: the filter is not turned over (cross-correlation).
 * @param {Grid} image @param {Grid} filter @param {number} [stride] @param {number} [padding]
 */
export function convolve(image, filter, stride = 1, padding = 0) {
  const wide = padded(image, padding);
  const n = Math.floor(places(image.length, filter.length, padding, stride));
  const sum = (/** @type {Grid} */ patch) => patch.flat().reduce((total, value, i) => total + value * filter.flat()[i], 0);
  return Array.from({ length: n }, (_, r) => Array.from({ length: n }, (_, c) => sum(patchAt(wide, r * stride, c * stride, filter.length))));
}

/** @param {Grid} image @param {string} kind @param {number} [window] */
export function pool(image, kind, window = 2) {
  const n = Math.floor(image.length / window);
  const keep = (/** @type {number[]} */ values) => (kind === "max" ? Math.max(...values) : values.reduce((a, b) => a + b) / values.length);
  return Array.from({ length: n }, (_, r) => Array.from({ length: n }, (_, c) => keep(patchAt(image, r * window, c * window, window).flat())));
}

/**
 * One step down x², whose slope is 2x; the moving part as in torch.optim.SGD.
 * @param {{ x: number, velocity: number }} given @param {number} rate @param {number} momentum
 */
export function descend({ x, velocity }, rate, momentum) {
  const next = momentum * velocity + 2 * x;
  return { x: x - rate * next, velocity: next };
}

/**
 * By how much a step shrinks the distance in the long run: the larger root of r² − (1 + m − 2η) r + m = 0, in size.
 * @param {number} rate @param {number} momentum
 */
export function shrink(rate, momentum) {
  const b = 1 + momentum - 2 * rate;
  const d = b * b - 4 * momentum;
  return d < 0 ? Math.sqrt(momentum) : (Math.abs(b) + Math.sqrt(d)) / 2;
}

/** @param {number[]} logits @param {number} [temperature] */
export function softmax(logits, temperature = 1) {
  const most = Math.max(...logits);
  const powers = logits.map((z) => Math.exp((z - most) / temperature));
  const total = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / total);
}

/**
 * p: the probability of the right class; the others share the rest. Smoothing as in torch.nn.CrossEntropyLoss.
 * @param {number} p @param {number} [smoothing] @param {number} [classes]
 */
export function crossEntropy(p, smoothing = 0, classes = 10) {
  const each = smoothing / classes;
  const rest = each ? -(classes - 1) * each * Math.log((1 - p) / (classes - 1)) : 0;
  return -(1 - smoothing + each) * Math.log(p) + rest;
}

/** The error function to 1.2e-7 (Numerical Recipes, erfc by a Chebyshev fit). @param {number} x */
function erf(x) {
  const t = 1 / (1 + Math.abs(x) / 2);
  const c = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277];
  const tail = t * Math.exp(-x * x + c.reduceRight((sum, k) => sum * t + k, 0));
  return x >= 0 ? 1 - tail : tail - 1;
}

/** @param {number} x */
const logistic = (x) => 1 / (1 + Math.exp(-x));
/** @param {number} x */
const bell = (x) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
/** @param {number} x */
const below = (x) => (1 + erf(x / Math.SQRT2)) / 2;

/** Each answers [value, slope]. @type {Record<string, (x: number) => [number, number]>} */
export const ACTIVATIONS = {
  relu: (x) => [Math.max(0, x), x > 0 ? 1 : 0],
  gelu: (x) => [x * below(x), below(x) + x * bell(x)],
  tanh: (x) => [Math.tanh(x), 1 - Math.tanh(x) ** 2],
  sigmoid: (x) => [logistic(x), logistic(x) * (1 - logistic(x))],
};

/**
 * The learning rate of a step, as core/ml/fit.py sets it; all lengths in steps.
 * @param {string} kind @param {number} step @param {{ peak: number, total: number, warm: number, every: number, factor: number }} given
 */
export function scheduled(kind, step, { peak, total, warm, every, factor }) {
  /** @param {number} from @param {number} to @param {number} share */
  const wave = (from, to, share) => to + ((from - to) * (1 + Math.cos(Math.PI * share))) / 2;
  if (kind === "one_cycle") {
    const top = 0.25 * total - 1;
    if (step <= top) return wave(peak / 25, peak, step / top);
    return wave(peak, peak / 25 / 1e5, (step - top) / (total - 1 - top));
  }
  if (step < warm) return peak * (0.01 + (0.99 * step) / warm);
  const done = step - warm;
  if (kind === "cosine") return wave(peak, 0, done / (total - warm));
  if (kind === "step") return peak * factor ** Math.floor(done / every);
  return peak;
}

/** The polynomial of that degree nearest to the points (least squares), as a function. @param {Point[]} points @param {number} degree */
export function polynomial(points, degree) {
  const basis = (/** @type {number} */ x) => {
    const t = [1, x]; // Chebyshev: powers of x would lose the digits
    for (let i = 2; i <= degree; i++) t.push(2 * x * t[i - 1] - t[i - 2]);
    return t.slice(0, degree + 1);
  };
  const columns = Array.from({ length: degree + 1 }, (_, j) => points.map(([x]) => basis(x)[j]));
  const rest = points.map(([, y]) => y);
  /** @param {number[]} a @param {number[]} b */
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  /** @param {number[]} from @param {number[]} what @param {number} times */
  const take = (from, what, times) => from.forEach((_, i) => (from[i] -= times * what[i]));
  /** @type {number[][]} */
  const upper = []; // modified Gram-Schmidt: column j = Σ upper[k][j] · unit k
  const sides = [];
  for (let j = 0; j <= degree; j++) {
    const length = Math.sqrt(dot(columns[j], columns[j]));
    columns[j] = columns[j].map((value) => value / length);
    upper[j] = Array(degree + 1).fill(0);
    upper[j][j] = length;
    for (let k = j + 1; k <= degree; k++) {
      upper[j][k] = dot(columns[j], columns[k]);
      take(columns[k], columns[j], upper[j][k]);
    }
    sides[j] = dot(columns[j], rest);
    take(rest, columns[j], sides[j]);
  }
  const weights = Array(degree + 1).fill(0);
  for (let j = degree; j >= 0; j--) weights[j] = (sides[j] - dot(upper[j].slice(j + 1), weights.slice(j + 1))) / upper[j][j];
  return (/** @type {number} */ x) => dot(basis(x), weights);
}

/** Root of the mean square. @param {Point[]} points @param {(x: number) => number} curve */
export const missed = (points, curve) => Math.sqrt(points.reduce((sum, [x, y]) => sum + (curve(x) - y) ** 2, 0) / points.length);

// Numbers in formulas -----------------------------------------------------------------------------

/** @type {Record<string, string>} */
const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** With a true minus; what is very large or small as 1.2 × 10⁶. @param {number} x @param {number} [digits] */
export function fixed(x, digits = 2) {
  const size = Math.abs(x);
  if (size >= 1e5) {
    const [front, back] = size.toExponential(1).split("e");
    return `${x < 0 ? "−" : ""}${front} × 10${[...String(Number(back))].map((c) => RAISED[c]).join("")}`;
  }
  const text = size.toFixed(digits);
  return x < 0 && Number(text) ? `−${text}` : text;
}

/** @param {number} x @param {number} [digits] */
export const short = (x, digits = 2) => (Math.abs(x) >= 1e5 ? fixed(x, digits) : fixed(x, digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, ""));
/** @param {number} x @param {number} digits */
export const signed = (x, digits) => (x < 0 ? `(${short(x, digits)})` : short(x, digits));

/** The round numbers along an axis, with their texts. @param {number} low @param {number} high @param {number} wanted */
export function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough) ?? 10 * power;
  /** @type {number[]} */
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return found.map((value) => ({ value, text: fixed(value, step >= 1e5 ? 0 : digits) }));
}
