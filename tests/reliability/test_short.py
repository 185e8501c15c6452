"""The shortest of each trial that takes little: that it runs, loses nothing, and that each kind of its controls falls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.__main__ import TRIALS
from tests.reliability.row import tried

LEAST = {
    "trainer": 2,
    "server": 1,
    "lost": 1,
    "checkpoints": 1,
    "zips": 2_000,
    "models": 1,
    "bucket": 1,
    "fuzz": 1,
}


@pytest.mark.parametrize("name", LEAST)
def test_nothing_is_lost_in_the_shortest_of_a_trial_and_its_controls_fall(name: str, tmp_path: Path) -> None:
    assert name in TRIALS
    row, _ = tried(name, LEAST[name])
    assert row.good, (row.lost, row.standing)
