"""The verbs of training on the command line."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import Any

from core.catalog import networks, params
from core.data.commands import find_dataset
from core.errors import Invalid
from core.settings import settings
from core.terminal import BadArgument, Verbs, pairs, progress, progress_ended, say
from core.train import finder, train
from core.types import RunConfig


def add(verbs: Verbs) -> None:
    p = verbs.add_parser("train", help="train a network on a dataset")
    p.add_argument("--dataset", required=True)
    p.add_argument("--architecture", required=True, help=", ".join(networks.ARCHITECTURES))
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=", ".join(x.name for x in params.TRAIN_PARAMS))
    p.add_argument("--wait", action="store_true", help="return when the run has ended")
    p.set_defaults(verb=train_)

    p = verbs.add_parser("finder", help="find a learning rate: a short trial in which it rises")
    p.add_argument("--dataset", required=True)
    p.add_argument("--architecture", required=True, help="as of train")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of train")
    p.set_defaults(verb=finder_)

    p = verbs.add_parser("runs", help="list the runs, newest first")
    p.add_argument("--dataset")
    p.set_defaults(verb=list_runs)


def train_(args: argparse.Namespace) -> dict[str, Any]:
    run = train.start(find_dataset(args.dataset), settings_of(args), settings().user)
    if args.wait:
        state = train.wait(run.id, lambda now: progress(now.epoch, now.epochs, "Epoch"))
        progress_ended()
    else:
        state = train.state(run.id)
    if state.message:
        say(state.message)
    return {"run": run.id, "status": state.status, "best_epoch": state.best_epoch, "seconds": state.seconds}


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The values of --architecture and --set, checked."""
    values: dict[str, Any] = {"architecture": args.architecture, **pairs(args.set)}
    try:
        params.run_config(values)
    except Invalid as e:
        raise BadArgument(str(e)) from None
    return values


def finder_(args: argparse.Namespace) -> dict[str, Any]:
    find_id = finder.start(find_dataset(args.dataset), settings_of(args), settings().user)
    while (found := finder.state(find_id)).active:
        progress(found.done, finder.steps(found.config), "Step")
        time.sleep(0.25)
    progress_ended()
    if found.message:
        say(found.message)
    curve = {} if found.curve is None else asdict(found.curve)
    return {"dataset": args.dataset, "status": found.status, **curve}


def list_runs(args: argparse.Namespace) -> list[dict[str, Any]]:
    def line(state: train.RunState) -> dict[str, Any]:
        config: RunConfig = state.run.config
        best = state.best
        return {
            "run": state.run.id,
            "name": state.run.name,
            "dataset": state.run.dataset_name,
            "architecture": config.architecture,
            "status": state.status,
            "best_epoch": state.best_epoch,
            "validation": None
            if best is None
            else {"n": state.run.counts["validation"], "loss": best.val_loss, "accuracy": best.val_accuracy},
            "seconds": state.seconds,
            "created_at": state.run.created_at,
        }

    return [line(s) for s in train.list_runs(find_dataset(args.dataset) if args.dataset else None)]
