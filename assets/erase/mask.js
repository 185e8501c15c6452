// What is painted: a byte for each pixel of the picture, 1 where it is erased.

/** @typedef {{ width: number, height: number, mask: Uint8Array }} Masked */
/** @typedef {[x: number, y: number]} Point in pixels of the picture */

/** As the route takes it, eight pixels in a byte. @param {Uint8Array} mask */
export function bits(mask) {
  const bytes = new Uint8Array(Math.ceil(mask.length / 8));
  for (let i = 0; i < mask.length; i++) if (mask[i]) bytes[i >> 3] |= 128 >> (i & 7);
  return bytes;
}

/**
 * Discs along the way from one point to the other.
 * @param {Masked} painting @param {Point} from @param {Point} to
 * @param {number} share the brush's width of the picture's @param {number} value
 */
export function stroke({ width, height, mask }, [x0, y0], [x1, y1], share, value) {
  const radius = Math.max(0.5, (share * width) / 2);
  const steps = Math.max(1, Math.ceil((2 * Math.hypot(x1 - x0, y1 - y0)) / radius));
  for (let i = 0; i <= steps; i++) {
    const [x, y] = [x0 + ((x1 - x0) * i) / steps, y0 + ((y1 - y0) * i) / steps];
    for (let v = Math.max(0, Math.floor(y - radius)); v < Math.min(height, y + radius); v++) {
      const reach = radius ** 2 - (v + 0.5 - y) ** 2;
      if (reach <= 0) continue;
      const [from, to] = [Math.max(0, Math.round(x - Math.sqrt(reach))), Math.min(width, Math.max(Math.round(x + Math.sqrt(reach)), Math.floor(x) + 1))];
      if (from < to) mask.fill(value, v * width + from, v * width + to);
    }
  }
}

/** A rectangle from one corner to the other. @param {Masked} painting @param {Point} corner @param {Point} at */
export function box({ width, height, mask }, corner, at) {
  const [left, right] = [corner[0], at[0]].sort((a, b) => a - b);
  const [top, bottom] = [corner[1], at[1]].sort((a, b) => a - b);
  for (let y = Math.max(0, Math.floor(top)); y < Math.min(height, Math.ceil(bottom)); y++) {
    mask.fill(1, y * width + Math.max(0, Math.floor(left)), y * width + Math.min(width, Math.max(0, Math.ceil(right))));
  }
}
