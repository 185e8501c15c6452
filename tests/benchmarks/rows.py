"""What a benchmark found: a row for each piece of work, its ways side by side, measured in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

REPEATS = 5
LONG = 60.0  # seconds: what takes longer is done once, and says so


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    work: str
    n: str  # of what there was
    wanted: str  # as issued; "" where nothing was
    unit: str  # s, MB: less is better; images/s: more is
    ways: dict[str, list[float]]  # each repeat of Loupe, and of what stands beside it

    @property
    def measured(self) -> str:
        """The median of each way with least and most, how many times it was done unless REPEATS, and how many times better Loupe is."""
        said = []
        for way, values in self.ways.items():
            middle = statistics.median(values)
            often = "" if len(values) == REPEATS else f"{len(values)} times: "
            spread = f"{often}{number(min(values))} to {number(max(values))}" if len(values) > 1 else "once"
            times = ""
            if way != "Loupe":
                ours = statistics.median(self.ways["Loupe"])
                times = f", {(ours / middle if self.unit.endswith('/s') else middle / ours):.2f} ×"
            said.append(f"{way} {number(middle)} {self.unit} ({spread}{times})")
        return "; ".join(said)


def number(value: float) -> str:
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turns(ways: Mapping[str, Callable[[], float]], repeats: int = REPEATS) -> dict[str, list[float]]:
    """What each way answers, turn by turn; one whose turn takes more than LONG has one only."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    long: set[str] = set()
    for _ in range(repeats):
        for way, work in ways.items():
            if way not in long:
                begun = time.perf_counter()
                found[way].append(work())
                if time.perf_counter() - begun > LONG:
                    long.add(way)
    return found
