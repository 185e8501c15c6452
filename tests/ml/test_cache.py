"""The cache of pixels and features: a limit, what is evicted and what never is, and runs whose images do not fit."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core import space
from core.catalog.params import run_config
from core.data import images
from core.errors import Invalid, Stopped, Unwritable
from core.ml import data, model, trainer
from core.ml.fit import Stage, Training, drawn
from core.runs import runs
from core.settings import settings
from core.types import EpochEnd, Preprocess, SnapshotRow, Started
from tests.ml.made import ended, make_run, squares

HOW = Preprocess(3, 12, 12, (0.0,) * 3, (1.0,) * 3)
ROW = 3 * 12 * 12 + data.ID_BYTES


def limit(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(space, "cache_limit", lambda: size)


def read(rows: tuple[SnapshotRow, ...], dataset: int = 1, how: Preprocess = HOW) -> data.Pixels:
    return data.pixel_rows(settings().cache, dataset, how, rows, lambda done, total: None)


def filled(name: str, used: float = 0) -> data.RowCache:
    cache = data.RowCache(settings().cache, name, (1000,), "uint8")
    cache.append([f"{n:016x}" for n in range(10)], np.zeros((10, 1000), np.uint8))
    if used:
        os.utime(cache.rows, (used, used))
    return cache


def kept() -> list[str]:
    return sorted(path.stem for path in settings().cache.glob("*.rows"))


# A run whose images do not fit ----------------------------------------------------------------------


def test_a_run_learns_the_same_numbers_whether_its_images_fit_into_the_cache_or_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = squares(6)
    (settings().images / rows[1].path).write_bytes(b"broken")
    monkeypatch.setattr(data, "free_memory", lambda device: 0)  # else so few would be kept in memory
    found = []
    for name, most in (("stored", 10**9), ("decoded", 9 * ROW)):  # 8 are stored and 9 decoded: a batch has both
        for path in settings().cache.glob("*"):
            path.unlink()
        limit(monkeypatch, most)
        folder = make_run(rows, name, architecture="convnet", epochs=2, batch_size=4)
        trainer.run(folder)
        assert ended(folder).outcome == "succeeded", ended(folder)
        losses = [(e.train_loss, e.val_loss) for e in runs.events(folder) if isinstance(e, EpochEnd)]
        (note,) = [e.note for e in runs.events(folder) if isinstance(e, Started)]
        assert "1 images could not be read" in note
        assert ("9 of the 17 images do not fit into the cache" in note) is (name == "decoded")
        found.append((losses, runs.predictions_path(folder).read_bytes(), model.load(folder).model.state_dict()))
    assert found[0][:2] == found[1][:2]
    assert all(torch.equal(tensor, found[1][2][name]) for name, tensor in found[0][2].items())


@pytest.mark.parametrize("how", [HOW, replace(HOW, resize=64, crop=64, rectangles=True)], ids=["squares", "rectangles"])
def test_what_is_decoded_when_it_is_asked_for_is_what_would_be_stored(home: Path, monkeypatch: pytest.MonkeyPatch, how: Preprocess) -> None:
    noise = np.random.default_rng(0)
    rows = []
    for size in ((12, 12), (12, 18), (18, 12), (12, 12), (12, 18)):
        png = images.png(noise.integers(0, 256, (*size, 3), np.uint8))
        name = images.image_id(png)
        images.store_original(settings().images, f"{name[:2]}/{name}.png", png)
        rows.append(SnapshotRow(name, f"{name[:2]}/{name}.png", "a", "train"))
    stored = pixels_of(tuple(rows), how, dataset=1)
    limit(monkeypatch, 0)
    decoded = pixels_of(tuple(rows), how, dataset=2)
    assert all(np.array_equal(a, b) for a, b in zip(stored, decoded, strict=True)) and kept() == ["2-" + kept()[0][2:]]
    monkeypatch.setattr(images, "read_original", lambda *_: 1 / 0)  # that they can be read is known from the first time
    assert len(read(tuple(rows), 2, how).rows) == 5


def pixels_of(rows: tuple[SnapshotRow, ...], how: Preprocess, dataset: int) -> list[np.ndarray]:
    pixels = read(rows, dataset, how)
    return [pixels.sources[part][[int(i)]] for part, i in zip(pixels.part, pixels.index, strict=True)]


def test_a_picture_that_is_damaged_in_the_middle_of_a_run_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 0)
    rows = squares(1)
    pixels = read(rows)
    (settings().images / rows[0].path).unlink()
    with pytest.raises(Invalid, match=f"{rows[0].image_id}.png can no longer be read: The file cannot be read"):
        pixels.sources[0][pixels.index]


# What is evicted --------------------------------------------------------------------------------------


def test_the_rows_of_the_longest_ago_make_room_and_those_in_use_stay(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = squares(1)
    oldest, _, _ = filled("1-a", used=100), filled("1-b", used=300), filled("1-c", used=200)
    del _
    limit(monkeypatch, space.cached() + 3 * ROW - 1)
    read(rows)
    assert kept() == ["1-a", "1-b", "1-pixels-3x12x12"]  # the oldest is in use
    assert oldest.read()[1] and not (settings().cache / "1-c.ids").exists()


def test_a_map_keeps_its_rows_for_as_long_as_it_is_there(home: Path) -> None:
    found = filled("1-a").read()[0][2:]
    space.evict(lambda: False)
    assert kept() == ["1-a"] and not found.any()
    del found
    space.evict(lambda: False)
    assert kept() == []


def test_a_run_whose_rows_were_evicted_makes_them_anew(home: Path) -> None:
    rows = squares(1)
    before = pixels_of(rows, HOW, 1)
    space.evict(lambda: False)
    assert kept() == [] and np.array_equal(before, pixels_of(rows, HOW, 1)) and kept() == ["1-pixels-3x12x12"]


def test_reading_counts_as_use(home: Path) -> None:
    filled("1-a", used=100)
    filled("1-b", used=200)
    data.RowCache(settings().cache, "1-a", (1000,), "uint8").read()
    space.evict(lambda: len(kept()) == 1)
    assert kept() == ["1-a"]


def test_pixels_leave_the_disk_its_least_free_room(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "free_at", lambda folder: 500_000_000 + 2 * ROW)
    pixels = read(squares(1))
    assert isinstance(pixels.sources[0], data.Decoded) and pixels.sources[0].decoded == 1


def test_features_that_exceed_the_limit_are_refused_with_what_they_need(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_CACHE_GB", "1")
    settings.cache_clear()
    cache = data.RowCache(settings().cache, "1-features", (250_000_000,), "float32")
    with pytest.raises(Unwritable, match=r"need 2\.0 GB in the cache. It may hold 1 GB") as e:
        cache.fetch(["1", "2"], lambda missing: pytest.fail("nothing may be computed"))
    assert "LOUPE_CACHE_GB to 3 or more" in e.value.hint


def test_what_would_be_refused_for_want_of_room_evicts_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled("1-a")
    monkeypatch.setattr(space, "free_at", lambda folder: 500_000_000 - (1000 if kept() else 0))
    space.need("The import")
    assert kept() == []


def test_a_large_split_is_not_copied_into_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    source, labels = np.zeros((4, 1, 8, 8), np.uint8), torch.zeros(4, dtype=torch.int64)
    assert data.Tensors([source], np.arange(4), labels).resident
    monkeypatch.setattr(data, "RESIDENT_BYTES", source.nbytes)
    assert not data.Tensors([source], np.arange(4), labels).resident


def test_rows_that_exceed_memory_are_shuffled_among_a_few_blocks_at_a_time_and_each_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source, where = np.zeros((32, 1, 8, 8), np.uint8), np.random.default_rng(0).permutation(32)
    monkeypatch.setattr(data, "RESIDENT_BYTES", source.nbytes)
    rows = data.Tensors([source], where, torch.zeros(32, dtype=torch.int64))
    assert not rows.exceeds_memory
    monkeypatch.setattr(data, "whole_memory", lambda: source.nbytes)
    assert rows.exceeds_memory
    monkeypatch.setattr(data, "BLOCK_BYTES", 4 * rows.row_bytes)
    monkeypatch.setattr(data, "WINDOW", 2)
    shuffler = torch.Generator().manual_seed(0)
    first, second = (rows.in_blocks(torch.arange(32), shuffler) for _ in range(2))
    assert sorted(first.tolist()) == list(range(32)) and not torch.equal(first, second)
    windows = [where[some.numpy()] for some in first.split(8)]
    assert [len({int(row) // 4 for row in some}) for some in windows] == [2] * 4
    assert any((np.diff(some) < 0).any() and len({int(row) // 4 for row in some[:4]}) == 2 for some in windows), "shuffled within"


def test_a_run_whose_rows_exceed_memory_goes_on_in_the_order_it_had_begun_with(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    rows = data.Tensors([points], np.arange(64), torch.from_numpy((points[:, 0] > 0).astype(np.int64)))
    config = run_config({"architecture": "linear", "epochs": 1, "batch_size": 8, "device": "cpu"})

    def training() -> Training:
        torch.manual_seed(0)
        return Training(torch.nn.Sequential(torch.nn.Linear(2, 2)), "0", config, [Stage(1, "", False, rows, None)], 2)

    monkeypatch.setattr(data.Tensors, "exceeds_memory", True)
    begun = training()
    assert begun.in_blocks
    state = begun.state()
    monkeypatch.setattr(data.Tensors, "exceeds_memory", False)  # on a machine with more of it
    other = training()
    other.restore(state, None)
    assert other.in_blocks and torch.equal(drawn(begun, rows), drawn(other, rows))


# Two who make the same rows, and a disk that fills up --------------------------------------------------


def test_of_two_who_want_the_same_pixels_one_decodes_and_the_other_waits_for_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, decoded, read_original = squares(8), Counter[str](), images.read_original

    def slow(path: Path, image_id: str, how: Preprocess) -> np.ndarray:
        decoded[image_id] += 1
        time.sleep(0.02)
        return read_original(path, image_id, how)

    monkeypatch.setattr(images, "read_original", slow)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: pixels_of(rows, HOW, 1), range(2))
    assert np.array_equal(one, other) and set(decoded.values()) == {1} and len(decoded) == len(rows)


def test_of_two_who_want_the_same_features_each_makes_what_the_other_has_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, made = [f"{n:016x}" for n in range(12)], Counter[str]()
    monkeypatch.setattr(data, "AT_ONCE", 2)

    def compute(missing: list[str]) -> Iterator[tuple[list[str], np.ndarray]]:
        time.sleep(0.02)
        made.update(missing)
        yield missing, np.array([[int(i, 16)] * 4 for i in missing])

    def fetched(_: int) -> list[int]:
        rows, index = data.RowCache(settings().cache, "1-a", (4,), "uint8").fetch(ids, compute)
        return [int(n) for n in rows[index, 0]]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fetched, range(2))) == [list(range(12))] * 2
    assert made == Counter(ids)


def test_who_waits_for_rows_that_another_makes_can_be_stopped_and_who_needs_none_does_not_wait(home: Path) -> None:
    cache = data.RowCache(settings().cache, "1-a", (4,), "uint8")
    cache.append(["1"], np.zeros((1, 4)))

    def stop(*_: int) -> None:
        raise Stopped

    with cache.alone(stop):
        other = data.RowCache(settings().cache, "1-a", (4,), "uint8")
        with pytest.raises(Stopped):
            other.fetch(["1", "2"], lambda missing: pytest.fail("it was not alone"), stop)
        assert other.fetch(["1"], lambda missing: pytest.fail("it is there"), stop)[1].tolist() == [0]


def test_a_damaged_image_makes_nobody_wait_for_longer_than_a_few_pictures(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = squares(2)
    (settings().images / rows[0].path).write_bytes(b"broken")
    read(rows)
    began, answered = threading.Event(), threading.Event()

    def decode(path: Path, image_id: str, how: Preprocess) -> np.ndarray:
        began.set()
        if not answered.is_set():
            time.sleep(0.3)
        return read_original(path, image_id, how)

    read_original = images.read_original
    monkeypatch.setattr(images, "read_original", decode)
    monkeypatch.setattr(data, "CHUNK", 1)
    with ThreadPoolExecutor(1) as pool:
        more = pool.submit(read, (*rows, *squares(4, seed=1)))
        began.wait(10)
        assert len(read(rows).rows) == 5 and not more.done()
        answered.set()
        assert len(more.result().rows) == 17


def test_where_the_disk_fills_up_meanwhile_the_rest_is_decoded_as_it_is_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, append = squares(4), data._append
    before = pixels_of(rows, HOW, 2)

    full_since: list[Path] = []

    def full(path: Path, start: int, some: bytes) -> None:
        if full_since or (path.suffix == ".ids" and start + len(some) > 8 * data.ID_BYTES):
            full_since.append(path)
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        append(path, start, some)

    monkeypatch.setattr(data, "CHUNK", 4)
    monkeypatch.setattr(data, "_append", full)
    pixels = read(rows)
    assert isinstance(pixels.sources[0], data.Decoded) and pixels.sources[0].decoded == 4
    assert all(np.array_equal(a, b) for a, b in zip(before, pixels_of(rows, HOW, 1), strict=True))
