"""Claims: images dealt out to somebody for a while, so that no two people get the same one."""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import func, select

from core import roles, servers
from core.data.schema import by_id, claims, images, parts, reading, writing

CLAIM_SECONDS = 60.0  # a page renews what was dealt out to it every 20 s
GRACE_SECONDS = 5.0  # a label may be on its way when its image is given back: until then nobody else gets it


def _lasts(at: float) -> sa.ColumnElement[bool]:
    """Whether a claim has not run out; one that would last longer than any was made before the clock jumped back."""
    return claims.c.until.between(at, at + CLAIM_SECONDS + servers.MOST_APART)


def _before(session: str) -> str:
    """Holds what the session has just given back."""
    return f"{session} before"


def _others(session: str) -> sa.ColumnElement[bool]:
    return claims.c.session.not_in((session, _before(session)))


@roles.needs("label")
def deal(dataset_id: int, session: str, candidates: Sequence[str], count: int, keep: Sequence[str] = ()) -> list[str]:
    """The first candidates without a label that nobody else holds, held for this session from now on.

    Of what it held before only keep stays its own; the rest is free again: for others in a moment, for itself at once.
    """
    at = time.time()
    with writing() as c:
        c.execute(claims.delete().where(~_lasts(at)))
        done = (claims.c.dataset_id == dataset_id, claims.c.session == session, claims.c.image_id.not_in(keep))
        c.execute(claims.update().where(*done).values(session=_before(session), until=at + GRACE_SECONDS))
        held = select(claims.c.image_id).where(claims.c.dataset_id == dataset_id, _others(session))
        theirs = set(c.execute(held).scalars())
        mine: list[str] = []
        for part in parts([i for i in candidates if i not in theirs]):
            free = select(images.c.id).where(*by_id(dataset_id, part), images.c.label.is_(None))
            unlabelled = set(c.execute(free).scalars())  # asked here again: the candidates were read a moment ago
            mine = [*mine, *(i for i in part if i in unlabelled)][:count]
            if len(mine) == count:
                break
        for part in parts(mine):
            c.execute(claims.delete().where(claims.c.dataset_id == dataset_id, claims.c.image_id.in_(part)))
        if mine:
            until = at + CLAIM_SECONDS
            c.execute(claims.insert(), [{"dataset_id": dataset_id, "image_id": i, "session": session, "until": until} for i in mine])
    return mine


@roles.needs("label")
def renew(dataset_id: int, session: str) -> None:
    """Holds what was dealt out to the session for another while."""
    with writing() as c:
        mine = (claims.c.dataset_id == dataset_id, claims.c.session == session)
        c.execute(claims.update().where(*mine).values(until=time.time() + CLAIM_SECONDS))


@roles.needs("label")
def release(dataset_id: int, session: str) -> None:
    """Gives back what was dealt out to the session."""
    with writing() as c:
        c.execute(claims.delete().where(claims.c.dataset_id == dataset_id, claims.c.session == session))


@roles.needs("see")
def held_by_others(dataset_id: int, session: str) -> int:
    """How many images without a label are dealt out to others at the moment."""
    here = claims.join(images, sa.and_(images.c.dataset_id == claims.c.dataset_id, images.c.id == claims.c.image_id))
    with reading() as c:
        theirs = (claims.c.dataset_id == dataset_id, _others(session), _lasts(time.time()), images.c.label.is_(None))
        return c.execute(select(func.count()).select_from(here).where(*theirs)).scalar_one()
