"""What is promised of a GPU, on one: skipped, with the reason, where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.catalog import methods
from core.ml import attribute, data, infer
from core.runs import launch, runs
from core.types import EpochEnd, SnapshotRow, Started
from tests.ml.made import ended, files_of, make_run, squares
from tests.ml.plain import network, pictures

DEVICE = os.environ.get("LOUPE_TEST_GPU", "cuda")  # cpu tries the tests themselves
pytestmark = pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="this machine has no CUDA device")
NETWORK: dict[str, Any] = {
    "architecture": "cnn3",
    "image_size": 16,
    "batch_size": 16,
    "epochs": 6,
    "patience": 0,
    "flip": "horizontal",
    "device": DEVICE,
}
MANY_EPOCHS = 60  # so that it is paused before it ends


@pytest.fixture
def rows(home: Path) -> tuple[SnapshotRow, ...]:
    return squares(40)


def worker(folder: Path) -> subprocess.Popen[bytes]:
    """A process of its own: one that has asked a GPU cannot be forked."""
    return subprocess.Popen(launch.python("core.ml.worker", str(folder)), cwd=launch.ROOT, stderr=sys.stderr)


def trained(folder: Path) -> Path:
    assert worker(folder).wait(120) == 0
    assert ended(folder).outcome == "succeeded", ended(folder)
    return folder


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_what_a_gpu_trained_and_judged_the_cpu_answers_alike(rows: tuple[SnapshotRow, ...], precision: str) -> None:
    folder = trained(make_run(rows, **NETWORK, precision=precision))
    assert next(e for e in runs.events(folder) if isinstance(e, Started)).device.startswith(DEVICE)
    stored = runs.predictions(folder)
    file_of = dict(zip((row.image_id for row in rows), files_of(folder), strict=True))
    here = infer.predict(str(folder), [file_of[image_id] for image_id in stored.image_id])
    np.testing.assert_allclose(stored.probabilities, [row["probabilities"] for row in here], atol=1e-4)


def test_a_run_that_was_paused_on_a_gpu_goes_on_from_where_it_was(rows: tuple[SnapshotRow, ...]) -> None:
    longer = NETWORK | {"epochs": MANY_EPOCHS}
    whole = trained(make_run(rows, "whole", **longer))
    folder = make_run(rows, "paused", **longer)
    process = worker(folder)
    until = time.monotonic() + 60
    while not any(isinstance(e, EpochEnd) for e in runs.events(folder)):
        assert time.monotonic() < until
        time.sleep(0.02)
    runs.request_pause(folder)
    assert process.wait(60) == 0
    assert ended(folder).outcome == "paused" and sum(isinstance(e, EpochEnd) for e in runs.events(folder)) < MANY_EPOCHS
    runs.clear_requests(folder)
    trained(folder)
    losses = [[e.train_loss for e in runs.events(one) if isinstance(e, EpochEnd)] for one in (folder, whole)]
    assert len(losses[0]) == MANY_EPOCHS
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-2)  # to the bit on a CPU alone: some sums of a GPU have no order


@pytest.mark.parametrize(("name", "side"), [("plain", 24), ("efficientnet_lite0", 32)])
def test_maps_made_on_a_gpu_are_those_of_the_cpu(monkeypatch: pytest.MonkeyPatch, name: str, side: int) -> None:
    """To a hundredth of the map's length; methods that draw at random draw on the device."""
    found, x = network(name, side), pictures(2, side)
    for method, facts in methods.METHODS.items():
        if attribute.unsupported(found, method) or "samples" in methods.method_settings(method, {}):
            continue
        monkeypatch.setattr(attribute, "unused_gpu", lambda: None)
        here = attribute.maps(found, x, method, [0, 1])
        monkeypatch.setattr(attribute, "unused_gpu", lambda: torch.device(DEVICE))
        there = attribute._maps(attribute.moved(found, torch.device(DEVICE)), x.to(DEVICE), method, [0, 1], None, None)
        assert np.linalg.norm(there.map - here.map) <= 0.01 * np.linalg.norm(here.map), facts.title
        assert there.notes == here.notes


def test_rows_that_the_device_has_no_room_for_are_copied_to_it_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    source = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), np.uint8)
    labels = torch.arange(20, device=DEVICE)
    monkeypatch.setattr(data, "free_memory", lambda device: 0)
    gathered = data.Tensors([source], np.arange(5, 25), labels)
    assert not gathered.resident
    x, y = gathered.rows(torch.tensor([3, 0, 19]))
    assert x.device.type == y.device.type == torch.device(DEVICE).type
    assert (x.cpu().numpy() == source[[8, 5, 24]]).all() and y.tolist() == [3, 0, 19]
