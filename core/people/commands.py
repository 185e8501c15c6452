"""The verbs of people on the command line."""

from __future__ import annotations

import argparse
from typing import Any

from core.data import people, store
from core.people import accounts
from core.roles import ROLES, allow
from core.settings import WAYS
from core.terminal import BadArgument, Verbs, say

JOBS = ()
NOBODY, SAME = "none", "same"


def add(verbs: Verbs) -> None:
    p = verbs.add_parser("user", help="who may sign in, and what each may do")
    acts = p.add_subparsers(required=True, metavar="ACT")

    a = acts.add_parser("add", help="add somebody, and print a one-time link to set a password with")
    a.add_argument("name")
    a.add_argument("--role", required=True, choices=ROLES)
    a.add_argument("--way", default="accounts", choices=WAYS, help="how that person signs in")
    a.add_argument("--url", default="http://localhost:8501", help="where people reach Loupe; the link begins with it")
    a.set_defaults(verb=add_user)

    a = acts.add_parser("link", help="print a new one-time link to set a password with")
    a.add_argument("name")
    a.add_argument("--url", default="http://localhost:8501", help="where people reach Loupe; the link begins with it")
    a.set_defaults(verb=link)

    a = acts.add_parser("list", help="everybody, with roles")
    a.set_defaults(verb=list_users)

    a = acts.add_parser("role", help="change somebody's role; it counts at the next click")
    a.add_argument("name")
    a.add_argument("role", choices=(*ROLES, NOBODY, SAME), help=f"{NOBODY}: no access; {SAME}: in a dataset, the role of everywhere again")
    a.add_argument("--dataset", help="in this dataset only")
    a.set_defaults(verb=role)

    a = acts.add_parser("off", help="switch an account off: nobody is let in under the name, and all else waits")
    a.add_argument("name")
    a.set_defaults(verb=off)

    a = acts.add_parser("on", help="switch it on again, with the password, roles and datasets of before")
    a.add_argument("name")
    a.set_defaults(verb=on)

    a = acts.add_parser("sign-out", help="end all of somebody's sessions")
    a.add_argument("name")
    a.set_defaults(verb=sign_out)

    a = acts.add_parser("remove", help="end somebody's access; the name stays beside what was done")
    a.add_argument("name")
    a.set_defaults(verb=remove)


def _link(name: str, token: str, url: str) -> dict[str, Any]:
    say(f"{name} sets a password at this address. It works once, for {accounts.LINK_HOURS} hours:")
    return {"name": name, "link": f"{url.rstrip('/')}/welcome/{token}"}


def add_user(args: argparse.Namespace) -> dict[str, Any]:
    name = accounts.checked_person(args.name)
    token = accounts.add(name, args.role, args.way)
    return _link(name, token, args.url) if token else {"name": name, "role": args.role, "way": args.way}


def link(args: argparse.Namespace) -> dict[str, Any]:
    return _link(args.name, accounts.new_link(args.name), args.url)


def list_users(args: argparse.Namespace) -> list[dict[str, Any]]:
    allow("admin")
    names = {d.id: d.name for d in store.list_datasets()}
    return [
        {
            "name": one.name,
            "role": one.role,
            "way": one.way,
            "datasets": {names[i]: role for i, role in one.datasets.items() if i in names},
            "password": one.password is not None,
            "off": one.off_at is not None,
            "last_seen": one.seen_at,
        }
        for one in people.everybody()
    ]


def role(args: argparse.Namespace) -> dict[str, Any]:
    wanted = None if args.role == NOBODY else args.role
    if args.dataset is None:
        if wanted == SAME:
            raise BadArgument(f"“{SAME}” is for one dataset: name it with --dataset.")
        accounts.set_role(args.name, wanted)
    else:
        found = store.find_dataset(args.dataset)
        if found is None:
            raise BadArgument(f"There is no dataset called “{args.dataset}”.")
        if wanted == SAME:
            accounts.clear_dataset_role(args.name, found.id)
        else:
            accounts.set_role(args.name, wanted, found.id)
    return {"name": args.name, "role": args.role, "dataset": args.dataset}


def off(args: argparse.Namespace) -> dict[str, Any]:
    accounts.switch_off(args.name)
    return {"off": args.name}


def on(args: argparse.Namespace) -> dict[str, Any]:
    accounts.switch_on(args.name)
    return {"on": args.name}


def sign_out(args: argparse.Namespace) -> dict[str, Any]:
    return {"name": args.name, "sessions_ended": accounts.sign_out(args.name)}


def remove(args: argparse.Namespace) -> dict[str, Any]:
    accounts.remove(args.name)
    return {"removed": args.name}
