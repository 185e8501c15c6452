"""Who may sign in, and what each may do: for those who give roles."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import streamlit as st

from core import roles
from core.data import store
from core.data.people import Account
from core.errors import AppError
from core.people import accounts
from core.settings import settings
from pages.shared import frame, times

PER_PAGE = 25
ROLES = (*roles.ROLES, "")  # "": none
OPEN, ERROR, DONE = "people-open", "people-error", "people-done"
WAYS = {"accounts": "with a password", "oidc": "by OpenID Connect", "header": "by the proxy's word"}
NAMED = {"oidc": "The provider must call that person so.", "header": "The proxy must call that person so."}


def _role(role: str | None) -> str:
    return role or "no role"


def _role_there(role: str | None) -> str:
    return role or "no access"


def by_claim(way: str) -> str:
    """The provider's claim that says the roles of who signs in this way; "" where an admin gives them."""
    provider = settings().oidc
    return provider.role_claim if way == "oidc" and provider else ""


def how() -> None:
    """What holds for signing in here, where it is not what the list would let expect."""
    if not settings().sign_in:
        st.info(
            "Nobody signs in here: who sits at this machine may do everything. The people below can sign in once Loupe was started with "
            "`LOUPE_SIGN_IN=accounts`.",
            icon=":material/lock_open:",
        )
    if claim := by_claim("oidc"):
        st.caption(f"Who signs in by OpenID Connect has the role that the provider's claim “{frame.plain(claim)}” says at every sign-in.")


def add() -> None:
    ways = settings().sign_in or ("accounts",)
    with st.expander("Add a person", icon=":material/person_add:"):
        with st.form("new-person", border=False):
            with st.container(horizontal=True, vertical_alignment="bottom"):
                name = st.text_input("Name", max_chars=80, placeholder="Ann", help="Stands beside all that the person does.")
                role = st.selectbox("Role", ROLES, 1, format_func=_role, help="Everywhere; in single datasets it may differ.")
                way = st.selectbox("Signs in", ways, format_func=WAYS.__getitem__) if len(ways) > 1 else ways[0]
            if len(ways) == 1 and way in NAMED:
                st.caption(f"People sign in {WAYS[way]}. {NAMED[way]}")
            wanted = st.form_submit_button("Add", icon=":material/add:")
        if wanted:
            with frame.told():
                token = accounts.add(name, role or None, way)
                if token:
                    link(accounts.checked_person(name), token)
                else:
                    st.success(f"{frame.plain(name.strip())} may sign in {WAYS[way]}. {NAMED[way]}", icon=":material/check:")


def link(name: str, token: str) -> None:
    """The one-time link, which is shown this once."""
    st.success(
        f"{frame.plain(name)} sets a password at this address. Copy it now: it is shown this once, and works once, for "
        f"{accounts.LINK_HOURS} hours.",
        icon=":material/key:",
    )
    st.code(f"{_here()}/welcome/{token}", language=None, wrap_lines=True)


def _here() -> str:
    """Where people reach Loupe."""
    parts = urlsplit(st.context.url or "http://localhost:8501")
    return settings().url or f"{parts.scheme}://{parts.netloc}"


def people() -> None:
    text = st.text_input(
        "Find", key="find", bind="query-params", on_change=frame.first_page, icon=":material/search:", placeholder="a part of the name",
        width=300,
    )  # fmt: skip
    wanted = (text or "").strip()
    number = frame.page_number(f"people-{wanted}")
    found, total = accounts.listed(wanted, number, PER_PAGE)
    pages = max(1, -(-total // PER_PAGE))
    if number > pages:
        found, total = accounts.listed(wanted, pages, PER_PAGE)
    if not found:
        st.info("Nobody has that in the name." if wanted else "Nobody was added yet.", icon=":material/group_off:")
        return
    names = {one.id: one.name for one in store.list_datasets()}
    with st.container(key="people-list", gap=None):
        for one in found:
            line(one, names)
    with st.container(horizontal=True, vertical_alignment="center", key="people-pager"):
        st.caption(f"{total:,} {'people' if total != 1 else 'person'}, {PER_PAGE} a page, by name.", width="content")
        if pages > 1:
            frame.pager(pages, f"people-{wanted}")


def line(one: Account, names: dict[int, str]) -> None:
    """Who it is, with what role, since when away; opened, what can be changed."""
    shown = st.session_state.get(OPEN) == one.id
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"row-person-{one.id}"):
        state = "  ·  :gray-badge[switched off]" if one.off_at else ""
        seen = f"last seen {times.when(one.seen_at)}" if one.seen_at else "never seen yet"
        st.markdown(
            f"**{frame.plain(one.name)}**  ·  {_role(one.role)}{state}  \n:small[:gray[{_where(one, names)} signs in {WAYS[one.way]}, {seen}]]",
            width="stretch",
        )
        st.button(
            "Close" if shown else "Change", icon=":material/close:" if shown else ":material/edit:", type="tertiary",
            key=f"open-{one.id}", on_click=_open, args=(None if shown else one.id,),
        )  # fmt: skip
    if shown:
        with st.container(border=True, key=f"person-{one.id}"):
            details(one, names)


def _where(one: Account, names: dict[int, str]) -> str:
    """The datasets in which the role differs."""
    differs = [f"{frame.plain(names[i])}: {_role_there(role)}" for i, role in one.datasets.items() if i in names]
    more = f" and {len(differs) - 3} more" if len(differs) > 3 else ""
    return f"{', '.join(differs[:3])}{more}; " if differs else ""


def details(one: Account, names: dict[int, str]) -> None:
    if error := st.session_state.pop(ERROR, None):
        frame.show(error)
    role(one)
    datasets(one, names)
    signing_in(one)


def role(one: Account) -> None:
    if claim := by_claim(one.way):
        st.markdown(
            f"Role everywhere: **{_role(one.role)}**. The provider's claim “{frame.plain(claim)}” says it at every sign-in; it is changed there."
        )
        return
    key = f"role-{one.id}"
    st.session_state[key] = one.role or ""  # as it is stored, also where a change was refused

    def changed() -> None:
        _do(lambda: accounts.set_role(one.name, st.session_state[key] or None))

    st.selectbox(
        "Role everywhere", ROLES, format_func=_role, key=key, on_change=changed, filter_mode=None, width=300,
        help="It counts at the person's next click.",
    )  # fmt: skip


def datasets(one: Account, names: dict[int, str]) -> None:
    """The datasets in which another role holds, to be given and taken back."""
    st.markdown("**In single datasets** another role may hold, or none: then the person does not see the dataset.")
    for dataset_id, held in one.datasets.items():
        if dataset_id in names:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"{frame.plain(names[dataset_id])}: **{_role_there(held)}**", width="content")
                st.button(
                    "As everywhere", icon=":material/undo:", type="tertiary", key=f"clear-{one.id}-{dataset_id}",
                    on_click=_do, args=(lambda i=dataset_id: accounts.clear_dataset_role(one.name, i),),
                )  # fmt: skip
    if not names:
        st.caption("There is no dataset yet.")
        return
    with st.form(f"give-{one.id}", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.selectbox("Dataset", list(names), format_func=names.__getitem__, width=300)
        given = st.selectbox("Role there", ROLES, format_func=_role_there, width=200)
        if st.form_submit_button("Give", icon=":material/add:"):
            _do(lambda: accounts.set_role(one.name, given or None, wanted))
            st.rerun()


def signing_in(one: Account) -> None:
    found = accounts.signed_in(one.name)
    password = "" if one.way != "accounts" or one.password else " No password was set yet."
    where = ", ".join(f"{frame.plain(x.browser or 'unknown')} since {times.when(x.begun_at)}" for x in found[:3]) or "nowhere"
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    st.markdown(f"**Signed in**: {where}{more}.{password}")
    works = not settings().sign_in or one.way in settings().sign_in
    if not works:
        st.caption(f"Nobody signs in {WAYS[one.way]} at present: `LOUPE_SIGN_IN` does not name it.")
    with st.container(horizontal=True, vertical_alignment="center"):
        if one.off_at:
            st.button(
                "Switch on", icon=":material/toggle_on:", key=f"on-{one.id}", on_click=_do, args=(lambda: accounts.switch_on(one.name),),
                help="The person can sign in again, with the password and the roles of before.",
            )  # fmt: skip
            return
        new = (
            one.way == "accounts"
            and works
            and st.button(
                "New one-time link",
                icon=":material/key:",
                key=f"link-{one.id}",
                help="To set a password with. The one of now holds until then.",
            )
        )
        if found:
            st.button(
                "Sign out everywhere", icon=":material/logout:", key=f"out-{one.id}", on_click=_do,
                args=(lambda: accounts.sign_out(one.name),), help="Ends all sessions; the person can sign in again.",
            )  # fmt: skip
        if st.button("Switch off …", icon=":material/toggle_off:", key=f"off-{one.id}"):
            _ask(one)
    if new:
        with frame.told():
            link(one.name, accounts.new_link(one.name))


@st.dialog("Are you sure?")
def _ask(one: Account) -> None:
    with frame.guarded("people"):
        st.markdown(
            f"Nobody is let in as **{frame.plain(one.name)}** from now on, and all sessions end. Password, roles and what was done are kept: "
            "*Switch on* brings the account back."
        )
        if one.name == roles.current().name:
            st.markdown("This is your own account: you are signed out at once, and another admin has to switch it on.")
        st.button("Switch off", type="primary", icon=":material/toggle_off:", key="off-sure", on_click=_off, args=(one,))
        if error := st.session_state.pop(ERROR, None):
            frame.show(error)
        if st.session_state.pop(DONE, False):
            st.rerun()


def _off(one: Account) -> None:
    _do(lambda: accounts.switch_off(one.name))
    st.session_state[DONE] = ERROR not in st.session_state


def _do(act: Callable[[], object]) -> None:
    """Does it; what refuses it is shown by the next run, where it was asked for."""
    try:
        act()
    except AppError as e:
        st.session_state[ERROR] = e


def _open(person_id: int | None) -> None:
    st.session_state[OPEN] = person_id


with frame.page("People", "Who may sign in here, and what each may do. Every change is written into the audit.", writes=False):
    if frame.may("admin"):
        how()
        add()
        people()
