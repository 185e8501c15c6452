import assert from "node:assert/strict";
import { test } from "node:test";

import { Visit } from "../../assets/one/visit.js";

/** @param {string[]} ids @returns {import("../../assets/one/visit.js").Item[]} */
const items = (...ids) => ids.map((id) => ({ id, url: `/${id}` }));

/** @param {string[]} ids */
function visit(...ids) {
  const one = new Visit();
  one.restart(items(...ids));
  return one;
}

test("a visit outlives a walk to another page, for each dataset and each view", () => {
  assert.equal(Visit.of("label", 1), Visit.of("label", 1));
  assert.notEqual(Visit.of("label", 1), Visit.of("label", 2));
  assert.notEqual(Visit.of("label", 1), Visit.of("review", 1));
});

test("new pictures come before those skipped, and known ones are not added again", () => {
  const one = visit("a", "b", "c");
  one.skipped.add("b");
  one.move("b");
  assert.equal(one.add(items("c", "d", "e")), 2);
  assert.deepEqual(one.order, ["a", "c", "d", "e", "b"]);
});

test("new pictures do not come before the one that is looked at, though it was skipped", () => {
  const one = visit("a", "b");
  one.skipped.add("b");
  one.current = "b";
  one.add(items("c"));
  assert.deepEqual(one.order, ["a", "b", "c"]);
});

test("what is decided is not offered again, and the newest decision stands first", () => {
  const one = visit("a", "b", "c");
  one.decide("a", "cat");
  one.decide("b", "dog");
  one.decide("a", "dog");
  assert.deepEqual([one.decisions, one.chosen.get("a")], [["a", "b"], "dog"]);
  assert.equal(one.add(items("a", "b")), 0);
  one.undecide("a");
  assert.deepEqual([one.decisions, one.handled.has("a")], [["b"], false]);
});

test("a decision ends a skip", () => {
  const one = visit("a");
  one.skipped.add("a");
  one.decide("a", "cat");
  assert.equal(one.skipped.has("a"), false);
});

test("a picture can be moved behind another, to the end and to the very front", () => {
  const one = visit("a", "b", "c", "d");
  one.move("a", "c");
  assert.deepEqual(one.order, ["b", "c", "a", "d"]);
  one.move("b");
  assert.deepEqual(one.order, ["c", "a", "d", "b"]);
  one.move("d", null);
  assert.deepEqual(one.order, ["d", "c", "a", "b"]);
});

test("another order of the same pictures keeps the skipped ones last and the one looked at", () => {
  const one = visit("a", "b", "c");
  one.skipped.add("a");
  one.current = "b";
  one.restart(items("a", "c", "b"));
  assert.deepEqual([one.order, one.current], [["c", "b", "a"], "b"]);
  one.restart(items("c"));
  assert.equal(one.current, null);
});
