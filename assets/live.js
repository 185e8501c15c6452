// A run's curves while it trains. The component asks the run's own route for the events after its offset and
// updates two charts in place: nothing is mounted again, so a zoom chosen by a person stays.

const { el, say, mount } = await import(new URL("/assets/shared.js", location.origin));

const POLL_MS = 500;
const RETRY_MS = 2000;
const MOST_POINTS = 2000;
const coarse = matchMedia("(pointer: coarse)").matches;
const TRAIN = "#7b8494"; // grey-blue, readable on white and on black

function plotly() {
  window.__loupePlotly ??= new Promise((loaded, failed) => {
    const script = el("script", { src: "/vendor/plotly.min.js" });
    script.onload = () => loaded(window.Plotly);
    script.onerror = () => {
      window.__loupePlotly = undefined;
      failed(new Error("the chart library did not load"));
    };
    document.head.append(script);
  });
  return window.__loupePlotly;
}

// A colour of CSS as numbers; the canvas writes every opaque one as #rrggbb.
function channels(color) {
  const brush = document.createElement("canvas").getContext("2d");
  brush.fillStyle = color;
  return [1, 3, 5].map((i) => parseInt(String(brush.fillStyle).slice(i, i + 2), 16) || 0);
}

function mixed(front, back, share) {
  const [f, b] = [channels(front), channels(back)];
  return `rgb(${f.map((v, i) => Math.round(v * share + b[i] * (1 - share))).join(", ")})`;
}

// Words ------------------------------------------------------------------------------------------


function times(n) {
  if (n === 1) return "once";
  if (n === 2) return "twice";
  return `${n} times`;
}

function duration(seconds) {
  if (seconds < 1) return "1 s";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const percent = (share) => `${(share * 100).toFixed(1)} %`;
const whole = (n) => Math.round(n).toLocaleString("en");

// The run ----------------------------------------------------------------------------------------

// What the events so far add up to.
class Run {
  constructor(epochs) {
    this.epochs = epochs;
    this.steps = 0;
    this.train = []; // [x in epochs, loss, accuracy]
    this.ends = []; // EpochEnd events
    this.last = null;
    this.step = null;
    this.started = null;
    this.ended = null;
    this.preparing = null;
  }

  add(event) {
    this.last = event;
    if (event.kind === "Started") {
      this.started = event;
      this.steps = event.steps;
      this.epochs = event.epochs || this.epochs;
    } else if (event.kind === "Preparing") {
      this.preparing = event;
    } else if (event.kind === "Step") {
      this.step = event;
      const x = this.steps ? event.step / this.steps : event.epoch;
      this.train.push([x, event.loss, event.accuracy]);
    } else if (event.kind === "EpochEnd") {
      const inside = this.train.length && this.train[this.train.length - 1][0] > event.epoch - 1;
      if (!inside) this.train.push([event.epoch, event.train_loss, event.train_accuracy]);
      this.ends.push(event);
    } else if (event.kind === "Ended") {
      this.ended = event;
    }
  }

  // Evenly thinned, the newest point kept: a chart of 100,000 steps shows no more than 2,000.
  thinned() {
    const n = this.train.length;
    if (n <= MOST_POINTS) return this.train;
    const every = Math.ceil(n / MOST_POINTS);
    return this.train.filter((_, i) => i % every === 0 || i === n - 1);
  }

  get best() {
    const epoch = this.ended?.best_epoch ?? this.ends[this.ends.length - 1]?.best_epoch;
    return this.ends.find((e) => e.epoch === epoch) ?? null;
  }

  get risen() {
    let n = 0;
    for (let i = this.ends.length - 1; i > 0; i--) {
      if (this.ends[i].val_loss === null || this.ends[i].val_loss <= this.ends[i - 1].val_loss) break;
      n++;
    }
    return n;
  }

  get share() {
    if (this.ended) return this.ended.outcome === "succeeded" ? 1 : this.done;
    if (this.last?.kind === "Preparing") return this.last.total ? this.last.done / this.last.total : 0;
    return this.done;
  }

  get done() {
    const x = this.train.length ? this.train[this.train.length - 1][0] : 0;
    return this.epochs ? Math.min(1, x / this.epochs) : 0;
  }

  // [what is happening, facts beside it]
  headline(running) {
    const event = this.last;
    if (this.ended) {
      const time = duration(this.ended.seconds);
      const words = { succeeded: `Finished in ${time}`, stopped: `Stopped after ${time}`, failed: "The training failed" };
      return [words[this.ended.outcome] ?? "Ended", this.facts(false)];
    }
    if (!event) return [running ? "Starting" : "Nothing recorded", []];
    if (event.kind === "Queued") return [`Waiting for ${event.device}: another run is training`, []];
    if (event.kind === "Preparing") {
      const counted = event.total > 1 ? [`${whole(event.done)} of ${whole(event.total)}`] : [];
      return [event.what || "Preparing", counted];
    }
    const epoch = Math.min(this.epochs, event.kind === "EpochEnd" ? event.epoch + 1 : (this.step?.epoch ?? 1));
    return [`Epoch ${epoch} of ${this.epochs}`, this.facts(true)];
  }

  facts(running) {
    const facts = [];
    if (this.started) facts.push(this.started.device);
    const speed = this.step?.images_per_s ?? this.ends[this.ends.length - 1]?.images_per_s;
    if (speed) facts.push(`${whole(speed)} images/s`);
    const left = this.step?.seconds_left;
    if (running && left !== null && left !== undefined) facts.push(`about ${duration(left)} left`);
    return facts;
  }

  sentences(running) {
    const best = this.best;
    const right = best && best.val_accuracy !== null ? `${percent(best.val_accuracy)} of the validation images right` : null;
    if (this.ended) {
      const said = [];
      if (this.ended.outcome === "failed" && this.ended.message) said.push(this.ended.message);
      if (best && right) said.push(`Best epoch ${best.epoch}: ${right}.`);
      else if (best) said.push(`Best epoch ${best.epoch}: ${percent(best.train_accuracy)} of the training images right.`);
      if (this.ended.outcome !== "failed" && this.ended.message) said.push(this.ended.message);
      return said;
    }
    if (!this.last) return running ? ["The first numbers arrive in a moment."] : [];
    if (this.last.kind === "Queued") return ["It starts by itself as soon as the device is free."];
    if (this.last.kind === "Preparing" && !this.ends.length) return ["Every image is read once before the training begins."];
    const said = [];
    const seen = this.ends.length ? this.ends[this.ends.length - 1].epoch : 0;
    said.push(seen ? `The network has seen every image ${times(seen)}.` : "The network sees the images for the first time.");
    if (this.risen >= 2) {
      said.push(`Validation loss has risen for ${this.risen} epochs: the network begins to memorise.`);
    }
    if (right) said.push(`Best so far, epoch ${best.epoch}: ${right}.`);
    return said;
  }
}

// One view ---------------------------------------------------------------------------------------

class View {
  constructor(parent) {
    this.what = el("span", { class: "lp-what" });
    this.facts = el("span", { class: "lp-facts" });
    this.fill = el("span", { class: "lp-fill" });
    this.track = el("div", { class: "lp-track", role: "progressbar", "aria-label": "Training", "aria-valuemin": "0", "aria-valuemax": "100" }, this.fill);
    this.words = el("p", { class: "lp-words", "aria-live": "polite" });
    this.trouble = el("p", { class: "lp-trouble", role: "alert", hidden: true });
    this.charts = ["loss", "accuracy"].map((what) => {
      const title = what === "loss" ? "Loss: how wrong the answers are" : "Accuracy: how many answers are right";
      const plot = el("div", { class: `lp-plot lp-${what}`, role: "img", "aria-label": title });
      return { what, plot, box: el("figure", { class: "lp-chart" }, el("figcaption", {}, title), plot), zoomed: false };
    });
    this.root = el(
      "div",
      { class: "lp-live" },
      el("div", { class: "lp-status", role: "status" }, this.what, this.facts),
      this.track,
      this.words,
      this.trouble,
      el("div", { class: "lp-charts" }, ...this.charts.map((chart) => chart.box)),
    );
    parent.append(this.root);
    this.alive = true;
    this.seen = () => {
      if (!document.hidden) this.poll();
    };
    document.addEventListener("visibilitychange", this.seen);
    this.resized = new ResizeObserver(() => {
      if (!this.drawn) return;
      for (const chart of this.charts) if (chart.plot.offsetWidth) window.Plotly.Plots.resize(chart.plot);
    });
    this.resized.observe(this.root);
  }

  update({ data, setTriggerValue }) {
    this.fire = setTriggerValue;
    const fresh = this.data?.run_id !== data.run_id;
    this.data = data;
    if (fresh) {
      this.run = new Run(data.epochs);
      this.offset = 0;
      this.tells = data.running; // only who watched it run is told that it ended
      this.finished = false;
      this.version = (this.version ?? 0) + 1;
      for (const chart of this.charts) chart.zoomed = false;
    }
    if (data.running) this.tells = this.tells || !this.run.ended;
    this.words_();
    this.draw(fresh);
    this.poll();
  }

  // Asking -------------------------------------------------------------------------------------

  later(ms) {
    clearTimeout(this.timer);
    if (this.alive) this.timer = setTimeout(() => this.poll(), ms);
  }

  async poll() {
    if (!this.alive || this.polling || this.finished) return;
    if (document.hidden && this.offset) return; // the tab's return asks again
    clearTimeout(this.timer);
    this.polling = true;
    const version = this.version;
    let answer = null;
    let trouble = "";
    let gone = false;
    try {
      const response = await fetch(`${this.data.events_url}?after=${this.offset}`, {
        headers: { "X-Loupe-Token": this.data.token },
        credentials: "same-origin",
      });
      const body = await response.json().catch(() => null);
      if (response.ok && body) answer = body;
      else {
        gone = response.status < 500 && !this.data.running;
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
    this.offset = answer.next;
    for (const line of answer.lines) this.run.add(line);
    if (answer.lines.length) {
      this.words_();
      this.draw(false);
    }
    if (this.run.ended) {
      this.finished = true;
      if (this.tells) this.fire("ended", true);
      this.tells = false;
    } else if (this.data.running || answer.lines.length) {
      this.later(POLL_MS);
    }
  }

  // Showing ------------------------------------------------------------------------------------

  words_() {
    const [what, facts] = this.run.headline(this.data.running);
    say(this.what, what);
    say(this.facts, facts.join(" · "));
    const share = Math.round(this.run.share * 1000) / 10;
    this.fill.style.width = `${share}%`;
    this.track.setAttribute("aria-valuenow", String(Math.round(share)));
    this.track.setAttribute("aria-valuetext", [what, ...facts].join(", "));
    this.root.classList.toggle("lp-failed", this.run.ended?.outcome === "failed");
    this.root.classList.toggle("lp-ended", Boolean(this.run.ended));
    say(this.words, this.run.sentences(this.data.running).join(" "));
  }

  colors() {
    const style = getComputedStyle(this.root);
    const value = (name) => style.getPropertyValue(`--st-${name}`).trim();
    return {
      text: value("text-color"),
      back: value("background-color"),
      accent: value("primary-color"),
      line: mixed(value("text-color"), value("background-color"), 0.14), // Plotly does not know color-mix
      font: value("font"),
    };
  }

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

  layout(chart, c) {
    const loss = chart.what === "loss";
    const y = loss
      ? this.axis("cross-entropy", c, { rangemode: "tozero" })
      : this.axis("images right, %", c, { autorangeoptions: { maxallowed: 100.5, minallowed: 0 } });
    return {
      autosize: true,
      height: 280,
      margin: { l: 8, r: 12, t: 26, b: 8 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: c.font, color: c.text, size: 12 },
      hoverlabel: { bgcolor: c.back, bordercolor: c.line, font: { family: c.font, color: c.text, size: 12 } },
      hovermode: "x unified",
      dragmode: coarse ? false : "zoom", // a finger scrolls the page
      showlegend: true,
      legend: { orientation: "h", x: 0, y: 1, xanchor: "left", yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
      xaxis: this.axis("epoch", c, { range: this.span(), showgrid: false, spikethickness: 1, spikecolor: TRAIN, spikedash: "solid", hoverformat: ".2f", tickformat: "~r" }),
      yaxis: y,
      uirevision: this.version,
    };
  }

  // The whole plan from the start, so that nothing jumps; what was trained, once it ended early.
  span() {
    const last = this.run.ends[this.run.ends.length - 1]?.epoch;
    return [0, (this.run.ended && last ? last : this.run.epochs || 1) * 1.02];
  }

  traces(chart, c) {
    const column = chart.what === "loss" ? 1 : 2;
    const scale = chart.what === "loss" ? 1 : 100;
    const train = this.run.thinned();
    const ends = this.run.ends.filter((e) => e.val_loss !== null && e.val_loss !== undefined);
    const format = chart.what === "loss" ? "%{y:.3f}" : "%{y:.1f} %";
    return [
      {
        name: "training",
        type: "scatter",
        mode: "lines",
        x: train.map((p) => p[0]),
        y: train.map((p) => p[column] * scale),
        line: { color: TRAIN, width: 1.3 },
        hovertemplate: format,
      },
      {
        name: "validation",
        type: "scatter",
        mode: "lines+markers",
        x: ends.map((e) => e.epoch),
        y: ends.map((e) => (chart.what === "loss" ? e.val_loss : e.val_accuracy * scale)),
        line: { color: c.accent, width: 2 },
        marker: { color: c.accent, size: 6 },
        hovertemplate: format,
      },
    ];
  }

  mark(chart, c) {
    const best = this.run.best;
    const top = chart.what === "loss"; // where the curves are not
    if (!best) return { shapes: [], annotations: [] };
    const left = best.epoch > this.run.epochs * 0.75;
    return {
      shapes: [{ type: "line", x0: best.epoch, x1: best.epoch, y0: 0, y1: 1, yref: "paper", line: { color: c.accent, width: 1, dash: "dot" } }],
      annotations: [
        {
          x: best.epoch,
          y: top ? 1 : 0,
          yref: "paper",
          yanchor: top ? "top" : "bottom",
          xanchor: left ? "right" : "left",
          xshift: left ? -4 : 4,
          showarrow: false,
          text: `best: epoch ${Number(best.epoch)}`,
          font: { size: 11, color: c.accent },
        },
      ],
    };
  }

  // One drawing at a time; what arrives meanwhile is in the next one.
  async draw(fresh) {
    this.fresh = this.fresh || fresh;
    if (this.drawing) return void (this.again = true);
    this.drawing = true;
    try {
      const library = await plotly();
      do {
        this.again = false;
        const start = this.fresh || !this.drawn;
        this.fresh = false;
        if (!this.alive) return;
        for (const chart of this.charts) await this.drawOne(library, chart, start);
        this.drawn = true;
      } while (this.again);
    } catch (error) {
      say(this.trouble, `The curves cannot be drawn: ${error.message}. Reload the page.`);
      this.trouble.hidden = false;
    } finally {
      this.drawing = false;
    }
  }

  async drawOne(library, chart, start) {
    const c = this.colors();
    const layout = this.layout(chart, c);
    const traces = this.traces(chart, c);
    if (start) {
      await library.newPlot(chart.plot, traces, { ...layout, ...this.mark(chart, c) }, {
        responsive: false,
        displaylogo: false,
        displayModeBar: coarse ? false : "hover",
        modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
        toImageButtonOptions: { filename: `loupe-${chart.what}`, scale: 2 },
      });
      chart.plot.removeAllListeners?.("plotly_relayout");
      chart.plot.on("plotly_relayout", (change) => {
        if (chart.ours) return;
        if ("xaxis.range[0]" in change || "yaxis.range[0]" in change || "xaxis.range" in change) chart.zoomed = true;
        if (change["xaxis.autorange"] || change["yaxis.autorange"]) chart.zoomed = false;
      });
      chart.plot.on("plotly_doubleclick", () => {
        chart.zoomed = false;
        chart.reset = true;
        this.draw(false);
      });
      chart.theme = JSON.stringify(c);
      return;
    }
    const change = this.mark(chart, c);
    const range = this.span();
    if (!chart.zoomed && (chart.reset || range[1] !== chart.end)) {
      change["xaxis.range"] = range;
      change["yaxis.autorange"] = true;
    }
    [chart.end, chart.reset] = [range[1], false];
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
    const all = (get) => traces.map(get);
    try {
      await library.update(
        chart.plot,
        { x: all((t) => t.x), y: all((t) => t.y), "line.color": all((t) => t.line.color), "marker.color": all((t) => t.marker?.color ?? TRAIN) },
        change,
        [0, 1],
      );
    } finally {
      chart.ours = false;
    }
  }

  end() {
    this.alive = false;
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
    this.resized.disconnect();
    for (const chart of this.charts) window.Plotly?.purge(chart.plot);
  }
}

export default mount(View);
