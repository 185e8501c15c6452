// Numbers as people read them.

/** @param {number} n */
export const number = (n) => n.toLocaleString("en");
/** @param {number} n @param {string} one @param {string} many */
export const count = (n, one, many) => `${number(n)} ${n === 1 ? one : many}`;
/** @param {number} share */
export const percent = (share) => `${Math.round(share * 100)}%`;
/** A probability in hundredths. @param {number} p */
export const points = (p) => `${(100 * p).toFixed(1)}%`;
/** What it gained or lost. @param {number} d */
export const change = (d) => (Math.abs(d) < 0.0005 ? "±0.0" : `${d < 0 ? "−" : "+"}${(100 * Math.abs(d)).toFixed(1)}`);

/** Of a file. @param {number} bytes */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 999500) return `${Math.round(bytes / 1000)} kB`;
  if (bytes < 999.5e6) return `${(bytes / 1e6).toFixed(bytes < 10e6 ? 1 : 0)} MB`;
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
