"""What every page stands in: guard, header, state chips, running bar and error boundary; its first call in every page."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import unquote

import streamlit as st

from core.api import signing
from core.data import dataset, imports, store
from core.errors import AppError
from core.label import embed
from core.metrics import TOO_FEW
from core.review import review
from core.runs import jobs
from core.settings import settings
from core.train import plan, train
from core.types import Dataset, Interval, Run
from pages.shared import glossary
from pages.shared.component import ASSETS

DRAWER = "drawer"  # the image shown beside a grid: (where, dataset, id)
log = logging.getLogger("loupe")


def user() -> str:
    """The name written beside what this session does; a browser keeps it in a cookie once it was given."""
    return str(st.session_state.get("user") or unquote(st.context.cookies.get("loupe_user", ""))[:40].strip() or settings().user)


def named() -> bool:
    """Whether somebody has given this name, here or in the settings; else it is that of the machine's login."""
    return bool(st.session_state.get("user") or st.context.cookies.get("loupe_user")) or settings().user_given


def ask_name() -> None:
    """Asks once per browser who is labelling."""
    if named():
        return
    with st.form("who", border=True), st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            "Who is labelling? The name is written beside every label; it can be changed in the sidebar.", user(), max_chars=40
        )
        if st.form_submit_button("Begin", type="primary"):
            st.session_state["user"] = (name or "").strip() or user()
            st.rerun()


def session() -> str:
    """This page's own id: to it images are dealt out."""
    return str(st.session_state.setdefault("session", secrets.token_hex(8)))


def token() -> str:
    return signing.token(user())


def plain(text: str) -> str:
    """A name from outside as text: Streamlit reads Markdown in labels, and names are not to be trusted."""
    for mark in "\\`*_{}[]<>()#+-.!|~$:^&":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")


def part(share: Interval | None, hit: int, n: int) -> str:
    """A share with its 95 % interval, for a table; of few images the count."""
    if share is None:
        return "undefined"
    value = f"{hit} of {n}" if n < TOO_FEW else f"{share.value:.1%}"
    return f"{value} ({share.low:.0%} to {share.high:.0%})"


def url_choice(name: str, label: str, options: list[str], default: str, title: Callable[[str], str]) -> str:
    """A select box whose value is kept in the session and in the URL as ?name=; the URL wins.

    Not bind="query-params": that writes the displayed title into the URL instead of the value.
    """

    def changed() -> None:
        st.query_params[name] = st.session_state[name]

    given = st.query_params.get(name)
    if given in options:
        st.session_state[name] = given
    elif given and name == "dataset":
        st.toast(f"There is no dataset “{plain(given)}” any more; it may have been deleted.", icon=":material/info:")
        st.session_state[name] = default
    elif st.session_state.get(name) not in options:
        st.session_state[name] = default
    value = st.selectbox(label, options, format_func=title, key=name, on_change=changed, persist_state="session", filter_mode=None)
    if st.query_params.get(name) != value:
        st.query_params[name] = str(value)
    return str(value)


def url_view(name: str, options: Mapping[str, str], *, key: str) -> str:
    """One of several views of a page: a row of buttons whose choice is kept in the session and in the URL as ?name=; the URL wins."""

    def changed() -> None:
        st.query_params[name] = st.session_state[key]

    if (given := st.query_params.get(name)) in options:
        st.session_state[key] = given
    elif st.session_state.get(key) not in options:
        st.session_state[key] = next(iter(options))
    value = st.segmented_control(
        "View", list(options), format_func=options.__getitem__, required=True, key=key, on_change=changed, label_visibility="collapsed",
        persist_state="session",
    )  # fmt: skip
    if st.query_params.get(name) != value:
        st.query_params[name] = str(value)
    return str(value)


def dataset_picker() -> None:
    """The dataset every page works on: in the sidebar, and in the URL."""
    found = store.list_datasets()
    if not found:
        return
    names = [d.name for d in found]
    if (wanted := st.session_state.pop("choose_dataset", None)) in names:
        st.query_params["dataset"] = wanted
    newest = max(found, key=lambda d: d.created_at).name
    sizes = dataset.sizes()
    url_choice("dataset", "Dataset", names, newest, lambda name: f"{name}  ·  {sizes.get(name, 0):,} images")


def choose_dataset(name: str) -> None:
    """Makes it the chosen one from the next run of the script on."""
    st.session_state["choose_dataset"] = name


def chosen() -> Dataset | None:
    name = st.session_state.get("dataset")
    return store.find_dataset(name) if name else None


def who_am_i() -> None:
    key = f"name-{user()}"  # a name given elsewhere is shown here too

    def changed() -> None:
        st.session_state["user"] = st.session_state[key].strip()

    with st.popover(f"{plain(user())}", icon=":material/person:", type="tertiary"):
        st.text_input("Your name", user(), key=key, on_change=changed, max_chars=40, help="It is written beside every label and decision.")


@contextmanager
def page(title: str, sentence: str) -> Iterator[Dataset | None]:
    """Header, chips and running bar, then the page; whatever either raises becomes a sentence."""
    current = None
    with guarded(title):
        st.html(ASSETS / "common" / "style.css")
        current = chosen()
        if st.session_state.get("shown") != title:  # an image that was open on the page before is not meant any more
            st.session_state["shown"] = title
            st.session_state.pop(DRAWER, None)
        with st.container(key="header"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.title(title, anchor=False)
                glossary.button()
            st.caption(sentence)
            if current is not None:
                _chips(current)
        with st.container(key="running"):  # always in its place: else what follows would be mounted anew when a run begins or ends
            _running()
    with guarded(title):
        yield current


@contextmanager
def guarded(where: str) -> Iterator[None]:
    """The error boundary of a page, a fragment or a dialog: a sentence for people, the traceback for the log."""
    try:
        yield
    except AppError as e:
        show(e)
    except Exception:
        number = secrets.token_hex(3)
        log.exception("error %s on page %s", number, where)
        st.error(
            f"Something went wrong here that Loupe did not expect (error {number}). Nothing that was saved is lost. "
            "Reload the page; if it happens again, the server's log says more under this number.",
            icon=":material/error:",
        )


def show(error: AppError) -> None:
    st.error(f"**{plain(error.message)}** {plain(error.hint)}", icon=":material/error:")


@contextmanager
def told() -> Iterator[None]:
    """Shows an AppError where it happened and goes on with the page."""
    try:
        yield
    except AppError as e:
        show(e)


def need_dataset(current: Dataset | None) -> Dataset:
    """The chosen dataset; without one the page says what to do and ends."""
    if current is None:
        empty("No dataset yet", "Add images first: a folder, a zip, or the sample of handwritten digits.", "Add images", "dataset.py")
        st.stop()
    return current


def empty(title: str, text: str, action: str, target: str, icon: str = ":material/image_search:") -> None:
    """An empty state: what is missing, and the one thing to do next."""
    with st.container(border=True, horizontal_alignment="center", key=f"empty-{title}"):
        st.subheader(title, anchor=False, text_alignment="center")
        st.markdown(text, text_alignment="center")
        if st.button(action, type="primary", icon=icon):
            st.switch_page(target)


def _chips(current: Dataset) -> None:
    total, labelled = dataset.totals(current.id)
    runs = sum(1 for r in train.list_runs(current.id))
    queue = review.queue_length(current.id)
    with st.container(horizontal=True, gap="small", key="chips"):
        st.badge(f"{total:,} images", icon=":material/image:", color="gray")
        st.badge(f"{labelled:,} labelled", icon=":material/sell:", color="gray")
        st.badge(f"{runs} run{'s' if runs != 1 else ''}", icon=":material/model_training:", color="gray")
        st.badge(f"{queue} to review", icon=":material/rate_review:", color="primary" if queue else "gray")


def _running() -> None:
    going = _going(train.list_runs(), imports.running() + embed.running())
    if going:
        _bars(going)


def _going(found: list[train.RunState], going: list[jobs.State]) -> set[str]:
    return {f"{r.run.id} {r.status}" for r in found if r.active} | {job.id for job in going}


def _doing(one: train.RunState) -> str:
    if train.stopping(one.run.id) or train.pausing(one.run.id):
        return "stopping" if train.stopping(one.run.id) else "pausing"
    if one.status == "queued":
        return f"queued, number {one.place} in line" if one.place and one.place > 1 else "queued, next in line"
    if one.status != "running":
        return "starting"
    seconds = one.seconds_left or 0
    left = f", about {seconds:.0f} s left" if 0 < seconds < 100 else f", about {seconds / 60:.0f} min left" if seconds else ""
    return one.message or f"epoch {one.epoch} of {one.epochs}{left}"


def left(job: jobs.State) -> str:
    """How long this phase of a job still takes, by its pace since this page first saw it; "" until that says something."""
    now, key = time.monotonic(), f"pace-{job.id}-{job.what}"
    since, done = st.session_state.setdefault(key, (now, job.done))
    if now - since < 3 or job.done <= done or job.done >= job.total:
        return ""
    return f", {plan.duration((job.total - job.done) * (now - since) / (job.done - done))} left"


@st.fragment(run_every=2)
def _bars(drawn: set[str]) -> None:
    """One thin bar per run, import or embedding in progress, on every page; the page is drawn anew when one begins or ends."""
    with guarded("running"):
        active = [r for r in train.list_runs() if r.active]
        incoming, looks = imports.running(), embed.running()
        if _going(active, incoming + looks) != drawn:
            st.rerun()
        for one in active[:3]:
            text = f"{plain(one.run.name)} on {plain(one.run.dataset_name)}: {plain(_doing(one))}"
            st.progress(one.progress, f":material/model_training: {text}")
        for job in incoming[:3]:
            if job.id != st.session_state.get("import"):  # one's own has a larger bar on the Dataset page
                done = f"{job.done:,} of {job.total:,}" if job.total else "starting"
                st.progress(job.share, f":material/photo_library: Import into {plain(job.job['dataset_name'])}: {done}")
        for look in looks[:3]:
            if st.session_state.get("shown") != "Label":  # there it has a larger bar
                name = next((d.name for d in store.list_datasets() if d.id == look.job["dataset_id"]), "a deleted dataset")
                done = f"{look.done:,} of {look.total:,}" if look.total else "starting"
                st.progress(look.share, f":material/visibility: {plain(look.what or 'Looking')}, {plain(name)}: {done}")


def run_picker(current: Dataset) -> Run | None:
    """The run the page works on: chosen here, kept in the URL as ?run=; without one the page says what to do."""
    usable = {r.run.id: r for r in train.usable(current.id)}
    if not usable:
        empty(
            "No trained network yet",
            "Train one first: the Train page recommends a network for your images.",
            "Train a network",
            "train.py",
            ":material/model_training:",
        )
        return None

    def title(run_id: str) -> str:
        state = usable[run_id]
        best = state.best
        share = (
            f"{best.val_accuracy:.1%} of {state.run.counts['validation']:,} validation images"
            if best and best.val_accuracy is not None
            else "no validation"
        )
        return f"{state.run.name}  ·  {share}  ·  {state.run.created_at[:16].replace('T', ' ')}"

    return usable[url_choice("run", "Run", list(usable), next(iter(usable)), title)].run
