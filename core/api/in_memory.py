"""Pictures for Predict and Explain, which Streamlit holds in the server's memory while a tab is open: bounded for each person."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config, runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec

from core import roles
from core.api import gate
from core.errors import Invalid

ROUTE = "/_stcore/upload_file/"
MOST_FILES, MOST_BYTES = 5_000, 1_000_000_000  # of one person, in all tabs
SILENCE = 60.0  # seconds between two pieces of an upload


class Bound:
    """Refuses what would be more than one person may have in memory, and what comes too slowly; Streamlit bounds a single file alone."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._of: dict[str, str] = {}  # whose each session is
        self._coming: defaultdict[str, int] = defaultdict(int)  # bytes, by person

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "PUT" or not scope["path"].startswith(ROUTE):
            await self.app(scope, receive, send)
            return
        person, size = roles.current().name, _size(scope)
        files, held = self._held(person)
        if files >= MOST_FILES or held + self._coming[person] + size > MOST_BYTES:
            message = (
                f"More than {MOST_FILES:,} pictures or {MOST_BYTES / 1e6:,.0f} MB of {person} are open in tabs of Predict and Explain."
            )
            refusal = gate.error(413, message, "Close or clear some, or ask about many pictures as a zip or a folder.")
            await refusal(scope, receive, send)
            return
        self._of[scope["path"].removeprefix(ROUTE).partition("/")[0]] = person
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

    def _held(self, person: str) -> tuple[int, int]:
        """Files and bytes of all their tabs."""
        there = _storage()
        self._of = {session: who for session, who in self._of.items() if session in there}
        sizes = [len(one.data) for session, who in self._of.items() if who == person for one in [*there[session].values()]]
        return len(sizes), sum(sizes)


def _size(scope: Scope) -> int:
    """Bytes of the request; of one that does not say it, what Streamlit lets through."""
    said = Headers(scope=scope).get("content-length", "")
    return int(said) if said.isdecimal() else int(config.get_option("server.maxUploadSize")) * 1024**2


def _storage() -> Mapping[str, Mapping[str, UploadedFileRec]]:
    """What Streamlit holds, by session and file."""
    held = runtime.get_instance().uploaded_file_mgr if runtime.exists() else None
    return dict(held.file_storage) if isinstance(held, MemoryUploadedFileManager) else {}
