"""A run in one HTML file for people: data, settings, curves, metrics with intervals, matrix, and the worst mistakes with their maps."""

from __future__ import annotations

import base64
import io
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core.catalog import methods, networks, params
from core.data import audit, store
from core.errors import AppError, NotFound
from core.evaluate import calibration, compare, evaluate
from core.evaluate.calibration import Calibration
from core.explain import explain, patterns
from core.metrics import TOO_FEW
from core.runs import jobs, openings, runs
from core.settings import settings
from core.share import card
from core.types import SPLITS, Attribution, EpochEnd, Evaluation, Image, Progress, Run, now, silent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MISTAKES = 12
NAMED = 30  # classes whose names and counts a matrix on paper can hold
PREFERRED = ("grad_cam", "integrated_gradients", "saliency", "occlusion")
TRAIN, VALIDATION = "#8a97a0", "#0f8f83"


@runs.needs("export")
def start(run_id: str, test: bool, by: str) -> str:
    """Starts a report that outlives the page and the server, and returns its id; that of the running one if there is one."""
    return jobs.start_one(_home(run_id), REPORT, {"run_id": run_id, "test": test, "by": by})


def _work(folder: Path, job: jobs.Line, progress: Progress) -> jobs.Line:
    splits = ("validation", "test") if job["test"] else ("validation",)
    page = make(job["run_id"], splits, job["by"], progress).encode()
    runs.write_atomically(_page(folder), lambda tmp: tmp.write_bytes(page))
    return {"bytes": len(page)}


REPORT = jobs.Kind("report", "report", "Nothing was made. Make it again.", _work)


def _home(run_id: str) -> Path:
    return runs.reports_folder(runs.folder(run_id))


def _page(folder: Path) -> Path:
    return folder / "report.html"


def state(run_id: str) -> jobs.State | None:
    """The run's newest report, made or on its way."""
    return jobs.newest(_home(run_id), REPORT)


@runs.needs("export")
def stop(run_id: str) -> None:
    """Asks the report to end; nothing of it is kept."""
    for folder in jobs.folders(_home(run_id))[-1:]:
        runs.request_stop(folder)


@runs.needs("export")
def page(run_id: str, job_id: str) -> bytes:
    """A finished report."""
    try:
        return _page(jobs.find(_home(run_id), job_id, "report")).read_bytes()
    except FileNotFoundError:
        raise NotFound("This report is not there.", "Make it again.") from None


@runs.needs("export")
def make(run_id: str, splits: Sequence[str], by: str, progress: Progress = silent) -> str:
    """The whole page, with everything inside it; the maps of the worst mistakes take the longest, a second or so each."""
    path = runs.folder(run_id)
    run = runs.load(path)
    progress(0, MISTAKES + 1, "Counting")
    why, judged = "", []
    if "test" in splits:
        openings.record(run_id, by)
    try:
        held = evaluate.splits(run_id)
        judged = [evaluate.evaluate(run_id, split) for split in SPLITS if split in held and split in splits]
        why = "" if judged else f"It had no {' and no '.join(splits)} images, so this report says nothing of how often it is right."
    except NotFound as e:
        why = f"There are no predictions, so nobody knows how often it is right: {e.message} {e.hint}"
    method = next((m for m in PREFERRED if not explain.supported(run_id).get(m, "no")), None) if judged else None
    mistakes = _mistakes(run, judged[0], method, progress) if judged and method else []
    events = runs.events(path, skip="Answers")
    template = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined).get_template(
        "report.html"
    )
    page = template.render(
        run=run,
        network=networks.of(run.config).title,
        made_at=now()[:16].replace("T", " "),
        note=runs.read_notes(path)["note"],
        judged=[_judged(e) for e in judged],
        why=why,
        warnings=_warnings(run_id),
        data=_data(run),
        settings=[
            (p.title, f"{params.words(p.name, getattr(run.config, p.name))}{f' {p.unit}' if p.unit else ''}") for p in params.TRAIN_PARAMS
        ],
        curves=_curves(compare.curve(run_id)),
        trained=card.took(run, events),
        too_few=TOO_FEW,
        mistakes=mistakes,
        method=methods.method(method) if method else None,
        side=mistakes[0]["side"] if mistakes else 0,
    )
    audit.note("run.report", on={"run": run_id}, after={"splits": list(splits)}, by=by)
    return page


def _warnings(run_id: str) -> list[str]:
    """Classes that may be read from a mark, as the last look at many images found."""
    found = patterns.latest(run_id)
    return [f"{p.name}: {patterns.said(p, found.border_area)[0]}" for p in found.warned] if found else []


def _data(run: Run) -> list[tuple[str, list[int]]]:
    counts = Counter((r.label, r.split) for r in runs.snapshot_rows(runs.folder(run.id)))
    rows = [(c, [counts[c, s] for s in SPLITS]) for c in run.classes]
    return [*rows, ("all", [sum(row[i] for _, row in rows) for i in range(len(SPLITS))])]


# Figures ------------------------------------------------------------------------------------------


def _figure(width: float, height: float) -> Figure:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # half a second, which no other verb should wait for
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: the reader's fonts know more scripts than matplotlib's own
    figure = Figure(figsize=(width, height), layout="constrained")  # not pyplot, which is one for all threads
    FigureCanvasSVG(figure)
    return figure


def _inline(figure: Figure, kind: str = "svg+xml") -> str:
    data = io.BytesIO()
    figure.savefig(data, format=kind.partition("+")[0], metadata={"Date": None} if kind == "svg+xml" else None)
    return _data_url(data.getvalue(), kind)


def _data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _curves(epochs: Sequence[EpochEnd]) -> str:
    """Loss and accuracy of each epoch; "" before the first."""
    if not epochs:
        return ""
    figure = _figure(9, 3.2)
    x = [e.epoch for e in epochs]
    for axes, what, unit in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("nats", "share"), strict=True):
        for split, name, color in (("train", "training", TRAIN), ("val", "validation", VALIDATION)):
            y = [getattr(e, f"{split}_{what}") for e in epochs]
            if any(v is not None for v in y):
                axes.plot(x, [np.nan if v is None else v for v in y], color=color, label=name, marker="o", markersize=3)
        axes.set(xlabel="epoch", ylabel=f"{what} ({unit})")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.axes[0].legend(frameon=False)
    return _inline(figure)


def _matrix(e: Evaluation) -> str:
    """Row percent by colour; names and counts where there are not too many classes."""
    size = len(e.classes)
    total = e.confusion.sum(1, keepdims=True)
    share = np.divide(e.confusion, total, out=np.zeros(e.confusion.shape), where=total > 0)
    side = min(9.0, 2.4 + 0.36 * size)
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    drawn = axes.imshow(share, cmap="Greens", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(drawn, ax=axes, label="share of the actual class", shrink=0.8)
    axes.set(xlabel="predicted", ylabel="actual")
    if size <= NAMED:
        names = [c if len(c) <= 16 else f"{c[:15]}…" for c in e.classes]
        axes.set_xticks(range(size), names, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(range(size), names, parse_math=False)
        for true, row in enumerate(e.confusion):
            for predicted, n in enumerate(row):
                if n:
                    color = "white" if share[true, predicted] > 0.6 else "#1c2b2b"
                    axes.text(predicted, true, f"{n:,}", ha="center", va="center", fontsize=7, color=color)
    return _inline(figure, "png" if size > NAMED else "svg+xml")


def _reliability(found: Calibration) -> str:
    """Share right against mean confidence, a point for each bin that has images, with its 95 % interval."""
    figure = _figure(4.6, 3.8)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=TRAIN, linestyle="--", linewidth=1)
    points = [(b.confidence, b.accuracy) for b in found.bins if b.accuracy]
    x, y = [c for c, _ in points], [a.value for _, a in points]
    ends = np.abs([(a.value - a.low, a.high - a.value) for _, a in points]).T  # rounding can put an end a hair inside
    axes.errorbar(x, y, ends, color=VALIDATION, fmt="o", capsize=2)
    axes.set(xlabel="confidence (mean of the bin)", ylabel="share right", xlim=(0, 1), ylim=(0, 1.02), title=f"n = {found.n:,}")
    axes.grid(alpha=0.3)
    return _inline(figure)


# Parts --------------------------------------------------------------------------------------------


def _judged(e: Evaluation) -> dict[str, Any]:
    calibrated = calibration.calibration(e) if e.n else None

    def row(i: int) -> dict[str, Any]:
        c, hit = e.per_class[i], int(e.confusion[i, i])
        return {
            "name": c.name,
            "n": c.n,
            "precision": card.part(hit, c.predicted, c.precision),
            "recall": card.part(hit, c.n, c.recall),
            "f1": f"{card.percent(c.f1)}{card.interval(c.f1)}",
        }

    caution = {
        "validation": "These images chose the epoch that was kept, so the figure is a little too good.",
        "test": "These chose nothing.",
    }
    return {
        "split": e.split,
        "n": e.n,
        "words": card.share(e),
        "changed": e.changed,
        "caution": caution.get(e.split, ""),
        "overall": [
            (title, f"{card.percent(found)}{card.interval(found)}", about)
            for title, found, about in (
                ("Balanced accuracy", e.balanced_accuracy, "the mean recall of its classes: large classes count no more than small ones"),
                ("Macro F1", e.macro_f1, "the mean F1 of its classes"),
                *((f"Top-{k} accuracy", found, f"the label is among its {k} likeliest") for k, found in e.top_k.items()),
            )
        ],
        "invalid": e.invalid,
        "matrix": _matrix(e) if e.n else "",
        "confused": evaluate.most_confused(e)[:10],
        "per_class": [row(i) for i in range(len(e.per_class))],
        "reliability": _reliability(calibrated) if calibrated else "",
        "calibration": _calibration_words(calibrated) if calibrated else "",
    }


def _calibration_words(found: Calibration) -> str:
    error = found.error
    return (
        f"Expected calibration error {error.value:.1%} ({error.low:.1%} to {error.high:.1%}), n = {found.n:,}: how far its confidence is from "
        f"the share it gets right, on average. True confidences would show {found.by_chance:.1%} on so many images, by chance. "
        "Below the line it is surer than it is right."
    )


def _mistakes(run: Run, e: Evaluation, method: str, progress: Progress) -> list[dict[str, Any]]:
    """The images with the largest loss, each with the picture as the network saw it and a map for either class."""
    rows = evaluate.top_losses(e)
    rows = rows[rows["true"] != rows["predicted"]].head(MISTAKES)
    images = {i.id: i for i in store.get_images(run.dataset_id, list(rows["image_id"]))}
    found = []
    for done, row in enumerate(rows.to_dict("records"), 1):

        def alive(doing: str, done: int = done) -> None:
            progress(done, len(rows) + 1, f"Mistake {done} of {len(rows)}{doing}")

        alive("")
        image = images.get(row["image_id"])
        one: dict[str, Any] = {
            "source": image.source if image else row["image_id"],
            "true": row["true"],
            "predicted": row["predicted"],
            "confidence": f"{row['confidence']:.1%}",
            "pictures": [],
            "error": "" if image else "This image is not in the dataset any more.",
            "side": 0,
        }
        if image:
            try:
                one |= _maps(run, e, image, method, (row["predicted"], row["true"]), alive)
            except AppError as error:
                one["error"] = f"{error.message} {error.hint}"
        found.append(one)
    return found


def _maps(run: Run, e: Evaluation, image: Image, method: str, classes: Sequence[str], alive: Callable[[str], None]) -> dict[str, Any]:
    then = [run.classes[e.classes.index(c)] for c in classes]  # the network knows the names of its time
    maps = [_map(run.id, settings().images / image.path, method, c, alive) for c in then]
    strength = explain.scale([m.map for m in maps])
    pictures = [(_data_url(explain.picture_png(maps[0])), "what it saw")]
    pictures += [(_data_url(explain.overlay_png(m, strength=strength)), f"for {c}") for m, c in zip(maps, classes, strict=True)]
    return {"pictures": pictures, "side": maps[0].image.shape[0]}


def _map(run_id: str, file: Path, method: str, label: str, alive: Callable[[str], None]) -> Attribution:
    """The map, once it is there; alive() is called meanwhile, and where it raises, the map is stopped."""
    asked = explain.ask(run_id, file, method, label)
    try:
        while not asked.done:
            time.sleep(0.1)
            alive("" if explain.progress(asked)[1] else ": its maps wait for their turn")
    finally:
        explain.stop(asked)
    return explain.answer(asked)
