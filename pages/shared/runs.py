"""The table of a dataset's runs, and runs beside each other."""

from __future__ import annotations

import streamlit as st

from core import train
from pages.shared import frame


def table(found: list[train.RunState]) -> None:
    st.subheader("Runs", anchor=False)
    rows = []
    for s in found:
        best = s.best
        n = s.run.counts["validation"]
        rows.append(
            {
                "run": s.run.name,
                "status": s.status,
                "right": f"{best.val_accuracy:.1%} of {n:,}" if best and best.val_accuracy is not None else "",
                "loss": best.val_loss if best else None,
                "best": s.best_epoch,
                "seconds": s.seconds,
                "started": s.run.created_at[:16].replace("T", " "),
                "by": s.run.by,
            }
        )
    picked = st.dataframe(
        rows,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"runs-{hash(tuple(s.run.id for s in found))}",  # a selection by row must not outlive the list
        column_config={
            "run": st.column_config.TextColumn("Run"),
            "status": st.column_config.TextColumn("Status"),
            "right": st.column_config.TextColumn(
                "Right on validation", help="The share of validation images the best epoch got right, and how many there were."
            ),
            "loss": st.column_config.NumberColumn("Validation loss", format="%.4f"),
            "best": st.column_config.NumberColumn("Best epoch"),
            "seconds": st.column_config.NumberColumn("Seconds", format="%.1f"),
            "started": st.column_config.TextColumn("Started (UTC)"),
            "by": st.column_config.TextColumn("By"),
        },
    )
    if picked["selection"]["rows"]:
        chosen = found[picked["selection"]["rows"][0]]
        if chosen.run.id != st.session_state.get("watched"):
            st.session_state["watched"] = chosen.run.id
            st.rerun()
        if not chosen.active and st.button(f"Delete {frame.plain(chosen.run.name)}", icon=":material/delete:"):
            train.delete(chosen.run.id)
            st.session_state["deleted_run"] = chosen.run.id
            st.session_state.pop("watched", None)
            st.rerun()
