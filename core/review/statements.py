"""Statements of reasons: a row per decision with the fields of the Digital Services Act's, without anything about a person."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence

from core import roles
from core.data import decisions, events, policies, routed
from core.data.events import Names
from core.data.formats.spreadsheet import cell
from core.data.queue import FINAL, Decision, Submission
from core.review import policy
from core.review.measures import answer

# https://transparency.dsa.ec.europa.eu/page/api-documentation names the fields and their words.
FIELDS = (
    "puid",
    "decision_visibility",
    "decision_ground",
    "incompatible_content_ground",
    "incompatible_content_explanation",
    "category",
    "content_type",
    "content_date",
    "application_date",
    "territorial_scope",
    "decision_facts",
    "source_type",
    "automated_detection",
    "automated_decision",
)
REMOVED, GROUND = "DECISION_VISIBILITY_CONTENT_REMOVED", "DECISION_GROUND_INCOMPATIBLE_CONTENT"
Row = Mapping[str, str]


class _Policies:
    """Rules by policy, read once each; the classes by their names of today."""

    def __init__(self, words: Names) -> None:
        self.words, self.read = words, dict[int, tuple[str, policy.Rules, dict[str, str]]]()

    def blocks(self, policy_id: int | None, name: str | None) -> tuple[str, tuple[str, ...]] | None:
        """The policy's name and the reasons it has for the class, if it is to be blocked."""
        if policy_id is None or name is None:
            return None
        if policy_id not in self.read:
            found = policies.get(policy_id)
            said = policy.rules(found)
            self.read[policy_id] = found.name, said, {self.words.since(one, found.at): one for one in {*said.limits, *said.reasons}}
        title, said, then = self.read[policy_id]
        own = then.get(name, name)
        return (title, tuple(said.reasons.get(own, ()))) if own in said.limits else None

    def blocked(self, policy_id: int, predicted: str) -> tuple[str | None, tuple[str, tuple[str, ...]]]:
        """What a policy blocked a picture as: the likeliest class if it is one to be blocked, else the only such class, else any."""
        if found := self.blocks(policy_id, predicted):
            return predicted, found
        title, said, then = self.read[policy_id]
        only = [one for one, own in then.items() if own in said.limits]
        return (only[0], (title, tuple(said.reasons.get(then[only[0]], ())))) if len(only) == 1 else (None, (title, ()))


@roles.needs("lead")
def statements(dataset_id: int, since: str = "", until: str = "9999", category: str = "", territory: str = "") -> list[Row]:
    """One row for each decision that counted, by people and by the policy alone, oldest first.

    since, until: UTC, ISO 8601, the end not included. category and territory (country codes): the same for all, in the words of the
    database, which Loupe cannot know. What is allowed has no decision_visibility: nothing was restricted. Reasons are those that a policy
    lists for its classes; notes and free reasons stay out, for they may name people, and so do names of files and of whoever decided.
    """
    roles.allow("export", dataset_id)
    words = events.names(dataset_id)
    rules = _Policies(words)
    fixed = {"category": category, "territorial_scope": territory, "content_type": "CONTENT_TYPE_IMAGE", "source_type": "SOURCE_VOLUNTARY"}
    rows: list[tuple[str, Row]] = []
    for one, item in _counted(dataset_id):
        if not since <= one.at < until:
            continue
        said = answer(one.verdict, one.label)
        name = None if said is None or one.verdict == "rejected" else words.since(said, one.at)
        how = "AUTOMATED_DECISION_PARTIALLY" if one.hint else "AUTOMATED_DECISION_NOT_AUTOMATED"
        detected = "Yes" if item.band in ("ask", "block") else "No"
        facts = f"A person decided that the picture is {f'“{name}”' if name else 'of none of the classes'}."
        made = _row(rules.blocks(one.policy_id, name), name, one.reason, facts) | {
            "puid": f"loupe-{dataset_id}-{item.id}-{one.seq}", "content_date": item.at[:10], "application_date": one.at[:10],
            "automated_detection": detected, "automated_decision": how,
        }  # fmt: skip
        rows.append((one.at, made | fixed))
    for sorted_ in routed.routed(dataset_id, since, until):
        if sorted_.band == "block" and (sorted_.state in ("blocked", "audit") or sorted_.audited):
            name, blocks = rules.blocked(sorted_.policy_id, words.since(sorted_.predicted, sorted_.at))
            facts = f"The network found the picture to be {f'“{name}”' if name else 'of a class to be blocked'}; a policy blocked it without a person."
            made = _row(blocks, name, "", facts) | {
                "puid": f"loupe-{dataset_id}-{sorted_.id}-0", "content_date": sorted_.at[:10], "application_date": sorted_.at[:10],
                "automated_detection": "Yes", "automated_decision": "AUTOMATED_DECISION_FULLY",
            }  # fmt: skip
            rows.append((sorted_.at, made | fixed))
    return [{name: row[name] for name in FIELDS} for _, row in sorted(rows, key=lambda pair: pair[0])]


def _row(blocks: tuple[str, tuple[str, ...]] | None, name: str | None, reason: str, facts: str) -> dict[str, str]:
    if blocks is None:
        empty = ("decision_visibility", "decision_ground", "incompatible_content_ground", "incompatible_content_explanation")
        return {**dict.fromkeys(empty, ""), "decision_facts": facts}
    title, reasons = blocks
    given = reason if reason in reasons else "; ".join(reasons)
    return {
        "decision_visibility": REMOVED,
        "decision_ground": GROUND,
        "incompatible_content_ground": f"Policy “{title}”" + (f", class “{name}”" if name else ""),
        "incompatible_content_explanation": given,
        "decision_facts": facts,
    }


def _counted(dataset_id: int) -> Iterable[tuple[Decision, Submission]]:
    """The decisions that an item was final by, also those that an appeal changed later."""
    held: dict[int, tuple[Submission, list[Decision]]] = {}
    for one, item in decisions.made(dataset_id):
        held.setdefault(item.id, (item, []))[1].append(one)
    for item, some in held.values():
        last: Decision | None = None
        for one in reversed(some):  # oldest first
            if one.verdict == "appealed" and last is not None:
                yield last, item
                last = None
            elif one.verdict in FINAL and one.stage != "known":
                last = one
        if last is not None and item.state == "decided":
            yield last, item


def as_csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    table = csv.DictWriter(out, FIELDS, lineterminator="\n")
    table.writeheader()
    table.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def as_jsonl(rows: Sequence[Row]) -> str:
    """One JSON object per line."""
    return "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)
