"""The attribution board: maps are computed in the background and appear one by one, a row per method and a column per class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from core.catalog import methods, params
from core.errors import AppError
from core.explain import explain
from core.runs import runs
from core.types import Attribution, Param, Run
from pages.shared import closed, form, frame
from pages.shared.maps import controls, pixels, row, shown

HELD = "maps"  # in the session: cell -> what became of it, the last used last
MOST = 100  # cells a session keeps; at 224 pixels a side each is about 130 kB
AHEAD = 2.0  # seconds of work that a page asks for before it looks again: what nobody waits for any more is then never begun
UNKNOWN = 0.5  # seconds that a map is thought to take where nothing is known
POLL = 0.5  # seconds
CLOSE = 0.05  # a completeness error of so much of the change in score is none to speak of
FAR = 0.2  # and of so much is a reason for doubt


@dataclass(frozen=True)
class Cell:
    """One map that somebody wants to see."""

    run_id: str
    weights: str
    path: Path
    method: str
    label: str
    settings: tuple[tuple[str, Any], ...] = ()


@dataclass
class Held:
    """What became of a cell; nothing set: it waits for its turn."""

    asked: explain.Asked | None = None
    done: int = 0  # passes
    total: int = 0
    stopped: bool = False
    error: str = ""
    drawn: dict[str, Any] | None = None  # the map for the browser
    picture: dict[str, Any] | None = None

    @property
    def waits(self) -> bool:
        return not (self.stopped or self.error or self.drawn)


def look(cells: Sequence[Cell]) -> list[Held]:
    """Takes in what has been computed and asks for what comes next; what was asked for and is not among the cells is stopped."""
    held: dict[Cell, Held] = st.session_state.setdefault(HELD, {})
    for cell, one in held.items():
        if one.asked is not None and cell not in cells:
            explain.stop(one.asked)
            one.asked = None
    for cell in cells:
        held[cell] = held.pop(cell, Held())
        if (asked := held[cell].asked) is not None:
            _take(held, cell, asked)
    ahead = sum(_seconds(cell) for cell in cells if held[cell].asked is not None)
    for cell in cells:
        one = held[cell]
        if one.waits and one.asked is None and ahead < AHEAD:
            try:
                one.asked = explain.ask(cell.run_id, cell.path, cell.method, cell.label, dict(cell.settings))
            except AppError as e:
                one.error = str(e)
                continue
            closed.follow(one.asked)
            _take(held, cell, one.asked)
            ahead += _seconds(cell) if one.asked is not None else 0.0
    for cell in list(held)[: max(0, len(held) - max(MOST, len(cells)))]:
        del held[cell]
    return [held[cell] for cell in cells]


def _take(held: Mapping[Cell, Held], cell: Cell, asked: explain.Asked) -> None:
    one = held[cell]
    one.done, one.total = explain.progress(asked)
    if not asked.done:
        return
    one.asked = None
    try:
        found = explain.answer(asked)
        same = (o.picture for c, o in held.items() if o.picture and (c.run_id, c.weights, c.path) == (cell.run_id, cell.weights, cell.path))
        one.drawn, one.picture = pixels(found) | said(found), next(same, None) or shown(found)
    except AppError as e:
        one.error = str(e)


def _seconds(cell: Cell) -> float:
    return explain.cost(cell.run_id, cell.method, dict(cell.settings)).seconds or UNKNOWN


def stop(cells: Sequence[Cell]) -> None:
    """A second click finds nothing left to stop."""
    held: dict[Cell, Held] = st.session_state.get(HELD, {})
    for cell in cells:
        if (one := held.get(cell)) and one.waits:
            if one.asked is not None:
                explain.stop(one.asked)
            one.asked, one.stopped = None, True


def again(cells: Sequence[Cell]) -> None:
    """Those that were stopped, or failed, wait for their turn once more."""
    held: dict[Cell, Held] = st.session_state.get(HELD, {})
    for cell in cells:
        if (one := held.get(cell)) and not one.drawn:
            held[cell] = Held()


def said(attribution: Attribution) -> dict[str, Any]:
    """What must be known to read this map: how well its parts add up, in words, and the method's own notes."""
    parts, change, doubt = list(attribution.notes), attribution.change, False
    if attribution.delta is not None and change is not None and abs(change) < 1e-6:
        parts.append("The score does not change on the way to this picture.")
    elif attribution.delta is not None and change is not None:
        share = abs(attribution.delta / change)
        doubt = share > FAR
        words = f"the change in score ({change:+.2g})".replace("-", "−")
        if doubt:
            more = any(p.name == "steps" for p in methods.method(attribution.method).params)
            parts.append(f"Misses {words} by {share:.0%}: do not trust the details." + (" More steps may help." if more else ""))
        else:
            parts.append(f"Adds up to {words} {'within' if share <= CLOSE else 'only within'} {max(share, 0.01):.0%}.")
    return {"caption": " ".join(parts), "doubt": doubt}


def board(
    run: Run, path: Path, chosen: Sequence[str], classes: Sequence[tuple[str, float]], *, key: str, actual: str | None = None, adjustable: bool = False
) -> None:  # fmt: skip
    """A row per method, a column per (class, probability), one colour scale a row; adjustable: with each method's settings."""

    def cells() -> list[list[Cell]]:
        weights = weights_of(run)
        return [[Cell(run.id, weights, path, m, label, settings_of(run, m) if adjustable else ()) for label, _ in classes] for m in chosen]

    def draw(rows: list[list[Cell]], found: Mapping[Cell, Held]) -> None:
        picture = next((one.picture for one in found.values() if one.picture), None)
        notes = _notes(classes, actual)
        for method, row_cells in zip(chosen, rows, strict=True):
            words, maps = st.columns([2, 5], gap="medium")
            with words:
                _head(run, method, row_cells, [found[cell] for cell in row_cells], key, adjustable)
            with maps:
                drawn = [_drawn(cell, found[cell], p, notes[cell.label]) for cell, (_, p) in zip(row_cells, classes, strict=True)]
                row(methods.method(method).title, drawn, picture=picture, key=f"{key}-{method}-maps")

    controls(key=f"{key}-controls")
    _followed(cells, draw)


def beside(
    pair: Sequence[tuple[str, Run, Mapping[str, float]]], path: Path, method: str, labels: Sequence[str], *, key: str, actual: str | None
) -> None:
    """The same method for the same classes in two runs, each (letter, run, probability by class); a colour scale for each run."""

    def cells() -> list[list[Cell]]:
        return [[Cell(run.id, weights_of(run), path, method, label) for label in labels] for _, run, _ in pair]

    def draw(rows: list[list[Cell]], found: Mapping[Cell, Held]) -> None:
        for slot, row_cells, (letter, run, chances) in zip(st.columns(len(pair), gap="medium"), rows, pair, strict=True):
            with slot:
                (first, p), *_ = sorted(chances.items(), key=lambda c: -c[1])
                st.markdown(f"**{letter}** {frame.plain(run.name)} says **{frame.plain(first)}** ({p:.1%}).")
                notes = _notes(list(chances.items()), actual)
                drawn = [_drawn(cell, found[cell], chances.get(cell.label), notes.get(cell.label, "")) for cell in row_cells]
                picture = next((found[cell].picture for cell in row_cells if found[cell].picture), None)
                row(f"{methods.method(method).title} of {letter}", drawn, picture=picture, key=f"{key}-{letter}-maps")

    controls(key=f"{key}-controls")
    _followed(cells, draw)
    st.caption("Each run has a colour scale of its own: the scores of two networks are not on one scale.")


def _followed(cells: Callable[[], list[list[Cell]]], draw: Callable[[list[list[Cell]], Mapping[Cell, Held]], None]) -> None:
    """Draws the maps, again and again while some are to come; the page is drawn anew when that begins or ends."""

    def seen() -> tuple[list[list[Cell]], dict[Cell, Held]]:
        rows = cells()
        every = [cell for some in rows for cell in some]
        return rows, dict(zip(every, look(every), strict=True))

    def maps() -> None:
        with frame.guarded("maps"):
            rows, found = seen()
            draw(rows, found)
            if any(one.waits for one in found.values()) != waits:
                st.rerun()

    waits = any(one.waits for one in seen()[1].values())
    st.fragment(maps, run_every=POLL if waits else None)()


def weights_of(run: Run) -> str:
    """What changes when the run learns on: maps of other weights are other maps."""
    return runs.maps_folder(runs.trained(run.id)).name


def _notes(classes: Sequence[tuple[str, float]], actual: str | None) -> dict[str, str]:
    ranked = sorted(classes, key=lambda c: -c[1])
    names = {ranked[0][0]: "its answer"} if ranked else {}
    if actual is not None:
        names[actual] = f"{names[actual]} and the label" if actual in names else "the label"
    return {label: names.get(label, "") for label, _ in classes}


def _drawn(cell: Cell, one: Held, probability: float | None, note: str) -> dict[str, Any]:
    title = (cell.label if probability is None else f"{cell.label} {probability:.1%}") + (f" · {note}" if note else "")
    file = "".join(c if c.isalnum() else "-" for c in f"{cell.path.stem[:16]} {cell.method} {cell.label}")
    facts = {"title": title, "file": f"{file}.png", "stopped": one.stopped, "error": one.error}
    return facts | (one.drawn or {})


def _head(run: Run, method: str, cells: Sequence[Cell], found: Sequence[Held], key: str, adjustable: bool) -> None:
    """What the method shows, what it costs or how far along it is, what can be set."""
    facts = methods.method(method)
    words = cost_words(run, method, dict(cells[0].settings), len(cells))
    st.markdown(f"**{facts.title}**" + (f" :small[:gray[{words}]]" if adjustable else ""))
    st.caption(f"{facts.summary} {facts.trust}")
    waits = any(one.waits for one in found)
    if waits:
        done = sum(1.0 if not one.waits else one.done / max(1, one.total) for one in found) / len(found)
        st.progress(min(1.0, done), _progress(cells, found))
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        if waits:
            st.button("Stop", icon=":material/stop_circle:", type="tertiary", key=f"{key}-{method}-stop", on_click=stop, args=(cells,))
        elif any(one.stopped or one.error for one in found):
            st.button(
                "Go on" if any(one.stopped for one in found) else "Try again",
                icon=":material/play_arrow:",
                type="tertiary",
                key=f"{key}-{method}-again",
                on_click=again,
                args=(cells,),
            )
        if adjustable and facts.params:
            with st.popover("Settings", icon=":material/tune:", type="tertiary", key=f"{key}-{method}-settings"):
                for param in explain.method_params(run.id, method):
                    form.field(param, titles=lambda o: params.OPTION_TITLES.get(o, o), key=_field(run, method, param))
                st.button(
                    "As it was", icon=":material/undo:", type="tertiary", key=f"{key}-{method}-reset", on_click=_reset, args=(run, method)
                )


def _progress(cells: Sequence[Cell], found: Sequence[Held]) -> str:
    for cell, one in zip(cells, found, strict=True):
        if one.asked is not None and one.done:
            return f"{frame.plain(cell.label)}: {one.done:,} of {one.total:,} passes"
    return "Waiting for its turn"


def cost_words(run: Run, method: str, settings: dict[str, Any], times: int = 1) -> str:
    """What so many maps cost, as far as it is known."""
    try:
        cost = explain.cost(run.id, method, settings)
    except AppError:  # a setting is wrong: its row says which
        return ""
    passes = f"{cost.passes * times:,} pass{'es' if cost.passes * times != 1 else ''}"
    passes = f"at most {passes}" if methods.method(method).passes_at_most else passes
    if cost.seconds is None:
        return passes
    seconds = cost.seconds * times
    if seconds < 1:
        return f"under a second, {passes}"
    return f"about {f'{seconds:.0f} s' if seconds < 100 else f'{seconds / 60:.0f} min'}, {passes}"


def _field(run: Run, method: str, param: Param) -> str:
    return f"setting-{run.id}-{method}-{param.name}"


def settings_of(run: Run, method: str) -> tuple[tuple[str, Any], ...]:
    """What differs from the method's own settings."""
    fields = [(param, _field(run, method, param)) for param in explain.method_params(run.id, method)]
    return tuple((param.name, st.session_state[key]) for param, key in fields if form.changed(param, None, key))


def _reset(run: Run, method: str) -> None:
    for param in methods.method(method).params:
        st.session_state.pop(_field(run, method, param), None)
