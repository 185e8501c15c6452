// What the components' scripts share. Streamlit loads each of them as a blob of its own; all import this file, and the
// browser keeps one copy of it for the whole page: so there is one outbox per dataset, whichever view labels.

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

// Small tools ------------------------------------------------------------------------------------

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

export function icon(path) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(ns, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

export const ICONS = {
  open: "M9.5 2.5h4v4M13.5 2.5l-5 5M6.5 13.5h-4v-4M2.5 13.5l5-5",
  undo: "M3 6.5h6.5a3.5 3.5 0 0 1 0 7H6M3 6.5l3-3M3 6.5l3 3",
  redo: "M13 6.5H6.5a3.5 3.5 0 0 0 0 7H10M13 6.5l-3-3M13 6.5l-3 3",
  remove: "M4 4l8 8M12 4l-8 8",
  flag: "M4 14V2.5M4 3h8l-2 2.75 2 2.75H4",
  zoom: "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.3 10.3l3.2 3.2M7 5v4M5 7h4",
  page: "M2.5 2.5h4.5v4.5H2.5zM9 2.5h4.5v4.5H9zM2.5 9h4.5v4.5H2.5zM9 9h4.5v4.5H9z",
  blur: "M8 2.5c2.4 2.7 4 4.7 4 6.8a4 4 0 0 1-8 0c0-2.1 1.6-4.1 4-6.8z",
  keys: "M2 4.5h12v7H2zM4.5 7h.01M7 7h.01M9.5 7h.01M11.8 7h.01M5 9.3h6",
  back: "M10 3L5 8l5 5",
  next: "M6 3l5 5-5 5",
  small: "M5 5h6v6H5z",
  large: "M2.5 2.5h11v11h-11z",
};

// A live region speaks each time it is written, so it is written only when it differs.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// crypto.randomUUID needs https; a server in the house often has none.
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 15) | 64;
  b[8] = (b[8] & 63) | 128;
  const hex = [...b].map((v) => v.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

export function remembered(name, value) {
  try {
    if (value === undefined) return localStorage.getItem("loupe." + name);
    localStorage.setItem("loupe." + name, value);
  } catch {
    /* a browser may forbid storage: then a choice lasts as long as the page */
  }
  return null;
}

export const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
export const percent = (p) => `${Math.round(p * 100)} %`;
export const mac = /Mac|iP(hone|ad)/.test(navigator.platform);

// What a component exports: one View for each place, drawn anew with update(), and end()ed when it goes.
export function mount(View) {
  const views = new WeakMap();
  return (component) => {
    const parent = component.parentElement;
    if (!views.has(parent)) views.set(parent, new View(parent));
    const view = views.get(parent);
    view.update(component);
    return () => {
      view.end?.();
      views.delete(parent);
    };
  };
}

// The outbox -------------------------------------------------------------------------------------

const outboxes = new Map();

// Every labelling and every flag is an operation that waits here until the server has answered; it outlives a rerun,
// a page of images and a walk through the app. A view has paint() and changed(ms to wait at most).
export class Outbox {
  static of(dataset) {
    if (!outboxes.has(dataset)) outboxes.set(dataset, new Outbox(dataset));
    return outboxes.get(dataset);
  }

  constructor(dataset) {
    this.dataset = dataset;
    this.server = null; // {post_url, changes_url, token, user, session} of the view drawn last
    this.ops = []; // oldest first; only the first is under way
    this.known = new Map(); // image id -> {label, flagged, seq, by, refused}: what the server last said
    this.names = new Map();
    this.undos = []; // {field, before: Map(image id -> value), after: the same}
    this.redos = [];
    this.views = new Set();
    this.failing = false;
    this.waitingSince = 0;
    this.notice = null; // {text, hint, calm, at}
    this.after = -1; // the last change heard of
    this.renewed = 0;
    this.pollWait = POLL_MS;
  }

  // Views call this each time they are drawn: a fresher token may be the cure for what waits.
  join(view, { post_url, changes_url, token, user, named, session, newest }) {
    if (!this.views.size) this.after = newest ?? -1; // what changed before this view was drawn is drawn
    this.views.add(view);
    if (!token) return;
    this.server = { post_url, changes_url, token, user, session };
    if (named) document.cookie = `loupe_user=${encodeURIComponent(user)}; Max-Age=31536000; SameSite=Strict; Path=/`;
    this.pump();
    this.poll();
  }

  leave(view) {
    this.views.delete(view);
  }

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

  // What a person sees: what the server said, and over it what is on its way.
  state(id) {
    const state = { label: null, flagged: false, by: null, refused: false, ...this.known.get(id), pending: false };
    for (const op of this.ops) {
      if (!op.ids.has(id)) continue;
      state[op.field] = op.value;
      state.pending = true;
    }
    return state;
  }

  // field: "label" or "flagged"; answers how many images it changed.
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

  // Answers {field, groups: [[value, ids], ...]}, or null when there was no step to take.
  travel(from, to, now, then) {
    const step = from.pop();
    if (!step) return null;
    const groups = new Map(); // value -> ids; whatever was changed otherwise since then stays
    for (const [id, value] of step[then]) {
      if (this.state(id)[step.field] !== step[now].get(id)) continue;
      if (!groups.has(value)) groups.set(value, []);
      groups.get(value).push(id);
    }
    if (groups.size) to.push(step);
    for (const [value, ids] of groups) this.push(step, ids, value);
    this.tell();
    return { field: step.field, groups: [...groups] };
  }

  push(step, ids, value) {
    const op = { operation: uuid(), field: step.field, value, ids: new Set(ids), seen: {}, step };
    for (const id of ids) if (!this.state(id).pending) op.seen[id] = this.known.get(id)?.seq ?? 0;
    if (!this.ops.length) {
      this.waitingSince = Date.now();
      setTimeout(() => this.tell(), SLOW_MS + 20);
    }
    this.ops.push(op);
    if (this.notice && Date.now() - this.notice.at > READ_MS) this.notice = null;
    this.tell();
    this.pump();
  }

  get slow() {
    return this.ops.length > 0 && (this.failing || Date.now() - this.waitingSince > SLOW_MS);
  }

  get unsaved() {
    return this.slow ? `${count(this.ops.length, "change", "changes")} not saved yet${this.failing ? ": no connection" : ""}` : "";
  }

  // What a later operation on the same image must have seen is known when the earlier one is answered.
  chain(id, seq) {
    const next = this.ops.find((op) => op.ids.has(id));
    if (next && !(id in next.seen)) next.seen[id] = seq;
  }

  forget(id) {
    for (const op of this.ops) {
      op.ids.delete(id);
      delete op.seen[id];
    }
    this.ops = this.ops.filter((op) => op.ids.size);
    this.unstep([...this.undos, ...this.redos], id);
  }

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
    let answer = null;
    let status = 0;
    try {
      const response = await fetch(this.server.post_url, {
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
      this.retry = setTimeout(() => this.pump(), RETRY_MS);
      return this.tell();
    }
    this.failing = false;
    this.waitingSince = Date.now();
    this.ops.shift();
    if (status >= 200 && status < 300) this.confirmed(op, answer);
    else this.rejected(op, answer);
    this.tell();
    this.pump();
  }

  confirmed(op, answer) {
    const stored = op.field === "label" && "label" in answer ? answer.label : op.value;
    if (stored !== op.value) {
      for (const values of [op.step.before, op.step.after]) {
        for (const [id, value] of values) if (value === op.value) values.set(id, stored);
      }
    }
    const refused = answer.refused ?? {};
    for (const id of op.ids) {
      if (id in refused) continue;
      const before = this.known.get(id);
      const seq = answer.seqs?.[id] ?? before?.seq ?? 0;
      if (seq >= (before?.seq ?? 0)) this.known.set(id, { ...before, [op.field]: stored, seq, by: null, refused: false });
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
    if (this.polling || document.hidden || !this.views.size || !this.server?.changes_url) return;
    this.polling = true;
    const { changes_url, token, session } = this.server;
    const query = new URLSearchParams({ dataset: this.dataset, after: this.after });
    if (session) query.set("session", session);
    if (session && Date.now() - this.renewed >= RENEW_MS) query.set("renew", "1");
    let more = false;
    try {
      const response = await fetch(`${changes_url}?${query}`, { headers: { "X-Loupe-Token": token }, signal: AbortSignal.timeout(ANSWER_MS) });
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
    const query = new URLSearchParams({ dataset: this.dataset, session, release: "1" });
    fetch(`${changes_url}?${query}`, { headers: { "X-Loupe-Token": token }, keepalive: true }).catch(() => {});
    this.renewed = 0;
  }

  hear(changes) {
    const named = new Map();
    let news = 0;
    for (const { id, label, flagged, seq, by } of changes) {
      const before = this.known.get(id);
      const other = by === this.server.user ? null : by;
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

addEventListener("beforeunload", (event) => {
  if ([...outboxes.values()].some((box) => box.ops.length)) event.preventDefault();
});
// Streamlit's own message about a lost connection lies over the page and swallows the keys. Here they are kept and sent
// again, and every view says how many wait.
new MutationObserver(() => {
  const dialog = document.querySelector('body > [data-testid="stDialog"]');
  if (dialog?.textContent.startsWith("Connection error")) dialog.querySelector('section [aria-label="Close"]')?.click();
}).observe(document.body, { childList: true });

addEventListener("pagehide", () => {
  for (const box of outboxes.values()) box.release();
});
addEventListener("online", () => {
  for (const box of outboxes.values()) box.pump(), box.poll();
});
document.addEventListener("visibilitychange", () => {
  for (const box of outboxes.values()) box.poll();
});
