"""Which parts of a picture made the answer, and whether that can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd
import streamlit as st

from core.api import signing
from core.catalog import methods
from core.data import dataset, store, uploads
from core.errors import AppError, NotFound
from core.evaluate import evaluate
from core.explain import explain
from core.review import predict
from core.settings import settings
from core.types import Dataset, Image, Prediction, Run
from pages.parts.explain.erase import erase
from pages.parts.explain.inside import inside
from pages.parts.explain.patterns import patterns
from pages.parts.explain.trust import trust
from pages.shared import frame, openings, thumbs
from pages.shared.board import board, cost_words, settings_of, weights_of
from pages.shared.grid import Caption

VIEWS = {"one": "One picture", "many": "Many pictures"}
PARTS = {"maps": "Maps", "trust": "Can it be trusted?", "erase": "Erase and ask again", "inside": "Inside the network"}
SOURCES = {"mistakes": "Its mistakes", "predictions": "Its predictions", "any": "Any image", "own": "My own picture"}
STATES = {"All": None, "Labelled": True, "Without a label": False}
PER_PAGE = 12
MOST_CLASSES = 8
PICKED = "explain"  # in the session: (kind: image or upload, id, name)


@dataclass(frozen=True)
class Picture:
    id: str
    path: Path
    name: str
    label: str | None
    url: str
    uploaded: bool


# Choosing a picture -------------------------------------------------------------------------------


def pick(image_id: str) -> None:
    st.session_state[PICKED] = ("image", image_id, "")
    st.query_params["image"] = image_id


def choose(current: Dataset, run: Run) -> Picture | None:
    """Mistakes first, then its other answers, then any image by name; or a picture of one's own."""
    given = st.query_params.get("image")
    if st.session_state.get("explain-dataset", current.id) != current.id:  # what was looked at lies in another dataset
        if st.session_state.get(PICKED, ("",))[0] == "image":
            del st.session_state[PICKED]
        if given and not store.get_images(current.id, [given]):
            del st.query_params["image"]
            given = None
    st.session_state["explain-dataset"] = current.id
    if given:
        st.session_state[PICKED] = ("image", given, "")
    source = frame.url_view("from", SOURCES, key="explain-source", label="Choose a picture")
    with frame.told():
        if source == "own":
            _own()
        elif source == "any":
            _any(current)
        else:
            _predicted(current, run, source)
    picked = st.session_state.get(PICKED)
    if source == "own" and picked and picked[0] != "upload":  # what is chosen in another view is no answer here
        return None
    return picked and _found(current, *picked)


def _own() -> None:
    file = st.file_uploader("A picture", key="explain-file", label_visibility="collapsed")  # of any type: Loupe says why it takes one not
    if file and st.session_state.get("explain-kept") != file.file_id:
        st.session_state.pop(PICKED, None)  # if it is refused, the one before is not meant
        kept = uploads.keep(file.name, file.getvalue())
        st.session_state["explain-kept"] = file.file_id
        st.session_state[PICKED] = ("upload", kept.id, file.name)
        st.query_params.pop("image", None)


def _any(current: Dataset) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Find", key="explain-find", icon=":material/search:", placeholder="name or id", width=300,
            label_visibility="collapsed", persist_state="session",
        )  # fmt: skip
        state = st.segmented_control(
            "Which", list(STATES), default="All", required=True, key="explain-state", label_visibility="collapsed",
            persist_state="session",
        )  # fmt: skip
    text = (text or "").strip()
    found = store.get_images(current.id, [text]) if text else []
    total = len(found)
    key = f"explain-page-{state}-{text}"  # another search begins on its first page
    number = frame.page_number(key)
    if not found:
        want = store.Filter(text=text, labelled=STATES[state or "All"])
        found, total = dataset.browse(current.id, want, number, PER_PAGE)
        if not found and number > 1:
            found, total = dataset.browse(current.id, want, 1, PER_PAGE)
    if not total:
        st.caption("No image has such a name or id.")
        return
    _grid(current, found, total, key, caption="label")


def _predicted(current: Dataset, run: Run, source: str) -> None:
    splits = evaluate.splits(run.id)
    if not splits:
        st.caption("This run was judged on no images. Choose under “Any image”, or bring a picture of your own.")
        return
    if splits[0] == "test" and not openings.gate(current, run):
        return
    e = evaluate.evaluate(run.id, splits[0])
    rows = evaluate.mistakes(e) if source == "mistakes" else evaluate.cell(e, None, None)
    if rows.empty and e.n:
        st.caption(f"It made no mistake on its {e.n:,} {e.split} images; here are its answers.")
        rows = evaluate.cell(e, None, None)
    if rows.empty:
        st.caption("None of the predicted images carries a label today. Choose under “Any image”, or bring a picture of your own.")
        return
    pages = -(-len(rows) // PER_PAGE)
    key = f"explain-page-{source}-{run.id}"
    number = min(frame.page_number(key), pages)
    part = rows.iloc[(number - 1) * PER_PAGE : number * PER_PAGE]
    _grid(current, store.get_images(current.id, list(part["image_id"])), len(rows), key, rows=part, split=e.split, caption="prediction")


def _grid(
    current: Dataset,
    found: list[Image],
    total: int,
    page: str,
    *,
    caption: Caption,
    rows: pd.DataFrame | None = None,
    split: str | None = None,
) -> None:
    event = thumbs.image_grid(current, found, key="explain-grid", rows=rows, split=split, size=76, caption=caption)
    if total > PER_PAGE:
        frame.pager(-(-total // PER_PAGE), page)
    if event.open:
        pick(event.open)
    elif found and PICKED not in st.session_state:
        pick(found[0].id)


def _found(current: Dataset, kind: str, picture_id: str, name: str) -> Picture:
    if kind == "upload":
        upload = uploads.find(picture_id, name)
        return Picture(upload.id, upload.path, upload.name, None, signing.upload_url(current.id, upload.path), uploaded=True)
    try:
        image = store.get_image(current.id, picture_id)
    except NotFound:
        raise NotFound(
            f"The picture of this link is not in the dataset {current.name}.", "It may have been deleted. Choose another above."
        ) from None
    if st.query_params.get("image") != image.id:  # another page has cleared it
        st.query_params["image"] = image.id
    return Picture(image.id, settings().images / image.path, image.source, image.label, signing.picture_url(image), uploaded=False)


# The chosen picture -------------------------------------------------------------------------------


@st.cache_data(max_entries=500, show_spinner=False)
def answered(run_id: str, weights: str, path: Path, name: str) -> Prediction:
    """Kept for the same weights: the page is drawn again whenever a map comes, and the model worker may be busy."""
    if (found := predict.stored(run_id, path, name)) is not None:
        return found
    explain.expect(run_id)
    return predict.predict_one(run_id, path, name)


def answer_line(picture: Picture, answer: Prediction | None) -> None:
    """What it is labelled, and the two likeliest answers; None: the network is being asked."""
    labelled = "has no label." if picture.label is None else f"is labelled **{frame.plain(picture.label)}**."
    if answer is None:
        said = ":gray[:material/hourglass_top: The network is asked; after a start it is loaded first …]"
    else:
        (first, p), *others = answer.top(2)
        said = f"The network says **{frame.plain(first)}** ({p:.1%})"
        said += f", then **{frame.plain(others[0][0])}** ({others[0][1]:.1%})." if others else "."
        if picture.label == first:
            said += " :green[:material/check: They agree.]"
        elif picture.label in answer.classes:
            own = dict(zip(answer.classes, answer.probabilities, strict=True))[picture.label]
            rest = "." if others and others[0][0] == picture.label else f"; it gives the label {own:.1%}."
            said += f" :orange[:material/close: They disagree{rest}]"
        elif picture.label is not None:
            said += " :orange[:material/info: The run has never heard of this label.]"
    with st.container(horizontal=True, vertical_alignment="center", key="explain-asked" if answer is None else "explain-answer"):
        st.html(
            f'<img src="{escape(picture.url)}" alt="" style="width:64px;height:64px;object-fit:contain;border-radius:6px;'
            f'background:rgba(128,140,140,.12)">',
            width=64,
        )
        st.markdown(f"{frame.plain(picture.name)} {labelled}  \n{said}", width="stretch")


def choose_methods(run: Run) -> list[str]:
    """Every method with what a map of it costs; one that the network does not support says why."""
    chosen: list[str] = []
    at_first = explain.at_first(run.id)
    with st.popover("Methods", icon=":material/checklist:", key="explain-methods"):
        for name, why in explain.supported(run.id).items():
            facts = methods.method(name)
            with st.container(gap=None):
                on = st.checkbox(f"**{facts.title}**", name in at_first, key=f"method-{name}", disabled=bool(why), persist_state="session")
                st.caption(f"Not for this network: {frame.plain(why)}" if why else f"{facts.summary} A map: {cost_words(run, name, {})}.")
            if on and not why:
                chosen.append(name)
    return chosen


def offered(picture: Picture, answer: Prediction) -> list[str]:
    """The two likeliest classes, and the label."""
    first = [label for label, _ in answer.top(2)]
    return first if picture.label in first or picture.label not in answer.classes else [*first, str(picture.label)]


def maps(run: Run, picture: Picture, answer: Prediction) -> None:
    """Every method chosen for every class chosen."""
    chances = dict(zip(answer.classes, answer.probabilities, strict=True))
    with st.container(horizontal=True, vertical_alignment="bottom", key="explain-what"):
        methods = choose_methods(run)
        classes = st.multiselect(
            "Classes", answer.classes, default=offered(picture, answer), format_func=lambda c: f"{c} · {chances[c]:.1%}",
            key=f"classes-{run.id}-{picture.id}", max_selections=MOST_CLASSES, label_visibility="collapsed", placeholder="Choose classes",
            persist_state="session",
        )  # fmt: skip
    if not methods:
        st.caption("Choose at least one method.")
    elif not classes:
        st.caption("Choose at least one class.")
    else:
        board(run, picture.path, methods, [(c, chances[c]) for c in classes], actual=picture.label, adjustable=True, key="maps")


def trusted(run: Run, picture: Picture, answer: Prediction) -> None:
    """What the chosen methods' maps are worth, for one class."""
    with st.container(horizontal=True, vertical_alignment="center", key="explain-trusted"):
        methods = choose_methods(run)
        target = st.segmented_control(
            "The maps for", offered(picture, answer), default=offered(picture, answer)[0], required=True, format_func=frame.plain,
            key=f"trust-{run.id}-{picture.id}", label_visibility="collapsed",
        )  # fmt: skip
    if not methods:
        st.caption("Choose at least one method.")
    else:
        settings_by_method = {m: dict(settings_of(run, m)) for m in methods}
        trust(run, picture.path, methods, str(target), key="trust", settings=settings_by_method)


def one(current: Dataset, run: Run) -> None:
    with frame.told():
        if picture := choose(current, run):
            line = st.empty()
            with line.container():
                answer_line(picture, None)
            try:
                answer = answered(run.id, weights_of(run), picture.path, picture.name)
            except AppError:
                line.empty()
                raise
            with line.container():
                answer_line(picture, answer)
            part = frame.url_view("part", PARTS, key="explain-part")
            if part == "maps":
                maps(run, picture, answer)
            elif part == "trust":
                trusted(run, picture, answer)
            elif part == "erase":
                erase(run, picture.path, picture.name, key="erase")
            else:
                inside(current, run, picture.path, "" if picture.uploaded else picture.id)


with frame.page("Explain", "Which parts of a picture speak for an answer, and which against it.") as current:
    current = frame.need_dataset(current)
    with st.container(horizontal=True, vertical_alignment="bottom", key="explain-head"):
        run = frame.run_picker(current)
        view = frame.url_view("view", VIEWS, key="explain-view") if run else ""
    frame.need("ask", current)
    if run and view == "one":
        one(current, run)
    elif run:
        patterns(current, run)
