"""The verbs of explanation on the command line."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from core.catalog import methods
from core.data import store
from core.errors import AppError, Invalid, NotFound
from core.explain import explain, patterns, trust
from core.runs import runs
from core.settings import settings
from core.terminal import BadArgument, Verbs, pairs, progress, progress_ended, write

JOBS = (patterns.PATTERNS,)


def add(verbs: Verbs) -> None:
    p = verbs.add_parser("explain", help="an attribution map of one image")
    p.add_argument("run")
    p.add_argument("image", help="a file, or the id of an image of the run's dataset")
    p.add_argument("--method", required=True, help=", ".join(methods.METHODS))
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="the method's own settings, such as steps=64")
    p.add_argument("--target", help="the class to explain; default: the likeliest")
    p.add_argument("--trust", action="store_true", help="also check how far the map can be trusted, which takes longer")
    p.add_argument("--out", type=Path, required=True)
    p.set_defaults(verb=explain_)

    p = verbs.add_parser("patterns", help="what a run looks for over many images, and whether it reads a class from a watermark or a frame")
    p.add_argument("run")
    p.add_argument("--split", default="validation", choices=("validation", "train"))
    p.add_argument("--each", type=int, default=patterns.EACH, help="images of a class")
    p.add_argument("--method", default="", help="an attribution method; default: a fast one that the network supports")
    p.set_defaults(verb=patterns_)


def explain_(args: argparse.Namespace) -> dict[str, Any]:
    if args.method not in methods.METHODS:
        raise BadArgument(f"There is no method called “{args.method}”. Methods are: {', '.join(methods.METHODS)}.")
    file = Path(args.image)
    if not file.exists():
        run = runs.load(runs.folder(args.run))
        try:
            file = settings().images / store.get_image(run.dataset_id, args.image).path
        except NotFound:
            raise NotFound(f"“{args.image}” is neither a file nor the id of an image of {run.dataset_name}.") from None
    try:
        chosen = explain.settings_of(args.run, args.method, pairs(args.set))
    except Invalid as e:
        raise BadArgument(str(e)) from None
    asked = explain.ask(args.run, file.resolve(), args.method, args.target, chosen)
    follow(asked, "Passes through the network")
    found = explain.answer(asked)
    write(args.out, explain.overlay_png(found))
    checks = {}
    if args.trust:
        asked = trust.ask(args.run, file.resolve(), args.method, found.target, chosen)
        follow(asked, "Checks (of 1,000 parts)")
        checks["trust"] = {f.name: {"mark": f.mark, "figure": f.figure, "words": f.words} for f in trust.findings(trust.answer(asked))}
    facts = {"target": found.target, "probability": found.probability, "delta": found.delta, "change": found.change, "notes": found.notes}
    return {"method": found.method, "settings": chosen, **facts, **checks, "out": str(args.out)}


def follow(asked: explain.Asked, what: str) -> None:
    while not asked.done:
        done, total = explain.progress(asked)
        if total:
            progress(done, total, what)
        time.sleep(0.25)
    progress_ended()


def patterns_(args: argparse.Namespace) -> dict[str, Any]:
    patterns.start(args.run, settings().user, split=args.split, each=args.each, method=args.method)
    while (state := patterns.state(args.run)) is not None and state.status == "running":
        progress(state.done, state.total, state.what)
        time.sleep(0.2)
    found = patterns.latest(args.run)
    if state is None or state.status != "done" or found is None:
        raise AppError(state.message if state else "The look ended without a word.", state.hint if state else "Start it again.")
    return patterns.as_json(found)
