// A run while it trains: its curves, and what the network answers after each epoch. The component asks the run's own route
// for the events after its offset and updates what is drawn in place: nothing is mounted again, so a zoom stays.

/** @typedef {import("./answers.js").Pictured} Pictured */
/** @typedef {{ validation: number, answers: Pictured }} Details */
/** @typedef {{ run_id: string, events_url: string, token: string, running: boolean, details: Details | null }} Data */
/** @typedef {"loss" | "accuracy" | "rate" | "speed"} What */
/**
 * @typedef {{
 *   what: What, plot: HTMLElement & { on: Function, layout: any }, box: HTMLElement, zoomed: boolean, drawn: boolean,
 *   ours?: boolean, reset?: boolean, end?: number, theme?: string, kind?: string,
 * }} Chart
 */
/** @typedef {{ text: string, back: string, accent: string, line: string, font: string }} Colors */

import { el, mount, say } from "../common/dom.js";
import { Answers } from "./answers.js";
import { Curves, decades, span } from "./curves.js";

const POLL_MS = 500;
const RETRY_MS = 2000;
const REST_MS = 5000; // between two looks at a paused run, which somebody else may resume
const coarse = matchMedia("(pointer: coarse)").matches;
const TRAIN = "#7b8494"; // grey-blue, readable on white and on black

const page = /** @type {typeof globalThis & { Plotly?: any, __loupePlotly?: Promise<any> }} */ (globalThis);

/** The chart library; loaded once for the page. */
function plotly() {
  page.__loupePlotly ??= new Promise((loaded, failed) => {
    const script = el("script", { src: "/vendor/plotly.min.js" });
    script.onload = () => loaded(page.Plotly);
    script.onerror = () => {
      page.__loupePlotly = undefined;
      failed(new Error("the chart library did not load"));
    };
    document.head.append(script);
  });
  return page.__loupePlotly;
}

/** A colour of CSS as numbers; the canvas writes every opaque one as #rrggbb. @param {string} color */
function channels(color) {
  const brush = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));
  brush.fillStyle = color;
  return [1, 3, 5].map((i) => parseInt(String(brush.fillStyle).slice(i, i + 2), 16) || 0);
}

/** @param {string} front @param {string} back @param {number} share */
function mixed(front, back, share) {
  const [f, b] = [channels(front), channels(back)];
  return `rgb(${f.map((v, i) => Math.round(v * share + b[i] * (1 - share))).join(", ")})`;
}

/**
 * end: validation's figure beside the curve.
 * @type {{ [what in What]: { title: string, axis: string, column: What, end?: "loss" | "accuracy", hover: string, height: number } }}
 */
const CHARTS = {
  loss: { title: "Loss: how wrong the answers are", axis: "cross-entropy", column: "loss", end: "loss", hover: "%{y:.3f}", height: 280 },
  accuracy: { title: "Accuracy: how many answers are right", axis: "images right, %", column: "accuracy", end: "accuracy", hover: "%{y:.1f}%", height: 280 },
  rate: { title: "Learning rate: the size of each change", axis: "learning rate", column: "rate", hover: "%{y:.2~e}", height: 132 },
  speed: { title: "Speed: training images per second", axis: "images/s", column: "speed", hover: "%{y:,.0f} images/s", height: 132 },
};

class View {
  /** @type {Chart[]} */
  charts = [];
  /** @type {InstanceType<typeof Answers> | null} */
  answers = null;
  curves = new Curves();
  alive = true;
  polling = false;
  drawing = false;
  again = false; // something arrived while it was drawn
  running = false;
  version = 0; // of the run that is shown
  offset = 0; // bytes of its events that are drawn
  waited = 0; // polls since it ended
  caught = false; // whether all that was written before has been read
  /** @type {Data} */
  data;
  /** @type {(name: string, value: unknown) => void} */
  fire;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  timer;

  /** @param {ParentNode} parent */
  constructor(parent) {
    this.what = el("span", { class: "lp-what" });
    this.facts = el("span", { class: "lp-facts" });
    this.fill = el("span", { class: "lp-fill" });
    this.track = el("div", { class: "lp-track", role: "progressbar", "aria-label": "Training", "aria-valuemin": "0", "aria-valuemax": "100" }, this.fill);
    this.words = el("p", { class: "lp-words", "aria-live": "polite" });
    this.trouble = el("p", { class: "lp-trouble", role: "alert", hidden: true });
    this.plots = el("div", { class: "lp-charts" });
    this.root = el("div", { class: "lp-live" }, el("div", { class: "lp-status", role: "status" }, this.what, this.facts), this.track, this.words, this.trouble, this.plots);
    parent.append(this.root);
    this.seen = () => {
      if (!document.hidden) this.poll();
    };
    document.addEventListener("visibilitychange", this.seen);
    this.resized = new ResizeObserver(() => {
      for (const chart of this.charts) if (chart.drawn && chart.plot.offsetWidth) page.Plotly.Plots.resize(chart.plot);
    });
    this.resized.observe(this.root);
  }

  /** @param {{ data: Data, setTriggerValue: (name: string, value: unknown) => void }} component */
  update({ data, setTriggerValue }) {
    this.fire = setTriggerValue;
    const fresh = this.data?.run_id !== data.run_id;
    this.data = data;
    if (fresh) this.begin(data.details);
    if (this.answers && data.details) this.answers.pictures = data.details.answers.images;
    this.running = data.running;
    this.tell();
    this.draw();
    this.poll();
  }

  /** Another run: everything anew. @param {Details | null} details */
  begin(details) {
    this.curves = new Curves();
    this.offset = 0;
    this.waited = 0;
    this.caught = false;
    this.version += 1;
    this.clear();
    /** @param {What} what @returns {Chart} */
    const chart = (what) => {
      const { title, height } = CHARTS[what];
      const plot = /** @type {any} */ (el("div", { class: `lp-plot lp-${what}`, role: "group", "aria-label": title }));
      plot.style.height = `${height}px`;
      const n = what === "accuracy" && details?.validation ? ` (validation n = ${details.validation.toLocaleString("en")})` : "";
      return { what, plot, box: el("figure", { class: "lp-chart" }, el("figcaption", {}, title + n), plot), zoomed: false, drawn: false };
    };
    this.charts = /** @type {What[]} */ (details ? ["loss", "accuracy", "rate", "speed"] : ["loss", "accuracy"]).map(chart);
    const [loss, accuracy, ...small] = this.charts.map((one) => one.box);
    this.plots.replaceChildren(loss, accuracy, ...(small.length ? [el("div", { class: "lp-small" }, ...small)] : []));
    this.answers = details ? new Answers(details.answers) : null;
    if (this.answers) this.root.append(this.answers.root);
  }

  clear() {
    for (const chart of this.charts) page.Plotly?.purge(chart.plot);
    this.charts = [];
    this.answers?.root.remove();
    this.answers = null;
  }

  // Asking -------------------------------------------------------------------------------------

  /** @param {number} ms */
  later(ms) {
    clearTimeout(this.timer);
    if (this.alive) this.timer = setTimeout(() => this.poll(), ms);
  }

  /** @returns {Promise<void>} */
  async poll() {
    if (!this.alive || this.polling) return;
    if (document.hidden && this.offset) return; // the tab's return asks again
    clearTimeout(this.timer);
    this.polling = true;
    const version = this.version;
    /** @type {import("./curves.js").Part | null} */
    let answer = null;
    let trouble = "";
    let gone = false;
    try {
      const response = await fetch(`${this.data.events_url}?after=${this.offset}${this.answers ? "&answers=1" : ""}`, {
        headers: { "X-Loupe-Token": this.data.token },
        credentials: "same-origin",
      });
      const body = await response.json().catch(() => null);
      if (response.ok && body) answer = body;
      else {
        gone = response.status < 500 && !this.running;
        trouble = [body?.error?.message ?? "The server could not read this run.", body?.error?.hint].filter(Boolean).join(" ");
      }
    } catch {
      trouble = "The server does not answer. Trying again; the training itself goes on.";
    }
    this.polling = false;
    if (!this.alive) return;
    if (version !== this.version) return this.poll();
    this.trouble.hidden = !trouble;
    say(this.trouble, trouble);
    if (!answer) return gone ? undefined : this.later(RETRY_MS);
    const news = answer.next > this.offset;
    this.offset = answer.next;
    const { status, active } = answer.now;
    const changed = this.curves.now?.status !== status; // what ended early has another axis
    const more = this.curves.add(answer);
    this.tell();
    if (more || news || changed) this.draw();
    if (answer.more) return this.later(0);
    const over = !active;
    // It ended, and the page has not seen it: its process may have outlived its last word a little. Or somebody resumed it.
    if (this.running ? over && (news || ++this.waited % 4 === 0) : !over && news && this.caught) {
      if (!over) this.running = true;
      this.fire("changed", true);
    }
    this.caught = true;
    if (this.running) this.later(POLL_MS);
    else if (status !== "succeeded" && this.data.details) this.later(REST_MS);
  }

  // Showing ------------------------------------------------------------------------------------

  /** What the run's state says, in words and as a bar. */
  tell() {
    const { now, points, answers } = this.curves;
    const near = now ? now.status === "pending" || now.status === "running" : this.running;
    this.plots.hidden = !points.length && !near; // soon there will be some: their place is kept free
    this.answers?.update(answers);
    say(this.what, now?.what ?? (this.running ? "Starting" : ""));
    say(this.facts, now?.facts.join(" · ") ?? "");
    say(this.words, now?.words ?? "");
    const share = Math.round((now?.share ?? 0) * 1000) / 10;
    this.fill.style.width = `${share}%`;
    this.track.setAttribute("aria-valuenow", String(Math.round(share)));
    this.track.setAttribute("aria-valuetext", now ? [now.what, ...now.facts].join(", ") : "");
    this.root.classList.toggle("lp-failed", now?.status === "failed");
  }

  /** @returns {Colors} */
  colors() {
    const style = getComputedStyle(this.root);
    const value = (/** @type {string} */ name) => style.getPropertyValue(`--st-${name}`).trim();
    return {
      text: value("text-color"),
      back: value("background-color"),
      accent: value("primary-color"),
      line: mixed(value("text-color"), value("background-color"), 0.14), // Plotly does not know color-mix
      font: value("font"),
    };
  }

  /** @param {string} title @param {Colors} c @param {object} more @returns {{ [name: string]: any }} */
  axis(title, c, more) {
    return {
      title: { text: title, font: { size: 12 }, standoff: 8 },
      gridcolor: c.line,
      linecolor: c.line,
      zeroline: false,
      tickfont: { size: 11 },
      automargin: true,
      ...more,
    };
  }

  /** @param {Chart} chart @param {Colors} c */
  layout(chart, c) {
    const { axis, height } = CHARTS[chart.what];
    const small = height < 200;
    const powers = decades(this.curves.points);
    /** @type {{ [what: string]: object }} */
    const limits = { loss: { rangemode: "tozero" }, accuracy: { autorangeoptions: { maxallowed: 100.5, minallowed: 0 } }, speed: { rangemode: "tozero", nticks: 4 } };
    const rate = { type: powers ? "log" : "linear", rangemode: powers ? "normal" : "tozero", nticks: 4, dtick: powers ? 1 : undefined, exponentformat: "power", tickformat: powers ? "" : "~g" };
    return {
      autosize: true,
      height,
      margin: { l: 8, r: 12, t: small ? 8 : 26, b: 8 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: c.font, color: c.text, size: 12 },
      hoverlabel: { bgcolor: c.back, bordercolor: c.line, font: { family: c.font, color: c.text, size: 12 } },
      hovermode: "x unified",
      dragmode: coarse ? false : "zoom", // a finger scrolls the page
      showlegend: !small,
      legend: { orientation: "h", x: 0, y: 1, xanchor: "left", yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
      xaxis: this.axis("epoch", c, { range: span(this.curves), showgrid: false, spikethickness: 1, spikecolor: TRAIN, spikedash: "solid", hoverformat: ".2f", tickformat: "~r" }),
      yaxis: this.axis(axis, c, { ...(limits[chart.what] ?? rate), showticklabels: this.curves.points.length > 0 }),
      uirevision: this.version,
    };
  }

  /** @param {Chart} chart @param {Colors} c */
  traces(chart, c) {
    const { column, end, hover } = CHARTS[chart.what];
    const scale = chart.what === "accuracy" ? 100 : 1;
    const points = this.curves.points;
    const scaled = (/** @type {number | null} */ value) => (value === null ? null : value * scale);
    const train = {
      name: "training",
      type: "scatter",
      mode: "lines",
      x: points.map((p) => p.x),
      y: points.map((p) => scaled(p[column])),
      line: { color: TRAIN, width: 1.3 },
      hovertemplate: end ? hover : `${hover}<extra></extra>`,
    };
    if (!end) return [train];
    const ends = this.curves.ends.flatMap((e) => (e[end] === null ? [] : [{ epoch: e.epoch, value: e[end] * scale }]));
    const validation = {
      name: "validation",
      type: "scatter",
      mode: "lines+markers",
      x: ends.map((e) => e.epoch),
      y: ends.map((e) => e.value),
      line: { color: c.accent, width: 2 },
      marker: { color: c.accent, size: ends.length > 60 ? 4 : 6 },
      hovertemplate: hover,
    };
    return [train, validation];
  }

  /** The best epoch. @param {Chart} chart @param {Colors} c @returns {{ [name: string]: any }} */
  mark(chart, c) {
    const best = this.curves.now?.best;
    if (!best || !CHARTS[chart.what].end) return { shapes: [], annotations: [] };
    const top = chart.what === "loss"; // where the curves are not
    const left = best > span(this.curves)[1] * 0.7;
    return {
      shapes: [{ type: "line", x0: best, x1: best, y0: 0, y1: 1, yref: "paper", line: { color: c.accent, width: 1, dash: "dot" } }],
      annotations: [
        {
          x: best,
          y: top ? 1 : 0,
          yref: "paper",
          yanchor: top ? "top" : "bottom",
          xanchor: left ? "right" : "left",
          xshift: left ? -4 : 4,
          showarrow: false,
          text: `best: epoch ${best}`,
          font: { size: 11, color: c.accent },
        },
      ],
    };
  }

  // One drawing at a time; what arrives meanwhile is in the next one.
  async draw() {
    if (!this.curves.now) return; // how long the axis is comes with the first answer
    if (this.drawing) return void (this.again = true);
    this.drawing = true;
    try {
      const library = await plotly();
      do {
        this.again = false;
        for (const chart of this.charts) {
          if (!this.alive) return;
          if (this.charts.includes(chart)) await this.drawOne(library, chart);
        }
      } while (this.again);
    } catch (error) {
      say(this.trouble, `The curves cannot be drawn: ${/** @type {Error} */ (error).message}. Reload the page.`);
      this.trouble.hidden = false;
    } finally {
      this.drawing = false;
    }
  }

  /** @param {any} library @param {Chart} chart */
  async drawOne(library, chart) {
    if (this.plots.hidden) return;
    const c = this.colors();
    const layout = this.layout(chart, c);
    const traces = this.traces(chart, c);
    this.describe(chart);
    if (!chart.drawn) {
      await library.newPlot(chart.plot, traces, { ...layout, ...this.mark(chart, c) }, {
        responsive: false,
        displaylogo: false,
        displayModeBar: coarse || !CHARTS[chart.what].end ? false : "hover",
        modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
        toImageButtonOptions: { filename: `loupe-${chart.what}`, scale: 2 },
      });
      chart.plot.on("plotly_relayout", (/** @type {{ [name: string]: unknown }} */ change) => {
        if (chart.ours) return;
        if ("xaxis.range[0]" in change || "yaxis.range[0]" in change || "xaxis.range" in change) chart.zoomed = true;
        if (change["xaxis.autorange"] || change["yaxis.autorange"]) chart.zoomed = false;
      });
      chart.plot.on("plotly_doubleclick", () => {
        chart.zoomed = false;
        chart.reset = true;
        this.draw();
      });
      chart.theme = JSON.stringify(c);
      chart.kind = layout.yaxis.type;
      chart.drawn = true;
      return;
    }
    const change = this.mark(chart, c);
    const range = span(this.curves);
    if (!chart.zoomed && (chart.reset || range[1] !== chart.end)) {
      change["xaxis.range"] = range;
      change["yaxis.autorange"] = true;
    }
    [chart.end, chart.reset] = [range[1], false];
    if (layout.yaxis.showticklabels !== chart.plot.layout.yaxis.showticklabels) change["yaxis.showticklabels"] = layout.yaxis.showticklabels;
    if (chart.kind !== layout.yaxis.type) {
      chart.kind = layout.yaxis.type;
      for (const name of ["type", "rangemode", "dtick", "tickformat"]) change[`yaxis.${name}`] = layout.yaxis[name];
      if (!chart.zoomed) change["yaxis.autorange"] = true;
    }
    if (chart.theme !== JSON.stringify(c)) {
      chart.theme = JSON.stringify(c);
      Object.assign(change, {
        font: layout.font,
        hoverlabel: layout.hoverlabel,
        "yaxis.gridcolor": c.line,
        "xaxis.linecolor": c.line,
        "yaxis.linecolor": c.line,
      });
    }
    chart.ours = true;
    const all = (/** @type {(trace: any) => unknown} */ get) => traces.map(get);
    try {
      await library.update(
        chart.plot,
        { x: all((t) => t.x), y: all((t) => t.y), "line.color": all((t) => t.line.color), "marker.color": all((t) => t.marker?.color ?? TRAIN) },
        change,
        traces.map((_, i) => i),
      );
    } finally {
      chart.ours = false;
    }
  }

  /** The curve in words, for who cannot see it. @param {Chart} chart */
  describe(chart) {
    const { title, column, end } = CHARTS[chart.what];
    const { points, end: last } = this.curves;
    if (!points.length) return;
    const said = (/** @type {number | null} */ value) => (value === null ? "unknown" : Number(value.toPrecision(3)));
    const held = end && last ? `, validation ${said(last[end])} after epoch ${last.epoch}` : "";
    chart.plot.setAttribute("aria-label", `${title}. Now ${said(points[points.length - 1][column])}${held}`);
  }

  end() {
    this.alive = false;
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
    this.resized.disconnect();
    this.clear();
  }
}

export default mount(View);
