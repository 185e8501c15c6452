"""The verbs of the HTTP API on the command line: tokens."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from core import roles
from core.data import deliveries, store, tokens
from core.data.commands import find_dataset
from core.data.tokens import Token
from core.settings import settings
from core.terminal import Verbs, say


def add(verbs: Verbs) -> None:
    p = verbs.add_parser("token", help="let other programs ask over HTTP: make, list and revoke tokens")
    acts = p.add_subparsers(required=True, metavar="ACT")

    p = acts.add_parser("add", help="make a token; its secret is shown this once")
    p.add_argument("name", help="says who uses it, and stands beside what is done with it")
    p.add_argument("--role", required=True, choices=roles.ROLES)
    p.add_argument("--dataset", action="append", metavar="NAME", help="only this dataset; may be given several times")
    p.add_argument("--expires", type=int, metavar="DAYS", help="without it the token lasts until it is revoked")
    p.add_argument("--rate", default=tokens.RATE, help=f"how often it may ask, such as 60/minute; {tokens.RATE} if left out")
    p.set_defaults(verb=add_token)

    p = acts.add_parser("list", help="all tokens, without their secrets")
    p.set_defaults(verb=list_tokens)

    p = acts.add_parser("revoke", help="end a token at once")
    p.add_argument("name")
    p.set_defaults(verb=revoke)

    p = verbs.add_parser("webhooks", help="where decisions and ended runs are told, and what still waits")
    p.add_argument("--again", metavar="NAME", help="send once more what was given up at this one")
    p.set_defaults(verb=webhooks)


def add_token(args: argparse.Namespace) -> dict[str, Any]:
    only = None if args.dataset is None else [find_dataset(name) for name in args.dataset]
    made, secret = tokens.add(args.name, args.role, only, args.expires, args.rate)
    say("Keep the token now: it is shown this once, and stored nowhere.")
    return {"token": secret, **_shown(made)}


def list_tokens(args: argparse.Namespace) -> list[dict[str, Any]]:
    return [_shown(one) for one in tokens.listed()]


def revoke(args: argparse.Namespace) -> list[dict[str, Any]]:
    tokens.revoke(args.name)
    return [_shown(one) for one in tokens.listed() if one.name == args.name]


def webhooks(args: argparse.Namespace) -> dict[str, Any]:
    if args.again is not None:
        many = deliveries.send_again(args.again)
        say(f"{many:,} {'is' if many == 1 else 'are'} sent again by the server that runs." if many else "Nothing was given up there.")
    found, listed = deliveries.standing(), settings().webhooks
    return {"webhooks": [{"name": name, "address": listed[name], **(asdict(found[name]) if name in found else {})} for name in listed]}


def _shown(one: Token) -> dict[str, Any]:
    names = None if one.datasets is None else [store.get_dataset(i).name for i in one.datasets]
    facts = {"made_by": one.made_by, "made_at": one.made_at, "expires_at": one.expires_at}
    return {"name": one.name, "role": one.role, "datasets": names, "rate": one.rate, "state": one.state, **facts}
