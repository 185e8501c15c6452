"""How far a piece of work is and how long the rest takes, in the same words on a page and in a terminal."""

from __future__ import annotations

FIRST = 2.0  # seconds of work before anything is said of the rest


def words(what: str, done: int, total: int, left: float | None = None) -> str:
    text = f"{what}: {done:,} of {total:,}" if total else what
    return f"{text}, {duration(left)} left" if left is not None else text


def seconds_left(done: int, seconds: float, rest: int) -> float | None:
    """What the rest takes if it goes on as it went; None where that cannot be known yet, or nothing is left."""
    return seconds / done * rest if done > 0 and rest > 0 and seconds >= FIRST else None


def duration(seconds: float) -> str:
    """Roughly: nobody can promise more."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
