// Files go straight to the server's own route, three at a time, and never through Streamlit's memory.
// When a batch is through, Python hears its id and the names that arrived.

import { el, mount } from "../common/dom.js";
import { count, size } from "../common/numbers.js";
import { uuid } from "../common/uuid.js";
import { accepted, distinct } from "./files.js";

/** @typedef {{ url: string, token: string, accept?: string, multiple?: boolean, label: string, hint: string, max_mb: number }} Data */
/** @typedef {{ file: File, name: string, sent: number, state: "waiting" | "sending" | "done" | "failed" }} Job */
/** @typedef {{ id: string, jobs: Job[], given: number, requests: Set<XMLHttpRequest>, open: boolean }} Batch */

const AT_ONCE = 3;
const MB = 1024 * 1024;

/** @param {number} n */
const files_ = (n) => count(n, "file", "files");

class View {
  /** @type {Data} */
  data;
  /** @type {import("../common/dom.js").Tell} */
  tell;
  /** @type {Batch | null} */
  batch = null;

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    this.input = el("input", { type: "file", class: "input", id: "file" });
    this.input.addEventListener("change", () => {
      const files = [...(this.input.files ?? [])];
      this.input.value = ""; // the same file may be chosen again
      if (files.length) this.start(files);
    });
    this.label = el("span", { class: "label" });
    this.button = el("span", { class: "button", "aria-hidden": "true" });
    this.hint = el("span", { class: "hint", id: "hint" });
    this.input.setAttribute("aria-describedby", "hint");
    this.zone = el("label", { class: "zone", for: "file" }, this.input, this.label, this.button, this.hint);
    this.text = el("span", { class: "text", role: "status" });
    this.cancel = el("button", { type: "button", class: "cancel", onclick: () => this.stop() }, "Cancel");
    this.fill = el("span", { class: "fill" });
    this.track = el("div", { class: "track", role: "progressbar", "aria-label": "Upload", "aria-valuemin": "0", "aria-valuemax": "100" }, this.fill);
    this.progress = el("div", { class: "progress", hidden: true }, el("div", { class: "line" }, this.text, this.cancel), this.track);
    this.errors = el("ul", { class: "errors", role: "alert", hidden: true });
    this.root = el("div", { class: "upload" }, this.zone, this.progress, this.errors);
    parent.append(this.root);
    this.depth = 0;
    this.zone.addEventListener("dragenter", (event) => this.drag(event, 1));
    this.zone.addEventListener("dragleave", (event) => this.drag(event, -1));
    this.zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      if (event.dataTransfer) event.dataTransfer.dropEffect = "copy";
    });
    this.zone.addEventListener("drop", (event) => this.drop(event));
  }

  /** @param {import("../common/dom.js").Component<Data>} given */
  update({ data, setStateValue }) {
    this.data = data;
    this.tell = setStateValue;
    this.label.textContent = data.label;
    this.button.textContent = data.multiple ? "Choose files" : "Choose a file";
    this.hint.textContent = data.hint;
    this.input.setAttribute("aria-label", `${data.label}: ${this.button.textContent}`);
    this.input.accept = data.accept ?? "";
    this.input.multiple = Boolean(data.multiple);
  }

  /** @param {DragEvent} event @param {number} step */
  drag(event, step) {
    event.preventDefault();
    this.depth = Math.max(0, this.depth + step);
    this.zone.classList.toggle("over", this.depth > 0);
  }

  /** @param {DragEvent} event */
  drop(event) {
    event.preventDefault();
    this.depth = 0;
    this.zone.classList.remove("over");
    const { items, files: given } = event.dataTransfer ?? { items: [], files: [] };
    const folders = [...items].map((item) => item.webkitGetAsEntry?.()).flatMap((entry) => (entry?.isDirectory ? [entry.name] : []));
    const files = [...given].filter((file) => !folders.includes(file.name) || file.type);
    this.start(files, folders.map((name) => `${name} is a folder. Pack it into a zip file and drop that.`));
  }

  // A batch ------------------------------------------------------------------------------------

  /** @param {File[]} files @param {string[]} [sentences] */
  start(files, sentences = []) {
    this.abort();
    const { max_mb: most, multiple, accept } = this.data;
    this.errors.replaceChildren();
    this.errors.hidden = true;
    for (const sentence of sentences) this.complain(sentence);
    /** @type {Set<string>} */
    const taken = new Set();
    /** @type {Job[]} */
    const jobs = [];
    for (const file of files) {
      if (!multiple && jobs.length) this.complain(`${file.name} was left out: one file at a time.`);
      else if (!accepted(file, accept)) this.complain(`${file.name} is not a kind of file that is read here. ${this.data.hint}`);
      else if (file.size > most * MB) this.complain(`${file.name} is too large: ${size(file.size)}, and ${most} MB is the most.`);
      else jobs.push({ file, name: distinct(file.name, taken), sent: 0, state: "waiting" });
    }
    this.batch = { id: uuid(), jobs, given: files.length, requests: new Set(), open: true };
    this.progress.hidden = !jobs.length;
    this.cancel.hidden = !jobs.length;
    this.root.classList.toggle("busy", jobs.length > 0);
    if (!jobs.length) return void (this.batch = null);
    this.paint();
    for (let i = 0; i < AT_ONCE; i++) this.next(this.batch);
  }

  /** @param {Batch} batch */
  next(batch) {
    if (!batch.open) return;
    const job = batch.jobs.find((each) => each.state === "waiting");
    if (!job) {
      if (batch.jobs.every((each) => each.state === "done" || each.state === "failed")) this.finish(batch);
      return;
    }
    job.state = "sending";
    const request = new XMLHttpRequest();
    batch.requests.add(request);
    request.open("PUT", `${this.data.url}/${batch.id}/${encodeURIComponent(job.name)}`);
    request.setRequestHeader("X-Loupe-Token", this.data.token);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      job.sent = Math.min(event.loaded, job.file.size);
      this.paint();
    };
    request.onloadend = () => {
      batch.requests.delete(request);
      if (!batch.open) return;
      if (request.status >= 200 && request.status < 300) {
        job.state = "done";
        job.sent = job.file.size;
      } else {
        job.state = "failed";
        let error = null;
        try {
          error = JSON.parse(request.responseText).error;
        } catch {
          /* not a sentence of ours: the one below does */
        }
        const message = error?.message ?? (request.status ? "the server did not take it." : "the connection broke. Try it again.");
        this.complain([`${job.name}:`, message, error?.hint].filter(Boolean).join(" "));
      }
      this.paint();
      this.next(batch);
    };
    request.send(job.file);
  }

  /** @param {Batch} batch */
  finish(batch) {
    if (!batch.open) return;
    batch.open = false;
    this.root.classList.remove("busy");
    this.cancel.hidden = true;
    const arrived = batch.jobs.filter((job) => job.state === "done");
    this.text.textContent = arrived.length === batch.given ? `${files_(arrived.length)} uploaded` : `${arrived.length} of ${files_(batch.given)} uploaded`;
    this.fill.style.width = arrived.length ? "100%" : "0";
    if (arrived.length) this.tell("done", { upload: batch.id, files: arrived.map((job) => job.name) });
  }

  end() {
    this.abort();
  }

  abort() {
    if (!this.batch) return;
    this.batch.open = false;
    for (const request of this.batch.requests) request.abort();
    this.batch = null;
  }

  stop() {
    this.abort();
    this.root.classList.remove("busy");
    this.text.textContent = "Cancelled. Nothing was added.";
    this.fill.style.width = "0";
    this.cancel.hidden = true;
    this.input.focus();
  }

  /** @param {string} sentence */
  complain(sentence) {
    this.errors.hidden = false;
    this.errors.append(el("li", {}, sentence));
  }

  paint() {
    const batch = this.batch;
    if (!batch?.open) return;
    const live = batch.jobs.filter((job) => job.state !== "failed");
    const total = live.reduce((sum, job) => sum + job.file.size, 0);
    const sent = live.reduce((sum, job) => sum + job.sent, 0);
    const done = batch.jobs.filter((job) => job.state === "done").length;
    const share = total ? (sent / total) * 100 : 0;
    this.fill.style.width = `${share}%`;
    this.track.setAttribute("aria-valuenow", String(Math.round(share)));
    const one = batch.jobs.length === 1 ? batch.jobs[0].name : `${done} of ${files_(batch.jobs.length)}`;
    this.text.textContent = `${one} · ${size(sent)} of ${size(total)}`;
  }
}

export default mount(View);
