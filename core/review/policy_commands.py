"""The verb of policies on the command line: write, list, show, activate, off."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from core.data import policies
from core.data.commands import find_dataset
from core.data.policies import Policy
from core.metrics import Share
from core.review import bands, policy, promise, validation
from core.runs import runs
from core.terminal import BadArgument, Verbs, pairs, say
from core.types import now

SHARES = ("blind", "second", "known", "audit")


def add(verbs: Verbs) -> None:
    p = verbs.add_parser("policy", help="which pictures pass, which a person is asked about, which are blocked")
    acts = p.add_subparsers(required=True, metavar="ACT")

    w = acts.add_parser("write", help="store a version; it changes nothing until it is made active")
    w.add_argument("run")
    w.add_argument("--name", required=True, help="what it is for")
    w.add_argument(
        "--block", action="append", default=[], metavar="CLASS=LOWER,UPPER", required=True,
        help="a class to be blocked, with two thresholds on its probability; without UPPER nothing is blocked without a person",
    )  # fmt: skip
    w.add_argument(
        "--at-most", action="append", default=[], metavar="CLASS=PERCENT", help="choose its lower threshold so that no larger share passes"
    )
    w.add_argument("--kind", choices=("on average", "19 of 20"), default="on average", help="how sure --at-most is")
    for name in SHARES:
        w.add_argument(f"--{name}", type=float, metavar="SHARE", help=f"default: {getattr(policy.Rules, name):g}")
    w.add_argument("--benign", type=int, help=f"one in so many dealt is the least risky; default: {policy.Rules.benign}, 0: none")
    w.add_argument("--overdue-hours", type=float, help=f"what waits longer goes first; default: {policy.Rules.overdue_hours:g}")
    w.add_argument("--reason", action="append", default=[], metavar="CLASS=TEXT", help="a reason to be chosen with a decision")
    w.set_defaults(verb=write)

    one = acts.add_parser("list", help="the versions of a dataset, newest first, and what was made active when")
    one.add_argument("dataset")
    one.set_defaults(verb=list_)
    for name, verb, text in (
        ("show", show, "one version, and what it does with its run's validation images"),
        ("activate", activate, "sort what comes from now on by a version"),
        ("off", off, "sort by it no more"),
    ):
        one = acts.add_parser(name, help=text)
        one.add_argument("policy", type=int, metavar="NUMBER", help="its id, which write and list tell")
        one.set_defaults(verb=verb)
        if name == "activate":
            one.add_argument("--shadow", action="store_true", help="only note what it would do beside the active one")


def _limits(text: str) -> bands.Limits:
    try:
        lower, *upper = (float(part) for part in text.split(","))
        return bands.Limits(lower, upper[0] if upper else None)
    except ValueError:
        raise BadArgument(f"“{text}” is not LOWER,UPPER, such as 0.05,0.9.") from None


def _percent(text: str) -> float:
    try:
        return float(text.rstrip("%")) / 100
    except ValueError:
        raise BadArgument(f"“{text}” is not a share in percent.") from None


def write(args: argparse.Namespace) -> dict[str, Any]:
    limits = {name: _limits(text) for name, text in pairs(args.block).items()}
    most = {name: _percent(text) for name, text in pairs(args.at_most).items()}
    run = runs.load(runs.folder(args.run))
    told = {}
    for name, share in most.items():
        if name not in limits:
            raise BadArgument(f"--at-most names “{name}”, which --block does not.")
        held = validation.of(args.run)
        if name not in held.classes:
            raise BadArgument(f"The run has no class “{name}”. Its classes are: {', '.join(held.classes)}.")
        kept = promise.promise(name, held.scores(name), held.ids_of(name), share, args.kind)
        upper = limits[name].upper
        limits[name] = bands.Limits(kept.threshold if upper is None else min(kept.threshold, upper), upper)
        told[name] = {"threshold": limits[name].lower, "at_most": share, "kind": kept.kind, "passed": _share(kept.passed)}
    reasons: dict[str, tuple[str, ...]] = {}
    for pair in args.reason:
        for name, text in pairs([pair]).items():
            reasons[name] = (*reasons.get(name, ()), text)
    given = {name: value for name in (*SHARES, "benign", "overdue_hours") if (value := getattr(args, name)) is not None}
    made = policy.write(run.dataset_id, args.run, args.name, policy.Rules(limits=limits, reasons=reasons, promises=most, **given))
    say(f"Stored as No. {made.id}. It changes nothing until: python -m core policy activate {made.id}")
    return _version(made, policies.kinds(made.dataset_id)) | ({"promises": told} if told else {})


def list_(args: argparse.Namespace) -> dict[str, Any]:
    dataset_id = find_dataset(args.dataset)
    kinds = policies.kinds(dataset_id)
    acts = [{"policy": one, "became": kind, "by": by, "at": at} for one, kind, by, at in policies.history(dataset_id)]
    return {"dataset": args.dataset, "policies": [_version(one, kinds) for one in policies.of(dataset_id)], "history": acts}


def show(args: argparse.Namespace) -> dict[str, Any]:
    one = policies.get(args.policy)
    found = _version(one, policies.kinds(one.dataset_id))
    if policy.is_gone(one):
        return found
    held, timed = validation.of(one.run_id), policy.pace(one.dataset_id)
    load = bands.workload(held.probabilities, held.truth, held.classes, policy.today(one).limits, timed[0] if timed else None)
    wrong = {name: _share(share) for name, share in load.wrongly_passed.items()}
    shares = {name: _share(getattr(load, name)) for name in ("passed", "asked", "blocked", "wrongly_blocked")}
    return found | {
        "validation": {"n": load.n, **shares, "wrongly_passed": wrong, "minutes_per_1000": load.minutes and asdict(load.minutes)}
    }


def activate(args: argparse.Namespace) -> dict[str, Any]:
    return _set(args.policy, "shadow" if args.shadow else "active")


def off(args: argparse.Namespace) -> dict[str, Any]:
    return _set(args.policy, "off")


def _set(policy_id: int, kind: policies.Kind) -> dict[str, Any]:
    policy.activate(policy_id, kind)
    one = policies.get(policy_id)
    return _version(one, policies.kinds(one.dataset_id)) | {"since": now()}


def _version(one: Policy, kinds: dict[int, policies.Kind]) -> dict[str, Any]:
    said = policy.as_json(policy.today(one))
    del said["salt"]  # who knows it can tell which pictures are watched
    remarks: Sequence[policy.Remark] = policy.remarks(one)
    return {
        "id": one.id, "name": one.name, "run": one.run_id, "by": one.by, "at": one.at, "is": kinds.get(one.id, "off"), **said,
        "remarks": [f"{remark.text} {remark.todo}" for remark in remarks],
    }  # fmt: skip


def _share(share: Share) -> dict[str, Any]:
    interval = share.interval
    return {"k": share.k, "n": share.n, "value": share.value, "interval": [interval.low, interval.high] if interval else None}
