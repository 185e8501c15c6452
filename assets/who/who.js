// On a phone, where the sidebar is closed: the dataset and the name. On every page the browser is told to keep the name.

import { el, mount, say } from "../common/dom.js";
import { remember } from "../common/who.js";

/** @typedef {{ user: string, keep: boolean, dataset: string }} Data */

class View {
  /** @param {ShadowRoot} parent */
  constructor(parent) {
    this.root = el("p", { class: "who" });
    parent.append(this.root);
  }

  /** @param {{ data: Data }} given */
  update({ data }) {
    if (data.keep) remember(data.user);
    say(this.root, [data.dataset, data.user].filter(Boolean).join("  ·  "));
  }

  end() {
    this.root.remove();
  }
}

export default mount(View);
