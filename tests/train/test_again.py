"""Lost runs go on by themselves as often as their settings allow, and no oftener."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.catalog import params
from core.data import audit
from core.runs import launch, runs
from core.settings import settings
from core.train import again, train
from core.types import Dataset, Ended, EpochEnd, Preparing, Snapshot, Started, now


class Gone:
    """A launcher whose processes are killed at once."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, folder: Path, command: list[str]) -> None:
        self.started.append(folder.name)

    def alive(self, folder: Path) -> bool:
        return False

    def kill(self, folder: Path) -> None: ...


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> Gone:
    launcher = Gone()
    monkeypatch.setattr(launch, "launcher", launcher)
    monkeypatch.setattr(again, "SETTLED", -1.0)
    return launcher


def lost(dataset: Dataset, restarts: int, by: str = "Ann") -> str:
    run = runs.new("ConvNet 1", dataset, params.run_config({"restarts": restarts}), Snapshot("s", dataset.classes, ()), by)
    folder = settings().runs / run.id
    runs.create(folder, run, Snapshot("s", dataset.classes, ()))
    runs.write_json(folder / "handle.json", {"pid": 1, "started": 0.0})
    runs.append(folder, Started("cpu", 10, 10, 5, 2, now()))
    runs.append(folder, EpochEnd(1, 5, 0.5, 0.9, None, None, 0.1, 100.0, 1, 1.0, now()))
    return run.id


def test_a_lost_run_goes_on_as_often_as_it_was_asked_for(small: Dataset, gone: Gone) -> None:
    run_id = lost(small, restarts=2)
    assert train.state(run_id).status == "lost"
    assert [again.look(), again.look(), again.look()] == [[run_id], [run_id], []] and gone.started == [run_id] * 2
    events = runs.events(runs.folder(run_id))
    assert [e.what for e in events if isinstance(e, Preparing)] == [again.BY_ITSELF] * 2
    (entry, _), _ = audit.search(audit.Which(kind="run.resume"), 1, 9)
    assert (entry.by, entry.on["run"]) == ("Ann", run_id)
    assert train.resume(run_id).id == run_id  # one click goes on all the same


def test_who_asked_for_nothing_or_has_ended_is_left_alone(small: Dataset, gone: Gone) -> None:
    lost(small, restarts=0)
    ended = lost(small, restarts=3)
    runs.append(runs.folder(ended), Ended("stopped", 1, "", 1.0, now()))
    assert again.look() == [] and gone.started == []


def test_a_run_that_was_written_to_a_moment_ago_may_just_be_starting(small: Dataset, gone: Gone, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = lost(small, restarts=1)
    monkeypatch.setattr(again, "SETTLED", 5.0)
    assert again.look() == []
    for path in (runs.folder(run_id), runs.folder(run_id) / "handle.json"):
        os.utime(path, (0, 0))
    assert again.look() == [run_id]


def test_a_run_of_another_machine_is_taken_over_once_every_look_for_a_while_has_found_it_lost(
    small: Dataset, gone: Gone, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = lost(small, restarts=1)
    runs.write_json(runs.folder(run_id) / "handle.json", {"host": "gpu-1", "pid": 1, "started": 0.0})
    state = train.state(run_id)
    assert state.host == "gpu-1" and state.message.startswith("Nothing is heard of the training process on gpu-1")
    assert again.look() == again.look() == []  # the shared folder may have been away, and its process with it
    with monkeypatch.context() as patch:
        patch.setattr(again, "SURE", 0.0)
        patch.setattr(gone, "alive", lambda _: True)
        assert again.look() == []
    assert again.look() == []  # from the beginning
    monkeypatch.setattr(again, "SURE", 0.0)
    assert again.look() == [run_id]
