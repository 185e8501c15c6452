"""The training loop on tiny true inputs: what it learns, what it keeps, and that it can go on as if nothing had been."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import params
from core.errors import Invalid
from core.ml import augment
from core.ml.data import Normalise, Tensors, batch_sizes
from core.ml.fit import Stage, Training, answers, bfloat16_pays, fit, parameter_groups, scores, worth_a_trial
from core.ml.trainer import bfloat16_pays_here
from core.types import EpochEnd, Preprocess, RunConfig, Step

CPU = torch.device("cpu")


def training(net: nn.Module, train: Tensors, validation: Tensors | None, cfg: RunConfig, head: str = "") -> Training:
    return Training(net, head, cfg, [Stage(cfg.epochs, "", False, train, validation)], 3)


def blobs(n: int, seed: int = 0) -> Tensors:
    """Two features that tell three classes apart."""
    drawn = np.random.default_rng(seed)
    labels = drawn.integers(0, 3, n)
    points = (np.array([[0, 3], [3, 0], [-3, -3]])[labels] + drawn.normal(size=(n, 2))).astype(np.float32)
    return Tensors([points], np.arange(n), torch.from_numpy(labels))


def config(**values: Any) -> RunConfig:
    return params.run_config({"architecture": "linear", "device": "cpu", "epochs": 5, "learning_rate": 0.01, **values})


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_optimiser_learns_and_the_events_add_up(optimizer: str) -> None:
    torch.manual_seed(0)
    train, validation = blobs(203), blobs(57, seed=1)
    net = nn.Linear(2, 3)
    events = list(fit(training(net, train, validation, config(optimizer=optimizer, batch_size=10))))
    ends = [e for e in events if isinstance(e, EpochEnd)]
    steps = [e for e in events if isinstance(e, Step)]
    assert [e.epoch for e in ends] == [1, 2, 3, 4, 5] and ends[-1].step == 5 * 21 == steps[-1].step
    assert ends[-1].val_accuracy is not None and ends[-1].val_accuracy > 0.8 and ends[-1].train_loss < ends[0].train_loss
    assert steps[-1].seconds_left == 0


def test_a_split_is_evaluated_over_every_image_and_divided_once() -> None:
    torch.manual_seed(0)
    net, split = nn.Linear(2, 3), blobs(1030)  # more than one batch, and a small last one
    loss, accuracy = scores(answers(net, split), split)
    logits = net(torch.from_numpy(split.sources[0]))
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, split.labels).item(), rel=1e-6)
    assert accuracy == pytest.approx((logits.argmax(1) == split.labels).float().mean().item())


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        net = nn.Linear(2, 3)
        list(fit(training(net, blobs(100), None, config(seed=seed, batch_size=7))))
        return net.weight.detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_early_stopping_waits_for_its_patience_and_brings_the_best_weights_back() -> None:
    torch.manual_seed(0)
    train, validation = blobs(60), blobs(60, seed=1)
    validation.labels = (validation.labels + 1) % 3  # the better it learns, the worse this gets
    net = nn.Linear(2, 3)
    snapshots = []
    for event in fit(training(net, train, validation, config(patience=3, epochs=50, learning_rate=0.05))):
        if isinstance(event, EpochEnd):
            snapshots.append((event, net.weight.detach().clone()))
    last, _ = snapshots[-1]
    assert last.epoch == last.best_epoch + 3 < 50
    assert torch.equal(net.weight.detach(), snapshots[last.best_epoch - 1][1])
    assert not torch.equal(net.weight.detach(), snapshots[-1][1])


def test_without_patience_no_epoch_is_left_out() -> None:
    train, validation = blobs(60), blobs(60, seed=1)
    validation.labels = (validation.labels + 1) % 3
    assert sum(isinstance(e, EpochEnd) for e in fit(training(nn.Linear(2, 3), train, validation, config(patience=0, epochs=12)))) == 12


def test_a_loss_that_is_no_number_names_its_epoch_and_step() -> None:
    broken = blobs(50)
    broken.resident[0][7] = math.nan
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0)).tolist()
    with pytest.raises(Invalid, match=f"The loss became NaN in epoch 1, step {order.index(7) // 10 + 1}\\."):
        list(fit(training(nn.Linear(2, 3), broken, None, config(batch_size=10))))


def test_closing_the_loop_keeps_the_best_weights_so_far() -> None:
    net = nn.Linear(2, 3)
    events = fit(training(net, blobs(60), blobs(60, seed=1), config(epochs=50)))
    best = None
    for event in events:
        if isinstance(event, EpochEnd):
            if event.best_epoch == event.epoch:
                best = net.weight.detach().clone()
            if event.epoch == 4:
                break
    events.close()
    assert best is not None and torch.equal(net.weight.detach(), best)


def test_a_last_batch_of_one_joins_its_neighbour() -> None:
    assert batch_sizes(10, 5) == [5, 5]
    assert batch_sizes(11, 5) == [5, 6]
    assert batch_sizes(12, 5) == [5, 5, 2]
    assert batch_sizes(1, 5) == [1]
    assert batch_sizes(3, 1) == [1, 1, 1]


# What is learned how --------------------------------------------------------------------------------


def rates(cfg: RunConfig, n: int = 100) -> list[float]:
    """The learning rate of every step."""
    t = training(nn.Linear(2, 3), blobs(n), None, cfg)
    found = []
    t.optimizer.register_step_pre_hook(lambda *_: found.append(t.optimizer.param_groups[-1]["lr"]))
    list(fit(t))
    return found


def test_schedules_move_the_learning_rate_as_their_formulas_say() -> None:
    common = {"batch_size": 10, "epochs": 4, "learning_rate": 0.4, "optimizer": "sgd", "patience": 0}
    assert rates(config(**common)) == [0.4] * 40
    assert rates(config(**common, schedule="step", step_every=2, step_factor=0.5)) == pytest.approx([0.4] * 20 + [0.2] * 20)
    cosine = [0.2 * (1 + math.cos(math.pi * i / 40)) for i in range(40)]
    assert rates(config(**common, schedule="cosine")) == pytest.approx(cosine, abs=1e-9)
    one_cycle = rates(config(**common, schedule="one_cycle"))
    assert one_cycle[0] == pytest.approx(0.4 / 25) and max(one_cycle) == pytest.approx(0.4, rel=1e-3)
    assert one_cycle.index(max(one_cycle)) == 9 and one_cycle[-1] < 1e-5
    warm = rates(config(**common, warmup=1))
    assert warm[0] == pytest.approx(0.004) and warm[:10] == sorted(warm[:10]) and warm[10:] == pytest.approx([0.4] * 30)


def test_discriminative_rates_grow_from_the_first_layer_to_the_head() -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    groups = parameter_groups(net, net, "4", config(learning_rate=0.1, backbone_rate=0.01))
    assert [g["lr"] for g in groups] == pytest.approx([0.001, 0.01, 0.1])
    assert [len(g["params"]) for g in groups] == [2, 2, 2] and groups[-1]["params"][0].shape == (3, 4)


def test_a_frozen_backbone_learns_only_after_it_is_unfrozen() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    before = copy.deepcopy(net.state_dict())
    cfg = config(epochs=4, patience=0)
    stages = [Stage(2, "", True, blobs(60), None), Stage(4, "", False, blobs(60), None)]
    t = Training(net, "2", cfg, stages, 3)
    seen = [copy.deepcopy(net.state_dict()) for e in fit(t) if isinstance(e, EpochEnd)]
    assert all(torch.equal(seen[1][k], before[k]) for k in before if not k.startswith("2."))
    assert not torch.equal(seen[1]["2.weight"], before["2.weight"])
    assert not torch.equal(seen[3]["0.weight"], before["0.weight"]) and seen[3]["1.num_batches_tracked"] > 0


def test_class_weights_and_balanced_sampling_help_the_rare_class() -> None:
    points = np.concatenate([np.random.default_rng(0).normal(0, 1, (190, 2)), np.random.default_rng(1).normal(1, 1, (10, 2))]).astype(
        np.float32
    )
    labels = torch.tensor([0] * 190 + [1] * 10)

    def recall(balance: str) -> float:
        torch.manual_seed(0)
        net, data = nn.Linear(2, 3), Tensors([points], np.arange(200), labels)
        list(fit(training(net, data, None, config(balance=balance, epochs=12, batch_size=20, patience=0, learning_rate=0.05))))
        return float((answers(net, data).argmax(1)[190:] == 1).double().mean())

    plain = recall("none")
    assert recall("weights") > plain + 0.3 and recall("sampling") > plain + 0.3


def test_the_average_of_the_weights_is_what_is_judged_and_kept() -> None:
    torch.manual_seed(0)
    net = nn.Linear(2, 3)
    t = training(net, blobs(100), blobs(60, seed=1), config(ema=0.9, epochs=1, batch_size=10, learning_rate=0.1))
    average: Tensor | None = None

    def note(*_: Any) -> None:
        nonlocal average
        weight = net.weight.detach().clone()
        average = weight if average is None else 0.9 * average + 0.1 * weight

    t.optimizer.register_step_post_hook(note)
    list(fit(t))
    assert average is not None and torch.allclose(net.weight.detach(), average, atol=1e-6)


def test_a_gradient_is_clipped_to_its_norm() -> None:
    torch.manual_seed(0)
    net = nn.Linear(2, 3)
    t = training(net, blobs(50), None, config(optimizer="sgd", momentum=0, learning_rate=1, clip=0.01, epochs=1, batch_size=50))
    before = torch.cat([p.detach().flatten().clone() for p in net.parameters()])
    list(fit(t))
    after = torch.cat([p.detach().flatten() for p in net.parameters()])
    assert float((after - before).norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_best_epoch_can_be_chosen_by_accuracy() -> None:
    def best(stop_on: str) -> tuple[int, list[EpochEnd]]:
        torch.manual_seed(3)
        cfg = config(stop_on=stop_on, epochs=12, learning_rate=0.3, patience=0, batch_size=10)
        ends = [e for e in fit(training(nn.Linear(2, 3), blobs(60), blobs(40, seed=1), cfg)) if isinstance(e, EpochEnd)]
        return ends[-1].best_epoch, ends

    chosen, ends = best("accuracy")
    assert chosen == max(ends, key=lambda e: (e.val_accuracy or 0, -e.epoch)).epoch
    chosen, ends = best("loss")
    assert chosen == min(ends, key=lambda e: e.val_loss or 0).epoch


# Changes of the images --------------------------------------------------------------------------------

HOW = Preprocess(3, 16, 16, (0.5,) * 3, (0.25,) * 3)
CHANGES: list[dict[str, Any]] = [
    {"flip": "horizontal"},
    {"flip": "both"},
    {"crop": 0.4},
    {"rotate": 30},
    {"color": 0.5},
    {"randaugment": 9},
    {"mixup": 0.4},
    {"cutmix": 1.0},
]


def pictures(n: int = 12) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, 16, 16)).astype(np.uint8))


@pytest.mark.parametrize("values", CHANGES, ids=lambda v: "-".join(map(str, v.values())) + next(iter(v)))
def test_every_change_keeps_shape_and_range_differs_from_image_to_image_and_can_be_repeated(values: dict[str, Any]) -> None:
    cfg = config(**values)
    assert params.augmented(cfg) and not params.augmented(config())
    change = augment.Augment(cfg, HOW, 3, CPU)
    same = pictures(1).repeat(12, 1, 1, 1)
    other = torch.cat([same[:6], pictures(7)[1:]])

    def once() -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        return change(other, torch.arange(12) % 3)

    x, y = once()
    assert x.shape == other.shape and x.dtype == torch.float32
    assert float(x.min()) >= -2.001 and float(x.max()) <= 2.001
    assert torch.equal(x, once()[0])
    if "mixup" in values or "cutmix" in values:
        assert y.shape == (12, 3) and torch.allclose(y.sum(1), torch.ones(12))
    else:
        assert y.tolist() == (torch.arange(12) % 3).tolist()
        assert len({tuple(one.flatten().tolist()) for one in x[:6]}) > 1


def test_a_flip_mirrors_and_a_crop_with_a_flip_mirrors_too() -> None:
    x = pictures(200)
    torch.manual_seed(0)
    flipped = augment.Augment(config(flip="horizontal"), HOW, 3, CPU).changed(x)
    kinds = [torch.equal(a, b.float()) or (2 if torch.equal(a, b.flip(-1).float()) else 0) for a, b in zip(flipped, x, strict=True)]
    assert 0 not in kinds and 60 < kinds.count(2) < 140
    torch.manual_seed(0)
    warped = augment.warped(x.float(), config(flip="horizontal", rotate=1e-6))
    mirrored = sum(bool((a - b.flip(-1).float()).abs().max() < 0.1) for a, b in zip(warped, x, strict=True))
    assert 60 < mirrored < 140


def test_what_people_are_shown_is_what_training_does() -> None:
    cfg = config(flip="horizontal")
    shown = augment.show(cfg, HOW, pictures(2)[0], pictures(2)[1], seed=1)
    assert shown.shape == (9, 3, 16, 16) and shown.dtype == torch.uint8
    kinds = {torch.equal(one, pictures(2)[0]) or (2 if torch.equal(one, pictures(2)[0].flip(-1)) else 0) for one in shown}
    assert kinds == {True, 2}
    state = torch.get_rng_state()
    mixed = augment.show(config(mixup=1.0), HOW, pictures(2)[0], pictures(2)[1], seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    low, high = torch.minimum(pictures(2)[0], pictures(2)[1]), torch.maximum(pictures(2)[0], pictures(2)[1])
    assert ((mixed >= low - 1) | (low == 0)).all() and (mixed.int() <= high.int() + 1).all()


# Going on ---------------------------------------------------------------------------------------------


class Net(nn.Module):
    """With everything that remembers: dropout, batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.norm(self.conv(x))), 0.3, self.training)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def images_of(n: int, seed: int = 0) -> Tensors:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, n)
    source = random.integers(0, 60, (n, 3, 16, 16)).astype(np.uint8)
    source[np.arange(n), labels] += 120
    return Tensors([source], np.arange(n), torch.from_numpy(labels), Normalise(HOW, CPU))


def made(cfg: RunConfig) -> Training:
    torch.manual_seed(cfg.seed)
    change = augment.Augment(cfg, HOW, 3, CPU) if params.augmented(cfg) else None
    stages = [
        Stage(1, "", True, images_of(47), images_of(20, 1), change),
        Stage(cfg.epochs, "", False, images_of(47), images_of(20, 1), change),
    ]
    return Training(Net(), "head", cfg, stages, 3)


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": "sgd", "schedule": "one_cycle"},
        {"optimizer": "adamw", "schedule": "cosine", "warmup": 1, "ema": 0.9, "flip": "horizontal", "mixup": 0.3},
        {
            "balance": "sampling",
            "schedule": "step",
            "step_every": 1,
            "rotate": 20,
            "color": 0.2,
            "backbone_rate": 0.1,
            "stop_on": "accuracy",
        },
    ],
)
@pytest.mark.parametrize("at", [1, 4, 9, 14])
def test_a_training_restored_at_any_step_equals_one_that_was_never_interrupted(
    values: dict[str, Any], at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.ml.fit.STEP_EVENT_SECONDS", 0.0)
    cfg = config(epochs=4, batch_size=10, patience=0, learning_rate=0.02, seed=5, **values)
    whole = made(cfg)
    figures = [(e.train_loss, e.train_accuracy, e.val_loss, e.best_epoch) for e in fit(whole) if isinstance(e, EpochEnd)]

    first = made(cfg)
    seen: list[tuple[Any, ...]] = []
    events: Iterator[Step | EpochEnd] = fit(first)
    for event in events:
        if isinstance(event, EpochEnd):
            seen.append((event.train_loss, event.train_accuracy, event.val_loss, event.best_epoch))
        if isinstance(event, Step) and event.step == at:
            break
    state = copy.deepcopy(first.state())  # what a file would hold
    best = None if first.best is None else copy.deepcopy(first.best)
    torch.manual_seed(99)
    torch.rand(7)
    second = made(cfg)
    second.restore(state, best)
    seen += [(e.train_loss, e.train_accuracy, e.val_loss, e.best_epoch) for e in fit(second) if isinstance(e, EpochEnd)]
    assert seen == figures
    a, b = whole.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert whole.logits is not None and second.logits is not None and torch.equal(whole.logits, second.logits)


def test_a_training_restored_with_another_batch_size_goes_on_from_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.ml.fit.STEP_EVENT_SECONDS", 0.0)
    first = made(config(epochs=4, batch_size=10, schedule="cosine", patience=0))
    for event in fit(first):
        if event.step == 8:
            break
    second = made(config(epochs=4, batch_size=20, schedule="cosine", patience=0))
    second.restore(copy.deepcopy(first.state()), first.best)
    assert (second.epoch, second.batch, second.step) == (1, 0, 3)
    after = list(fit(second))
    assert [e.epoch for e in after if isinstance(e, EpochEnd)] == [2, 3, 4] and after[-1].step == 12


def test_trying_out_bfloat16_leaves_no_trace_and_decides_by_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.ml.fit.LONG_RUN", 1)
    monkeypatch.setattr("core.ml.fit.LONG_STEP", 0.0)
    monkeypatch.setattr("core.ml.fit.HOPELESS", 1e9)
    t = made(config(epochs=4, batch_size=10, seed=5, flip="horizontal"))
    weights, random, state = copy.deepcopy(t.model.state_dict()), torch.get_rng_state(), t.shuffler.get_state()
    learning = [p.requires_grad for p in t.model.parameters()]
    for factor, pays in ((1e9, True), (0.0, False)):
        monkeypatch.setattr("core.ml.fit.FASTER", factor)
        assert bfloat16_pays(t) is pays
    assert all(torch.equal(weights[name], value) for name, value in t.model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state()) and torch.equal(state, t.shuffler.get_state())
    assert [p.requires_grad for p in t.model.parameters()] == learning and all(p.grad is None for p in t.model.parameters())
    monkeypatch.setattr("core.ml.fit.FASTER", 1e9)
    monkeypatch.setattr("core.ml.fit.HOPELESS", 0.0)
    assert not bfloat16_pays(t)
    assert worth_a_trial(t) and not worth_a_trial(made(config(epochs=4, batch_size=10, precision="float32")))  # who chose one gets it


def test_what_a_trial_of_bfloat16_found_holds_for_the_next_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.ml.fit.LONG_STEP", 0.0)
    monkeypatch.setattr("core.ml.fit.HOPELESS", 1e9)
    t = made(config(batch_size=10))
    monkeypatch.setattr("core.ml.fit.FASTER", 1e9)
    first = bfloat16_pays_here(t, HOW)
    monkeypatch.setattr("core.ml.fit.FASTER", 0.0)  # as when the machine is busy otherwise
    assert first and bfloat16_pays_here(t, HOW) and not bfloat16_pays_here(made(config(batch_size=11)), HOW)


def test_a_training_in_bfloat16_goes_on_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.ml.fit.STEP_EVENT_SECONDS", 0.0)
    cfg = config(epochs=2, batch_size=10, seed=5)

    def trained(halved: bool, state: dict[str, Any] | None = None, until: int = 0) -> tuple[Training, dict[str, Any]]:
        t, reached = made(cfg), dict[str, Any]()
        t.bfloat16 = halved
        if state:
            t.restore(state, None)
        for event in fit(t):
            if event.step == until:
                reached = copy.deepcopy(t.state())
        return t, reached

    (whole, state), (full, _) = trained(True, until=3), trained(False)
    second, _ = trained(False, state)
    a, b, c = (t.model.get_parameter("conv.weight") for t in (whole, second, full))
    assert second.bfloat16 and torch.equal(a, b) and not torch.equal(a, c)
