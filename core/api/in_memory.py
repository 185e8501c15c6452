"""Pictures for Predict and Explain, which Streamlit holds in the server's memory while a tab is open: bounded for each person."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import roles
from core.api import gate
from core.errors import Invalid

ROUTE = "/_stcore/upload_file/"
MOST_FILES, MOST_BYTES = 5_000, 1_000_000_000  # of one person, in all tabs
SILENCE = 60.0  # seconds between two pieces of an upload


class Bound:
    """Refuses what would be more than one person may have in memory, and what comes too slowly; Streamlit bounds a single file alone.

    held: its files, by session and id. largest: bytes that it takes of one.
    """

    def __init__(self, app: ASGIApp, held: Callable[[], Mapping[str, Mapping[str, Any]]], largest: int) -> None:
        self.app, self.held, self.largest = app, held, largest
        self._of: dict[str, str] = {}  # whose each session is
        self._coming: defaultdict[str, int] = defaultdict(int)  # bytes, by person

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "PUT" or not scope["path"].startswith(ROUTE):
            await self.app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "")
        person, size = roles.current().name, int(said) if said.isdecimal() else self.largest
        files, held = self._held(person)
        if files >= MOST_FILES or held + self._coming[person] + size > MOST_BYTES:
            message = (
                f"More than {MOST_FILES:,} pictures or {MOST_BYTES / 1e6:,.0f} MB of {person} are open in tabs of Predict and Explain."
            )
            refusal = gate.error(413, message, "Close or clear some, or ask about many pictures as a zip or a folder.")
            await refusal(scope, receive, send)
            return
        self._coming[person] += size

        async def in_time() -> Message:
            try:
                async with asyncio.timeout(SILENCE):
                    return await receive()
            except TimeoutError:
                raise Invalid("The picture came too slowly, and nothing of it is kept.", "Try again.") from None

        try:
            await self.app(scope, in_time, send)
        finally:
            self._coming[person] -= size
            self._of[scope["path"].removeprefix(ROUTE).partition("/")[0]] = person

    def _held(self, person: str) -> tuple[int, int]:
        """Files and bytes of all their tabs."""
        there = self.held()
        self._of = {session: who for session, who in self._of.items() if session in there}
        sizes = [len(one.data) for session, who in self._of.items() if who == person for one in [*there[session].values()]]
        return len(sizes), sum(sizes)
