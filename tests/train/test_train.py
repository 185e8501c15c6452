"""Runs from start to end in their own processes: real training, real stops, real kills."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch

from core.catalog import params
from core.data import labels, schema, store
from core.errors import Conflict, Invalid, NotFound
from core.evaluate import evaluate
from core.review import predict
from core.runs import launch, runs
from core.settings import settings
from core.train import plan, train
from core.types import Answers, Dataset, Ended, EpochEnd, Resumed, Run, Started, now
from tests.waiting import until

if TYPE_CHECKING:
    from tests.conftest import Trained

QUICK = {"architecture": "linear", "epochs": 2, "device": "cpu"}
ENDLESS = {"architecture": "convnet", "image_size": 64, "epochs": 1000, "patience": 0, "device": "cpu"}  # 0.2 s an epoch


def relabel(made: Dataset, name: str | None, keep: int = 0) -> None:
    """Gives all images of the dataset but `keep` of each class the label."""
    for c in made.classes:
        some = store.browse(made.id, store.Filter(label=c), 0, 100)[keep:]
        if some:
            labels.apply(made.id, {i.id: i.label_seq for i in some}, name, "tester")


# Before a run


def test_every_problem_of_the_settings_is_reported_at_once() -> None:
    with pytest.raises(Invalid) as problem:
        params.run_config({"architecture": "perceptron", "epochs": 0, "learning_rate": "fast", "freeze": "maybe", "colour": 1, "seed": 1.5})
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
        params.run_config({"epochs": float("nan")})


def test_a_value_may_come_as_text_and_defaults_come_from_the_network() -> None:
    config = params.run_config({"architecture": "linear", "epochs": "3", "learning_rate": "0.5"})
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


def test_nothing_is_trained_on_a_deleted_dataset(small: Dataset) -> None:
    store.set_deleted(small.id, True)
    with pytest.raises(Invalid, match="“squares” was deleted"):
        train.start(small.id, QUICK, "tester")


# A run


def test_a_run_goes_to_its_end_and_leaves_weights_predictions_and_a_frozen_snapshot(small: Dataset) -> None:
    run = train.start(small.id, QUICK, "Ann")
    frozen = store.snapshot(small.id, plan.VALIDATION_SEED)
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

    store.set_deleted(small.id, True)
    assert train.state(run.id).status == "stopped"
    assert evaluate.evaluate(run.id, "validation").changed == 0


def test_two_clicks_at_once_start_one_run_and_resume_it_once(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[Path] = []
    begin = launch.launcher.start

    def slowly(folder: Path, command: list[str]) -> None:
        time.sleep(0.3)  # in which the other click finds no living process yet
        launched.append(folder)
        begin(folder, command)

    monkeypatch.setattr(launch.launcher, "start", slowly)

    def twice(act: Callable[[], object]) -> int:
        with ThreadPoolExecutor(2) as clicks:
            return sum(isinstance(one.exception(), Conflict) for one in [clicks.submit(act) for _ in range(2)])

    assert twice(lambda: train.start(small.id, ENDLESS, "tester")) == 1 and len(launched) == 1
    run_id = launched[0].name
    train.pause(run_id)
    assert train.wait(run_id).status == "paused"
    assert twice(lambda: train.resume(run_id)) == 1 and len(launched) == 2
    train.stop(run_id)
    assert train.wait(run_id).status == "stopped"


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
    file = store.get_images(small.id, [runs.snapshot_rows(folder)[0].image_id])[0]
    (answer,) = predict.predict(run.id, [settings().images / file.path])
    assert not isinstance(answer, predict.Failure)


def test_a_run_outlives_the_process_that_started_it(small: Dataset) -> None:
    code = f"from core.train import train; print(train.start({small.id}, {QUICK!r}, 'tester').id)"
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
    config = params.run_config(QUICK)
    counts = {"train": 1, "validation": 0, "test": 0}
    run = Run("20260101-000000-aaaa", "Linear 1", small.id, small.name, config, snapshot.classes, snapshot.id, counts, now(), "me", "x")
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
    n = train.state(trained.run_id).run.counts["train"]
    same, longer = (
        train.estimate(dataset_id, config, n),
        train.estimate(dataset_id, replace(config, epochs=2 * config.epochs, seed=7), 3 * n),
    )
    assert same is not None and longer is not None and longer.seconds == pytest.approx(6 * same.seconds)
    for other in ({"image_size": 96}, {"batch_size": 21}, {"architecture": "linear"}):
        assert train.estimate(dataset_id, replace(config, **other), n) is None


def test_without_such_a_run_the_measured_speed_of_the_network_judges(small: Dataset) -> None:
    values = {"architecture": "efficientnet_lite0", "epochs": 10, "device": "cpu"}

    def seconds(**more: object) -> float:
        found = train.estimate(small.id, params.run_config({**values, **more}), 900)
        assert found is not None and "measured speed" in found.by
        return found.seconds - train.START_SECONDS

    assert train.estimate(small.id, params.run_config(values), 900) is None
    rows = {"efficientnet_lite0": {"images_per_s": 30.0, "side": 224, "at": now()}}
    runs.write_json(settings().home / "speed.json", {"torch": version("torch"), "device": "cpu", "speeds": rows})
    assert seconds(freeze=False) == pytest.approx(10 * 900 / 30)
    assert seconds(freeze=False, image_size=112) == pytest.approx(10 * 900 / 30 / 4)
    assert seconds(freeze=True) == pytest.approx(900 / 30 / 3)  # every image passes once, forwards
    assert seconds(freeze=True, flip="horizontal") == pytest.approx(10 * 900 / 30 / 3)
    assert seconds(freeze=True, unfreeze_after=4) == pytest.approx(900 / 30 / 3 + 6 * 900 / 30)
    assert train.estimate(small.id, params.run_config({**values, "device": "cuda"}), 900) is None


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
    code = f"from pathlib import Path; from core.runs import runs; from core.types import Ended; {ended}"
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


# Pausing, going on, and the line for a device

DIGITS: dict[str, Any] = {"architecture": "convnet", "epochs": 14, "batch_size": 20, "patience": 0, "device": "cpu", "seed": 3}


def figures(run_id: str) -> list[tuple[Any, ...]]:
    found = [e for e in runs.events(runs.folder(run_id)) if isinstance(e, EpochEnd)]
    return [(e.epoch, e.step, e.train_loss, e.train_accuracy, e.val_loss, e.val_accuracy, e.best_epoch) for e in found]


def test_a_run_that_was_killed_between_the_two_files_of_its_first_checkpoint_begins_anew(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, started = runs.folder(trained_copy.run_id), list[Path]()
    with pytest.raises(Invalid, match="has come to its end"):
        train.resume(trained_copy.run_id)
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "events.jsonl").write_bytes(b"".join(line for line in lines if b'"Ended"' not in line))
    assert runs.checkpoint(folder).exists() and not runs.last_checkpoint(folder).exists()
    assert train.state(trained_copy.run_id).status == "lost"
    monkeypatch.setattr(launch.launcher, "start", lambda folder, command: started.append(folder))
    train.resume(trained_copy.run_id)
    assert started == [folder]


def test_a_run_that_was_paused_killed_and_resumed_equals_an_uninterrupted_one_to_the_bit(trained_copy: Trained) -> None:
    values = {**DIGITS, "schedule": "one_cycle", "crop": 0.2, "ema": 0.9}
    whole = train.start(trained_copy.dataset.id, values, "tester")
    assert train.wait(whole.id).status == "succeeded", train.log_tail(whole.id)

    run = train.start(trained_copy.dataset.id, values, "tester")
    folder = runs.folder(run.id)
    until(lambda: train.state(run.id).best_epoch is not None, "the first epoch")
    train.pause(run.id)
    paused = train.wait(run.id)
    assert paused.status == "paused" and "Paused after" in paused.message and 0 < paused.progress < 1
    assert runs.last_checkpoint(folder).exists() and not runs.predictions_path(folder).exists()

    train.resume(run.id)
    with pytest.raises(Conflict, match="is going on"):
        train.resume(run.id)
    until(lambda: len(figures(run.id)) > paused.epoch, "another epoch")
    launch.launcher.kill(folder)
    assert train.wait(run.id).status == "lost"

    train.resume(run.id)
    last = train.wait(run.id)
    assert last.status == "succeeded", train.log_tail(run.id)
    assert figures(run.id) == figures(whole.id)
    one, other = (torch.load(runs.checkpoint(runs.folder(r.id)), weights_only=True) for r in (run, whole))
    assert one["epoch"] == other["epoch"] and one["state"].keys() == other["state"].keys()
    assert all(torch.equal(one["state"][name], other["state"][name]) for name in one["state"])
    assert runs.predictions_path(folder).read_bytes() == runs.predictions_path(runs.folder(whole.id)).read_bytes()
    until(lambda: not runs.last_checkpoint(folder).exists(), "the end of the last checkpoint")  # after its last event
    assert sum(isinstance(e, Resumed) for e in runs.events(folder)) == 2
    assert last.seconds is not None and paused.seconds is not None and last.seconds > paused.seconds
    with pytest.raises(Invalid, match="has come to its end"):
        train.resume(run.id)


def test_a_stopped_run_can_go_on_with_another_batch_size(trained_copy: Trained) -> None:
    run = train.start(trained_copy.dataset.id, {**DIGITS, "epochs": 8}, "tester")
    until(lambda: train.state(run.id).best_epoch is not None, "the first epoch")
    train.stop(run.id)
    assert train.wait(run.id).status == "stopped"
    with pytest.raises(Invalid, match="Batch size"):
        train.resume(run.id, {"batch_size": 0})
    assert train.resume(run.id, {"batch_size": 10}).config.batch_size == 10
    assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
    assert [one[0] for one in figures(run.id)] == list(range(1, 9)) and train.state(run.id).run.config.batch_size == 10


def test_other_changes_start_a_run_of_its_own(small: Dataset) -> None:
    run = train.start(small.id, QUICK, "tester")
    train.wait(run.id)
    other = train.resume(run.id, {"learning_rate": 0.5})
    assert other.id != run.id and other.config.learning_rate == 0.5
    train.wait(other.id)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(small: Dataset) -> None:
    folder = folder_of_a_run(small)
    runs.append(folder, Started("cpu", 1, 1, 1, 1, now()))
    runs.append(folder, EpochEnd(1, 1, 9.0, 0.0, 9.0, 0.0, 0.1, 1.0, 1, 1.0, now()))
    assert train.state(folder.name).status == "lost"
    left = folder / ".last.pt.4000000.7.tmp"  # the number of no process: Linux counts to 4,194,304, and seldom so far
    left.touch()
    os.utime(left, (1_000_000_000, 1_000_000_000))  # and whoever has it began later
    train.resume(folder.name)
    assert not left.exists()
    state = train.wait(folder.name)
    assert state.status == "succeeded" and state.best is not None and state.best.val_loss != 9.0


def test_runs_wait_in_the_order_in_which_they_came_and_a_dead_one_loses_its_place(small: Dataset) -> None:
    first = train.start(small.id, ENDLESS, "tester")
    until(lambda: train.state(first.id).status == "running", "the first run")
    waiting = []
    for seed in (1, 2, 3):
        waiting.append(train.start(small.id, {**QUICK, "seed": seed}, "tester"))
        until(lambda: train.state(waiting[-1].id).status == "queued", "the line")
    assert [train.state(r.id).place for r in waiting] == [1, 2, 3]
    launch.launcher.kill(runs.folder(waiting[0].id))
    until(lambda: [train.state(r.id).place for r in waiting[1:]] == [1, 2], "the others to move up")
    train.pause(waiting[1].id)
    assert train.wait(waiting[1].id).status == "paused"
    train.stop(first.id)
    train.wait(first.id)
    assert train.wait(waiting[2].id).status == "succeeded"
    train.resume(waiting[1].id)
    assert train.wait(waiting[1].id).status == "succeeded"


def test_a_note_and_tags_are_kept_beside_the_run(trained_copy: Trained) -> None:
    assert (train.state(trained_copy.run_id).note, train.state(trained_copy.run_id).tags) == ("", ())
    train.annotate(trained_copy.run_id, " the baseline ", ["paper", "paper", " "])
    assert (train.state(trained_copy.run_id).note, train.state(trained_copy.run_id).tags) == ("the baseline", ("paper",))
    with pytest.raises(Invalid, match="too long"):
        train.annotate(trained_copy.run_id, "x" * 3000, [])
    (runs.folder(trained_copy.run_id) / "notes.json").write_text("{")
    assert train.state(trained_copy.run_id).note == ""


def test_the_share_of_the_commonest_class_is_no_better_than_guessing(trained_copy: Trained) -> None:
    state = train.state(trained_copy.run_id)
    assert state.best is not None and not train.no_better_than_guessing(state)
    held = Counter(r.label for r in runs.snapshot_rows(runs.folder(trained_copy.run_id)) if r.split == "validation")
    for n in range(max(held.values()) + 2):  # as many are right; n / total * total may be a hair more than n
        one = replace(state, best=replace(state.best, val_accuracy=n / held.total()))
        assert train.no_better_than_guessing(one) == (n <= max(held.values()))


def test_answers_of_the_same_few_validation_images_come_with_every_epoch(trained: Trained) -> None:
    folder = runs.folder(trained.run_id)
    found = [e for e in runs.events(folder) if isinstance(e, Answers)]
    assert [e.epoch for e in found] == [1, 2, 3]
    rows = {r.image_id: r for r in runs.snapshot_rows(folder)}
    classes = runs.load(folder).classes
    for event in found:
        assert [s[0] for s in event.samples] == train.samples(trained.run_id)
        assert all(classes[actual] == rows[one].label and 0 <= p_actual <= p <= 1 for one, actual, _, p, p_actual in event.samples)
        assert sum(n for _, _, n in event.confusion) == sum(r.split == "validation" for r in rows.values())
    best = next(e for e in runs.events(folder) if isinstance(e, EpochEnd) and e.epoch == 3)
    right = sum(n for actual, predicted, n in found[-1].confusion if actual == predicted)
    assert best.val_accuracy == pytest.approx(right / sum(n for *_, n in found[-1].confusion))


def test_only_the_chosen_classes_are_learned(small: Dataset) -> None:
    run = train.start(small.id, {**QUICK, "classes": ["red", "blue"]}, "tester")
    assert train.wait(run.id).status == "succeeded"
    assert run.classes == ("blue", "red") and {r.label for r in runs.snapshot_rows(runs.folder(run.id))} == {"red", "blue"}
    with pytest.raises(Invalid, match="“pink” is no class of “squares”"):
        train.start(small.id, {**QUICK, "classes": ["red", "pink"]}, "tester")


def test_a_run_knows_its_code_also_where_the_checkout_is_another_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = launch.output(["git", "rev-parse", "--short", "HEAD"])
    if not usual:
        pytest.skip("this is no checkout, or somebody else's")
    train._code_version.cache_clear()
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert not launch.output(["git", "rev-parse", "--short", "HEAD"])  # git refuses
    assert train._code_version() == usual
