import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { Outbox, Reporter } from "../../assets/common/outbox.js";

/** @typedef {{ url: string, body: any }} Asked */
/** @typedef {{ status?: number, body?: unknown } | null} Answered null: no connection */

const GIVEN = { post_url: "/api/label", changes_url: "", token: "t", user: "Ann", session: "", named: false };
const APPLE = { id: "a", label: null, seq: 1, name: "apple.png" };
const PEAR = { id: "b", label: "pear", seq: 4, name: "pear.png" };

beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"] }));
afterEach(() => mock.timers.reset());

/**
 * An outbox with one view; each question waits until its answer is given.
 * @param {Partial<typeof GIVEN>} [given] @param {string | null} [kept] what a page before has left
 */
function opened(given, kept = null) {
  const store = { text: kept };
  /** @type {Asked[]} */
  const asked = [];
  /** @type {((answer: Answered) => void)[]} */
  const waiting = [];
  /** @type {string[]} */
  const remembered = [];
  /** @type {typeof fetch} */
  const ask = (url, request) =>
    new Promise((resolve, reject) => {
      asked.push({ url: String(url), body: request?.body ? JSON.parse(String(request.body)) : null });
      waiting.push((answer) => {
        if (!answer) return reject(new TypeError("no connection"));
        return resolve(new Response(JSON.stringify(answer.body ?? {}), { status: answer.status ?? 200 }));
      });
    });
  /** @type {number[]} */
  const told = [];
  const box = new Outbox(1, { fetch: ask, hidden: () => false, remember: (user) => void remembered.push(user), read: () => store.text, write: (text) => void (store.text = text) });
  box.join({ paint: () => {}, changed: (wait) => void told.push(wait) }, { ...GIVEN, ...given });
  box.learn([APPLE, PEAR]);
  return {
    box,
    asked,
    told,
    remembered,
    store,
    /** @param {Answered} answer */
    async answer(answer) {
      waiting.shift()?.(answer);
      for (let i = 0; i < 20; i++) await Promise.resolve();
      await new Promise((next) => setImmediate(next));
    },
  };
}

test("a label is seen at once, sent with what was seen, and confirmed by the answer", async () => {
  const { box, asked, answer, told } = opened();
  assert.equal(box.apply("label", ["a"], "apple"), 1);
  assert.deepEqual([box.state("a").label, box.state("a").pending], ["apple", true]);
  assert.deepEqual([asked[0].body.label, asked[0].body.dataset_id, asked[0].body.seen], ["apple", 1, { a: 1 }]);
  await answer({ body: { seqs: { a: 5 }, refused: {}, label: "apple" } });
  assert.deepEqual([box.state("a").label, box.state("a").pending, box.known.get("a")?.seq], ["apple", false, 5]);
  assert.deepEqual([box.ops.length, told], [0, [400]]);
});

test("what an image has already is not sent again", () => {
  const { box, asked } = opened();
  assert.equal(box.apply("label", ["b"], "pear"), 0);
  assert.deepEqual([asked.length, box.undos.length], [0, 0]);
});

test("changes are sent one after the other, and the next has seen the one before it", async () => {
  const { box, asked, answer } = opened();
  box.apply("label", ["a"], "apple");
  box.apply("flagged", ["a"], true);
  assert.equal(asked.length, 1);
  await answer({ body: { seqs: { a: 5 } } });
  assert.deepEqual([asked.length, asked[1].body.flag, asked[1].body.seen], [2, true, { a: 5 }]);
});

test("the name that the server gives a label stands for the one that was typed, also in undo and redo", async () => {
  const { box, answer } = opened();
  box.apply("label", ["a"], "Apple ");
  await answer({ body: { seqs: { a: 5 }, label: "apple" } });
  assert.equal(box.state("a").label, "apple");
  box.undo();
  assert.equal(box.state("a").label, null);
  box.redo();
  assert.equal(box.state("a").label, "apple");
});

test("undo gives each image back what it had, and redo does it again", () => {
  const { box } = opened();
  box.apply("label", ["a", "b"], "plum");
  assert.deepEqual(box.undo(), { field: "label", groups: [[null, ["a"]], ["pear", ["b"]]] });
  assert.deepEqual([box.state("a").label, box.state("b").label], [null, "pear"]);
  assert.deepEqual(box.redo(), { field: "label", groups: [["plum", ["a", "b"]]] });
  assert.deepEqual([box.state("a").label, box.state("b").label], ["plum", "plum"]);
  assert.equal(box.redo(), null);
});

test("undo leaves alone what was changed otherwise since", async () => {
  const { box, answer } = opened();
  box.apply("label", ["a", "b"], "plum");
  await answer({ body: { seqs: { a: 5, b: 6 } } });
  box.hear([{ id: "a", label: "fig", flagged: false, seq: 9, by: "Bob" }]);
  assert.deepEqual(box.undo(), { field: "label", groups: [["pear", ["b"]]] });
  assert.deepEqual([box.state("a").label, box.state("b").label], ["fig", "pear"]);
});

test("a new change forgets what could be done again", () => {
  const { box } = opened();
  box.apply("label", ["a"], "apple");
  box.undo();
  box.apply("label", ["a"], "fig");
  assert.equal(box.redo(), null);
});

test("where somebody else was faster, their label is shown, named and explained, and cannot be undone", async () => {
  const { box, answer } = opened();
  box.apply("label", ["a"], "apple");
  await answer({ body: { seqs: {}, refused: { a: { label: "fig", flagged: false, seq: 7, by: "Bob" } } } });
  const { label, by, refused, pending } = box.state("a");
  assert.deepEqual({ label, by, refused, pending }, { label: "fig", by: "Bob", refused: true, pending: false });
  assert.equal(box.notice?.text, "Bob changed apple.png before you. It is “fig” now.");
  assert.equal(box.undo(), null);
});

test("of several images the refused ones are counted, and the others are saved", async () => {
  const { box, answer } = opened();
  box.learn([{ id: "c", label: null, seq: 2 }]);
  box.apply("label", ["a", "b", "c"], "plum");
  const other = { label: "fig", flagged: false, seq: 7, by: "Bob" };
  await answer({ body: { seqs: { c: 8 }, refused: { a: other, b: other } } });
  assert.deepEqual(["a", "b", "c"].map((id) => box.state(id).label), ["fig", "fig", "plum"]);
  assert.match(box.notice?.text ?? "", /^Bob changed 2 of these images/);
});

test("what the server rejects is not kept, and its words are shown", async () => {
  const { box, answer } = opened();
  box.apply("label", ["a"], "apple");
  await answer({ status: 409, body: { error: { message: "This class is archived.", hint: "Choose another." } } });
  assert.deepEqual([box.state("a").label, box.ops.length, box.undo()], [null, 0, null]);
  assert.deepEqual([box.notice?.text, box.notice?.hint], ["This class is archived.", "Choose another."]);
});

test("while the disk is full a change waits with the server's reason, and is sent again with the same number", async () => {
  const { box, asked, answer } = opened();
  box.apply("label", ["a"], "apple");
  await answer({ status: 507, body: { error: { message: "The disk is full.", hint: "Make room." } } });
  assert.equal(box.unsaved, "1 change not saved yet: The disk is full.");
  mock.timers.tick(2000);
  assert.equal(asked[1].body.operation, asked[0].body.operation);
  await answer({ body: { seqs: { a: 5 } } });
  assert.deepEqual([box.unsaved, box.state("a").label], ["", "apple"]);
});

test("without a connection a change waits, says so, and is sent again with the same number", async () => {
  const { box, asked, answer } = opened();
  box.apply("label", ["a"], "apple");
  await answer(null);
  assert.deepEqual([box.unsaved, box.state("a").label], ["1 change not saved yet: no connection", "apple"]);
  mock.timers.tick(2000);
  assert.equal(asked.length, 2);
  assert.equal(asked[1].body.operation, asked[0].body.operation);
  await answer({ body: { seqs: { a: 5 } } });
  assert.deepEqual([box.unsaved, box.state("a").pending], ["", false]);
});

test("an expired token has the views drawn anew, and the fresher one sends what waits", async () => {
  const { box, asked, answer, told } = opened();
  box.apply("label", ["a"], "apple");
  await answer({ status: 401 });
  assert.deepEqual([told, asked.length], [[0], 1]);
  box.join([...box.views][0], { ...GIVEN, token: "fresh" });
  assert.equal(asked.length, 2);
});

test("what waits outlives a reload in its order, with the same numbers, and is sent once", async () => {
  const before = opened();
  before.box.apply("label", ["a"], "apple");
  before.box.apply("flagged", ["a"], true);
  await before.answer({ status: 401 });
  const after = opened({}, before.store.text);
  assert.deepEqual([after.box.state("a").label, after.box.state("a").pending], ["apple", true]);
  assert.deepEqual(after.asked[0].body, before.asked[0].body);
  await after.answer({ body: { seqs: { a: 5 } } });
  assert.deepEqual([after.asked[1].body.flag, after.asked[1].body.seen], [true, { a: 5 }]);
  await after.answer({ body: { seqs: { a: 6 } } });
  assert.deepEqual([after.asked.length, after.store.text, opened({}, after.store.text).asked.length], [2, "", 0]);
});

test("what waited when somebody else signed in is not sent in their name", () => {
  const before = opened();
  before.box.apply("label", ["a"], "apple");
  const after = opened({ user: "Ben" }, before.store.text);
  assert.deepEqual([after.asked.length, after.box.state("a").label, after.store.text], [0, null, ""]);
  assert.equal(after.box.notice?.text, "1 change of Ann waited in this tab to be saved, and went.");
});

test("a change that is on its way is worth a line only after a second", () => {
  const { box } = opened();
  box.apply("label", ["a"], "apple");
  assert.equal(box.unsaved, "");
  mock.timers.tick(1100);
  assert.equal(box.unsaved, "1 change not saved yet");
});

test("what others do is asked for, shown, and named for a while", async () => {
  const { box, asked, answer, told } = opened({ changes_url: "/api/changes" });
  assert.equal(asked[0].url, "/api/changes?dataset=1&after=-1");
  await answer({ body: { seq: 9, more: false, changes: [{ id: "b", label: "plum", flagged: true, seq: 9, by: "Bob" }] } });
  const { label, flagged, by } = box.state("b");
  assert.deepEqual([label, flagged, by, told], ["plum", true, "Bob", [3000]]);
  mock.timers.tick(6000);
  assert.equal(box.state("b").by, null);
  assert.equal(asked[1].url, "/api/changes?dataset=1&after=9");
});

test("an older message changes nothing, and one's own is not named", () => {
  const { box } = opened();
  box.hear([{ id: "b", label: "plum", flagged: false, seq: 3, by: "Bob" }]);
  assert.equal(box.state("b").label, "pear");
  box.hear([{ id: "b", label: "plum", flagged: false, seq: 8, by: "Ann" }]);
  assert.deepEqual([box.state("b").label, box.state("b").by], ["plum", null]);
});

test("who chose a name is remembered, and nobody else", () => {
  assert.deepEqual(opened({ named: true }).remembered, ["Ann"]);
  assert.deepEqual(opened().remembered, []);
});

test("a long wait does not put off a report under way, and a short one brings it forward", () => {
  let reports = 0;
  const reporter = new Reporter(() => (reports += 1));
  reporter.tell(3000);
  mock.timers.tick(2000);
  reporter.tell(3000);
  mock.timers.tick(1000);
  assert.equal(reports, 1);
  reporter.tell(3000);
  reporter.tell(400);
  mock.timers.tick(400);
  assert.equal(reports, 2);
  mock.timers.tick(5000);
  assert.equal(reports, 2);
});
