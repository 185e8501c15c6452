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

from core.types import EpochEnd, Evaluation

if TYPE_CHECKING:
    from core.embed import Lesson
    from core.finder import Curve

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
    figure.update_yaxes(title="loss (cross-entropy, nats)" if what == "loss" else "share of images right")
    if what == "accuracy":
        figure.update_yaxes(tickformat=".0%")
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure


def confusion(evaluation: Evaluation, as_share: bool, dark: bool) -> go.Figure:
    """Rows actual, columns predicted; transparent squares over the heatmap carry the clicks a heatmap does not send."""
    counts = evaluation.confusion
    size = len(evaluation.classes)
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    off = counts.copy()
    np.fill_diagonal(off, 0)
    # Mistakes have a scale of their own: beside a diagonal of hundreds a dozen errors would be white.
    right = np.where(np.eye(size, dtype=bool), share, np.nan)
    wrong = np.where(np.eye(size, dtype=bool) | (counts == 0), np.nan, share if as_share else counts)
    classes = [escape(_short(c)) for c in evaluation.classes]
    figure = base(f"Confusion matrix, {evaluation.split} (n = {evaluation.n:,})", max(340, min(760, 150 + 44 * size)))
    background = "#14191a" if dark else "#ffffff"
    axis = list(range(size))
    teal, red = ("#1b6f67", "#b3472f") if dark else ("#9ad7cf", "#f08a6c")
    for values, color, top in ((right, teal, 1.0), (wrong, red, float(np.nanmax(wrong)) if off.any() else 1.0)):
        figure.add_heatmap(
            z=values,
            x=axis,
            y=axis,
            zmin=0,
            zmax=top,
            colorscale=[[0, background], [1, color]],
            showscale=False,
            hoverinfo="skip",
            xgap=1,
            ygap=1,
        )
    ys, xs = np.indices(counts.shape)
    text = [f"{s:.0%}" if as_share else f"{c:,}" for c, s in zip(counts.ravel(), share.ravel(), strict=True)]
    text = [t if c else "" for t, c in zip(text, counts.ravel(), strict=True)]
    hover = [
        f"actual {escape(evaluation.classes[y])}<br>predicted {escape(evaluation.classes[x])}<br>{counts[y, x]:,} images, {share[y, x]:.1%} of the row"
        for y, x in zip(ys.ravel(), xs.ravel(), strict=True)
    ]
    figure.add_scatter(
        x=xs.ravel(),
        y=ys.ravel(),
        mode="markers+text" if size <= 30 else "markers",
        text=text,
        textfont={"size": 13 if size <= 12 else 9, "color": "#e4eaea" if dark else "#1c2526"},
        hovertext=hover,
        hovertemplate="%{hovertext}<extra></extra>",
        customdata=np.stack([ys.ravel(), xs.ravel()], axis=1),
        marker={"symbol": "square", "size": max(6, (figure.layout.height - 124) / size), "opacity": 0, "color": "gray"},
        selected={"marker": {"opacity": 0.25}},
        unselected={"marker": {"opacity": 0}, "textfont": {"color": "#e4eaea" if dark else "#1c2526"}},
        showlegend=False,
    )
    ticks = {"tickmode": "array", "tickvals": axis, "ticktext": classes, "showgrid": False, "range": [-0.5, size - 0.5]}
    figure.update_xaxes(title="predicted", **ticks, tickangle=0 if size <= 10 and max(map(len, classes)) < 8 else -40)
    figure.update_yaxes(title="actual", **ticks)
    figure.update_yaxes(range=[size - 0.5, -0.5])
    # A click counts for the nearest cell, so that the corners of a wide cell are clickable too.
    figure.update_layout(margin={"l": 90, "b": 80}, hovermode="closest", hoverdistance=300)
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
    figure.update_yaxes(title="loss (nats)", range=[low - 0.15 * (high - low), high + 0.4 * (high - low)])  # where it bursts is cut off
    return figure


def _short(name: str, letters: int = 14) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"
