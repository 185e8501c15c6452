// The quiet button in the header. All that the panel needs is fetched when the pointer or the focus first comes to it, so that no page
// waits for it, and a click hardly.

import { el, icon, mount, say } from "../common/dom.js";

const BOOK = "M8 4.2C6.6 3.1 4.6 2.8 2 2.8v9.4c2.6 0 4.6.3 6 1.4 1.4-1.1 3.4-1.4 6-1.4V2.8c-2.6 0-4.6.3-6 1.4zM8 4.2v9.4";

class View {
  /** @type {Promise<import("../glossary/glossary.js").Panel> | null} */
  coming = null;

  /** @param {ShadowRoot} parent */
  constructor(parent) {
    const ready = () => this.made().catch(() => {}); // a click says it
    this.button = el(
      "button",
      { type: "button", class: "terms", "aria-haspopup": "dialog", onclick: () => this.open(), onpointerenter: ready, onfocus: ready },
      icon(BOOK),
      "Terms",
    );
    this.trouble = el("div", { class: "trouble", role: "alert", hidden: true });
    this.root = el("div", {}, this.button, this.trouble);
    parent.append(this.root);
    const wanted = new URLSearchParams(location.search).get("term");
    if (wanted !== null) this.open(wanted);
  }

  update() {}

  /** The panel; after trouble the next call tries again. */
  made() {
    this.coming ??= import("../glossary/glossary.js").then(({ Panel }) => Panel.in(this.root, this.button));
    this.coming.catch(() => {
      this.coming = null;
    });
    return this.coming;
  }

  /** @param {string} [term] */
  async open(term = "") {
    if (this.opening) return;
    this.opening = true;
    try {
      this.panel = await this.made();
      this.trouble.hidden = true;
      if (this.root.isConnected) this.panel.open(term);
    } catch {
      say(this.trouble, "The terms could not be loaded: the server does not answer. Try again in a moment.");
      this.trouble.hidden = false;
    } finally {
      this.opening = false;
    }
  }

  end() {
    this.panel?.end();
    this.root.remove();
  }
}

export default mount(View);
