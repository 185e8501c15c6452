// A run while it trains: its curves, and what the network answers after each epoch. The component asks the run's own route
// for the events after its offset and updates what is drawn in place: nothing is mounted again, so a zoom stays.

const { el, icon, ICONS, say, mount } = await import(new URL("/assets/common/shared.js", location.origin));

const POLL_MS = 500;
const RETRY_MS = 2000;
const REST_MS = 5000; // between two looks at a paused run, which somebody else may resume
const MOST_POINTS = 2000; // of a curve; then neighbours become one
const MOST_ANSWERS = 200; // epochs to step back through; then every second one goes
const MOST_CLASSES = 20; // with counts written into the cells of the matrix
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

function ordinal(n) {
  const teens = n % 100 > 10 && n % 100 < 14;
  return `${n}${(!teens && ["th", "st", "nd", "rd"][n % 10]) || "th"}`;
}

const percent = (share) => `${(share * 100).toFixed(1)} %`;
const whole = (n) => Math.round(n).toLocaleString("en");
const images = (n) => `${whole(n)} image${n === 1 ? "" : "s"}`;
const device = (name) => (/^(cpu|mps|cuda)\b/.test(name) ? name.replace(/^\w+/, (word) => word.toUpperCase()) : name);
const memory = (mb) => (mb < 10_000 ? `${whole(mb)} MB` : `${(mb / 1024).toFixed(1)} GB`);

// The 95 % score interval of a share (Wilson 1927), as core.metrics has it.
function wilson(share, n) {
  const z2 = 1.959963984540054 ** 2;
  const centre = (share + z2 / (2 * n)) / (1 + z2 / n);
  const half = (Math.sqrt(z2) / (1 + z2 / n)) * Math.sqrt((share * (1 - share)) / n + z2 / (4 * n * n));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

// How many were right: of fewer than 30 images a count, else a share with its interval.
function right(share, n) {
  if (!n) return `${percent(share)} of the validation images right`;
  if (n < 30) return `${Math.round(share * n)} of ${n} validation images right`;
  const [low, high] = wilson(share, n).map((end) => (end * 100).toFixed(1));
  return `${percent(share)} of the ${whole(n)} validation images right (95 % interval ${low} to ${high} %)`;
}

// The run ----------------------------------------------------------------------------------------

// What the events so far add up to.
class Run {
  // plan: epochs, and with details patience, stop_on, schedule, warmup and validation (how many images).
  constructor(plan) {
    this.plan = plan;
    this.epochs = plan.epochs;
    this.steps = 0;
    this.points = []; // {x in epochs, epoch, step, loss, accuracy, rate, speed}, at most MOST_POINTS
    this.ends = []; // EpochEnd events
    this.answers = []; // {epoch, cells: Uint16 or Uint32 triples, samples}, at most MOST_ANSWERS
    this.last = null;
    this.step = null;
    this.started = null;
    this.ended = null;
  }

  add(event) {
    this.last = event;
    this.ended = event.kind === "Ended" ? event : null; // what comes after an end is a run that goes on
    if (event.kind === "Started") {
      this.started = event;
      this.steps = event.steps;
      this.epochs = event.epochs || this.epochs;
    } else if (event.kind === "Resumed") {
      this.rewind(event);
    } else if (event.kind === "Step") {
      this.step = event;
      const { epoch, step, loss, accuracy, learning_rate: rate = null, images_per_s: speed } = event;
      // From the last whole epoch on: after a pause the batches may have another size.
      const x = this.steps ? Math.min(epoch, (this.end?.epoch ?? 0) + (step - (this.end?.step ?? 0)) / this.steps) : epoch;
      this.point({ x, epoch, step, loss, accuracy, rate, speed });
    } else if (event.kind === "EpochEnd") {
      const { epoch, step, learning_rate: rate, train_loss: loss, train_accuracy: accuracy, images_per_s: speed } = event;
      if (!(this.x > epoch - 1)) this.point({ x: epoch, epoch, step, loss, accuracy, rate, speed });
      for (let i = this.points.length - 1; i >= 0 && this.points[i].rate === null; i--) this.points[i].rate = rate;
      this.ends.push(event);
    } else if (event.kind === "Answers" && this.plan.answers) {
      const cells = Uint32Array.from(event.confusion.flat());
      this.answers.push({ epoch: event.epoch, cells, samples: event.samples });
      if (this.answers.length > MOST_ANSWERS) this.answers = this.answers.filter((_, i) => i % 2 || i === this.answers.length - 1);
    }
  }

  // What came after the step from which a run goes on did not last.
  rewind({ epoch, step }) {
    this.points = this.points.filter((p) => p.epoch <= epoch || p.step <= step);
    this.ends = this.ends.filter((e) => e.epoch <= epoch);
    this.answers = this.answers.filter((a) => a.epoch <= epoch);
    if (this.step?.epoch > epoch && this.step.step > step) this.step = null;
  }

  point(one) {
    this.points.push(one);
    if (this.points.length <= MOST_POINTS) return;
    const mean = (a, b) => (a + b) / 2;
    this.points = this.points.flatMap((b, i, all) => {
      const a = all[i - 1];
      if (i % 2) return { ...b, loss: mean(a.loss, b.loss), accuracy: mean(a.accuracy, b.accuracy), speed: mean(a.speed, b.speed) };
      return i === all.length - 1 ? b : [];
    });
  }

  get x() {
    return this.points[this.points.length - 1]?.x ?? 0;
  }

  get end() {
    return this.ends[this.ends.length - 1] ?? null;
  }

  get best() {
    const epoch = this.ended?.best_epoch ?? this.end?.best_epoch;
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

  // The share that always answering the commonest class would get right; null where it is not known.
  get guessing() {
    const cells = this.answers[this.answers.length - 1]?.cells;
    if (!cells?.length) return null;
    const rows = new Map();
    let n = 0;
    for (let i = 0; i < cells.length; i += 3) {
      rows.set(cells[i], (rows.get(cells[i]) ?? 0) + cells[i + 2]);
      n += cells[i + 2];
    }
    return Math.max(...rows.values()) / n;
  }

  get share() {
    if (this.ended) return this.ended.outcome === "succeeded" ? 1 : this.done;
    if (this.last?.kind === "Preparing" && !this.points.length) return this.last.total ? this.last.done / this.last.total : 0;
    return this.done;
  }

  get done() {
    return this.epochs ? Math.min(1, this.x / this.epochs) : 0;
  }

  // [what is happening, facts beside it]
  headline(status) {
    const event = this.last;
    if (this.ended) {
      const time = duration(this.ended.seconds);
      const after = { paused: `Paused after ${time}`, stopped: `Stopped after ${time}`, succeeded: `Finished in ${time}` };
      return [after[this.ended.outcome] ?? "The training failed", this.facts(false)];
    }
    if (status === "lost") return [this.end ? `Cut off in epoch ${Math.min(this.epochs, this.end.epoch + 1)}` : "Cut off", this.facts(false)];
    if (!event) return [status === "pending" || status === "running" ? "Starting" : "", []];
    if (event.kind === "Queued") {
      const place = event.place > 1 ? `${ordinal(event.place)} in line` : "next in line";
      return [`Queued: ${place} for the ${device(event.device)}`, []];
    }
    if (event.kind === "Preparing") {
      const counted = event.total > 1 ? [`${whole(event.done)} of ${whole(event.total)}`] : [];
      return [event.what || "Preparing", counted];
    }
    const epoch = Math.min(this.epochs, (this.step?.epoch ?? 0) > (this.end?.epoch ?? 0) ? this.step.epoch : (this.end?.epoch ?? 0) + 1);
    return [`Epoch ${epoch} of ${this.epochs}`, this.facts(true)];
  }

  facts(running) {
    const facts = [];
    if (this.started) facts.push(device(this.started.device));
    const speed = this.step?.images_per_s ?? this.end?.images_per_s;
    if (speed) facts.push(`${whole(speed)} images/s`);
    if (this.step?.memory_mb) facts.push(`${memory(this.step.memory_mb)} of memory`);
    const left = this.step?.seconds_left;
    if (running && left !== null && left !== undefined) facts.push(`about ${duration(left)} left`);
    return facts;
  }

  sentences(status) {
    if (this.ended) return this.afterwards();
    if (status === "lost") return this.kept();
    if (!this.last) return status === "pending" || status === "running" ? ["The first numbers arrive in a moment."] : [];
    if (this.last.kind === "Queued") return ["It starts by itself; you may close this page."];
    if (this.last.kind === "Preparing" && !this.ends.length) return ["Every image is read once before the training begins."];
    const seen = this.end?.epoch ?? 0;
    const said = [seen ? `The network has seen every image ${times(seen)}.` : "The network sees the images for the first time."];
    const advice = this.advice();
    if (advice) said.push(advice);
    return [...said, ...this.kept("Best so far, epoch")];
  }

  kept(words = "Best epoch") {
    const best = this.best;
    if (!best) return [];
    const how = best.val_accuracy === null ? `${percent(best.train_accuracy)} of the training images right` : right(best.val_accuracy, this.plan.validation);
    return [`${words} ${best.epoch}: ${how}.`];
  }

  // The one thing most worth knowing about the curves.
  advice() {
    const { end, best, plan } = this;
    if (!end) return this.warming ? "The learning rate warms up: the first strides are small." : "";
    const acts = plan.patience ? plan.patience - (end.epoch - best.epoch) : 0;
    const when = acts > 0 ? ` early stopping will act in ${acts}` : "";
    if (this.risen >= 2) {
      const stop = when && (plan.stop_on === "accuracy" ? `; without a better accuracy${when}` : `;${when}`);
      return `Validation loss has risen for ${this.risen} epochs: the network begins to memorise${stop}.`;
    }
    if (this.warming) return "The learning rate warms up: the strides grow.";
    if (this.chance) return `Validation accuracy is at the level of guessing (${percent(this.guessing)}): it has not learned to tell the classes apart yet.`;
    if (end.epoch - best.epoch >= 2) return `No better epoch for ${end.epoch - best.epoch}${when && ":" + when}.`;
    return this.apart;
  }

  // Whether the newest epoch may as well be guesses.
  get chance() {
    const share = this.end?.val_accuracy;
    if (share === null || share === undefined || this.guessing === null || !this.plan.validation) return false;
    return wilson(share, this.plan.validation)[0] <= this.guessing;
  }

  get warming() {
    if (this.plan.schedule !== "one_cycle") return this.x < (this.plan.warmup ?? 0);
    return this.points.length > 0 && this.points[this.points.length - 1].rate >= Math.max(...this.points.map((p) => p.rate ?? 0));
  }

  get apart() {
    const one = this.ended ? this.best : this.end;
    if (!one || one.val_accuracy === null) return "";
    const high = this.plan.validation ? wilson(one.val_accuracy, this.plan.validation)[1] : one.val_accuracy;
    if (one.train_accuracy - high < 0.05) return "";
    return `Training and validation are far apart (${percent(one.train_accuracy)} and ${percent(one.val_accuracy)} right): it knows its own images better than new ones. More images, or changing them at random, may help.`;
  }

  afterwards() {
    const { outcome, message } = this.ended;
    const said = this.kept();
    if (message && outcome !== "failed") said.push(message); // why it failed stands below, with the way on
    if (outcome === "succeeded" && this.best && this.best === this.end && this.end.epoch === this.epochs && this.epochs > 1) {
      said.push(this.end.val_loss < this.ends[this.ends.length - 2]?.val_loss ? "Validation loss was still falling: more epochs may help." : "The last epoch was the best: more epochs may help.");
    }
    if (outcome === "succeeded" && this.apart) said.push(this.apart);
    return said;
  }
}

// What it answers --------------------------------------------------------------------------------

const TICK = "M3 8.5l3.5 3.5L13 4.5";

// The confusion matrix and a few validation images, after any epoch.
class Answers {
  // plan.answers: classes [{name, color}], images {id: {url, alt, pixelated}}
  constructor(plan) {
    this.classes = plan.answers.classes;
    this.pictures = plan.answers.images;
    this.follow = true;
    this.at = -1; // place in run.answers
    const step = (by) => () => this.go(this.at + by);
    this.back = el("button", { type: "button", class: "lp-step", "aria-label": "One epoch back", onclick: step(-1) }, icon(ICONS.back));
    this.on = el("button", { type: "button", class: "lp-step", "aria-label": "One epoch on", onclick: step(1) }, icon(ICONS.next));
    this.range = el("input", { type: "range", min: "0", max: "0", step: "1", "aria-label": "Epoch", oninput: () => this.go(Number(this.range.value)) });
    this.epoch = el("span", { class: "lp-epoch" });
    this.newest = el("button", { type: "button", class: "lp-newest", onclick: () => this.go(Infinity) }, "Newest");
    this.sum = el("p", { class: "lp-sum" });
    this.hint = el("p", { class: "lp-readout", role: "status" });
    this.table = this.matrix();
    this.rowTotals = new Uint32Array(this.classes.length);
    this.cards = new Map();
    this.list = el("ul", { class: "lp-samples" });
    this.matrixBox = el("figure", { class: "lp-matrix" }, el("figcaption", {}, "Confusion matrix: what is taken for what"), this.sum, this.table, this.hint);
    this.tally = el("p", { class: "lp-sum" });
    this.samplesBox = el("figure", { class: "lp-some" }, el("figcaption", {}, "The same few validation images, epoch after epoch"), this.tally, this.list);
    this.root = el(
      "section",
      { class: "lp-answers", "aria-label": "What the network answers", hidden: true },
      el("div", { class: "lp-stepper", role: "group", "aria-label": "Epoch of the answers" }, this.epoch, this.back, this.range, this.on, this.newest),
      el("div", { class: this.classes.length > 30 ? "lp-two lp-wide" : "lp-two" }, this.matrixBox, this.samplesBox),
    );
  }

  go(at) {
    const last = this.run.answers.length - 1;
    this.at = Math.max(0, Math.min(last, at));
    this.follow = this.at === last;
    this.paint();
  }

  update(run) {
    const shown = this.run?.answers[this.at];
    this.run = run;
    const last = run.answers.length - 1;
    this.root.hidden = last < 0;
    if (last < 0) return;
    if (this.follow || !shown) this.at = last;
    else {
      const place = run.answers.findIndex((a) => a.epoch >= shown.epoch); // older ones may have been thinned out
      this.at = place < 0 ? last : place;
    }
    this.paint();
  }

  paint() {
    const answers = this.run.answers;
    const one = answers[this.at];
    this.range.max = String(answers.length - 1);
    this.range.value = String(this.at);
    this.range.setAttribute("aria-valuetext", `epoch ${one.epoch}`);
    this.range.style.setProperty("--at", answers.length > 1 ? this.at / (answers.length - 1) : 1);
    this.back.disabled = this.at === 0;
    this.on.disabled = this.newest.disabled = this.at === answers.length - 1;
    say(this.epoch, `What it answers after epoch ${one.epoch}`);
    if (this.painted === one) return;
    this.painted = one;
    this.fill(one.cells);
    this.show(one.samples);
  }

  // The matrix ---------------------------------------------------------------------------------

  matrix() {
    const n = this.classes.length;
    if (n > 50) return el("p", { class: "lp-sum" });
    const longest = Math.max(...this.classes.map((c) => c.name.length));
    const flat = longest <= 2 || (longest <= 6 && n <= 5);
    const corner = el("td", { class: "lp-corner" }, el("span", {}, "predicted →"), el("span", {}, "actual ↓"));
    const across = this.classes.map((c) => el("th", { scope: "col", title: c.name }, el("span", {}, c.name)));
    this.cells = this.classes.map((_, row) => this.classes.map((__, column) => el("td", { class: row === column ? "lp-right" : "lp-wrong", "data-at": row * n + column })));
    const rows = this.classes.map((c, row) => el("tr", {}, el("th", { scope: "row", title: c.name }, c.name), ...this.cells[row]));
    const table = el("table", { tabindex: "0", "aria-label": "Confusion matrix. Arrow keys read its cells.", class: flat ? "lp-flat" : "" }, el("thead", {}, el("tr", {}, corner, ...across)), el("tbody", {}, ...rows));
    table.style.setProperty("--n", n);
    const most = n <= 6 ? 14 : n <= MOST_CLASSES ? 9 : 6;
    table.style.setProperty("--head", `min(${Math.max(4.5, Math.min(most, longest * 0.62))}rem, 42cqw)`);
    table.classList.toggle("lp-many", n > MOST_CLASSES);
    const over = (event) => event.target.closest?.("td[data-at]")?.dataset.at;
    table.addEventListener("pointerover", (event) => this.read(over(event)));
    table.addEventListener("pointerleave", () => this.read());
    table.addEventListener("blur", () => this.read());
    table.addEventListener("keydown", (event) => {
      const by = { ArrowUp: -n, ArrowDown: n, ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by && event.key !== "Escape") return;
      event.preventDefault();
      const at = (this.cursor ?? -1) + (this.cursor === undefined ? 1 : by);
      if (!by) this.read();
      else if (at >= 0 && at < n * n) this.read(at);
    });
    return table;
  }

  fill(cells) {
    this.matrixBox.hidden = !cells.length && this.classes.length <= 50;
    this.sum.hidden = this.hint.hidden = !this.cells;
    if (!this.cells) return say(this.table, "With more than 50 classes it is drawn on the Evaluate page, after the run.");
    const n = this.classes.length;
    const counts = (this.counts = new Uint32Array(n * n));
    this.rowTotals.fill(0);
    let total = 0;
    let hits = 0;
    let worst = null;
    for (let i = 0; i < cells.length; i += 3) {
      const [actual, predicted, many] = [cells[i], cells[i + 1], cells[i + 2]];
      if (actual >= n || predicted >= n) continue;
      counts[actual * n + predicted] = many;
      this.rowTotals[actual] += many;
      total += many;
      if (actual === predicted) hits += many;
      else if (!worst || many > worst[2]) worst = [actual, predicted, many];
    }
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        const many = counts[row * n + column];
        const cell = this.cells[row][column];
        const share = many / (this.rowTotals[row] || 1);
        // The root lets a single mistake be seen, and the scale is the same for every epoch.
        const shade = many ? (row === column ? share : 0.25 + 0.75 * Math.sqrt(share)).toFixed(3) : "0";
        if (cell.style.getPropertyValue("--v") !== shade) cell.style.setProperty("--v", shade);
        say(cell, many && n <= MOST_CLASSES ? whole(many) : "");
      }
    }
    say(this.sum, `${whole(hits)} of ${images(total)} right. Rows: what it is; columns: what the network says.`);
    this.summary = worst ? `Most often confused: ${this.words(worst[0], worst[1], worst[2])}.` : "Nothing is confused.";
    this.read(this.cursor);
  }

  words(actual, predicted, many) {
    return `actual ${this.classes[actual].name}, predicted ${this.classes[predicted].name}: ${images(many)}`;
  }

  read(at) {
    if (!this.counts) return;
    const n = this.classes.length;
    this.marked?.classList.remove("lp-cursor");
    this.marked = null;
    this.cursor = at === undefined ? undefined : Number(at);
    if (this.cursor === undefined) return say(this.hint, this.summary);
    const [actual, predicted] = [Math.floor(this.cursor / n), this.cursor % n];
    this.marked = this.cells[actual][predicted];
    this.marked.classList.add("lp-cursor");
    say(this.hint, `${this.words(actual, predicted, this.counts[this.cursor])}, of ${whole(this.rowTotals[actual])} in the row`);
  }

  // The samples --------------------------------------------------------------------------------

  card(id) {
    const picture = this.pictures[id];
    const line = () => {
      const [mark, name, share, fill] = [el("span", { class: "lp-mark" }), el("span", { class: "lp-name" }), el("span", { class: "lp-p" }), el("i")];
      return { mark, name, share, fill, box: el("div", { class: "lp-answer" }, mark, name, share, el("span", { class: "lp-bar" }, fill)) };
    };
    const face = picture
      ? el("img", { src: picture.url, alt: picture.alt, class: picture.pixelated ? "lp-pixels" : "", loading: "lazy", width: "64", height: "64" })
      : el("span", { class: "lp-gone" }, "not in the dataset any more");
    const card = { said: line(), is: line() };
    card.box = el("li", { class: "lp-sample" }, face, el("div", { class: "lp-lines" }, card.said.box, card.is.box));
    this.cards.set(id, card);
    this.list.append(card.box);
    return card;
  }

  show(samples) {
    this.samplesBox.hidden = !samples.length;
    let hits = 0;
    const put = (line, mark, index, share) => {
      const { name = "?", color = TRAIN } = this.classes[index] ?? {};
      line.mark.replaceChildren(mark);
      say(line.name, name);
      line.name.title = name;
      say(line.share, `${Math.round(share * 100)} %`);
      line.fill.style.width = `${share * 100}%`;
      line.fill.style.background = color;
    };
    for (const [id, actual, predicted, pPredicted, pActual] of samples) {
      const card = this.cards.get(id) ?? this.card(id);
      const correct = actual === predicted;
      hits += correct;
      card.box.classList.toggle("lp-miss", !correct);
      card.box.setAttribute("aria-label", `${correct ? "Right" : "Wrong"}: the network says ${this.classes[predicted]?.name}, ${Math.round(pPredicted * 100)} %; it is ${this.classes[actual]?.name}`);
      put(card.said, icon(correct ? TICK : ICONS.remove), predicted, pPredicted);
      put(card.is, "is", actual, pActual);
    }
    say(this.tally, `${hits} of ${samples.length} right. Beside each: what the network says, how sure it is, and under a wrong answer what it is.`);
  }
}

// One view ---------------------------------------------------------------------------------------

const CHARTS = {
  loss: { title: "Loss: how wrong the answers are", axis: "cross-entropy", column: "loss", end: "val_loss", hover: "%{y:.3f}", height: 280 },
  accuracy: { title: "Accuracy: how many answers are right", axis: "images right, %", column: "accuracy", end: "val_accuracy", hover: "%{y:.1f} %", height: 280 },
  rate: { title: "Learning rate: the size of each change", axis: "learning rate", column: "rate", hover: "%{y:.2~e}", height: 132 },
  speed: { title: "Speed: training images per second", axis: "images/s", column: "speed", hover: "%{y:,.0f} images/s", height: 132 },
};

class View {
  constructor(parent) {
    this.what = el("span", { class: "lp-what" });
    this.facts = el("span", { class: "lp-facts" });
    this.fill = el("span", { class: "lp-fill" });
    this.track = el("div", { class: "lp-track", role: "progressbar", "aria-label": "Training", "aria-valuemin": "0", "aria-valuemax": "100" }, this.fill);
    this.words = el("p", { class: "lp-words", "aria-live": "polite" });
    this.trouble = el("p", { class: "lp-trouble", role: "alert", hidden: true });
    this.curves = el("div", { class: "lp-charts" });
    this.charts = [];
    this.root = el("div", { class: "lp-live" }, el("div", { class: "lp-status", role: "status" }, this.what, this.facts), this.track, this.words, this.trouble, this.curves);
    parent.append(this.root);
    this.alive = true;
    this.seen = () => {
      if (!document.hidden) this.poll();
    };
    document.addEventListener("visibilitychange", this.seen);
    this.resized = new ResizeObserver(() => {
      for (const chart of this.charts) if (chart.drawn && chart.plot.offsetWidth) window.Plotly.Plots.resize(chart.plot);
    });
    this.resized.observe(this.root);
  }

  update({ data, setTriggerValue }) {
    this.fire = setTriggerValue;
    const fresh = this.data?.run_id !== data.run_id;
    this.data = data;
    if (fresh) this.begin(data);
    if (this.answers && data.plan.answers) this.answers.pictures = data.plan.answers.images;
    this.running = data.running;
    this.words_();
    this.draw();
    this.poll();
  }

  // Another run: everything anew.
  begin({ plan }) {
    this.run = new Run(plan);
    this.offset = 0;
    this.waited = 0;
    this.caught = false; // whether all that was written before has been read
    this.version = (this.version ?? 0) + 1;
    this.clear();
    const chart = (what) => {
      const { title, height } = CHARTS[what];
      const plot = el("div", { class: `lp-plot lp-${what}`, role: "img", "aria-label": title });
      plot.style.height = `${height}px`;
      const n = what === "accuracy" && plan.validation ? ` (validation n = ${whole(plan.validation)})` : "";
      return { what, plot, box: el("figure", { class: "lp-chart" }, el("figcaption", {}, title + n), plot), zoomed: false, drawn: false };
    };
    this.charts = (plan.answers ? ["loss", "accuracy", "rate", "speed"] : ["loss", "accuracy"]).map(chart);
    const [loss, accuracy, ...small] = this.charts.map((one) => one.box);
    this.curves.replaceChildren(loss, accuracy, ...(small.length ? [el("div", { class: "lp-small" }, ...small)] : []));
    this.answers = plan.answers ? new Answers(plan) : null;
    if (this.answers) this.root.append(this.answers.root);
  }

  clear() {
    for (const chart of this.charts) window.Plotly?.purge(chart.plot);
    this.charts = [];
    this.answers?.root.remove();
    this.answers = null;
  }

  // Asking -------------------------------------------------------------------------------------

  later(ms) {
    clearTimeout(this.timer);
    if (this.alive) this.timer = setTimeout(() => this.poll(), ms);
  }

  async poll() {
    if (!this.alive || this.polling) return;
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
    this.offset = answer.next;
    for (const line of answer.lines) this.run.add(line);
    if (answer.lines.length) {
      this.words_();
      this.draw();
    }
    if (answer.more) return this.later(0);
    const over = this.run.ended !== null;
    const news = answer.lines.length > 0;
    // It ended, and the page has not seen it: its process may have outlived its last word a little. Or somebody resumed it.
    if (this.running ? over && (news || ++this.waited % 4 === 0) : !over && news && this.caught) {
      if (!over) this.running = true;
      this.fire("changed", true);
    }
    this.caught = true;
    if (this.running) this.later(POLL_MS);
    else if (this.run.ended?.outcome !== "succeeded" && this.data.watched) this.later(REST_MS);
  }

  // Showing ------------------------------------------------------------------------------------

  words_() {
    const [what, facts] = this.run.headline(this.data.status);
    say(this.what, what);
    say(this.facts, facts.join(" · "));
    const share = Math.round(this.run.share * 1000) / 10;
    this.fill.style.width = `${share}%`;
    this.track.setAttribute("aria-valuenow", String(Math.round(share)));
    this.track.setAttribute("aria-valuetext", [what, ...facts].join(", "));
    this.root.classList.toggle("lp-failed", this.run.ended?.outcome === "failed");
    this.root.classList.toggle("lp-ended", Boolean(this.run.ended));
    say(this.words, this.run.sentences(this.data.status).join(" "));
    const near = ["pending", "running"].includes(this.data.status) && !["Queued", "Ended"].includes(this.run.last?.kind);
    this.curves.hidden = !this.run.points.length && !near; // soon there will be some: their place is kept free
    this.answers?.update(this.run);
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
    const { axis, height } = CHARTS[chart.what];
    const small = height < 200;
    const limits = { loss: { rangemode: "tozero" }, accuracy: { autorangeoptions: { maxallowed: 100.5, minallowed: 0 } }, speed: { rangemode: "tozero", nticks: 4 } };
    const rate = { type: this.decades() ? "log" : "linear", rangemode: this.decades() ? "normal" : "tozero", nticks: 4, dtick: this.decades() ? 1 : undefined, exponentformat: "power", tickformat: this.decades() ? "" : "~g" };
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
      xaxis: this.axis("epoch", c, { range: this.span(), showgrid: false, spikethickness: 1, spikecolor: TRAIN, spikedash: "solid", hoverformat: ".2f", tickformat: "~r" }),
      yaxis: this.axis(axis, c, { ...(limits[chart.what] ?? rate), showticklabels: this.run.points.length > 0 }),
      uirevision: this.version,
    };
  }

  // Whether the learning rate goes down by powers of ten; one that swings down to 0 at the very end is easier to read as it is.
  decades() {
    const rates = this.run.points.map((p) => p.rate).filter((rate) => rate > 0).sort((a, b) => a - b);
    return rates.length > 0 && rates[rates.length - 1] > 9.9 * rates[Math.floor(rates.length / 2)];
  }

  // The whole plan from the start, so that nothing jumps; of a long plan a half, a quarter …, while that holds the curve with
  // room to grow. What was trained, once it ended early.
  span() {
    const last = this.run.end?.epoch;
    if (last && this.run.ended && this.run.ended.outcome !== "paused") return [0, last * 1.02];
    let end = this.run.epochs || 1;
    while (end >= 40 && end / 2 > this.run.x * 1.25) end /= 2;
    return [0, end * 1.02];
  }

  traces(chart, c) {
    const { column, end, hover } = CHARTS[chart.what];
    const scale = chart.what === "accuracy" ? 100 : 1;
    const points = this.run.points;
    const train = {
      name: "training",
      type: "scatter",
      mode: "lines",
      x: points.map((p) => p.x),
      y: points.map((p) => (p[column] === null ? null : p[column] * scale)),
      line: { color: TRAIN, width: 1.3 },
      hovertemplate: end ? hover : `${hover}<extra></extra>`,
    };
    if (!end) return [train];
    const ends = this.run.ends.filter((e) => e[end] !== null && e[end] !== undefined);
    const validation = {
      name: "validation",
      type: "scatter",
      mode: "lines+markers",
      x: ends.map((e) => e.epoch),
      y: ends.map((e) => e[end] * scale),
      line: { color: c.accent, width: 2 },
      marker: { color: c.accent, size: ends.length > 60 ? 4 : 6 },
      hovertemplate: hover,
    };
    return [train, validation];
  }

  mark(chart, c) {
    const best = this.run.best;
    if (!best || !CHARTS[chart.what].end) return { shapes: [], annotations: [] };
    const top = chart.what === "loss"; // where the curves are not
    const left = best.epoch > this.span()[1] * 0.7;
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
  async draw() {
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
      say(this.trouble, `The curves cannot be drawn: ${error.message}. Reload the page.`);
      this.trouble.hidden = false;
    } finally {
      this.drawing = false;
    }
  }

  async drawOne(library, chart) {
    if (this.curves.hidden) return;
    const c = this.colors();
    const layout = this.layout(chart, c);
    const traces = this.traces(chart, c);
    this.tell(chart);
    if (!chart.drawn) {
      await library.newPlot(chart.plot, traces, { ...layout, ...this.mark(chart, c) }, {
        responsive: false,
        displaylogo: false,
        displayModeBar: coarse || !CHARTS[chart.what].end ? false : "hover",
        modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
        toImageButtonOptions: { filename: `loupe-${chart.what}`, scale: 2 },
      });
      chart.plot.on("plotly_relayout", (change) => {
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
    const range = this.span();
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
    const all = (get) => traces.map(get);
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

  // The curve in words, for who cannot see it.
  tell(chart) {
    const { title, column, end } = CHARTS[chart.what];
    const last = this.run.points[this.run.points.length - 1];
    if (!last) return;
    const said = (value) => (value === null || value === undefined ? "unknown" : Number(value.toPrecision(3)));
    const held = end && this.run.end ? `, validation ${said(this.run.end[end])} after epoch ${this.run.end.epoch}` : "";
    chart.plot.setAttribute("aria-label", `${title}. Now ${said(last[column])}${held}`);
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
