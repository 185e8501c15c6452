"""Where the network is worse than elsewhere: by class, folder, image size, brightness and flag."""

from __future__ import annotations

import streamlit as st

from core.evaluate import evaluate
from core.evaluate import slices as numbers
from core.metrics import TOO_FEW
from core.types import Dataset, Evaluation, Interval, Run
from pages.parts.evaluate import cell
from pages.shared import frame
from pages.shared.figures import slice_dots

ALL = "all"
MOST_DRAWN = 25


def slices(current: Dataset, run: Run, e: Evaluation) -> None:
    """Every slice with n, accuracy and its difference from the rest, the worst first; a click shows its images."""
    st.caption(
        "A slice is a part of the images that have something in common. One that does worse than the rest says what to label or collect next."
    )
    other = evaluate.evaluate(run.id, "validation", e.today) if e.split == "test" and "validation" in evaluate.splits(run.id) else None
    with st.spinner("Measuring …"):
        found = numbers.slices(e, current.id, other)
    kinds = [kind for kind in numbers.KINDS if any(s.kind == kind for s in found)]
    if not kinds:
        st.info("These images do not differ in class, folder, size, brightness or flag.", icon=":material/info:")
        return
    chosen = st.segmented_control(
        "By",
        [ALL, *kinds],
        default=ALL,
        required=True,
        format_func=str.capitalize,
        key=f"slices-{run.id}-{e.split}",
        label_visibility="collapsed",
    )
    if chosen != ALL:
        st.caption(numbers.KINDS[str(chosen)])
        found = tuple(s for s in found if s.kind == chosen)
    _dots(e, found[:MOST_DRAWN], str(chosen))
    more = f" {len(found) - MOST_DRAWN:,} more are in the table." if len(found) > MOST_DRAWN else ""
    st.caption(
        f"The worst first; slices of fewer than {TOO_FEW} images come last: they are counts, and hollow. Click a dot to see the images.{more} "
        f"Of {len(found):,} slices about {_by_chance(len(found))} would stand out by chance alone, so look at the images before you act."
    )
    with st.expander("As a table", icon=":material/table:", key=f"slices-open-{run.id}"):
        _table(e, found, str(chosen))
    missing = [kind for kind in ("folder", "image size", "brightness", "flag") if kind not in kinds]
    if missing and chosen == ALL:
        st.caption(f":material/info: Not shown, because these images do not differ in it or it is not known: {', '.join(missing)}.")


def _by_chance(n: int) -> str:
    return "1" if n < 30 else f"{n / 20:.0f}"


def _dots(e: Evaluation, found: tuple[numbers.Slice, ...], kind: str) -> None:
    assert e.accuracy is not None
    key = f"slice-dots-{e.run_id}-{e.split}-{kind}-{len(found)}"

    def clicked() -> None:
        points = st.session_state[key]["selection"]["points"]
        if points and "customdata" in points[0]:
            value = points[0]["customdata"]
            _choose(e, found[int(value[0] if isinstance(value, list) else value["0"])])

    st.plotly_chart(
        slice_dots(found, e.accuracy.value, e.n, e.split),
        key=key,
        on_select=clicked,
        selection_mode="points",
        config={"displayModeBar": False},
        alt="Accuracy of each slice with its interval",
    )


def _choose(e: Evaluation, one: numbers.Slice) -> None:
    if one.kind == "split" and one.name != e.split:
        st.toast(f"Choose the {one.name} split above to see its images.", icon=":material/info:")
    else:
        cell.choose(e, f"{one.kind} {one.name}", one.ids, sort="loss")


def _table(e: Evaluation, found: tuple[numbers.Slice, ...], kind: str) -> None:
    key = f"slice-table-{e.run_id}-{e.split}-{kind}-{len(found)}"

    def clicked() -> None:
        for row in st.session_state[key]["selection"]["rows"]:
            _choose(e, found[row])

    st.dataframe(
        [
            {
                "kind": s.kind,
                "slice": s.name,
                "n": s.n,
                "right": s.right,
                "accuracy": frame.part(s.accuracy, s.right, s.n),
                "difference": _difference(s.difference) if s.n >= TOO_FEW else "too few",
            }
            for s in found
        ],
        hide_index=True,
        key=key,
        on_select=clicked,
        selection_mode="single-row",
        column_config={
            "kind": "By",
            "slice": "Slice",
            "n": st.column_config.NumberColumn("n", format="localized", help="Images in the slice"),
            "right": st.column_config.NumberColumn("Right", format="localized"),
            "accuracy": st.column_config.TextColumn("Accuracy", help="In brackets the 95% interval; of fewer than 30 images the count."),
            "difference": st.column_config.TextColumn(
                "Against the rest", help="Accuracy less that of all other images, in points, with its 95% interval."
            ),
        },
    )


def _difference(one: Interval | None) -> str:
    return "no rest" if one is None else f"{100 * one.value:+.1f} ({100 * one.low:+.1f} to {100 * one.high:+.1f})"
