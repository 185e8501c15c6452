// Colours of classes and clusters, and colours as numbers for what is painted pixel by pixel.

import { el } from "./dom.js";

/** @typedef {[red: number, green: number, blue: number]} Rgb */

const NO_CLASS = "var(--st-gray-color)";

/** The dot before the name of a class. @param {string | null | undefined} color */
export function dot(color) {
  const node = el("span", { class: "dot" });
  paintDot(node, color);
  return node;
}

/** @param {HTMLElement} node @param {string | null | undefined} color */
export function paintDot(node, color) {
  node.style.setProperty("--dot", color ?? NO_CLASS);
}

/** Hues by the golden angle: neighbours in number are far apart in colour, and cluster 3 is always the same. @param {number} i */
export const clusterColor = (i) => `oklch(${[0.63, 0.7, 0.56][i % 3]} 0.14 ${((i * 137.508 + 25) % 360).toFixed(1)})`;

/** @type {CanvasRenderingContext2D | null} */
let sample = null;

/** Any colour of a style sheet as numbers. @param {string} color @returns {Rgb} */
export function rgb(color) {
  sample ??= /** @type {CanvasRenderingContext2D} */ (el("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true }));
  sample.clearRect(0, 0, 1, 1);
  sample.fillStyle = color;
  sample.fillRect(0, 0, 1, 1);
  const [red, green, blue] = sample.getImageData(0, 0, 1, 1).data;
  return [red, green, blue];
}

/** @param {Rgb} color @param {number} [alpha] */
export const css = ([red, green, blue], alpha = 1) => `rgb(${red} ${green} ${blue} / ${alpha})`;

/** As it lies in a buffer of pixels: alpha, blue, green, red. @param {Rgb} color */
export const packed = ([red, green, blue]) => 0xff000000 | (blue << 16) | (green << 8) | red;

/** @param {number} color @returns {Rgb} */
export const unpacked = (color) => [color & 255, (color >> 8) & 255, (color >> 16) & 255];
