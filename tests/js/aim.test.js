import assert from "node:assert/strict";
import { test } from "node:test";

import { Aim } from "../../assets/queue/aim.js";

function decided() {
  const aim = new Aim();
  aim.shown(1, 0);
  aim.decided(1, 1000);
  return aim;
}

test("a key is meant for the picture that was on the screen for 150 ms", () => {
  const aim = decided();
  aim.shown(2, 1020);
  assert.equal(aim.of(1170), 2);
  assert.equal(aim.of(5000), 2);
});

test("a second press before the next picture could be seen is meant for the one decided, not lost and not given to the next", () => {
  const aim = decided();
  assert.equal(aim.of(1010), 1); // it has not been painted yet
  aim.shown(2, 1020);
  assert.equal(aim.of(1021), 1);
  assert.equal(aim.of(1169), 1);
});

test("a key for a picture that loads long is meant neither for it nor for the one before", () => {
  const aim = decided();
  assert.equal(aim.of(1400), null);
  aim.shown(2, 2000);
  assert.equal(aim.of(2100), null);
  assert.equal(aim.of(2150), 2);
});

test("the first picture of a visit, and one that came back, take no key before they are seen", () => {
  const aim = new Aim();
  aim.shown(1, 0);
  assert.equal(aim.of(100), null);
  assert.equal(aim.of(150), 1);
  aim.clear();
  aim.shown(3, 200);
  assert.equal(aim.of(260), null);
});

test("painting the same picture again does not begin anew", () => {
  const aim = new Aim();
  aim.shown(1, 0);
  aim.shown(1, 140);
  assert.equal(aim.of(150), 1);
});
