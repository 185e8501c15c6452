"""Logs as JSON lines on stderr, for LOUPE_LOG=json, without what nobody should find in a log."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

MOST = 20_000  # characters of a message or traceback

# (what is found, what stands in its place): secrets and tokens by where they stand or how they look, and contents of pictures.
_HIDDEN = [
    (re.compile(r"(?i)\b((?:set-)?cookie|authorization|x-loupe-token|x-api-key|idempotency-key)([\"']?\s*[:=,]\s*)[^\r\n]+"), r"\1\2…"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 …"),
    (
        re.compile(r"(?i)\b(password|passwd|secret|token|api_key|client_secret|code)([\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s&,;)}]+)"),
        r"\1\2…",
    ),
    (re.compile(r"([?&]s=)[^\s&\"']+"), r"\1…"),  # the signature of an address
    (re.compile(r"\b[0-9a-f]*\.[0-9]+\.[0-9a-f]{32}\b"), "…"),  # the token of a page
    (re.compile(r"://[^\s/@:]+:[^\s/@]+@"), "://…@"),  # of a database
    (re.compile(r"data:[\w/+.-]+;base64,[\w+/=]+"), "data:…"),
    (re.compile(r"\bb(?:ytearray\(b)?'(?:\\.|[^'\\]){32,}'|\bb\"(?:\\.|[^\"\\]){32,}\""), "b'…'"),
    (re.compile(r"[\w+/=-]{200,}"), "…"),
]


def clean(text: str) -> str:
    """The text without secrets, tokens and contents of pictures."""
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


def as_json() -> None:
    """Lets everything that logs in this process write such lines, uvicorn and Streamlit included."""
    form, root = JsonLines(), logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stderr))
    logging.getLogger("loupe").setLevel(logging.INFO)
    named = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    for logger in (root, *named):
        for handler in logger.handlers:
            handler.setFormatter(form)
