"""The routes of Review: pictures are dealt out, decided, skipped and taken back without drawing the page anew."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core import roles
from core.api import bodies, signing
from core.data import decisions, queue
from core.data.decisions import Said
from core.data.images import SHEET_ROW
from core.data.queue import Submission
from core.data.schema import moment
from core.errors import AppError, Conflict, NotFound
from core.review import animation, policy, review, why
from core.runs import runs
from core.types import SPLITS

MAX_BODY = 100_000  # bytes
MOST = 60  # pictures dealt out at once
LAST = 10  # decisions that a page shows
MAX_INT = (1 << 31) - 1
MAPS = anyio.CapacityLimiter(3)  # each waits up to 15 s: in the threads of the other routes they would keep decisions from being stored


class Asked:
    """The fields of a request's JSON; what is missing or of another kind is refused with its name."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    def whole(self, name: str, default: int | None = None) -> int:
        value = self.body.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INT:
            raise HTTPException(400, f"The field “{name}” must be a whole number.")
        return value

    def text(self, name: str, default: str | None = None, most: int = 2000) -> str:
        value = self.body.get(name, default)
        if not isinstance(value, str) or len(value) > most:
            raise HTTPException(400, f"The field “{name}” must be a text of up to {most:,} characters.")
        return value

    def maybe(self, name: str, most: int = 200) -> str | None:
        return None if self.body.get(name) is None else self.text(name, most=most)

    def numbers(self, name: str) -> list[int]:
        value = self.body.get(name, [])
        if not isinstance(value, list) or len(value) > 1000 or not all(type(one) is int and 0 <= one <= MAX_INT for one in value):
            raise HTTPException(400, f"The field “{name}” must be a list of numbers.")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.body.get(name, [])
        if not isinstance(value, list) or len(value) > 1000 or not all(isinstance(one, str) and len(one) <= 200 for one in value):
            raise HTTPException(400, f"The field “{name}” must be a list of texts.")
        return tuple(value)


async def _asked(request: Request) -> tuple[str, Asked]:
    """Who asks, and what."""
    who, data = signing.user(request), await bodies.read(request, MAX_BODY, "The request is too large.")
    try:
        asked = json.loads(data)
        json.dumps(asked, ensure_ascii=False).encode()  # half a character is refused here, not by the database
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise HTTPException(400, "The request is not in the expected form.")
    return who, Asked(asked)


async def _answer(work: Callable[..., dict[str, Any]], *args: Any, threads: anyio.CapacityLimiter | None = None) -> Response:
    return JSONResponse(await anyio.to_thread.run_sync(partial(work, *args), limiter=threads), headers={"Cache-Control": "no-store"})


def shown(one: Submission, unstored: Collection[str] = ()) -> dict[str, Any]:
    """A picture as the page gets it; where it is decided blind without the network's answer, and without name, sender and time.

    A name may tell the class, and those of known answers would stand out by who mixed them in, and when.

    unstored: classes whose pictures no browser may keep; what is decided blind is kept from it with them, as the address would tell.
    """
    blind = review.is_blind(one)
    upload = review.picture(one)
    top = sorted(one.probabilities.items(), key=lambda pair: -pair[1])[:5]
    return {
        "id": one.id,
        "name": review.named(one),
        "url": signing.upload_url(one.dataset_id, upload, stored=not (unstored and (blind or one.predicted in unstored))),
        "stage": "waiting" if one.state in queue.MEASURING else one.state,
        "blind": blind,
        "predicted": None if blind else one.predicted,
        "top": [] if blind else [[name, p] for name, p in top],
        "band": None if blind else one.band,
        "run": _run_name(one.run_id),
        "by": "" if blind else one.by,
        "at": "" if blind else one.at,
        "source": "" if blind else one.source,
    }


def _deal(who: str, asked: Asked) -> dict[str, Any]:
    dataset_id, session, order = asked.whole("dataset_id"), asked.text("session", most=64), asked.text("order", "mixed")
    if order not in ("mixed", "uncertain", "risky", "oldest"):
        raise HTTPException(400, "The field “order” must be mixed, uncertain, risky or oldest.")
    want = queue.Deal(session, who, True, order, asked.maybe("predicted"), asked.maybe("source"), asked.texts("without"))  # type: ignore[arg-type]
    found, gone, unstored = [], [], asked.texts("unstored")
    for one in review.deal(dataset_id, want, min(MOST, asked.whole("count", 20)), asked.numbers("keep")):
        try:
            found.append(shown(one, unstored))
        except NotFound:  # its file was removed by hand: it stays in the queue and is told, not shown
            gone.append(review.named(one))
    active = policy.active(dataset_id)
    return {
        "items": found,
        "gone": gone,
        "seconds": queue.CLAIM_SECONDS,
        "policy": active.name if active else None,
        "reasons": {name: list(some) for name, some in policy.today(active).reasons.items()} if active else {},
        **_counts(dataset_id, session, who),
    }


def _counts(dataset_id: int, session: str, who: str) -> dict[str, Any]:
    mine = roles.current().may("lead", dataset_id)
    with moment():
        states, others, skipped = queue.counts(dataset_id), queue.held_by_others(dataset_id, session), queue.skipped(dataset_id, who)
        known = queue.held_known(dataset_id, session)  # uncounted, the last one would be told by it
    waiting = sum(n for state, n in states.items() if state in (queue.OURS if mine else queue.OPEN)) + known
    return {"waiting": waiting, "lead": states.get("lead", 0) if mine else 0, "others": others, "skipped": skipped}


async def deal(request: Request) -> Response:
    """Body: dataset_id, session, count, keep [ids], order, predicted, source, without and unstored [classes]; answer: items and counts."""
    return await _answer(_deal, *await _asked(request))


def _decide(who: str, asked: Asked) -> dict[str, Any]:
    seconds = asked.body.get("seconds")
    done = review.decide(
        asked.whole("id"), asked.text("verdict"), asked.maybe("label"), who, bool(asked.body.get("sure")),  # type: ignore[arg-type]
        session=asked.text("session", most=64), operation=asked.text("operation", most=64), hint=bool(asked.body.get("hint", True)),
        seconds=float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 86400 else None,
        note=asked.text("note", ""), reason=asked.text("reason", "", most=200),
    )  # fmt: skip
    return {"seq": done.seq, "state": done.state, "label": done.label}


async def decide(request: Request) -> Response:
    """Body: operation, id, session, verdict, label, hint, seconds, note, reason, sure; answer: seq, state, label. The same operation is stored once."""
    return await _answer(_decide, *await _asked(request))


def _undo(who: str, asked: Asked) -> dict[str, Any]:
    dataset_id, session = asked.whole("dataset_id"), asked.text("session", most=64)
    seq = None if asked.body.get("seq") is None else asked.whole("seq")
    one = review.undo(dataset_id, who, seq, asked.maybe("operation", 64))
    queue.unskip(dataset_id, who, one.id)
    queue.claim(one.id, session, who)
    return {"item": shown(review.today(queue.get(one.id)), asked.texts("unstored")), **_counts(dataset_id, session, who)}


async def undo(request: Request) -> Response:
    """Body: dataset_id, session, and seq or operation of the decision meant, else one's own last; answer: its picture, held for the session."""
    return await _answer(_undo, *await _asked(request))


def _claims(who: str, asked: Asked) -> dict[str, Any]:
    dataset_id, session, act = asked.whole("dataset_id"), asked.text("session", most=64), asked.text("act")
    roles.allow("decide", dataset_id)
    if asked.body.get("id") is not None and queue.get(asked.whole("id")).dataset_id != dataset_id:
        raise NotFound("This prediction is not in the queue.", "Reload the page.")  # in the words of one that is nowhere
    if act == "renew":
        return {"ids": queue.renew(dataset_id, session, asked.numbers("ids")), **_counts(dataset_id, session, who)}
    if act == "release":
        queue.release(dataset_id, session)
    elif act == "hold":
        return {"seconds": queue.hold(asked.whole("id"), session)}
    elif act == "colleagues":
        return {"people": review.colleagues(dataset_id, who)}
    elif act == "hand":
        to = asked.text("to", most=200)
        if to not in review.colleagues(dataset_id, who):
            raise Conflict(f"{to} does not decide here any more.", "Hand it to somebody else, or escalate it.")
        queue.hand(asked.whole("id"), session, to)
    elif act == "skip":
        queue.skip(asked.whole("id"), session, who)
    elif act == "unskip":
        one = None if asked.body.get("id") is None else asked.whole("id")
        brought = queue.unskip(dataset_id, who, one)
        if one is not None:
            queue.claim(one, session, who)
        return {"unskipped": brought, **_counts(dataset_id, session, who)}
    elif act == "claim":
        queue.claim(asked.whole("id"), session, who)
    else:
        raise HTTPException(400, "The field “act” must be renew, release, hold, colleagues, hand, claim, skip or unskip.")
    return {}


async def claims(request: Request) -> Response:
    """Body: dataset_id, session, act (renew with ids, release, colleagues; hold, claim, skip with id, hand with id and to, unskip with or without)."""
    return await _answer(_claims, *await _asked(request))


def _last(who: str, asked: Asked) -> dict[str, Any]:
    dataset_id, unstored = asked.whole("dataset_id"), asked.texts("unstored")
    leads = roles.current().may("lead", dataset_id)
    found = []
    for one, item in review.decisions(dataset_id, Said(standing=True), limit=LAST):
        try:
            url = signing.upload_url(dataset_id, review.picture(item), stored=not unstored)
        except NotFound:
            url = None
        row = {
            "seq": one.seq,
            "id": item.id,
            "name": review.named(item),
            "url": url,
            "verdict": one.verdict,
            "label": one.label,
            "at": one.at,
        }
        mine = one.by == who
        found.append({**row, "by": one.by, "mine": mine, "may": (mine or leads) and one.verdict != "appealed", "operation": one.operation})
    return {"decisions": found}


async def last(request: Request) -> Response:
    """Body: dataset_id, unstored [classes]; answer: the last decisions that stand, and which of them may be taken back."""
    return await _answer(_last, *await _asked(request))


def _about(submission_id: int, stored: bool) -> dict[str, Any]:
    one = review.today(queue.get(submission_id))
    roles.allow("decide", one.dataset_id)
    blind = review.is_blind(one)
    have = review.known(one)
    found: dict[str, Any] = {
        "id": one.id,
        "have": None if have is None else {"label": None if blind else have.label, "split": have.split, "known": have.split in SPLITS},
        "answers": [],
        "earlier": [],
        "frames": None,
    }
    if one.state == "known":
        found["have"] = None  # that it is there would give its answer away
    if one.state in ("lead", "appeal"):
        told = [d for d in decisions.of_item(one.id) if d.undone_at is None]
        found["earlier"] = [
            {"verdict": d.verdict, "label": d.label, "by": d.by, "at": d.at, "note": d.note}
            for d in told
            if one.state == "lead" or d.verdict == "appealed"  # an appeal is decided without what was said before
        ]
    if not blind:
        found["answers"] = [
            {"run": _run_name(run), "predicted": label, "probability": p} for run, label, p in queue.answers_of([one.id]).get(one.id, [])
        ]
    try:
        frames = review.frames(one)
    except AppError as problem:
        found["frames"] = {"note": f"Its frames cannot be judged: {problem.message}", "url": None, "sheet": None, "answers": []}
    else:
        if frames:
            file = review.picture(one)
            found["frames"] = {
                "note": "" if blind else frames.note,
                "learned": "If it joins the dataset, its first frame is what is learned from.",
                "url": signing.upload_url(one.dataset_id, file, frames.frame, stored),
                "sheet": signing.frames_url(one.dataset_id, file, stored),
                "columns": min(len(frames.frames), SHEET_ROW),
                "counts": frames.frame,
                "answers": [[one.number, *((None, None) if blind else animation.top(frames, one))] for one in frames.frames],
            }
    return found


def _why(_who: str, asked: Asked) -> dict[str, Any]:
    found = why.why(asked.whole("id"))
    return {"picture": f"data:image/png;base64,{base64.b64encode(found.picture).decode()}", "words": found.words}


async def explained(request: Request) -> Response:
    """Body: id; answer: picture, as a data address, with the map over it, and words."""
    return await _answer(_why, *await _asked(request), threads=MAPS)


def _run_name(run_id: str) -> str:
    try:
        return runs.load(runs.folder(run_id)).name
    except AppError:
        return "a deleted run"


async def about(request: Request) -> Response:
    """What is worth knowing of one picture beside itself: whether the dataset has it, other runs' answers, frames, what others said."""
    signing.user(request)
    number: int = request.path_params["id"]
    if number > MAX_INT:
        raise NotFound("This prediction is not in the queue.", "Reload the page.")
    return await _answer(_about, number, not request.query_params.get("unstored"))


ROUTES = [
    Route("/api/review/deal", deal, methods=["POST"]),
    Route("/api/review/decide", decide, methods=["POST"]),
    Route("/api/review/undo", undo, methods=["POST"]),
    Route("/api/review/claims", claims, methods=["POST"]),
    Route("/api/review/last", last, methods=["POST"]),
    Route("/api/review/why", explained, methods=["POST"]),
    Route("/api/review/about/{id:int}", about),
]
