"""Runs from start to end in their own processes: real training, real stops, real kills."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from core import catalog, dataset, evaluate, label, launch, predict, runs, schema, store, train
from core.errors import Conflict, Invalid, NotFound
from core.settings import settings
from core.types import Dataset, Ended, now

if TYPE_CHECKING:
    from tests.conftest import Trained

QUICK = {"architecture": "linear", "epochs": 2, "device": "cpu"}
ENDLESS = {"architecture": "linear", "epochs": 1000, "patience": 0, "batch_size": 1, "device": "cpu"}


def until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


def relabel(made: Dataset, name: str | None, keep: int = 0) -> None:
    """Gives all images of the dataset but `keep` of each class the label."""
    for c in made.classes:
        some = store.browse(made.id, store.Filter(label=c), 0, 100)[keep:]
        if some:
            label.apply(made.id, {i.id: i.label_seq for i in some}, name, "tester")


# Before a run


def test_every_problem_of_the_settings_is_reported_at_once() -> None:
    with pytest.raises(Invalid) as problem:
        catalog.run_config(
            {"architecture": "perceptron", "epochs": 0, "learning_rate": "fast", "freeze": "maybe", "colour": 1, "seed": 1.5}
        )
    for word in (
        "perceptron",
        "(epochs) is 0",
        "(learning_rate) is “fast”",
        "(freeze) is “maybe”",
        "“colour” is not a setting",
        "(seed) is 1.5",
    ):
        assert word in problem.value.message
    with pytest.raises(Invalid, match=r"\(epochs\) is nan\."):
        catalog.run_config({"epochs": float("nan")})


def test_a_value_may_come_as_text_and_defaults_come_from_the_network() -> None:
    config = catalog.run_config({"architecture": "linear", "epochs": "3", "learning_rate": "0.5"})
    assert (config.epochs, config.learning_rate, config.batch_size, config.pretrained) == (3, 0.5, 32, False)


def test_a_dataset_without_labels_cannot_be_trained_on(small: Dataset) -> None:
    relabel(small, None)
    with pytest.raises(Invalid, match="No image of this dataset carries a label"):
        train.start(small.id, QUICK, "tester")
    assert train.list_runs() == []


def test_a_dataset_of_one_class_cannot_be_trained_on(small: Dataset) -> None:
    relabel(small, "red")
    with pytest.raises(Invalid, match=r"at least two classes; the only class with training images is “red”"):
        train.start(small.id, QUICK, "tester")


def test_a_plan_warns_of_classes_with_few_images_and_of_empty_splits(small: Dataset) -> None:
    relabel(small, None, keep=1)
    snapshot, warnings = train.plan(small.id)
    text = " ".join(warnings)
    assert "There are no validation images." in text and "Fewer than ten training images of" in text
    assert len(snapshot.rows) == 3


def test_nothing_is_trained_on_a_deleted_dataset(small: Dataset) -> None:
    dataset.delete(small.id)
    with pytest.raises(Invalid, match="“squares” was deleted"):
        train.start(small.id, QUICK, "tester")


# A run


def test_a_run_goes_to_its_end_and_leaves_weights_predictions_and_a_frozen_snapshot(small: Dataset) -> None:
    run = train.start(small.id, QUICK, "Ann")
    frozen = store.snapshot(small.id, train.VALIDATION_SEED)
    state = train.wait(run.id)
    assert state.status == "succeeded", train.log_tail(run.id)
    assert (state.epoch, state.progress, state.device, state.run.by) == (2, 1.0, "cpu", "Ann")
    assert state.best is not None and state.best.epoch == state.best_epoch and state.best.val_accuracy is not None
    folder = runs.folder(run.id)
    assert tuple(runs.snapshot_rows(folder)) == frozen.rows
    assert runs.checkpoint(folder).stat().st_size > 0
    assert train.usable(small.id) == [state]
    assert set(evaluate.splits(run.id)) == {r.split for r in frozen.rows} - {"train"}
    kinds = [line["kind"] for line in runs.read_lines(runs.folder(run.id))[0]]
    assert kinds.count("EpochEnd") == 2 and kinds[-1] == "Ended"


def test_a_stopped_run_keeps_what_it_learned_and_a_second_click_starts_no_twin(small: Dataset) -> None:
    run = train.start(small.id, ENDLESS, "tester")
    with pytest.raises(Conflict, match="very run is going on already"):
        train.start(small.id, ENDLESS, "tester")
    until(lambda: train.state(run.id).best_epoch is not None, "the first epoch")
    assert train.state(run.id).status == "running" and train.usable(small.id) == []
    with pytest.raises(Conflict, match="still going on"):
        train.delete(run.id)
    train.stop(run.id)
    state = train.wait(run.id)
    assert state.status == "stopped" and "Stopped after" in state.message and state.best_epoch
    assert runs.checkpoint(runs.folder(run.id)).exists()
    assert evaluate.evaluate(run.id, "validation").n == state.run.counts["validation"]
    assert [r.run.id for r in train.list_runs(small.id)] == [run.id]

    train.delete(run.id)
    assert train.list_runs() == []
    with pytest.raises(NotFound):
        train.state(run.id)
    for name in ("..", "", "../runs", "nothing"):
        with pytest.raises(NotFound):
            train.restore(name)
    train.restore(run.id)
    assert train.state(run.id) == state

    dataset.delete(small.id)
    assert train.state(run.id).status == "stopped"
    assert evaluate.evaluate(run.id, "validation").changed == 0


def test_a_killed_run_is_lost_and_its_log_and_last_weights_can_be_read(small: Dataset) -> None:
    run = train.start(small.id, ENDLESS, "tester")
    folder = runs.folder(run.id)
    until(lambda: runs.checkpoint(folder).exists() and train.state(run.id).best_epoch is not None, "the first checkpoint")
    with open(folder / "worker.log", "a") as log:
        log.write("the last words\n")
    pid = runs.read_json(folder / "handle.json")["pid"]
    launch.launcher.kill(folder)
    state = train.wait(run.id)
    assert state.status == "lost" and "killed" in state.message
    assert train.log_tail(run.id, 1) == "the last words"
    until(lambda: not psutil.pid_exists(pid), "the end of the process")
    assert [r.run.id for r in train.usable(small.id)] == [run.id]
    file = dataset.images_of(small.id, [runs.snapshot_rows(folder)[0].image_id])[0]
    (answer,) = predict.predict(run.id, [settings().images / file.path])
    assert not isinstance(answer, predict.Failure)


def test_a_run_outlives_the_process_that_started_it(small: Dataset) -> None:
    code = f"from core import train; print(train.start({small.id}, {QUICK!r}, 'tester').id)"
    starter = subprocess.run(
        [sys.executable, "-c", code], cwd=launch.ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=60
    )
    run_id = starter.stdout.strip()
    state = train.state(run_id)
    assert state.active, (state.message, starter.stderr)
    state = train.wait(run_id)
    assert state.status == "succeeded", train.log_tail(run_id)


def test_two_runs_at_once_take_turns_on_the_device(small: Dataset) -> None:
    first = train.start(small.id, ENDLESS, "tester")
    until(lambda: train.state(first.id).status == "running", "the first run")
    second = train.start(small.id, QUICK, "tester")
    until(lambda: train.state(second.id).status == "queued", "the queue")
    train.stop(second.id)
    assert train.wait(second.id).status == "stopped"
    assert train.state(first.id).status == "running"
    train.stop(first.id)
    assert train.wait(first.id).status == "stopped"


# What the state says while processes come and go


def folder_of_a_run(small: Dataset) -> Path:
    """A run that is written down but whose worker has not been started."""
    snapshot = store.snapshot(small.id, 0)
    config = catalog.run_config(QUICK)
    counts = {"train": 1, "validation": 0, "test": 0}
    run = runs.Run(
        "20260101-000000-aaaa", "Linear 1", small.id, small.name, config, snapshot.classes, snapshot.id, counts, now(), "me", "x"
    )
    folder = settings().runs / run.id
    runs.create(folder, run, snapshot)
    return folder


def test_a_run_seen_before_its_worker_started_is_not_called_lost_for_ever(small: Dataset) -> None:
    folder = folder_of_a_run(small)
    train.state(folder.name)  # somebody's page, between the folder and the process
    launch.launcher.start(folder, [sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        assert train.state(folder.name).status == "pending"
    finally:
        launch.launcher.kill(folder)
    assert train.wait(folder.name).status == "lost"


def test_a_lost_run_is_folded_once_and_a_damaged_one_is_left_out(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = folder_of_a_run(small)
    damaged = shutil.copytree(lost, lost.with_name("20260101-000000-bbbb"))
    assert train.state(lost.name).status == "lost"
    (damaged / "config.json").write_text('{"id": "x"')
    with pytest.raises(Invalid, match=r"config\.json is damaged"):
        train.state(damaged.name)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "events", lambda _: 1 / 0)  # nothing is read again
        assert [r.run.id for r in train.list_runs(small.id)] == [lost.name]


def test_an_estimate_comes_from_runs_of_the_same_work_only(trained: Trained) -> None:
    config, dataset_id = train.state(trained.run_id).run.config, trained.dataset.id
    same, double = train.estimate(dataset_id, config), train.estimate(dataset_id, replace(config, epochs=2 * config.epochs))
    assert same is not None and double == pytest.approx(2 * same)
    for other in ({"image_size": 96}, {"batch_size": 21}, {"architecture": "linear"}):
        assert train.estimate(dataset_id, replace(config, **other)) is None


def test_a_new_run_never_takes_the_name_of_one_that_is_left(small: Dataset) -> None:
    first, second = (train.start(small.id, {**QUICK, "seed": seed}, "me") for seed in (1, 2))
    assert (first.name.rpartition(" ")[2], second.name.rpartition(" ")[2]) == ("1", "2")
    for run in (first, second):
        train.wait(run.id)
    train.delete(first.id)
    assert train.start(small.id, {**QUICK, "seed": 3}, "me").name.endswith(" 3")
    for one in train.list_runs(small.id):
        train.wait(one.run.id)


def test_a_run_that_ends_while_its_state_is_read_is_not_called_lost(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of_a_run(small)

    class Slow(launch.LocalLauncher):
        """The answer comes when the worker has written its last event and is gone."""

        def alive(self, folder: Path) -> bool:
            self._children[folder].wait()
            return super().alive(folder)

    monkeypatch.setattr(launch, "launcher", Slow())
    ended = f"runs.append(Path({str(folder)!r}), {Ended('stopped', None, '', 0.0, now())!r})"
    code = f"from pathlib import Path; from core import runs; from core.types import Ended; {ended}"
    launch.launcher.start(folder, [sys.executable, "-c", code])
    assert train.state(folder.name).status == "stopped"


def test_the_suggested_network_follows_the_bulk_of_the_images_and_not_one_odd_picture(trained_copy: Trained) -> None:
    assert train.suggested(trained_copy.dataset.id) == "convnet"
    with schema.writing() as c:
        first = store.some(trained_copy.dataset.id, "train", 1)[0]
        c.execute(schema.images.update().where(schema.images.c.id == first.id).values(width=900, height=700, channels=3))
    assert train.suggested(trained_copy.dataset.id) == "convnet"
    with schema.writing() as c:
        c.execute(schema.images.update().values(width=900, height=700, channels=3))
    assert train.suggested(trained_copy.dataset.id) == "efficientnet_lite0"
