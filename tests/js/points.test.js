import assert from "node:assert/strict";
import { test } from "node:test";

import { clusterColor, css, packed, unpacked } from "../../assets/common/colours.js";
import { disc, mixed, stamp } from "../../assets/map/pixels.js";
import { Points } from "../../assets/map/points.js";

/** @param {[number, number][]} places */
function points(places) {
  const none = places.map(() => -1);
  return new Points({ ids: places.map((_, i) => `${i}`), x: places.map((p) => p[0]), y: places.map((p) => p[1]), labels: [], splits: [], label: none, predicted: none, split: none });
}

// A thousand places that look random and are the same each time.
/** @type {[number, number][]} */
const SCATTERED = Array.from({ length: 1000 }, (_, i) => [(i * 2654435761) % 4096, (i * 40503 + 7) % 4096]);

test("the nearest point is the one that asking every point finds", () => {
  const map = points(SCATTERED);
  let found = 0;
  for (let k = 0; k < 200; k++) {
    const [x, y, reach] = [(k * 977) % 4096, (k * 1871) % 4096, 5 + (k % 120)];
    const far = SCATTERED.map((p) => (p[0] - x) ** 2 + (p[1] - y) ** 2);
    const least = Math.min(...far);
    const i = map.nearest(x, y, reach);
    if (least > reach ** 2) assert.equal(i, -1);
    else assert.equal(far[i], least), (found += 1);
  }
  assert.ok(found > 50 && found < 200, `${found} of 200 within reach`);
});

test("nothing is near where there is no point", () => {
  assert.equal(points([]).nearest(10, 10, 4096), -1);
  assert.equal(points([[100, 100]]).nearest(100, 111, 10), -1);
  assert.equal(points([[100, 100]]).nearest(100, 110, 10), 0);
});

test("a lasso selects what lies inside, and nothing in the bay of a horseshoe", () => {
  const map = points([[5, 5], [15, 5], [25, 5], [15, 25], [40, 5]]);
  assert.deepEqual(map.within([[0, 0], [10, 0], [10, 20], [20, 20], [20, 0], [30, 0], [30, 30], [0, 30]]), [0, 2, 3]);
});

test("a lasso is the same drawn the other way round", () => {
  const map = points(SCATTERED);
  /** @type {[number, number][]} */
  const path = [[500, 300], [3700, 900], [2200, 2000], [3000, 3900], [400, 3000]];
  const found = map.within(path);
  assert.deepEqual(map.within([...path].reverse()), found);
  assert.ok(found.length > 100 && found.length < 900);
});

test("the map begins with all points in view, drawn in an order of its own that is the same each time", () => {
  const map = points([[7, 30], [900, 20], [50, 4000]]);
  assert.deepEqual(map.box, { left: 7, right: 900, top: 20, bottom: 4000 });
  assert.deepEqual([...points(SCATTERED).order], [...points(SCATTERED).order]);
  assert.deepEqual([...points(SCATTERED).order].sort((a, b) => a - b), SCATTERED.map((_, i) => i));
});

test("a colour comes back out of a buffer of pixels", () => {
  assert.deepEqual(unpacked(packed([12, 200, 255])), [12, 200, 255]);
  assert.deepEqual([...new Uint8Array(Int32Array.of(packed([12, 200, 255])).buffer)], [12, 200, 255, 255]);
  assert.equal(css([12, 200, 255], 0.5), "rgb(12 200 255 / 0.5)");
});

test("neighbouring clusters have colours of their own", () => {
  assert.equal(new Set(Array.from({ length: 30 }, (_, i) => clusterColor(i))).size, 30);
});

test("a mixture lies between its colours, channel by channel", () => {
  const [front, back] = [packed([200, 100, 0]), packed([0, 100, 200])];
  assert.deepEqual(unpacked(mixed(front, back, 256)), [200, 100, 0]);
  assert.deepEqual(unpacked(mixed(front, back, 0)), [0, 100, 200]);
  assert.deepEqual(unpacked(mixed(front, back, 128)), [100, 100, 100]);
});

test("a disc covers its middle wholly and its rim in part", () => {
  const buffer = new Int32Array(11 * 11).fill(packed([0, 0, 0]));
  stamp(buffer, 5 * 11 + 5, disc(2.3, 11), packed([255, 255, 255]));
  const red = (/** @type {number} */ x, /** @type {number} */ y) => unpacked(buffer[y * 11 + x])[0];
  assert.deepEqual([red(5, 5), red(6, 5), red(0, 0), red(5, 8 + 1)], [255, 255, 0, 0]);
  assert.ok(red(7, 6) > 0 && red(7, 6) < 255);
  assert.deepEqual([red(3, 5), red(5, 3)], [red(7, 5), red(5, 7)]);
});
