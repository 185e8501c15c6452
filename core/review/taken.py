"""Predictions, reports and statements taken out as files: for who may export, and each time with an entry in the audit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from core import roles
from core.data import audit
from core.data.formats.spreadsheet import cell
from core.data.queue import Which
from core.review import report, review, statements
from core.review.predict import UNSURE
from core.review.report import Report, Span
from core.runs import runs
from core.types import Prediction

Form = Literal["csv", "jsonl"]
Line = Mapping[str, Any]
MOST = 100_000  # lines of a file


def lines(answers: Sequence[Prediction]) -> list[Line]:
    """One per picture: answer, probability, then every class."""
    framed = any(one.frames for one in answers)
    return [
        {
            "file": one.file, "predicted": one.top(1)[0][0], "probability": one.top(1)[0][1], "unsure": one.top(1)[0][1] < UNSURE,
            **({"frame": one.frame} if framed else {}),
            **{f"p({name})": p for name, p in zip(one.classes, one.probabilities, strict=True)},
        }
        for one in answers
    ]  # fmt: skip


@runs.needs("export")
def predictions(run_id: str, answers: Sequence[Prediction], by: str) -> str:
    """What a run has just answered, as CSV."""
    dataset_id = runs.load(runs.folder(run_id)).dataset_id
    audit.note("export.predictions", on={"dataset": dataset_id, "run": run_id}, after={"format": "csv", "pictures": len(answers)}, by=by)
    return _csv(lines(answers))


@roles.needs("export")
def stored(dataset_id: int, which: Which, sort: str, form: Form, by: str) -> str:
    """What was predicted of a dataset's pictures so far."""
    found = review.browse(dataset_id, which, sort, 0, MOST)
    rows: list[Line] = [
        {
            "file": one.name, "id": one.image_id, "run": one.run_id, "predicted": one.predicted, "probability": one.probability,
            "band": one.band or "", "state": one.state, "decision": one.label or "", "at": one.at,
            **{f"p({name})": p for name, p in one.probabilities.items()},
        }
        for one in found
    ]  # fmt: skip
    only = {name: value for name, value in asdict(which).items() if value}
    audit.note("export.predictions", on={"dataset": dataset_id}, after={"format": form, "pictures": len(rows), "only": only}, by=by)
    return _csv(rows) if form == "csv" else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@roles.needs("export")
def review_report(dataset_id: int, span: Span, by: str) -> tuple[Report, str]:
    """The figures of a day or a week, and their page."""
    found = report.report(dataset_id, span)
    audit.note("export.report", on={"dataset": dataset_id}, after={"span": span, "since": found.since, "until": found.until}, by=by)
    return found, report.page(found)


@roles.needs("export")
def statements_of_reasons(
    dataset_id: int, form: Form, by: str, since: str = "", until: str = "9999", category: str = "", territory: str = ""
) -> tuple[list[statements.Row], str]:
    """The rows, and their file."""
    rows = statements.statements(dataset_id, since, until, category, territory)
    audit.note("export.statements", on={"dataset": dataset_id}, after={"format": form, "rows": len(rows), "since": since}, by=by)
    return rows, statements.as_csv(rows) if form == "csv" else statements.as_jsonl(rows)


def _csv(rows: Sequence[Line]) -> str:
    """Names of files and classes are people's words, and a spreadsheet must not compute them."""
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writerow({name: cell(name) for name in names})
    for row in rows:
        writer.writerow({name: cell(value) if isinstance(value, str) else value for name, value in row.items()})
    return out.getvalue()
