// Keys as they are pressed and as they are written.

export const mac = /Mac|iP(hone|ad)/.test(globalThis.navigator?.platform ?? "");
export const COMMAND = mac ? "⌘ " : "Ctrl ";

/**
 * The name of a digit key as classes carry it, "3" or "⇧3"; null for another key. By its place on the keyboard: with
 * Shift, and on many keyboards without it, the character is another one.
 * @param {{ code: string, shiftKey: boolean }} event
 */
export function digitKey({ code, shiftKey }) {
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(code);
  return digit && (shiftKey ? "⇧" : "") + digit[1];
}

/** @param {string} key as aria-keyshortcuts wants it */
export const spoken = (key) => key.replace("⇧", "Shift+");

/** Arrow keys as steps through a list. @type {Record<string, number>} */
export const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
