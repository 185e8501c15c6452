"""The table of a dataset's runs, and runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Literal

import pandas as pd
import streamlit as st

from core.catalog import methods, networks, params
from core.data import store
from core.errors import AppError
from core.evaluate import compare, evaluate
from core.explain import explain
from core.metrics import TOO_FEW, wilson
from core.review import predict
from core.settings import settings
from core.train import train
from core.types import Dataset, Evaluation, Interval, Run, RunConfig
from pages.parts.train.watch import CHIPS
from pages.shared import frame, openings, thumbs, times
from pages.shared.board import beside
from pages.shared.detail import drawer
from pages.shared.figures import RUN_COLORS, curves

PER_PAGE = 50
PICTURES = 60
STRIP = 12  # images to choose from, side by side
BOTH = "grad_cam"  # the method at first
FEW = 5  # runs that need no filter
ROW, ROWS = 33, 4  # pixels of a row; rows in view, the others are scrolled to: what a run shows stands below
PICKED = "picked-runs"  # in the session: {"ids": ticked runs, "watched": what was in view when they were ticked}
CELLS = {"both": "Both right", "only_a": "Only A right", "only_b": "Only B right", "neither": "Both wrong"}
LETTERS = "ABCDEF"


# The runs that are ticked -------------------------------------------------------------------------


def picked(found: Sequence[train.RunState]) -> list[train.RunState]:
    """The ticked runs, oldest first; they stand in the URL as ?runs= so that a comparison can be sent. Something else that comes into
    view, such as a run just started, ends a comparison."""
    held: dict[str, Any] = st.session_state.get(PICKED) or {}
    if held and held["ids"] and held["watched"] != st.session_state.get("watched"):
        held = _pick([])
    elif given := st.query_params.get("runs"):
        ids = [one for one in given.split(",") if one]
        if not held or ids != held["ids"]:
            known = {s.run.id for s in found}
            if missing := len(set(ids) - known):
                st.toast(f"{missing} of the runs in this link {'is' if missing == 1 else 'are'} not here any more.", icon=":material/info:")
            held = _pick([one for one in ids if one in known])
    wanted = held.get("ids", [])
    chosen = [s for s in reversed(found) if s.run.id in wanted]
    if len(chosen) < len(wanted):
        _pick([s.run.id for s in chosen])
    elif len(chosen) > 1:
        st.query_params["runs"] = ",".join(wanted)  # another page has cleared it
    return chosen


def _untick() -> None:
    _pick([])


def _pick(ids: list[str]) -> dict[str, Any]:
    if len(ids) == 1:
        st.session_state["watched"] = ids[0]
    st.session_state[PICKED] = held = {"ids": ids, "watched": st.session_state.get("watched")}
    if len(ids) > 1:
        st.query_params["runs"] = ",".join(ids)
    else:
        st.query_params.pop("runs", None)
    return held


# The table ----------------------------------------------------------------------------------------


def table(found: list[train.RunState], chosen: list[train.RunState]) -> None:
    """All runs, newest first, with a box to tick beside each."""
    if not found:
        _acts([])
        return
    st.header("Runs", anchor=False)
    shown = _filtered(found)
    pages = max(1, -(-len(shown) // PER_PAGE))
    number = st.session_state["runs-page"] = min(frame.page_number("runs-page"), pages)
    part = shown[(number - 1) * PER_PAGE : number * PER_PAGE]
    if part:
        _dataframe(part, chosen)
    else:
        st.caption("No run fits the filter.")
    if pages > 1:
        frame.pager(pages, "runs-page")
    _acts(chosen)
    if len(found) > 1 and not chosen:
        st.caption("Tick one run to see it, two or more to compare them.")


def _filtered(found: list[train.RunState]) -> list[train.RunState]:
    """The runs that carry all chosen tags and hold the text somewhere."""

    tags = sorted({tag for s in found for tag in s.tags})
    if len(found) <= FEW and not tags:
        return found
    with st.container(horizontal=True, vertical_alignment="bottom", key="runs-filter"):
        text = st.text_input(
            "Find", key="runs-text", icon=":material/search:", placeholder="name, network, person, tag, note", width=300,
            on_change=frame.first_page, label_visibility="collapsed",
        )  # fmt: skip
        wanted = []
        if tags:
            wanted = st.pills(
                "Tags", tags, selection_mode="multi", key="runs-tags", on_change=frame.first_page, label_visibility="collapsed", format_func=frame.plain
            )  # fmt: skip

    def fits(s: train.RunState) -> bool:
        words = " ".join((s.run.name, s.run.id, _network(s.run.config), s.run.by, s.run.preset, status(s), s.note, *s.tags)).lower()
        return all(word in words for word in (text or "").lower().split()) and set(wanted or ()) <= set(s.tags)

    return [s for s in found if fits(s)]


def _network(config: RunConfig) -> str:
    known = networks.find(config.architecture)
    return known.title if known else config.architecture


def _dataframe(part: list[train.RunState], chosen: list[train.RunState]) -> None:
    settings = [name for name in params.differing([s.run.config for s in part]) if name != "architecture"]
    key = f"runs-{hash(tuple(s.run.id for s in part))}"  # a selection by row must not outlive the list
    ticked = [i for i, s in enumerate(part) if s in chosen]
    if st.session_state.get(key, {}).get("selection", {}).get("rows", []) != ticked:
        st.session_state[key] = {"selection": {"rows": ticked, "columns": [], "cells": []}}

    def ticks() -> None:
        rows = {part[i].run.id for i in st.session_state[key]["selection"]["rows"]}
        elsewhere = [s.run.id for s in chosen if s not in part]
        _pick(sorted([*elsewhere, *rows]))

    silent = [name for name in ("tags", "note") if not any(getattr(s, name) for s in part)]
    st.dataframe(
        pd.DataFrame([_row(s, settings) for s in part]).drop(columns=silent),
        height="auto" if len(part) <= ROWS else ROW * (ROWS + 1),
        hide_index=True,
        on_select=ticks,
        selection_mode="multi-row",
        key=key,
        placeholder="",
        column_config={
            "run": st.column_config.TextColumn("Run", pinned=True, width=150),
            "status": st.column_config.TextColumn("Status", width=120),  # fits “queued, place 1”
            "right": st.column_config.NumberColumn(
                "Validation accuracy", format="%.1f%%", width=140, help="The share of validation images that the best epoch got right."
            ),
            "interval": st.column_config.TextColumn(
                "95% interval, n",
                width=200,
                help="Where the share may lie, and of how many images it is. Fewer than 30 images are counted, not called a share.",
            ),
            "loss": st.column_config.NumberColumn("Validation loss", format="%.4f"),
            "network": st.column_config.TextColumn("Network"),
            **{f"setting {name}": _column(name) for name in settings},
            "best": st.column_config.NumberColumn(
                "Best epoch",
                help="Its weights are kept: the lowest validation loss, or the highest accuracy where a run stops on accuracy.",
            ),
            "seconds": st.column_config.NumberColumn("Seconds", format="%.1f"),
            "size": st.column_config.NumberColumn("Weights (MB)", format="%.3f", help="The size of the file with the weights it keeps."),
            "started": st.column_config.TextColumn(f"Started ({times.zone_title()})"),
            "by": st.column_config.TextColumn("By"),
            "tags": st.column_config.ListColumn("Tags"),
            "note": st.column_config.TextColumn("Note"),
        },
        alt="Runs of this dataset, newest first",
    )


def _row(s: train.RunState, settings: list[str]) -> dict[str, Any]:
    right, n = so_far(s)
    size = compare.weights_bytes(s.run.id)
    enough = right is not None and n >= TOO_FEW
    return {
        "run": s.run.name,  # a phone shows this column and the next
        "right": 100 * right.value if right and enough else None,
        "interval": f"{right.low:.1%} to {right.high:.1%}, n = {n:,}" if right and enough else share(right, n),
        "status": status(s),
        "loss": s.best.val_loss if s.best else None,
        "network": _network(s.run.config),
        **{f"setting {name}": _cell(name, getattr(s.run.config, name)) for name in settings},
        "best": s.best_epoch,
        "seconds": s.seconds,
        "size": None if size is None else size / 1e6,
        "started": times.column(s.run.created_at),
        "by": s.run.by,
        "tags": list(s.tags),
        "note": s.note,
    }


def status(s: train.RunState) -> str:
    """In the words of its panel, with the place in line."""
    word = CHIPS[s.status][0]
    return f"{word}, place {s.place}" if s.place else word


def so_far(s: train.RunState) -> tuple[Interval | None, int]:
    """The share of validation images its best epoch got right, by the labels it was trained with, and how many images there were."""
    n = s.run.counts["validation"]
    share = s.best.val_accuracy if s.best else None
    return (None if share is None else wilson(round(share * n), n)), n


def share(right: Interval | None, n: int) -> str:
    if right is None:
        return ""
    if n < TOO_FEW:
        return f"{round(right.value * n)} of {n} right ({right.low:.0%} to {right.high:.0%})"
    return f"{right.value:.1%} ({right.low:.1%} to {right.high:.1%})"


def _column(name: str) -> Any:
    param = params.PARAMS[name]
    title = f"{param.title} ({param.unit})" if param.unit else param.title
    if param.kind in ("int", "float"):
        return st.column_config.NumberColumn(title, format="%g", help=param.help)
    return st.column_config.TextColumn(title, help=param.help)


def _cell(name: str, value: Any) -> Any:
    return value if params.PARAMS[name].kind in ("int", "float") else params.words(name, value)


def _acts(chosen: list[train.RunState]) -> None:
    """What can be done with the ticked runs, and the way back."""
    if chosen:
        what = frame.plain(chosen[0].run.name) if len(chosen) == 1 else f"{len(chosen)} runs"
        going = any(s.active for s in chosen)
        with st.container(horizontal=True, key="runs-acts"):
            if frame.may("delete", chosen[0].run.dataset_id, say=False):
                st.button(
                    f"Delete {what}", icon=":material/delete:", key="delete-runs", on_click=_delete, args=(chosen,), disabled=going,
                    help="Stop it first." if going else None,
                )  # fmt: skip
            st.button("Untick", icon=":material/deselect:", key="untick-runs", on_click=_untick, type="tertiary")
    if gone := st.session_state.get("deleted-runs"):
        with st.container(horizontal=True, vertical_alignment="center", key="runs-bin"):
            st.caption("The run was moved to the bin." if len(gone) == 1 else f"{len(gone)} runs were moved to the bin.", width="content")
            st.button("Undo", icon=":material/undo:", key="undo-delete-runs", on_click=_restore, args=(gone,))


def _delete(chosen: list[train.RunState]) -> None:
    gone = []
    for s in chosen:
        try:
            train.delete(s.run.id)
            gone.append(s.run.id)
        except AppError as e:  # it is gone already, or somebody has started it anew
            st.toast(frame.plain(str(e)), icon=":material/error:")
    st.session_state["deleted-runs"] = gone
    if st.session_state.get("watched") in gone:
        del st.session_state["watched"]
    _pick([])


def _restore(gone: list[str]) -> None:
    for one in gone:
        try:
            train.restore(one)
        except AppError as e:
            st.toast(frame.plain(str(e)), icon=":material/error:")
    del st.session_state["deleted-runs"]


# Runs beside each other ---------------------------------------------------------------------------


def comparison(current: Dataset, chosen: list[train.RunState]) -> None:
    """Two to six runs: what differs in settings, images, figures and curves; for two, the images whose answer flipped."""
    if len(chosen) > compare.MOST:
        st.info(f"{len(chosen)} runs are ticked; up to {compare.MOST} can be compared.", icon=":material/info:")
        return
    st.header(f"{len(chosen)} runs beside each other", anchor=False)
    chips = "".join(
        f'<span><b style="background:{color};color:#fff;border-radius:4px;padding:0 .4rem;margin-right:.4rem">{letter}</b>{escape(s.run.name)}</span>'
        for letter, color, s in zip(LETTERS, RUN_COLORS, chosen, strict=False)
    )
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:.3rem 1.4rem">{chips}</div>')
    judged: list[Evaluation | None] = []
    for s in chosen:
        try:
            judged.append(evaluate.evaluate(s.run.id, "validation"))
        except AppError:  # it is not there yet, or has no validation images: the table says so
            judged.append(None)
    left, right = st.columns(2) if len(chosen) == 2 else (st.container(), st.container())  # more columns need the whole width
    with left:
        _settings(chosen)
    with right:
        _figures(chosen, judged)
    _images(chosen)
    _curves(chosen)
    if len(chosen) == 2:
        _flipped(current, chosen[0], chosen[1], judged)
    else:
        st.caption("Tick exactly two runs to see the images on which their answers differ.")


def _beside(chosen: list[train.RunState], rows: dict[str, list[str]]) -> None:
    """A table: a column for each run."""
    columns = {
        letter: [frame.plain(cells[i]) for cells in rows.values()] for i, (letter, _) in enumerate(zip(LETTERS, chosen, strict=False))
    }
    st.table(pd.DataFrame(columns, index=list(rows)), border="horizontal")


def _settings(chosen: list[train.RunState]) -> None:
    configs = [s.run.config for s in chosen]
    names = params.differing(configs)
    st.markdown("**Settings that differ**")
    if names:
        _beside(chosen, {params.PARAMS[name].title: [params.words(name, getattr(c, name)) for c in configs] for name in names})
        st.caption(f"All else is equal: {len(params.TRAIN_PARAMS) - len(names)} other settings.")
    else:
        st.caption("None: all settings are equal, the seed too.")


def _figures(chosen: list[train.RunState], judged: list[Evaluation | None]) -> None:
    st.markdown("**How they did**")
    rows: dict[str, list[str]] = {
        name: [] for name in ("Validation accuracy", "Images judged (n)", "Cross-entropy loss", "Best epoch", "Seconds", "Weights")
    }
    for s, e in zip(chosen, judged, strict=True):
        right, n = (e.accuracy, e.n) if e else so_far(s)
        loss = f"{e.loss.value:.3f} ({e.loss.low:.3f} to {e.loss.high:.3f})" if e and e.loss else ""
        size = compare.weights_bytes(s.run.id)
        cells = (
            (share(right, n) or "unknown") + ("" if e or right is None else ", so far"),
            f"{n:,}",
            loss or (f"{s.best.val_loss:.3f}, so far" if s.best and s.best.val_loss is not None else "unknown"),
            f"{s.best_epoch} of {s.epochs}" if s.best_epoch else "none yet",
            f"{s.seconds:,.1f}" if s.seconds else status(s),
            "none yet" if size is None else f"{size / 1e6:.2f} MB" if size > 1e5 else f"{size / 1e3:.1f} kB",
        )
        for row, cell in zip(rows.values(), cells, strict=True):
            row.append(cell)
    _beside(chosen, rows)
    kept = "the lowest validation loss, or the highest accuracy where a run stops on accuracy"
    st.caption(f"By the labels of today; in brackets the 95% interval. Best epoch: the one whose weights are kept, {kept}.")


def _images(chosen: list[train.RunState]) -> None:
    """Whether the runs saw the same images with the same labels."""
    first, *others = chosen
    lines, moved = [], False
    for letter, s in zip(LETTERS[1:], others, strict=False):
        found = compare.changes(first.run, s.run)
        moved |= "validation" in found
        for split, one in found.items():
            said = [
                f"{n:,} {word}" for n, word in ((one.added, "added"), (one.gone, "missing"), (one.relabelled, "with another label")) if n
            ]
            lines.append(f"{letter}, {'training' if split == 'train' else split} images: {', '.join(said)}")
    if not lines:
        st.caption(
            f"All saw the same images with the same labels: {first.run.counts['train']:,} to learn from, {first.run.counts['validation']:,} to validate."
        )
        return
    text = f"They saw other images or labels. Against A: {'; '.join(lines)}."
    if moved:
        text += " Their shares above are of different images."
        if len(chosen) == 2:
            text += " What follows below counts only the images both judged."
    st.warning(text, icon=":material/difference:")


def _curves(chosen: list[train.RunState]) -> None:
    lines = [(letter, compare.curve(s.run.id)) for letter, s in zip(LETTERS, chosen, strict=False)]
    if not any(epochs for _, epochs in lines):
        st.caption("None of them has finished an epoch yet.")
        return
    axes: list[Literal["epochs", "seconds"]] = ["epochs", "seconds"]
    over = st.segmented_control("Over", axes, default="epochs", required=True, key="curves-over", label_visibility="collapsed")
    counts = sorted({s.run.counts["validation"] for s in chosen})
    n = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    figures: list[Literal["loss", "accuracy"]] = ["loss", "accuracy"]
    for column, what in zip(st.columns(2), figures, strict=True):
        with column:
            st.plotly_chart(
                curves(lines, what, over, n),
                key=f"curves-{what}",
                config={"displayModeBar": False},
                alt=f"{what} of the runs after each epoch",
            )
    st.caption("Solid: validation. Dashed: training, measured while it learned. By the labels each was trained with.")


# The same images, two answers ---------------------------------------------------------------------


def _flipped(current: Dataset, a: train.RunState, b: train.RunState, judged: list[Evaluation | None]) -> None:
    """Who is right on which of the images both judged; a click on a count shows them."""
    st.header("The same images, two answers", anchor=False)
    first, second = judged
    if first is None or second is None:
        st.caption("One of them has no answers on validation images: it has not ended yet, ended too early, or had none.")
        return
    with frame.told():
        on_test = False
        if all("test" in evaluate.splits(s.run.id) for s in (a, b)):
            on_test = st.toggle(
                "On test images", key=f"on-test-{a.run.id}-{b.run.id}",
                help="Keep test images for the last look: who chooses between runs by them has no test any more.",
            )  # fmt: skip
        if on_test:
            st.warning("These are test images. Whoever chooses a run by them needs other images to test it.", icon=":material/lock_open:")
            openings.open_test(a.run, b.run)
            first, second = (evaluate.evaluate(s.run.id, "test") for s in (a, b))
        found = compare.paired(first, second)
        st.markdown(verdict(found))
        if found.n and (part := _pictures(current, found, _choose_cell(found))) is not None:
            _why(current, a.run, b.run, found.split, part)


def verdict(p: compare.Paired) -> str:
    """Which run is right more often on the same images, how sure that is, and how much chance could have done."""
    if p.difference is None:
        return "No image was judged by both."
    flips = p.only_a + p.only_b
    better, more, less = ("B", p.only_b, p.only_a) if p.only_b >= p.only_a else ("A", p.only_a, p.only_b)
    low, high = (p.difference.low, p.difference.high) if better == "B" else (-p.difference.high, -p.difference.low)
    if p.n < TOO_FEW:
        text = f"Of {p.n} {p.split} images A has {p.both + p.only_a} right and B {p.both + p.only_b}: too few images to speak of a share."
    elif more == less:
        text = f"**Both are right on equally many images** (difference 0 points, 95%: {_points(low)} to {_points(high)}, n = {p.n:,} {p.split} images)."
    else:
        points = 100 * abs(p.difference.value)
        text = f"**{better} is right on {points:.1f} points more images** (95%: {_points(low)} to {_points(high)}, n = {p.n:,} {p.split} images)."
    if not flips:
        text += " They are right and wrong on the very same images."
    elif p.p is not None and more != less:
        text += f" {better} alone is right on {more:,}, {'A' if better == 'B' else 'B'} alone on {less:,}. "
        text += f"If both were equally good, {flips:,} such images would fall so unevenly by chance {_chance(p.p)} (exact McNemar test, "
        text += "p < 0.001)" if p.p < 0.001 else f"p = {p.p:.3f})"
        text += ": hardly chance." if p.p < 0.05 else ": chance may be all there is to it."
    if p.left_out:
        text += f" {p.left_out:,} image{' that only one of them judged is' if p.left_out == 1 else 's that only one of them judged are'} left out."
    return text


def _points(share: float) -> str:
    return f"{100 * share:z.1f}".replace("-", "−")


def _chance(p: float) -> str:
    if p < 0.001:
        return "less than once in 1,000 times"
    return f"{round(1000 * p)} times in 1,000" if p < 0.01 else f"{round(100 * p)} times in 100"


def _choose_cell(p: compare.Paired) -> str:
    """The four counts; the larger of the two that differ is open at first."""
    key = f"flipped-{p.a}-{p.b}-{p.split}"

    def choose(cell: str) -> None:
        st.session_state[key] = cell
        st.session_state["flipped-page"] = 1

    chosen = str(st.session_state.get(key, "only_b" if p.only_b >= p.only_a else "only_a"))
    with st.container(key="paired-cells", width=440, gap="xsmall"):
        for row in (("both", "only_a"), ("only_b", "neither")):
            with st.container(horizontal=True, gap="xsmall"):
                for cell in row:
                    st.button(
                        f"{CELLS[cell]} · **{getattr(p, cell):,}**", key=f"cell-{cell}", on_click=choose, args=(cell,), width="stretch",
                        type="primary" if cell == chosen else "secondary",
                    )  # fmt: skip
    st.caption(f"n = {p.n:,} {p.split} images, by the labels of today. On {p.answers_differ:,} the two answers differ.")
    return chosen


def _pictures(current: Dataset, p: compare.Paired, cell: str) -> pd.DataFrame | None:
    """The images of a cell; returns the rows of those in view."""
    rows = p.rows[p.rows["outcome"] == cell]
    st.markdown(f"**{CELLS[cell]}: {len(rows):,} image{'s' if len(rows) != 1 else ''}**")
    if rows.empty:
        st.caption("No image is counted here.")
        return None
    pages = -(-len(rows) // PICTURES)
    number = min(st.session_state.get("flipped-page", 1), pages)
    part = rows.iloc[(number - 1) * PICTURES : number * PICTURES]
    notes = {r.image_id: f"A: {r.a} {r.a_confidence:.0%} · B: {r.b} {r.b_confidence:.0%}" for r in part.itertuples()}
    images = store.get_images(current.id, list(part["image_id"]))
    event = thumbs.image_grid(current, images, key="flipped-grid", split=p.split, notes=notes, size=150, editable=True)
    if pages > 1:
        st.pagination(pages, key="flipped-page")
    if event.open:
        st.session_state["why-image"] = event.open
    st.caption("Surest answers first. On a picture is its label, under it what A and B said. A wrong label can be corrected right here.")
    drawer(current, event.open, "train")
    return part


def _why(current: Dataset, a: Run, b: Run, split: str, rows: pd.DataFrame) -> None:
    """One of the images in view: which of its parts speak for an answer in either run, by one method."""
    if not st.toggle("Show why", key="why", help="Which parts of one of these pictures speak for and against an answer, in both runs."):
        return
    found = {image.id: image for image in store.get_images(current.id, list(rows["image_id"]))}
    if not found:
        st.caption("These images are not in this dataset any more.")
        return
    if st.session_state.get("why-image") not in found:
        st.session_state["why-image"] = next(iter(found))
    chosen = found[st.session_state["why-image"]]
    strip = list({image.id: image for image in [*list(found.values())[:STRIP], chosen]}.values())
    event = thumbs.image_grid(current, strip, key="why-grid", split=split, size=64, caption="label")
    if event.open:
        st.session_state["why-image"] = event.open
    with frame.told():
        image = found[st.session_state["why-image"]]
        path, answers = settings().images / image.path, []
        for run in (a, b):
            answer = predict.predict_one(run.id, path, image.source)
            answers.append(dict(zip(answer.classes, answer.probabilities, strict=True)))
        why = [explain.supported(run.id) for run in (a, b)]
        able = [name for name in methods.METHODS if not any(one[name] for one in why)]
        with st.container(horizontal=True, vertical_alignment="bottom", key="why-what"):
            method = st.selectbox(
                "Method", able, index=able.index(BOTH) if BOTH in able else 0, key="why-method", width=240, filter_mode=None,
                format_func=lambda m: methods.method(m).title, persist_state="session",
            )  # fmt: skip
            likeliest = [max(chances, key=lambda c: chances[c]) for chances in answers]
            first = list(dict.fromkeys([*likeliest, *([image.label] if image.label in answers[0] else [])]))
            labels = st.multiselect(
                "Classes",
                list(dict.fromkeys(c for chances in answers for c in chances)),
                default=first,
                key=f"why-classes-{a.id}-{b.id}-{image.id}",
            )
        st.markdown(f"{frame.plain(image.source)}, labelled **{frame.plain(image.label or 'nothing')}**.")
        st.caption(f"{methods.method(method).summary} {methods.method(method).trust}")
        if labels:
            beside([("A", a, answers[0]), ("B", b, answers[1])], path, method, labels, key="why", actual=image.label)
        else:
            st.caption("Choose at least one class.")
