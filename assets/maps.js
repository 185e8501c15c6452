// Attribution maps laid over the picture the network saw: a row for each method, a column for each class.
// One slider sets how strongly they cover it; that is the browser's work alone.

const { el, mount } = await import(new URL("/assets/shared.js", location.origin));

const strengths = new Map(); // a choice outlives reruns and pages
const SMALL = 128; // pixels; below, a picture is shown pixel by pixel

class View {
  constructor(parent) {
    this.large = new Set(); // "row/column" of the pictures enlarged
    this.slider = el("input", { type: "range", min: "0", max: "100", step: "1", class: "strength" });
    this.value = el("output", { class: "value" });
    this.slider.addEventListener("input", () => this.setStrength(Number(this.slider.value) / 100));
    this.rows = el("div", { class: "rows" });
    this.root = el(
      "div",
      { class: "maps" },
      el(
        "div",
        { class: "head" },
        el("label", { class: "slide" }, el("span", {}, "Strength of the map"), this.slider, this.value),
        el("div", { class: "legend" }, el("span", {}, "blue speaks against"), el("span", { class: "scale", "aria-hidden": "true" }), el("span", {}, "red speaks for")),
      ),
      this.rows,
    );
    parent.append(this.root);
    this.rows.addEventListener("click", (event) => {
      const figure = event.target.closest(".map");
      if (figure && event.target.closest(".frame")) this.toggle(figure);
    });
    this.rows.addEventListener("keydown", (event) => {
      const figure = event.target.closest(".map");
      if (event.key !== "Escape" || !figure || !this.large.has(figure.dataset.place)) return;
      event.stopPropagation();
      this.toggle(figure);
    });
  }

  update({ data }) {
    this.key = data.key;
    const strength = strengths.get(data.key) ?? 0.7;
    this.slider.value = String(Math.round(strength * 100));
    this.setStrength(strength);
    const sign = JSON.stringify(data.panels.map((panel) => [panel.title, (panel.maps ?? []).map((map) => map.title)]));
    if (this.sign !== sign) {
      this.sign = sign;
      this.large.clear();
      this.rows.replaceChildren();
    }
    data.panels.forEach((panel, row) => {
      const old = this.rows.children[row];
      const text = JSON.stringify(panel);
      if (old?.source === text) return; // only what changed is drawn again
      const node = this.panel(panel, row);
      node.source = text;
      if (old) old.replaceWith(node);
      else this.rows.append(node);
    });
  }

  setStrength(strength) {
    strengths.set(this.key, strength);
    this.root.style.setProperty("--strength", String(strength));
    this.value.textContent = `${Math.round(strength * 100)} %`;
  }

  panel(panel, row) {
    const maps = panel.maps ?? [];
    const body = panel.error
      ? el("p", { class: "error", role: "status" }, panel.error)
      : el("div", { class: "columns" }, ...maps.map((map, column) => this.figure(panel, map, `${row}/${column}`)));
    return el(
      "section",
      { class: "panel", "aria-label": panel.title },
      el("h3", {}, panel.title),
      ...(panel.subtitle ? [el("p", { class: "subtitle" }, panel.subtitle)] : []),
      body,
    );
  }

  figure(panel, map, place) {
    const caption = el("figcaption", {}, el("span", { class: "title" }, map.title ?? ""), el("span", { class: "caption" }, map.caption ?? ""));
    if (map.error) {
      return el("figure", { class: "map" }, el("div", { class: "frame failed" }, el("p", { class: "error", role: "status" }, map.error)), caption);
    }
    if (!map.url || !panel.picture) {
      const picture = panel.picture ? [this.image(panel.picture, "picture", "")] : [];
      return el("figure", { class: "map loading", "aria-busy": "true" }, el("div", { class: "frame" }, ...picture, el("span", { class: "skeleton", role: "img", "aria-label": `${panel.title} for ${map.title} is being computed` })), caption);
    }
    const name = `${panel.title}: what speaks for and against ${map.title}`;
    const big = this.large.has(place);
    const frame = el(
      "button",
      { type: "button", class: "frame", "aria-expanded": String(big), "aria-label": `${name}. Enlarge`, title: big ? "Make smaller" : "Enlarge" },
      this.image(panel.picture, "picture", ""),
      this.image(map.url, "overlay", ""),
    );
    return el("figure", { class: big ? "map large" : "map", "data-place": place }, frame, caption);
  }

  image(url, name, alt) {
    const image = el("img", { class: name, alt, decoding: "async", draggable: "false" });
    image.addEventListener("load", () => {
      if (name !== "picture") return;
      const frame = image.closest(".frame");
      frame?.classList.toggle("pixelated", Math.max(image.naturalWidth, image.naturalHeight) < SMALL);
      frame?.style.setProperty("aspect-ratio", `${image.naturalWidth} / ${image.naturalHeight}`);
    });
    image.src = url;
    return image;
  }

  toggle(figure) {
    const place = figure.dataset.place;
    if (!place) return;
    const big = !this.large.delete(place);
    if (big) this.large.add(place);
    figure.classList.toggle("large", big);
    const frame = figure.querySelector(".frame");
    frame.setAttribute("aria-expanded", String(big));
    frame.title = big ? "Make smaller" : "Enlarge";
    if (big) figure.scrollIntoView({ block: "nearest" });
  }
}

export default mount(View);
