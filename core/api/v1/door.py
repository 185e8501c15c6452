"""The API's door: every request bears a token, keeps to its rate and its size, and is done in the token's name."""

from __future__ import annotations

import re
from contextvars import ContextVar

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import roles
from core.api.problem import problem
from core.api.v1 import rates
from core.data import images, tokens
from core.data.tokens import Token
from core.errors import Unavailable

OPEN = ("/openapi.json", "/docs")  # they tell nothing of what is stored
MOST_JSON = 1_000_000  # bytes
MOST_FORM = images.MAX_BYTES + 1_000_000  # bytes: one picture of the greatest size, or many smaller ones
MAKE_ONE = "An admin makes one with `python -m core token add NAME --role labeller`; send it as “Authorization: Bearer loupe_…”."

_bearer: ContextVar[Token] = ContextVar("token")


def token() -> Token:
    """The token of the request that is being answered."""
    return _bearer.get()


def _found(secret: str) -> tuple[Token | None, int]:
    """The token, and for how many seconds it must wait."""
    found = tokens.find(secret)
    return found, rates.seconds_to_wait(found.id, found.rate) if found and found.state == "usable" else 0


class Door:
    """Without a token even this machine's own pages are refused: any page that a browser has open can reach localhost."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) in OPEN:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = re.fullmatch(r"[Bb]earer +(\S{1,200})", headers.get("authorization", "").strip())
        try:
            found, wait = await to_thread.run_sync(_found, given[1]) if given else (None, 0)
        except Unavailable as e:
            await problem(503, e.message, e.hint)(scope, receive, send)
            return
        if found is None or found.state != "usable":
            why = f"This token {'has expired' if found.state == 'expired' else 'was revoked'}." if found else "This token is not known."
            refusal = problem(401, why if given else "This request bears no token.", MAKE_ONE, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
            return
        if wait:
            detail = f"“{found.name}” has asked as often as it may: {found.rate.replace('/', ' each ')}."
            await problem(429, detail, f"Ask again in {wait} s.", {"Retry-After": str(wait)})(scope, receive, send)
            return
        is_form = headers.get("content-type", "").startswith("multipart/form-data")
        most, read = MOST_FORM if is_form else MOST_JSON, 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise HTTPException(413, f"The request is larger than the {most // 1_000_000} MB that are allowed.")
            return message

        bearer = _bearer.set(found)
        try:
            with roles.acting(found.person):
                await self.app(scope, counted, send)
        finally:
            _bearer.reset(bearer)
