import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { Care, UNTOLD } from "../../assets/queue/care.js";

function kept() {
  /** @type {Map<string, string>} */
  const values = new Map();
  /** @param {string} person */
  return (person) => new Care(person, { get: (name) => values.get(name) ?? null, set: (name, value) => void values.set(name, value) });
}

test("what is set for a class survives a reload, for that person alone", () => {
  const of = kept();
  of("Ann").set("risked", "blur", true);
  of("Ann").set("risked", "grey", true);
  of("Ann").leaveOut("gore", true);
  assert.deepEqual([of("Ann").effects("risked"), of("Ann").unstored, of("Ann").chosen.without], [["blur", "grey"], ["risked"], ["gore"]]);
  assert.deepEqual([of("Bo").effects("risked"), of("Bo").chosen.without], [[], []]);
  of("Ann").set("risked", "blur", false);
  of("Ann").set("risked", "grey", false);
  assert.deepEqual(of("Ann").unstored, []);
});

test("a picture whose class is not told looks as all that was chosen, so that its look tells nothing", () => {
  const care = kept()("Ann");
  care.set("risked", "blur", true);
  care.set("gore", "small", true);
  assert.deepEqual([care.effects(null), care.effects("fine")], [["blur", "small"], []]);
});

test("what was seen is counted by class for one day", () => {
  const of = kept();
  const day = new Date(2026, 10, 29, 23, 59);
  of("Ann").saw("risked", day);
  of("Ann").saw("risked", day);
  of("Ann").saw(UNTOLD, day);
  assert.deepEqual(of("Ann").today(day).seen, { risked: 2, [UNTOLD]: 1 });
  assert.deepEqual(of("Ann").today(new Date(2026, 10, 30, 0, 1)).seen, {});
});

test("what was veiled and looked at clearly is counted for one day, beside what was seen", () => {
  const of = kept();
  const day = new Date(2026, 10, 29, 12);
  of("Ann").saw("risked", day);
  of("Ann").revealed(day);
  of("Ann").revealed(day);
  of("Ann").saw("risked", day);
  assert.deepEqual([of("Ann").today(day).clear, of("Ann").today(day).seen, of("Bo").today(day).clear], [2, { risked: 2 }, 0]);
  assert.equal(of("Ann").today(new Date(2026, 10, 30)).clear, 0);
});

test("a pause is due after as many minutes as were chosen, and five minutes without a decision are one", () => {
  const care = kept()("Ann");
  const at = (/** @type {number} */ minute) => new Date(2026, 10, 29, 10, minute);
  care.remind(10);
  for (let minute = 0; minute <= 9; minute++) care.saw("fine", at(minute));
  assert.equal(care.due(at(9)), 0);
  care.saw("fine", at(12));
  assert.equal(care.due(at(12)), 12);
  care.rested(at(12));
  assert.equal(care.due(at(13)), 0);
  care.saw("fine", at(30)); // away since
  assert.equal(care.due(at(31)), 0);
});

test("nothing that the browser runs, and no page, makes a sound", () => {
  const root = new URL("../../", import.meta.url);
  const files = ["assets", "pages"].flatMap((folder) => readdirSync(new URL(folder, root), { recursive: true }).map((name) => `${folder}/${name}`));
  const read = files.filter((name) => /\.(js|py|html)$/.test(name)).map((name) => [name, readFileSync(new URL(name, root), "utf8")]);
  assert.ok(read.length > 50);
  assert.deepEqual(read.filter(([, text]) => /AudioContext|new Audio|<audio|<video|el\("(?:audio|video)"|\.play\(|speechSynthesis|st\.(audio|video)\(/.test(text)).map(([name]) => name), []);
});
