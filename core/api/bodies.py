"""The body of a request, read no further than it may be long."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request


async def read(request: Request, most: int, too_large: str) -> bytes:
    """most: bytes; of more the request is refused (413) with that sentence."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            raise HTTPException(413, too_large)
    return bytes(data)
