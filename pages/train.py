"""Choose a network, start it, watch it learn."""

import streamlit as st

from core import catalog, train
from core.catalog import ARCHITECTURES, OPTIMIZER_TITLES, TRAIN_PARAMS
from core.types import Dataset
from pages.shared import form, frame
from pages.shared.live import live

PARAMS = {p.name: p for p in TRAIN_PARAMS}


def settings_form(current: Dataset) -> None:
    with frame.told():
        snapshot, warnings = train.plan(current.id)
        left, right = st.columns([5, 3], gap="medium")
        with left:
            name = network(current)
            with st.expander("How it learns", expanded=True, icon=":material/tune:"):
                values = {"architecture": name, **how_it_learns(name)}
        with right:
            what_will_happen(current, snapshot, warnings, values)


def network(current: Dataset) -> str:
    name = st.radio(
        "Network",
        list(ARCHITECTURES),
        index=list(ARCHITECTURES).index(train.suggested(current.id)),
        format_func=lambda n: ARCHITECTURES[n].title,
        captions=[a.summary for a in ARCHITECTURES.values()],
        key=f"network-{current.id}",
        persist_state="session",
        help=PARAMS["architecture"].help,
    )
    return str(name)


def how_it_learns(name: str) -> dict:
    """The fields, with defaults that train well with the chosen network."""
    arch = ARCHITECTURES[name]
    defaults = {"batch_size": arch.batch_size, "learning_rate": arch.learning_rate}
    values = {}
    if arch.weights:
        pretrained, freeze = st.columns(2)
        with pretrained:
            values["pretrained"] = form.field(PARAMS["pretrained"], key=f"{name}-pretrained")
        with freeze:
            values["freeze"] = form.field(
                PARAMS["freeze"], values["pretrained"], key=f"{name}-freeze-{values['pretrained']}", disabled=not values["pretrained"]
            )
    fields = ["epochs", "batch_size", "learning_rate", "optimizer", "patience", "image_size", "seed", "device"]
    for row in (fields[:4], fields[4:]):
        for column, field in zip(st.columns(4), row, strict=True):
            with column:
                titles = OPTIMIZER_TITLES.__getitem__ if field == "optimizer" else str
                values[field] = form.field(PARAMS[field], defaults.get(field), key=f"{name}-{field}", titles=titles)
    return values


def what_will_happen(current: Dataset, snapshot, warnings: list[str], values: dict) -> None:
    n = {split: sum(1 for r in snapshot.rows if r.split == split) for split in ("train", "validation", "test")}
    arch = ARCHITECTURES[values["architecture"]]
    with st.container(border=True, key="what-will-happen"):
        text = f"**{arch.title}** learns {len(snapshot.classes)} classes from **{n['train']:,} training images**."
        if n["validation"]:
            text += f" After every epoch {n['validation']:,} validation images decide when to stop."
        if n["test"]:
            text += f" {n['test']:,} test images are kept aside and looked at last."
        config = None
        with frame.told():  # a wrong setting is named at once, beside the button
            config = catalog.run_config(values)
            if estimate := train.estimate(current.id, config):
                text += f" About **{estimate:.0f} s**, judged by the last such run here."
        st.markdown(text)
        for warning in warnings:
            st.markdown(f":orange[:material/warning:] {frame.plain(warning)}")
        start = st.button("Start training", type="primary", icon=":material/play_arrow:", key="start", disabled=config is None)
        with frame.told():
            if start:
                st.session_state["watched"] = train.start(current.id, values, frame.user()).id
                st.rerun()


def panel(state: train.RunState) -> None:
    """One run: its curves, and what can be done with it."""
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
        details = f"{catalog.architecture(run.config.architecture).title}, {'frozen, ' if run.config.freeze else ''}{OPTIMIZER_TITLES[run.config.optimizer]}, "
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


with frame.page("Train", "A network looks at the labelled images again and again until it can tell the classes apart.") as current:
    current = frame.need_dataset(current)
    if gone := st.session_state.get("deleted_run"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("The run was moved to the bin.", width="content")
            if st.button("Undo", icon=":material/undo:"):
                train.restore(gone)
                del st.session_state["deleted_run"]
                st.rerun()
    found = train.list_runs(current.id)
    going = sorted((s for s in found if s.active), key=lambda s: s.status != "running")
    shown = next((s for s in found if s.run.id == st.session_state.get("watched")), going[0] if going else None)
    if shown is not None:
        st.session_state["watched"] = shown.run.id  # it stays in view when it ends
        panel(shown)
        with st.expander("Train another network", icon=":material/add:", expanded=False):
            settings_form(current)
    else:
        settings_form(current)
    if found:
        table(found)
