"""What a network looks for over many images: a look at a class's pictures, its mean maps, and a warning where a mark gives it away."""

from __future__ import annotations

import base64
import contextlib
from html import escape

import streamlit as st

from core.catalog import methods
from core.data import labels, store
from core.errors import AppError
from core.evaluate import evaluate
from core.explain import explain
from core.explain import patterns as many
from core.explain.patterns import Mark, Pattern, Patterns
from core.label import embed
from core.train import train
from core.types import Dataset, Run
from pages.shared import form, frame, thumbs
from pages.shared.detail import drawer
from pages.shared.map import embedding_map
from pages.shared.teach import embedding_needed

SIDE = 148  # pixels of a picture in a card
PER_PAGE = 60
COLOURS = {"label": "True class", "predicted": "Predicted class", "answer": "Right or wrong"}
FIGURE = f"margin:0;width:{SIDE}px;max-width:31%"
SMALL = "width:72px;height:72px;border-radius:4px;vertical-align:middle"
CAPTION = "font-size:.78rem;line-height:1.35;opacity:.75;margin-top:.25rem"


def patterns(current: Dataset, run: Run) -> None:
    """The job with its settings, what it found, and the run's answers on the map of the dataset."""
    with frame.told():
        state = many.state(run.id)
        if state is not None and state.status == "running":
            _watch(run.id)
        else:
            if state is not None and state.message:
                st.warning(f"**{frame.plain(state.message)}** {frame.plain(state.hint)}", icon=":material/info:")
            _settings(run)
        if (found := many.latest(run.id)) is not None:
            _found(current, run, found)
    st.divider()
    with frame.told():
        answers_map(current, run)


# Starting and watching ----------------------------------------------------------------------------


def _settings(run: Run) -> None:
    known = many.counts(run.id)
    if not known:
        st.info("This run has neither validation nor training images to look at.", icon=":material/info:")
        return
    supported = explain.supported(run.id)
    possible = [name for name, why in supported.items() if not why]
    with st.container(border=True, key="patterns-settings"):
        st.markdown(
            "**Look at many images** and see where this network looks for each class, and whether a watermark or a frame gives one away."
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            split = str(
                st.selectbox(
                    "Images of",
                    list(known),
                    format_func=lambda s: f"{s} ({sum(known[s].values()):,})",
                    key=f"patterns-split-{run.id}",
                    width=190,
                    filter_mode=None,
                    help="Test images are not looked at: what is seen there would guide what is done next.",
                )
            )
            each = int(
                st.number_input(
                    "Images per class",
                    1,
                    many.MOST_EACH,
                    many.EACH,
                    step=10,
                    key=f"patterns-each-{run.id}",
                    width=150,
                    help="At most so many are drawn at random, the same every time. More give narrower intervals and take longer.",
                )
            )
            usual = many.usual_method(supported)
            method = str(
                st.selectbox(
                    "Method",
                    possible,
                    index=possible.index(usual),
                    format_func=lambda m: methods.METHODS[m].title,
                    key=f"patterns-method-{run.id}",
                    width=200,
                    filter_mode=None,
                    help="Fast methods are noisy on one picture; over many the noise averages out. Grad-CAM is too coarse for a corner.",
                )
            )
        chosen = list(run.classes)
        if len(run.classes) > 4:
            chosen = st.multiselect(
                "Classes",
                run.classes,
                default=many.usual_classes(run.id, split),
                key=f"patterns-classes-{run.id}-{split}",
            )
        count = many.seen(run.id, split, chosen, each)
        if form.pressed("Look at the images", icon=":material/visibility:", type="primary", key="patterns-start", disabled=not count):
            many.start(run.id, frame.user(), split=split, classes=chosen, each=each, method=method)
            st.rerun()
        st.caption(_cost(run, method, count) if count else "None of these classes has images in this split.")


def _cost(run: Run, method: str, count: int) -> str:
    one, forward = explain.cost(run.id, method), explain.cost(run.id, "occlusion")
    passes = count * (one.passes + many.FORWARD)
    words = f"{count:,} images, about {passes:,} passes through the network"
    if one.seconds is None or forward.seconds is None:
        return f"{words}. It goes on in the background."
    seconds = count * (one.seconds + many.FORWARD * forward.seconds / forward.passes)
    return (
        f"{words}: at most {seconds:.0f} s on this machine."
        if seconds < 100
        else f"{words}: at most {seconds / 60:.0f} min on this machine."
    )


@st.fragment(run_every=0.5)
def _watch(run_id: str) -> None:
    with frame.guarded("patterns"):
        state = many.state(run_id)
        if state is None or state.status != "running":
            st.rerun()
        with st.container(horizontal=True, vertical_alignment="center", key="patterns-watch"):
            done = f": {state.done:,} of {state.total:,}" if state.total else " …"
            st.progress(state.share, f"{frame.plain(state.what or 'Starting')}{done}", width="stretch")
            st.button("Stop", icon=":material/stop_circle:", key="patterns-stop", on_click=many.stop, args=(run_id,))


# What it found ------------------------------------------------------------------------------------


def _found(current: Dataset, run: Run, found: Patterns) -> None:
    names = [frame.plain(p.name) for p in found.warned]
    tested = sum(p.mark is not None for p in found.classes)
    if names:
        st.warning(
            f"**{', '.join(names)}** may be read from a mark at a fixed place instead of from what the pictures show. "
            "The card says where, and what happened when that place was filled.",
            icon=":material/warning:",
        )
    elif tested:
        st.success(
            f"No class seems to be read from a watermark or a frame ({tested} of {len(found.classes)} classes tested).",
            icon=":material/check:",
        )
    if hardly := [frame.plain(p.name) for p in found.classes if p.mark is not None and p.mark.marked and not p.mark.warning]:
        st.info(
            f"All pictures of **{', '.join(hardly)}** share marks at one place, which the network makes little use of. Another network may.",
            icon=":material/branding_watermark:",
        )
    title = methods.METHODS[found.method].title
    st.caption(
        f"{sum(p.n for p in found.classes):,} {found.split} images, at most {found.each} of a class; {title}. Maps: red speaks for the class, "
        "blue against it, one scale for all; each image counts the same, smoothed for the eye. Marks that move about, or that all classes "
        "share, are not found."
        + (
            " Things lie at fixed places in these pictures, as digits do: only a mark where other classes have nothing is reported."
            if found.aligned
            else ""
        )
    )
    strength = explain.scale([p.signed for p in found.classes if p.n])
    attention = explain.scale([p.attention for p in found.classes if p.n])
    for place, p in enumerate(sorted(found.classes, key=lambda p: (not (p.mark and p.mark.warning), not (p.mark and p.mark.marked)))):
        with st.container(border=True, key=f"pattern-{place}"):
            _card(current, run, found, p, strength, attention, place)


def _card(current: Dataset, run: Run, found: Patterns, p: Pattern, strength: float, attention: float, place: int) -> None:
    few = f" · {p.unreadable} could not be read" if p.unreadable else ""
    st.markdown(f"**{frame.plain(p.name)}** :small[:gray[n = {p.n}{few}]]")
    if not p.n:
        st.caption(frame.plain(p.untested))
        return
    left, right = st.columns([3, 4], gap="medium")
    with left:
        picture = _url(p.picture)
        figures = (
            _figure(picture, "mean picture", "", p.mark),
            _figure(picture, "mean map", _url(explain.map_png(p.signed, strength)), None),
            _figure(picture, "where attention lies", _url(explain.map_png(p.attention, attention)), None),
        )
        st.html(f'<div style="display:flex;flex-wrap:wrap;gap:.6rem">{"".join(figures)}</div>')
    with right:
        said = many.said(p, found.border_area)
        if p.mark is not None and p.mark.warning:
            st.warning(frame.plain(said[0]), icon=":material/warning:")
            said = said[1:]
        elif p.mark is not None and p.mark.marked:
            st.info(frame.plain(said[0]), icon=":material/branding_watermark:")
            said = said[1:]
        st.markdown("  \n".join(frame.plain(sentence) for sentence in said))
        if p.mark is not None and (p.mark.warning or p.mark.marked):
            _examples(p, p.mark)
    shown = f"patterns-shown-{run.id}"
    opened = st.session_state.get(shown) == p.name
    if st.button(
        "Hide the images" if opened else f"Show the {p.n} images",
        type="tertiary",
        icon=":material/grid_view:",
        key=f"patterns-images-{place}",
    ):
        st.session_state[shown] = None if opened else p.name
        st.rerun()
    if opened:
        images_of(current, run, list(p.ids), found.split, key=f"patterns-grid-{place}")


def _figure(picture: str, words: str, over: str, mark: Mark | None) -> str:
    """A picture with a map over it, or with the place of a mark drawn in."""
    layers = f'<img alt="{words}" src="{picture}" style="width:100%;display:block;border-radius:4px;image-rendering:auto;{"filter:grayscale(1) opacity(.55)" if over else ""}">'
    if over:
        layers += f'<img alt="" src="{over}" style="position:absolute;inset:0;width:100%;height:100%">'
    if mark is not None and (mark.warning or mark.marked):
        top, left, height, width = (f"{100 * share:.1f}%" for share in mark.box)
        layers += f'<div style="position:absolute;top:{top};left:{left};height:{height};width:{width};outline:2px solid #e69f00"></div>'
    return (
        f'<figure style="{FIGURE}"><div style="position:relative">{layers}</div><figcaption style="{CAPTION}">{words}</figcaption></figure>'
    )


def _examples(p: Pattern, m: Mark) -> None:
    rows = ((f"{p.name}, {m.place} filled", m.covered), ("other classes, with what it shares there", m.pasted))
    parts = []
    for words, pairs in rows:
        cells = "".join(
            f'<span style="white-space:nowrap"><img alt="before" src="{_url(a)}" style="{SMALL}"> → <img alt="after" src="{_url(b)}" style="{SMALL}"></span>'
            for a, b in pairs[:3]
        )
        parts.append(f'<div style="{CAPTION}">{escape(words)}</div><div style="display:flex;flex-wrap:wrap;gap:.3rem 1rem">{cells}</div>')
    st.html("".join(parts))


def _url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def images_of(current: Dataset, run: Run, ids: list[str], split: str, *, key: str) -> None:
    """The images as a grid with the run's answers; a click opens one."""
    pages = -(-len(ids) // PER_PAGE)
    number = min(st.session_state.get(f"{key}-page", 1), max(1, pages))
    found = store.get_images(current.id, ids[(number - 1) * PER_PAGE : number * PER_PAGE])
    if not found:
        st.caption("These images are not in this dataset any more.")
        return
    rows = None
    with contextlib.suppress(AppError):  # it has no answers for them: the pictures can be seen all the same
        rows = evaluate.evaluate(run.id, split).rows
        rows = rows[rows["image_id"].isin([i.id for i in found])]
    event = thumbs.image_grid(current, found, key=key, rows=rows, split=split, size=84, caption="label" if rows is None else "prediction")
    if pages > 1:
        st.pagination(pages, key=f"{key}-page")
    drawer(current, event.open, key)


# The map ------------------------------------------------------------------------------------------


def answers_map(current: Dataset, run: Run) -> None:
    """The dataset's map, coloured by what the run says of its validation images; a selection shows them."""
    st.header("Its answers on the map", anchor=False)
    made = embed.latest(current.id)
    if made is None:
        embedding_needed(
            current, "The map lays out all images so that similar ones lie together. It shows whether mistakes lie in one place."
        )
        return
    e = evaluate.evaluate(run.id, "validation")
    colour = st.segmented_control(
        "Colour",
        list(COLOURS),
        default="answer",
        required=True,
        format_func=COLOURS.__getitem__,
        key="patterns-colour",
        label_visibility="collapsed",
    )
    wrong = int((e.rows["true"] != e.rows["predicted"]).sum())
    here = embed.still_here(current.id, made)
    placed = int(e.rows["image_id"].isin(made.ids[here].tolist()).sum())
    missing = f" {e.n - placed:,} of them are not on the map." if placed < e.n else ""
    st.caption(
        f"{e.n:,} validation images, {wrong:,} answered wrongly.{missing} Draw around images, click one, or click the legend, to see them below."
    )
    event = embedding_map(
        f"/api/map/{current.id}?run={run.id}",
        key=f"answers-map-{run.id}",
        token=frame.token(),
        colour=str(colour),  # type: ignore[arg-type]
        clusters=None,
        dataset_id=current.id,
        version=f"{made.id}-{run.id}-{labels.changes(current.id, -1)[0]}-{train.state(run.id).best_epoch}-{here.sum()}",
        classes=thumbs.class_list(current),
    )
    if event.selected:
        st.markdown(f"**{len(event.selected):,} image{'s' if len(event.selected) != 1 else ''} selected**")
        images_of(current, run, event.selected, "validation", key=f"answers-grid-{hash(tuple(event.selected))}")
    drawer(current, event.open, "answers-map")
