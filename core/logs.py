"""Logs without what nobody should find in one, as text, or as JSON lines on stderr for LOUPE_LOG=json."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlsplit

from core.errors import AppError
from core.settings import settings

MOST = 20_000  # characters of a message or traceback

# (what is found, what stands in its place): secrets and tokens by where they stand or how they look, and contents of pictures.
_HIDDEN = [
    (re.compile(r"(?i)\b((?:set-)?cookie|authorization|x-loupe-token|x-api-key|idempotency-key)([\"']?\s*[:=,]\s*)[^\r\n]+"), r"\1\2…"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 …"),
    (
        re.compile(
            r"(?i)((?:password|passwd|secret|token|api_key|access_key|account_key|signature)\w{0,40}|\bcode)"
            r"([\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s&,;)}]+)"
        ),
        r"\1\2…",
    ),
    (re.compile(r"([?&]s=)[^\s&\"']+"), r"\1…"),  # the signature of an address
    (re.compile(r"\b[0-9a-f]*\.[0-9]+\.[0-9a-f]{32}\b"), "…"),  # the token of a page
    (re.compile(r"://[^\s/@:]+:[^\s/@]+@"), "://…@"),  # of a database
    (re.compile(r"data:[\w/+.-]+;base64,[\w+/=]+"), "data:…"),
    (re.compile(r"\bb(?:ytearray\(b)?'(?:\\.|[^'\\]){32,}'|\bb\"(?:\\.|[^\"\\]){32,}\""), "b'…'"),
    (re.compile(r"[\w+/=-]{200,}"), "…"),
    (re.compile(r"DETAIL:  .*?(?=\n\[SQL|\n\nThe above exception|\Z)", re.DOTALL), "DETAIL: …"),  # PostgreSQL's, with the values of a row
]

_HELD = re.compile(r"(SECRET|PASSWORD|TOKEN|CONNECTION_STRING|(API|ACCESS|ACCOUNT|PRIVATE|SAS)_?KEY)$")  # by names of variables


def _held() -> Iterator[str]:
    """The secrets that this process was given, for storage, database, cluster and sign-in; what is short may be a word."""
    yield from (value for name, value in os.environ.items() if _HELD.search(name))
    with suppress(AppError):  # settings that cannot be are said elsewhere
        s = settings()
        yield from (s.ray_token, s.webhook_secret, s.oidc.client_secret if s.oidc else "")
        with suppress(ValueError):
            yield unquote(urlsplit(s.database_url).password or "")


def clean(text: str) -> str:
    """The text without secrets, tokens and contents of pictures."""
    for secret in _held():
        if len(secret) >= 8:
            text = text.replace(secret, "…").replace(quote(secret, safe=""), "…")
    for pattern, instead in _HIDDEN:
        text = pattern.sub(instead, text)
    return text if len(text) <= MOST else f"{text[:MOST]}… ({len(text):,} characters)"


class JsonLines(logging.Formatter):
    """One line a record: at, level, logger, message, what the record brings as `fields`, and error with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean(record.getMessage()),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = clean(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


class Text(logging.Formatter):
    """Lines as another form makes them, cleaned."""

    def __init__(self, form: logging.Formatter | None) -> None:
        super().__init__()
        self.form = form or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return clean(self.form.format(record))


def begin() -> None:
    """Lets everything that logs in this process write clean lines, uvicorn and Streamlit included."""
    root, as_json = logging.getLogger(), settings().log == "json"
    if not root.handlers and as_json:
        root.addHandler(logging.StreamHandler(sys.stderr))
    if as_json:
        logging.getLogger("loupe").setLevel(logging.INFO)
    named = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    for handler in (logging.lastResort, *(handler for logger in (root, *named) for handler in logger.handlers)):
        if handler is not None and not isinstance(handler.formatter, Text):
            handler.setFormatter(JsonLines() if as_json else Text(handler.formatter))
