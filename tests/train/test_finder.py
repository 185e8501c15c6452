"""The learning-rate finder: what it suggests, what it looks at, and that it can be stopped."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from core.catalog import params
from core.data import store
from core.errors import Invalid, NotFound
from core.ml.data import Normalise, Tensors
from core.ml.finder import smoothed, suggest, sweep
from core.ml.fit import Stage, Training
from core.runs import launch, runs
from core.settings import settings
from core.train import finder, plan, train
from core.types import Dataset, Preprocess, RunConfig
from tests.conftest import Trained
from tests.waiting import until

QUICK = {"architecture": "linear", "batch_size": 4, "device": "cpu"}


def ended(find_id: str, seconds: float = 200) -> finder.Find:
    deadline = time.monotonic() + seconds
    while (found := finder.state(find_id)).active:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


# What is suggested


def curve(rates: np.ndarray, start: float, low: float, fall: tuple[float, float], burst: float) -> np.ndarray:
    """Flat, falling between two rates, flat, and rising again from burst on."""
    down = np.clip((np.log10(rates) - np.log10(fall[0])) / (np.log10(fall[1]) - np.log10(fall[0])), 0, 1)
    return start - (start - low) * down + 3 * np.clip(np.log10(rates / burst), 0, None) ** 2


RATES = np.geomspace(1e-7, 10, 100)


def test_the_suggestion_is_the_middle_of_the_fall() -> None:
    for fall in ((1e-4, 1e-2), (1e-3, 1e-1)):
        losses = curve(RATES, 2.3, 0.5, fall, 0.2) + np.random.default_rng(0).normal(0, 0.05, len(RATES))
        found = suggest(RATES, losses, smoothed(RATES, losses))
        assert found == pytest.approx(np.sqrt(fall[0] * fall[1]), rel=0.6)


def test_a_loss_that_does_not_fall_suggests_nothing() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, len(RATES))
    for losses in (
        2.3 + noise,
        curve(RATES, 2.3, 2.3, (1e-4, 1e-2), 0.01) + noise,
        2.3 + np.log10(RATES / 1e-7),
        np.array([2.3]),
        np.array([]),
    ):
        rates = RATES[: len(losses)]
        assert suggest(rates, losses, smoothed(rates, losses)) is None


# The trial


def training(noise: bool = False, **values: Any) -> Training:
    """A linear network on 40 pictures that their brightness tells apart, or that nothing does."""
    config: RunConfig = params.run_config({**QUICK, **values})
    rows = np.random.default_rng(1).integers(0, 90, (40, 1, 8, 8), dtype=np.uint8)
    truth = torch.arange(40) % 2
    if not noise:
        rows[truth.numpy() == 1] += 120
    preprocess = Preprocess(1, 8, 8, (0.5,), (0.25,))
    tensors = Tensors([rows], np.arange(40), truth, Normalise(preprocess, torch.device("cpu")))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    return Training(model, "1", config, [Stage(config.epochs, "", False, tensors, None)], 2)


def test_the_rate_rises_by_a_factor_from_1e_7_to_10_and_the_trial_ends_when_the_loss_bursts() -> None:
    calm = list(sweep(training(optimizer="sgd", clip=0.001), 30))
    assert len(calm) == 30 and calm[0][0] == pytest.approx(1e-7) and calm[-1][0] == pytest.approx(10)
    ratios = np.diff(np.log([rate for rate, _, _ in calm]))
    assert np.allclose(ratios, ratios[0])
    wild = list(sweep(training(noise=True, optimizer="sgd"), 100))
    assert len(wild) < 100 and all(np.isfinite(loss) for _, loss, _ in wild)


def test_the_first_layers_keep_their_share_of_the_rate() -> None:
    t = training(optimizer="sgd")
    t.optimizer.param_groups[0]["top_lr"] = t.config.learning_rate / 10
    rates = []
    for rate, _, _ in sweep(t, 5):
        rates.append(t.optimizer.param_groups[0]["lr"] / rate)
    assert rates == pytest.approx([0.1] * 5)


def test_a_suggested_rate_learns_better_than_a_hundredth_of_it(trained_copy: Trained) -> None:
    values = {"architecture": "linear", "batch_size": 32, "device": "cpu"}
    found = ended(finder.start(trained_copy.dataset.id, values, "tester"))
    assert found.status == "succeeded" and found.curve is not None, runs.log_tail(settings().home / "finds" / found.id)
    suggested = found.curve.suggested
    assert suggested is not None and 1e-4 < suggested < 1
    assert found.curve.images == plan.plan(trained_copy.dataset.id).count("train") == found.images
    ids = [train.start(trained_copy.dataset.id, {**values, "epochs": 2, "learning_rate": r}, "me").id for r in (suggested, suggested / 100)]
    best, slow = (train.wait(i).best for i in ids)
    assert best and slow and best.val_loss is not None and slow.val_loss is not None and best.val_loss < slow.val_loss - 0.5


def test_only_training_images_are_in_its_folder_and_no_run_appears(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(folder: Any, command: list[str]) -> None:
        assert command[-3:] == ["core.ml.finder", str(folder), "400"]

    monkeypatch.setattr(launch.launcher, "start", start)
    find_id = finder.start(small.id, {**QUICK, "learning_rate": "wrong", "classes": ["red", "blue"]}, "tester")
    rows = runs.snapshot_rows(settings().home / "finds" / find_id)
    frozen = plan.snapshot(small.id, params.run_config({**QUICK, "classes": ("red", "blue")}))
    assert rows == [r for r in frozen.rows if r.split == "train"] and len(rows) < len(frozen.rows)
    assert train.list_runs() == []
    with pytest.raises(NotFound):
        finder.state("../runs")
    with pytest.raises(Invalid, match=r"\(epochs\)"):
        finder.start(small.id, {**QUICK, "epochs": 0}, "tester")


def test_what_goes_wrong_is_a_sentence_and_leaves_no_curve(small: Dataset) -> None:
    for image in store.all_images(small.id):
        (settings().images / image.path).unlink()
    found = ended(finder.start(small.id, QUICK, "tester"))
    assert found.status == "failed" and "can be read" in found.message and found.curve is None


def test_a_trial_that_waits_for_the_device_can_be_stopped(small: Dataset) -> None:
    run = train.start(small.id, {"architecture": "linear", "epochs": 1000, "patience": 0, "batch_size": 1, "device": "cpu"}, "tester")
    until(lambda: train.state(run.id).status == "running", "the run")
    find_id = finder.start(small.id, QUICK, "tester")
    until(lambda: finder.state(find_id).status == "queued", "the queue")
    finder.stop(find_id)
    assert ended(find_id).status == "stopped"
    train.stop(run.id)
    train.wait(run.id)


def test_old_trials_are_tidied_away(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.launcher, "start", lambda *_: None)
    for i in range(30):
        folder = settings().home / "finds" / f"20200101-0000{i:02d}-aaaa"
        folder.mkdir(parents=True)
    newest = finder.start(small.id, QUICK, "tester")
    left = sorted(p.name for p in (settings().home / "finds").iterdir())
    assert len(left) == finder.KEPT and left[-1] == newest and left[0] == "20200101-000011-aaaa"
    shutil.rmtree(settings().home / "finds")


def test_small_batches_take_more_steps() -> None:
    assert [finder.steps(params.run_config({**QUICK, "batch_size": b})) for b in (1, 8, 32, 500)] == [400, 375, 100, 100]


def test_the_command_line_finds_a_rate_too(trained_copy: Trained, command: Callable[..., Any]) -> None:
    done = command("finder", "--dataset", trained_copy.dataset.name, "--architecture", "linear", "--set", "device=cpu")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["status"] == "succeeded" and answer["suggested"] > 0 and len(answer["rates"]) == len(answer["losses"])
    assert command("finder", "--dataset", "nothing", "--architecture", "linear").returncode == 2
