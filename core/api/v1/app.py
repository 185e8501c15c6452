"""The HTTP API for other programs, under /api/v1: what it answers is described in its openapi.json, and for people at docs."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from core.api.problem import MEDIA_TYPE
from core.api.v1 import decisions, exports, images, predictions, problems, runs
from core.api.v1.door import Door
from core.api.v1.page import page
from core.errors import AppError, Invalid

ABOUT = """Every request bears a token: `Authorization: Bearer loupe_…`. An admin makes one with
`python -m core token add NAME --role ROLE`, and it may do what its role may, in its datasets.

Refusals are problem documents (RFC 9457). Lists come in pages: pass `next` as `cursor`. Whatever writes takes an
`Idempotency-Key`: sent again with the same key, it is done once and answered as before."""


def _known_parameters(request: Request) -> None:
    """A parameter that is not known is refused: it was meant to change the answer."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    if unknown := [name for name in request.query_params if name not in known]:
        allowed = f"Known here: {', '.join(sorted(known))}." if known else "This address takes none."
        raise Invalid(f"“{unknown[0][:80]}” is not a parameter of this address.", allowed)


async def _known_fields(request: Request) -> None:
    """The same for the fields of a form."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        known = {field.alias for field in request.scope["route"].dependant.body_params}
        if unknown := [name for name in await request.form() if name not in known]:
            raise Invalid(f"“{unknown[0][:80]}” is not a field of this form.", f"Its fields are: {', '.join(sorted(known)) or 'none'}.")


app = FastAPI(
    title="Loupe",
    version="1",
    description=ABOUT,
    docs_url=None,  # it would load its scripts from another host
    redoc_url=None,
    dependencies=[Depends(_known_parameters), Depends(_known_fields)],
    middleware=[Middleware(Door)],
    exception_handlers={
        AppError: problems.of_app_error,
        OSError: problems.of_os_error,
        problems.Problem: problems.of_problem,
        HTTPException: problems.of_http_error,
        RequestValidationError: problems.of_fields,
        Exception: problems.of_a_bug,
    },
    separate_input_output_schemas=False,
    root_path_in_servers=False,
)
for router in (images.router, predictions.router, decisions.router, runs.router, exports.router):
    app.include_router(router)


def _openapi() -> dict[str, Any]:
    """With problem documents in place of FastAPI's own form of an error, and the token that every request bears."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for operations in made["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = {
                    "description": "A problem: what happened, and what is allowed.",
                    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
        schemas = made["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = problems.SCHEMA
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
        made["servers"] = [{"url": "/api/v1"}]
        app.openapi_schema = made
    return app.openapi_schema


app.openapi = _openapi  # type: ignore[method-assign]


@app.get("/docs", include_in_schema=False)
def docs() -> Response:
    return HTMLResponse(page(app.openapi()))
