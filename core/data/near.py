"""Which predicted pictures are copies of one that somebody brings, by their fingerprints (core.data.images.fingerprint)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from sqlalchemy import func, select

from core import roles
from core.data.queue import Which
from core.data.schema import reading, submissions, writing

# Measured on 300 photos of cats and dogs: copies (a half and a third of the size, 64 pixels wide, JPEG of quality 10 to 50, grey,
# brighter by a tenth) differ in 10 of the 64 bits at most, 99 % in 8; cut by 2 % on each side in up to 15; different ones in 15 at least.
LIKELY = 8
PERHAPS = 12
MIXED = 0.01  # of the pictures compared: where more are as near, the dataset's pictures are alike anyhow


class Match(NamedTuple):
    """A picture that may be a copy: in how many of 64 bits it differs, and whether it is one of the mirrored picture."""

    item: int
    bits: int
    mirrored: bool


@roles.needs("see")
def find(dataset_id: int, which: Which, prints: tuple[int, int]) -> tuple[list[Match], int]:
    """Pictures within PERHAPS bits of a fingerprint or of that of its mirror image, nearest first; and how many were compared.

    100,000 are compared in 0.7 to 1.0 s on SQLite and in 0.25 to 0.42 s on PostgreSQL, on two busy cores.
    """
    s = submissions.c
    with reading() as c:
        rows = c.execute(select(s.id, s.fingerprint).where(*which.where(dataset_id), s.fingerprint.is_not(None), s.fingerprint != 0)).all()
    if not rows or not prints[0]:
        return [], len(rows)
    table = np.array([tuple(row) for row in rows], np.int64)  # (N, 2)
    plain, mirrored = (np.bitwise_count((table[:, 1] ^ np.int64(one)).view(np.uint64)).astype(int) for one in prints)
    bits = np.minimum(plain, mirrored)
    places = np.flatnonzero(bits <= PERHAPS)
    places = places[np.lexsort((table[places, 0], bits[places]))]
    return [Match(int(table[i, 0]), int(bits[i]), bool(mirrored[i] < plain[i])) for i in places], len(rows)


@roles.needs("see")
def without(dataset_id: int) -> int:
    """How many pictures have no fingerprint yet: those that an older Loupe predicted."""
    s = submissions.c
    with reading() as c:
        return c.execute(select(func.count()).where(s.dataset_id == dataset_id, s.fingerprint.is_(None))).scalar_one()


def some_without(most: int) -> list[tuple[int, str, str]]:
    """Of any dataset: (item, hash, ending of its file)."""
    s = submissions.c
    with reading() as c:
        rows = c.execute(select(s.id, s.image_id, s.ext).where(s.fingerprint.is_(None)).order_by(s.id).limit(most))
        return [(number, image_id, ext) for number, image_id, ext in rows]


def store(prints: Mapping[int, int]) -> None:
    s = submissions.c
    with writing() as c:
        for number, one in prints.items():
            c.execute(submissions.update().where(s.id == number).values(fingerprint=one))
