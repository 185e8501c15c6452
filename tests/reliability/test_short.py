"""The shortest of trials that take little: that they run, lose nothing, and that each kind of their controls falls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.row import tried

LEAST = {"trainer": 1, "server": 2, "checkpoints": 1, "backups": 1, "zips": 2_000, "models": 1}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", LEAST)
def test_nothing_is_lost_in_the_shortest_of_a_trial_and_its_controls_fall(name: str, tmp_path: Path) -> None:
    row, _ = tried(name, LEAST[name])
    assert row.good, row.named
