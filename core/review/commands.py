"""The verbs of prediction on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from core.data import images
from core.errors import Invalid
from core.review import batch, policy_commands, predict, queue_commands
from core.terminal import Verbs, say
from core.types import Prediction

JOBS = (batch.PREDICT,)


def add(verbs: Verbs) -> None:
    p = verbs.add_parser("predict", help="predict files with a run")
    p.add_argument("run")
    p.add_argument("files", nargs="+", type=Path)
    p.set_defaults(verb=predict_)
    policy_commands.add(verbs)
    queue_commands.add(verbs)


def predict_(args: argparse.Namespace) -> list[dict[str, Any]]:
    answers = predict.predict(args.run, [f.resolve() for f in args.files], [str(f) for f in args.files])
    failures = [a for a in answers if isinstance(a, predict.Failure)]
    for failure in failures:
        say(f"{failure.file}: {failure.message} {failure.hint}")
    for answer in answers:
        if isinstance(answer, Prediction) and answer.note:
            say(f"{answer.file}: {answer.note}")
    if len(failures) == len(answers):
        raise Invalid("None of the files could be predicted.", f"Allowed are {images.ALLOWED}.")
    return [
        {"file": a.file, "error": a.message}
        if isinstance(a, predict.Failure)
        else {
            "file": a.file,
            **({"frame": a.frame, "note": a.note} if a.frames else {}),
            "top": [{"label": label, "probability": p} for label, p in a.top(5)],
        }
        for a in answers
    ]
