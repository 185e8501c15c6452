"""Whether the network is as often right as it is sure, and what a temperature would mend."""

from __future__ import annotations

import numpy as np
import streamlit as st

from core.errors import Invalid
from core.evaluate import calibration as numbers
from core.evaluate import evaluate
from core.types import Evaluation, Interval, Run
from pages.parts.evaluate import cell
from pages.shared import frame
from pages.shared.figures import SPLIT_COLORS, reliability

AS_IS, MENDED = "As it is", "With the temperature"


def calibration(run: Run, e: Evaluation) -> None:
    """The reliability diagram, its error, and the temperature fitted on the validation images."""
    st.caption(
        "A network is calibrated if it is right as often as it is sure: of 100 answers given with 80%, about 80 are right. Where that does "
        "not hold, a threshold or a percentage says something else than it seems to."
    )
    plain = numbers.calibration(e)
    if plain is None:
        st.info("No image here has probabilities that are numbers, so calibration is undefined.", icon=":material/info:")
        return
    found, why = _fitted(run, e)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        shown = plain
        if found is not None:
            how = st.segmented_control(
                "Shown", (AS_IS, MENDED), default=AS_IS, required=True, key=f"calibration-{run.id}", label_visibility="collapsed"
            )
            if how == MENDED:
                shown = numbers.calibration(e, found.value) or plain
        _diagram(e, shown)
    with right:
        _says(shown)
        if found is None:
            st.info(f"**{frame.plain(why.message)}** {frame.plain(why.hint)}" if why else "", icon=":material/thermostat:")
        else:
            _temperature(run, e, found)


def _fitted(run: Run, e: Evaluation) -> tuple[numbers.Temperature | None, Invalid | None]:
    """The temperature by the validation images, or why there is none."""
    try:
        return numbers.fit(_validation(run, e)), None
    except Invalid as why:
        return None, why


def _validation(run: Run, e: Evaluation) -> Evaluation:
    if e.split == "validation":
        return e
    if "validation" not in evaluate.splits(run.id):
        raise Invalid(
            "This run has no validation images, so no temperature is fitted: test images are never used to choose.",
            "Train with validation images.",
        )
    return evaluate.evaluate(run.id, "validation", e.today)


def _diagram(e: Evaluation, shown: numbers.Calibration) -> None:
    key = f"reliability-{e.run_id}-{e.split}-{shown.temperature:.6f}"

    def clicked() -> None:
        points = st.session_state[key]["selection"]["points"]
        if not points or "customdata" not in points[0]:
            return
        value = points[0]["customdata"]
        place = int(value[0] if isinstance(value, list) else value["0"])
        b = shown.bins[place]
        confidence = numbers.confidences(e, shown.temperature)
        inside = np.isfinite(confidence) & (numbers.bin_of(confidence) == place)
        cell.choose(e, f"{b.low:.0%} to {b.high:.0%} sure", list(e.rows["image_id"][inside]), sort="confident")

    st.plotly_chart(
        reliability(shown, SPLIT_COLORS[e.split], f"Reliability, {e.split} images"),
        key=key,
        on_select=clicked,
        selection_mode="points",
        config={"displayModeBar": False},
        alt="Reliability diagram: accuracy by confidence",
    )
    st.caption(
        "**Reliability diagram.** A bar below the dotted line: the network is surer than it is right; above it: less sure than it could be. "
        "Pale bars hold fewer than 30 images. Click a bar to see them."
    )


def _says(found: numbers.Calibration) -> None:
    st.markdown(
        f"{'With the temperature: on' if found.temperature != 1 else 'On'} average **{found.sure:.1%} sure** and **{found.accuracy.value:.1%} right**: "
        f"{gap_words(found.gap, found.n)}.\n\n"
        f"**Expected calibration error {100 * found.error.value:.1f} points** (95% interval {100 * found.error.low:.1f} to "
        f"{100 * found.error.high:.1f}), n = {found.n:,}.",
    )
    st.caption(
        "The mean distance between the bars and the dotted line, each bar counted by its images (15 bars, Guo et al. 2017). Even if every "
        f"confidence were true, chance alone would show about {100 * found.by_chance:.1f} points with {found.n:,} images."
    )


def gap_words(gap: Interval, n: int) -> str:
    """How much too sure or unsure the answers are on average, with the interval; whether that may be chance."""
    if gap.low <= 0 <= gap.high:
        return (
            f"{100 * abs(gap.value):.1f} points apart, which may be chance (95% interval {-100 * gap.low:.1f} points too unsure to "
            f"{100 * gap.high:.1f} too sure, n = {n:,})"
        )
    low, high = sorted((abs(gap.low), abs(gap.high)))
    way = "sure" if gap.value > 0 else "unsure"
    return f"{100 * abs(gap.value):.1f} points too {way} (95% interval {100 * low:.1f} to {100 * high:.1f}, n = {n:,})"


def _temperature(run: Run, e: Evaluation, found: numbers.Temperature) -> None:
    if found.low <= 1 <= found.high:
        verdict = "1 lies in the interval: nothing shows that it is needed."
    else:
        verdict = "Above 1: the network is too sure." if found.value > 1 else "Below 1: the network is not sure enough."
    st.markdown(
        f"**Temperature {found.value:.2f}** (95% interval {found.low:.2f} to {found.high:.2f}), fitted on {found.n:,} validation images. {verdict}"
    )
    rows = []
    for one in (_validation(run, e), e) if e.split == "test" else (e,):
        before, after = numbers.calibration(one), numbers.calibration(one, found.value)
        if before is None or after is None:
            continue
        for title, a, b in (
            ("error (points)", _points(before), _points(after)),
            ("cross-entropy loss (nats)", f"{before.loss:.4f}", f"{after.loss:.4f}"),
        ):
            rows.append({"images": f"{one.split}, n = {before.n:,}", "figure": title, "before": a, "after": b})
    st.dataframe(
        rows,
        hide_index=True,
        column_config={"images": "Images", "figure": "Figure", "before": "Before", "after": "After"},
        key=f"temperature-{run.id}-{e.split}",
    )
    st.caption(
        "Temperature scaling divides the network’s scores by this number before they become probabilities. The answers stay the same, only "
        "how sure they are changes. It was fitted on the validation images, so what it gains on them is a little flattered; test images "
        "were never used for it. Loupe shows what it would do and applies it nowhere."
    )


def _points(found: numbers.Calibration) -> str:
    return f"{100 * found.error.value:.1f} ({100 * found.error.low:.1f} to {100 * found.error.high:.1f})"
