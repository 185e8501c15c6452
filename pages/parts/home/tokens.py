"""Tokens of the HTTP API: made, shown once and revoked, by those who may give them."""

from __future__ import annotations

import streamlit as st

from core import roles
from core.data import store, tokens
from core.data.tokens import Token
from pages.shared import frame, times

LASTS = {"30 days": 30, "90 days": 90, "a year": 365, "until it is revoked": None}
SHOWN = 20  # at once


def api_tokens() -> None:
    if not roles.current().may("admin"):
        return
    with st.expander("API tokens", icon=":material/key:", expanded="tokens" in st.query_params):
        st.markdown("With a token another program asks Loupe over HTTP. [What it may ask](/api/v1/docs)")
        _make()
        every = tokens.listed()
        found, gone = ([one for one in every if (one.state == "revoked") == ended] for ended in (False, True))
        names = {one.id: one.name for one in store.list_datasets()}
        pages = -(-len(found) // SHOWN)
        page = st.pagination(pages, key="tokens-page") if pages > 1 else 1
        for one in found[(page - 1) * SHOWN : page * SHOWN]:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{frame.plain(one.name)}**  \n{_facts(one, names)}")
                st.button("Revoke", icon=":material/block:", key=f"revoke-{one.id}", on_click=_revoke, args=(one.name,), type="tertiary")
        if gone:
            more = f" and {len(gone) - SHOWN:,} more" if len(gone) > SHOWN else ""
            st.caption(f"Revoked: {', '.join(frame.plain(one.name) for one in gone[:SHOWN])}{more}.")


def _make() -> None:
    datasets = {one.name: one.id for one in store.list_datasets()}
    usual, per = tokens.RATE.split("/")
    with st.form("new-token", border=False):
        with st.container(horizontal=True):
            name = st.text_input("Name", placeholder="shop", help="Says which program uses it, and stands beside what it does.")
            role = st.selectbox("Role", roles.ROLES, index=1, help="What it may do.")
        with st.container(horizontal=True):
            only = st.multiselect("Only these datasets", datasets, placeholder="All datasets")
            lasts = st.selectbox("It lasts", LASTS, index=1)
        with st.container(horizontal=True):
            many = st.number_input("It may ask", 1, 9_999_999, int(usual), help="How often at most. What asks more often is told to wait.")
            each = st.selectbox("times a", tokens.UNITS, index=tokens.UNITS.index(per))
        made = st.form_submit_button("Make a token", icon=":material/add:")
    if made:
        with frame.told():
            _, secret = tokens.add(name, role, [datasets[one] for one in only] or None, LASTS[lasts], f"{many}/{each}")
            st.success("Copy it now: it is shown this once.", icon=":material/key:")
            st.code(secret, language=None)


def _facts(one: Token, names: dict[int, str]) -> str:
    where = "all datasets" if one.datasets is None else ", ".join(frame.plain(names.get(i, "a deleted dataset")) for i in one.datasets)
    until = f"{'expired' if one.state == 'expired' else 'until'} {times.when(one.expires_at)}" if one.expires_at else "until it is revoked"
    return f"{one.role} · {where} · {one.rate.replace('/', ' a ')} · {until}"


def _revoke(name: str) -> None:
    with frame.told():
        tokens.revoke(name)
