// For assets/live/live.js, until it imports these itself.
export * from "./dom.js";
export * from "./numbers.js";
