"""What is refused here, as problem documents."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from core import space
from core.api.problem import DESCRIBED, problem
from core.errors import AppError, Conflict, Forbidden, Invalid, NotFound, Unavailable, WorkerFailed

STATUS: tuple[tuple[type[AppError], int], ...] = (
    (Invalid, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Forbidden, 403),
    (Unavailable, 503),
    (WorkerFailed, 503),
)
SCHEMA = {
    "type": "object",
    "required": ["title", "status", "detail", "allowed"],
    "properties": {
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened."},
        "allowed": {"type": "string", "description": "What is allowed, or what to do."},
        "errors": {
            "type": "array",
            "description": "Each field that is not as it should be.",
            "items": {"type": "object", "properties": {"field": {"type": "string"}, "message": {"type": "string"}}},
        },
    },
}


class Problem(Exception):
    """A refusal with members of its own."""

    def __init__(self, status: int, detail: str, allowed: str = "", headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.response = problem(status, detail, allowed, headers, **more)


async def of_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response


async def of_app_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    status = next((code for kind, code in STATUS if isinstance(error, kind)), 422)
    return problem(status, error.message, error.hint)


async def of_os_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    return await (of_app_error(request, space.refusal(error)) if space.refused(error) else of_a_bug(request, error))


async def of_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return problem(404, "There is nothing at this address.", DESCRIBED)
    if error.status_code == 405:
        return problem(
            405, f"{request.method} is not allowed at this address.", f"Allowed: {headers.get('Allow', 'see /api/v1/docs')}.", headers
        )
    if error.status_code == 413:
        return problem(413, str(error.detail), "Send it in parts.")
    if error.status_code == 400:
        return problem(400, "The body is not JSON, or not a form.", "Send one JSON object in UTF-8; a form as multipart/form-data.")
    return problem(error.status_code, str(error.detail), DESCRIBED, headers)


async def of_fields(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return problem(400, "The body is not JSON.", "Send one JSON object in UTF-8.")
    errors = [{"field": _field(one["loc"]), "message": _message(one)} for one in found[:20]]
    first = errors[0]
    return problem(422, f"{first['field'] or 'The body'}: {first['message']}", DESCRIBED, errors=errors)


def _field(loc: Sequence[Any]) -> str:
    return ".".join(str(part)[:80] for part in loc[1:])


def _message(one: dict[str, Any]) -> str:
    if one["type"] == "extra_forbidden":
        return "This field is not known."
    if one["type"] == "missing":
        return "This field is missing."
    message = str(one["msg"]).removeprefix("Value error, ")
    return message[:1].upper() + message[1:] + ("" if message.endswith(".") else ".")


async def of_a_bug(request: Request, error: Exception) -> Response:
    """Whatever nobody expected: the log has it, who asked is told no more than that."""
    logging.getLogger("loupe").error("%s %s failed", request.method, request.url.path, exc_info=error)
    said = "Loupe made a mistake, which the server's log tells. Whether what was asked was done is not known."
    return problem(500, said, "Look whether it was done before you ask again.")
