import assert from "node:assert/strict";
import { test } from "node:test";

import { Counts, percent } from "../../assets/matrix/counts.js";

/**
 * From the whole table, rows actual.
 * @param {string[]} classes @param {number[][]} table
 */
function counts(classes, table) {
  const cells = table.flatMap((line, row) => line.flatMap((n, column) => (n ? [{ row, column, n }] : [])));
  return new Counts({ classes, rows: cells.map((c) => c.row), columns: cells.map((c) => c.column), counts: cells.map((c) => c.n) });
}

const FOUR = counts(["dog", "cat", "bus", "car"], [[8, 2, 0, 0], [3, 7, 0, 0], [0, 0, 5, 0], [0, 0, 4, 6]]);

test("a table is summed by row, by column and along the diagonal", () => {
  assert.deepEqual([FOUR.n, FOUR.wrong, FOUR.size], [35, 9, 4]);
  assert.deepEqual([[...FOUR.actual], [...FOUR.given], [...FOUR.right]], [[10, 10, 5, 10], [11, 9, 9, 6], [8, 7, 5, 6]]);
  assert.deepEqual([FOUR.count(1, 0), FOUR.count(0, 3), FOUR.share(1, 0)], [3, 0, 0.3]);
});

test("a class without an image has no share of anything", () => {
  assert.equal(counts(["a", "b"], [[0, 0], [0, 3]]).share(0, 1), 0);
});

test("the mistakes of a class are its missed images and those taken for it", () => {
  assert.deepEqual([0, 1, 2, 3].map((i) => FOUR.errors(i)), [5, 5, 4, 4]);
});

test("classes stand in their own order, by name with numbers as numbers, or by their mistakes", () => {
  const numbered = counts(["9", "10", "b", "A"], [[1, 0, 0, 0], [0, 1, 2, 0], [0, 1, 0, 0], [0, 0, 0, 1]]);
  assert.deepEqual(numbered.order("given", false), [0, 1, 2, 3]);
  assert.deepEqual(numbered.order("name", false).map((i) => numbered.classes[i]), ["9", "10", "A", "b"]);
  assert.deepEqual(numbered.order("errors", false), [1, 2, 0, 3]);
});

test("classes without a mistake can be hidden", () => {
  const one = counts(["a", "b", "c"], [[4, 0, 1], [0, 4, 0], [0, 0, 4]]);
  assert.deepEqual(one.order("given", true), [0, 2]);
});

test("those most often taken for each other stand side by side, and the flawless ones last", () => {
  const chain = counts(["a", "b", "c", "d", "e"], [[9, 0, 0, 1, 0], [0, 9, 0, 0, 0], [0, 0, 5, 5, 0], [0, 0, 0, 10, 0], [2, 0, 0, 0, 8]]);
  const order = chain.order("similarity", false);
  const beside = (/** @type {number} */ i, /** @type {number} */ j) => Math.abs(order.indexOf(i) - order.indexOf(j)) === 1;
  assert.ok(beside(2, 3) && beside(0, 4) && beside(0, 3), order.join());
  assert.equal(order.at(-1), 1);
  assert.deepEqual([...order].sort(), [0, 1, 2, 3, 4]);
});

test("almost none and almost all do not read as none and all", () => {
  assert.deepEqual([0, 0.004, 0.25, 0.996, 1].map(percent), ["0%", "<1%", "25%", ">99%", "100%"]);
});
