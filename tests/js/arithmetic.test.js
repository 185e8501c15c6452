import assert from "node:assert/strict";
import { test } from "node:test";

import { ACTIVATIONS, convolve, crossEntropy, descend, fixed, missed, padded, places, polynomial, pool, scheduled, short, shrink, signed, softmax, ticks } from "../../assets/glossary/arithmetic.js";

const near = (/** @type {number} */ a, /** @type {number} */ b, by = 1e-9) => assert.ok(Math.abs(a - b) <= by, `${a} is not ${b}`);

test("a window of three fits six times along eight pixels, and eight times with a rim", () => {
  assert.deepEqual([places(8, 3, 0, 1), places(8, 3, 1, 1), places(8, 3, 0, 2)], [6, 8, 3.5]);
  assert.deepEqual(padded([[5]], 1), [[0, 0, 0], [0, 5, 0], [0, 0, 0]]);
});

test("a filter is laid over the picture as it is, not turned over", () => {
  const image = [[1, 2, 3], [4, 5, 6], [7, 8, 9]];
  assert.deepEqual(convolve(image, [[1, 0], [0, 0]]), [[1, 2], [4, 5]]);
  assert.deepEqual(convolve(image, [[0, 0], [0, 1]], 2), [[5]]);
  assert.deepEqual(pool([[1, 2], [3, 6]], "max"), [[6]]);
  assert.deepEqual(pool([[1, 2], [3, 6]], "average"), [[3]]);
});

test("shares of scores add up to one, whatever is added to every score", () => {
  const shares = softmax([1000, 1001, 999]);
  near(shares.reduce((a, b) => a + b), 1);
  softmax([0, 1, -1]).forEach((share, i) => near(share, shares[i]));
  assert.ok(softmax([0, 1], 0.5)[1] > softmax([0, 1])[1]);
});

test("the loss of a sure and right answer is nothing, and with smoothing the lowest lies below certainty", () => {
  near(crossEntropy(1), 0);
  near(crossEntropy(0.5), Math.log(2));
  const lowest = 1 - 0.1 + 0.1 / 10;
  assert.ok(crossEntropy(lowest, 0.1) < crossEntropy(lowest + 0.01, 0.1) && crossEntropy(lowest, 0.1) < crossEntropy(lowest - 0.01, 0.1));
});

test("the slope that is shown is the slope of the curve", () => {
  for (const [name, f] of Object.entries(ACTIVATIONS)) {
    for (const x of [-2.1, -0.4, 0.3, 1.7]) {
      const [, slope] = f(x);
      assert.ok(Math.abs((f(x + 1e-3)[0] - f(x - 1e-3)[0]) / 2e-3 - slope) < 1e-3, `${name} at ${x}`);
    }
  }
});

test("a step goes down the slope by the learning rate, and the shrinking it promises is what happens", () => {
  assert.deepEqual(descend({ x: 1, velocity: 0 }, 0.1, 0), { x: 0.8, velocity: 2 });
  near(shrink(0.1, 0), 0.8);
  let at = { x: 1, velocity: 0 };
  for (let i = 0; i < 200; i++) at = descend(at, 0.02, 0.5);
  const before = at.x;
  at = descend(at, 0.02, 0.5);
  near(at.x / before, shrink(0.02, 0.5), 1e-6);
});

test("the learning rate warms up, drops by its factor, and ends low", () => {
  const plan = { peak: 0.1, total: 100, warm: 10, every: 30, factor: 0.5 };
  assert.ok(scheduled("constant", 0, plan) < 0.002);
  near(scheduled("constant", 10, plan), 0.1);
  near(scheduled("step", 10 + 65, plan), 0.025);
  near(scheduled("cosine", 10 + 45, plan), 0.05);
  near(scheduled("one_cycle", 0.25 * 100 - 1, plan), 0.1);
  assert.ok(scheduled("one_cycle", 99, plan) < 1e-6);
});

test("a curve of enough freedom goes through every point, and a stiff one misses by the least", () => {
  /** @type {[number, number][]} */
  const places_ = [[-1, 1], [0, 0], [1, 1]];
  near(missed(places_, polynomial(places_, 2)), 0, 1e-12);
  near(polynomial(places_, 0)(5), 2 / 3);
});

test("numbers in formulas have a true minus, no idle zeros, and powers of ten where they are large", () => {
  assert.deepEqual([fixed(-1.5), fixed(-0.001), fixed(1234567), fixed(-3e6)], ["−1.50", "0.00", "1.2 × 10⁶", "−3.0 × 10⁶"]);
  assert.deepEqual([short(1.5), short(2), short(-0.25, 3)], ["1.5", "2", "−0.25"]);
  assert.deepEqual([signed(-2, 1), signed(2, 1)], ["(−2)", "2"]);
});

test("an axis has round numbers within its ends", () => {
  assert.deepEqual(ticks(0, 1, 5).map(({ text }) => text), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
  assert.deepEqual(ticks(-2.2, 2.2, 5).map(({ value }) => value), [-2, -1, 0, 1, 2]);
});
