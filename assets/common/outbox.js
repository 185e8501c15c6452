// Labellings and flags on their way to the server. No document here: what it needs of the page is handed in.

import { count } from "./numbers.js";
import { uuid } from "./uuid.js";

const RETRY_MS = 2000;
const SLOW_MS = 1000; // only then is a change that is on its way worth a line
const POLL_MS = 1500;
const POLL_MOST_MS = 10000; // while the server does not answer
const RENEW_MS = 20000; // the images dealt out to a session stay its own
const OWN_MS = 400; // after a person's last labelling the page's numbers follow,
const OTHERS_MS = 3000; // and at most so often for what others do
const NAMED_MS = 6000; // "by Anna" beside a label that somebody else gave just now
const READ_MS = 4000; // a message stays at least so long, however fast the keys
const ANSWER_MS = 20000;

/** @typedef {string | boolean | null} Value a label or its absence, a flag or its absence */
/** @typedef {"label" | "flagged"} Field */
/** @typedef {{ label: string | null, flagged: boolean, seq: number, by: string | null, refused: boolean }} Known */
/** @typedef {Known & { pending: boolean }} State */
/** @typedef {{ id: string, label?: string | null, flagged?: boolean, seq?: number, name?: string, alt?: string }} Item */
/** @typedef {{ field: Field, before: Map<string, Value>, after: Map<string, Value> }} Step */
/** @typedef {{ operation: string, field: Field, value: Value, ids: Set<string>, seen: Record<string, number>, step: Step }} Operation */
/** @typedef {{ text: string, hint: string, calm?: boolean }} Notice */
/** @typedef {{ post_url: string, changes_url: string, token: string, user: string, session: string }} Server */
/** @typedef {Server & { named: boolean, newest?: number | null }} Joining */
/** @typedef {{ id: string, label: string | null, flagged: boolean, seq: number, by: string | null }} Change */
/** @typedef {Change & { gone?: boolean }} Refusal */
/** @typedef {{ seqs?: Record<string, number>, refused?: Record<string, Refusal>, label?: string | null, notice?: string }} Answer */
/** @typedef {{ error?: { message?: string, hint?: string } }} Problem */
/** @typedef {{ paint(): void, changed(wait: number): void }} View changed() is told how many milliseconds it may wait */
/**
 * @typedef {{
 *   fetch: typeof fetch, hidden: () => boolean, remember: (user: string) => void, read: () => string | null, write: (text: string) => void }} Page
 */

/** @type {Known} */
const UNKNOWN = { label: null, flagged: false, seq: 0, by: null, refused: false };

// Every labelling and every flag is an operation that waits here until the server has answered; it outlives a rerun,
// a page of images, a walk through the app and, kept by the tab, a reload.
export class Outbox {
  /** @param {number} dataset @param {Page} page */
  constructor(dataset, page) {
    this.dataset = dataset;
    this.page = page;
    /** @type {Server | null} of the view drawn last */
    this.server = null;
    /** @type {Operation[]} oldest first; only the first is under way */
    this.ops = [];
    /** @type {Map<string, Known>} what the server last said of an image */
    this.known = new Map();
    /** @type {Map<string, string>} */
    this.names = new Map();
    /** @type {Step[]} */
    this.undos = [];
    /** @type {Step[]} */
    this.redos = [];
    /** @type {Set<View>} */
    this.views = new Set();
    this.sending = false;
    this.polling = false;
    this.failing = false;
    this.why = ""; // the server's own words, if it answers
    this.waitingSince = 0;
    /** @type {(Notice & { at: number }) | null} */
    this.notice = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.retry = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.asking = undefined;
    this.after = -1; // the last change heard of
    this.renewed = 0;
    this.pollWait = POLL_MS;
    /** @type {string | null} who did what a page before this one has kept */
    this.before = null;
    this.restore();
  }

  restore() {
    try {
      const { user, ops } = JSON.parse(this.page.read() || "{}");
      if (!user || !ops) return;
      this.before = user;
      this.ops = ops.map((/** @type {Operation} */ op) => {
        const step = { field: op.field, before: new Map(), after: new Map() }; // what was done before a reload cannot be undone by key
        return { ...op, ids: new Set(op.ids), step };
      });
      this.waitingSince = Date.now();
    } catch {
      /* nothing was kept */
    }
  }

  keep() {
    const ops = this.ops.map(({ operation, field, value, ids, seen }) => ({ operation, field, value, ids: [...ids], seen }));
    this.page.write(ops.length ? JSON.stringify({ user: this.server?.user, ops }) : "");
  }

  /** What somebody else did in this tab is not sent as theirs. @param {string} user */
  belong(user) {
    const { before } = this;
    this.before = null;
    if (before === null || before === user) return;
    const many = count(this.ops.length, "change", "changes");
    this.ops = [];
    this.keep();
    this.notify({ text: `${many} of ${before} waited in this tab to be saved, and went.`, hint: "Nothing is sent in another name." });
  }

  /**
   * Views call this each time they are drawn: a fresher token may be the cure for what waits.
   * @param {View} view @param {Joining} given
   */
  join(view, { post_url, changes_url, token, user, named, session, newest }) {
    if (!this.views.size) this.after = newest ?? -1; // what changed before this view was drawn is drawn
    this.views.add(view);
    if (!token) return;
    this.server = { post_url, changes_url, token, user, session };
    if (named) this.page.remember(user);
    this.belong(user);
    this.pump();
    this.poll();
  }

  /** @param {View} view */
  leave(view) {
    this.views.delete(view);
  }

  /** @param {Item[]} items */
  learn(items) {
    for (const item of items) {
      const seq = item.seq ?? 0;
      const before = this.known.get(item.id);
      if (!before || seq > before.seq || (seq === before.seq && !before.by)) {
        this.known.set(item.id, { label: item.label ?? null, flagged: Boolean(item.flagged), seq, by: null, refused: false });
      }
      this.names.set(item.id, item.name || item.alt || item.id);
    }
  }

  /** What a person sees: what the server said, and over it what is on its way. @param {string} id @returns {State} */
  state(id) {
    const state = { ...UNKNOWN, ...this.known.get(id), pending: false };
    for (const op of this.ops) {
      if (!op.ids.has(id)) continue;
      Object.assign(state, { [op.field]: op.value });
      state.pending = true;
    }
    return state;
  }

  /** Answers how many images it changed. @param {Field} field @param {string[]} ids @param {Value} value */
  apply(field, ids, value) {
    const changed = ids.filter((id) => this.state(id)[field] !== value);
    if (!changed.length) return 0;
    const step = {
      field,
      before: new Map(changed.map((id) => [id, this.state(id)[field]])),
      after: new Map(changed.map((id) => [id, value])),
    };
    this.undos.push(step);
    this.redos = [];
    this.push(step, changed, value);
    return changed.length;
  }

  undo() {
    return this.travel(this.undos, this.redos, "after", "before");
  }

  redo() {
    return this.travel(this.redos, this.undos, "before", "after");
  }

  /**
   * Answers which images got which values, or null when there was no step to take.
   * @param {Step[]} from @param {Step[]} to @param {"before" | "after"} now @param {"before" | "after"} then
   */
  travel(from, to, now, then) {
    const step = from.pop();
    if (!step) return null;
    /** @type {Map<Value, string[]>} */
    const groups = new Map(); // whatever was changed otherwise since then stays
    for (const [id, value] of step[then]) {
      if (this.state(id)[step.field] !== step[now].get(id)) continue;
      const ids = groups.get(value) ?? [];
      groups.set(value, ids);
      ids.push(id);
    }
    if (groups.size) to.push(step);
    for (const [value, ids] of groups) this.push(step, ids, value);
    this.tell();
    return { field: step.field, groups: [...groups] };
  }

  /** @param {Step} step @param {string[]} ids @param {Value} value */
  push(step, ids, value) {
    /** @type {Operation} */
    const op = { operation: uuid(), field: step.field, value, ids: new Set(ids), seen: {}, step };
    for (const id of ids) if (!this.state(id).pending) op.seen[id] = this.known.get(id)?.seq ?? 0;
    if (!this.ops.length) {
      this.waitingSince = Date.now();
      setTimeout(() => this.tell(), SLOW_MS + 20);
    }
    this.ops.push(op);
    this.keep();
    if (this.notice && Date.now() - this.notice.at > READ_MS) this.notice = null;
    this.pump(); // on its way before anything is drawn
    this.tell();
  }

  get slow() {
    return this.ops.length > 0 && (this.failing || Date.now() - this.waitingSince > SLOW_MS);
  }

  get unsaved() {
    return this.slow ? `${count(this.ops.length, "change", "changes")} not saved yet${this.failing ? `: ${this.why}` : ""}` : "";
  }

  /**
   * What a later operation on the same image must have seen is known when the earlier one is answered.
   * @param {string} id @param {number} seq
   */
  chain(id, seq) {
    const next = this.ops.find((op) => op.ids.has(id));
    if (next && !(id in next.seen)) next.seen[id] = seq;
  }

  /** @param {string} id */
  forget(id) {
    for (const op of this.ops) {
      op.ids.delete(id);
      delete op.seen[id];
    }
    this.ops = this.ops.filter((op) => op.ids.size);
    this.unstep([...this.undos, ...this.redos], id);
  }

  /** @param {Step[]} steps @param {string} id */
  unstep(steps, id) {
    for (const step of steps) {
      step.before.delete(id);
      step.after.delete(id);
    }
    this.undos = this.undos.filter((step) => step.after.size);
    this.redos = this.redos.filter((step) => step.after.size);
  }

  async pump() {
    if (this.sending || !this.ops.length || !this.server) return;
    clearTimeout(this.retry);
    this.sending = true;
    const op = this.ops[0];
    /** @type {(Answer & Problem) | null} */
    let answer = null;
    /** @type {number} */
    let status;
    try {
      const response = await this.page.fetch(this.server.post_url, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Loupe-Token": this.server.token },
        body: JSON.stringify({
          operation: op.operation,
          dataset_id: this.dataset,
          seen: op.seen,
          [op.field === "label" ? "label" : "flag"]: op.value,
        }),
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      status = response.status;
      answer = await response.json().catch(() => null);
    } catch {
      status = 0;
    }
    this.sending = false;
    // An expired token is renewed by drawing the page again.
    if (status === 401 && !this.failing) for (const view of this.views) view.changed(0);
    if (status === 0 || status >= 500 || [401, 408, 425, 429].includes(status) || (status === 200 && !answer)) {
      this.failing = true;
      this.why = answer?.error?.message ?? "no connection";
      this.retry = setTimeout(() => this.pump(), RETRY_MS);
      return this.tell();
    }
    this.failing = false;
    this.waitingSince = Date.now();
    this.ops.shift();
    if (status >= 200 && status < 300) this.confirmed(op, answer ?? {});
    else this.rejected(op, answer);
    this.keep();
    this.tell();
    this.pump();
  }

  /** @param {Operation} op @param {Answer} answer */
  confirmed(op, answer) {
    const stored = op.field === "label" && answer.label !== undefined ? answer.label : op.value;
    if (stored !== op.value) {
      for (const values of [op.step.before, op.step.after]) {
        for (const [id, value] of values) if (value === op.value) values.set(id, stored);
      }
    }
    const refused = answer.refused ?? {};
    for (const id of op.ids) {
      if (id in refused) continue;
      const before = this.known.get(id) ?? UNKNOWN;
      const seq = answer.seqs?.[id] ?? before.seq;
      if (seq >= before.seq) this.known.set(id, { ...before, [op.field]: stored, seq, by: null, refused: false });
      this.chain(id, seq);
    }
    const others = Object.entries(refused);
    for (const [id, other] of others) {
      const { label, flagged, seq, by } = other;
      this.known.set(id, { label, flagged, seq, by: by || "someone else", refused: true });
      this.forget(id);
    }
    if (others.length) this.notify(this.explain(op, others));
    else if (answer.notice) this.notify({ text: answer.notice, hint: "", calm: true });
    for (const view of this.views) view.changed(OWN_MS);
  }

  /** @param {Operation} op @param {[string, Refusal][]} others @returns {Notice} */
  explain(op, others) {
    const what = op.field === "label" ? "label" : "flag";
    const people = [...new Set(others.map(([, other]) => other.by || "someone else"))].join(", ");
    if (others.length > 1) {
      return {
        text: `${people} changed ${others.length} of these images before you. What they chose is shown now.`,
        hint: `Your ${what}s for them were not saved. Choose again if you disagree.`,
      };
    }
    const [id, other] = others[0];
    const name = this.names.get(id) ?? "This image";
    if (other.gone) return { text: `${name} is no longer in this dataset.`, hint: `Your ${what} was not saved.` };
    const now = other.label ? `It is “${other.label}” now.` : "It has no label now.";
    return { text: `${people} changed ${name} before you. ${now}`, hint: `Your ${what} was not saved. Choose again if you disagree.` };
  }

  /** @param {Operation} op @param {Problem | null} answer */
  rejected(op, answer) {
    for (const id of op.ids) {
      this.chain(id, op.seen[id]);
      this.unstep([op.step], id);
    }
    const error = answer?.error ?? {};
    this.notify({
      text: error.message || "It was not saved.",
      hint: error.hint || (error.message ? "" : "Reload the page and try again."),
    });
  }

  /** @param {Notice} notice */
  notify(notice) {
    this.notice = { ...notice, at: Date.now() };
  }

  dismiss() {
    this.notice = null;
    this.tell();
  }

  // What others do meanwhile: one question for all views, while somebody looks.
  async poll() {
    clearTimeout(this.asking);
    if (this.polling || this.page.hidden() || !this.views.size || !this.server?.changes_url) return;
    this.polling = true;
    const { changes_url, token, session } = this.server;
    const query = new URLSearchParams({ dataset: String(this.dataset), after: String(this.after) });
    if (session) query.set("session", session);
    if (session && Date.now() - this.renewed >= RENEW_MS) query.set("renew", "1");
    let more = false;
    try {
      const response = await this.page.fetch(`${changes_url}?${query}`, { headers: { "X-Loupe-Token": token }, signal: AbortSignal.timeout(ANSWER_MS) });
      if (!response.ok) throw new Error(`status ${response.status}`);
      const answer = await response.json();
      if (query.has("renew")) this.renewed = Date.now();
      more = answer.more;
      this.after = answer.seq;
      this.hear(answer.changes);
      this.pollWait = POLL_MS;
    } catch {
      this.pollWait = Math.min(POLL_MOST_MS, this.pollWait * 2);
    }
    this.polling = false;
    this.asking = setTimeout(() => this.poll(), more ? 0 : this.pollWait);
  }

  // What was dealt out to this page is free again as soon as it is closed or loaded anew.
  release() {
    if (!this.server?.session || !this.server.changes_url) return;
    const { changes_url, token, session } = this.server;
    const query = new URLSearchParams({ dataset: String(this.dataset), session, release: "1" });
    this.page.fetch(`${changes_url}?${query}`, { headers: { "X-Loupe-Token": token }, keepalive: true }).catch(() => {});
    this.renewed = 0;
  }

  /** @param {Change[]} changes */
  hear(changes) {
    /** @type {Map<string, Known>} */
    const named = new Map();
    let news = 0;
    for (const { id, label, flagged, seq, by } of changes) {
      const before = this.known.get(id);
      const other = by === this.server?.user ? null : by;
      if (before && (before.seq > seq || (before.seq === seq && (before.by || !other)))) continue;
      if (before?.seq !== seq) news += 1; // else the page was drawn with it just now: only the name is new
      if (!before) continue; // no view has shown it
      const entry = { label, flagged, seq, by: other, refused: false };
      this.known.set(id, entry);
      if (other) named.set(id, entry);
    }
    if (!news && !named.size) return;
    this.tell();
    if (news) for (const view of this.views) view.changed(OTHERS_MS);
    setTimeout(() => {
      for (const [id, entry] of named) if (this.known.get(id) === entry) entry.by = null;
      this.tell();
    }, NAMED_MS);
  }

  tell() {
    for (const view of this.views) view.paint();
  }
}

// Tells the page that something changed: all that comes within the wait at once. A long wait never puts off one under way.
export class Reporter {
  /** @param {() => void} report */
  constructor(report) {
    this.report = report;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** @param {number} wait in ms */
  tell(wait) {
    if (wait > OWN_MS && this.timer !== undefined) return;
    this.stop();
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.report();
    }, wait);
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}
