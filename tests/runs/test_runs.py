"""The files of a run folder: events, status, and writes that are whole or not at all."""

from __future__ import annotations

import csv
import errno
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from core.catalog import params
from core.errors import NotFound
from core.runs import runs
from core.settings import settings
from core.types import Ended, EpochEnd, Event, Preparing, Queued, Run, RunConfig, RunStatus, Snapshot, SnapshotRow, Started, Step

AT = "2026-01-01T00:00:00.000+00:00"
QUEUED = Queued("cpu", AT)
STARTED = Started("cpu", 10, 10, 5, 2, AT)
STEP = Step(1, 3, 0.5, 0.9, 100.0, 2.0, AT)
EPOCH = EpochEnd(1, 5, 0.5, 0.9, None, None, 0.1, 100.0, 1, 1.0, AT)
ENDED = Ended("succeeded", 1, "", 2.0, AT)


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    written: list[Event] = [QUEUED, Preparing("Reading “ä”", 1, 2, AT), STARTED, STEP, EPOCH, Ended("succeeded", 1, "", 2.0, AT)]
    for event in written:
        runs.append(tmp_path, event)
    assert runs.events(tmp_path) == written


def test_reading_after_an_offset_gives_only_what_is_new(tmp_path: Path) -> None:
    assert runs.read_lines(tmp_path) == ([], 0)
    runs.append(tmp_path, QUEUED)
    first, after = runs.read_lines(tmp_path)
    assert [line["kind"] for line in first] == ["Queued"]
    assert runs.read_lines(tmp_path, after) == ([], after)
    runs.append(tmp_path, STARTED)
    runs.append(tmp_path, STEP)
    more, end = runs.read_lines(tmp_path, after)
    assert [line["kind"] for line in more] == ["Started", "Step"]
    assert end == (tmp_path / "events.jsonl").stat().st_size


def test_a_half_written_last_line_is_left_for_the_next_read(tmp_path: Path) -> None:
    runs.append(tmp_path, QUEUED)
    whole = (tmp_path / "events.jsonl").stat().st_size
    line = json.dumps({"kind": "Queued", "device": "über", "at": AT}, ensure_ascii=False).encode() + b"\n"
    half = line.index("ü".encode()) + 1  # in the middle of a letter
    with open(tmp_path / "events.jsonl", "ab") as f:
        f.write(line[:half])
    assert runs.read_lines(tmp_path)[1] == whole
    assert runs.read_lines(tmp_path, whole) == ([], whole)
    assert runs.events(tmp_path) == [QUEUED]
    with open(tmp_path / "events.jsonl", "ab") as f:
        f.write(line[half:])
    assert runs.read_lines(tmp_path, whole) == ([{"kind": "Queued", "device": "über", "at": AT}], whole + len(line))


def test_a_line_that_the_disk_refuses_leaves_nothing_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.append(tmp_path, QUEUED)
    before, write = (tmp_path / "events.jsonl").read_bytes(), os.write
    parts = iter([10])

    def fills(fd: int, data: bytes) -> int:
        for most in parts:
            return write(fd, data[:most])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fills)
    with pytest.raises(OSError, match=r"No space left on device: '.*events\.jsonl'"):
        runs.append(tmp_path, STARTED)
    assert (tmp_path / "events.jsonl").read_bytes() == before
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))  # it takes a part each time, and all in the end
    runs.append(tmp_path, STARTED)
    assert runs.events(tmp_path) == [QUEUED, STARTED]


def test_on_a_full_disk_there_is_room_for_the_last_line(tiny_disk: Path) -> None:
    room = runs.keep_room(tiny_disk)
    with pytest.raises(OSError, match="No space"), open(tiny_disk / "filler", "wb", buffering=0) as f:
        while True:
            f.write(bytes(4096))
    with pytest.raises(OSError, match="No space"):
        runs.append(tiny_disk, STARTED)
    room.unlink()
    runs.append(tiny_disk, ENDED)
    assert runs.events(tiny_disk) == [ENDED]


def test_torn_lines_are_passed_over_and_named_and_the_rest_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torn = b'{"kind": "Step", "epoch": 1, "st'
    runs.append(tmp_path, STARTED)
    with open(tmp_path / "events.jsonl", "ab") as f:
        f.write(torn)
    runs.append(tmp_path, STEP)  # begins a line of its own
    with open(tmp_path / "events.jsonl", "ab") as f:  # an older Loupe wrote on
        f.write(torn + json.dumps({"kind": "EpochEnd", **asdict(EPOCH)}).encode() + b'\n\xff\n{"kind": "Ended"}\n[]\n')
    runs.append(tmp_path, ENDED)
    assert runs.events(tmp_path) == [STARTED, STEP, EPOCH, ENDED] and runs.torn_lines(tmp_path) == [2, 4, 5, 6, 7]
    assert "damaged lines" in caplog.text and str(tmp_path / "events.jsonl") in caplog.text
    assert runs.status(runs.events(tmp_path), alive=False) == "succeeded"


@pytest.mark.parametrize(
    ("history", "alive", "expected"),
    [
        ([], True, "pending"),
        ([], False, "lost"),
        ([QUEUED], True, "queued"),
        ([QUEUED], False, "lost"),
        ([QUEUED, Preparing("x", 0, 1, AT)], True, "running"),
        ([STARTED, STEP], True, "running"),
        ([STARTED, EPOCH], False, "lost"),
        ([STARTED, EPOCH, Ended("succeeded", 1, "", 1.0, AT)], False, "succeeded"),
        ([STARTED, Ended("stopped", None, "", 1.0, AT)], False, "stopped"),
        ([Ended("failed", None, "", 1.0, AT)], False, "failed"),
        ([STARTED, Ended("succeeded", 1, "", 1.0, AT)], True, "succeeded"),  # the worker is still closing its files
    ],
)
def test_the_status_follows_from_the_events_and_the_process(history: list[Event], alive: bool, expected: RunStatus) -> None:
    assert runs.status(history, alive) == expected


def test_a_writer_that_fails_half_way_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "config.json"
    runs.write_json(target, {"old": 1})

    def half(tmp: Path) -> None:
        tmp.write_text("{")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        runs.write_atomically(target, half)
    assert runs.read_json(target) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    runs.write_json(target, {"new": 2})
    assert runs.read_json(target) == {"new": 2}


def test_two_threads_may_write_the_same_file_at_once(tmp_path: Path) -> None:
    target, both = tmp_path / "network.json", threading.Barrier(2)

    def write(text: str) -> None:
        def slowly(tmp: Path) -> None:
            tmp.write_text(text)
            both.wait(timeout=10)

        runs.write_atomically(target, slowly)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ('{"by": 1}', '{"by": 2}')))  # raises what a thread raised
    assert runs.read_json(target)["by"] in (1, 2) and [p.name for p in tmp_path.iterdir()] == ["network.json"]


@pytest.mark.parametrize("name", ["", ".", "..", "../runs", "../bin", "../../etc", "good/inner", "good/../good", "/etc", "missing", "a\0b"])
def test_a_name_that_is_no_run_of_this_home_is_refused(home: Path, name: str) -> None:
    (settings().runs / "good" / "inner").mkdir(parents=True)
    (settings().home / "bin").mkdir()
    with pytest.raises(NotFound):
        runs.folder(name)
    assert runs.folder("good") == settings().runs / "good"


OF_0_1_0 = {
    "architecture": "linear", "pretrained": False, "freeze": False, "image_size": 0, "epochs": 1, "batch_size": 8, "optimizer": "adam",
    "learning_rate": 1e-3, "patience": 0, "seed": 0, "device": "cpu",
}  # fmt: skip


def test_a_config_of_before_a_setting_was_is_read_with_what_runs_did_then() -> None:
    config = RunConfig.read(OF_0_1_0)
    assert (config.momentum, config.schedule, config.clip, config.flip, config.layers) == (0.9, "constant", 0.0, "none", ())
    assert config == params.run_config(OF_0_1_0)
    with pytest.raises(TypeError, match="epochs"):  # it stands in every file: without it something is wrong
        RunConfig.read({name: value for name, value in OF_0_1_0.items() if name != "epochs"})


def test_a_run_and_its_snapshot_survive_the_way_to_disk_with_any_class_name(tmp_path: Path) -> None:
    names = ("NA", 'a,"b"', "ü; x")
    config = RunConfig.read(OF_0_1_0)
    run = Run("r", "Linear 1", 1, "d", config, names, "s", {"train": 3, "validation": 0, "test": 0}, AT, "me", "abc")
    rows = tuple(SnapshotRow(f"{i:016x}", f"00/{i:016x}.png", name, "train") for i, name in enumerate(names))
    runs.create(tmp_path / "r", run, Snapshot("s", names, rows))
    assert runs.load(tmp_path / "r") == run
    assert tuple(runs.snapshot_rows(tmp_path / "r")) == rows


def test_the_end_of_a_log_is_read_without_the_rest(tmp_path: Path) -> None:
    assert runs.log_tail(tmp_path) == ""
    (tmp_path / "worker.log").write_text("\n".join(f"line {i}" for i in range(10_000)))
    assert runs.log_tail(tmp_path, 2) == "line 9998\nline 9999"


# Predictions, and the file of numbers beside them

ROWS = [
    runs.PredictionRow("0" * 16, "validation", "NA", "1, 2", 0.75, (0.123456789, 0.75)),
    runs.PredictionRow("1" * 16, "test", "1, 2", "NA", 1e-30, (1 / 3, float("nan"))),
]


def seen(folder: Path) -> list[str]:
    return [repr(row) for row in runs.read_predictions(folder)]


def numbers(folder: Path) -> Path:
    (found,) = folder.glob("predictions-*.npy")
    return found


def test_the_file_of_numbers_says_what_predictions_csv_says(tmp_path: Path) -> None:
    runs.write_predictions(tmp_path, ("NA", "1, 2"), iter(ROWS))
    with open(runs.predictions_path(tmp_path), newline="", encoding="utf-8") as f:
        written = [runs.PredictionRow(a, b, c, d, float(e), tuple(map(float, rest))) for a, b, c, d, e, *rest in list(csv.reader(f))[1:]]
    assert seen(tmp_path) == list(map(repr, written))
    numbers(tmp_path).unlink()  # as in the folder of an earlier version
    assert seen(tmp_path) == list(map(repr, written)) and numbers(tmp_path).exists()


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x02", None])
def test_a_half_written_file_of_numbers_is_noticed_and_made_again(tmp_path: Path, damage: bytes | None) -> None:
    runs.write_predictions(tmp_path, ("NA", "1, 2"), ROWS)
    before, whole = seen(tmp_path), numbers(tmp_path).read_bytes()
    numbers(tmp_path).write_bytes(whole[:-8] if damage is None else damage)
    assert seen(tmp_path) == before and numbers(tmp_path).read_bytes() == whole


def test_another_predictions_csv_gets_other_numbers_and_the_old_ones_go(tmp_path: Path) -> None:
    runs.write_predictions(tmp_path, ("NA", "1, 2"), ROWS)
    old, path = numbers(tmp_path), runs.predictions_path(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace("0.123456789", "0.2"), encoding="utf-8")
    assert next(runs.read_predictions(tmp_path)).probabilities == (0.2, 0.75) and numbers(tmp_path) != old


def test_predictions_are_read_where_nothing_can_be_written_and_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.write_predictions(tmp_path, ("a",), [])
    assert seen(tmp_path) == [] and runs.predictions(tmp_path).probabilities.shape == (0, 1)
    runs.write_predictions(tmp_path, ("NA", "1, 2"), ROWS)
    before = seen(tmp_path)
    numbers(tmp_path).unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_atomically", full)
    assert seen(tmp_path) == before and not list(tmp_path.glob("predictions-*"))
