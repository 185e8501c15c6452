"""Several processes train one run together: real ranks on this machine's loopback, as torchrun starts them."""

from __future__ import annotations

import csv
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.errors import Invalid, Stopped
from core.ml import devices, turns
from core.ml.data import batch_sizes
from core.runs import runs
from core.settings import settings
from core.train import train
from core.types import Ended, EpochEnd, Queued, SnapshotRow, Started
from tests.forking import Forked, fork
from tests.ml.made import ended, make_run, squares
from tests.ports import free_port

# A network with dropout and batch normalisation, on images that are changed at random: all of it has to go on where it was.
MOVING = {"architecture": "cnn3", "image_size": 16, "batch_size": 16, "epochs": 12, "patience": 0, "flip": "horizontal", "ema": 0.9}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SnapshotRow, ...]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOUPE_HOME", str(tmp_path_factory.mktemp("ranks")))
        settings.cache_clear()
        yield squares(40)
    settings.cache_clear()


def start(folder: Path, count: int = 2) -> list[Forked]:
    port = free_port()
    started = []
    for rank in range(count):
        torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MASTER_ADDR", "127.0.0.1")
            for name, value in torchrun.items():
                patch.setenv(name, str(value))
            started.append(fork(["-m", "core.ml.worker", str(folder)], folder / f"worker{rank}.log"))
    return started


def finish(ranks: list[Forked]) -> list[int]:
    return [one.wait(40) for one in ranks]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(runs.checkpoint(folder), weights_only=True)["state"]
    return found


def equal(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def wait_for_epochs(folder: Path, count: int) -> None:
    until = time.monotonic() + 40
    while sum(isinstance(e, EpochEnd) for e in runs.events(folder)) < count:
        assert time.monotonic() < until, runs.events(folder)
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(rows: tuple[SnapshotRow, ...]) -> Path:
    folder = make_run(rows, "undisturbed", **MOVING, devices=2)
    assert finish(start(folder)) == [0, 0], (folder / "worker0.log").read_text()
    return folder


def test_two_ranks_judge_every_image_once_and_only_the_first_writes(undisturbed: Path, rows: tuple[SnapshotRow, ...]) -> None:
    assert ended(undisturbed).outcome == "succeeded"
    events = runs.events(undisturbed)
    assert [e.ranks for e in events if isinstance(e, Started)] == [2]
    assert [e.epoch for e in events if isinstance(e, EpochEnd)] == list(range(1, 13))
    assert len([e for e in events if isinstance(e, Ended)]) == 1
    with open(undisturbed / "predictions.csv", newline="", encoding="utf-8") as f:
        judged = [(row["image_id"], row["split"]) for row in csv.DictReader(f)]
    assert sorted(judged) == sorted((row.image_id, row.split) for row in rows if row.split != "train")
    assert (undisturbed / "worker1.log").read_text() == ""


@pytest.mark.parametrize("more", [{}, {"balance": "weights"}, {"clip": 0.1, "label_smoothing": 0.1}], ids=["plain", "weighted", "clipped"])
def test_two_ranks_learn_what_one_learns_where_nothing_is_random(rows: tuple[SnapshotRow, ...], more: dict[str, object]) -> None:
    name = "-".join(map(str, more)) or "plain"
    some = [row for i, row in enumerate(rows) if row.label != "red" or i % 3]  # the classes are not equally common
    values = {"architecture": "linear", "image_size": 8, "optimizer": "sgd", "learning_rate": 0.05, "batch_size": 16, "epochs": 3, **more}
    one, two = (make_run(tuple(some), f"{name}-{n}", **values, devices=n) for n in (1, 2))
    assert [*finish(start(one, 1)), *finish(start(two))] == [0, 0, 0]
    a, b = weights(one), weights(two)
    assert all(torch.allclose(a[key], b[key], atol=1e-5) for key in a)
    ends = [[e for e in runs.events(folder) if isinstance(e, EpochEnd)] for folder in (one, two)]
    for alone, together in zip(*ends, strict=True):
        assert together.train_loss == pytest.approx(alone.train_loss, rel=1e-4)
        assert (together.train_accuracy, together.val_accuracy) == (alone.train_accuracy, alone.val_accuracy)


def test_a_run_of_two_ranks_that_was_paused_killed_and_resumed_is_bit_equal_to_one_that_was_not(
    undisturbed: Path, rows: tuple[SnapshotRow, ...]
) -> None:
    folder = make_run(rows, "disturbed", **MOVING, devices=2)
    going = start(folder)
    wait_for_epochs(folder, 2)
    runs.request_pause(folder)
    assert finish(going) == [0, 0]
    assert ended(folder).outcome == "paused"
    epoch = runs.events(folder)[-2]

    runs.clear_requests(folder)
    going = start(folder)
    wait_for_epochs(folder, 5)
    os.kill(going[1].pid, signal.SIGKILL)
    assert finish(going) == [1, -signal.SIGKILL]
    assert not isinstance(runs.events(folder)[-1], Ended), epoch  # lost, and not failed
    assert not equal(undisturbed, folder)

    assert finish(start(folder)) == [0, 0]
    assert ended(folder).outcome == "succeeded"
    assert equal(undisturbed, folder)


def test_a_batch_that_cannot_be_shared_is_refused_in_a_sentence(rows: tuple[SnapshotRow, ...]) -> None:
    folder = make_run(rows, "narrow", architecture="linear", image_size=8, batch_size=3, epochs=1, devices=2)
    assert finish(start(folder)) == [0, 0]
    assert ended(folder).message == (
        "A batch of 3 images cannot be shared by 2 devices: each needs two at least. Choose a batch size of 4 or more, or fewer devices."
    )


def test_every_rank_gets_two_images_of_each_batch() -> None:
    assert batch_sizes(11, 8, 4) == [11]
    assert batch_sizes(20, 8, 4) == [8, 8, 4]
    assert batch_sizes(3, 8, 4) == [3]


def test_a_run_on_several_devices_is_started_by_torchrun(rows: tuple[SnapshotRow, ...]) -> None:
    one, two = (make_run(rows, f"command-{n}", architecture="linear", devices=n) for n in (1, 2))
    assert train.command(one)[1:3] == ["-m", "core.ml.worker"]
    assert train.command(two)[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def test_runs_train_side_by_side_on_the_parts_of_a_cpu_and_the_next_one_waits(
    rows: tuple[SnapshotRow, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOUPE_CPU_DEVICES", "2")
    settings.cache_clear()
    cpu = torch.device("cpu")
    held: dict[str, list[str]] = {}
    folders = [make_run(rows, name, architecture="linear") for name in ("first", "second", "third", "pair")]
    with turns.turn(folders[0], turns.parts("cpu")) as held["first"], turns.turn(folders[1], turns.parts("cpu")) as held["second"]:
        assert held == {"first": ["cpu:0"], "second": ["cpu:1"]}
        assert {slot: run for slot, (_, run, _, _) in devices.state().items()} == {"cpu:0": "first", "cpu:1": "second"}
        runs.request_stop(folders[2])
        with pytest.raises(Stopped), turns.turn(folders[2], turns.parts("cpu")):
            pass
        assert [e.place for e in runs.events(folders[2]) if isinstance(e, Queued)] == [1]
    with turns.turn(folders[3], turns.parts("cpu"), 2) as held["pair"]:
        assert held["pair"] == ["cpu:0", "cpu:1"]
    assert {slot: run for slot, (_, run, _, _) in devices.state().items()} == {"cpu:0": "", "cpu:1": ""}

    before = torch.get_num_threads()
    try:
        assert devices.device_of("cpu:1") == cpu
        assert torch.get_num_threads() == max(1, (os.cpu_count() or 1) // 2)
    finally:
        torch.set_num_threads(before)


def test_more_gpus_than_there_are_is_refused(rows: tuple[SnapshotRow, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    folder = make_run(rows, "many", architecture="linear")
    with turns.turn(folder, devices.slots("cuda"), 2) as held, turns.turn(folder, devices.slots("cuda")) as other:
        assert (held, other) == (["cuda:0", "cuda:1"], ["cuda:2"])
    with (
        pytest.raises(Invalid, match="asks for 4 devices of the kind cuda, and this machine has 3"),
        turns.turn(folder, devices.slots("cuda"), 4),
    ):
        pass
