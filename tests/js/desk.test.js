import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { Desk, patience } from "../../assets/queue/desk.js";
import { Outbox } from "../../assets/queue/outbox.js";

/** @typedef {import("../../assets/queue/desk.js").Item} Item */
/** @typedef {{ path: string, body: any }} Asked */

const WANT = { order: "mixed", predicted: null, source: null, without: [], unstored: [] };
const HOW = { hint: true, seconds: 1 };
const YES = /** @type {const} */ ({ verdict: "accepted", label: "red" });
const BLUE = /** @type {const} */ ({ verdict: "corrected", label: "blue" });

beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"] }));
afterEach(() => mock.timers.reset());

/** @param {number} id @returns {Item} */
const item = (id) => ({ id, name: `${id}.png`, url: `/${id}`, stage: "waiting", blind: false, predicted: "red", top: [["red", 0.6]], band: null, run: "Net", by: "Ann", at: "2026-11-29T10:00:00Z", source: "zip" });

const settle = async () => {
  for (let i = 0; i < 3; i++) await new Promise((next) => setImmediate(next));
};

/**
 * A desk with pictures; decisions wait for answer(), what is asked besides is answered from replies, by the path or the act.
 * @param {number[]} ids @param {string} [kept] what a page before has left @param {string} [user]
 */
async function opened(ids, kept, user = "Ann") {
  /** @type {Asked[]} */
  const asked = [];
  /** @type {((answer: { status?: number, body?: unknown } | null) => void)[]} */
  const waiting = [];
  /** @type {Record<string, any>} */
  const replies = { deal: { items: ids.map(item), gone: [], seconds: 120, policy: null, reasons: {}, waiting: ids.length, lead: 0, others: 0, skipped: 0 } };
  const store = { text: kept ?? null, now: 0, focused: true };
  /** @type {typeof fetch} */
  const ask = (url, request) =>
    new Promise((resolve, reject) => {
      asked.push({ path: String(url).replace("/api/review/", ""), body: JSON.parse(String(request?.body)) });
      waiting.push((answer) => (answer ? resolve(new Response(JSON.stringify(answer.body ?? {}), { status: answer.status ?? 200 })) : reject(new TypeError("no connection"))));
    });
  const box = new Outbox({ fetch: ask, read: () => store.text, write: (text) => void (store.text = text) });
  /** @param {string} path @param {Record<string, unknown>} body */
  const post = async (path, body) => {
    asked.push({ path, body });
    return replies[String(body.act ?? path)] ?? null;
  };
  const desk = new Desk(1, box, { post, now: () => store.now, session: "me", focused: () => store.focused });
  const told = { renewed: 0 };
  desk.view = { paint: () => {}, renew: () => void told.renewed++, stored: () => {} };
  box.join("token", user);
  desk.begin({ ...WANT });
  await settle();
  replies.deal = { ...replies.deal, items: [] };
  return {
    desk, box, asked, replies, store, told,
    decisions: () => asked.filter((one) => one.path === "decide"),
    /** @param {{ status?: number, body?: unknown } | null} given */
    async answer(given) {
      waiting.shift()?.(given);
      await settle();
    },
  };
}

test("a decision shows the next picture at once and is sent in the background", async () => {
  const { desk, decisions, answer, box } = await opened([1, 2]);
  desk.decide(item(1), YES, HOW);
  assert.equal(desk.current?.id, 2);
  assert.deepEqual([decisions().length, decisions()[0].body.verdict, decisions()[0].body.session], [1, "accepted", "me"]);
  assert.equal(desk.counts.waiting, 1);
  await answer({ body: { seq: 1 } });
  assert.deepEqual([box.ops.length, desk.notices.length], [0, 0]);
});

test("while the disk is full a decision waits with the server's reason, however long that takes", async () => {
  const { desk, decisions, answer, box } = await opened([1, 2]);
  desk.decide(item(1), YES, HOW);
  for (let i = 0; i < 5; i++) {
    await answer({ status: 507, body: { error: { message: "The disk is full.", hint: "Make room." } } });
    assert.equal(box.unsaved, "1 decision waits to be saved: The disk is full.");
    mock.timers.tick(2000);
    await settle();
  }
  await answer({ body: { seq: 1 } });
  assert.deepEqual([box.ops.length, new Set(decisions().map((one) => one.body.operation)).size], [0, 1]);
});

test("what is decided while the server is away is kept, counted, and sent again once with the same operation", async () => {
  const { desk, decisions, answer, box } = await opened([1, 2, 3]);
  desk.decide(item(1), YES, HOW);
  desk.decide(item(2), BLUE, HOW);
  await answer(null);
  assert.equal(box.unsaved, "2 decisions wait to be saved: the server does not answer");
  mock.timers.tick(2000);
  await settle();
  await answer({ body: { seq: 1 } });
  await answer({ body: { seq: 2 } });
  const sent = decisions().map((one) => one.body.operation);
  assert.equal(sent.length, 3);
  assert.equal(sent[0], sent[1]);
  assert.notEqual(sent[1], sent[2]);
  assert.deepEqual([box.ops.length, box.unsaved], [0, ""]);
});

test("however long the server was away, a picture that did not load is asked for again within three seconds", () => {
  assert.deepEqual([1, 2, 3, 4, 5, 30].map(patience), [500, 1000, 2000, 3000, 3000, 3000]);
});

test("a worker that died under a decision is asked again, and what kills it three times comes back with its words", async () => {
  const { desk, decisions, answer } = await opened([1, 2]);
  desk.decide(item(1), YES, HOW);
  for (let i = 0; i < 3; i++) {
    await answer({ status: 503, body: { error: { message: "The model worker stopped.", hint: "" } } });
    mock.timers.tick(2000);
    await settle();
  }
  assert.deepEqual([decisions().length, desk.items.map((one) => one.id)], [3, [2, 1]]);
  assert.equal(desk.unsure.get(1)?.problem, "The model worker stopped.");
});

test("an expired token is asked for anew, and the decision goes with the new one", async () => {
  const { desk, decisions, answer, box, told } = await opened([1]);
  desk.decide(item(1), YES, HOW);
  await answer({ status: 401 });
  assert.equal(told.renewed, 1);
  box.join("fresh", "Ann");
  await settle();
  await answer({ body: { seq: 1 } });
  assert.deepEqual([decisions().length, box.ops.length], [2, 0]);
});

test("what waited when somebody else signed in is not sent in their name", async () => {
  const before = await opened([1, 2]);
  before.desk.decide(item(1), YES, HOW);
  const after = await opened([2], before.store.text ?? "", "Ben");
  assert.deepEqual([after.decisions().length, after.box.ops.length, after.store.text], [0, 0, ""]);
  assert.match(after.desk.notices[0].text, /^1 decision of Ann waited/);
});

test("a reload in mid-decision sends again what was under way", async () => {
  const before = await opened([1, 2]);
  before.desk.decide(item(1), YES, HOW);
  const after = await opened([2], before.store.text ?? "");
  const [sent] = after.decisions();
  assert.equal(sent.body.operation, before.decisions()[0].body.operation);
  await after.answer({ body: { seq: 1 } });
  assert.equal(after.store.text, "");
});

test("undo takes out what was not sent, and asks the server for what was, by its operation", async () => {
  const { desk, asked, answer, decisions } = await opened([1, 2, 3]);
  desk.decide(item(1), YES, HOW);
  desk.decide(item(2), BLUE, HOW);
  assert.equal(desk.undo()?.id, 2); // it waits behind the first: the server never hears of it
  assert.deepEqual([desk.current?.id, decisions().length], [2, 1]);
  assert.equal(desk.undo()?.id, 1);
  await answer({ body: { seq: 1 } });
  const undo = asked.find((one) => one.path === "undo");
  assert.equal(undo?.body.operation, decisions()[0].body.operation);
  await answer({ body: { item: { ...item(1), by: "anew" }, waiting: 3, lead: 0, others: 0, skipped: 0 } });
  assert.deepEqual([desk.current?.id, desk.current?.by], [1, "anew"]);
});

test("a skipped picture comes back with undo, held for this page", async () => {
  const { desk, asked, answer } = await opened([1, 2]);
  desk.skip(item(1));
  assert.deepEqual([desk.current?.id, desk.counts.skipped], [2, 1]);
  await answer({ body: {} });
  assert.equal(desk.undo()?.id, 1);
  assert.deepEqual(asked.at(-1)?.body, { dataset_id: 1, session: "me", act: "unskip", id: 1 });
  assert.equal(desk.counts.skipped, 0);
});

test("a decision that somebody else made before is said, with who, and nothing comes back", async () => {
  const { desk, answer } = await opened([1, 2]);
  desk.decide(item(1), YES, HOW);
  await answer({ status: 409, body: { error: { message: "1.png was decided already by Bo: blue.", hint: "Nothing was stored." } } });
  assert.deepEqual(desk.notices.map((one) => one.text), ["1.png was decided already by Bo: blue. Nothing was stored."]);
  assert.deepEqual([desk.items.map((one) => one.id), desk.past.length], [[2], 0]);
});

test("a note that came too late is not lost", async () => {
  const { desk, answer } = await opened([1, 2]);
  desk.decide(item(1), { verdict: "escalated", label: null, note: "a knife?" }, HOW);
  await answer({ status: 409, body: { error: { message: "1.png was decided already by Bo: blue.", hint: "" } } });
  assert.match(desk.notices[0].text, /by Bo: blue\. Your note was: “a knife\?”/);
});

test("what the server wants to be sure of comes next, with its sentence and what was said", async () => {
  const { desk, answer } = await opened([1, 2, 3]);
  desk.decide(item(1), BLUE, HOW);
  await answer({ status: 422, body: { error: { message: "1.png is a test image.", hint: "Say that you are sure." } } });
  assert.deepEqual(desk.items.map((one) => one.id), [2, 1, 3]); // nothing moves under a person's eyes
  assert.deepEqual(desk.unsure.get(1), { ...BLUE, problem: "1.png is a test image. Say that you are sure." });
});

test("another key on one that was decided just now changes that decision and not the next picture", async () => {
  const { desk, decisions, answer } = await opened([1, 2]);
  desk.decide(item(1), YES, HOW);
  desk.change(desk.past[0], BLUE, HOW);
  assert.equal(desk.current?.id, 2);
  await answer({ body: { seq: 1 } });
  await answer({ body: { item: item(1) } });
  assert.deepEqual(decisions().map((one) => [one.body.id, one.body.label]), [[1, "red"], [1, "blue"]]);
  assert.deepEqual(desk.items.map((one) => one.id), [2]);
});

test("claims are renewed every 40 s while the page is looked at, and not otherwise", async () => {
  const { desk, asked, store, replies } = await opened([1, 2]);
  replies.renew = { ids: [1, 2], waiting: 2, lead: 0, others: 0, skipped: 0 };
  const renewals = () => asked.filter((one) => one.body.act === "renew").length;
  store.now = 39000;
  desk.tick();
  store.now = 40000;
  desk.tick();
  await settle();
  assert.deepEqual([renewals(), desk.left(1)], [1, 120000]);
  store.now = 100000;
  store.focused = false;
  desk.tick();
  assert.equal(renewals(), 1);
  desk.noting = true; // a note is being written
  desk.tick();
  assert.equal(renewals(), 2);
});

test("when the time has run out the picture is covered, and claimed again when somebody comes back", async () => {
  const { desk, asked, store, replies } = await opened([1, 2]);
  store.focused = false;
  store.now = 120000;
  desk.tick();
  assert.deepEqual([desk.lapsed, desk.items.length], [true, 1]);
  Object.assign(replies, { renew: { ids: [], waiting: 2, lead: 0, others: 0, skipped: 0 }, claim: {} });
  await desk.renew();
  assert.equal(asked.filter((one) => one.body.act === "claim")[0].body.id, 1);
  assert.deepEqual([desk.lapsed, desk.current?.id, desk.left(1)], [false, 1, 120000]);
});

test("what somebody else has got meanwhile goes, with a word", async () => {
  const { desk, replies } = await opened([1, 2]);
  Object.assign(replies, { renew: { ids: [2], waiting: 2, lead: 0, others: 1, skipped: 0 }, claim: { error: { message: "Bo has this picture on the screen.", hint: "" } } });
  await desk.renew();
  assert.equal(desk.current?.id, 2);
  assert.match(desk.notices[0].text, /Your time on 1\.png ran out\. Bo has this picture on the screen\./);
});

test("an empty queue is asked again every five seconds, and what arrives is there", async () => {
  const { desk, store, replies } = await opened([]);
  assert.equal(desk.items.length, 0);
  replies.deal = { ...replies.deal, items: [item(7)], waiting: 1 };
  store.now = 4900;
  desk.tick();
  await settle();
  assert.equal(desk.items.length, 0);
  store.now = 5000;
  desk.tick();
  await settle();
  assert.equal(desk.current?.id, 7);
});

test("pictures decided or on their way are kept in a deal, so that nobody else is dealt them", async () => {
  const { desk, asked } = await opened([1, 2]);
  desk.decide(item(1), YES, HOW);
  await settle();
  const last = asked.filter((one) => one.path === "deal").at(-1);
  assert.deepEqual(last?.body.keep, [2, 1]);
});

test("what is set for comfort leaves the picture on the screen, another order does not, and what is held stays", async () => {
  const { desk, replies } = await opened([1, 2]);
  replies.deal = { ...replies.deal, items: [item(2), item(3)] };
  desk.begin({ ...WANT, unstored: ["red"] });
  await settle();
  assert.deepEqual(desk.items.map((one) => one.id), [1, 2, 3]);
  replies.hold = { seconds: 1800 };
  assert.equal(await desk.hold(), "1.png is kept for you for 30 minutes.");
  replies.deal = { ...replies.deal, items: [item(9)] };
  desk.begin({ ...WANT, order: "oldest" });
  await settle();
  assert.deepEqual(desk.items.map((one) => one.id), [1, 9]);
});

test("what is handed over is sent with whom it is for, leaves the screen, and what refuses it is said", async () => {
  const { desk, asked, answer, replies } = await opened([1, 2]);
  replies.colleagues = { people: ["Bo"] };
  assert.deepEqual(await desk.colleagues(), ["Bo"]);
  desk.hand(item(1), "Bo");
  await settle();
  assert.equal(desk.current?.id, 2);
  assert.deepEqual(asked.find((one) => one.body.act === "hand"), { path: "claims", body: { dataset_id: 1, session: "me", act: "hand", id: 1, to: "Bo" } });
  await answer({ status: 409, body: { error: { message: "Bo cannot decide on this picture any more.", hint: "Escalate it." } } });
  assert.equal(desk.notices[0].text, "Bo cannot decide on this picture any more. Escalate it.");
});
