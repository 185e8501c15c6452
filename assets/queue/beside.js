// What stands beside a picture: the guideline, what is known of it, other runs' answers, what others said, its frames.

import { el, say } from "../common/dom.js";
import { count, number, percent } from "../common/numbers.js";
import { stamp } from "../common/times.js";

/** @typedef {import("./desk.js").Item} Item */
/** @typedef {import("./shell.js").Class} Class */
/** @typedef {{ note: string, learned?: string, url: string | null, sheet: string | null, columns?: number, counts?: number, answers: [number, string | null, number | null][] }} Frames */
/**
 * @typedef {{ id: number, have: { label: string | null, split: string, known: boolean } | null, answers: { run: string, predicted: string, probability: number }[],
 *   earlier: { verdict: string, label: string | null, by: string, at: string, note: string }[], frames: Frames | null }} About
 */

const KEPT = 200; // answers about pictures
const SPLITS = /** @type {Record<string, string>} */ ({ train: "training", validation: "validation", test: "test" });

export class Beside {
  /** @type {Class[]} */
  classes = [];
  guideSign = "";
  sign = "";
  guided = "";

  /** @param {() => void} framed another frame is to be shown */
  constructor(framed) {
    this.framed = framed;
    this.about = el("div", { class: "about" });
    this.guide = el("div", { class: "guide" });
    /** @type {Map<number, About | null>} null while it is asked */
    this.known = new Map();
  }

  /** @param {Item[]} items @param {string} token @param {boolean} unstored */
  async fetch(items, token, unstored) {
    for (const { id } of items) {
      if (this.known.has(id)) continue;
      this.known.set(id, null);
      try {
        const response = await fetch(`/api/review/about/${id}${unstored ? "?unstored=1" : ""}`, { headers: { "X-Loupe-Token": token } });
        if (!response.ok) throw new Error(`status ${response.status}`);
        this.known.set(id, await response.json());
        this.framed();
        if (this.item?.id === id) this.show(this.item, this.hides ?? true);
      } catch {
        this.known.delete(id); // asked again when it is shown
      }
    }
    for (const id of this.known.keys()) if (this.known.size > KEPT) this.known.delete(id);
  }

  /** The frame that counts, where it is not the first. @param {Item} item */
  frameOf(item) {
    return this.known.get(item.id)?.frames?.url ?? null;
  }

  /** Who sent it, when and how. @param {Item} item */
  from(item) {
    if (item.blind) return "its name and who sent it are hidden, too";
    return [`sent by ${item.by}`, stamp(item.at), item.source].filter(Boolean).join(" · ");
  }

  /** @param {Item} item @param {boolean} hides the network's answer */
  show(item, hides) {
    this.item = item;
    this.hides = hides;
    if (this.guided !== `${item.id} ${hides}`) {
      this.guided = `${item.id} ${hides}`;
      this.guideTo(hides ? null : item.predicted);
    }
    const found = this.known.get(item.id) ?? null;
    const sign = JSON.stringify([item.id, hides, found]);
    if (this.sign === sign) return;
    this.sign = sign;
    /** @type {Node[]} */
    const parts = [];
    const line = (/** @type {string} */ text, kind = "") => parts.push(el("p", { class: kind }, text));
    for (const one of found?.earlier ?? []) {
      const what = one.verdict === "rejected" ? "none of these" : (one.label ?? one.verdict);
      line(`${one.by}, ${stamp(one.at)}: ${what}${one.note ? `. “${one.note}”` : ""}`, "earlier");
    }
    if (found?.have) {
      const { label, split, known } = found.have;
      const where = known ? `as a ${SPLITS[split] ?? split} image` : "already";
      line(`The dataset has this picture ${where}${label ? `, labelled “${label}”` : hides ? "" : ", without a label"}. Accepting an answer never changes a label, and “none of these” does not take it out.`, "have");
    }
    if (!hides && item.top.length > 1) {
      parts.push(el("ul", { class: "top" }, ...item.top.map(([name, p]) => el("li", {}, el("span", { class: "file" }, name), el("meter", { min: "0", max: "1", value: p, "aria-label": name }), el("span", { class: "n" }, percent(p))))));
    }
    const others = (found?.answers ?? []).filter((one) => !hides && (one.run !== item.run || one.predicted !== item.predicted));
    for (const one of others) line(`${one.run}: ${one.predicted}, ${percent(one.probability)}${one.predicted === item.predicted ? "" : " (differs)"}`, one.predicted === item.predicted ? "other" : "other differs");
    if (found?.frames) parts.push(...this.frames(found.frames, hides, item));
    this.about.replaceChildren(...parts);
  }

  /** @param {Frames} frames @param {boolean} hides @param {Item} item @returns {Node[]} */
  frames({ note, learned, sheet, columns = 1, counts, answers }, hides, item) {
    const n = answers.length;
    if (!sheet || !n) return [el("p", {}, note)];
    const top = answers.find(([frame]) => frame === counts)?.[1];
    const warn = !hides && top && top !== item.predicted ? [el("p", { class: "other differs" }, `It was sent with the answer of its first frame alone; of all frames, ${top} counts.`)] : [];
    const rows = Math.ceil(n / columns);
    const cells = answers.map(([frame, label, p], i) => {
      const x = ((i % columns) / Math.max(columns - 1, 1)) * 100;
      const y = (Math.floor(i / columns) / Math.max(rows - 1, 1)) * 100;
      const picture = el("span", { class: "cell", role: "img", "aria-label": `Frame ${number(frame)}` });
      Object.assign(picture.style, { backgroundImage: `url("${sheet}")`, backgroundSize: `${columns * 100}% ${rows * 100}%`, backgroundPosition: `${x}% ${y}%` });
      const said = hides || label === null || p === null ? number(frame) : `${number(frame)}: ${label} ${percent(p)}`;
      return el("li", { class: frame === counts && !hides ? "counts" : "" }, picture, said);
    });
    const text = hides ? `${count(n, "frame was", "frames were")} judged; this is frame ${number(counts ?? 1)}.` : note;
    return [el("p", {}, text), ...warn, el("p", {}, learned ?? ""), el("details", {}, el("summary", {}, `The ${number(n)} judged frames`), el("ul", { class: "frames" }, ...cells))];
  }

  // Guidelines -------------------------------------------------------------------------------------

  /** @param {Class[]} classes */
  learn(classes) {
    this.classes = classes;
    this.guide.hidden = !classes.some((c) => c.guideline || c.accepted?.length || c.rejected?.length);
  }

  /** The guideline of the class answered, or pointed at. @param {string | null} name */
  guideTo(name) {
    if (this.guide.hidden) return;
    const c = this.classes.find((one) => one.name === name);
    const sign = JSON.stringify(c ?? null);
    if (this.guideSign === sign) return;
    this.guideSign = sign;
    if (!c) return this.guide.replaceChildren(el("p", { class: "soft" }, "Point at a class to read what belongs to it."));
    /** @param {string} kind @param {string} word @param {string[] | undefined} urls */
    const row = (kind, word, urls) => (urls?.length ? [el("div", { class: `examples ${kind}` }, el("span", {}, word), ...urls.map((url) => el("img", { src: url, alt: word, draggable: "false" })))] : []);
    const text = el("p", { class: c.guideline ? "" : "soft" });
    say(text, c.guideline || "No guideline is written for this class.");
    this.guide.replaceChildren(el("strong", {}, c.name), text, ...row("accepted", "belongs", c.accepted), ...row("rejected", "does not belong", c.rejected));
  }
}
