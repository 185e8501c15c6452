"""Answers of the model worker: the same as in training, one bad file costs only itself, and a dead worker is replaced."""

from __future__ import annotations

import csv
import io
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from PIL import Image as Pillow

from core import catalog, dataset, explain, launch, predict, runs, schema, store
from core.errors import Invalid, NotFound, WorkerFailed
from core.settings import settings
from core.types import Attribution, Dataset, Prediction

if TYPE_CHECKING:
    from tests.conftest import Trained


def pictures(trained: Trained) -> dict[str, Path]:
    """The files of the images the run has predictions for."""
    return {r.image_id: settings().images / r.path for r in runs.snapshot_rows(runs.folder(trained.run_id)) if r.split != "train"}


def test_a_prediction_is_the_one_the_run_stored_when_it_ended(trained: Trained) -> None:
    files = pictures(trained)
    with open(runs.predictions_path(runs.folder(trained.run_id)), newline="", encoding="utf-8") as f:
        stored = {row["image_id"]: row for row in csv.DictReader(f)}
    assert files.keys() == stored.keys() and len(files) > 40  # more than one batch of the worker
    answers = predict.predict(trained.run_id, list(files.values()))
    classes = runs.load(runs.folder(trained.run_id)).classes
    for image_id, answer in zip(files, answers, strict=True):
        assert isinstance(answer, Prediction) and answer.image_id == image_id and answer.classes == classes
        assert answer.probabilities == pytest.approx([float(stored[image_id][c]) for c in classes], abs=1e-5)
        label, probability = answer.top(1)[0]
        assert label == stored[image_id]["predicted"] and probability == pytest.approx(float(stored[image_id]["confidence"]), abs=1e-5)
    right = sum(stored[i]["true"] == a.top(1)[0][0] for i, a in zip(files, answers, strict=True) if isinstance(a, Prediction))
    assert right / len(files) > 0.3  # ten classes: it has learned something


def test_a_broken_file_among_good_ones_costs_only_itself(trained: Trained, tmp_path: Path) -> None:
    one, two = list(pictures(trained).values())[:2]
    (tmp_path / "half.png").write_bytes(one.read_bytes()[:-30])
    (tmp_path / "text.jpg").write_text("no picture at all")
    files = [one, tmp_path / "half.png", tmp_path / "text.jpg", tmp_path / "missing.png", two]
    alone = predict.predict(trained.run_id, [one, two])
    answers = predict.predict(trained.run_id, files, ["a", "b", "c", "d", "e"])
    for mixed, single in zip((answers[0], answers[4]), alone, strict=True):
        assert isinstance(mixed, Prediction) and isinstance(single, Prediction)
        assert mixed.probabilities == pytest.approx(single.probabilities, abs=1e-6)
    bad = [a for a in answers[1:4] if isinstance(a, predict.Failure)]
    assert [f.file for f in bad] == ["b", "c", "d"] and all(f.message for f in bad)


def test_a_run_that_is_not_there_or_has_no_weights_yet_is_refused_in_words(trained_copy: Trained) -> None:
    file = next(iter(pictures(trained_copy).values()))
    with pytest.raises(NotFound, match="no run"):
        predict.predict("20200101-000000-0000", [file])
    runs.checkpoint(runs.folder(trained_copy.run_id)).unlink()
    with pytest.raises(NotFound, match="no trained weights"):
        predict.predict(trained_copy.run_id, [file])


@pytest.mark.parametrize("method", catalog.METHODS)
def test_every_method_gives_a_map_of_the_size_of_the_picture_the_network_saw(trained: Trained, method: str) -> None:
    file = next(iter(pictures(trained).values()))
    found = explain.explain(trained.run_id, file, method, "3")
    assert isinstance(found, Attribution)
    assert (found.method, found.target, found.image_id) == (method, "3", file.stem)
    assert found.image.dtype == np.uint8 and found.image.shape == (*found.map.shape, 3) and found.map.ndim == 2
    assert np.isfinite(found.map).all() and np.abs(found.map).max() > 0
    (answer,) = predict.predict(trained.run_id, [file])
    assert isinstance(answer, Prediction) and dict(answer.top(10))["3"] == pytest.approx(found.probability, abs=1e-5)
    again, other = explain.explain(trained.run_id, file, method, "3"), explain.explain(trained.run_id, file, method, "8")
    assert (again.map == found.map).all() and not np.allclose(other.map, found.map)


def test_methods_and_targets_that_do_not_exist_are_refused(trained: Trained) -> None:
    file = next(iter(pictures(trained).values()))
    assert explain.supported(trained.run_id) == dict.fromkeys(catalog.METHODS, "")
    with pytest.raises(Invalid, match="“horse” is not a class of this run"):
        explain.explain(trained.run_id, file, "saliency", "horse")
    with pytest.raises(Invalid, match="no method called “magic”"):
        explain.explain(trained.run_id, file, "magic")


def test_without_a_target_the_likeliest_class_is_explained(trained: Trained) -> None:
    file = next(iter(pictures(trained).values()))
    (answer,) = predict.predict(trained.run_id, [file])
    assert isinstance(answer, Prediction)
    assert explain.explain(trained.run_id, file, "saliency").target == answer.top(1)[0][0]


def test_maps_and_overlays_are_png_pictures_red_for_and_blue_against() -> None:
    values = np.array([[1, 0], [0, -1]], np.float32)
    found = Attribution("r", "i", "saliency", "a", 0.5, np.full((2, 2, 3), 100, np.uint8), values, None)
    overlay = explain.overlay_png(found, opacity=1.0)
    assert overlay.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = np.asarray(Pillow.open(io.BytesIO(overlay)))
    assert pixels.shape == (2, 2, 3)
    assert pixels[0, 0, 0] > 190 > 60 > pixels[0, 0, 2] and pixels[1, 1, 2] > 180 > 60 > pixels[1, 1, 0]
    assert (pixels[0, 1] == 100).all()
    flat = np.asarray(Pillow.open(io.BytesIO(explain.map_png(values, explain.scale([values])))))
    assert flat.shape == (2, 2, 4) and flat[0, 1, 3] == 0 and flat[0, 0, 3] == 255
    empty = Attribution("r", "i", "saliency", "a", 0.5, found.image, np.zeros((2, 2), np.float32), None)
    assert (np.asarray(Pillow.open(io.BytesIO(explain.overlay_png(empty)))) == 100).all()


def test_when_the_model_worker_is_killed_the_caller_hears_it_and_the_next_call_works(trained: Trained) -> None:
    file = next(iter(pictures(trained).values()))
    (before,) = predict.predict(trained.run_id, [file])
    worker = psutil.Process(launch.ask("os", "getpid"))
    assert worker.ppid() == psutil.Process().pid
    launch.submit("time", "sleep", 60)
    waiting = predict.ask(trained.run_id, [file])
    worker.kill()
    with pytest.raises(WorkerFailed, match="stopped before it could answer"):
        predict.answers(trained.run_id, ["x"], waiting)
    (after,) = predict.predict(trained.run_id, [file])
    assert isinstance(before, Prediction) and isinstance(after, Prediction)
    assert after.probabilities == pytest.approx(before.probabilities, abs=1e-6)
    assert launch.ask("os", "getpid") != worker.pid


def test_the_same_worker_answers_every_thread_and_keeps_what_it_has_loaded(trained: Trained) -> None:
    first = launch.ask("os", "getpid")
    found: list[int] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: found.append(launch.ask("os", "getpid")))
        thread.start()
        thread.join()
    launch.ask("builtins", "exec", "import builtins; builtins.ballast = bytearray(b'1') * 500_000_000")
    time.sleep(1.1)  # loky looks at the memory once a second
    launch.ask("os", "getpid")
    assert [*found, launch.ask("os", "getpid")] == [first] * 3
    launch.close()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_model_worker_does_not_outlive_the_server(home: Path, free_port: int, end: signal.Signals) -> None:
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(free_port), "--server.headless", "true"]
    server = psutil.Popen(command, cwd=launch.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        found: list[psutil.Process] = []
        give_up = time.monotonic() + 60
        while not found and time.monotonic() < give_up:
            time.sleep(0.2)
            found = [p for p in server.children(recursive=True) if "popen_loky" in " ".join(p.cmdline())]
        assert found
        time.sleep(2)
        server.send_signal(end)
        _, alive = psutil.wait_procs([server, *found], timeout=15)
        assert not alive
    finally:
        if server.is_running():
            server.kill()


def test_what_an_untrained_network_receives_is_measured_on_any_split(small: Dataset) -> None:
    (file, *_) = dataset.browse(small.id, dataset.Filter(), 1)[0]
    with schema.writing() as c:
        c.execute(schema.images.update().values(split="test"))
    assert predict.received("untrained:linear", small.id, file.path)["shape"][0] == 1
    empty = store.create_dataset("empty")
    with pytest.raises(Invalid, match="holds no image"):
        predict.received("untrained:linear", empty.id, file.path)
