import assert from "node:assert/strict";
import { test } from "node:test";

import { mount } from "../../assets/common/dom.js";

/** What the views of a component were told, in order. */
function told() {
  /** @type {string[]} */
  const log = [];
  class View {
    constructor() {
      log.push("new");
    }
    /** @param {any} component */
    update({ data }) {
      log.push(data);
    }
    end() {
      log.push("end");
    }
  }
  return { log, component: mount(View) };
}

/** @param {object} parent @param {string} data @returns {any} */
const at = (parent, data) => ({ parentElement: parent, data });

test("a view outlives the cleaning up of a call that another has followed", () => {
  const { log, component } = told();
  const place = {};
  const [first, second] = [component(at(place, "a")), component(at(place, "b"))];
  first();
  component(at(place, "c"));
  assert.deepEqual(log, ["new", "a", "b", "c"]);
  second();
  assert.ok(!log.includes("end"));
});

test("a view ends with its last call, and the place may be used again", () => {
  const { log, component } = told();
  const place = {};
  component(at(place, "a"))();
  component(at(place, "b"));
  component(at({}, "elsewhere"));
  assert.deepEqual(log, ["new", "a", "end", "new", "b", "new", "elsewhere"]);
});
