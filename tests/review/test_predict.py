"""Answers of the model worker: the same as in training, and one bad file costs only itself."""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from PIL import Image as Pillow

from core.data import dataset, schema, store
from core.errors import AppError, Invalid, NotFound, WorkerFailed
from core.review import predict
from core.runs import launch, runs
from core.types import Dataset, Prediction
from tests.held_out import pictures

if TYPE_CHECKING:
    from tests.conftest import Trained


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


def test_one_picture_is_asked_about_once_for_the_same_weights(
    trained_copy: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, file = trained_copy.run_id, next(iter(pictures(trained_copy).values()))
    assert predict.stored(run_id, file, "a") is None
    found = predict.predict_one(run_id, file, "a")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(AppError, match="b: "):
        predict.predict_one(run_id, tmp_path / "text.png", "b")
    monkeypatch.setattr(launch, "submit", lambda *_: pytest.fail("the worker was asked again"))
    assert predict.stored(run_id, file, "a") == predict.predict_one(run_id, file, "a") == found
    renamed = predict.stored(run_id, file, "c")
    assert renamed is not None and renamed.file == "c" and renamed.probabilities == found.probabilities
    os.utime(runs.checkpoint(runs.folder(run_id)), ns=(1, 1))
    assert predict.stored(run_id, file, "a") is None


def test_a_broken_file_among_good_ones_costs_only_itself(trained: Trained, tmp_path: Path) -> None:
    one, two = list(pictures(trained).values())[:2]
    (tmp_path / "half.png").write_bytes(one.read_bytes()[:-30])
    (tmp_path / "text.jpg").write_text("no picture at all")
    Pillow.new("1", (12_000, 12_000)).save(tmp_path / "huge.png")
    files = [one, tmp_path / "half.png", tmp_path / "text.jpg", tmp_path / "missing.png", tmp_path / "huge.png", two]
    alone = predict.predict(trained.run_id, [one, two])
    answers = predict.predict(trained.run_id, files, ["a", "b", "c", "d", "e", "f"])
    for mixed, single in zip((answers[0], answers[5]), alone, strict=True):
        assert isinstance(mixed, Prediction) and isinstance(single, Prediction)
        assert mixed.probabilities == pytest.approx(single.probabilities, abs=1e-6)
    bad = [a for a in answers[1:5] if isinstance(a, predict.Failure)]
    assert [f.file for f in bad] == ["b", "c", "d", "e"] and all(f.message for f in bad)
    assert "12000 × 12000 pixels" in bad[3].message and "LOUPE_MAX_MEGAPIXELS" in bad[3].hint


def test_a_run_that_is_not_there_or_has_no_weights_yet_is_refused_in_words(trained_copy: Trained) -> None:
    file = next(iter(pictures(trained_copy).values()))
    with pytest.raises(NotFound, match="no run"):
        predict.predict("20200101-000000-0000", [file])
    runs.checkpoint(runs.folder(trained_copy.run_id)).unlink()
    with pytest.raises(NotFound, match="no trained weights"):
        predict.predict(trained_copy.run_id, [file])


def test_when_the_model_worker_is_killed_the_caller_hears_it_and_the_next_call_works(real_workers: None, trained: Trained) -> None:
    file = next(iter(pictures(trained).values()))
    (before,) = predict.predict(trained.run_id, [file])
    worker = psutil.Process(launch.ask(os.getpid))
    assert worker.ppid() == psutil.Process().pid
    launch.submit(time.sleep, 60)
    waiting = predict.ask(trained.run_id, [file])
    worker.kill()
    with pytest.raises(WorkerFailed, match="stopped before it could answer"):
        predict.answers(trained.run_id, ["x"], waiting)
    (after,) = predict.predict(trained.run_id, [file])
    assert isinstance(before, Prediction) and isinstance(after, Prediction)
    assert after.probabilities == pytest.approx(before.probabilities, abs=1e-6)
    assert launch.ask(os.getpid) != worker.pid


def test_what_an_untrained_network_receives_is_measured_on_any_split(small: Dataset) -> None:
    launch.close()  # a worker that another test started looks into that test's home
    (file, *_) = dataset.browse(small.id, store.Filter(), 1)[0]
    with schema.writing() as c:
        c.execute(schema.images.update().values(split="test"))
    assert predict.received("untrained:linear", small.id, file.path)["shape"][0] == 1
    empty = store.create_dataset("empty")
    with pytest.raises(Invalid, match="holds no image"):
        predict.received("untrained:linear", empty.id, file.path)
