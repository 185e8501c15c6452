// The curves of a run: parts put together, thinned and scaled, without a document.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Curves, decades, everySecond, shade, span, thinned } from "../../assets/live/curves.js";

/** @typedef {import("../../assets/live/curves.js").Part} Part */
/** @typedef {import("../../assets/live/curves.js").Now} Now */
/** @typedef {import("../../assets/live/curves.js").Point} Point */

/** @param {Partial<Now>} [some] @returns {Now} */
const now = (some) => ({ status: "running", active: true, what: "", facts: [], words: "", share: 0, epochs: 10, best: null, ...some });

/** @param {Partial<Part>} some @returns {Part} */
const part = (some) => ({ back: null, points: [], ends: [], answers: [], now: now(), next: 0, more: false, ...some });

/** @param {number} epoch */
const answer = (epoch) => ({ epoch, cells: [], rows: [], words: "", confused: "", samples: [], sampled: "" });

/** @param {number} n @returns {Point[]} whose loss is their step */
const points = (n) => Array.from({ length: n }, (_, i) => ({ step: i + 1, x: (i + 1) / 10, loss: i + 1, accuracy: 0.5, rate: 0.1, speed: 100 }));

/** @param {number} epochs @param {number} x @param {Partial<Now>} [some] */
function curves(epochs, x, some) {
  const found = new Curves();
  found.add(part({ points: [[1, x, 1, 1, 0.1, 1]], ends: [[Math.floor(x), null, null]], now: now({ epochs, ...some }) }));
  return found;
}

test("parts are appended, and one without anything to draw says so", () => {
  const all = new Curves();
  assert.equal(all.add(part({ points: [[1, 0.5, 2, 0.1, null, 9], [2, 1, 1, 0.2, 0.1, 8]], ends: [[1, 0.7, 0.6]] })), true);
  assert.equal(all.add(part({ points: [[3, 1.5, 0.5, 0.3, 0.1, 7]], answers: [answer(1)] })), true);
  assert.equal(all.add(part({ now: now({ what: "Paused" }) })), false);
  assert.deepEqual(all.points.map((p) => [p.x, p.loss, p.rate]), [[0.5, 2, null], [1, 1, 0.1], [1.5, 0.5, 0.1]]);
  assert.deepEqual([all.x, all.end, all.answers.length, all.now?.what], [1.5, { epoch: 1, loss: 0.7, accuracy: 0.6 }, 1, "Paused"]);
});

test("what came after the step from which a run goes on is taken away before what is new is added", () => {
  const all = new Curves();
  all.add(part({ points: [[4, 1, 1, 1, 0.1, 1], [5, 1.25, 1, 1, 0.1, 1], [8, 2, 1, 1, 0.1, 1]], ends: [[1, 1, 1], [2, 1, 1]], answers: [answer(1), answer(2)] }));
  assert.equal(all.add(part({ back: { epoch: 1, step: 5 } })), true);
  assert.deepEqual(all.points.map((p) => p.step), [4, 5]);
  assert.deepEqual([all.ends.map((e) => e.epoch), all.answers.map((a) => a.epoch)], [[1], [1]]);
  all.add(part({ back: { epoch: 1, step: 4 }, points: [[6, 1.5, 3, 1, 0.1, 1]] }));
  assert.deepEqual(all.points.map((p) => p.step), [4, 6]);
});

test("of too many points neighbours become their mean where the later one was, and the last stays", () => {
  assert.equal(thinned(points(10), 10).length, 10);
  assert.deepEqual(thinned(points(10), 9).map((p) => [p.step, p.loss]), [[2, 1.5], [4, 3.5], [6, 5.5], [8, 7.5], [10, 9.5]]);
  assert.deepEqual(thinned(points(5), 4).map((p) => [p.step, p.loss]), [[2, 1.5], [4, 3.5], [5, 5]]);
  assert.deepEqual(thinned(points(40), 5).map((p) => p.step), [8, 16, 24, 32, 40]); // more than twice as many: again and again
});

test("a run of a hundred thousand steps never holds more than two thousand points", () => {
  const all = new Curves();
  for (let first = 1; first <= 100_000; first += 2500) {
    all.add(part({ points: Array.from({ length: 2500 }, (_, i) => [first + i, (first + i) / 1000, 1, 1, 0.1, 1]) }));
    assert.ok(all.points.length <= 2000);
  }
  assert.deepEqual([all.x, all.points[all.points.length - 1].step], [100, 100_000]);
  assert.ok(all.points.length > 900);
});

test("of too many epochs every second answer goes and the newest stays", () => {
  assert.deepEqual(everySecond([1, 2, 3, 4, 5], 5), [1, 2, 3, 4, 5]);
  assert.deepEqual(everySecond([1, 2, 3, 4, 5], 4), [2, 4, 5]);
  assert.deepEqual(everySecond([1, 2, 3, 4, 5, 6, 7, 8], 3), [4, 8]);
});

test("the axis shows the whole plan, of a long plan what the curve needs, and of a run that ended early what was trained", () => {
  const end = (/** @type {Curves} */ one) => Math.round((span(one)[1] / 1.02) * 100) / 100;
  assert.deepEqual(span(new Curves()), [0, 1.02]);
  assert.equal(end(curves(30, 2)), 30);
  assert.equal(end(curves(1000, 2)), 31.25);
  assert.equal(end(curves(1000, 300)), 500);
  assert.equal(end(curves(1000, 900)), 1000);
  assert.equal(end(curves(30, 7, { status: "paused" })), 30);
  assert.equal(end(curves(30, 7, { status: "lost" })), 30);
  assert.equal(end(curves(30, 7, { status: "stopped" })), 7);
});

test("a learning rate that goes down by powers of ten gets an axis of decades", () => {
  const rates = (/** @type {(number | null)[]} */ all) => points(all.length).map((p, i) => ({ ...p, rate: all[i] }));
  assert.equal(decades([]), false);
  assert.equal(decades(rates([null, 0, null])), false);
  assert.equal(decades(rates([0.1, 0.1, 0.1])), false);
  assert.equal(decades(rates([0.1, 0.01, 0.001])), true);
  assert.equal(decades(rates([0.1, 0.09, 0.05, 0.0001])), false); // a cosine that ends at nearly 0
});

test("a single mistake can be seen, and a right answer is as dark as its share", () => {
  assert.deepEqual([shade(0, false), shade(0, true), shade(0.5, true), shade(1, false)], [0, 0, 0.5, 1]);
  assert.ok(shade(0.001, false) > 0.25);
});
