import assert from "node:assert/strict";
import { test } from "node:test";

import { accepted, distinct } from "../../assets/upload/files.js";

test("a file is taken by its ending, its type or its kind of type, in any case of letters", () => {
  const rule = ".zip, image/*,application/json";
  assert.ok(accepted({ name: "A.ZIP" }, rule));
  assert.ok(accepted({ name: "a.png", type: "image/png" }, rule));
  assert.ok(accepted({ name: "a", type: "application/JSON" }, rule));
  assert.ok(!accepted({ name: "a.exe", type: "application/x-exe" }, rule));
  assert.ok(!accepted({ name: "imagezip", type: "" }, rule));
});

test("without a rule every file is taken", () => {
  assert.ok(accepted({ name: "a.exe" }, undefined));
  assert.ok(accepted({ name: "a.exe" }, " , "));
});

test("two files of one name both arrive, and their ending stays", () => {
  const taken = new Set(["old"]);
  const names = ["a.png", "a.png", "a.png", "a (2).png", ".hidden", ".hidden", "old"].map((name) => distinct(name, taken));
  assert.deepEqual(names, ["a.png", "a (2).png", "a (3).png", "a (2) (2).png", ".hidden", ".hidden (2)", "old (2)"]);
});
