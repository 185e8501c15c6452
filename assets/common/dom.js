// What every component builds its part of the page with.

/**
 * What Streamlit hands to a component each time it is drawn.
 * @template Data
 * @typedef {{ data: Data, parentElement: ShadowRoot, setTriggerValue: Tell, setStateValue: Tell }} Component
 */
/** @typedef {(name: string, value: unknown) => void} Tell */
/** @typedef {{ [E in keyof HTMLElementEventMap as `on${E}`]?: (event: HTMLElementEventMap[E]) => unknown }} Handlers */
/** @typedef {{ [name: string]: string | number | boolean | null | undefined | ((event: never) => unknown) }} Attributes */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Handlers & Attributes} [props]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children);
  return node;
}

/** @param {string} path drawn in a square of 16 */
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
  out: "M3.5 8h9",
  in: "M3.5 8h9M8 3.5v9",
  bin: "M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.5 9h6l.5-9M7 7v4.5M9 7v4.5",
  restore: "M8 10V3M5 6l3-3 3 3M3 9.5v3.5h10V9.5",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
};

/** What an event came from, or the nearest around it, that is such a one. @param {Event} event @param {string} selector */
export const closest = (event, selector) => /** @type {HTMLElement | null} */ (event.target instanceof Element ? event.target.closest(selector) : null);

/** One that is known to be there. @param {ParentNode} node @param {string} selector */
export const part = (node, selector) => /** @type {HTMLElement} */ (node.querySelector(selector));

/** What has the focus in a component's part of the page. @param {Node} node of it */
export const focused = (node) => /** @type {ShadowRoot} */ (node.getRootNode()).activeElement;

/** The element on the page that a component stands in. @param {Node} node of it @returns {Element | undefined} */
export const hostOf = (node) => /** @type {ShadowRoot} */ (node.getRootNode()).host;

/** @param {HTMLCanvasElement} canvas */
export const context2d = (canvas) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));

/** A live region speaks each time it is written, so it is written only when it differs. @param {Node} node @param {string} text */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * A choice that is kept in this browser: read without a value, written with one.
 * @param {string} name
 * @param {string} [value]
 */
export function remembered(name, value) {
  try {
    if (value === undefined) return localStorage.getItem("loupe." + name);
    localStorage.setItem("loupe." + name, value);
  } catch {
    /* a browser may forbid storage: then a choice lasts as long as the page */
  }
  return null;
}

/** What speaks to who cannot see a button: what is read on it and what it does. @param {string} label @param {string} [text] */
export const named = (label, text) => (text && !text.split(" ").every((word) => label.includes(word)) ? `${text}: ${label}` : label);

/**
 * A small button with a drawing; its name and key stand in the title.
 * @param {string} path
 * @param {string} label
 * @param {string} key
 * @param {(event: MouseEvent) => unknown} act
 * @param {string} [text] beside the drawing
 */
export function tool(path, label, key, act, text) {
  const words = text ? [el("span", { class: "text" }, text)] : [];
  return el("button", { type: "button", class: text ? "tool" : "tool square", title: `${label} (${key})`, "aria-label": named(label, text), onclick: act }, icon(path), ...words);
}

/**
 * What a component exports: one view for each place, drawn anew with update(), and end()ed when it goes.
 * Streamlit loads the script before each call: of two calls that both waited for it, the first is cleaned up after the second was made.
 * @template Data
 * @param {new (parent: ShadowRoot) => { update(component: Component<Data>): void, end?(): void }} View
 */
export function mount(View) {
  /** @type {WeakMap<ShadowRoot, { view: InstanceType<typeof View>, calls: number }>} */
  const places = new WeakMap();
  return (/** @type {Component<Data>} */ component) => {
    const parent = component.parentElement;
    const place = places.get(parent) ?? { view: new View(parent), calls: 0 };
    places.set(parent, place);
    const call = ++place.calls;
    place.view.update(component);
    parent.host?.setAttribute("data-drawn", ""); // until now common/style.css keeps its place
    return () => {
      if (call < place.calls) return;
      place.view.end?.();
      places.delete(parent);
    };
  };
}
