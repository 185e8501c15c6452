"""How often a token may ask, counted by all servers together."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import IO

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from core import servers
from core.settings import settings

PARTS = 60  # of a moving window; all that is asked within one part counts as asked at its beginning


class _Files(MemoryStorage):
    """A moving window in a small file for each token, which all servers read and write."""

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        with _opened(key) as f:
            part, asked = _read(f, expiry)
            if sum(asked.values()) + amount > limit:
                return False
            f.seek(0)
            json.dump([*({**asked, part: asked.get(part, 0) + amount}).items()], f)
            f.truncate()
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        with _opened(key) as f:
            part, asked = _read(f, expiry)
        return min(asked, default=part) * expiry / PARTS, sum(asked.values())


@contextmanager
def _opened(key: str) -> Iterator[IO[str]]:
    """Nobody else counts meanwhile."""
    path = settings().home / "locks" / key.replace("/", "-")
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield f


def _read(f: IO[str], length: int) -> tuple[int, dict[int, int]]:
    """The part that it is now, by its number, and how often it was asked in each part of the last `length` seconds."""
    width = length / PARTS
    now = int(time.time() / width)
    ahead = now + servers.MOST_APART / width  # the clock of another server; what is later is of before this one was set back
    try:
        return now, {part: n for part, n in json.load(f) if now - PARTS < part <= ahead}
    except (ValueError, TypeError):  # new, or cut off by a crash
        return now, {}


@lru_cache(maxsize=1)
def _limiter() -> MovingWindowRateLimiter:
    return MovingWindowRateLimiter(_Files())


@lru_cache(maxsize=64)
def _rate(text: str) -> RateLimitItem:
    return parse(text)


def seconds_to_wait(token_id: int, rate: str) -> int:
    """Until the token may ask again; 0: now, which is counted."""
    item, name = _rate(rate), str(token_id)
    try:
        if _limiter().hit(item, name):
            return 0
        return max(1, round(_limiter().get_window_stats(item, name).reset_time - time.time()))
    except OSError:  # a full disk, say: who wants to store something is told
        return 0
