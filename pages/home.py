"""What Loupe is, what is there, what waits, and Show me: a network trained while you watch."""

import streamlit as st

from core import pace, space
from core.catalog import params
from core.data import check, dataset, imports, sources, store
from core.errors import AppError
from core.evaluate import evaluate
from core.metrics import TOO_FEW, wilson
from core.review import predict, review
from core.settings import settings
from core.train import plan, train
from core.types import Dataset, Prediction
from pages.parts.home.tokens import api_tokens
from pages.shared import frame, thumbs
from pages.shared.board import board
from pages.shared.live import live
from pages.shared.matrix import matrix

SAMPLE = "digits"
TOUR = {"architecture": "convnet", "epochs": 30, "batch_size": 100, "patience": 8}
STEPS = (
    ("label", "Label", "Bring pictures in and say what they show."),
    ("train", "Train", "A network learns from them while you watch."),
    ("explain", "Look inside", "See where it is wrong, and which parts of a picture made the answer."),
    ("review", "Review", "Let it answer on new pictures; people decide."),
)


def four_pictures() -> None:
    for column, (name, title, text) in zip(st.columns(4), STEPS, strict=True):
        with column, st.container(border=True, height="stretch"):
            st.image(str(frame.ASSETS / f"step-{name}.svg"), width="stretch", alt=title)
            st.markdown(f"**{title}**  \n{text}")


def tour_time() -> str:
    """How long it takes where that was measured on this machine; nothing is promised for another."""
    found = store.find_dataset(SAMPLE)
    if found is None or not dataset.totals(found.id)[1]:
        return ""
    try:
        estimate = train.estimate(found.id, params.run_config(TOUR), plan.plan(found.id).count("train"))
    except AppError:  # its labels were taken away
        return ""
    return f", in {pace.duration(estimate.seconds)} on this machine" if estimate else ""


def start_tour() -> None:
    """Imports the sample if it is not there, then trains on it."""
    with frame.told():
        found = store.find_dataset(SAMPLE)
        coming = next((one.id for one in imports.running() if one.job["dataset_name"] == SAMPLE), None)
        if coming or found is None or dataset.totals(found.id)[0] == 0:  # one that is coming in is waited for, to its last picture
            st.session_state["tour-import"] = coming or imports.start(sources.named("sample"), SAMPLE, frame.user())
        else:
            begin(found)


def begin(sample: Dataset) -> None:
    """Shows the run that is going on, or the one that the tour has trained before, or starts it."""
    there, config = train.list_runs(sample.id), params.run_config(TOUR)
    run = next((r for r in there if r.active), None) or next((r for r in there if r.status == "succeeded" and r.run.config == config), None)
    run_id = run.run.id if run else train.start(sample.id, TOUR, frame.user()).id
    st.session_state["tour"] = st.session_state["watched"] = run_id
    st.session_state.pop("tour-import", None)
    frame.choose_dataset(SAMPLE)


@st.fragment(run_every=0.5)
def tour_import() -> None:
    if "tour-import" not in st.session_state:
        return
    state = imports.state(st.session_state["tour-import"])
    if state.status == "running":
        st.progress(state.share, "Bringing in 1,797 handwritten digits")
        return
    found = store.find_dataset(SAMPLE)
    if state.status == "done" and found:
        with frame.told():
            begin(found)
            st.rerun()
    else:
        st.session_state["tour-failed"] = AppError(state.message or "The sample could not be brought in.", state.hint)
        st.session_state.pop("tour-import")
        st.rerun()


def tour(run_id: str) -> None:
    """The sample, its run as it learns, its matrix, and why it answered."""
    if st.button("Close the tour", icon=":material/close:", type="tertiary", key="close-tour"):
        st.session_state.pop("tour", None)
        st.query_params.pop("tour", None)
        st.rerun()
    st.query_params["tour"] = run_id  # the page loaded anew shows it again
    state = train.state(run_id)
    sample = store.find_dataset(state.run.dataset_name)
    if sample is None:
        raise AppError(
            f"The dataset “{state.run.dataset_name}” was deleted.", "Close the tour, or restore the dataset on the Dataset page."
        )
    st.header("1 · The pictures", anchor=False)
    st.markdown(
        f"{dataset.totals(sample.id)[0]:,} handwritten digits, 8 × 8 pixels each. People have said which digit every one of them is."
    )
    found, _ = dataset.browse(sample.id, store.Filter(), 1, 24)
    thumbs.image_grid(sample, found, key="tour-grid", size=56, caption="label")
    st.header("2 · The network learns", anchor=False)
    st.markdown(
        "Every epoch shows it all training pictures once. Validation pictures are never learned from: they tell whether it understood or only memorised."
    )
    if live(run_id, f"/api/runs/{run_id}/events", frame.token(), key=f"live-{run_id}", running=state.active):
        st.rerun()
    if state.active or state.best is None:
        if not state.active:
            st.error(frame.plain(state.message))
        return
    e = evaluate.evaluate(run_id, evaluate.splits(run_id)[0])
    st.header("3 · What it gets right and wrong", anchor=False)
    if e.accuracy is None:
        st.info("The pictures it was judged on carry no label any more. Label them again on the Dataset page to see where it is right.")
        return
    st.markdown(
        f"On {e.n:,} pictures it had not learned from it was right **{e.accuracy.value:.1%}** of the time "
        f"(95% interval {e.accuracy.low:.1%} to {e.accuracy.high:.1%}). Each cell counts pictures: the row says what they are, the column what the network said."
    )
    left, right = st.columns([3, 2])
    with left:
        if clicked := matrix(e, key="tour-matrix"):
            named = {name: value for name, value in zip(("actual", "predicted"), clicked, strict=True) if value is not None}
            st.switch_page("evaluate.py", query_params={"run": run_id, **named})
    wrong = evaluate.mistakes(e)
    rows = wrong if len(wrong) else evaluate.cell(e, None, None)
    with right:
        st.markdown(f"**Its {len(wrong):,} mistakes**" if len(wrong) else "**It made no mistake here. Some of its answers**")
        shown = store.get_images(sample.id, list(rows["image_id"][:18]))
        thumbs.image_grid(sample, shown, key="tour-mistakes", rows=rows[:18], split=e.split, size=72, caption="prediction")
    st.header("4 · Why it answered so", anchor=False)
    first = rows.iloc[0]
    image = store.get_image(sample.id, first["image_id"])
    st.markdown(
        f"This picture is labelled **{frame.plain(first['true'])}**, the network said **{frame.plain(first['predicted'])}**. Red parts speak for the class named under a map, blue parts against it."
    )
    path = settings().images / image.path
    answer = predict.predict(run_id, [path])[0]
    if isinstance(answer, Prediction):
        board(state.run, path, ["integrated_gradients", "occlusion"], answer.top(2), key="tour-maps")
    with st.container(horizontal=True):
        if st.button("Look at all its mistakes", type="primary", icon=":material/grid_on:"):
            st.switch_page("evaluate.py", query_params={"run": run_id})
        if st.button("Train on my own images", icon=":material/photo_library:"):
            st.switch_page("dataset.py", query_params=frame.IMPORT)


def at_a_glance(current: Dataset) -> None:
    total, labelled = dataset.totals(current.id)
    found = train.list_runs(current.id)
    queue = review.queue_length(current.id)
    for column, (title, value, text) in zip(
        st.columns(3),
        (
            ("Images", f"{total:,}", f"{labelled:,} labelled, {len(current.classes)} classes"),
            ("Best validation accuracy", *best(found)),
            ("Waiting for review", f"{queue:,}", "predictions that need a person"),
        ),
        strict=True,
    ):
        with column, st.container(border=True):
            st.metric(title, value)
            st.caption(frame.plain(text))
    if usable := train.usable(current.id):
        last = usable[0]
        with st.container(border=True):
            st.markdown(f"**Last run: {frame.plain(last.run.name)}**")
            live(last.run.id, f"/api/runs/{last.run.id}/events", frame.token(), key=f"home-{last.run.id}", running=False)


def best(found: list[train.RunState]) -> tuple[str, str]:
    """The figure and what it is of: a run that was judged on few images is the best only where no other is."""
    scored = [(r.run.counts["validation"], r.best.val_accuracy, r) for r in found if r.best and r.best.val_accuracy is not None]
    if not scored:
        return "none yet", "no run has ended"
    n, value, state = max(scored, key=lambda one: (one[0] >= TOO_FEW, one[1]))
    hit = round(value * n)
    interval = wilson(hit, n)
    assert interval is not None  # a run that has a validation accuracy has validation images
    figure, of = (f"{hit} of {n}", "too few for a share") if n < TOO_FEW else (f"{value:.1%}", f"n = {n:,}")
    return figure, f"{state.run.name}, {of}, 95% interval {interval.low:.1%} to {interval.high:.1%}"


def next_step(current: Dataset) -> None:
    total, labelled = dataset.totals(current.id)
    queue = review.queue_length(current.id)
    top = max(train.usable(current.id), key=lambda r: (r.best.val_accuracy if r.best else None) or 0.0, default=None)
    text, target, icon = (
        ("Add images", "dataset.py", ":material/photo_library:")
        if total == 0
        else ("Label images", "label.py", ":material/sell:")
        if labelled == 0
        else ("Train a network", "train.py", ":material/model_training:")
        if top is None
        else (f"Review {queue:,} predictions", "review.py", ":material/rate_review:")
        if queue
        else (f"See the mistakes of {frame.plain(top.run.name)}", "evaluate.py", ":material/grid_on:")
    )
    with st.container(horizontal=True):
        if st.button(text, type="primary", icon=icon, key="next-step"):
            st.switch_page(target, query_params={} if total else frame.IMPORT)
        if frame.may("train", say=False) and st.button(
            "Show me",
            icon=":material/play_circle:",
            key="show-me",
            help=f"A small network that learns from the sample while you watch{tour_time()}.",
        ):
            start_tour()
            st.rerun()
        if total and frame.may("import", say=False) and st.button("Add my images", icon=":material/photo_library:", key="add-mine"):
            st.switch_page("dataset.py", query_params=frame.IMPORT)


def overview() -> None:
    """All datasets and their runs."""
    sizes = dataset.sizes()
    runs = train.list_runs()
    rows = []
    for one in store.list_datasets():
        own = [r for r in runs if r.run.dataset_id == one.id]
        value, detail = best(own)
        rows.append(
            {
                "dataset": one.name,
                "images": sizes.get(one.name, 0),
                "classes": len(one.classes),
                "runs": len(own),
                "best": value if value == "none yet" else f"{value}: {detail}",
            }
        )
    st.header("Datasets", anchor=False)
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "dataset": st.column_config.TextColumn("Dataset"),
            "images": st.column_config.NumberColumn("Images", format="localized"),
            "classes": st.column_config.NumberColumn("Classes", format="localized"),
            "runs": st.column_config.NumberColumn("Runs", format="localized"),
            "best": st.column_config.TextColumn("Best on validation", width="large"),
        },
    )


with frame.page(
    "Home",
    "Label images, train a classifier, look inside it, and review what it predicts. Everything stays on this machine.",
    writes=False,
) as current:
    if problem := check.damaged():
        frame.show(AppError(f"The database is damaged: {problem}", check.DAMAGED))
    if problem := space.short():
        st.warning(f"{problem}. Uploads and imports are refused until there is room.", icon=":material/hard_drive:")
    if failed := st.session_state.pop("tour-failed", None):
        frame.show(failed)
    if "tour-import" in st.session_state:
        tour_import()
    elif run_id := st.session_state.get("tour") or st.query_params.get("tour"):
        tour(run_id)
    elif current is None or not train.list_runs():
        four_pictures()
        if frame.may("train"):
            with st.container(horizontal=True):
                if st.button("Show me", type="primary", icon=":material/play_circle:", key="show-me"):
                    start_tour()
                    st.rerun()
                if st.button("Add my images", icon=":material/photo_library:", key="add-mine"):
                    st.switch_page("dataset.py", query_params=frame.IMPORT)
            st.caption(
                f"*Show me* trains a small network on 1,797 handwritten digits{tour_time()}, and shows what it learned. Nothing is downloaded."
            )
        if current is not None:
            overview()
        if current is not None or "tokens" in st.query_params:
            api_tokens()
    else:
        next_step(current)
        at_a_glance(current)
        overview()
        api_tokens()
