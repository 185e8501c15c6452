"""Whether a map can be trusted, on networks whose evidence is known because it was planted."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import captum.metrics
import numpy as np
import pytest
import torch

from core.catalog import networks, params
from core.errors import AppError, Invalid, Stopped
from core.explain import explain
from core.explain import trust as words
from core.ml import attribute, trust
from core.ml.infer import normalised, read
from core.ml.model import LoadedModel, load
from core.ml.scratch import Linear
from core.runs import runs
from core.settings import settings
from core.types import Preprocess

if TYPE_CHECKING:
    from tests.conftest import Trained

SIDE, CORNER = 16, 6
HOW: dict[str, Any] = {
    "cover": "grey", "steps": 16, "draws": 4, "reverse": True, "randomise": "whole", "networks": 2, "squares": 20, "noise": 2,
    "radius": 0.02, "seed": 0,
}  # fmt: skip


@pytest.fixture
def planted() -> LoadedModel:
    """A linear network that reads the upper left corner of a grey picture and nothing else."""
    model = Linear(1, SIDE, 2)
    weights = torch.zeros(2, SIDE, SIDE)
    weights[1, :CORNER, :CORNER] = 0.2
    model.head.weight.data = weights.reshape(2, -1)
    model.head.bias.data = torch.tensor([1.0, 0.0])
    how = Preprocess(1, SIDE, SIDE, (0.5,), (0.25,))
    return LoadedModel(model.eval().requires_grad_(False), networks.architecture("linear"), ("dark", "bright"), how, 1)


@pytest.fixture
def picture() -> np.ndarray:
    """Noise, bright in the corner."""
    array = np.random.default_rng(3).integers(60, 200, (1, SIDE, SIDE), dtype=np.uint8)
    array[:, :CORNER, :CORNER] = 230
    return array


def checked(found: LoadedModel, array: np.ndarray, method: str, how: dict[str, Any], **more: Any) -> dict[str, Any]:
    return trust.check(found, params.run_config({"architecture": "linear"}), array, method, 1, {}, HOW | how, **more)


def ignoring_weights(draw: Callable[[np.ndarray], np.ndarray]) -> Callable[..., attribute.Maps]:
    """In place of attribute.maps: a map made of the picture alone."""

    def maps(found: LoadedModel, x: torch.Tensor, *_: Any) -> attribute.Maps:
        return attribute.Maps(np.stack([draw(one) for one in x.numpy().sum(1)]).astype(np.float32), None, None)

    return maps


def test_covering_the_true_evidence_first_changes_the_answer_sooner_than_at_random(planted: LoadedModel, picture: np.ndarray) -> None:
    found = checked(planted, picture, "integrated_gradients", {})
    deletion, insertion = found["deletion"], found["insertion"]
    assert len(deletion["own"]) == HOW["steps"] + 1 and len(deletion["random"]) == HOW["draws"]
    whole, nothing = deletion["own"][0], deletion["own"][-1]
    assert whole > 0.99 and nothing < 0.5  # the corner decides
    assert all(each[0] == whole and each[-1] == pytest.approx(nothing) for each in (deletion["reverse"], *deletion["random"]))
    assert words.area(deletion["own"]) < min(map(words.area, deletion["random"])) < words.area(deletion["reverse"])
    assert words.area(insertion["own"]) > max(map(words.area, insertion["random"])) > words.area(insertion["reverse"])
    share = CORNER**2 / SIDE**2  # with the corner covered the rest changes nothing
    assert deletion["own"][int(share * HOW["steps"]) + 1 :] == pytest.approx([nothing] * (HOW["steps"] - int(share * HOW["steps"])))


def test_the_area_under_a_curve_is_its_mean_height() -> None:
    assert words.area([1.0, 1.0, 1.0]) == 1
    assert words.area([1.0, 0.5, 0.0]) == pytest.approx(0.5)
    assert words.area([1.0, 0.0, 0.0]) == pytest.approx(0.25)


def test_a_map_that_is_the_same_everywhere_is_marked_and_has_no_curves(
    planted: LoadedModel, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribute, "maps", ignoring_weights(np.ones_like))
    found = checked(planted, picture, "saliency", {})
    assert found["deletion"] is None and found["insertion"] is None
    assert [row["rank"] for row in found["randomised"]] == [1.0, 1.0]


def test_an_edge_detector_does_not_change_with_the_weights_but_a_true_map_does(
    planted: LoadedModel, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = checked(planted, picture, "integrated_gradients", {})
    assert all(abs(row["rank"]) < 0.4 and abs(row["strength"]) < 0.6 for row in true["randomised"])
    assert not np.allclose(true["map"], true["random_map"])
    monkeypatch.setattr(attribute, "maps", ignoring_weights(lambda p: np.hypot(*np.gradient(p))))
    edges = checked(planted, picture, "saliency", {"randomise": "cascading"})
    assert [row["rank"] for row in edges["randomised"]] == [1.0]  # it has one layer


def test_a_cascade_begins_with_the_last_layer_and_ends_with_all_of_them(trained: Trained) -> None:
    folder = runs.folder(trained.run_id)
    found, config = load(folder), runs.load(folder).config
    before = {name: tensor.clone() for name, tensor in found.model.state_dict().items()}
    stages = [trust.randomised(found, config, *one) for one in trust.rounds(found, HOW | {"randomise": "cascading"})]
    changed = [{n for n, t in network.state_dict().items() if not torch.equal(t, before[n])} for network, _ in stages]
    assert changed[0] == {"head.weight", "head.bias"} and changed[-1] == before.keys()
    assert all(a <= b for a, b in pairwise(changed))
    assert [share for _, share in stages] == [0.25, 0.5, 0.75, 1.0]
    assert all(torch.equal(t, before[n]) for n, t in found.model.state_dict().items())


def test_the_completeness_error_of_integrated_gradients_tends_to_nothing_with_more_steps(trained: Trained) -> None:
    folder = runs.folder(trained.run_id)
    found = load(folder)
    array = read(str(settings().images / runs.snapshot_rows(folder)[0].path), found.preprocess)
    x, errors = normalised([array], found.preprocess), []
    for steps in (4, 64, 512):
        made = trust.check(
            found, runs.load(folder).config, array, "integrated_gradients", 3, {"steps": steps}, HOW | {"networks": 1, "noise": 1}
        )
        delta, change = made["completeness"]
        with torch.inference_mode():
            assert change == pytest.approx(float(found.model(x)[0, 3] - found.model(x * 0)[0, 3]), abs=1e-3)
        assert made["map"].sum() == pytest.approx(change + delta, abs=1e-3)
        errors.append(abs(delta))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.01
    assert trust.check(found, runs.load(folder).config, array, "saliency", 3, {}, HOW)["completeness"] is None


def test_infidelity_is_that_of_captum_and_nothing_where_the_map_is_exact(planted: LoadedModel, picture: np.ndarray) -> None:
    x = normalised([picture], planted.preprocess)
    masks = trust.squares(x, 20, seed=1)
    assert masks.sum((1, 2, 3)).unique().tolist() == [9.0] and len(masks.unique(dim=0)) > 10
    exact = attribute.maps(planted, x, "integrated_gradients", [1]).map[0]  # of a linear network: weight × pixel
    told = trust.foretold(planted, x, exact, 1, masks)
    assert told is not None and told["unexplained"] == pytest.approx(0, abs=1e-5) and told["agrees"]
    against = trust.foretold(planted, x, -exact, 1, masks)
    assert against is not None and not against["agrees"]
    wrong = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    told = trust.foretold(planted, x, wrong, 1, masks)
    direct = captum.metrics.infidelity(
        planted.model, lambda inputs: (masks, inputs * (1 - masks)), x, torch.from_numpy(wrong)[None, None], target=1,
        n_perturb_samples=20, normalize=True,
    )  # fmt: skip
    assert told is not None and told["infidelity"] == pytest.approx(float(direct), rel=1e-4) and 0.3 < told["unexplained"] <= 1.001
    assert trust.foretold(planted, x, np.zeros_like(wrong), 1, masks) is None  # foretells nothing of anything
    assert trust.foretold(planted, x * 0, exact, 1, masks) is None  # nothing changes


def test_sensitivity_is_that_of_captum(trained: Trained) -> None:
    folder = runs.folder(trained.run_id)
    found = load(folder)
    array = read(str(settings().images / runs.snapshot_rows(folder)[0].path), found.preprocess)
    how = {"noise": 3, "seed": 5}
    ours = trust.check(found, runs.load(folder).config, array, "saliency", 3, {}, HOW | how)["sensitivity"]

    def explained(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (torch.from_numpy(attribute.maps(found, inputs[0], "saliency", [3] * len(inputs[0])).map),)

    with attribute.private_randomness(5):
        direct = captum.metrics.sensitivity_max(
            explained, normalised([array], found.preprocess), perturb_radius=0.02, n_perturb_samples=3, max_examples_per_batch=1
        )
    assert ours == pytest.approx(float(direct), rel=1e-4) and 0 < ours < 2


def test_the_network_that_answers_is_the_same_afterwards_even_if_it_was_stopped(trained: Trained) -> None:
    folder = runs.folder(trained.run_id)
    found, config = load(folder), runs.load(folder).config
    array = read(str(settings().images / runs.snapshot_rows(folder)[0].path), found.preprocess)
    before = {name: tensor.clone() for name, tensor in found.model.state_dict().items()}
    random = torch.get_rng_state()
    ticks: list[tuple[int, int]] = []

    def stop_late(done: int, total: int) -> None:
        ticks.append((done, total))
        if done > 700:
            raise Stopped

    with pytest.raises(Stopped):
        trust.check(found, config, array, "grad_cam", 3, {}, HOW, stop_late)
    assert [done for done, _ in ticks] == sorted(done for done, _ in ticks) and ticks[0][0] < 200
    trust.check(found, config, array, "integrated_gradients", 3, {}, HOW)
    assert all(torch.equal(t, before[n]) for n, t in found.model.state_dict().items())
    for module in found.model.modules():
        assert not module._forward_hooks and not module._backward_hooks and not module._forward_pre_hooks and not module.training
    assert all(not p.requires_grad and p.grad is None for p in found.model.parameters())
    assert torch.equal(random, torch.get_rng_state())


def test_the_work_is_told_to_its_end(planted: LoadedModel, picture: np.ndarray) -> None:
    ticks: list[tuple[int, int]] = []
    checked(planted, picture, "saliency", {}, tick=lambda done, total: ticks.append((done, total)))
    assert ticks[-1] == (1000, 1000) and len({done for done, _ in ticks}) > 8


# In words


def outcome(**more: Any) -> words.Trust:
    flat = np.zeros((4, 4), np.float32)
    rows = {
        "run_id": "r", "image_id": "i", "method": "saliency", "target": "3", "how": words.settings_of(), "image": np.zeros((4, 4, 3), np.uint8),
        "map": flat, "random_map": flat, "deletion": None, "insertion": None, "completeness": None, "randomised": (),
        "infidelity": None, "unexplained": None, "agrees": True, "sensitivity": None,
    }  # fmt: skip
    return words.Trust(**(rows | more))


def found(t: words.Trust, name: str) -> words.Finding:
    return next(f for f in words.findings(t) if f.name == name)


def test_a_curve_is_judged_beside_all_random_orders_and_not_alone() -> None:
    random = ((0.9, 0.5, 0.1), (0.9, 0.6, 0.1))  # areas 0.5 and 0.55
    for middle, mark, said in ((0.2, "good", "sooner than"), (0.55, "doubt", "no sooner than"), (0.8, "bad", "later than")):
        one = found(outcome(deletion=words.Curves((0.9, middle, 0.1), random, None)), "deletion")
        assert one.mark == mark and said in one.words and "against 0.53 (2 random orders, 0.50 to 0.55)" in one.words
        shown = words.Curves((0.1, middle, 0.9), tuple(one[::-1] for one in random), None)  # here higher is better
        assert found(outcome(insertion=shown), "insertion").mark == {0.2: "bad", 0.55: "doubt", 0.8: "good"}[middle]
    for own, said in (((0.9, 0.5, 0.1), "sooner on average"), ((0.9, 0.58, 0.1), "no sooner than")):  # both within the two random ones
        assert said in found(outcome(deletion=words.Curves(own, random, None)), "deletion").words
        shown = words.Curves(own[::-1], tuple(one[::-1] for one in random), None)
        assert ("sooner on average" in found(outcome(insertion=shown), "insertion").words) == (said == "no sooner than")
    level = words.Curves((0.97, 0.2, 0.95), random, None)
    assert found(outcome(deletion=level), "deletion").mark == "undefined"  # covering all of it changes nothing
    assert "marks nothing" in found(outcome(), "deletion").words


def test_a_map_that_does_not_change_with_the_weights_is_marked_in_plain_words() -> None:
    def with_rank(*ranks: float | None) -> words.Finding:
        return found(outcome(randomised=tuple(words.Similarity(1.0, rank, rank, rank) for rank in ranks)), "randomised")

    same = with_rank(0.99, 0.95)
    assert same.mark == "bad" and same.words.startswith("This map would look the same for a network that has learned nothing")
    assert with_rank(0.5, 0.4).mark == "doubt" and with_rank(0.1, -0.2).mark == "good" and with_rank(None).mark == "undefined"
    flipped = found(outcome(randomised=(words.Similarity(1.0, -0.9, 0.9, 0.1),)), "randomised")
    assert flipped.mark == "bad"  # the same places with the other sign
    last = words.Similarity(0.2, 1.0, 1.0, 1.0)  # only the last layers were random
    assert found(outcome(randomised=(last, words.Similarity(1.0, 0.1, 0.1, 0.1))), "randomised").mark == "good"
    assert "no weights" in found(outcome(), "randomised").words


def test_what_is_undefined_is_said_to_be() -> None:
    assert found(outcome(), "completeness").figure == "–"
    assert found(outcome(completeness=(0.01, 0.001)), "completeness").figure == "undefined"
    assert found(outcome(completeness=(-0.01, 2.0)), "completeness").mark == "good"
    assert found(outcome(completeness=(-1.2, 2.0)), "completeness").figure == "60% off"
    assert found(outcome(), "infidelity").figure == found(outcome(), "sensitivity").figure == "undefined"
    assert found(outcome(infidelity=0.1, unexplained=0.2, agrees=False), "infidelity").mark == "bad"
    assert found(outcome(infidelity=0.1, unexplained=0.2), "infidelity").mark == "good"
    assert found(outcome(sensitivity=0.1), "sensitivity").mark == "good" and found(outcome(sensitivity=2.0), "sensitivity").mark == "bad"


# In the background


QUICK = {"steps": 4, "draws": 2, "networks": 1, "squares": 8, "noise": 1}


def test_the_checks_run_in_the_background_and_are_there_at_once_the_next_time(trained_copy: Trained) -> None:
    file = settings().images / runs.snapshot_rows(runs.folder(trained_copy.run_id))[0].path
    asked = words.ask(trained_copy.run_id, file, "saliency", "3", how=QUICK)
    first = words.answer(asked)
    assert (first.target, first.method, first.how["steps"]) == ("3", "saliency", 4)
    assert first.deletion is not None and len(first.deletion.own) == 5 and len(first.randomised) == 1
    assert first.image.shape == (*first.map.shape, 3) and first.random_map is not None and len(words.findings(first)) == 6
    assert words.place(trained_copy.run_id, file, "saliency", "3", how=QUICK).exists()
    again = words.ask(trained_copy.run_id, file, "saliency", "3", how=QUICK)
    assert again.done and again.future is None and words.answer(again).sensitivity == first.sensitivity
    assert not words.place(trained_copy.run_id, file, "saliency", "3", how=QUICK | {"seed": 1}).exists()
    assert words.cost(trained_copy.run_id, "saliency", how=QUICK).passes == (2 + 1 + 1) + 2 * 5 * 3 + 3 * 8


def test_checks_that_are_stopped_or_make_no_sense_say_so(trained_copy: Trained) -> None:
    file = settings().images / runs.snapshot_rows(runs.folder(trained_copy.run_id))[0].path
    long = words.ask(trained_copy.run_id, file, "occlusion", "3", how={"networks": 20, "noise": 50, "steps": 200, "draws": 50})
    explain.stop(long)
    with pytest.raises(AppError, match="stopped"):
        words.answer(long)
    with pytest.raises(Invalid, match="not a class"):
        words.ask(trained_copy.run_id, file, "saliency", "no such class")
    with pytest.raises(Invalid, match="Steps"):
        words.ask(trained_copy.run_id, file, "saliency", "3", how={"steps": 1})
    with pytest.raises(Invalid, match="not a setting"):
        words.settings_of({"stepz": 4})
