"""What waits in Review and what was decided, as rows: items, claims, decisions as events, the basket."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import func, select

from core.data import audit, classes, deliveries, events, labels, removed, waiting
from core.data.events import Change
from core.data.schema import answers, decisions, images, label_events, parts, reading, review_claims, review_skips, submissions, writing
from core.data.schema import removed as removed_images
from core.errors import Conflict, NotFound
from core.types import Band, Image, now

State = Literal["predicted", "passed", "blocked", "waiting", "second", "lead", "appeal", "audit", "known", "decided"]
Verdict = Literal["accepted", "corrected", "rejected", "escalated", "appealed"]

CLAIM_SECONDS = 120.0  # the page renews while it is in focus
FILTERED_BLIND = 10  # where only one class is asked for, one in so many is a picture decided blind, of whatever answer
HOLD_SECONDS = 1800.0  # of a picture that somebody asked to keep
OPEN: tuple[State, ...] = ("waiting", "second", "appeal", "audit")  # what anybody who decides is dealt
OURS: tuple[State, ...] = ("lead", *OPEN)  # and what a lead is
SAID: Mapping[State, str] = {
    "predicted": "answered",
    "passed": "passed",
    "blocked": "blocked",
    "waiting": "waits for a person",
    "second": "waits for a second opinion",
    "lead": "waits for a lead",
    "appeal": "waits after an appeal",
    "audit": "waits for the audit",
    "known": "known answer",
    "decided": "decided",
}
MEASURING: tuple[State, ...] = ("second", "audit", "known")  # who decides is told that they wait, and no more
BLIND: tuple[State, ...] = ("second", "known", "appeal")  # decided without the network's answer
DEFAULTS: Mapping[str, Any] = {"source": "", "risk": 0.0, "blind": False}  # of what a row may lack
FINAL = ("accepted", "corrected", "rejected")

Order = Literal["mixed", "uncertain", "risky", "oldest"]
Added = Literal["new", "waits", "decided"]


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A picture that was predicted and is not in a dataset yet; its answer is that of the run it was sent with, its verdict final."""

    id: int
    dataset_id: int
    run_id: str
    image_id: str
    name: str
    by: str
    at: str
    predicted: str
    probability: float
    verdict: Literal["accepted", "corrected", "rejected"] | None = None
    label: str | None = None
    decided_by: str | None = None
    decided_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Submission(Sent):
    """The same with all that is known of it."""

    ext: str
    probabilities: dict[str, float]
    state: State = "waiting"
    source: str = ""  # how it came: upload, zip, folder, camera, api
    risk: float = 0.0  # the highest probability of a class that its policy blocks
    band: Band | None = None  # as its policy said when it came
    policy_id: int | None = None
    basket: Literal["waiting", "accepted", "refused"] | None = None
    known: str | None = None  # the answer of a picture that is mixed in to measure people
    fingerprint: int | None = None
    blind: bool = False  # its policy drew that it is decided without the network's answer


@dataclass(frozen=True)
class Decision:
    """What one person said of one picture in Review; one that was taken back says so."""

    seq: int
    dataset_id: int
    submission_id: int
    stage: State  # the state that the picture was in
    verdict: Verdict
    label: str | None
    predicted: str
    run_id: str
    policy_id: int | None
    hint: bool  # whether the network's answer was shown
    by: str
    at: str
    seconds: float | None = None  # from the picture being shown to the key
    note: str = ""
    reason: str = ""
    operation: str | None = None
    undone_at: str | None = None
    undone_by: str | None = None


def _submission(row: Any) -> Submission:
    values = dict(row._mapping)
    values["probabilities"] = json.loads(values["probabilities"])
    return Submission(**values)


# What comes in ------------------------------------------------------------------------------------


def add(rows: Sequence[Mapping[str, Any]], again: bool = False) -> list[Added]:
    """Stores predicted pictures, each once for its dataset; what another run says of one that is there is kept beside.

    rows: of the table, probabilities as a mapping. again: one that was decided waits again.
    """
    s, found, at = submissions.c, list[Added](), now()
    given = [{"at": at, "state": "waiting", **row, "probabilities": json.dumps(row["probabilities"])} for row in rows]
    fresh: dict[tuple[int, str], dict[str, Any]] = {}  # to be inserted at once
    said: list[tuple[tuple[int, str], dict[str, Any]]] = []
    with writing() as c:
        there: dict[tuple[int, str], Any] = {}
        for dataset_id in {row["dataset_id"] for row in given}:
            for part in parts([row["image_id"] for row in given if row["dataset_id"] == dataset_id]):
                same = select(s.id, s.image_id, s.state).where(s.dataset_id == dataset_id, s.image_id.in_(part))
                there.update({(dataset_id, one.image_id): one for one in c.execute(same.order_by(s.id))})
        for row in given:
            key = (row["dataset_id"], row["image_id"])
            said.append((key, {name: row[name] for name in ("run_id", "predicted", "probability", "probabilities", "at")}))
            one = there.get(key)
            if key in fresh:
                found.append("waits")
            elif one is None or (again and one.state not in OURS):
                fresh[key] = row
                found.append("new")
            elif one.state == "predicted" and row["state"] != "predicted":
                moved = {k: v for k, v in row.items() if k not in ("dataset_id", "image_id", "by", "at") and v is not None}
                c.execute(submissions.update().where(s.id == one.id).values(**moved))
                found.append("new")
            else:
                found.append("decided" if one.state == "decided" else "waits")
        numbers = {key: one.id for key, one in there.items()}
        columns = sorted({name for row in fresh.values() for name in row})
        if fresh:
            last = c.execute(select(func.coalesce(func.max(s.id), 0))).scalar_one()
            c.execute(submissions.insert(), [{name: row.get(name, DEFAULTS.get(name)) for name in columns} for row in fresh.values()])
            made = c.execute(select(s.id, s.dataset_id, s.image_id).where(s.id > last))
            numbers |= {(one.dataset_id, one.image_id): one.id for one in made}
        told = {(numbers[key], answer["run_id"]): {"submission_id": numbers[key], **answer} for key, answer in said}
        a = answers.c
        if there:
            for run_id in {run for _, run in told}:
                for number in parts([n for n, run in told if run == run_id]):
                    c.execute(answers.delete().where(a.run_id == run_id, a.submission_id.in_(number)))
        if told:
            c.execute(answers.insert(), list(told.values()))
    return found


def answers_of(ids: Sequence[int]) -> dict[int, list[tuple[str, str, float]]]:
    """Per item, what every run that was asked says: (run, predicted, probability), the last asked first."""
    found: dict[int, list[tuple[str, str, float]]] = {}
    with reading() as c:
        for part in parts(list(ids)):
            a = answers.c
            for row in c.execute(select(answers).where(a.submission_id.in_(part)).order_by(a.at.desc())):
                found.setdefault(row.submission_id, []).append((row.run_id, row.predicted, row.probability))
    return found


def answered(dataset_id: int, run_id: str, image_ids: Sequence[str]) -> set[str]:
    """Those of the pictures that the run has answered."""
    s, a, found = submissions.c, answers.c, set[str]()
    with reading() as c:
        for part in parts(list(image_ids)):
            both = select(s.image_id).where(s.dataset_id == dataset_id, s.image_id.in_(part), a.submission_id == s.id, a.run_id == run_id)
            found |= set(c.execute(both).scalars())
    return found


# What is there ------------------------------------------------------------------------------------


def counts(dataset_id: int) -> dict[State, int]:
    s = submissions.c
    with reading() as c:
        found = c.execute(select(s.state, func.count()).where(s.dataset_id == dataset_id).group_by(s.state))
        return {state: n for state, n in found}


def sources(dataset_id: int) -> list[str]:
    """How what waits has come."""
    s = submissions.c
    with reading() as c:
        here = (s.dataset_id == dataset_id, s.state.in_(OURS), s.source != "")
        return list(c.execute(select(s.source).where(*here).distinct().order_by(s.source)).scalars())


def queue_length(dataset_id: int) -> int:
    """How many wait for a person."""
    return sum(n for state, n in counts(dataset_id).items() if state in OURS)


@dataclass(frozen=True)
class Which:
    """Which items; None or empty means any."""

    states: tuple[State, ...] = ()
    text: str = ""  # part of the name, or the beginning of the hash
    predicted: str | None = None
    source: str | None = None
    run_id: str | None = None
    basket: str | None = None
    decided_by: str | None = None
    here: bool = False  # not of images that were removed from the dataset

    def where(self, dataset_id: int) -> list[sa.ColumnElement[bool]]:
        s = submissions.c
        found = [s.dataset_id == dataset_id, *([~removed.out(s.dataset_id, s.image_id)] if self.here else [])]
        for column, wanted in (("predicted", self.predicted), ("source", self.source), ("run_id", self.run_id), ("basket", self.basket)):
            if wanted is not None:
                found.append(s[column] == wanted)
        if self.decided_by is not None:
            found.append(s.decided_by == self.decided_by)
        if self.states:
            found.append(s.state.in_(self.states))
        if self.text:
            part = self.text.strip().lower()
            found.append(sa.or_(func.lower(s.name).contains(part, autoescape=True), s.image_id.startswith(part, autoescape=True)))
        return found


SORTS: Mapping[str, tuple[Any, ...]] = {
    "newest": (submissions.c.at.desc(), submissions.c.id.desc()),
    "oldest": (submissions.c.at, submissions.c.id),
    "least certain": (submissions.c.probability, submissions.c.id),
    "most certain": (submissions.c.probability.desc(), submissions.c.id),
    "riskiest": (submissions.c.risk.desc(), submissions.c.id),
    "name": (submissions.c.name, submissions.c.id),
    "decided last": (submissions.c.decided_at.desc(), submissions.c.id),
}


def browse(dataset_id: int, which: Which, sort: str = "newest", offset: int = 0, limit: int = 50) -> list[Submission]:
    with reading() as c:
        query = select(submissions).where(*which.where(dataset_id)).order_by(*SORTS[sort]).offset(offset).limit(limit)
        return [_submission(row) for row in c.execute(query)]


def count(dataset_id: int, which: Which) -> int:
    with reading() as c:
        return c.execute(select(func.count()).select_from(submissions).where(*which.where(dataset_id))).scalar_one()


def get(submission_id: int) -> Submission:
    with reading() as c:
        row = c.execute(select(submissions).where(submissions.c.id == submission_id)).first()
    if row is None:
        raise NotFound("This prediction is not in the queue.", "Reload the page.")
    return _submission(row)


def unnamed(image_id: str) -> str:
    """What a picture is called where its own name may tell its answer: the beginning of its hash, by which it is found."""
    return image_id[:8]


# Dealing out --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deal:
    """Who is dealt what: classes whose pictures a person does not want are left out, what needs a lead is for a lead."""

    session: str
    person: str
    lead: bool = True
    order: Order = "mixed"
    predicted: str | None = None  # what is decided blind comes in its share whatever its answer is, so that the filter does not tell it
    source: str | None = None
    without: tuple[str, ...] = ()  # never dealt, blind or not: being spared counts for more, and nobody is told
    overdue: str | None = None  # UTC, ISO 8601: what came before goes first
    benign: int = 0  # one in so many is what is least risky; 0: none is mixed in
    known: int = 0  # one in so many is a picture whose answer is known; 0: none


def deal(dataset_id: int, want: Deal, count: int, keep: Sequence[int] = ()) -> list[Submission]:
    """The next for this session, held for it from now on; of what it held before, only keep stays its own.

    Nobody is dealt what somebody else holds, what they skipped, or what they have decided at another stage.
    """
    at, s, d = time.time(), submissions.c, decisions.c
    with writing() as c:
        c.execute(review_claims.delete().where(~_lasts(at)))
        mine = (review_claims.c.dataset_id == dataset_id, review_claims.c.session == want.session)
        c.execute(review_claims.delete().where(*mine, review_claims.c.submission_id.not_in(list(keep)), ~review_claims.c.held))
        free = [
            s.dataset_id == dataset_id,
            ~select(review_claims.c.submission_id).where(review_claims.c.submission_id == s.id).exists(),
            ~select(review_skips.c.person).where(review_skips.c.submission_id == s.id, review_skips.c.person == want.person).exists(),
            ~select(d.seq).where(d.submission_id == s.id, d.by == want.person, d.undone_at.is_(None), d.verdict.in_(FINAL)).exists(),
        ]
        found: dict[int, Any] = {}

        def take(n: int, states: Sequence[State], *order: Any, where: Sequence[Any] = ()) -> None:
            # One state after another, so that each is read from its index in order: with IN, all that wait would be sorted.
            rows: list[Any] = []
            for state in states if n > 0 else ():
                query = select(submissions).where(*free, s.state == state, s.id.not_in(list(found)), *where).order_by(*order).limit(n)
                rows += c.execute(query).all()
            found.update({row.id: row for row in rows[: max(0, n)]})

        given_to: list[int] = []
        if count > 0:
            given = (review_claims.c.dataset_id == dataset_id, review_claims.c.session == _for(want.person))
            query = select(review_claims.c.submission_id).where(*given).order_by(review_claims.c.until).limit(count)
            given_to = list(c.execute(query).scalars())
            c.execute(review_claims.delete().where(*given, review_claims.c.submission_id.in_(given_to)))
            take(
                count * bool(given_to), (*(OURS if want.lead else OPEN), "known"), s.id, where=[s.id.in_(given_to)]
            )  # whatever the filters
        told: list[Any] = []  # a filter by class leaves what is decided blind to a draw of its own: else it would tell the answer
        if want.predicted is not None:
            free.append(sa.or_(s.predicted == want.predicted, s.blind, s.state.in_(BLIND)))
            told.append(~s.blind)
        if want.source is not None:
            free.append(s.source == want.source)
        if want.without:
            free.append(s.predicted.not_in(want.without))
        if want.lead:
            take(count - len(found), ("lead",), s.at, s.id)
        take(count - len(found), ("appeal", "second", "audit"), s.at, s.id)
        if want.known:  # sorted as they are found: by the index of pictures, SQLite would go through all that wait
            take(_share(count - len(found), want.known), ("known",), s.image_id.concat(""), where=[~removed.out(s.dataset_id, s.image_id)])
        if told:
            take(_share(count - len(found), FILTERED_BLIND), ("waiting",), s.at, s.id, where=[s.blind])
        if want.order == "mixed":
            if want.overdue:
                take(count - len(found), ("waiting",), s.at, s.id, where=[s.at < want.overdue, *told])
            rest = count - len(found)
            if want.benign and rest > 1:
                take(max(1, rest // want.benign), ("waiting",), s.risk, s.probability.desc(), where=told)
        orders: dict[str, tuple[Any, ...]] = {"risky": (s.risk.desc(), s.probability), "oldest": (s.at, s.id)}
        take(count - len(found), ("waiting",), *orders.get(want.order, (s.probability, s.id)), where=told)
        alone = bool(found) and not given_to and all(row.state == "known" for row in found.values())
        others = (s.id.in_(list(keep)), s.state.in_(OURS)), (*free, s.state == "waiting", *told)
        if alone and not any(c.execute(select(s.id).where(*where).limit(1)).first() for where in others):
            found.clear()  # with nothing else to be decided a known answer would be told by that
        rows = list(found.values())
        if rows:
            values = {"dataset_id": dataset_id, "session": want.session, "person": want.person, "until": at + CLAIM_SECONDS}
            c.execute(review_claims.insert(), [{"submission_id": row.id, **values} for row in rows])
    return [_submission(row) for row in rows]


def _share(n: int, one_in: int) -> int:
    """One in so many of n, by chance where it does not come out even: so that small deals keep the share."""
    return n // one_in + (random.random() * one_in < n % one_in)


def _lasts(at: float) -> sa.ColumnElement[bool]:
    """Whether a claim has not run out; one that would last longer than any was made before the clock jumped back."""
    return review_claims.c.until.between(at, at + HOLD_SECONDS + CLAIM_SECONDS)


def claim(submission_id: int, session: str, person: str) -> None:
    """Holds one that waits for the session, if nobody else does."""
    k, at = review_claims.c, time.time()
    with writing() as c:
        row = c.execute(select(submissions).where(submissions.c.id == submission_id)).first()
        if row is None or row.state not in (*OURS, "known"):
            by = f" by {row.decided_by}{_words(row.verdict, row.label)}" if row is not None and row.decided_by else ""
            raise Conflict(f"{row.name if row else 'This picture'} was decided meanwhile{by}.", "The next one is shown.")
        c.execute(
            review_claims.delete().where(k.submission_id == submission_id, sa.or_(~_lasts(at), k.session.in_((session, _for(person)))))
        )
        if other := c.execute(select(k.person).where(k.submission_id == submission_id)).scalar():
            raise Conflict(f"{other} has this picture on the screen.", "It is dealt out again when its turn comes.")
        values = {"dataset_id": row.dataset_id, "session": session, "person": person, "until": at + CLAIM_SECONDS}
        c.execute(review_claims.insert().values(submission_id=submission_id, **values))


def held(dataset_id: int, session: str) -> dict[int, float]:
    """Seconds that each claim of the session has left."""
    k, at = review_claims.c, time.time()
    with reading() as c:
        rows = c.execute(select(k.submission_id, k.until).where(k.dataset_id == dataset_id, k.session == session, _lasts(at)))
        return {row.submission_id: row.until - at for row in rows}


def held_known(dataset_id: int, session: str) -> int:
    """How many the session holds whose answer is known."""
    k, s = review_claims.c, submissions.c
    with reading() as c:
        both = review_claims.join(submissions, s.id == k.submission_id)
        mine = (k.dataset_id == dataset_id, k.session == session, _lasts(time.time()), s.state == "known")
        return c.execute(select(func.count()).select_from(both).where(*mine)).scalar_one()


def held_by_others(dataset_id: int, session: str) -> int:
    k = review_claims.c
    with reading() as c:
        theirs = (k.dataset_id == dataset_id, k.session != session, _lasts(time.time()))
        return c.execute(select(func.count()).select_from(review_claims).where(*theirs)).scalar_one()


def renew(dataset_id: int, session: str, ids: Sequence[int]) -> list[int]:
    """Holds for another while what is still the session's own; returns which that is."""
    k, at = review_claims.c, time.time()
    with writing() as c:
        mine = (k.dataset_id == dataset_id, k.session == session, k.submission_id.in_(list(ids)), _lasts(at))
        c.execute(review_claims.update().where(*mine, ~k.held).values(until=at + CLAIM_SECONDS))
        return list(c.execute(select(k.submission_id).where(*mine)).scalars())


def hold(submission_id: int, session: str) -> float:
    """Keeps a claim for longer, for whoever has to look something up; returns the seconds."""
    k, at = review_claims.c, time.time()
    with writing() as c:
        mine = (k.submission_id == submission_id, k.session == session, _lasts(at))
        if c.execute(review_claims.update().where(*mine).values(until=at + HOLD_SECONDS, held=True)).rowcount == 0:
            raise Conflict("This picture is not yours any more: its time ran out.", "It is dealt out again when its turn comes.")
    return HOLD_SECONDS


def release(dataset_id: int, session: str) -> None:
    """Gives back what was dealt out to the session; what is held waits for its person, at whatever page comes next."""
    k = review_claims.c
    with writing() as c:
        mine = (k.dataset_id == dataset_id, k.session == session)
        c.execute(review_claims.update().where(*mine, k.held).values(session=sa.literal(_for("")) + k.person))
        c.execute(review_claims.delete().where(*mine))


def hand(submission_id: int, session: str, to: str) -> None:
    """What is on the session's screen is dealt to that person next; to anybody, where they do not come within half an hour."""
    k, d, at = review_claims.c, decisions.c, time.time()
    with writing() as c:
        said = select(d.seq).where(d.submission_id == submission_id, d.by == to, d.undone_at.is_(None), d.verdict.in_(FINAL))
        if c.execute(said).first():
            raise Conflict(f"{to} cannot decide on this picture any more.", "Hand it to somebody else, or escalate it.")
        mine = (k.submission_id == submission_id, k.session == session, _lasts(at))
        if not c.execute(review_claims.update().where(*mine).values(session=_for(to), person=to, until=at + HOLD_SECONDS)).rowcount:
            raise Conflict("This picture is not yours any more: its time ran out.", "It is dealt out again when its turn comes.")
        c.execute(review_skips.delete().where(review_skips.c.submission_id == submission_id, review_skips.c.person == to))


def _for(person: str) -> str:
    """The session of what waits for a person who has no page open, or another one."""
    return f"for {person}"


def skip(submission_id: int, session: str, person: str) -> None:
    """The person does not get it again; somebody else does."""
    k, w = review_claims.c, review_skips.c
    with writing() as c:
        if c.execute(select(w.person).where(w.submission_id == submission_id, w.person == person)).first() is None:
            c.execute(review_skips.insert().values(submission_id=submission_id, person=person))
        c.execute(review_claims.delete().where(k.submission_id == submission_id, k.session == session))


def unskip(dataset_id: int, person: str, submission_id: int | None = None) -> int:
    """Deals out again to the person what they skipped, all of it or one; returns how many that were."""
    w, s = review_skips.c, submissions.c
    here = select(s.id).where(s.dataset_id == dataset_id, *([s.id == submission_id] if submission_id is not None else []))
    with writing() as c:
        return c.execute(review_skips.delete().where(w.person == person, w.submission_id.in_(here))).rowcount


def skipped(dataset_id: int, person: str) -> int:
    """How many that wait were skipped by the person."""
    w, s = review_skips.c, submissions.c
    with reading() as c:
        both = review_skips.join(submissions, s.id == w.submission_id)
        mine = (s.dataset_id == dataset_id, w.person == person, s.state.in_(OURS))
        return c.execute(select(func.count()).select_from(both).where(*mine)).scalar_one()


# Deciding -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decided:
    """What became of a decision: the state after it and the seq by which it can be taken back."""

    seq: int
    state: State
    label: str | None


@dataclass(frozen=True)
class Act:
    """What a person says of a picture, and what it depends on."""

    by: str
    verdict: Verdict
    label: str | None = None
    session: str = ""  # whose claim it must be, if somebody holds it
    operation: str | None = None
    hint: bool = True
    seconds: float | None = None
    note: str = ""
    reason: str = ""
    seconded: bool = False  # somebody else is asked, too
    basket: bool = False  # it waits for a lead before it joins the dataset
    reserved: bool = False  # it never does: it measures people or what slipped through


def decide(submission_id: int, act: Act, image: Image | None, image_ids: Sequence[str] = ()) -> Decided:
    """Stores a decision once and, where it is final and nobody is to be asked, adds the image and its label, in one transaction.

    image_ids: of what an earlier decision may have been about, where it is not the image nor the picture's own.
    """
    s, d, k = submissions.c, decisions.c, review_claims.c
    with writing() as c:  # everybody who writes waits for it: each statement counts
        one = sa.or_(d.submission_id == submission_id, d.operation == act.operation) if act.operation else d.submission_id == submission_id
        earlier = c.execute(select(decisions).where(one).order_by(d.seq)).all()
        if act.operation and (same := next((each for each in earlier if each.operation == act.operation), None)):
            state = c.execute(select(s.state).where(s.id == same.submission_id)).scalar_one()
            return Decided(same.seq, state, same.label)
        held = submissions.outerjoin(review_claims, sa.and_(k.submission_id == s.id, _lasts(time.time())))
        found = select(submissions, k.person, k.session).select_from(held).where(s.id == submission_id)
        row = c.execute(found).first()
        if row is None:
            raise NotFound("This prediction is not in the queue any more.", "The next one is shown.")
        if row.state not in (*OURS, "known"):
            by = f" by {row.decided_by}" if row.decided_by else ""
            what = f"was decided already{by}{_words(row.verdict, row.label)}" if row.state == "decided" else "waits for nobody"
            raise Conflict(f"{row.name} {what}.", "Nothing was stored. The next one is shown.")
        if row.person is not None and row.session != act.session:
            raise Conflict(f"{row.person} has {row.name} on the screen.", "Nothing was stored. The next one is shown.")
        before = [each for each in earlier if each.undone_at is None]
        if any(each.by == act.by and each.verdict in FINAL for each in before):  # who escalated it may still decide, as a lead
            raise Conflict(f"You have decided on {row.name} before.", "Somebody else has to look at it now.")
        label = act.label
        if label is not None:
            label = classes.known_or_added(c, row.dataset_id, label)
        state = _next(row.state, act, label, before)
        values = {
            **{name: getattr(act, name) for name in ("verdict", "hint", "by", "seconds", "note", "reason", "operation")},
            **{name: row._mapping[name] for name in ("dataset_id", "predicted", "run_id", "policy_id")},
        }
        made = decisions.insert().values(submission_id=row.id, stage=row.state, label=label, at=now(), **values)
        seq = c.execute(made.returning(d.seq)).scalar_one()
        had: tuple[str, str | None] | None = None
        if state == "decided":
            if row.state == "appeal" and (row.basket is None or row.basket == "accepted") and row.verdict in ("accepted", "corrected"):
                _leave(c, row, act.by, [*image_ids, row.image_id if image is None else image.id])
            basket = "waiting" if act.basket and not act.reserved and act.verdict != "rejected" else None
            if basket is None and not act.basket and image is not None:
                had = join(c, row.id, image, act.verdict, label, act.by)
            final = {"verdict": act.verdict, "label": label, "decided_by": act.by, "decided_at": now(), "basket": basket}
            c.execute(submissions.update().where(s.id == row.id).values(state=state, **final))
            deliveries.of_decision(c, row.id)
        elif state != row.state:
            c.execute(submissions.update().where(s.id == row.id).values(state=state))
        c.execute(review_claims.delete().where(k.submission_id == row.id))
        was, told = {"state": row.state, "label": row.label}, {"verdict": act.verdict, "label": label, "state": state}
        old, new = in_dataset(had)
        told |= {"note": act.note, "reason": act.reason, **new}
        audit.record(c, "review.decide", on=waiting.subject(row), before=was | old, after=told, by=act.by)
    return Decided(seq, state, label)


def _words(verdict: str | None, label: str | None) -> str:
    return f": {label}" if label else ": none of the classes" if verdict == "rejected" else ""


def _next(state: State, act: Act, label: str | None, before: Sequence[Any]) -> State:
    """The state after a decision: where two differ, and where somebody escalates, a lead decides."""
    if state == "known":
        return "known"
    if act.verdict == "escalated":
        return "lead"
    if state == "waiting" and act.seconded:
        return "second"
    if state == "second":
        first = [one for one in before if one.verdict in FINAL][-1]
        same = first.label == label and (first.verdict == "rejected") == (act.verdict == "rejected")
        return "decided" if same else "lead"
    return "decided"


def _note(submission_id: int, added: bool, out: bool = False) -> str:
    """The note of a decision's event: by it the event is known again, and whether the image came with it, or out of the removed."""
    return f"review {submission_id}{labels.OUT if out else ''}{labels.ADDED if added else ''}"


def join(c: sa.Connection, submission_id: int, image: Image, verdict: str, label: str | None, by: str) -> tuple[str, str | None] | None:
    """Adds the image, if it is new, and its label; an accepted answer never changes a label that is there.

    What label the dataset had given it, and has now; None where it had none.
    """
    here = (images.c.dataset_id == image.dataset_id, images.c.id == image.id)
    have, was = c.execute(select(images.c.label, images.c.label_seq).where(*here)).first(), None
    if have is None:
        r = removed_images.c
        kept_of = select(r.split, r.source, r.added_at, r.import_id).where(r.dataset_id == image.dataset_id, r.id == image.id)
        was = c.execute(kept_of).first()  # what it carried besides is told by its events: see labels.before
        removed.forget(c, image.dataset_id, [image.id])
        c.execute(images.insert().values(labels.bare(image) | (dict(was._mapping) if was else {})))
    kept = have is not None and have.label is not None and verdict == "accepted"
    if not kept and (have is None or have.label != label):
        change = Change(image.id, label, have.label if have else None)
        events.append(c, image.dataset_id, [change], by, "review", note=_note(submission_id, have is None, was is not None))
    return None if have is None or have.label is None else (have.label, have.label if kept else label)


def in_dataset(had: tuple[str, str | None] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the audit says of a label that was there before its image was decided: before and after."""
    return ({}, {}) if had is None else ({"dataset_label": had[0]}, {"dataset_label": had[1]})


def _leave(c: sa.Connection, row: Any, by: str, image_ids: Sequence[str]) -> None:
    """Takes back what a decision gave its image, removed since or not, where nobody has changed it; the label events stay.

    image_ids: of what may be its image: the picture's own, or another one's.
    """
    e = label_events.c
    for image_id, table in ((one, table) for one in dict.fromkeys(image_ids) for table in (images, removed_images)):
        here = (table.c.dataset_id == row.dataset_id, table.c.id == image_id)
        last = c.execute(select(e.seq, e.note).where(e.seq == select(table.c.given_seq).where(*here).scalar_subquery())).first()
        if last and last.note in (_note(row.id, False), _note(row.id, True), _note(row.id, True, out=True)):
            out = last.note == _note(row.id, True, out=True)
            was = labels.before(c, row.dataset_id, image_id, last.seq) if out else {}
            labels.give_back(c, row.dataset_id, image_id, last.seq, by, labels.OUT_AGAIN if out else "decision taken back", table)
            if out and table is images:
                c.execute(table.update().where(*here).values(was))
                removed.move(c, row.dataset_id, [image_id], images, removed_images)
            elif out:
                c.execute(table.update().where(*here).values(was | {"label_seq": table.c.label_seq}))
            elif last.note == _note(row.id, True):
                c.execute(table.delete().where(*here))
            return


def take_back(submission_id: int, by: str, image_ids: Sequence[str], seq: int | None = None) -> None:
    """Takes the last decision on an item back: it waits where it waited before, and what joined the dataset with it leaves.

    image_ids: of what the decision may have been about, which need not be the picture's own. seq: the decision meant; Conflict if
    another one came after it.
    """
    s, d = submissions.c, decisions.c
    with writing() as c:
        row = c.execute(select(submissions).where(s.id == submission_id)).one()
        standing = c.execute(select(decisions).where(d.submission_id == row.id, d.undone_at.is_(None)).order_by(d.seq.desc())).all()
        if not standing:
            raise Conflict("This prediction waits in the queue already.", "It is shown when its turn comes.")
        last = standing[0]
        if seq is not None and last.seq != seq:
            raise Conflict(f"{last.by} has decided on {row.name} since.", "Your decision stays in its history.")
        final: dict[str, Any] = {}
        if last.verdict == "appealed":
            final = {name: row._mapping[name] for name in waiting.NOTHING}
        elif last.stage == "appeal":  # what was appealed stands until it is decided
            earlier = next(one for one in standing[1:] if one.verdict in FINAL)
            final = {"verdict": earlier.verdict, "label": earlier.label, "decided_by": earlier.by, "decided_at": earlier.at}
        if row.state == "decided" and row.verdict in ("accepted", "corrected") and row.basket in (None, "accepted"):
            _leave(c, row, by, image_ids)
        waiting.again(c, row, [last], by, last.stage, final)


def appeal(submission_id: int, by: str, note: str) -> None:
    """A decided item waits again, for somebody who has not decided it; what it is stands until then."""
    s = submissions.c
    with writing() as c:
        row = c.execute(select(submissions).where(s.id == submission_id)).first()
        if row is None or row.state != "decided":
            raise Conflict("Only what was decided can be appealed.", "Reload the page.")
        values = {name: row._mapping[name] for name in ("dataset_id", "predicted", "run_id", "policy_id")}
        c.execute(
            decisions.insert().values(submission_id=row.id, stage="decided", verdict="appealed", by=by, at=now(), note=note, **values)
        )
        c.execute(submissions.update().where(s.id == submission_id).values(state="appeal"))
        audit.record(
            c, "review.appeal", on=waiting.subject(row), before={"verdict": row.verdict, "label": row.label}, after={"note": note}, by=by
        )
