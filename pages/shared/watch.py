"""One run: its curves, and what can be done with it."""

from __future__ import annotations

import streamlit as st

from core import networks, train
from core.catalog import OPTION_TITLES
from pages.shared import frame
from pages.shared.live import live


def panel(state: train.RunState) -> None:
    run = state.run
    with st.container(border=True, key="run-panel"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(frame.plain(run.name), anchor=False, width="stretch")
            if state.active:
                stopping = train.stopping(run.id)
                st.button(
                    "Stopping …" if stopping else "Stop", icon=":material/stop_circle:", key="stop", disabled=stopping, on_click=train.stop, args=(run.id,),
                    help="Ends after the current step and keeps the best weights.",
                )  # fmt: skip
        details = f"{networks.architecture(run.config.architecture).title}, {'frozen, ' if run.config.freeze else ''}{OPTION_TITLES[run.config.optimizer]}, "
        details += f"learning rate {run.config.learning_rate:g}, batch {run.config.batch_size}, seed {run.config.seed}; "
        details += f"{run.counts['train']:,} training and {run.counts['validation']:,} validation images"
        st.caption(frame.plain(details))
        ended = live(
            run.id, f"/api/runs/{run.id}/events", frame.token(), key=f"live-{run.id}", epochs=run.config.epochs, running=state.active
        )
        if ended:
            st.rerun()
        if not state.active:
            outcome(state)


def outcome(state: train.RunState) -> None:
    if state.status in ("failed", "lost"):
        st.error(
            f"**{'Training failed' if state.status == 'failed' else 'Training was cut off'}.** {frame.plain(state.message)}",
            icon=":material/error:",
        )
        with st.expander("The last lines of its log", icon=":material/terminal:"):
            st.code(train.log_tail(state.run.id) or "(the log is empty)", language=None)
    if state.best is not None:
        if train.no_better_than_guessing(state):
            st.warning(
                "On validation it is no better than always answering the commonest class. More images, another network "
                "(EfficientNet-Lite0 for photos) or another learning rate may help.",
                icon=":material/casino:",
            )
        with st.container(horizontal=True):
            if st.button("See its mistakes", type="primary", icon=":material/grid_on:"):
                st.switch_page("evaluate.py", query_params={"run": state.run.id})
            if st.button("Why it answers so", icon=":material/frame_inspect:"):
                st.switch_page("explain.py", query_params={"run": state.run.id})
            if st.button("Try it on a picture", icon=":material/upload_file:"):
                st.switch_page("predict.py", query_params={"run": state.run.id})
