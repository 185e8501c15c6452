"""Every opening of a run's test set is written down, and nothing that was written is lost."""

from __future__ import annotations

import pytest

from core.__main__ import main
from core.errors import NotFound
from core.runs import openings, runs
from tests.conftest import Trained


def test_each_opening_is_appended_with_who_and_when(trained_copy: Trained) -> None:
    assert openings.of(trained_copy.run_id) == [] and openings.times([trained_copy.run_id]) == 0
    for name in ("Ann", "Bo"):
        openings.record(trained_copy.run_id, name)
    first, second = openings.of(trained_copy.run_id)
    assert (first.by, second.by) == ("Ann", "Bo") and "2026" <= first.at <= second.at
    assert openings.times([trained_copy.run_id, "20260101-000000-0000"]) == 2  # a run that is gone counts nothing
    with pytest.raises(NotFound):
        openings.record("20260101-000000-0000", "Ann")


def test_a_line_that_a_crash_cut_off_still_counts_as_a_look(trained_copy: Trained) -> None:
    openings.record(trained_copy.run_id, "Ann")
    path = runs.folder(trained_copy.run_id) / "looks.jsonl"
    path.write_bytes(path.read_bytes() + b'{"by": "B')
    openings.record(trained_copy.run_id, "Cy")
    assert [one.by for one in openings.of(trained_copy.run_id)] == ["Ann", "", "Cy"]


def test_the_command_line_counts_a_look_at_test_images_and_none_at_validation_images(
    trained_copy: Trained,
) -> None:
    assert main(["evaluate", trained_copy.run_id]) == 0
    assert openings.times([trained_copy.run_id]) == 0
    assert main(["evaluate", trained_copy.run_id, "--split", "test"]) == 0
    assert openings.times([trained_copy.run_id]) == 1
