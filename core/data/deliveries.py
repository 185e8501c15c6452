"""What is told to other systems: written in the transaction of what it tells, and kept until they have taken it."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from core import roles, servers
from core.data import audit
from core.data.schema import reading, submissions, webhook_deliveries, writing
from core.errors import NotFound
from core.settings import settings
from core.types import now

HELLO = "hello"  # the subject of the first delivery to a hook: what happened before is not told
WAITS = (10, 60, 300, 1800, 2 * 3600, 6 * 3600, 12 * 3600, 24 * 3600, 24 * 3600)  # seconds between two tries
LEASE = 60  # seconds that whoever sends one has before another may
KEEP = 30  # days that one is kept which was taken or given up

_d = webhook_deliveries.c


@dataclass(frozen=True)
class Delivery:
    id: str
    hook: str
    body: str
    tries: int  # before this one


@dataclass(frozen=True)
class Standing:
    """How a hook does."""

    since: str
    taken: int
    waiting: int
    given_up: int
    error: str  # of the last one that was not taken


def tell(c: sa.Connection, kind: str, subject: str, data: dict[str, Any], hooks: list[str] | None = None) -> None:
    """Writes it down for every hook; subject: what has been told under this name is not told again."""
    for hook in settings().webhooks if hooks is None else hooks:
        if not c.execute(select(_d.id).where(_d.hook == hook, _d.subject == subject)).first():
            body = json.dumps({"type": kind, "timestamp": now(), "data": data}, ensure_ascii=False)
            one = {"id": f"msg_{secrets.token_hex(16)}", "hook": hook, "subject": subject, "body": body, "made_at": now()}
            c.execute(webhook_deliveries.insert().values(**one, tries=0, next_at=time.time(), error=""))


def of_decision(c: sa.Connection, submission_id: int) -> None:
    """Tells what a picture is decided to be now, or that its decision was taken back."""
    if not settings().webhooks:
        return
    s = submissions.c
    row = c.execute(
        select(s.id, s.dataset_id, s.run_id, s.image_id, s.name, s.verdict, s.label, s.decided_by, s.decided_at).where(
            s.id == submission_id
        )
    ).one()
    data = {"decision": row.id, "dataset": row.dataset_id, "run": row.run_id, "image": row.image_id, "file": row.name}
    data |= {"verdict": row.verdict, "label": row.label, "decided_by": row.decided_by, "decided_at": row.decided_at}
    tell(c, "decision.made" if row.verdict else "decision.taken_back", f"decision {row.id} {secrets.token_hex(8)}", data)


def of_run(subject: str, data: dict[str, Any]) -> None:
    with writing() as c:
        tell(c, "run.ended", subject, data)


def greet(hook: str) -> str:
    """Says hello to a hook that is new; the time from which on things are told to it."""
    with writing() as c:
        tell(c, "hello", HELLO, {"hook": hook}, [hook])
        return str(c.execute(select(_d.made_at).where(_d.hook == hook, _d.subject == HELLO)).scalar_one())


def take(hook: str) -> Delivery | None:
    """The next one that is due, for the caller alone while its lease lasts."""
    at, longest = time.time(), {tries: max(LEASE, wait) + servers.MOST_APART for tries, wait in enumerate((0, *WAITS))}
    set_back = _d.next_at > at + sa.case(longest, value=_d.tries, else_=LEASE)  # the clock, since: nothing waits for so long
    # By the index of time, where what is done lies apart: SQLite would else go through all that a hook was told in 30 days (40 ms of 100,000).
    due = [_d.hook.concat("") == hook, _d.next_at > 0, sa.or_(_d.next_at <= at, set_back)]
    with reading() as c:
        if not c.execute(select(_d.id).where(*due).limit(1)).first():
            return None
    with writing() as c:
        row = c.execute(select(webhook_deliveries).where(*due).order_by(_d.next_at, _d.made_at).limit(1)).first()
        if row is None:
            return None
        c.execute(webhook_deliveries.update().where(_d.id == row.id).values(next_at=time.time() + LEASE))
        return Delivery(row.id, row.hook, row.body, row.tries)


def taken(one: Delivery) -> None:
    with writing() as c:
        c.execute(webhook_deliveries.update().where(_d.id == one.id).values(tries=one.tries + 1, next_at=None, taken_at=now(), error=""))
        old = (datetime.now(UTC) - timedelta(days=KEEP)).isoformat(timespec="milliseconds")
        c.execute(webhook_deliveries.delete().where(_d.next_at.is_(None), _d.made_at < old, _d.subject != HELLO))


def failed(one: Delivery, error: str) -> None:
    """It is tried again after a while, and given up after three days."""
    following = time.time() + WAITS[one.tries] if one.tries < len(WAITS) else None
    with writing() as c:
        c.execute(webhook_deliveries.update().where(_d.id == one.id).values(tries=one.tries + 1, next_at=following, error=error[:500]))


def send_again(hook: str) -> int:
    """Lets all that was given up at a hook be tried anew; how many that is."""
    roles.allow("admin")
    if hook not in settings().webhooks:
        raise NotFound(f"There is no webhook “{hook}”.", f"LOUPE_WEBHOOKS names: {', '.join(settings().webhooks) or 'none'}.")
    given_up = (_d.hook == hook, _d.next_at.is_(None), _d.taken_at.is_(None))
    with writing() as c:
        if many := c.execute(webhook_deliveries.update().where(*given_up).values(tries=0, next_at=time.time())).rowcount:
            audit.record(c, "webhook.again", on={"webhook": hook}, after={"deliveries": many})
        return many


def standing() -> dict[str, Standing]:
    """By hook, of all that was ever told something."""
    found = {}
    with reading() as c:
        for hook, since in c.execute(select(_d.hook, func.min(_d.made_at)).group_by(_d.hook)).all():

            def many(*where: Any, hook: str = hook) -> int:
                return c.execute(select(func.count()).select_from(webhook_deliveries).where(_d.hook == hook, *where)).scalar_one()

            waiting, given_up = (_d.next_at.is_not(None),), (_d.next_at.is_(None), _d.taken_at.is_(None))
            error = c.execute(select(_d.error).where(_d.hook == hook, _d.error != "").order_by(_d.made_at.desc()).limit(1)).scalar()
            found[hook] = Standing(since, many(_d.taken_at.is_not(None)), many(*waiting), many(*given_up), error or "")
    return found
