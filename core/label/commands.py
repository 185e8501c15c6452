"""The verbs of labelling on the command line."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import Any

from core.data.commands import find_dataset
from core.label import embed, teach
from core.settings import settings
from core.terminal import Verbs, progress, progress_ended, say

JOBS = (embed.EMBED,)


def add(verbs: Verbs) -> None:
    p = verbs.add_parser("embed", help="look at a dataset's images: the map, near duplicates, image quality")
    p.add_argument("name", help="the dataset")
    p.set_defaults(verb=embed_)

    p = verbs.add_parser("teach", help="learn from a dataset's labels so far, on what embed found")
    p.add_argument("name", help="the dataset")
    p.set_defaults(verb=teach_)


def embed_(args: argparse.Namespace) -> dict[str, Any]:
    dataset_id = find_dataset(args.name)
    embed.start(dataset_id, settings().user)
    said = None
    while (state := embed.state(dataset_id)) is not None and state.status == "running":
        if state.what and (state.what, state.done) != said:
            said = (state.what, state.done)
            progress(state.done, state.total, state.what)
        time.sleep(0.25)
    assert state is not None
    progress_ended()
    if state.message:
        say(f"{state.message} {state.hint}")
    found = embed.latest(dataset_id)
    groups = 0 if found is None else int(found.group.max(initial=-1)) + 1
    facts = {"images": state.done, "near_duplicate_groups": groups, "crossing_splits": embed.crossing(dataset_id)}
    return {"dataset": args.name, "status": state.status, **(facts if state.status == "done" else {})}


def teach_(args: argparse.Namespace) -> dict[str, Any]:
    lesson = teach.teach(find_dataset(args.name), settings().user)
    accuracy = lesson.accuracy
    return {"dataset": args.name, **asdict(lesson), "accuracy": None if accuracy is None else asdict(accuracy)}
