"""The trials themselves: a small part of those that are quick, and that a loss or a control that does not fall is noticed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.reliability import __main__ as reliability
from tests.reliability import checkpoints, corpus, pictures, power, web
from tests.reliability.row import Row


def test_after_a_power_cut_what_was_acknowledged_is_there_and_with_less_syncing_it_is_not(tmp_path: Path, synced: None) -> None:
    row = power.trial(tmp_path / "home", 6)
    assert row.good, row


def test_a_run_goes_on_from_a_checkpoint_that_a_power_cut_left_and_from_none_that_was_not_synced(tmp_path: Path) -> None:
    row = checkpoints.trial(tmp_path / "home", 1)
    assert row.good, row


def test_bad_pictures_are_refused_by_name_or_read_to_the_right_pixels(tmp_path: Path) -> None:
    assert len(corpus.corpus()) >= 300
    row = pictures.trial(tmp_path / "home", 9)
    assert row.good, row


def test_no_odd_number_stranger_or_forged_signature_gets_through(tmp_path: Path) -> None:
    row = web.trial(tmp_path / "home", 11)
    assert row.good, row


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (Row(tried=1, control_tried=1, control_fell=1), 0),
        (Row(tried=1, lost=["a label"], control_tried=1, control_fell=1), 1),
        (Row(tried=1, control_tried=1), 1),
        (Row(control_tried=1, control_fell=1), 1),
        (Row(tried=1, control_tried=2, control_fell=1, fell={"one": 1, "other": 0}), 1),
    ],
    ids=["good", "lost", "control stands", "nothing tried", "one kind of control stands"],
)
def test_a_loss_and_a_control_that_does_not_fall_are_noticed(
    row: Row, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def module(_name: str) -> Any:
        return SimpleNamespace(trial=lambda home, size: row)

    monkeypatch.setattr(importlib, "import_module", module)
    monkeypatch.setattr(reliability, "DOCS", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("before\n<!-- table -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr(sys, "argv", ["reliability", "power", "--write-docs"])
    assert reliability.main() == code
    written = (tmp_path / "page.md").read_text()
    assert "old" not in written and "| power cut" in written and written.endswith("<!-- end -->\nafter\n")
    assert all(one in capsys.readouterr().out for one in row.lost)


def test_a_trial_that_breaks_off_is_a_loss_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trial(home: Path, size: int) -> Row:
        return pytest.fail("the server did not start")

    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(trial=trial))
    monkeypatch.setattr(sys, "argv", ["reliability", "slow", "load"])  # which run in this process
    assert reliability.main() == 1
    said = capsys.readouterr().out
    assert said.count("the trial broke off") == 2 and "the server did not start" in said and "2 of 2" in said
