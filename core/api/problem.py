"""A refusal of the API as a problem document (RFC 9457): what happened, and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
DESCRIBED = "Every address and its fields stand in /api/v1/openapi.json."


def problem(status: int, detail: str, allowed: str = "", headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, "allowed": allowed or DESCRIBED}
    data = json.dumps(body | more, ensure_ascii=False).encode(errors="replace")
    return Response(data, status, headers={"Cache-Control": "no-store", **(headers or {})}, media_type=MEDIA_TYPE)
