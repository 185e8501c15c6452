// Points as pixels: whole numbers of 32 bits in one buffer.

/**
 * 256 is all front. Whole numbers of 32 bits throughout: with others a crowded map takes twice as long.
 * @param {number} front @param {number} back @param {number} share
 */
export function mixed(front, back, share) {
  const rest = 256 - share;
  const sides = ((Math.imul(front & 0xff00ff, share) + Math.imul(back & 0xff00ff, rest)) >>> 8) & 0xff00ff;
  const middle = ((Math.imul(front & 0x00ff00, share) + Math.imul(back & 0x00ff00, rest)) >>> 8) & 0x00ff00;
  return 0xff000000 | sides | middle;
}

/**
 * A disc as offsets into a buffer so many pixels wide, and how much of each pixel it covers.
 * @param {number} radius @param {number} stride
 */
export function disc(radius, stride) {
  const full = [];
  const edge = [];
  const covers = [];
  const reach = Math.ceil(radius + 0.5);
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const cover = Math.round(256 * Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x, y))));
      if (cover === 256) full.push(y * stride + x);
      else if (cover > 8) edge.push(y * stride + x), covers.push(cover);
    }
  }
  return { full: Int32Array.from(full), edge: Int32Array.from(edge), covers: Int32Array.from(covers) };
}

/** @param {Int32Array} buffer @param {number} at @param {ReturnType<typeof disc>} given @param {number} color */
export function stamp(buffer, at, { full, edge, covers }, color) {
  for (let i = 0; i < full.length; i++) buffer[at + full[i]] = color;
  for (let i = 0; i < edge.length; i++) buffer[at + edge[i]] = mixed(color, buffer[at + edge[i]], covers[i]);
}

