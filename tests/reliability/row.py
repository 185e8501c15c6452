"""What a trial found: one row of the table."""

from __future__ import annotations

import importlib
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import pytest

NOT_DONE = (pytest.fail.Exception, pytest.skip.Exception)  # of what the trials share with the tests
NAMED = 5  # of what was lost, in the row's note


@dataclass
class Row:
    """Filled while a trial runs; its control is a variant that must fail, so that a trial that cannot fail is noticed."""

    tried: int = 0
    lost: list[str] = field(default_factory=list)  # what fell, each by name
    figures: str = ""
    control: str = ""  # what was done wrong on purpose
    control_tried: int = 0
    control_fell: int = 0
    fell: dict[str, int] = field(default_factory=dict)  # of each kind of control, how often

    @property
    def survived(self) -> int:
        return self.tried - len(self.lost)

    @property
    def good(self) -> bool:
        return not self.lost and self.tried > 0 and self.control_fell > 0 and not self.standing

    def check(self, right: bool, name: str) -> None:
        """Counts one try, lost under this name unless right."""
        self.tried += 1
        if not right:
            self.lost.append(name)

    def control_check(self, right: bool, kind: str = "") -> None:
        """Counts one try of what was done wrong on purpose; of each kind one must fall."""
        self.control_tried += 1
        self.control_fell += not right
        self.fell[kind] = self.fell.get(kind, 0) + (not right)

    @property
    def standing(self) -> list[str]:
        """The kinds of controls of which none fell, by name."""
        return [kind for kind, n in self.fell.items() if not n]

    def cells(self, name: str) -> list[str]:
        control = f"{self.control}: fell {self.control_fell:,} of {self.control_tried:,}"
        return [name, f"{self.tried:,}", f"{self.survived:,}", f"{len(self.lost):,}", self.figures, control]

    @property
    def named(self) -> list[str]:
        return self.lost[:NAMED] + [f"did not fall: {kind or self.control}" for kind in self.standing]


def tried(name: str, size: int) -> tuple[Row, float]:
    """What a trial found, and the seconds that it took; one that breaks off is told as a loss, and the others go on."""
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="loupe-") as folder:
            row: Row = importlib.import_module(f"tests.reliability.{name}").trial(Path(folder) / "home", size)
    except (Exception, *NOT_DONE) as e:
        traceback.print_exc()
        row = Row(tried=1, lost=[f"the trial broke off: {e!r}"])
    return row, time.monotonic() - start
