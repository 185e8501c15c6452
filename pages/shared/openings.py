"""Test images are shown only when asked for; each opening is written down, once for each session and run."""

from __future__ import annotations

import streamlit as st

from core.runs import openings
from core.train import train
from core.types import Dataset, Run
from pages.shared import frame

OPENED = "test-opened"  # in the session: the runs whose test set it has opened
COUNTED = "test-counted"  # in the session: those and the runs whose test accuracy it was shown without having asked for the images


def open_test(*runs: Run) -> None:
    """Opens the test set of the runs for this session."""
    for run in runs:
        count(run)
        st.session_state.setdefault(OPENED, set()).add(run.id)


def count(run: Run) -> None:
    """Writes down that this session sees the run's test accuracy, once."""
    counted: set[str] = st.session_state.setdefault(COUNTED, set())
    if run.id not in counted:
        openings.record(run.id, frame.user())
        counted.add(run.id)


def gate(current: Dataset, run: Run) -> bool:
    """Whether this session has opened the run's test set; else it says what a look costs, and asks."""
    if run.id in st.session_state.get(OPENED, ()):
        return True
    of_run, of_dataset = openings.times([run.id]), openings.times(r.run.id for r in train.list_runs(current.id))
    with st.container(border=True, key="test-gate"):
        st.markdown(
            ":material/lock: **Test data are for the end.** Each look makes the figure less honest: whoever chooses by it, or mends the "
            f"labels of what it gets wrong, has no test any more. This run's test set was opened {_times(of_run)}, this dataset's "
            f"{_times(of_dataset)}."
        )
        st.button("Open the test set", key=f"open-test-{run.id}", icon=":material/lock_open:", on_click=open_test, args=(run,))
    return False


def chip(run: Run) -> None:
    """How often the run's test set was opened; nothing while it never was."""
    if n := openings.times([run.id]):
        st.badge(f"test set opened {_times(n)}", icon=":material/lock_open:", color="orange")


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n:,} times"
