"""A new version of a policy: thresholds with what they do on validation images, shares of what is checked again, reasons."""

from __future__ import annotations

import html
from math import floor

import streamlit as st

from core import roles
from core.data.policies import Policy
from core.errors import AppError
from core.metrics import TOO_FEW, Share
from core.review import bands, policy, promise, validation
from core.review.bands import Limits
from core.review.policy import Rules
from core.review.promise import Promise
from core.review.validation import Validation
from core.types import Dataset, Interval, Run
from pages.shared import frame
from pages.shared.figures import policy_bands

VIEW = "policy-view"
RARE = 0.10  # of a rarer class accuracy is the wrong measure
STEPS = 1000  # of the sliders
FIRST = (0.1, 0.9)
MOST_REASONS = 20  # classes whose reasons can be written; of more classes those that are to be blocked
CONFIG = {"displayModeBar": False}
SAVED, ERROR = "policy-saved", "policy-error"
GIVEN = "policy-given"  # in the session: (run, class, lower threshold) that was set on Evaluate
KINDS = {
    "on average": "On average: over many such choices the share that passes is at most this; a single choice may be above.",
    "19 of 20": "19 of 20: of twenty such choices nineteen keep the share; it takes more images.",
}
PARTS = {
    "blind": ("Blind (%)", "Decided without the network's answer. It shows whether people follow the network too readily."),
    "second": ("Second opinion (%)", "Decided by two people, the second without the first answer. It shows whether people agree."),
    "known": ("Known answers (%)", "Labelled pictures that are mixed in. They show how often each person is right."),
    "audit": ("Audit (%)", "Looked at although they passed or were blocked; at least 1%. It is the only way to know what slipped through."),
}  # fmt: skip


def _key(run_id: str, name: str) -> str:
    return f"policy-{run_id}-{name}"


def begin_with(one: Policy) -> None:
    """Puts what a version says into the draft for its run, and shows that."""
    _fill(one.run_id, policy.today(one))
    st.query_params["policy"] = "write"
    st.query_params["run"] = one.run_id


def _add(run_id: str, name: str, lower: float) -> None:
    """Puts a class with its lower threshold into the draft, beside what that says already."""
    state, key, block = st.session_state, _key(run_id, f"class {name}"), _key(run_id, "block")
    if name not in state.get(block, ()):
        state[f"{key} blocks"] = False  # it was a single threshold: nothing is blocked without a person until somebody says so
    state[block] = list(dict.fromkeys([*state.get(block, ()), name]))
    state[f"{key} lower"], state[f"{key} both"] = lower, (lower, max(lower, state.get(f"{key} both", FIRST)[1]))
    for told in ("kept", "refused", "exact"):
        state.pop(f"{key} {told}", None)


def _fill(run_id: str, said: Rules) -> None:
    """The draft's widgets are its only state: so says what they hold."""
    state = st.session_state
    state[_key(run_id, "block")] = list(said.limits)
    for name, limits in said.limits.items():
        key = _key(run_id, f"class {name}")
        lower = floor(limits.lower * STEPS) / STEPS
        state[f"{key} blocks"] = limits.upper is not None
        state[f"{key} both"] = (lower, max(lower, 1.0 if limits.upper is None else limits.upper))
        state[f"{key} lower"] = lower
        state[f"{key} exact"] = (lower, limits.lower)
        for told in ("kept", "refused"):
            state.pop(f"{key} {told}", None)
    for name in PARTS:
        state[_key(run_id, name)] = round(100 * getattr(said, name), 1)
    state[_key(run_id, "benign")] = said.benign
    state[_key(run_id, "overdue")] = said.overdue_hours
    for name, reasons in said.reasons.items():
        state[_key(run_id, f"reasons {name}")] = "\n".join(reasons)


def write(current: Dataset) -> None:
    if (run := frame.run_picker(current)) is None:
        return
    with frame.told():
        held = validation.of(run.id)
        if _key(run.id, "block") not in st.session_state:
            acting = policy.active(current.id)  # whatever its run: the figures say what its thresholds would do with this one
            said = policy.today(acting) if acting else None
            _fill(run.id, said) if said and set(said.limits) <= set(held.classes) else None
        if (given := st.session_state.pop(GIVEN, None)) and given[0] == run.id and given[1] in held.classes:
            _add(*given)
        _draft(current, run, held, policy.pace(current.id))


@st.fragment
def _draft(current: Dataset, run: Run, held: Validation, timed: tuple[float, int] | None) -> None:
    """Drawn alone, so that the figures follow a slider at once."""
    with frame.guarded("policy"):
        if SAVED in st.session_state:  # told by the whole page
            st.rerun()
        left_out = f" {held.without_label:,} without a label of this run's classes are left out." if held.without_label else ""
        st.caption(
            f"Measured on the {held.n:,} validation images of this run with their labels of today; test images have no part in it."
            f"{left_out} The run's best epoch was kept by the same images, so the figures are a little too good: the audit says what happens "
            "in truth."
        )
        chosen = st.multiselect(
            "Classes to be blocked", held.classes, key=_key(run.id, "block"), persist_state="session",
            placeholder="Choose the risks", help="All other classes pass, as long as none of these is likely.",
        )  # fmt: skip
        if not chosen:
            st.info("Choose the classes that are to be blocked: then you see what thresholds on them do.", icon=":material/info:")
            return
        _rare(held, chosen)
        left, right = st.columns([3, 2], gap="large")
        with left:
            limits = {name: _one(run.id, held, name) for name in chosen}
        with right, st.container(key="what-will-happen"):
            _figures(held, limits, timed, run.id)
        _checked(run.id)
        _reasons(run.id, held, chosen)
        _save_as(current, run, held)


def _rare(held: Validation, chosen: list[str]) -> None:
    for name in chosen:
        n = held.count(name)
        if 0 < n < RARE * held.n:
            st.markdown(
                f":material/balance: {frame.plain(name)} is rare: {n:,} of {held.n:,} validation images ({n / held.n:.1%}). A network that never "
                f"finds it would be right on {1 - n / held.n:.1%}, so accuracy is the wrong measure: look at what wrongly passes."
            )


def _one(run_id: str, held: Validation, name: str) -> Limits:
    """The thresholds of one class, and a picture of them."""
    key, word, n = _key(run_id, f"class {name}"), frame.plain(name), held.count(name)
    st.subheader(f"{word}", anchor=False)
    if n < TOO_FEW:
        st.warning(
            f"{n:,} validation image{' is' if n == 1 else 's are'} {word}: fewer than {TOO_FEW} say little about what slips through, so counts "
            "stand in place of shares. Give more of them to validation and train again, or let a person decide on more.",
            icon=":material/hide_source:",
        )
    state = st.session_state
    state.setdefault(f"{key} blocks", n >= TOO_FEW)
    state.setdefault(f"{key} both", FIRST)
    state.setdefault(f"{key} lower", FIRST[0])

    def switched() -> None:
        if state[f"{key} blocks"]:
            state[f"{key} both"] = (state[f"{key} lower"], max(state[f"{key} lower"], state[f"{key} both"][1]))
        else:
            state[f"{key} lower"] = state[f"{key} both"][0]

    blocks = st.toggle(
        "Block without a person from the upper threshold on", key=f"{key} blocks", on_change=switched, persist_state="session"
    )
    if blocks:
        text = f"Probability of {word}: passes below the lower, blocked from the upper threshold on"
        st.slider(text, 0.0, 1.0, step=1 / STEPS, format="%.3f", key=f"{key} both", persist_state="session")
    else:
        text = f"Probability of {word}: passes below, a person is asked above"
        st.slider(text, 0.0, 1.0, step=1 / STEPS, format="%.3f", key=f"{key} lower", persist_state="session")
    _promised(held, name, key)
    limits = _limits(run_id, name)
    st.plotly_chart(
        policy_bands(name, held.scores(name), held.scores(name, own=False), limits.lower, limits.upper), key=f"{key} picture", config=CONFIG,
        alt=f"Histogram of the probability of {name}, with both thresholds",
    )  # fmt: skip
    return limits


def _limits(run_id: str, name: str) -> Limits:
    """What the widgets say; a threshold that was chosen for a promise is taken as it is, not as the slider rounds it."""
    state, key = st.session_state, _key(run_id, f"class {name}")
    lower, upper = state[f"{key} both"] if state[f"{key} blocks"] else (state[f"{key} lower"], None)
    shown, exact = state.get(f"{key} exact", (None, 0.0))
    return Limits(float(exact if shown == lower else lower), None if upper is None else float(upper))


def _promised(held: Validation, name: str, key: str) -> None:
    """At most x % of the class may pass."""
    word, state = frame.plain(name), st.session_state
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.number_input(
            f"At most …% of {word} may pass",
            0.1,
            50.0,
            5.0,
            step=0.5,
            key=f"{key} most",
            persist_state="session",
            width=230,
            format="%.1f",
        )
        st.selectbox(
            "How sure", list(KINDS), key=f"{key} kind", persist_state="session", filter_mode=None, width=140, help=" ".join(KINDS.values())
        )
        st.button("Set the lower threshold", key=f"{key} set", icon=":material/target:", on_click=_promise, args=(held, name, key))
    if refused := state.get(f"{key} refused"):
        frame.show(refused)
    kept: Promise | None = state.get(f"{key} kept")
    if kept is not None:
        lower = _limits(held.run_id, name).lower
        if lower > kept.threshold:
            st.caption(
                f":material/heart_broken: The lower threshold was moved above {kept.threshold:.4g}: the promise does not hold any more."
            )
            return
        st.markdown(
            f":material/verified: At most {100 * kept.most:g}% of {word} pass below {kept.threshold:.4g}: chosen on {kept.chosen_on.n:,} of its "
            f"images. On the other {kept.passed.n:,}, which had no say, {_told(kept.passed)} pass."
        )
        st.caption(f"{KINDS[kept.kind]} It holds for pictures like these.")


def _promise(held: Validation, name: str, key: str) -> None:
    state = st.session_state
    try:
        kept = promise.promise(name, held.scores(name), held.ids_of(name), state[f"{key} most"] / 100, state[f"{key} kind"])
    except AppError as e:
        state[f"{key} refused"] = e
        return
    state.pop(f"{key} refused", None)
    upper = state[f"{key} both"][1] if state[f"{key} blocks"] else 1.0
    exact = min(kept.threshold, upper)
    shown = floor(exact * STEPS) / STEPS
    state[f"{key} both"], state[f"{key} lower"] = (shown, max(shown, state[f"{key} both"][1])), shown
    state[f"{key} exact"], state[f"{key} kept"] = (shown, exact), kept


def _told(share: Share) -> str:
    """k of n with the exact interval; of few images no share."""
    if share.interval is None:
        return "none"
    if share.n < TOO_FEW:
        return f"{share.k:,} of {share.n:,} ({share.interval.low:.0%} to {share.interval.high:.0%})"
    low, high = _percent(share.interval.low), _percent(share.interval.high)
    return f"{share.k:,} of {share.n:,}, {_percent(share.interval.value)} ({low} to {high})"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share == 0 or share >= 0.001 else f"{100 * share:.1g}%"


def _figures(held: Validation, limits: dict[str, Limits], timed: tuple[float, int] | None, run_id: str) -> None:
    st.subheader("What it would do", anchor=False)
    pace = timed[0] if timed else None
    if pace is None:
        pace = float(
            st.number_input(
                "Seconds per decision (a guess: nobody has decided here yet)", 0.5, 600.0, 8.0, step=0.5, key=_key(run_id, "pace"),
                persist_state="session", format="%.1f",
            )
        )  # fmt: skip
    load = bands.workload(held.probabilities, held.truth, held.classes, limits, pace)
    rows = [
        ("passes without a person", _told(load.passed)),
        ("a person is asked", _told(load.asked)),
        ("blocked without a person", _told(load.blocked)),
        *(
            (f"wrongly passed: {name}", _told(share) if share.n else "no such image: unknown")
            for name, share in load.wrongly_passed.items()
        ),
        ("wrongly blocked, of all others", _told(load.wrongly_blocked) if load.wrongly_blocked.n else "no other image: unknown"),
        ("review per 1,000 pictures", _minutes(load.minutes, held.n)),
    ]
    cells = "".join(f'<tr><th scope="row">{html.escape(title)}</th><td>{html.escape(text)}</td></tr>' for title, text in rows)
    st.html(f'<table class="policy-figures"><tbody>{cells}</tbody></table>')
    paced = f"the median of your team's last {timed[1]:,} timed decisions" if timed else "your guess"
    st.caption(
        f"In brackets the exact 95% interval (Clopper and Pearson). Review at {pace:.1f} s a picture, {paced}. All of it holds for pictures "
        "mixed as the validation images are."
    )


def _minutes(minutes: Interval | None, n: int) -> str:
    if minutes is None:
        return "too few images to say"
    if n < TOO_FEW:
        return f"{minutes.low:.0f} to {minutes.high:.0f} minutes"
    return f"{minutes.value:.0f} minutes ({minutes.low:.0f} to {minutes.high:.0f})"


def _checked(run_id: str) -> None:
    state = st.session_state
    with st.expander("What is checked again, and in which order", icon=":material/fact_check:", key=_key(run_id, "checked")):
        st.caption("Which pictures fall into a share is drawn once and stays so, however often they are sent.")
        for name, (title, text) in PARTS.items():
            state.setdefault(_key(run_id, name), round(100 * getattr(Rules, name), 1))
            least = 100 * policy.LEAST_AUDIT if name == "audit" else 0.0
            st.number_input(title, least, 100.0, step=1.0, key=_key(run_id, name), persist_state="session", format="%.1f", width=220)
            st.caption(text)
        state.setdefault(_key(run_id, "benign"), Rules.benign)
        st.number_input("Benign mix: one in …", 0, 100, key=_key(run_id, "benign"), persist_state="session", width=220)
        st.caption("One in so many that are dealt out is what is least risky; 0: none. Bad pictures alone tire and mislead.")
        state.setdefault(_key(run_id, "overdue"), Rules.overdue_hours)
        st.number_input(
            "Overdue after (hours)", 0.5, 720.0, step=1.0, key=_key(run_id, "overdue"), persist_state="session", format="%.1f", width=220
        )
        st.caption("What waits longer is dealt out first.")


def _reasons(run_id: str, held: Validation, chosen: list[str]) -> None:
    with st.expander("Reasons to choose from", icon=":material/format_list_bulleted:", key=_key(run_id, "reasoned")):
        st.caption("Whoever decides chooses one of them with the decision, for the statement of reasons. One a line, up to 200 characters.")
        for name in held.classes if len(held.classes) <= MOST_REASONS else chosen:
            st.session_state.setdefault(_key(run_id, f"reasons {name}"), "")
            st.text_area(f"Reasons for {frame.plain(name)}", key=_key(run_id, f"reasons {name}"), persist_state="session", height=90)


def _said(run_id: str, held: Validation) -> Rules:
    """The draft as its widgets say it."""
    state = st.session_state
    limits = {name: _limits(run_id, name) for name in state[_key(run_id, "block")]}
    promises, reasons = {}, {}
    for name, one in limits.items():
        kept: Promise | None = state.get(_key(run_id, f"class {name}") + " kept")
        if kept is not None and one.lower <= kept.threshold:
            promises[name] = kept.most
    for name in held.classes:
        lines = [line.strip()[:200] for line in str(state.get(_key(run_id, f"reasons {name}"), "")).splitlines()]
        if some := tuple(line for line in lines if line):
            reasons[name] = some
    return Rules(
        limits=limits, reasons=reasons, promises=promises, benign=int(state[_key(run_id, "benign")]),
        overdue_hours=float(state[_key(run_id, "overdue")]), **{name: state[_key(run_id, name)] / 100 for name in PARTS},
    )  # fmt: skip


def _save_as(current: Dataset, run: Run, held: Validation) -> None:
    may = roles.current().may("policy", current.id)
    with st.container(horizontal=True, vertical_alignment="bottom", key="policy-save"):
        st.text_input(
            "Name of the version",
            key=_key(run.id, "name"),
            max_chars=80,
            placeholder="What it is for, such as: stricter on risked",
            width=420,
        )
        st.button(
            "Save as a version", type="primary", icon=":material/save:", key="policy-write", disabled=not may, on_click=_save,
            args=(current, run, held), help="A version never changes. It sorts nothing until it is made active.",
        )  # fmt: skip
    if not may:
        words, who = roles.MAY["policy"]
        st.caption(f"You may look at what a policy would do. Those who may {words}: {', '.join(who)}.")
    if error := st.session_state.pop(ERROR, None):
        frame.show(error)


def _save(current: Dataset, run: Run, held: Validation) -> None:
    try:
        made = policy.write(current.id, run.id, st.session_state.get(_key(run.id, "name")) or "", _said(run.id, held), frame.user())
    except AppError as e:
        st.session_state[ERROR] = e
        return
    st.query_params["policy"] = "versions"
    st.session_state[SAVED] = made.id
