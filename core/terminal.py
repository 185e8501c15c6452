"""What the verbs of the command line share: what they say while they work, and how they refuse."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any, TypeAlias

from core import pace
from core.errors import AppError

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


BAR = 20  # characters
EVERY = 10.0  # seconds between two lines of progress where no terminal is
_told: list[Any] = [0.0, "", ""]  # when a line was last said, of which phase, and the line
_begun: list[Any] = ["", 0.0, 0]  # the phase, when it began, and how much was done then


class BadArgument(Exception):
    """What was typed cannot be meant; exit code 2."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def progress(done: int, total: int, what: str) -> None:
    """A bar that is written over on a terminal; in a file or a pipe a line now and then, at each new phase and at its end.

    Its words are those of the pages.
    """
    if what != _begun[0] or done < _begun[2]:
        _begun[:] = what, time.monotonic(), done
    _, since, before = _begun
    text = pace.words(what, done, total, pace.seconds_left(done - before, time.monotonic() - since, total - done))
    if sys.stderr.isatty():
        full = round(BAR * min(done, total) / total) if total else 0
        bar = f"{'█' * full}{'░' * (BAR - full)} " if total else ""
        line = f"{bar}{text}"[: shutil.get_terminal_size().columns - 1]  # a line that wraps is not written over
        print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
        return
    at, said, last = _told
    if text != last and (what != said or 0 < total <= done or time.monotonic() - at >= EVERY):
        _told[:] = time.monotonic(), what, text
        say(text)


def progress_ended() -> None:
    """Leaves the line of progress on a terminal; elsewhere each line has its own end."""
    if sys.stderr.isatty():
        say("")


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
