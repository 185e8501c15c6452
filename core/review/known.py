"""Pictures whose answer is known: mixed in to measure people, and given with the answer to whoever is new."""

from __future__ import annotations

from collections.abc import Sequence

from core import roles
from core.data import decisions, events, queue, store
from core.data.queue import FINAL, Submission
from core.errors import Invalid
from core.review import review
from core.review.measures import NONE, PRACTICE, answer
from core.types import Image, now

WARM_UP = 20  # decisions on known answers until a person is no newcomer any more
MOST = 500  # mixed in at once


@roles.needs("decide")
def there(dataset_id: int) -> int:
    """How many pictures with a known answer are mixed in."""
    return queue.count(dataset_id, queue.Which(("known",), here=True))


@roles.needs("decide")
def answered(dataset_id: int, by: str) -> set[int]:
    """Those of them that a person has decided, in practice too."""
    return decisions.on_known(dataset_id, by)


@roles.needs("decide")
def is_new(dataset_id: int, by: str) -> bool:
    """Whether there is something to practise on for a person who has not decided much of it."""
    return len(answered(dataset_id, by)) < min(WARM_UP, there(dataset_id))


@roles.needs("decide")
def practice(dataset_id: int, by: str) -> Submission | None:
    """The next one to practise on; None when there is none, or the person is no newcomer."""
    done = answered(dataset_id, by)
    if len(done) >= WARM_UP:
        return None
    found = queue.browse(dataset_id, queue.Which(("known",), here=True), limit=len(done) + MOST)
    left = sorted((one for one in found if one.id not in done), key=lambda one: one.image_id)  # by hash: no class comes in a row
    return review.today(left[0]) if left else None


def practise(submission_id: int, said: str, by: str, session: str = "") -> tuple[bool, str]:
    """Stores an answer that measures nobody; whether it is right, and what is."""
    one = queue.get(submission_id)
    roles.allow("decide", one.dataset_id)
    if one.state != "known":
        raise Invalid("The answer of this picture is not known.", "Reload the page.")
    verdict, label = ("rejected", None) if said == NONE else ("corrected", said)
    review.decide(one.id, verdict, label, by, session=session, hint=False, note=PRACTICE)  # type: ignore[arg-type]
    right = one.known if one.known == NONE else events.names(one.dataset_id).since(one.known or "", one.at)
    return said == right, right or NONE


# Mixing in ----------------------------------------------------------------------------------------


def _mixed_in(dataset_id: int) -> set[str]:
    return {one.image_id for one in queue.browse(dataset_id, queue.Which(("known",)), limit=1_000_000)}


@roles.needs("lead")
def test_images(dataset_id: int, n: int) -> list[Image]:
    """Labelled images of the test split that are not mixed in yet, in an order that no class or time has a part in; at most n."""
    here = store.Filter(split="test", labelled=True)
    found = store.browse(dataset_id, here, 0, store.count(dataset_id, here))
    taken = _mixed_in(dataset_id)
    return sorted((one for one in found if one.id not in taken), key=lambda one: one.id)[: min(n, MOST)]


@roles.needs("lead")
def adjudicated(dataset_id: int, n: int) -> list[Submission]:
    """Decided items on which a lead has decided, or two people said the same, and that are not mixed in yet; at most n."""
    taken, found = _mixed_in(dataset_id), dict[int, Submission]()
    said: dict[int, list[str]] = {}
    for one, item in decisions.made(dataset_id):
        if item.state == "decided" and item.image_id not in taken and one.verdict in FINAL:
            same = answer(one.verdict, one.label) == answer(item.verdict, item.label)
            said.setdefault(item.id, []).extend([one.by] * same * (2 if one.stage == "lead" else 1))
            found[item.id] = item
    sure = [found[number] for number, by in said.items() if len(by) > 1]
    return sorted(sure, key=lambda one: one.image_id)[: min(n, MOST)]


def mix_in_decided(some: Sequence[Submission], by: str) -> int:
    """Makes decided items questions whose answer is known; returns how many. The decision on each stays as it is."""
    rows = []
    for one in some:
        roles.allow("lead", one.dataset_id)
        kept = {
            name: getattr(one, name)
            for name in ("dataset_id", "run_id", "image_id", "ext", "predicted", "probability", "probabilities", "fingerprint")
        }
        named = answer(review.today(one).verdict, review.today(one).label)
        rows.append(
            kept | {"name": queue.unnamed(one.image_id), "by": by, "at": now(), "source": "known", "state": "known", "known": named}
        )
    return queue.add(rows, again=True).count("new")
