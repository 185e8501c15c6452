// What lies before a person: the pictures dealt out, how long they are held, what was done with them. No document here.

import { count } from "../common/numbers.js";

export const RENEW_MS = 40000;
export const POLL_MS = 5000; // an empty queue is asked again
export const TOLD_MS = 30000; // the end of a claim is counted down from here on
const ONE = 12; // pictures at hand where they are shown one by one,
const FEW = 8; // and fewer than this: more are asked for
const MOST_PAST = 200;
const MOST_NOTICES = 4;
const RETRY_MS = 500; // a picture that did not load; twice as long each time,
const MOST_WAIT_MS = 3000; // and at most: once the server is back nobody waits longer

/** @typedef {"accepted" | "corrected" | "rejected" | "escalated"} Verdict */
/**
 * @typedef {{
 *   id: number, name: string, url: string, stage: "waiting" | "lead" | "appeal", blind: boolean, predicted: string | null, top: [string, number][],
 *   band: string | null, run: string, by: string, at: string, source: string }} Item
 */
/** @typedef {{ verdict: Verdict, label: string | null, note?: string, reason?: string, sure?: boolean }} Said */
/** @typedef {import("./outbox.js").Op} Op */
/** @typedef {import("./outbox.js").Problem} Problem */
/** @typedef {{ item: Item, op: Op, said: Said | null }} Past said is null of one that was skipped */
/** @typedef {{ order: string, predicted: string | null, source: string | null, without: string[], unstored: string[] }} Want */
/** @typedef {{ waiting: number, lead: number, others: number, skipped: number }} Counts */
/** @typedef {{ seq: number, id: number, name: string, url: string | null, verdict: string, label: string | null, by: string, at: string, mine: boolean, may: boolean, operation: string | null }} Decision */
/** @typedef {{ text: string, sure?: { item: Item, said: Said } }} Notice */
/** @typedef {{ post: (path: string, body: Record<string, unknown>, keepalive?: boolean) => Promise<any>, now: () => number, session: string, focused: () => boolean }} Page post answers null where the server did not */
/** @typedef {{ paint(): void, renew(): void, stored(): void }} View */

/** How long a picture that did not load is left before it is asked for again, in ms. @param {number} tries so far */
export const patience = (tries) => Math.min(MOST_WAIT_MS, RETRY_MS * 2 ** (tries - 1));

export class Desk {
  /** @type {View | null} */
  view = null;
  /** @type {Want} */
  want = { order: "mixed", predicted: null, source: null, without: [], unstored: [] };
  most = ONE;
  /** @type {Counts} */
  counts = { waiting: 0, lead: 0, others: 0, skipped: 0 };
  /** @type {Record<string, string[]>} by class */
  reasons = {};
  /** @type {string | null} */
  policy = null;
  asked = false; // whether the server has answered once
  dealing = false;
  dealtAt = -Infinity;
  renewedAt = 0;
  seconds = 120;
  lapsed = false;
  noting = false; // a note is being written: its picture is held

  /** @param {number} dataset @param {import("./outbox.js").Outbox} box @param {Page} page */
  constructor(dataset, box, page) {
    this.dataset = dataset;
    this.box = box;
    this.page = page;
    box.owner = this;
    /** @type {Item[]} the first is on the screen */
    this.items = [];
    /** @type {Past[]} the last one last */
    this.past = [];
    /** @type {Map<number, number>} until when each is held, in ms */
    this.until = new Map();
    /** @type {Set<number>} for longer, as somebody asked */
    this.held = new Set();
    /** @type {Map<number, Said & { problem: string }>} what the server did not take */
    this.unsure = new Map();
    /** @type {Decision[]} */
    this.last = [];
    /** @type {Notice[]} */
    this.notices = [];
  }

  get current() {
    return this.items[0] ?? null;
  }

  get session() {
    return this.page.session;
  }

  // Dealing ----------------------------------------------------------------------------------------

  /** Another order or choice begins anew, but for what is held; what is only for comfort leaves the picture on the screen. @param {Want} want @param {number} [most] */
  begin(want, most = ONE) {
    const sign = (/** @type {Want} */ { order, predicted, source }, /** @type {number} */ n) => JSON.stringify([order, predicted, source, n]);
    const same = JSON.stringify([this.want, this.most]) === JSON.stringify([want, most]);
    if (same && this.asked) return;
    const stays = sign(this.want, this.most) === sign(want, most) && !this.lapsed ? this.current : null;
    if (!same) [this.want, this.most] = [want, most];
    this.items = this.items.filter((item) => (item === stays && !want.without.includes(item.predicted ?? "")) || this.held.has(item.id));
    this.dealtAt = -Infinity;
    this.deal();
  }

  /** @returns {Promise<void>} */
  async deal() {
    if (this.dealing || !this.box.token) return;
    this.dealing = true;
    const { want, most } = this;
    const at = (this.dealtAt = this.page.now());
    const keep = [...new Set([...this.items.map((item) => item.id), ...this.box.ids])];
    const count = most - this.items.length;
    const found = await this.page.post("deal", { dataset_id: this.dataset, session: this.session, count, keep, ...want });
    this.dealing = false;
    if (!found) return this.view?.paint();
    if (want !== this.want || most !== this.most) return this.deal();
    this.asked = true;
    this.seconds = found.seconds;
    this.reasons = found.reasons;
    this.policy = found.policy;
    this.counted(found);
    const here = new Set([...this.items.map((item) => item.id), ...this.box.ids]);
    for (const item of found.items) {
      this.until.set(item.id, at + 1000 * found.seconds);
      if (!here.has(item.id)) this.items.push(item);
    }
    for (const name of found.gone) this.tell(`${name} cannot be shown: its file was removed. It stays in the queue.`);
    this.box.pump();
    this.view?.paint();
  }

  /** The server's counts, without what is on its way to it. @param {Counts} found */
  counted({ waiting, lead, others, skipped }) {
    const under = this.box.ops.filter((op) => op.route === "decide").length;
    this.counts = { waiting: Math.max(0, waiting - under), lead, others, skipped };
  }

  // Each second: what is due.
  tick() {
    const now = this.page.now();
    const held = this.current ? this.left(this.current.id) : Infinity;
    if (this.current && held <= 0 && !this.lapsed) {
      this.lapsed = true;
      this.items.length = 1; // the others may be with somebody else by now
      this.view?.paint();
    } else if (held <= TOLD_MS) this.view?.paint();
    if (this.items.length && (this.noting || this.page.focused()) && now - this.renewedAt >= (this.lapsed ? POLL_MS : RENEW_MS)) this.renew();
    if (this.items.length < Math.min(FEW, this.most) && !this.lapsed && now - this.dealtAt >= POLL_MS) this.deal();
  }

  /** More, as soon as few are left. */
  refill() {
    if (this.items.length < FEW) this.deal();
  }

  // Claims -----------------------------------------------------------------------------------------

  /** How long one is still held, in ms. @param {number} id */
  left(id) {
    return (this.until.get(id) ?? 0) - this.page.now();
  }

  /** Holds what lies here for longer; what has been lost meanwhile is claimed again or goes. */
  async renew() {
    const at = (this.renewedAt = this.page.now());
    const ids = this.items.map((item) => item.id);
    const found = await this.page.post("claims", { dataset_id: this.dataset, session: this.session, act: "renew", ids });
    if (!found?.ids) return;
    this.counted(found);
    for (const id of found.ids) this.until.set(id, Math.max(this.until.get(id) ?? 0, at + 1000 * this.seconds));
    const mine = new Set(found.ids);
    const asked = new Set(ids);
    const { current } = this;
    this.items = this.items.filter((item) => !asked.has(item.id) || mine.has(item.id) || item === current);
    if (current && asked.has(current.id) && !mine.has(current.id)) await this.claim(current);
    else this.lapsed = false;
    this.view?.paint();
    this.refill();
  }

  /** @param {Item} item */
  async claim(item) {
    const at = this.page.now();
    const found = await this.page.post("claims", { dataset_id: this.dataset, session: this.session, act: "claim", id: item.id });
    if (!found) return;
    this.lapsed = false;
    if (found.error) {
      this.tell(`Your time on ${item.name} ran out. ${found.error.message} ${found.error.hint ?? ""}`);
      this.items = this.items.filter((each) => each !== item);
    } else this.until.set(item.id, at + 1000 * this.seconds);
  }

  /** Answers in words. @returns {Promise<string>} */
  async hold() {
    const item = this.current;
    if (!item) return "";
    const at = this.page.now();
    const found = await this.page.post("claims", { dataset_id: this.dataset, session: this.session, act: "hold", id: item.id });
    if (found?.seconds) {
      this.until.set(item.id, at + 1000 * found.seconds);
      this.held.add(item.id);
    }
    return found?.error ? found.error.message : found ? `${item.name} is kept for you for ${Math.round(found.seconds / 60)} minutes.` : "The server does not answer: it could not be held.";
  }

  /** Who else works here; null where the server does not answer. @returns {Promise<string[] | null>} */
  async colleagues() {
    const found = await this.page.post("claims", { dataset_id: this.dataset, session: this.session, act: "colleagues" });
    return found?.people ?? null;
  }

  /** What made the network's answer; null where the server does not answer. @param {Item} item @returns {Promise<{ picture?: string, words?: string, error?: Problem } | null>} */
  why(item) {
    return this.page.post("why", { id: item.id });
  }

  /** Gives back what lies here, as the page goes. */
  release() {
    if (this.box.ops.length) this.box.last();
    else if (this.items.length) this.page.post("claims", { dataset_id: this.dataset, session: this.session, act: "release" }, true);
    this.items = [];
    this.asked = false;
    this.lapsed = false;
  }

  // What a person does -----------------------------------------------------------------------------

  /** @param {Item} item @param {Said} said @param {{ hint: boolean, seconds: number | null }} how */
  decide(item, said, how) {
    const { verdict, label, note = "", reason = "", sure = false } = said;
    const body = { id: item.id, session: this.session, verdict, label, note, reason, sure, ...how };
    this.items = this.items.filter((each) => each.id !== item.id);
    this.unsure.delete(item.id);
    this.counts.waiting = Math.max(0, this.counts.waiting - 1);
    this.remember({ item, op: this.box.push("decide", item.id, item.name, body), said });
    this.refill();
  }

  /** @param {Item} item */
  skip(item) {
    this.items = this.items.filter((each) => each.id !== item.id);
    this.counts.skipped += 1;
    const body = { dataset_id: this.dataset, session: this.session, act: "skip", id: item.id };
    this.remember({ item, op: this.box.push("claims", item.id, item.name, body), said: null });
    this.refill();
  }

  /** Somebody else gets it. @param {Item} item @param {string} to */
  hand(item, to) {
    this.items = this.items.filter((each) => each.id !== item.id);
    this.held.delete(item.id);
    this.box.push("claims", item.id, item.name, { dataset_id: this.dataset, session: this.session, act: "hand", id: item.id, to });
    this.refill();
  }

  /** @param {Past} one */
  remember(one) {
    this.past.push(one);
    if (this.past.length > MOST_PAST) this.past.shift();
  }

  /** All that this person has skipped comes again. */
  bringBack() {
    this.box.push("claims", null, "", { dataset_id: this.dataset, session: this.session, act: "unskip" });
    this.counts.skipped = 0;
  }

  /** One's own last act, or the one named by its number; answers its picture where it is known here. @param {Decision} [meant] @returns {Item | null} */
  undo(meant) {
    const mine = meant ? this.past.find((one) => one.op.operation === meant.operation) : this.past.at(-1);
    if (mine) {
      this.past = this.past.filter((one) => one !== mine);
      const { item, op, said } = mine;
      if (!this.box.drop(op)) {
        const body = { dataset_id: this.dataset, session: this.session };
        if (said) this.box.push("undo", item.id, item.name, { ...body, operation: op.operation, unstored: this.want.unstored });
        else this.box.push("claims", item.id, item.name, { ...body, act: "unskip", id: item.id });
      }
      if (said) this.counts.waiting += 1;
      else this.counts.skipped = Math.max(0, this.counts.skipped - 1);
      this.until.set(item.id, this.page.now() + 1000 * this.seconds);
      this.items = [item, ...this.items.filter((each) => each.id !== item.id)];
      return item;
    }
    const last = meant ?? this.last.find((one) => one.mine && one.may);
    if (!last) {
      this.tell("You have decided nothing here that could be taken back.");
      return null;
    }
    this.box.push("undo", last.id, last.name, { dataset_id: this.dataset, session: this.session, seq: last.seq, unstored: this.want.unstored });
    this.last = this.last.filter((one) => one !== last);
    return null;
  }

  /** Another decision on one that was decided just now. @param {Past} one @param {Said} said @param {{ hint: boolean, seconds: number | null }} how */
  change(one, said, how) {
    this.past.push(...this.past.splice(this.past.indexOf(one), 1));
    const item = this.undo();
    if (item) this.decide(item, said, how);
  }

  // What the outbox tells --------------------------------------------------------------------------

  changed() {
    this.view?.paint();
  }

  expired() {
    this.view?.renew();
  }

  busy() {
    return this.dealing;
  }

  /** @param {Op} op @param {any} answer */
  answered(op, answer) {
    if (op.route === "undo" && answer.item) {
      const here = this.items.findIndex((item) => item.id === answer.item.id);
      this.until.set(answer.item.id, this.page.now() + 1000 * this.seconds);
      if (here >= 0) this.items[here] = answer.item;
      else if (!this.box.ops.some((each) => each.id === answer.item.id)) this.items.unshift(answer.item);
    }
    if (op.route === "claims" && op.id === null) this.deal(); // brought back what was skipped
    if ("waiting" in answer) this.counted(answer);
    this.view?.stored();
  }

  /** @param {Op} op @param {number} status @param {Problem} problem */
  refused(op, status, problem) {
    const text = `${problem.message ?? "It was not stored."} ${problem.hint ?? (problem.message ? "" : "Reload the page and try again.")}`.trim();
    const note = op.body.note ? ` Your note was: “${op.body.note}”` : "";
    const one = this.past.find((each) => each.op === op);
    this.past = this.past.filter((each) => each !== one);
    if (op.route === "decide" && status !== 409 && status !== 404) {
      const item = one?.item;
      if (!item) this.tell(`${op.name}: ${text}`); // decided before the page was loaded anew
      else {
        this.unsure.set(item.id, { .../** @type {Said} */ (one.said), problem: text });
        this.counts.waiting += 1;
        if (!this.items.includes(item)) this.items.splice(Math.min(1, this.items.length), 0, item); // next: nothing moves under a person's eyes
        if (this.items[0] !== item) this.tell(`${text} ${item.name} comes next.`);
      }
    } else {
      this.items = this.items.filter((item) => item.id !== op.id);
      this.tell(text + note);
    }
    this.view?.stored();
  }

  /** @param {string} text */
  tell(text) {
    this.notices = [...this.notices.filter((one) => one.text !== text), { text }].slice(-MOST_NOTICES);
    this.view?.paint();
  }

  /** @param {Notice} notice */
  dismiss(notice) {
    this.notices = this.notices.filter((one) => one !== notice);
    this.view?.paint();
  }

  // The last decisions: what the server knows, and before it what is on its way there.
  /** @returns {Decision[]} */
  get decisions() {
    const known = new Set(this.last.map((one) => one.operation));
    /** @type {Decision[]} */
    const here = this.past.flatMap(({ item, op, said }) =>
      said && !known.has(op.operation) && this.box.ops.includes(op)
        ? [{ seq: 0, id: item.id, name: item.name, url: item.url, verdict: said.verdict, label: said.label, by: "", at: "", mine: true, may: true, operation: op.operation }]
        : [],
    );
    const undone = new Set(this.box.ops.flatMap((op) => (op.route === "undo" ? [op.body.operation ?? op.body.seq] : [])));
    return [...here.reverse(), ...this.last].filter((one) => !undone.has(one.operation) && !undone.has(one.seq)).slice(0, 10);
  }

  async ask() {
    const found = await this.page.post("last", { dataset_id: this.dataset, unstored: this.want.unstored });
    if (!found?.decisions) return;
    this.last = found.decisions;
    this.view?.paint();
  }

  /** Why there is nothing to decide. */
  get empty() {
    const { waiting, others, skipped } = this.counts;
    if (!waiting) return "";
    const parts = [];
    if (others) parts.push(`${count(others, "is", "are")} with others at the moment`);
    if (skipped) parts.push(`you skipped ${count(skipped, "picture", "pictures")}`);
    const rest = "what is left is of classes or sources that you left out, or was decided by you before";
    return `${count(waiting, "picture waits", "pictures wait")}, none of them for you now: ${[...parts, rest].join("; ")}.`;
  }
}
