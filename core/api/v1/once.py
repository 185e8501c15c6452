"""Idempotency-Key: the same key gets the same answer, and what it asked for is done once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header
from starlette.responses import JSONResponse, Response

from core import servers
from core.api.v1 import door
from core.api.v1.problems import Problem
from core.data import tokens

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Any text of your own. A request that is sent again with it is answered as before, and done once; kept for two days.",
    ),
]


def once(key: str | None, request: Any, act: Callable[[], Any], status: int = 200, repeatable: bool = True) -> Response:
    """Answers with what act returns, or with what it returned when this request came before under this key.

    The key is stored before the act, its answer after it. If the server ended between the two, a repeatable act is done
    again, since it changes nothing that is changed already; of another one nobody knows, and that is said.
    """
    if key is None:
        return JSONResponse(act(), status)
    mine, asked = door.token().id, hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    before = tokens.begin(mine, key, asked, servers.name())
    if before is not None:
        if before.request != asked:
            raise Problem(422, "This Idempotency-Key was used for another request.", "Use a new key for each request.")
        if before.status is not None:
            return JSONResponse(before.answer, before.status, {"Idempotency-Replayed": "true"})
        if before.process == servers.name() or servers.is_there(before.process):
            raise _at_it()
        if not repeatable:
            detail = "The server ended while it worked on this request: whether it was done is not known."
            raise Problem(409, detail, "Look whether it was done; if not, send it with a new key.")
        if not tokens.take_over(mine, key, before.process, servers.name()):
            raise _at_it()
    try:
        answer = act()
    except BaseException:
        tokens.refused(mine, key)
        raise
    tokens.answered(mine, key, status, answer)
    return JSONResponse(answer, status)


def _at_it() -> Problem:
    return Problem(409, "This very request is being worked on.", "Ask again in a second.", {"Retry-After": "1"})
