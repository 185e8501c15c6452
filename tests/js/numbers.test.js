import assert from "node:assert/strict";
import { test } from "node:test";

import { digitKey, spoken } from "../../assets/common/keys.js";
import { change, count, number, percent, points, size } from "../../assets/common/numbers.js";
import { uuid } from "../../assets/common/uuid.js";

test("numbers are grouped, and one thing is one thing", () => {
  assert.equal(number(1234567), "1,234,567");
  assert.deepEqual([count(1, "image", "images"), count(0, "image", "images"), count(1200, "image", "images")], ["1 image", "0 images", "1,200 images"]);
});

test("shares are whole per cents, probabilities have a digit more", () => {
  assert.deepEqual([percent(0.005), percent(0.994), percent(1)], ["1%", "99%", "100%"]);
  assert.deepEqual([points(0.9949), points(1)], ["99.5%", "100.0%"]);
});

test("a change has a sign, and what rounds to nothing has both", () => {
  assert.deepEqual([change(0.031), change(-0.5), change(0.0004), change(-0.0004)], ["+3.1", "−50.0", "±0.0", "±0.0"]);
});

test("a size has the unit that keeps it short, and never four digits before it", () => {
  assert.deepEqual([size(0), size(999), size(1000), size(999_400)], ["0 B", "999 B", "1 kB", "999 kB"]);
  assert.deepEqual([size(999_500), size(1_500_000), size(12_400_000)], ["1.0 MB", "1.5 MB", "12 MB"]);
  assert.deepEqual([size(999_400_000), size(999_500_000), size(2_500_000_000)], ["999 MB", "1.0 GB", "2.5 GB"]);
});

test("a digit key is known by its place, on the number pad too, and with Shift it is another class", () => {
  const key = (/** @type {string} */ code, shiftKey = false) => digitKey({ code, shiftKey });
  assert.deepEqual([key("Digit3"), key("Numpad0"), key("Digit3", true)], ["3", "0", "⇧3"]);
  assert.deepEqual([key("KeyA"), key("F1"), key("Numpad10")], [null, null, null]);
  assert.deepEqual([spoken("⇧3"), spoken("3")], ["Shift+3", "3"]);
});

test("a number for an operation is a new one each time, also without https", (t) => {
  const form = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
  assert.match(uuid(), form);
  t.mock.method(crypto, "randomUUID");
  Object.defineProperty(crypto, "randomUUID", { value: undefined, configurable: true });
  assert.match(uuid(), form);
  assert.notEqual(uuid(), uuid());
});
