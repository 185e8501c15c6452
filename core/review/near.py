"""A picture found again among all answers: the very same file, or copies in another size, format or quality."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core import roles
from core.data import events, images, near, queue, uploads
from core.data.near import Match
from core.data.queue import Submission, Which
from core.errors import Invalid
from core.review import review
from core.runs import launch, runs
from core.runs.remote import infer
from core.settings import settings

SHOWN = 48  # copies, the nearest
AT_ONCE = 64  # pictures whose fingerprints are taken in one question


@dataclass(frozen=True)
class Found:
    """What is there of a picture, the very same file first."""

    items: tuple[tuple[Submission, Match | None], ...]  # None: the same file
    more: int  # that are not among the items
    compared: int  # pictures, by their fingerprints
    without: int  # that have no fingerprint yet, so that of them only the same file is found
    flat: bool = False  # the picture is of one colour: nothing to know a copy by
    unread: str = ""  # why no copies could be looked for

    @property
    def alike(self) -> bool:
        """Whether the dataset's pictures resemble each other so much that being near says little."""
        copies = sum(match is not None for _, match in self.items) + self.more
        return copies > max(5, near.MIXED * self.compared)


@roles.needs("see")
def find(dataset_id: int, name: str, data: bytes, which: Which) -> Found:
    """Looks among what the filters leave; nothing is stored."""
    same = queue.browse(dataset_id, replace(which, text=images.image_id(data)))
    unread, prints = "", (0, 0)
    with runs.scratch(settings().uploads / "sought") as scratch:
        try:
            prints = launch.ask(infer.fingerprints, str(uploads.keep(name, data, scratch).path))
        except Invalid as problem:
            unread = problem.message
    matches, compared = near.find(dataset_id, which, prints)
    known = {one.id for one in same}
    copies = [one for one in matches if one.item not in known]
    words = events.names(dataset_id)
    items: list[tuple[Submission, Match | None]] = [(review.today(one, words), None) for one in same]
    items += [(review.today(queue.get(one.item), words), one) for one in copies[:SHOWN]]
    return Found(tuple(items), max(0, len(copies) - SHOWN), compared, near.without(dataset_id), not unread and not prints[0], unread)


def sure(match: Match | None) -> str:
    """How a picture was found, and how sure it is that it is a copy."""
    if match is None:
        return "The very same file."
    how = f"{'Mirrored, and then ' if match.mirrored else ''}{64 - match.bits} of 64 marks of the picture are the same"
    return f"{how[0].upper()}{how[1:]}: {'very likely a copy' if match.bits <= near.LIKELY else 'perhaps a copy, compare them'}."


def fill() -> int:
    """Takes the fingerprints of pictures that an older Loupe has predicted; how many that were."""
    done = 0
    while some := near.some_without(AT_ONCE):
        paths = [str(uploads.pictures() / f"{image_id}.{ext}") for _, image_id, ext in some]
        near.store(
            dict(zip([number for number, _, _ in some], launch.result(launch.submit_slow(infer.fingerprints_of, paths)), strict=True))
        )
        done += len(some)
    return done
