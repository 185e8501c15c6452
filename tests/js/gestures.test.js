import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Hold, Pointers, Tip, wheelFactor } from "../../assets/common/gestures.js";

const NODE = /** @type {Element} */ (/** @type {unknown} */ ({ getBoundingClientRect: () => ({ left: 100, top: 50 }) }));

/** @param {number} pointerId @param {number} clientX @param {number} clientY */
const finger = (pointerId, clientX, clientY) => /** @type {PointerEvent} */ ({ pointerId, clientX, clientY });

/** An event target that passes for an element of the page. */
const element = () => /** @type {HTMLElement} */ (/** @type {unknown} */ (Object.assign(new EventTarget(), { hidden: false })));

/** @param {HTMLElement} node @param {string} name @param {string} [pointerType] */
function fire(node, name, pointerType = "touch") {
  const event = Object.assign(new Event(name, { cancelable: true }), { pointerType });
  node.dispatchEvent(event);
  return event;
}

test("places are those of the node, not of the window", () => {
  assert.deepEqual(new Pointers(NODE).at(finger(1, 130, 60)), [30, 10]);
});

test("two fingers that spread to double their distance enlarge by two, about the place between them", () => {
  const pointers = new Pointers(NODE);
  pointers.set(finger(1, 200, 100));
  pointers.set(finger(2, 220, 100));
  assert.deepEqual(pointers.pinch(finger(2, 240, 100)), { dx: 10, dy: 0, by: 2, x: 120, y: 50 });
  assert.deepEqual(pointers.last(finger(2, 0, 0)), [140, 50]);
});

test("fingers on one and the same pixel do not enlarge without end", () => {
  const pointers = new Pointers(NODE);
  pointers.set(finger(1, 200, 100));
  pointers.set(finger(2, 200, 100));
  assert.equal(pointers.pinch(finger(2, 203, 100)).by, 3);
});

test("a finger that was lifted counts no more", () => {
  const pointers = new Pointers(NODE);
  pointers.set(finger(1, 200, 100));
  pointers.set(finger(2, 210, 100));
  pointers.delete(finger(1, 0, 0));
  assert.deepEqual([pointers.size, pointers.last(finger(1, 0, 0))], [1, undefined]);
});

test("the wheel enlarges upwards, a turn back undoes it, and lines count as sixteen pixels", () => {
  const turn = (/** @type {number} */ deltaY, deltaMode = 0, ctrlKey = false) => wheelFactor({ deltaY, deltaMode, ctrlKey });
  assert.ok(turn(-100) > 1 && turn(100) < 1);
  assert.ok(Math.abs(turn(-100) * turn(100) - 1) < 1e-12);
  assert.equal(turn(3, 1), turn(48));
  assert.ok(turn(-10, 0, true) > turn(-10)); // two fingers on a touchpad turn little
});

test("one wild turn of the wheel is one step", () => {
  assert.equal(wheelFactor({ deltaY: -5000, deltaMode: 0, ctrlKey: false }), wheelFactor({ deltaY: -240, deltaMode: 0, ctrlKey: false }));
});

test("a tip goes away by itself, and at once where it is not needed any more", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const tip = new Tip(element());
  assert.equal(tip.node.hidden, true);
  tip.show();
  mock.timers.tick(1700);
  tip.show();
  mock.timers.tick(1700);
  assert.equal(tip.node.hidden, false);
  mock.timers.tick(200);
  assert.equal(tip.node.hidden, true);
  mock.timers.reset();
});

test("a finger that rests does its own thing, and the click that follows does nothing more", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const node = element();
  let done = 0;
  const hold = new Hold(node, () => () => void (done += 1));
  fire(node, "pointerdown");
  mock.timers.tick(500);
  assert.deepEqual([done, fire(node, "contextmenu").defaultPrevented], [1, true]);
  assert.deepEqual([hold.taken(), hold.taken()], [true, false]);
  mock.timers.reset();
});

test("a tap, a scroll and the mouse are no long press, and neither is one where nothing is wanted", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const [node, other] = [element(), element()];
  let done = 0;
  const hold = new Hold(node, () => () => void (done += 1));
  new Hold(other, () => null);
  for (const end of ["pointerup", "scroll"]) {
    fire(node, "pointerdown");
    fire(node, end);
    mock.timers.tick(500);
  }
  fire(node, "pointerdown", "mouse");
  fire(other, "pointerdown");
  mock.timers.tick(500);
  assert.deepEqual([done, hold.taken()], [0, false]);
  mock.timers.reset();
});
