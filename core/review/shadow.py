"""What the policy in the shadow would have done with what came since, beside what the active one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core import storage
from core.data import events, policies, uploads
from core.data.policies import Answered, Policy
from core.data.sources import Source
from core.errors import Invalid
from core.review import bands, batch, policy
from core.types import Band

Side = str  # "active" or "shadow"
MOST = 20_000  # pictures that are compared, the newest: 0.9 s


@dataclass(frozen=True, eq=False)
class Beside:
    """Pictures by what both say, newest first, as ids of submissions."""

    since: str  # UTC, ISO 8601: when it was made the shadow
    came: int  # pictures since then
    unasked: int  # of these the shadow's run was not asked about
    cells: Mapping[tuple[Band | None, Band], tuple[int, ...]]  # (active, shadow); None: no policy is active
    wrongly_passed: Mapping[Side, tuple[int, ...]]  # though a person gave a class that the policy is to block
    wrongly_blocked: Mapping[Side, tuple[int, ...]]  # though a person gave another class
    decided: int  # of those compared, how many a person gave a class

    @property
    def compared(self) -> int:
        return sum(map(len, self.cells.values()))


def beside(shadow: Policy, active: Policy | None) -> Beside:
    """Compares them on what both runs have answered since the shadow began, the newest MOST; NotFound if a run was deleted."""
    since = _begun(shadow)
    both = {"shadow": shadow} | ({"active": active} if active else {})
    items = policies.answered(shadow.dataset_id, since, {one.run_id for one in both.values()}, MOST)
    said = {side: _bands(one, items) for side, one in both.items()}
    cells: dict[tuple[Band | None, Band], list[int]] = {}
    for i, item in enumerate(items):
        cells.setdefault((said["active"][i] if active else None, said["shadow"][i]), []).append(item.id)
    words = events.names(shadow.dataset_id)
    given = [words.since(one.label, one.decided_at or since) if one.label is not None else None for one in items]
    wrong: dict[tuple[Side, Band], tuple[int, ...]] = {}
    for side, one in both.items():
        risks = policy.today(one).limits
        judged = [(item.id, band, label in risks) for item, band, label in zip(items, said[side], given, strict=True) if label is not None]
        wrong[side, "pass"] = tuple(i for i, band, risky in judged if band == "pass" and risky)
        wrong[side, "block"] = tuple(i for i, band, risky in judged if band == "block" and not risky)
    return Beside(
        since=since,
        came=policies.came(shadow.dataset_id, since),
        unasked=len(policies.unanswered(shadow.dataset_id, since, shadow.run_id)),
        cells={at: tuple(ids) for at, ids in cells.items()},
        wrongly_passed={side: wrong[side, "pass"] for side in both},
        wrongly_blocked={side: wrong[side, "block"] for side in both},
        decided=sum(label is not None for label in given),
    )


def _begun(shadow: Policy) -> str:
    return next(at for one, kind, _, at in policies.history(shadow.dataset_id) if one == shadow.id and kind == "shadow")


def ask_rest(shadow: Policy, by: str) -> str:
    """Asks the shadow's run, in the background, about what came since and was answered by another; returns the job's id."""
    rest = policies.unanswered(shadow.dataset_id, _begun(shadow), shadow.run_id)[:MOST]
    listed = [uploads.pictures() / f"{image_id}.{ext}" for image_id, ext in rest]
    storage.fetch(listed)
    files = [path for path in listed if path.exists()]
    if not files:
        raise Invalid("The files of these pictures are not stored any more.", "What comes from now on is compared.")
    source = Source("uploads", tuple(map(str, files)), "what came since the shadow began")
    return batch.start(shadow.dataset_id, [shadow.run_id], source, by, "shadow")


def _bands(one: Policy, items: Sequence[Answered]) -> list[Band]:
    said = policy.of_run(one)
    shares = np.array([[item.probabilities[one.run_id].get(name, np.nan) for name in said.limits] for item in items])
    return [bands.BANDS[i] for i in bands.bands(shares.reshape(len(items), len(said.limits)), list(said.limits), said.limits)]
