"""What every page stands in: guard, header, state chips, running bar and error boundary; its first call in every page."""

from __future__ import annotations

import html
import logging
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core import pace, roles, space, storage
from core.api import signing
from core.api.gate import ACTING
from core.data import dataset, imports, store
from core.errors import AppError
from core.label import embed
from core.metrics import TOO_FEW
from core.people import sessions
from core.review import review
from core.runs import jobs
from core.settings import settings
from core.train import train
from core.types import Dataset, Interval, Run
from pages.shared import glossary, times
from pages.shared.component import ASSETS, component

DRAWER = "drawer"  # the image shown beside a grid: (where, dataset, id)
IMPORT = {"view": "Add images"}  # of the Dataset page
ACCOUNTS = ("root", "me", "nobody", "admin", "administrator", "app", "loupe", "user", "ubuntu", "debian", "www-data", "")  # no person's
_WHO = component("who")  # on a phone, where the sidebar is closed: the dataset and the name; the browser keeps the name
PAGED = "paged"  # the list that was shown last, page by page
log = logging.getLogger("loupe")
R = TypeVar("R")


NOBODY = roles.Person("Somebody who is not signed in", None)


def who(fresh: bool) -> roles.Person | None:
    """Who a script runs for, from what the gate has told of its WebSocket; asked anew at every click, as roles may be taken away."""
    if not settings().sign_in:
        return None
    return sessions.who(st.context.headers.get(ACTING) or "", fresh) or NOBODY


def user() -> str:
    """The name written beside what this session does: of who signed in; else a browser keeps it in a cookie once it was given."""
    if settings().sign_in:
        return roles.current().name
    return _given() or (settings().user if settings().user_given else _login()) or roles.UNNAMED


def named() -> bool:
    """Whether somebody has given this name, here or in the settings; else it is that of the machine's login."""
    return bool(settings().sign_in or _given()) or settings().user_given


def _given() -> str:
    if settings().sign_in:
        return ""
    return str(st.session_state.get("user") or unquote(st.context.cookies.get("loupe_user", ""))[:40].strip())


def _login() -> str:
    """The name of the machine's login, "" where it is no person's."""
    return "" if settings().user.lower() in ACCOUNTS else settings().user


def _ask_name() -> None:
    """Asks once per browser who is at work."""
    if named():
        return
    with st.form("who", border=True), st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            "Who are you? The name is written beside what you do here: labels, decisions, runs. It can be changed in the sidebar.",
            _login(), max_chars=40, placeholder="Your name",
        )  # fmt: skip
        if st.form_submit_button("Begin", type="primary") and (name or "").strip():
            st.session_state["user"] = name.strip()
            st.rerun()


def need_name(why: str) -> None:
    """Ends a page that is nothing without a name: it is asked at its head."""
    if not named():
        st.info(f"Say above who you are, then {why}", icon=":material/person:")
        st.stop()


def session() -> str:
    """This page's own id: to it images are dealt out."""
    return str(st.session_state.setdefault("session", secrets.token_hex(8)))


def token() -> str:
    return signing.token(user())


def plain(text: str) -> str:
    """A name or note from outside as text: Streamlit reads Markdown in labels, and what people write is not to be trusted.

    Not for what reads no Markdown: options of select boxes, tables, figures. An address would become a link even when it is escaped;
    with something empty in its midst it stays text.
    """
    parts = re.split(r"(?<=htt)(?=ps?://)|(?<=ww)(?=w\.)|(?<=@)", text.replace("\n", " "), flags=re.IGNORECASE)
    return ":small[]".join(re.sub(r"([\\`*_{}\[\]<>()#+\-.!|~$:^&])", r"\\\1", part) for part in parts)


def part(share: Interval | None, hit: int, n: int) -> str:
    """A share with its 95 % interval, for a table; of few images the count."""
    if share is None:
        return "undefined"
    value = f"{hit} of {n}" if n < TOO_FEW else f"{share.value:.1%}"
    return f"{value} ({share.low:.0%} to {share.high:.0%})"


def url_choice(
    name: str, label: str, options: list[str], default: str, title: Callable[[str], str], width: int | None = None, help: str | None = None
) -> str:
    """A select box whose value is kept in the session and in the URL as ?name=; the URL wins. Another value begins on page 1.

    Not bind="query-params": that writes the displayed title into the URL instead of the value.
    """

    def changed() -> None:
        st.query_params[name] = st.session_state[name]
        first_page()

    given = st.query_params.get(name)
    if given in options:
        st.session_state[name] = given
    elif given and name == "dataset":
        st.toast(f"There is no dataset “{plain(given)}” any more; it may have been deleted.", icon=":material/info:")
        st.session_state[name] = default
    elif st.session_state.get(name) not in options:
        st.session_state[name] = default
    value = st.selectbox(
        label, options, format_func=title, key=name, on_change=changed, persist_state="session", filter_mode=None, help=help,
        width=width or "stretch",
    )  # fmt: skip
    if st.query_params.get(name) != value:
        st.query_params[name] = str(value)
    return str(value)


def url_view(name: str, options: Mapping[str, str], *, key: str, label: str = "View", help: str | None = None) -> str:
    """One of several views of a page: a row of buttons whose choice is kept in the session and in the URL as ?name=; the URL wins."""

    def changed() -> None:
        st.query_params[name] = st.session_state[key]

    if (given := st.query_params.get(name)) in options:
        st.session_state[key] = given
    elif st.session_state.get(key) not in options:
        st.session_state[key] = next(iter(options))
    value = st.segmented_control(
        label, list(options), format_func=options.__getitem__, required=True, key=key, on_change=changed, label_visibility="collapsed",
        persist_state="session", help=help,
    )  # fmt: skip
    if st.query_params.get(name) != value:
        st.query_params[name] = str(value)
    return str(value)


def page_number(key: str) -> int:
    """The page of a list that is on, kept in the URL as ?page=; the URL wins. key: the list; after another one it begins on page 1."""
    if st.session_state.setdefault(PAGED, key) != key:
        st.session_state[PAGED] = key
        first_page()
    number = st.session_state[key] = page_in_url()
    return number


def page_in_url() -> int:
    given = st.query_params.get("page", "")
    return int(given) if re.fullmatch("[1-9][0-9]{0,6}", given) else 1


def pager(pages: int, key: str) -> None:
    """The row of page numbers below such a list."""

    def changed() -> None:
        st.query_params["page"] = str(st.session_state[key])

    st.session_state[key] = min(st.session_state.get(key, 1), pages)
    st.pagination(pages, key=key, on_change=changed, width="stretch")  # as wide as its numbers, it leaves some of them out
    if st.session_state[key] == 1:
        first_page()
    elif st.query_params.get("page") != str(st.session_state[key]):
        changed()


def first_page() -> None:
    st.query_params.pop("page", None)


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


def may(verb: str, dataset_id: int | None = None, *, say: bool = True) -> bool:
    """Whether who acts may do it here; where not, the page says who may in place of what it hides, once in each view."""
    person = roles.current()
    allowed = person.may(verb, dataset_id)
    if say and not allowed:
        refused = roles.refusal(person, verb)
        st.caption(f":material/lock: {plain(refused.message)} {plain(refused.hint)}")
    return allowed


def need(verb: str, current: Dataset) -> None:
    """The same for a page that is nothing without it: it ends here."""
    if not may(verb, current.id):
        st.stop()


def need_person() -> roles.Person:
    """Who is there; ends the page of somebody who has been signed out meanwhile, here or elsewhere, or who cannot be known at present."""
    person = NOBODY
    with guarded("sign-in"):
        person = roles.current()
        if person is NOBODY:
            st.html(ASSETS / "common" / "style.css")
            st.header("You are not signed in any more", anchor=False)
            # Not as Markdown, whose links open a new tab: this one keeps what waits, and its connection the session that has ended.
            st.html(f'What you have done is kept. <a href="/sign-in?next={html.escape(quote(_here()))}">Sign in</a> to go on.')
    if person is NOBODY:
        st.stop()
    return person


def _here() -> str:
    """Path and query of the page that is open."""
    query = urlencode(st.query_params.to_dict())
    return urlsplit(st.context.url or "/").path + (f"?{query}" if query else "")


def who_am_i() -> None:
    if settings().sign_in:
        person = roles.current()
        current = chosen()
        role = person.datasets.get(current.id, person.role) if current else person.role
        with st.popover(plain(person.name), icon=":material/person:", type="tertiary"):
            st.markdown(f"{plain(person.name)}: {role or 'no role here'}. [Your account](/account)")
        return
    name = user() if named() else _login()
    key = f"name-{name}"  # a name given elsewhere is shown here too

    def changed() -> None:
        st.session_state["user"] = st.session_state[key].strip()

    with st.popover(plain(name) or "Your name", icon=":material/person:", type="tertiary"):
        st.text_input("Your name", name, key=key, on_change=changed, max_chars=40, help="It is written beside every label and decision.")


def deferred(what: Callable[[], R]) -> Callable[[], R]:
    """For a button whose file is made when it is pressed: Streamlit does that in a thread that does not know who looks."""
    acting = st.context.headers.get(ACTING) or ""

    def make() -> R:
        if not settings().sign_in:
            return what()
        with roles.acting(sessions.who(acting, True) or NOBODY):
            return what()

    return make


@contextmanager
def page(title: str, sentence: str, *, writes: bool = True) -> Iterator[Dataset | None]:
    """Header, chips and running bar, then the page; whatever either raises becomes a sentence. writes: a name beside what is done here."""
    current = None
    with guarded(title):
        st.html(ASSETS / "common" / "style.css")
        current = chosen()
        if st.session_state.get("shown") != title:  # an image that was open on the page before is not meant any more
            st.session_state["shown"] = title
            for name in (DRAWER, PAGED):
                st.session_state.pop(name, None)
        with st.container(key="header"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.title(title, anchor=False)
                glossary.button()
            st.caption(sentence)
            _WHO(
                key="who-and-what",
                data={"user": user() if named() else "", "keep": bool(_given()), "dataset": current.name if current else ""},
            )
            if current is not None:
                _chips(current)
                if writes:
                    _ask_name()
        with st.container(key="running"):  # always in its place: else what follows would be mounted anew when a run begins or ends
            _running()
        if storage.on():
            with st.container(key="storage"):
                if words := storage.away():
                    st.warning(plain(words), icon=":material/cloud_off:")
    with guarded(title):
        yield current


@contextmanager
def guarded(where: str) -> Iterator[None]:
    """The error boundary of a page, a fragment or a dialog: a sentence for people, the traceback for the log."""
    try:
        with space.told():
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
        with space.told():
            yield
    except AppError as e:
        show(e)


def need_dataset(current: Dataset | None) -> Dataset:
    """The chosen dataset; without one the page says what to do and ends."""
    if current is None:
        empty_of_images("No dataset yet")
        st.stop()
    return current


def empty(
    title: str, text: str, action: str, target: str, icon: str = ":material/image_search:", query: Mapping[str, str] | None = None
) -> DeltaGenerator:
    """An empty state: what is missing, and the one thing to do next; another way on may be put into what it returns."""
    box = st.container(border=True, horizontal_alignment="center", key=f"empty-{title}")
    with box:
        st.header(title, anchor=False, text_alignment="center")
        st.markdown(text, text_alignment="center")
        if st.button(action, type="primary", icon=icon):
            st.switch_page(target, query_params=query or {})
    return box


def empty_of_images(title: str) -> None:
    """The empty state of a page that works on images."""
    text = "Add images first: a folder, a zip, or the sample of handwritten digits."
    empty(title, text, "Add images", "dataset.py", query=IMPORT)


def _chips(current: Dataset) -> None:
    total, labelled = dataset.totals(current.id)
    runs = sum(1 for r in train.list_runs(current.id))
    queue = review.queue_length(current.id)
    with st.container(horizontal=True, gap="small", key="chips"):
        st.badge(f"{total:,} images", icon=":material/image:", color="gray")
        st.badge(f"{labelled:,} labelled", icon=":material/sell:", color="gray")
        st.badge(f"{runs:,} run{'s' if runs != 1 else ''}", icon=":material/model_training:", color="gray")
        st.badge(f"{queue:,} to review", icon=":material/rate_review:", color="green" if queue else "gray")


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
    return one.message or pace.words("epoch", one.epoch, one.epochs, one.seconds_left or None)


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
                st.progress(job.share, f":material/photo_library: Import into {plain(job.job['dataset_name'])}: {plain(job.words)}")
        for look in looks[:3]:
            if st.session_state.get("shown") != "Label":  # there it has a larger bar
                name = next((d.name for d in store.list_datasets() if d.id == look.job["dataset_id"]), "a deleted dataset")
                st.progress(look.share, f":material/visibility: {plain(name)}: {plain(look.words)}")


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
        n, value = state.run.counts["validation"], state.best.val_accuracy if state.best else None
        share = "no validation" if state.best else "ended within its first epoch"
        if value is not None:
            share = f"{f'{round(value * n)}' if n < TOO_FEW else f'{value:.1%}'} of {n:,} validation images"
        return f"{state.run.name}  ·  {share}  ·  {times.stamp(state.run.created_at)}"

    given, here = st.query_params.get("run", ""), (current.id, st.session_state.get("shown"))
    gone = given and given not in usable and st.session_state.get("run-of", current.id) == current.id  # else another dataset was chosen
    run = usable[url_choice("run", "Run", list(usable), next(iter(usable)), title)].run
    st.session_state["run-of"] = current.id
    if gone:
        st.session_state["run-gone"] = (given, run.id, *here)
    if (said := st.session_state.get("run-gone", ("",)))[1:] == (run.id, *here):  # until another run, dataset or page is chosen
        no_such_run(current, said[0], f"This is {run.name}.")
    return run


def no_such_run(current: Dataset, given: str, instead: str) -> None:
    """Says that a link names a run that cannot be shown, and what is shown instead."""
    there = any(r.run.id == given for r in train.list_runs(current.id))
    text = "has nothing to show yet." if there else f"is not in “{plain(current.name)}”."
    st.info(f"The run of this link {text} {plain(instead)}", icon=":material/link_off:")
