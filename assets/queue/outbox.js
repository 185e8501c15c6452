// Decisions on their way to the server, one after the other. No document here: what it needs of the page is handed in.

import { count } from "../common/numbers.js";
import { uuid } from "../common/uuid.js";

const RETRY_MS = 2000;
const SLOW_MS = 1000; // only then is one that is on its way worth a line
export const ANSWER_MS = 20000;
const TRIES = 3; // where the server says itself that it failed: the next ones must not wait for ever

/** @typedef {"decide" | "undo" | "claims"} Route */
/** @typedef {{ route: Route, id: number | null, name: string, operation: string, sent: boolean, tries?: number, body: Record<string, unknown> }} Op */
/** @typedef {{ message?: string, hint?: string }} Problem */
/** @typedef {{ fetch: typeof fetch, read: () => string | null, write: (text: string) => void }} Page */
/**
 * @typedef {{
 *   changed(): void, expired(): void, busy(): boolean, tell(text: string): void, answered(op: Op, answer: any): void, refused(op: Op, status: number, problem: Problem): void }} Owner
 * busy: something is under way that must not be overtaken by what claims a picture; expired: the token has
 */

export class Outbox {
  /** @type {Owner} */
  owner;
  token = "";
  user = "";
  sending = false;
  failing = false;
  why = ""; // the server's own words, if it answers
  since = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  retry;

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    /** @type {Op[]} oldest first; only the first is under way */
    this.ops = [];
    /** @type {string | null} who did what a page before this one has kept */
    this.before = null;
    try {
      const { user, ops } = JSON.parse(page.read() || "{}"); // of a page that was loaded anew: the server knows what it has stored already
      if (user && ops) [this.before, this.ops] = [user, ops];
    } catch {
      /* nothing was kept */
    }
  }

  /** @param {string} token a fresher one may be the cure for what waits @param {string} user what somebody else did is not sent as theirs */
  join(token, user) {
    const { before } = this;
    [this.token, this.user, this.before] = [token, user, null];
    if (before !== null && before !== user) {
      const many = count(this.ops.length, "decision", "decisions");
      this.ops = [];
      this.keep();
      this.owner.tell(`${many} of ${before} waited in this tab to be saved, and went: nothing is sent in another name.`);
    }
    this.pump();
  }

  /** @param {Route} route @param {number | null} id @param {string} name @param {Record<string, unknown>} body */
  push(route, id, name, body) {
    /** @type {Op} */
    const op = { route, id, name, operation: uuid(), sent: false, body };
    if (route === "decide") op.body.operation = op.operation;
    if (!this.ops.length) this.wait();
    this.ops.push(op);
    this.keep();
    this.pump();
    return op;
  }

  wait() {
    this.since = Date.now();
    setTimeout(() => this.owner.changed(), SLOW_MS + 20);
  }

  keep() {
    this.page.write(this.ops.length ? JSON.stringify({ user: this.user, ops: this.ops }) : "");
    this.owner.changed();
  }

  /** Takes one out that the server cannot know of; false if it may. @param {Op} op */
  drop(op) {
    if (op.sent || !this.ops.includes(op)) return false;
    this.ops = this.ops.filter((each) => each !== op);
    this.keep();
    return true;
  }

  /** Of which pictures something waits to be stored. */
  get ids() {
    return this.ops.flatMap((op) => (op.id === null ? [] : [op.id]));
  }

  get unsaved() {
    const n = this.ops.length;
    if (!n || !(this.failing || Date.now() - this.since > SLOW_MS)) return "";
    return `${count(n, "decision waits", "decisions wait")} to be saved${this.failing ? `: ${this.why}` : ""}`;
  }

  async pump() {
    const op = this.ops[0];
    if (this.sending || !op || !this.token) return;
    if (op.route !== "decide" && this.owner.busy()) return;
    clearTimeout(this.retry);
    this.sending = true;
    if (!op.sent) {
      op.sent = true;
      this.keep();
    }
    let answer = null;
    let status;
    try {
      const response = await this.page.fetch(`/api/review/${op.route}`, this.request(op, AbortSignal.timeout(ANSWER_MS)));
      status = response.status;
      answer = await response.json().catch(() => null);
    } catch {
      status = 0;
    }
    this.sending = false;
    if (status === 401 && !this.failing) this.owner.expired();
    if (status === 503 && answer?.error) op.tries = (op.tries ?? 0) + 1;
    const given = (op.tries ?? 0) >= TRIES && status === 503;
    if (!given && (status === 0 || status >= 500 || [401, 408, 425, 429].includes(status) || (status === 200 && !answer))) {
      this.failing = true;
      this.why = answer?.error?.message ?? "the server does not answer";
      this.retry = setTimeout(() => this.pump(), RETRY_MS);
      return this.owner.changed();
    }
    this.failing = false;
    this.ops = this.ops.filter((each) => each !== op);
    if (this.ops.length) this.wait();
    if (status < 300) this.owner.answered(op, answer);
    else {
      this.ops = this.ops.filter((each) => each.route !== "undo" || each.body.operation !== op.operation); // there is nothing to undo
      this.owner.refused(op, status, answer?.error ?? {});
    }
    this.keep();
    this.pump();
  }

  /** @param {Op} op @param {AbortSignal} [signal] @returns {RequestInit} */
  request(op, signal) {
    return { method: "POST", headers: { "Content-Type": "application/json", "X-Loupe-Token": this.token }, body: JSON.stringify(op.body), signal };
  }

  /** The page goes: what waits is sent once more, as a browser may send it after that. */
  last() {
    for (const op of this.ops) if (op.route === "decide") this.page.fetch(`/api/review/${op.route}`, { ...this.request(op), keepalive: true }).catch(() => {});
  }
}
