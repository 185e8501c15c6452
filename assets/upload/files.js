// Which files may come, and under which name.

/**
 * "image/*", "image/png" or ".png", as in the input's accept.
 * @param {{ name: string, type?: string }} file @param {string | undefined} accept
 */
export function accepted(file, accept) {
  const rules = (accept || "").split(",").map((rule) => rule.trim().toLowerCase()).filter(Boolean);
  if (!rules.length) return true;
  const name = file.name.toLowerCase();
  const type = (file.type || "").toLowerCase();
  return rules.some((rule) => (rule.startsWith(".") ? name.endsWith(rule) : rule.endsWith("/*") ? type.startsWith(rule.slice(0, -1)) : type === rule));
}

/** Two files of one name, from two folders, both arrive. @param {string} name @param {Set<string>} taken */
export function distinct(name, taken) {
  const dot = name.lastIndexOf(".");
  const [stem, ext] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
  let tried = name;
  for (let n = 2; taken.has(tried); n++) tried = `${stem} (${n})${ext}`;
  taken.add(tried);
  return tried;
}
