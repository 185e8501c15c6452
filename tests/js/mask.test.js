import assert from "node:assert/strict";
import { test } from "node:test";

import { bits, box, stroke } from "../../assets/erase/mask.js";

const painting = (width = 8, height = 6) => ({ width, height, mask: new Uint8Array(width * height) });

/** @param {ReturnType<typeof painting>} one */
const rows = ({ width, height, mask }) => Array.from({ length: height }, (_, y) => [...mask.subarray(y * width, (y + 1) * width)].join(""));

test("a rectangle takes every pixel that it touches, whichever corner comes first", () => {
  const [one, other] = [painting(4, 3), painting(4, 3)];
  box(one, [1.2, 0.5], [2.6, 1.1]);
  box(other, [2.6, 1.1], [1.2, 0.5]);
  assert.deepEqual(rows(one), ["0110", "0110", "0000"]);
  assert.deepEqual(rows(other), rows(one));
});

test("a rectangle that leaves the picture is cut off at its rim", () => {
  const one = painting(4, 3);
  box(one, [-5, -5], [1, 90]);
  assert.deepEqual(rows(one), ["1000", "1000", "1000"]);
});

test("a dab of the smallest brush is one pixel", () => {
  const one = painting(4, 3);
  stroke(one, [2.5, 1.5], [2.5, 1.5], 0.01, 1);
  assert.deepEqual(rows(one), ["0000", "0010", "0000"]);
});

test("a quick stroke has no gaps", () => {
  const one = painting(40, 5);
  stroke(one, [1, 2.5], [39, 2.5], 0.05, 1);
  assert.equal(rows(one)[2], "1".repeat(40));
});

test("the eraser brings back what the brush took, and a stroke beside the picture changes nothing", () => {
  const one = painting();
  stroke(one, [4, 3], [4, 3], 0.5, 1);
  assert.ok(one.mask.includes(1));
  stroke(one, [4, 3], [4, 3], 0.5, 0);
  stroke(one, [90, 90], [95, 90], 0.2, 1);
  assert.ok(!one.mask.includes(1));
});

test("eight pixels go into a byte, the first one highest, and the last byte is filled up with zeros", () => {
  assert.deepEqual([...bits(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 1, 0, 1))], [0b10000001, 0b01000000]);
});
