"""Bring images in, browse and label them."""

from itertools import count
from pathlib import PurePath

import pandas as pd
import streamlit as st

from core.data import dataset, imports, labels, places, removed, sources, splits, store, uploads
from core.data.late import Later
from core.data.store import Filter
from core.runs import jobs
from core.settings import settings
from core.types import SPLITS, Dataset
from pages.parts.dataset.exporting import export_popover
from pages.parts.dataset.late import late_labels
from pages.parts.dataset.sight import shown, sight, skipped
from pages.parts.dataset.undoing import imports_view, undo_button
from pages.shared import frame, thumbs, times
from pages.shared.classes import add_class, classes_view
from pages.shared.detail import drawer
from pages.shared.figures import class_counts
from pages.shared.history import history_view, say, spoken
from pages.shared.removing import BACK, STAY, act, bring_back, remove, taken_back
from pages.shared.upload import upload

FILTERS = ("class", "split", "state")  # by their names in the URL
PER_PAGE = 60
MOST_NAMED = 20  # classes that an import's report counts one by one
VIEWS = {name: name for name in ("Browse", "Classes", "History", "Add images")}
LAYOUT = """pets.zip
  cat/    one.jpg  two.jpg
  dog/    one.jpg  …
or
  train/  cat/ …   dog/ …
  test/   cat/ …   dog/ …"""


def browse(current: Dataset) -> None:
    if st.session_state.setdefault("filtered", current.id) != current.id:  # what was looked for in another dataset is not meant here
        st.session_state["filtered"] = current.id
        for name in FILTERS:
            st.query_params.pop(name, None)
    counts = dataset.counts(current.id)
    total = int(counts["images"].sum())
    out = removed.count(current.id) if frame.may("delete", current.id, say=False) else 0
    if total + out == 0:
        st.info("This dataset holds no images yet. Choose *Add images* above.", icon=":material/photo_library:")
        return
    balance = st.expander("Class balance", icon=":material/bar_chart:", key="balance-open", on_change="rerun")
    if balance.open:  # closed, it leaves the first screen to the pictures, and the library of charts is not loaded
        with balance:
            st.plotly_chart(class_counts(counts, current.classes), key="balance", config={"displayModeBar": False})
    if not current.classes:
        with st.container(border=True, key="no-classes"):
            st.markdown(
                "**No classes yet.** Name what the pictures can show, one class after another; then labels can be given by click or key."
            )
            if frame.may("import", current.id):
                add_class(current)
    taken_back(current)
    want, is_out = filters(current, counts, out)
    if is_out:
        removed_images(current, want)
        return
    key = f"page-{current.id}"
    number = frame.page_number(key)
    found, matching = dataset.browse(current.id, want, number, PER_PAGE)
    pages = max(1, -(-matching // PER_PAGE))
    if number > pages:  # fewer match than a moment ago
        number = st.session_state[key] = pages
        found, matching = dataset.browse(current.id, want, number, PER_PAGE)
    if not found:
        text = "No image matches these filters." if total else "Every image was removed; they are under *State*, *Removed*."
        st.info(text, icon=":material/filter_alt_off:")
        return
    ahead = dataset.browse(current.id, want, number + 1, PER_PAGE)[0] if number < pages else []
    event = thumbs.image_grid(current, found, key="grid", prefetch=ahead, editable=True, act=act(current))
    remove(current, event.acted)
    with st.container(horizontal=True, vertical_alignment="center", key="pager"):
        st.caption(f"{matching:,} of {total:,} images, {PER_PAGE} a page", width="content")
        frame.pager(pages, key)
    frame.may("label", current.id)
    drawer(current, event.open, "browse")


def removed_images(current: Dataset, want: Filter) -> None:
    """What was taken out of the dataset, the last first, to be brought back."""
    key = f"removed-{current.id}"
    number = frame.page_number(key)
    found, total = removed.page(current.id, want, number, PER_PAGE)
    pages = max(1, -(-total // PER_PAGE))
    if number > pages:
        number = st.session_state[key] = pages
        found, total = removed.page(current.id, want, number, PER_PAGE)
    st.caption(STAY)
    if not found:
        st.info("No removed image matches these filters.", icon=":material/filter_alt_off:")
        return
    event = thumbs.image_grid(current, found, key="removed-grid", act=BACK)
    bring_back(current, event.acted)
    with st.container(horizontal=True, vertical_alignment="center", key="pager"):
        st.caption(f"{total:,} removed image{'s' * (total != 1)}, {PER_PAGE} a page, the last one first", width="content")
        frame.pager(pages, key)
    drawer(current, event.open, "removed")


def filters(current: Dataset, counts: pd.DataFrame, out: int) -> tuple[Filter, bool]:
    """Which images, and whether they are of those that were removed, of which there are so many."""
    per_class = counts.groupby("label", dropna=True)["images"].sum()
    per_split = counts.groupby("split")["images"].sum()
    unlabelled = int(counts.loc[counts["label"].isna(), "images"].sum())
    total = int(counts["images"].sum())
    classes = {"": f"All classes ({total:,})"} | {c: f"{c} ({per_class.get(c, 0):,})" for c in current.classes}
    splits = {"": "All splits"} | {s: f"{s} ({per_split[s]:,})" for s in ("train", "validation", "test") if s in per_split.index}
    states = {
        "": "All states",
        "labelled": f"Labelled ({total - unlabelled:,})",
        "unlabelled": f"Not labelled ({unlabelled:,})",
        "flagged": f"Flagged ({sum(labels.flagged(current.id).values()):,})",
    } | ({"removed": f"Removed ({out:,})"} if out else {})
    help = "Train is learned from. Validation decides when to stop. Test is looked at last, and never used for choices."
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        name = counted("Class", classes, current, 220)
        split = counted("Split", splits, current, 180, help)
        state = counted("State", states, current, 190)
        text = st.text_input(
            "File name contains", key="text", bind="query-params", on_change=frame.first_page, icon=":material/search:", width=220
        )
    want = Filter(
        label=name or None,
        split=split or None,
        labelled={"labelled": True, "unlabelled": False}.get(state),
        flagged=True if state == "flagged" else None,
        text=text or "",
    )
    return want, state == "removed"


def counted(title: str, options: dict[str, str], current: Dataset, width: int, help: str | None = None) -> str:
    """A select box whose options carry counts; the choice stands in the URL by the title, which wins.

    Streamlit forgets a choice when the text of its options changes, as counts do: the value is kept beside the widget.
    """
    name, kept = title.lower(), f"f-{title}-{current.id}"
    key = f"{kept}-{hash(tuple(options.values()))}"

    def in_url(value: str) -> None:
        if value:
            st.query_params[name] = value
        else:
            st.query_params.pop(name, None)

    def changed() -> None:
        st.session_state[kept] = st.session_state[key]
        in_url(st.session_state[key])
        frame.first_page()

    names = list(options)
    if (given := st.query_params.get(name)) in options:
        st.session_state[kept] = given
    chosen = st.session_state.get(kept, "")
    if given != (chosen or None):
        in_url(chosen if chosen in options else "")
    index = names.index(chosen) if chosen in names else 0
    return str(st.selectbox(title, names, index=index, format_func=options.__getitem__, key=key, on_change=changed, width=width, help=help))


def add_images(current: Dataset | None) -> None:
    if not frame.may("import", current.id if current else None):
        return
    if current is not None and (lost := imports.lost(current.name)) and lost.id != st.session_state.get("import"):
        st.warning(f"**{frame.plain(lost.message)}** {frame.plain(lost.hint)}", icon=":material/warning:")
        again(lost.id)
    st.markdown("Three ways in. The name of a folder becomes the class of the images inside it.")
    own, server, ready = st.columns(3)
    with own, st.container(border=True, height="stretch"):
        st.markdown("**From your computer**  \nA zip of folders, single images, or MNIST's IDX files.")
        st.code(LAYOUT, language=None)
        sent = upload(
            key=f"batch-{st.session_state.get('uploads', 0)}",
            url="/api/upload",
            token=frame.token(),
            accept="",
            multiple=True,
            label="Drop files here",
            hint="A zip, images, a table of labels (CSV, JSONL, Label Studio's, COCO's) with its images, or IDX files",
            max_mb=settings().max_upload_mb,
        )
        if sent:
            with frame.told():
                source = sources.uploaded(uploads.files(sent["upload"]))
                named = sources.named_after(source)
                if named is None:  # single images: where they belong, nothing says
                    named = "" if current is not None else "my images"
                elif source.kind == "uploads":  # IDX files: another set than the one that happens to be open
                    named = unused(named)
                start_form("own", source, named)
    with server, st.container(border=True, height="stretch"):
        st.markdown("**From a folder on this server**  \nNothing is moved: the images are copied, the folder stays as it is.")
        folders = places.folders_under_roots()
        roots = "\n".join(str(r) for r in settings().roots)
        st.code(roots, language=None, wrap_lines=True)
        if folders:
            choice = st.selectbox("Folder or file", folders, format_func=str, key="server-folder", index=None, placeholder="Choose")
            if choice:
                start_form("server", sources.at(places.allowed_folder(str(choice))), PurePath(choice).stem)
        else:
            st.caption(
                "These folders are empty. Put a folder of images into one of them, then reload the page.",
                help="Whoever runs Loupe can name other folders in LOUPE_ROOTS.",
            )
    with ready, st.container(border=True, height="stretch"):
        st.markdown("**A ready-made set**  \nThe sample is on this machine; the others are downloaded once.")
        names = {
            "sample": "Sample: 1,797 handwritten digits, 8×8 (no download)",
            "mnist": "MNIST: 70,000 handwritten digits (11 MB)",
            "fashion-mnist": "Fashion-MNIST: 70,000 pieces of clothing (30 MB)",
            "cifar10": "CIFAR-10: 60,000 small colour photos (170 MB)",
        }
        ready_set = st.radio("Set", list(names), format_func=names.__getitem__, label_visibility="collapsed", key="ready-set")
        start_form("ready", sources.named(ready_set), "digits" if ready_set == "sample" else ready_set)
    if current is not None:
        next_images(current)


def unused(name: str) -> str:
    """The name, or with a number the first that no dataset has."""
    return next(n for n in (name, *(f"{name} {i}" for i in count(2))) if store.find_dataset(n) is None)


def next_images(current: Dataset) -> None:
    """What becomes of the images that are added next, and the choice."""
    n: dict[str, int] = {split: store.count(current.id, Filter(split=split)) for split in SPLITS}
    if not sum(n.values()):
        return
    with st.container(border=True, key="next-images"):
        drawn = "" if n["validation"] else " Validation is drawn for each run."
        have = ", ".join(
            f"{n[split]:,} {title}"
            for split, title in (("train", "training"), ("validation", "validation"), ("test", "test"))
            if n[split] or split != "validation"
        )
        st.markdown(f"**{frame.plain(current.name)}** has {have} images.{drawn} {splits.next_images(current)}")
        with st.container(horizontal=True):
            if not n["test"]:
                st.button(
                    "Draw a test split now", icon=":material/call_split:", key="draw-test", on_click=draw_test, args=(current,),
                    help="Once and for ever, by the pictures themselves: about 15 in 100 training images are kept aside, and of those that "
                    "come later as many. Near copies stay together. Networks trained before have learned from "
                    "them: train anew.",
                )  # fmt: skip
            if not current.splits_given:
                st.button(
                    "Keep all later images as training", icon=":material/school:", key="keep-training", on_click=keep_training,
                    args=(current,), help="The test images stay what they are.",
                )  # fmt: skip


def draw_test(current: Dataset) -> None:
    with frame.told():
        say(f"{splits.draw_test(current.id):,} images are test images now.", ":material/call_split:")


def keep_training(current: Dataset) -> None:
    splits.keep_training(current.id)
    say("Images that come later join training.", ":material/school:")


def start_form(key: str, source: sources.Source, name: str) -> None:
    """Asks into which dataset, and starts the import."""
    chosen = st.text_input(
        "Into dataset",
        name,
        max_chars=80,
        key=f"name-{key}-{name}",
        placeholder="A new name, or that of a dataset they join",
        help="A new name makes a new dataset; an existing one gets the images added, and is offered labels for those that it has.",
    )
    if st.button("Import", type="primary" if key == "own" else "secondary", key=f"import-{key}", icon=":material/download:"):
        with frame.told():
            shown(imports.start(source, chosen or "", frame.user()))
            st.rerun()


@st.fragment(run_every=0.5)
def watch(import_id: str) -> None:
    """The import while it runs; the page is drawn anew when it ends."""
    with frame.guarded("import"):
        state = imports.state(import_id)
        if state.status != "running":
            st.rerun()
        with st.container(border=True, key="import-progress"):
            what = imports.heading(imports.title(state), state.job["dataset_name"])
            st.progress(state.share, f"**{frame.plain(what)}** {frame.plain(state.words)}")
            help = "What is imported already stays."
            st.button(
                "Stop the import", icon=":material/stop_circle:", key="import-stop", help=help, on_click=imports.stop, args=(import_id,)
            )


def followed() -> bool:
    """The import that was started here, or that the URL names: as it goes on, what it had to guess, or what it did.

    Whether it goes on or asks something, and no other import should be begun beside it.
    """
    import_id = st.query_params.get("import") or st.session_state.get("import")
    if not import_id:
        return False
    begun_here = st.session_state.get("import") == import_id
    shown(None)  # where there is none of this id any more
    state = imports.state(import_id)
    running, seen, came = state.status == "running", imports.first_sight(state), imports.later(state)
    shown(import_id, ended=not running and seen is None and came is None)
    if running:
        watch(import_id)
    elif seen:
        sight(state, seen)
    else:
        if not begun_here:  # its images are no news
            st.session_state["arrived"] = state.id
        arrived(state)
        report(state, came)
    return running or seen is not None


def again(import_id: str) -> None:
    if st.button("Import again", icon=":material/replay:", key="import-again"):
        with frame.told():
            shown(imports.go_on(import_id, frame.user()))
            st.rerun()


def arrived(state: jobs.State) -> None:
    """Once, when an import of this session has ended: shows what came in."""
    done, name = imports.report(state), state.job["dataset_name"]
    if st.session_state.get("arrived") != state.id and done and done.added and store.find_dataset(name):
        st.session_state["arrived"] = state.id
        st.query_params["view"] = "Browse"
        frame.choose_dataset(name)
        st.rerun()


def report(state: jobs.State, came: Later | None) -> None:
    """What the import did, until somebody closes it."""
    done = imports.report(state)
    with st.container(border=True, key="import-report"):
        with st.container(horizontal=True, vertical_alignment="center"):
            if done is not None:
                ended = "Import finished" if done.added or done.duplicates else "Nothing was imported"
                word = {"done": ended, "stopped": "Import stopped; what was imported stays"}.get(state.status, "Until then")
                numbers = f"{done.added:,} added, {done.duplicates:,} there already, {len(done.skipped):,} skipped"
                st.markdown(f"**{word}**: {frame.plain(state.job['dataset_name'])}, {numbers}.", width="stretch")
            if st.button("Close", icon=":material/close:", type="tertiary"):
                shown(None)
                st.rerun()
        if done is None:
            st.error(f"**{frame.plain(state.message)}** {frame.plain(state.hint)}", icon=":material/error:")
            if state.status == "lost" or state.passes:
                again(state.id)
        if done is not None and done.added and sum(done.classes.values()) == done.added:
            _classes(done.classes)
        if done is not None and done.import_id is not None and (found := store.find_dataset(state.job["dataset_name"])):
            undo_button(found, done.import_id, imports.title(state), "undo-this-import")
        if done is not None and done.understood:
            st.markdown("\n".join(f"- {frame.plain(one)}" for one in done.understood))
        if came is not None:
            late_labels(state, came)
        if done is not None and done.skipped:
            with st.expander(f"{len(done.skipped):,} skipped, with the reason", icon=":material/block:", expanded=not done.added):
                skipped(done.skipped)


def _classes(added: dict[str, int]) -> None:
    """What came in, class by class: a folder that is none is seen here."""
    named = sorted(((name, n) for name, n in added.items() if name), key=lambda one: -one[1])
    parts = [f"{frame.plain(name)} {n:,}" for name, n in named[:MOST_NAMED]]
    parts += [f"{len(named) - MOST_NAMED:,} more classes"] if len(named) > MOST_NAMED else []
    parts += [f"without a label {added['']:,}"] if "" in added else []
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(", ".join(parts), width="content")
        if named and st.button("Classes", icon=":material/category:", type="tertiary", key="to-classes"):
            st.query_params["view"] = "Classes"
            st.rerun()


def more(current: Dataset) -> None:
    """The rarer act of deleting the dataset; bound to it, so that a second click hits no other."""
    with st.popover("More", icon=":material/more_horiz:", key=f"more-{current.id}"):
        if not frame.may("delete", current.id):
            return
        st.caption("A deleted dataset can be restored; its runs stay.")
        if st.button(f"Delete {frame.plain(current.name)}", icon=":material/delete:", key=f"delete-{current.id}"):
            store.set_deleted(current.id, True)
            st.toast(f"{frame.plain(current.name)} was deleted. It can be restored under Add images.")
            st.rerun()


def restore() -> None:
    if gone := [one for one in store.list_datasets(deleted=True) if frame.may("delete", one.id, say=False)]:
        with st.expander(f"{len(gone)} deleted dataset{'s' if len(gone) > 1 else ''}", icon=":material/restore_from_trash:"):
            for one in gone:
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.markdown(f"{frame.plain(one.name)}, deleted {times.when(one.deleted_at or '')}", width=320)
                    if st.button("Restore", key=f"restore-{one.id}"):
                        with frame.told():
                            store.set_deleted(one.id, False)
                            frame.choose_dataset(one.name)
                            st.rerun()


with frame.page("Dataset", "The images a network learns from: bring them in, look at them, say what they show.") as current:
    spoken()
    asked = False
    with frame.told():
        asked = followed()
    if current is None:
        if not asked:
            add_images(None)
        restore()
    else:
        with st.container(horizontal=True, vertical_alignment="center"):
            view = frame.url_view("view", VIEWS, key="view")
            export_popover(current)
            more(current)
        if view == "Browse":
            browse(current)
        elif view == "Classes":
            classes_view(current)
        elif view == "History":
            imports_view(current)
            drawer(current, history_view(current), "history")
        elif not asked:
            add_images(current)
            restore()
