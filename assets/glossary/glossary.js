// The panel of terms: a list one can search, and the chosen term with its live drawing. It is a dialog of the browser over
// the page: the page below is neither left nor run again, Esc closes it, and the focus goes back to where it was.

import { ICONS, el, icon, part, say } from "../common/dom.js";
import { DRAWINGS } from "./drawings.js";

/** @typedef {{ slug: string, word: string, sentence: string, matters: string, drawing: string, also: string[], related: string[] }} Term */
/** @typedef {{ title: string, terms: Term[] }} Group */

const PLAY = "M5.5 3.5v9l7-4.5z";
const NARROW = 720; // px: below it the list and the term take turns

/** @type {Promise<Group[]> | null} */
let asked = null;

function terms() {
  asked ??= fetch("/api/terms")
    .then((response) => (response.ok ? response.json() : Promise.reject(new Error("no terms"))))
    .catch((error) => {
      asked = null; // the next click asks again
      throw error;
    });
  return asked;
}

/** @param {Element} root */
function style(root) {
  return new Promise((loaded, failed) => {
    const link = el("link", { rel: "stylesheet", href: "/assets/glossary/glossary.css", onload: loaded });
    link.addEventListener("error", () => {
      link.remove();
      failed(new Error("no style"));
    });
    root.append(link);
  });
}

/** @param {string} text */
const plain = (text) => text.toLowerCase().replaceAll("-", " ");
/** @param {string} word */
const sentence = (word) => word[0].toUpperCase() + word.slice(1);

/** @param {string | null} slug */
function address(slug) {
  const url = new URL(location.href);
  if (slug) url.searchParams.set("term", slug);
  else url.searchParams.delete("term");
  return url;
}

/** @param {Element} node */
function dark(node) {
  const [r, g, b] = (getComputedStyle(node).backgroundColor.match(/[\d.]+/g) ?? []).map(Number);
  return r + g + b < 384;
}

export class Panel {
  /** @type {string | null} "" is the first sight: all drawings */
  slug = null;
  /** @type {string | null} the first that fits what is typed */
  best = null;
  /** @type {import("./drawings.js").Drawing | null} */
  drawing = null;

  /** @param {HTMLElement} root @param {HTMLElement} opener */
  static async in(root, opener) {
    const [groups] = await Promise.all([terms(), style(root)]);
    return new Panel(root, opener, groups);
  }

  /** @param {HTMLElement} root @param {HTMLElement} opener @param {Group[]} groups */
  constructor(root, opener, groups) {
    this.opener = opener;
    this.terms = new Map(groups.flatMap((group) => group.terms.map((term) => [term.slug, { ...term, group: group.title }])));
    /** @type {Map<string, ReturnType<Panel["item"]>>} */
    this.items = new Map();
    /** @param {import("../common/dom.js").Attributes} props @param {...(Node | string)} children */
    const tool = (props, ...children) => el("button", { type: "button", class: "tool", ...props }, ...children);
    this.back = tool({ class: "tool back", onclick: () => this.list_() }, icon(ICONS.back), "All terms");
    this.home = tool({ class: "tool title", onclick: () => this.show("", true) }, "Terms");
    const close = tool({ class: "tool close", "aria-label": "Close", onclick: () => this.dialog.close() }, icon(ICONS.remove));
    this.search = el("input", { type: "search", class: "search", placeholder: "Find a term", "aria-label": "Find a term", autocomplete: "off", spellcheck: "false" });
    this.only = el("input", { type: "checkbox" });
    this.none = el("p", { class: "none", role: "status", hidden: true });
    this.groups = groups.map((group) => {
      const list = el("ul", {}, ...group.terms.map((term) => this.item(term).item));
      return el("section", {}, el("h3", {}, group.title), list);
    });
    this.list = el(
      "nav",
      { class: "list", "aria-label": "All terms" },
      el("div", { class: "find" }, this.search, el("label", { class: "only" }, this.only, "Only those with a drawing")),
      el("div", { class: "found" }, ...this.groups, this.none),
    );
    this.article = el("article", { class: "term" });
    // The panel can have the focus: a click beside the text must not hand the keys to the page below.
    this.panel = el("div", { class: "panel", tabindex: "-1" }, el("header", {}, this.back, this.home, close), el("div", { class: "body" }, this.list, this.article));
    this.dialog = el("dialog", { class: "glossary", "aria-label": "Terms" }, this.panel);
    root.append(this.dialog);
    this.search.addEventListener("input", () => this.filter());
    this.only.addEventListener("change", () => this.filter());
    this.list.addEventListener("keydown", (event) => this.onKey(event));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", () => this.closed());
    for (const kind of ["keydown", "keyup", "keypress"]) this.dialog.addEventListener(kind, (event) => event.stopPropagation());
  }

  /** @param {Term} term */
  item(term) {
    const link = el("a", { "data-term": term.slug, href: address(term.slug).search, onclick: (event) => this.follow(event, term.slug) }, el("span", {}, sentence(term.word)));
    if (term.drawing) link.append(el("span", { class: "drawn", title: "With a live drawing" }, icon(PLAY)));
    const item = el("li", {}, link);
    const found = { item, link, words: [term.word, ...term.also].map(plain), text: plain(`${term.sentence} ${term.matters}`) };
    this.items.set(term.slug, found);
    return found;
  }

  /** A link can still be opened in a new tab or copied. @param {MouseEvent} event @param {string} slug @param {boolean} [focus] */
  follow(event, slug, focus = false) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.show(slug, focus);
  }

  /** @param {string} slug */
  open(slug) {
    if (this.dialog.open) return;
    this.dialog.showModal();
    this.dialog.style.colorScheme = dark(this.dialog) ? "dark" : "light"; // sliders and boxes are the browser's own
    const known = this.terms.has(slug);
    if (slug && !known) {
      this.search.value = slug.slice(0, 40);
      this.filter();
    }
    this.show(known ? slug : this.narrow || slug ? "" : (this.slug ?? ""));
    if (this.narrow) this.panel.focus({ preventScroll: true });
    else this.search.focus({ preventScroll: true });
  }

  closed() {
    this.drawing?.stop?.();
    history.replaceState(history.state, "", address(""));
    this.opener.focus({ preventScroll: true });
  }

  get narrow() {
    return this.panel.clientWidth < NARROW;
  }

  // Finding ----------------------------------------------------------------------------------------

  // Those whose name begins with what is typed come first in the eye of the reader: they are marked, and Enter opens the first.
  filter() {
    const wanted = plain(this.search.value.trim());
    const rank = (/** @type {ReturnType<Panel["item"]>} */ { words, text }) => {
      if (words.some((word) => word.startsWith(wanted))) return 3;
      if (words.some((word) => word.includes(wanted))) return 2;
      return text.includes(wanted) ? 1 : 0;
    };
    let shown = 0;
    this.best = null;
    let most = 0;
    const ranks = new Map([...this.items].map(([slug, item]) => [slug, wanted ? rank(item) : 1]));
    const named = [...ranks.values()].some((value) => value >= 2);
    for (const [slug, { item }] of this.items) {
      const value = ranks.get(slug) ?? 0;
      item.hidden = !(value >= (wanted && named ? 2 : 1)) || (this.only.checked && !this.terms.get(slug)?.drawing);
      if (item.hidden) continue;
      shown += 1;
      if (wanted && value > most) [most, this.best] = [value, slug];
    }
    for (const [slug, { link }] of this.items) link.classList.toggle("best", slug === this.best);
    for (const group of this.groups) group.hidden = ![...group.querySelectorAll("li")].some((item) => !item.hidden);
    this.none.hidden = shown > 0;
    say(this.none, shown ? "" : `No term matches “${this.search.value.trim()}”. Try a part of the word.`);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const links = [...this.items.values()].filter(({ item }) => !item.hidden).map(({ link }) => link);
    const from = event.composedPath()[0];
    const at = links.findIndex((link) => link === from);
    if (event.key === "Enter" && from === this.search && this.best) {
      event.preventDefault();
      this.show(this.best, true);
    } else if (event.key === "ArrowDown" && (at >= 0 || from === this.search)) {
      event.preventDefault();
      links[Math.min(links.length - 1, at + 1)]?.focus();
    } else if (event.key === "ArrowUp" && at >= 0) {
      event.preventDefault();
      (at ? links[at - 1] : this.search).focus();
    } else if ((event.key === "Home" || event.key === "End") && at >= 0) {
      event.preventDefault();
      links[event.key === "Home" ? 0 : links.length - 1].focus();
    }
  }

  // Showing ----------------------------------------------------------------------------------------

  list_() {
    this.panel.classList.remove("reading");
    this.drawing?.stop?.();
    history.replaceState(history.state, "", address(""));
    (this.items.get(this.slug ?? "")?.link ?? this.panel).focus();
  }

  /** @param {string} slug @param {boolean} [focus] */
  show(slug, focus = false) {
    history.replaceState(history.state, "", address(slug));
    this.panel.classList.toggle("reading", Boolean(slug));
    for (const [each, { link }] of this.items) {
      if (each === slug) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    const found = this.items.get(slug);
    if (found && !found.item.hidden && !this.narrow && !this.sees(found.link)) found.link.scrollIntoView({ block: "center" });
    if (slug !== this.slug) {
      const term = this.terms.get(slug);
      this.slug = slug;
      this.drawing?.stop?.();
      this.drawing = null;
      this.article.replaceChildren(...(term ? this.entry(term) : this.welcome()));
      this.article.scrollTop = 0;
    }
    if (focus || (slug && this.narrow)) part(this.article, "h2").focus({ preventScroll: true });
  }

  /** @param {Element} link */
  sees(link) {
    const [inner, outer] = [link.getBoundingClientRect(), part(this.list, ".found").getBoundingClientRect()];
    return inner.top >= outer.top && inner.bottom <= outer.bottom;
  }

  /** @param {Term & { group: string }} term */
  entry(term) {
    /** @type {HTMLElement[]} */
    const parts = [
      el("p", { class: "kicker" }, term.group),
      el("h2", { tabindex: "-1" }, sentence(term.word)),
      el("p", { class: "sentence" }, term.sentence),
      el("p", { class: "matters" }, el("b", {}, "Why it matters here"), term.matters),
    ];
    const drawing = /** @type {Record<string, import("./drawings.js").Kind>} */ (DRAWINGS)[term.drawing];
    if (drawing) {
      this.drawing = drawing.make(term.slug);
      const { node } = this.drawing;
      parts.push(el("section", { class: "drawing", "aria-label": drawing.title }, el("h3", {}, drawing.title), el("p", { class: "hint" }, drawing.hint), node));
    }
    if (term.also.length) parts.push(el("p", { class: "also" }, `Also under this term: ${term.also.join(", ")}`));
    const related = term.related.map((slug) =>
      el("a", { class: "chip", href: address(slug).search, onclick: (event) => this.follow(event, slug, true) }, sentence(this.terms.get(slug)?.word ?? slug)),
    );
    parts.push(el("nav", { class: "related", "aria-label": "Related terms" }, el("span", {}, "Related"), ...related));
    return parts;
  }

  welcome() {
    const tiles = Object.values(DRAWINGS).map((drawing) =>
      el("a", { class: "tile", href: address(drawing.term).search, onclick: (event) => this.follow(event, drawing.term, true) }, icon(PLAY), el("b", {}, drawing.title), el("span", {}, drawing.hint)),
    );
    return [
      el("h2", { tabindex: "-1" }, "The words of the field"),
      el("p", { class: "sentence" }, "Each in one plain sentence, with the reason why it matters here. Some can be played with:"),
      el("div", { class: "tiles" }, ...tiles),
    ];
  }

  end() {
    this.drawing?.stop?.();
    this.dialog.remove();
  }
}
