"""The verbs of the queue on the command line: what comes in, what waits, decisions, the audit, reports and statements."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from core import roles
from core.data import images, queue
from core.data.commands import find_dataset
from core.data.sources import Entry
from core.errors import Invalid
from core.review import audit, batch, predict, report, review, taken
from core.review.slipped import Recall, Slipped
from core.runs import runs
from core.settings import settings
from core.terminal import BadArgument, Verbs, progress, progress_ended, say, write

STATES: tuple[queue.State, ...] = get_args(queue.State)


def add(verbs: Verbs) -> None:
    p = verbs.add_parser("submit", help="predict files and sort them into Review, as the active policy says")
    p.add_argument("run")
    p.add_argument("files", nargs="+", type=Path, help="pictures, or folders of pictures")
    p.add_argument("--ask", action="store_true", help="have a person asked about all of them, whatever the policy says")
    p.set_defaults(verb=submit)

    p = verbs.add_parser("queue", help="count and list what is in Review")
    p.add_argument("name", help="the dataset")
    p.add_argument("--state", choices=STATES, action="append", default=[], help="what waits, if no state is named")
    p.add_argument("--text", default="", help="part of the file name, or the beginning of the hash")
    p.add_argument("--sort", choices=sorted(queue.SORTS), default="least certain")
    p.add_argument("--limit", type=int, default=50)
    p.set_defaults(verb=queue_)

    p = verbs.add_parser("decide", help="decide on one item of Review")
    p.add_argument("item", type=int, help="its number, as queue lists it")
    choice = p.add_mutually_exclusive_group(required=True)
    choice.add_argument("--accept", action="store_true", help="the network's answer is right")
    choice.add_argument("--label", metavar="CLASS", help="it is this class")
    choice.add_argument("--none", action="store_true", help="it is none of the classes")
    choice.add_argument("--escalate", metavar="NOTE", help="a lead is to decide; say why")
    choice.add_argument("--undo", action="store_true", help="take the last decision on it back")
    p.add_argument("--note", default="")
    p.add_argument("--reason", default="")
    p.add_argument("--sure", action="store_true", help="also where that changes the label of a test image")
    p.set_defaults(verb=decide)

    p = verbs.add_parser("audit-sample", help="what is drawn for the audit, and what it says slipped through")
    p.add_argument("name", help="the dataset")
    p.add_argument("--days", type=int, default=7)
    p.set_defaults(verb=audit_sample)

    p = verbs.add_parser("review-report", help="a day or a week of Review in one HTML file")
    p.add_argument("name", help="the dataset")
    p.add_argument("span", choices=sorted(report.DAYS))
    p.add_argument("--out", type=Path, required=True)
    p.set_defaults(verb=review_report)

    p = verbs.add_parser("statements", help="statements of reasons of all decisions, without personal data")
    p.add_argument("name", help="the dataset")
    p.add_argument("--since", default="", help="a day, as 2026-11-01")
    p.add_argument("--until", default="", help="a day, which is not included")
    p.add_argument("--category", default="", help="the same for all, such as STATEMENT_CATEGORY_SCOPE_OF_PLATFORM_SERVICE")
    p.add_argument("--territory", default="", help="country codes, such as AT,DE")
    p.add_argument("--out", type=Path, required=True, help="a file that ends in .csv or .jsonl")
    p.set_defaults(verb=statements_)


def submit(args: argparse.Namespace) -> dict[str, Any]:
    dataset_id = runs.load(runs.folder(args.run)).dataset_id
    by = roles.allow("ask", dataset_id).name
    files, failed, states, done = _files(args.files), list[dict[str, str]](), Counter[str](), 0

    def note(failure: predict.Failure) -> None:
        failed.append({"file": failure.file, "error": failure.message})

    pictures = batch.kept((Entry(file.name, path=file) for file in files), note, {})
    for found, n in batch.answered(args.run, pictures, dataset_id, note, again=True):
        if args.ask:
            states.update("waiting" if review.submit(dataset_id, args.run, one, by, "folder") else "there already" for one in found)
        else:
            states.update(review.keep(dataset_id, args.run, found, by, "folder"))
        done += n
        progress(done, len(files), "Predicting")
    progress_ended()
    for problem in failed:
        say(f"{problem['file']}: {problem['error']}")
    if len(failed) == len(files):
        raise Invalid("None of the files could be predicted.", f"Allowed are {images.ALLOWED}.")
    return {"run": args.run, "files": len(files), "states": dict(states), "failed": failed}


def _files(given: list[Path]) -> list[Path]:
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = (one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
            found += sorted(one for one in inside if one.suffix.lower().lstrip(".") in images.EXTENSIONS)
        else:
            found.append(path)
    if not found:
        raise BadArgument(f"There is no picture in {', '.join(map(str, given))}. Allowed are {images.ALLOWED}.")
    return found


def queue_(args: argparse.Namespace) -> dict[str, Any]:
    dataset_id = find_dataset(args.name)
    which = queue.Which(tuple(args.state) or queue.OURS, args.text)
    found = review.browse(dataset_id, which, args.sort, limit=args.limit)
    fields = ("id", "name", "state", "predicted", "probability", "risk", "band", "run_id", "at", "verdict", "label", "decided_at")
    return {
        "dataset": args.name,
        "counts": queue.counts(dataset_id),
        "waiting": queue.queue_length(dataset_id),
        "matching": queue.count(dataset_id, which),
        "items": [{name: getattr(one, name) for name in fields} for one in found],
    }


def decide(args: argparse.Namespace) -> dict[str, Any]:
    dataset_id = queue.get(args.item).dataset_id
    by = roles.allow("decide", dataset_id).name
    if args.undo:
        review.reopen(args.item, by)
        return {"item": args.item, "state": queue.get(args.item).state}
    verdict: queue.Verdict
    verdict = "accepted" if args.accept else "rejected" if args.none else "escalated" if args.escalate is not None else "corrected"
    note = args.escalate if args.escalate is not None else args.note
    done = review.decide(args.item, verdict, args.label, by, args.sure, note=note, reason=args.reason)
    return {"item": args.item, "state": done.state, "label": done.label, "decision": done.seq}


def audit_sample(args: argparse.Namespace) -> dict[str, Any]:
    dataset_id = find_dataset(args.name)
    if args.days < 1:
        raise BadArgument(f"{args.days} days are no time to look at.")
    end = datetime.now(UTC)
    since, until = ((end - timedelta(days=n)).isoformat(timespec="milliseconds") for n in (args.days, 0))
    found = audit.of(dataset_id, since, until)
    waits = queue.browse(dataset_id, queue.Which(("audit",)), "oldest", limit=1000)

    def strata(one: Slipped | None) -> list[dict[str, Any]]:
        return [] if one is None else [asdict(stratum) for stratum in one.strata]

    def estimate(one: Slipped | Recall | None) -> dict[str, Any] | None:
        return None if one is None else {"value": one.value, "low": one.low, "high": one.high, "n": one.n}

    return {
        "dataset": args.name,
        "since": since,
        "until": until,
        "passed": found.passed,
        "blocked": found.blocked,
        "asked": found.asked,
        "audited": len(found.looked),
        "wrongly_passed": estimate(found.any),
        "found": list(found.found),
        "wrongly_blocked": {"k": found.wrongly_blocked.k, "n": found.wrongly_blocked.n},
        "classes": [
            {"class": one.name, "wrongly_passed": estimate(one.slipped), "recall": estimate(one.recall), "strata": strata(one.slipped)}
            for one in found.by_class
        ],
        "to_audit": [{"id": one.id, "name": one.name, "at": one.at} for one in waits],
    }


def review_report(args: argparse.Namespace) -> dict[str, Any]:
    found, page = taken.review_report(find_dataset(args.name), args.span, settings().user)
    write(args.out, page.encode())
    return {**report.as_json(found), "out": str(args.out)}


def statements_(args: argparse.Namespace) -> dict[str, Any]:
    form: taken.Form = "csv" if args.out.suffix.lower() == ".csv" else "jsonl"
    if args.out.suffix.lower() != f".{form}":
        raise BadArgument(f"{args.out} ends in neither .csv nor .jsonl.")
    for day in (args.since, args.until):
        try:
            datetime.fromisoformat(day or "2026-01-01")
        except ValueError:
            raise BadArgument(f"“{day}” is not a day. Write it as 2026-11-01.") from None
    when = (args.since, args.until or "9999")
    rows, text = taken.statements_of_reasons(find_dataset(args.name), form, settings().user, *when, args.category, args.territory)
    write(args.out, text.encode())
    return {
        "dataset": args.name,
        "statements": len(rows),
        "restrictions": sum(bool(row["decision_visibility"]) for row in rows),
        "out": str(args.out),
    }
