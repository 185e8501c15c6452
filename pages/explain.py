"""Which parts of a picture made the answer."""

import streamlit as st

from core import catalog, dataset, evaluate, explain, predict, uploads
from core.errors import AppError
from core.settings import settings
from core.types import Dataset, Run
from pages.shared import frame, thumbs
from pages.shared.board import board

DEFAULT = ["grad_cam", "integrated_gradients"]
PER_PAGE = 24


def choose_image(current: Dataset, run: Run) -> None:
    """Mistakes first, then the rest; or a picture of one's own."""
    st.session_state.setdefault("explain-source", "Its mistakes")
    source = st.segmented_control("Picture", ["Its mistakes", "Its predictions", "My own picture"], required=True, key="explain-source")
    if source == "My own picture":
        file = st.file_uploader("A picture", type=["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"], key="explain-file")
        if file:
            kept = uploads.keep(file.name, file.getvalue())
            st.session_state["explain"] = ("upload", kept.id, file.name)
        return
    splits = evaluate.splits(run.id)
    if not splits:
        st.info("This run has no predictions to choose from. Bring a picture of your own.", icon=":material/info:")
        return
    e = evaluate.evaluate(run.id, splits[0])
    rows = evaluate.mistakes(e) if source == "Its mistakes" else evaluate.cell(e, None, None)
    if rows.empty and e.n:
        st.caption(f"It made no mistake on its {e.n:,} {e.split} images; here are its answers.")
        rows = evaluate.cell(e, None, None)
    if rows.empty:
        st.caption("None of the predicted images carries a label today. Bring a picture of your own.")
        return
    pages = -(-len(rows) // PER_PAGE)
    number = min(st.session_state.get("explain-page", 1), pages)
    part = rows.iloc[(number - 1) * PER_PAGE : number * PER_PAGE]
    found = dataset.images_of(current.id, list(part["image_id"]))
    event = thumbs.image_grid(current, found, key="explain-grid", rows=part, split=e.split, size=84, caption="prediction")
    st.pagination(pages, key="explain-page")
    picked = st.session_state.get("explain")
    if event.open:
        st.session_state["explain"] = ("image", event.open, "")
    elif picked is None or (picked[0] == "image" and picked[1] not in set(e.rows["image_id"])):
        st.session_state["explain"] = ("image", part.iloc[0]["image_id"], "")


def picture_board(current: Dataset, run: Run, kind: str, image_id: str, name: str) -> None:
    """The two likeliest classes side by side, a row per method."""
    if kind == "upload":
        upload = uploads.find(image_id, name)
        path, title, actual = upload.path, upload.name, None
    else:
        image = dataset.image(current.id, image_id)
        path, title, actual = settings().images / image.path, image.source, image.label
    possible = explain.methods(run.id)
    chosen = st.pills(
        "Methods", possible, selection_mode="multi", default=[m for m in DEFAULT if m in possible] or possible[:1],
        format_func=lambda m: catalog.METHODS[m].title, key=f"methods-{run.config.architecture}",
    )  # fmt: skip
    answer = predict.predict(run.id, [path], [title])[0]
    if isinstance(answer, predict.Failure):
        raise AppError(f"{answer.file}: {answer.message}", answer.hint)
    said = f"labelled **{frame.plain(actual)}**" if actual is not None else "without a label"
    st.markdown(f"{frame.plain(title)}, {said}")
    if not chosen:
        st.caption("Choose at least one method.")
        return
    board(run, path, chosen, answer.top(2), key="maps")


with frame.page("Explain", "Which parts of a picture speak for an answer, and which against it.") as current:
    current = frame.need_dataset(current)
    if run := frame.run_picker(current):
        left, right = st.columns([2, 3])
        with left, frame.told():
            choose_image(current, run)
        with right, frame.told():
            if picked := st.session_state.get("explain"):
                picture_board(current, run, *picked)
