// The quiet button in the header. All that the panel needs is fetched when it is first opened, so that no page waits for it.

import { el, icon, mount, say } from "../common/dom.js";

const BOOK = "M8 4.2C6.6 3.1 4.6 2.8 2 2.8v9.4c2.6 0 4.6.3 6 1.4 1.4-1.1 3.4-1.4 6-1.4V2.8c-2.6 0-4.6.3-6 1.4zM8 4.2v9.4";

class View {
  /** @param {ShadowRoot} parent */
  constructor(parent) {
    this.button = el("button", { type: "button", class: "terms", "aria-haspopup": "dialog", onclick: () => this.open() }, icon(BOOK), "Terms");
    this.trouble = el("div", { class: "trouble", role: "alert", hidden: true });
    this.root = el("div", {}, this.button, this.trouble);
    parent.append(this.root);
    const wanted = new URLSearchParams(location.search).get("term");
    if (wanted !== null) this.open(wanted);
  }

  update() {}

  /** @param {string} [term] */
  async open(term = "") {
    if (this.opening) return;
    this.opening = true;
    try {
      if (!this.panel) {
        const { Panel } = await import("../glossary/glossary.js");
        this.panel = await Panel.in(this.root, this.button);
      }
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
