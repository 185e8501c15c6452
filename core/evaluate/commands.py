"""The verbs of evaluation on the command line."""

from __future__ import annotations

import argparse
from typing import Any

from core.evaluate import compare, evaluate
from core.runs import openings
from core.settings import settings
from core.terminal import Verbs
from core.train import train


def add(verbs: Verbs) -> None:
    p = verbs.add_parser("evaluate", help="metrics of a run, each with n and a 95%% interval")
    p.add_argument("run")
    p.add_argument("--split", choices=("validation", "test"), default="validation")
    p.set_defaults(verb=evaluate_)

    p = verbs.add_parser("compare", help="two to six runs: what differs, metrics with intervals, and who is right on the same images")
    p.add_argument("runs", nargs="+", metavar="RUN")
    p.add_argument("--split", choices=("validation", "test"), default="validation")
    p.set_defaults(verb=compare_)


def evaluate_(args: argparse.Namespace) -> dict[str, Any]:
    found = evaluate.evaluate(args.run, args.split)
    if args.split == "test":
        openings.record(args.run, settings().user)
    return evaluate.as_json(found)


def compare_(args: argparse.Namespace) -> dict[str, Any]:
    found = compare.chosen(args.runs)
    answer = compare.as_json(found, [evaluate.evaluate(run.id, args.split) for run in found])
    if args.split == "test":
        for run in found:
            openings.record(run.id, settings().user)
    for state in (train.state(run.id) for run in found):
        answer["runs"][state.run.id] |= {"best_epoch": state.best_epoch, "seconds": state.seconds}
    return answer
