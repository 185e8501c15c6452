"""What the verbs of the command line share: what they say while they work, and how they refuse."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TypeAlias

from core.errors import AppError

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class BadArgument(Exception):
    """What was typed cannot be meant; exit code 2."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def progress(done: int, total: int, what: str) -> None:
    print(f"\r{what}: {done:,} of {total:,}", end="", file=sys.stderr)


def pairs(given: list[str]) -> dict[str, str]:
    """What --set names."""
    values = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadArgument(f"“{pair}” is not KEY=VALUE.")
        values[key] = value
    return values


def write(out: Path, data: bytes) -> None:
    try:
        out.write_bytes(data)
    except OSError as e:
        raise AppError(f"{out} cannot be written: {e.strerror}.", "Choose another place with --out.") from None
