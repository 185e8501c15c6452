"""DataFrame -> plotly Figure, in one style; no st.* here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import accumulate
from math import log10
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.metrics import TOO_FEW
from core.types import EpochEnd

if TYPE_CHECKING:
    from core.evaluate.calibration import Calibration
    from core.evaluate.slices import Slice
    from core.evaluate.thresholds import Curves, Threshold
    from core.explain.trust import Curves as Covering
    from core.label.teach import Lesson
    from core.train.finder import Curve

# Okabe and Ito's colours, told apart by colour-blind eyes, then lighter and darker kin for more classes.
CLASS_COLORS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b5a400", "#7b6fd0", "#7f7f7f", "#8c564b",
    "#4c9bd1", "#f2c05c", "#4fc3a1", "#e3aecb", "#9fd3f2", "#eb8f4f", "#d6c84a", "#a9a1e4", "#b0b0b0", "#b98a80",
)  # fmt: skip
TRAIN, VALIDATION, TEST = "#8a97a0", "#0f8f83", "#c27a12"
SPLIT_COLORS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
GRID = "rgba(128,140,140,.25)"
RUN_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's, for runs beside each other


def class_color(index: int) -> str:
    return CLASS_COLORS[index % len(CLASS_COLORS)]


def base(title: str, height: int = 320) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "font": {"size": 14}, "x": 0, "xanchor": "left", "y": 0.98, "yanchor": "top"},
        height=height,
        margin={"l": 56, "r": 12, "t": 44, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"size": 12},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        hoverlabel={"font_size": 12},
        modebar={"remove": ["lasso2d", "select2d"]},
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False)
    figure.update_yaxes(gridcolor=GRID, zeroline=False)
    return figure


def class_counts(counts: pd.DataFrame, classes: tuple[str, ...]) -> go.Figure:
    """Images per class, stacked by split. counts: split, label, images."""
    # Plotly reads some HTML in labels, and class names are not to be trusted.
    names = [*classes, *(["no label"] if counts["label"].isna().any() else [])]
    total = int(counts["images"].sum())
    figure = base(f"Images per class (n = {total:,})", 220)
    filled = counts.assign(label=counts["label"].fillna("no label"))
    for split, color in SPLIT_COLORS.items():
        part = filled[filled["split"] == split].set_index("label")["images"].reindex(names).fillna(0)
        if part.sum():
            figure.add_bar(
                x=[escape(n, quote=False) for n in names],
                y=part,
                name=split,
                marker_color=color,
                hovertemplate="%{x}, " + split + ": %{y:,}<extra></extra>",
            )
    figure.update_layout(barmode="stack", bargap=0.25)
    figure.update_xaxes(title="class", type="category")
    figure.update_yaxes(title="images", rangemode="tozero")
    return figure


def learning_curve(lessons: Sequence[Lesson]) -> go.Figure:
    """Accuracy on images the model had not seen against the labels given, with 95 % intervals; one line for each way to judge."""
    figure = base(f"Accuracy against labels given (last n = {lessons[-1].n:,})", 300)
    for how, name, dash, symbol in (
        ("cross-validation", "cross-validation", "dot", "circle-open"),
        ("validation", "validation images", "solid", "circle"),
    ):
        points = [(lesson.labels, lesson.accuracy) for lesson in lessons if lesson.how == how and lesson.accuracy is not None]
        if points:
            figure.add_scatter(
                x=[labels for labels, _ in points],
                y=[share.value for _, share in points],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [share.high - share.value for _, share in points],
                    "arrayminus": [share.value - share.low for _, share in points],
                    "color": "rgba(128,140,140,.6)",
                    "thickness": 1,
                },
                mode="lines+markers",
                name=name,
                line={"color": VALIDATION, "dash": dash},
                marker={"symbol": symbol, "size": 8},
                hovertemplate="%{x:,} labels: %{y:.1%}<extra></extra>",
            )
    figure.update_layout(showlegend=True, legend={"y": 0.02, "x": 0.99})
    figure.update_xaxes(title="labels given", rangemode="tozero")
    figure.update_yaxes(title="accuracy on unseen images", tickformat=".0%", range=[0, 1.02])
    return figure


def curves(
    runs: Sequence[tuple[str, Sequence[EpochEnd]]], what: Literal["loss", "accuracy"], over: Literal["epochs", "seconds"], n: str
) -> go.Figure:
    """Runs (name, epochs) over each other, a colour each: training dashed, validation solid. n: validation images, in words."""
    figure = base(f"{what.capitalize()} after each epoch (validation n = {n})", 360)
    for (name, epochs), color in zip(runs, RUN_COLORS, strict=False):
        xs = [e.epoch for e in epochs] if over == "epochs" else list(accumulate(e.seconds for e in epochs))
        for part, dash in (("train", "dash"), ("val", "solid")):
            ys = [getattr(e, f"{part}_{what}") for e in epochs]
            word = "training" if part == "train" else "validation"
            figure.add_scatter(
                x=xs,
                y=ys,
                name=escape(name),
                legendgroup=name,
                showlegend=part == "val",
                mode="lines" if len(epochs) > 40 else "lines+markers",
                line={"color": color, "dash": dash, "width": 1.2 if part == "train" else 2},
                marker={"size": 4 if part == "train" else 6},
                opacity=0.9 if part == "train" else 1,
                hovertemplate=f"{escape(name)}, {word}: %{{y:{'.4f' if what == 'loss' else '.1%'}}}<extra></extra>",
            )
    legend = {"y": -0.2, "yanchor": "top", "x": 0, "xanchor": "left"}  # below: six names would cover the title on a narrow screen
    figure.update_layout(showlegend=True, hovermode="closest", legend=legend, margin={"b": 84})
    figure.update_xaxes(title="epoch" if over == "epochs" else "seconds of training", rangemode="tozero")
    figure.update_yaxes(title="loss (cross-entropy)" if what == "loss" else "accuracy (share of images right)")
    if what == "accuracy":
        figure.update_yaxes(tickformat=".0%")
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure


def schedule(epochs: Sequence[float], rates: Sequence[float], name: str) -> go.Figure:
    """The learning rate through a run that has not begun."""
    figure = base(f"Learning rate: {name} (n = {epochs[-1]:g} epochs)", 190)
    figure.add_scatter(
        x=epochs,
        y=rates,
        mode="lines",
        line={"color": VALIDATION, "width": 2},
        hovertemplate="after %{x:.1f} epochs: %{y:.2g}<extra></extra>",
    )
    figure.update_xaxes(title="epochs", range=[0, epochs[-1]])
    figure.update_yaxes(title="learning rate", rangemode="tozero", nticks=4)
    return figure


def rate_curve(found: Curve) -> go.Figure:
    """The loss while the learning rate rises, and the rate that is suggested."""
    figure = base(f"Loss by learning rate (n = {found.images:,} images)", 260)
    figure.add_scatter(
        x=found.rates,
        y=found.losses,
        mode="markers",
        name="each step",
        marker={"size": 4, "color": TRAIN, "opacity": 0.55},
        hovertemplate="%{x:.2g}: %{y:.3f}<extra></extra>",
    )
    figure.add_scatter(
        x=found.rates,
        y=found.smooth,
        mode="lines",
        name="smoothed",
        line={"color": VALIDATION, "width": 2},
        hovertemplate="%{x:.2g}: %{y:.3f} smoothed<extra></extra>",
    )
    if found.suggested is not None:
        figure.add_vline(x=found.suggested, line={"color": TEST, "dash": "dash"})
        # On a logarithmic axis a note stands at the logarithm, a line at the value.
        figure.add_annotation(
            x=log10(found.suggested), y=1, yref="paper", text=f"{found.suggested:.2g}", showarrow=False, xanchor="left", xshift=4
        )
    low, high = min(found.smooth), max(found.smooth[: max(1, len(found.smooth) // 2)])
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title="learning rate", type="log", dtick=2, exponentformat="power")
    figure.update_yaxes(
        title="loss (cross-entropy)", range=[low - 0.15 * (high - low), high + 0.4 * (high - low)]
    )  # where it bursts is cut off
    return figure


def roc(found: Curves, at: Threshold, color: str) -> go.Figure:
    """Who is caught against who is let in, over all thresholds, with the place of the one that is set."""
    others = found.n - found.positives
    figure = _curve(f"ROC: {_short(found.name)} (n = {found.n:,})", found.roc, color, "%{y:.1%} caught, %{x:.1%} of the others let in")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": TRAIN, "dash": "dot", "width": 1}, hoverinfo="skip")
    _mark(figure, at.let_in / others, at.caught / found.positives, at, color)
    figure.update_xaxes(title=f"others let in (share of {others:,})")
    figure.update_yaxes(title=f"caught (share of {found.positives:,})")
    return figure


def precision_recall(found: Curves, at: Threshold, color: str) -> go.Figure:
    """How much of what is taken for the class is the class, against how much of the class is caught."""
    title = f"Precision and recall: {_short(found.name)} (n = {found.n:,})"
    figure = _curve(title, found.precision_recall, color, "precision %{y:.1%}, recall %{x:.1%}")
    share = found.positives / found.n
    figure.add_scatter(x=[0, 1], y=[share, share], mode="lines", line={"color": TRAIN, "dash": "dot", "width": 1}, hoverinfo="skip")
    if at.precision is not None:
        _mark(figure, at.caught / found.positives, at.precision.value, at, color)
    figure.update_xaxes(title=f"recall (share of {found.positives:,} caught)")
    figure.update_yaxes(title="precision (share of those taken)")
    return figure


def _curve(title: str, points: np.ndarray, color: str, hover: str) -> go.Figure:
    """A line over thresholds; its points can be clicked and carry theirs."""
    figure = base(escape(title), 300)
    figure.add_scatter(
        x=points[:, 0],
        y=points[:, 1],
        customdata=points[:, 2:],
        mode="lines+markers",
        line={"color": color, "width": 2},
        marker={"size": 9, "opacity": 0},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        hovertemplate="at %{customdata[0]:.3f}: " + hover + "<extra></extra>",
    )
    figure.update_layout(showlegend=False, hovermode="closest", hoverdistance=40)
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%")
    figure.update_yaxes(range=[-0.03, 1.04], tickformat=".0%")
    return figure


def _mark(figure: go.Figure, x: float, y: float, at: Threshold, color: str) -> None:
    figure.add_scatter(
        x=[x],
        y=[y],
        mode="markers",
        marker={"size": 13, "color": color, "line": {"color": "white", "width": 2}},
        hovertemplate=f"the threshold {at.threshold:.3f}<extra></extra>",
    )


def reliability(found: Calibration, color: str, title: str) -> go.Figure:
    """Accuracy by confidence, with 95 % intervals, and how many images each bar is made of; a click on a bar carries its number."""
    figure = base(f"{title} (n = {found.n:,})", 380)
    filled = [(i, b, b.accuracy) for i, b in enumerate(found.bins) if b.accuracy is not None]
    middles, width = [(b.low + b.high) / 2 for _, b, _ in filled], 0.9 / len(found.bins)
    places = [[i] for i, *_ in filled]
    bars = {"x": middles, "width": width, "customdata": places, "marker_color": color}
    bars |= {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 0.7}}}
    texts = [
        f"{b.low:.0%} to {b.high:.0%} sure: {b.right:,} of {b.n:,} right<br>on average {b.confidence:.1%} sure and "
        f"{share.value:.1%} right ({share.low:.1%} to {share.high:.1%})"
        for _, b, share in filled
    ]
    figure.add_bar(
        **bars,
        y=[share.value for *_, share in filled],
        marker_opacity=[0.35 if b.n < TOO_FEW else 0.85 for _, b, _ in filled],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [share.high - share.value for *_, share in filled],
            "arrayminus": [share.value - share.low for *_, share in filled],
            "color": "rgba(128,140,140,.9)",
            "thickness": 1.5,
            "width": 3,
        },
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": TRAIN, "dash": "dot", "width": 1.5}, hoverinfo="skip")
    figure.add_bar(
        **bars, y=[b.n for _, b, _ in filled], yaxis="y2", marker_opacity=0.55, hovertext=texts, hovertemplate="%{hovertext}<extra></extra>"
    )
    # By x: a bar of no height can be clicked too.
    figure.update_layout(showlegend=False, hovermode="x", barmode="overlay", margin={"l": 64})
    figure.update_xaxes(title="how sure the network was (confidence)", range=[0, 1], tickformat=".0%", anchor="y2")
    figure.update_layout(
        yaxis={"title": "how often right", "range": [0, 1.02], "tickformat": ".0%", "domain": [0.26, 1]},
        yaxis2={
            "title": "images",
            "domain": [0, 0.2],
            "anchor": "x",
            "gridcolor": GRID,
            "nticks": 3,
            "rangemode": "tozero",
            "zeroline": False,
        },
    )
    return figure


BAND_COLORS = {"pass": "#009e73", "ask": "#e69f00", "block": "#d55e00"}
BAND_WORDS = {"pass": "passes", "ask": "a person is asked", "block": "blocked"}


def policy_bands(name: str, own: np.ndarray, others: np.ndarray, lower: float, upper: float | None) -> go.Figure:
    """The probability of a class of its own images and of all others, with what two thresholds do with it. own, others: (n,)."""
    edges = np.linspace(0, 1, 41)
    middles = (edges[1:] + edges[:-1]) / 2
    figure = base(f"Validation images by the probability of {escape(_short(name))} (n = {len(own) + len(others):,})", 260)
    for values, whose, color, pattern in ((others, "other images", TRAIN, ""), (own, escape(_short(name)), BAND_COLORS["block"], "/")):
        counts = np.histogram(values[np.isfinite(values)], edges)[0]
        figure.add_bar(
            x=middles, y=np.where(counts > 0, counts, np.nan), width=1 / 40, name=f"{whose} ({len(values):,})",
            marker={"color": color, "opacity": 0.75, "pattern": {"shape": pattern, "size": 5, "solidity": 0.35}},
            hovertemplate=f"%{{x:.3f}}: %{{y:,}} {whose}<extra></extra>",
        )  # fmt: skip
    ends = {"pass": (0.0, lower), "ask": (lower, 1.0 if upper is None else upper), "block": (1.0 if upper is None else upper, 1.0)}
    # All at once, for every step of a slider draws it anew: one by one, by add_vrect, a redraw takes 156 ms of CPU in place of 86.
    tall = {"yref": "paper", "y0": 0, "y1": 1}
    shapes: list[dict[str, object]] = [
        {
            "type": "rect",
            "x0": low,
            "x1": high,
            **tall,
            "fillcolor": BAND_COLORS[band],
            "opacity": 0.16,
            "line": {"width": 0},
            "layer": "below",
        }
        for band, (low, high) in ends.items()
        if high > low
    ]
    for place in (lower, *(() if upper is None else (upper,))):
        shapes.append({"type": "line", "x0": place, "x1": place, **tall, "line": {"color": TRAIN, "dash": "dash", "width": 1.5}})
    words = [
        {"x": (low + high) / 2, "y": 1, "yref": "paper", "yanchor": "top", "text": BAND_WORDS[band], "showarrow": False}
        for band, (low, high) in ends.items()
        if high - low >= 0.12  # a narrower one has no room for its word
    ]
    legend = {"y": -0.36, "yanchor": "top", "x": 0, "xanchor": "left"}
    figure.update_layout(
        barmode="overlay", bargap=0, showlegend=True, legend=legend, margin={"b": 84}, shapes=shapes, annotations=words
    )  # fmt: skip
    figure.update_xaxes(title="probability", range=[0, 1])
    most = max(len(own), len(others), 10)
    figure.update_yaxes(title="images (logarithmic)", type="log", range=[np.log10(0.6), np.log10(most) + 0.45], dtick=1)
    return figure


def slice_dots(found: Sequence[Slice], overall: float, n: int, split: str) -> go.Figure:
    """Accuracy of each slice with its 95 % interval, in the order given; hollow: fewer images than make an accuracy."""
    names = [f"{i}" for i in range(len(found))]  # two slices may bear one name
    figure = base(f"Accuracy by slice (n = {n:,} {split} images)", 96 + 27 * len(found))
    texts = [
        f"{s.kind}: {escape(s.name)}<br>{s.right:,} of {s.n:,} right, {s.accuracy.value:.1%} ({s.accuracy.low:.1%} to {s.accuracy.high:.1%})"
        for s in found
    ]
    color = SPLIT_COLORS[split]
    figure.add_scatter(
        x=[s.accuracy.value for s in found],
        y=names,
        customdata=[[i] for i in range(len(found))],
        mode="markers",
        marker={
            "size": 11,
            "color": color,
            "symbol": ["circle-open" if s.n < TOO_FEW else "circle" for s in found],
            "line": {"color": color, "width": 2},
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [s.accuracy.high - s.accuracy.value for s in found],
            "arrayminus": [s.accuracy.value - s.accuracy.low for s in found],
            "color": "rgba(128,140,140,.8)",
            "thickness": 1.5,
        },
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.add_vline(x=overall, line={"color": TRAIN, "dash": "dot", "width": 1.5})
    figure.update_layout(showlegend=False, hovermode="closest", hoverdistance=60, margin={"l": 10})
    low = min([overall, *(s.accuracy.low for s in found)])
    figure.update_xaxes(title="accuracy (dotted: all images)", tickformat=".0%", range=[max(0, low - 0.03), 1.025])
    labels = [f"{escape(_short(s.name, 24))}  <b>{s.right:,} of {s.n:,}</b>" for s in found]
    figure.update_yaxes(type="category", tickmode="array", tickvals=names, ticktext=labels, range=[len(found) - 0.5, -0.5], automargin=True)
    return figure


def covering(found: Covering, kind: Literal["deletion", "insertion"], target: str) -> go.Figure:
    """Probability of a class while a picture is covered in the order of a map, or shown again, beside random orders."""
    steps = len(found.own) - 1
    shares = [i / steps for i in range(steps + 1)]
    figure = base(f"{kind.capitalize()} (one picture, {steps} steps)", 280)
    for i, one in enumerate(found.random):
        figure.add_scatter(
            x=shares, y=one, mode="lines", name="at random", legendgroup="random", showlegend=i == 0, hoverinfo="skip",
            line={"color": TRAIN, "width": 1}, opacity=0.6,
        )  # fmt: skip
    if found.reverse is not None:
        figure.add_scatter(x=shares, y=found.reverse, mode="lines", name="least first", line={"color": TEST, "dash": "dash"})
    figure.add_scatter(
        x=shares, y=found.own, mode="lines+markers", name="most first", line={"color": VALIDATION, "width": 2}, marker={"size": 4},
        hovertemplate="%{x:.0%}: %{y:.1%}<extra></extra>",
    )  # fmt: skip
    legend = {"y": -0.32, "yanchor": "top", "x": 0, "xanchor": "left"}
    figure.update_layout(showlegend=True, hovermode="closest", legend=legend, margin={"b": 76})
    figure.update_xaxes(title=f"pixels {'covered' if kind == 'deletion' else 'shown'} (share)", tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(title=f"probability of {escape(_short(target))}", tickformat=".0%", range=[-0.03, 1.03])
    return figure


def _short(name: str, letters: int = 14) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"
