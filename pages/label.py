"""Say what the pictures show: many at once, one at a time, or from a map, and let the model help."""

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

from core.data import claims, dataset, labels, store
from core.data.store import Filter
from core.errors import AppError
from core.label import embed, orders, teach
from core.types import Dataset, Image
from pages.parts.label.one import one
from pages.shared import frame, thumbs
from pages.shared.classes import add_class
from pages.shared.detail import drawer
from pages.shared.map import Colour, embedding_map
from pages.shared.removing import act, remove, taken_back
from pages.shared.teach import ERROR, embedding_needed, label_many, teach_button, teach_line

PER_PAGE = 60
NEW = "all-new"  # in the session: the name of the class that is to be
BATCH = 30  # images dealt out at a time where they are shown one by one
AHEAD = 10_000  # images of an order that are read beyond those to be shown: others may hold the next ones
VIEWS = {name: name for name in ("Grid", "One at a time", "Map")}
SHOW = {
    "unlabelled": ("Not labelled", Filter(labelled=False)),
    "all": ("All", Filter()),
    "labelled": ("Labelled", Filter(labelled=True)),
    "flagged": ("Flagged", Filter(flagged=True)),
}
NONE_FOUND = {
    "likely-wrong": "No label looks wrong to the model. It judges the labels of the last lesson: teach it again after labelling.",
    "near-duplicates": "No near duplicates were found.",
}
COLOURS: dict[Colour, str] = {"cluster": "Clusters", "label": "Labels", "predicted": "Model's answers", "split": "Splits"}


# Which images, in which order ------------------------------------------------------------------------


def choose() -> tuple[str, Filter, str]:
    """What to show, as a name and as a filter, and in which order."""
    names = list(orders.ORDERS)
    before = st.query_params.get("order", st.session_state.get("order"))
    shows = [s for s in SHOW if s != "unlabelled" or before != "likely-wrong"]  # a label that is not there cannot be wrong
    show = frame.url_choice("show", "Show", shows, shows[0], lambda s: SHOW[s][0], width=170)
    help = "  \n".join(f"**{o.title}**: {o.help}" for o in orders.ORDERS.values())
    order = frame.url_choice("order", "Order", names, names[0], lambda o: orders.ORDERS[o].title, width=300, help=help)
    return show, SHOW[show][1], order


def ready(current: Dataset, order: str) -> bool:
    """Whether the order can be had; if not, the page says what it needs and offers it."""
    needs = orders.ORDERS[order].needs
    if needs and embed.latest(current.id) is None:
        embedding_needed(current, f"The order “{orders.ORDERS[order].title}” needs to know what the images look like.")
        return False
    if needs == "lesson" and teach.answers(current.id) is None:
        st.info(
            "This order needs a model that has learned from your labels: label a few images of each class, then press *Teach me*.",
            icon=":material/school:",
        )
        return False
    return True


def batch(
    current: Dataset, show: str, order: str, want: Filter, size: int, again: bool = False, handled: Sequence[str] | None = None
) -> dict[str, Any]:
    """The images this session works on: they stay while labels are given, until the next ones are asked for.

    Images without a label are dealt out, so that no two people get the same one. The page's number counts what still has a place in
    the order and was shown before, so that a reload, which begins with that page of what is left, shows the same images.
    """
    sign = (current.id, show, order, size, len(teach.lessons(current.id)) if orders.ORDERS[order].needs == "lesson" else 0)
    held: dict[str, Any] = st.session_state.get("batch") or {}
    if size != PER_PAGE:
        frame.first_page()  # one at a time has no pages
    wanted = st.query_params.get("page")
    moved = bool(held) and wanted not in (None, str(held["page"]))  # by the browser's way back
    fresh = moved or held.get("sign") != sign or (show == "unlabelled" and not held["ids"])  # none was free then
    first = frame.page_in_url() if moved or not held else 1
    if fresh:
        held = {"sign": sign, "ids": [], "before": [], "seen": set(), "given": set()}
    if fresh or again:
        ordered = orders.order(current.id, order, want, max(len(held["seen"]), first * size) + AHEAD)
        if fresh:
            first = min(first, max(1, -(-ordered.total // size)))
            held["before"] = [ordered.ids[i * size : (i + 1) * size] for i in range(first - 1)]
            held["seen"] = set(ordered.ids[: (first - 1) * size])
        left = [i for i in ordered.ids if i not in held["seen"]]
        if not left:  # one at a time goes round and round; on pages others have labelled what was to come
            left = ordered.ids
            held |= {"seen": set(), "before": [], "ids": []}
        keep = held["given"] - set(handled) if handled is not None else ()  # they still wait on the page
        ids = claims.deal(current.id, frame.session(), left, size, sorted(keep)) if show == "unlabelled" else left[:size]
        if held["ids"]:
            held["before"].append(held["ids"])
        held |= {"ids": ids, "notes": ordered.notes, "ordered": ordered.ids, "total": ordered.total}
        held["given"] |= set(ids)
        held["seen"] |= set(ids)
        number_pages(held, size)
        st.session_state["batch"] = held
    if size == PER_PAGE and wanted != str(held["page"]):
        st.query_params["page"] = str(held["page"])
    return held


def number_pages(held: dict[str, Any], size: int) -> None:
    """Which page of how many this is, and how many images come after it."""
    before = {i for ids in held["before"] for i in ids}.intersection(held["ordered"])
    after = max(0, held["total"] - sum(i in held["seen"] for i in held["ordered"]))
    held["page"] = 1 + len(before - set(held["ids"])) // size
    held |= {"after": after, "pages": held["page"] + -(-after // size)}


def following(current: Dataset, show: str, order: str, want: Filter) -> None:
    batch(current, show, order, want, PER_PAGE, again=True)


def back(held: dict[str, Any]) -> None:
    """To the page before: what stood on this one comes again with the next."""
    held["seen"] -= set(held["ids"])
    held["ids"] = held["before"].pop()
    held["seen"] |= set(held["ids"])
    number_pages(held, PER_PAGE)
    st.query_params["page"] = str(held["page"])


def begin_again() -> None:
    st.session_state.pop("batch", None)
    frame.first_page()


def answers(current: Dataset, ids: Sequence[str]) -> pd.DataFrame:
    """What the model of the last lesson says of the images; before the first lesson, what predictions came with an import."""
    found = teach.answers(current.id)
    return teach.imported_predictions(current.id, ids) if found is None else found[found["image_id"].isin(set(ids))]


def nothing_left(current: Dataset, show: str, order: str) -> None:
    total, labelled = dataset.totals(current.id)
    if order in NONE_FOUND:
        st.info(NONE_FOUND[order], icon=":material/check:")
    elif show == "unlabelled" and labelled < total:
        others = claims.held_by_others(current.id, frame.session())
        text = f"{others:,} images are with others at the moment. Those that nobody labels come back within a minute."
        st.info(text if others else "What others had is free again.", icon=":material/group:")
        st.button("Look again", icon=":material/refresh:", key="look-again", on_click=begin_again)
    elif show == "unlabelled":
        with frame.empty(
            "Nothing left to label", "Every image has a label. Look for labels that may be wrong, or train a network.", "Train a network", "train.py", ":material/model_training:",
        ):  # fmt: skip
            st.button("Labels likely wrong", icon=":material/rule:", key="to-likely-wrong", on_click=look_for_wrong)
    else:
        st.info("No image matches.", icon=":material/filter_alt_off:")


def look_for_wrong() -> None:
    st.query_params["order"], st.query_params["show"] = "likely-wrong", "all"
    begin_again()


# Views ----------------------------------------------------------------------------------------------


def grid(current: Dataset, show: str, order: str, want: Filter) -> None:
    held = batch(current, show, order, want, PER_PAGE)
    found = store.get_images(current.id, held["ids"])
    if held["ids"] and not found:  # all of them were removed
        begin_again()
        st.rerun()
    if not found:
        nothing_left(current, show, order)
        return
    event = thumbs.image_grid(
        current, found, key="label-grid", rows=answers(current, held["ids"]), notes=held["notes"], editable=True, session=frame.session(),
        act=act(current),
    )  # fmt: skip
    remove(current, event.acted)
    done = sum(i.label is not None for i in found)
    with st.container(horizontal=True, vertical_alignment="center", key="next-batch"):
        st.caption(
            f"Page {held['page']:,} of {held['pages']:,}{' of what is not labelled' if show == 'unlabelled' else ''}: {len(found):,} of "
            f"{held['total']:,} images in this order; {done:,} of these are labelled.",
            width="stretch",
        )
        if held["before"]:
            st.button(f"Previous {PER_PAGE}", icon=":material/arrow_back:", key="previous", on_click=back, args=(held,))
        kind: Literal["primary", "secondary"] = "primary" if current.classes else "secondary"
        if held["after"]:
            st.button(
                f"Next {min(PER_PAGE, held['after'])}",
                type=kind,
                icon=":material/arrow_forward:",
                key="next",
                on_click=following,
                args=(current, show, order, want),
            )
        elif held["before"] or done:
            help = "These are the last ones. Begins with the first that are left in this order."
            st.button("Begin again", icon=":material/first_page:", key="again", on_click=begin_again, help=help)
    drawer(current, event.open, "grid")


def one_at_a_time(current: Dataset, show: str, order: str, want: Filter) -> None:
    held = batch(current, show, order, want, BATCH)
    found = store.get_images(current.id, held["ids"])
    cells = thumbs.items(found, answers(current, held["ids"]), notes=held["notes"])
    for cell in cells:
        cell["thumb"], cell["url"] = cell["url"], cell["picture"]
    total, labelled = dataset.totals(current.id)
    event = one(
        cells,
        key="one-" + "-".join(map(str, held["sign"])),
        classes=thumbs.guided(current),
        post_url="/api/label",
        changes_url="/api/changes",
        token=frame.token(),
        dataset_id=current.id,
        user=frame.user(),
        named=frame.named(),
        newest=labels.changes(current.id, -1)[0],
        session=frame.session(),
        done=labelled,
        total=total,
        left=held["total"],
    )
    if event.more is not None:
        before = held["ids"]
        if batch(current, show, order, want, BATCH, True, event.more)["ids"] != before:
            st.rerun()
    if not found:  # the component stays, with the last decisions
        nothing_left(current, show, order)
    drawer(current, event.open, "one")


def map_view(current: Dataset) -> None:
    found = embed.latest(current.id)
    if found is None or not found.arranged:
        embedding_needed(
            current, "The map lays out all images so that similar ones lie together; no label is needed for it.", arranged=True
        )
        return
    here = embed.still_here(current.id, found)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        colours = [c for c in COLOURS if c != "predicted" or teach.answers(current.id) is not None]
        colour = st.segmented_control(
            "Colour", colours, default="cluster", required=True, format_func=COLOURS.__getitem__, key=f"colour-{len(colours)}"
        )
        clusters, sure = None, ""
        if colour == "cluster":
            method = st.selectbox(
                "Clustering", list(embed.CLUSTERINGS), key="cluster-method", width=150, filter_mode=None,
                format_func=embed.CLUSTERINGS.__getitem__,
                help="k-means cuts the images into as many groups as you say. HDBSCAN finds dense groups by itself and leaves the rest out.",
            )  # fmt: skip
            most = embed.most_clusters(len(found.ids))
            title, high = ("Clusters", most) if method == "k-means" else ("Smallest cluster (images)", 4 * most)
            key = f"{method}-{current.id}"
            usual = embed.usual_size(current.id, str(method), len(found.ids))
            st.session_state.setdefault(key, usual)  # and not a default, which would follow the classes
            size = st.slider(title, 2, max(3, high), key=key, width=260)
            with st.spinner("Grouping the images …"):
                clusters = embed.clusters(current.id, str(method), int(size))[here].tolist()
                sure = embed.sureness(current.id, str(method), int(size))
    if sure:
        st.caption(sure)
    event = embedding_map(
        f"/api/map/{current.id}", key=f"map-{current.id}", token=frame.token(), colour=colour, clusters=clusters, dataset_id=current.id,
        version=f"{found.id}-{labels.changes(current.id, -1)[0]}-{len(teach.lessons(current.id))}-{here.sum()}",
        classes=thumbs.class_list(current),
    )  # fmt: skip
    if missing := embed.missing(current.id):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"{missing:,} images have come since the map was made.", width="content")
            if st.button("Update the map", icon=":material/refresh:"):
                embed.start(current.id, frame.user())
                st.rerun()
    with st.container(border=True, key="label-all"):
        label_all(current, event.selected, "cluster")
    if event.selected:
        selection(current, event.selected)
    drawer(current, event.open, "map")


def selection(current: Dataset, ids: list[str]) -> None:
    """What was chosen on the map, to correct the exceptions by hand."""
    pages = -(-len(ids) // PER_PAGE)
    key = f"map-page-{hash(tuple(ids))}"
    number = min(st.session_state.get(key, 1), pages)
    found = store.get_images(current.id, ids[(number - 1) * PER_PAGE : number * PER_PAGE])
    rows = answers(current, [i.id for i in found])
    event = thumbs.image_grid(current, found, key="map-grid", rows=rows, editable=True, act=act(current))
    remove(current, event.acted)
    if pages > 1:
        st.pagination(pages, key=key)
    drawer(current, event.open, "selection")


def label_all(current: Dataset, ids: Sequence[str], source: str) -> None:
    """One button per class gives it to all the images; the act can be taken back right here."""
    found = store.get_images(current.id, ids)
    free = sum(i.label is None for i in found)
    if not found:
        st.markdown("Choose a cluster in the legend, or draw a lasso around some images: here all of them get a label at once.")
    else:
        with st.container(horizontal=True, vertical_alignment="center", key="label-all-classes"):
            over = st.session_state.get("label-all-over", False) and free < len(found)
            targets = len(found) if over else free
            st.markdown(f"**{len(found):,} selected**, {free:,} without a label. Label {'all' if over else 'these'} as", width="content")
            for i, name in enumerate(current.classes):
                st.button(
                    frame.plain(name),
                    key=f"all-{current.id}-{i}",
                    disabled=not targets,
                    on_click=give,
                    args=(current, found, source, over, name),
                )
            with st.popover("New class", icon=":material/add:"), st.form(f"all-new-{current.id}", border=False, clear_on_submit=True):
                st.text_input("Name of the class", max_chars=80, key=NEW)
                st.form_submit_button(
                    f"Add it and label {targets:,} images", disabled=not targets, on_click=give, args=(current, found, source, over)
                )
            if free < len(found):
                st.checkbox("Change labelled ones too", key="label-all-over", help="Otherwise an image that has a label keeps it.")


def give(current: Dataset, found: Sequence[Image], source: str, over: bool, name: str | None = None) -> None:
    """A callback, as it comes before the page: a script that is halfway through is cut short by the next thing that happens."""
    try:
        label_many(current, [i.id for i in found], st.session_state[NEW] if name is None else name, source, over, new=name is None)
        st.session_state["label-all-over"] = False
    except AppError as e:
        st.session_state[ERROR] = e


# The page -------------------------------------------------------------------------------------------


with frame.page("Label", "Say what the pictures show: by key, many at once, and with the model's help.") as found:
    current = frame.need_dataset(found)
    if not dataset.totals(current.id)[0]:
        frame.empty_of_images("No images yet")
        st.stop()
    frame.need("label", current)
    with st.container(horizontal=True, vertical_alignment="bottom", key="label-bar"):
        view = frame.url_view("view", VIEWS, key="label-view")
        if view != "Map":
            show, want, order = choose()
            if len(current.classes) > 1 and frame.may("import", current.id, say=False):
                with st.popover(
                    "Class", icon=":material/add:", help="Adds a class; guidelines, renaming and merging are on the Dataset page."
                ):
                    add_class(current)
        with st.container(horizontal=True, horizontal_alignment="right", key="teach"):
            teach_button(current)
    teach_line(current)
    taken_back(current)
    if view != "Map" and len(current.classes) < 2:
        with st.container(border=True, key="first-classes"):
            st.markdown("**Name what the pictures can show**, one class after another. Or begin with the map, which needs no class.")
            if frame.may("import", current.id):
                add_class(current)
    if view == "Map":
        map_view(current)
    elif ready(current, order):
        if order == "near-duplicates" and (crossing := embed.crossing(current.id)):
            st.warning(
                f"{crossing:,} groups of near duplicates lie in more than one split: the network is then tested on what it has learned by heart. "
                "Take the label away from the copies in one of the splits; without a label an image is not used.",
                icon=":material/content_copy:",
            )  # fmt: skip
        if said := orders.sureness(current.id, order):
            st.caption(said)
        (grid if view == "Grid" else one_at_a_time)(current, show, order, want)
