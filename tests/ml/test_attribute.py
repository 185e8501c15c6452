"""Attribution: each method gives what Captum gives where Captum knows all modules, on copies that answer alike; nothing of the served network changes."""

from __future__ import annotations

import inspect
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.catalog import methods
from core.errors import AppError, Invalid, Stopped
from core.ml import attribute, forward_passes, rescale, rewrite
from core.ml.baselines import baseline
from core.ml.infer import normalised
from core.ml.model import LoadedModel
from core.ml.superpixels import seen, superpixels
from core.types import Layer, Method
from tests.ml.plain import PLAIN, Plain, network, pictures, plain_call, preprocess

EVERY = pytest.mark.parametrize("method", methods.METHODS)
FEW = {"samples": 30, "steps": 10, "superpixels": 6, "window": 8, "stride": 8}  # settings with which a test takes no time


def few(method: str) -> dict[str, Any]:
    return {p.name: FEW[p.name] for p in methods.METHODS[method].params if p.name in FEW}


def those(which: Callable[[Method], object]) -> set[str]:
    """Names of the methods whose record says so."""
    return {name for name, facts in methods.METHODS.items() if which(facts)}


SIDES = {"plain": 24, "efficientnet_lite0": 32, "resnet18": 32, "vgg11": 32}


@pytest.fixture(scope="module")
def built() -> Callable[[str], LoadedModel]:
    kept: dict[str, LoadedModel] = {}

    def get(name: str) -> LoadedModel:
        if name not in kept:
            kept[name] = network(name, SIDES[name])
        return kept[name]

    return get


@pytest.fixture(autouse=True)
def captum_may_warn() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_every_method_that_calls_captum_is_compared_with_a_plain_call() -> None:
    assert PLAIN.keys() >= those(lambda m: "captum" in inspect.getsource(attribute.code(m.name))) | {"grad_cam"}


# What a plain call gets wrong, or cannot do, on a network whose modules it does not know; Loupe asks a rewritten copy instead:
# Lite0 has ReLU6, ResNet uses a ReLU twice and adds, VGG pools right after a ReLU. Their sums are checked below.
REWRITTEN = {
    ("efficientnet_lite0", "deep_lift"), ("efficientnet_lite0", "guided_grad_cam"), ("efficientnet_lite0", "lrp"),
    ("resnet18", "deep_lift"), ("resnet18", "lrp"), ("vgg11", "deep_lift"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "method"), [(name, m) for name in SIDES for m in PLAIN if (name, m) not in REWRITTEN])
def test_every_method_agrees_with_a_plain_call_of_captum(built: Callable[[str], LoadedModel], name: str, method: str) -> None:
    found, x = built(name), pictures(1, SIDES[name])
    settings = methods.method_settings(method, few(method) | ({"gamma": 0} if method == "lrp" else {}))
    for target in range(3):
        wanted = plain_call(found, x.clone().requires_grad_(), method, target, settings).detach().numpy()
        if np.abs(wanted).max() > 0:
            break  # for some classes no region speaks, and Guided Grad-CAM is empty
    assert np.abs(wanted).max() > 0
    got = attribute.maps(found, x, method, [target], settings)
    np.testing.assert_allclose(got.map, wanted, rtol=1e-3, atol=2e-4 * np.abs(wanted).max())
    assert got.map.dtype == np.float32


@EVERY
def test_pictures_together_get_the_maps_that_each_gets_alone(built: Callable[[str], LoadedModel], method: str) -> None:
    found, x, settings = built("plain"), pictures(3, 24), few(method)
    together = attribute.maps(found, x, method, [0, 2, 1], settings)
    assert together.map.shape == (3, 24, 24)
    for i, target in enumerate([0, 2, 1]):
        alone = attribute.maps(found, x[i : i + 1], method, [target], settings)
        np.testing.assert_allclose(together.map[i], alone.map[0], rtol=1e-4, atol=1e-6)
        sums_to = methods.METHODS[method].sums_to
        assert (together.delta is None) == (together.change is None) == (alone.delta is None) == (sums_to is None)
        if together.delta is not None and alone.delta is not None and together.change is not None:
            assert together.delta[i] == pytest.approx(alone.delta[0], abs=1e-5)
            with torch.inference_mode():
                scores = found.model(torch.cat([x[i : i + 1], torch.zeros_like(x[:1])]))[:, target].double()
            assert together.change[i] == pytest.approx(float(scores[0] - scores[1] * (sums_to == "change")), abs=1e-5)
            assert together.map[i].sum() == pytest.approx(together.change[i] + together.delta[i], abs=1e-4)


class Rough(nn.Module):
    """A score that shakes near the mean picture and is straight elsewhere, as of a normalised network; how high, the last times."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.height, self.asked = height, 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        light = x.mean((1, 2, 3)) / 0.02
        score = light + self.height * torch.sin(200 * light) * torch.exp(-20 * light.abs())
        return torch.stack([score, -score], 1)


def test_integrated_gradients_adds_up_by_itself_where_even_steps_do_not_and_says_so_where_nothing_does() -> None:
    plain, x = network("plain", 24), torch.full((1, 3, 24, 24), 0.02)
    found = replace(plain, model=Rough(2.0))
    even = attribute.maps(found, x, "integrated_gradients", [0], {"steps": 32})
    found.model.asked = 0  # type: ignore[assignment]
    got = attribute.maps(found, x, "integrated_gradients", [0])
    assert even.delta is not None and got.delta is not None and got.change is not None
    assert abs(even.delta[0]) > 0.2 * got.change[0] and abs(got.delta[0]) < 0.03 * got.change[0]
    most = methods.passes("integrated_gradients", {"steps": 0}, 24, 24)
    assert found.model.asked < most  # type: ignore[operator]
    assert methods.METHODS["integrated_gradients"].passes_at_most
    said: list[tuple[int, int]] = []
    wild = replace(plain, model=Rough(1e6))
    attribute.maps(wild, x, "integrated_gradients", [0], tick=lambda done, total: said.append((done, total)))
    assert said[-1] == (most, most) and max(done for done, _ in said[:-1]) < most and len(said) > 5
    assert wild.model.asked <= most + 4  # type: ignore[operator]  # and what the change in score and the memory ask


@pytest.mark.parametrize("kind", ["mean", "black", "blur"])
@pytest.mark.parametrize("name", ["plain", "efficientnet_lite0"])
def test_integrated_gradients_adds_up_by_itself_on_networks(built: Callable[[str], LoadedModel], name: str, kind: str) -> None:
    got = attribute.maps(built(name), pictures(1, SIDES[name]), "integrated_gradients", [1], {"baseline": kind})
    assert got.delta is not None and got.change is not None and abs(got.delta[0]) <= 0.025 * abs(got.change[0])


# Copies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIDES)
def test_copies_answer_as_the_network_does_and_leave_it_as_it_is(built: Callable[[str], LoadedModel], name: str) -> None:
    found, x = built(name), pictures(3, SIDES[name])
    modules = [id(m) for m in found.model.modules()]
    state = {key: value.clone() for key, value in found.model.state_dict().items()}
    copied = rewrite.copy_for(found).model
    with torch.inference_mode():
        np.testing.assert_allclose(copied(x).numpy(), found.model(x).numpy(), rtol=1e-4, atol=1e-4)
    assert modules == [id(m) for m in found.model.modules()]  # the served one is as it was
    assert all(torch.equal(value, state[key]) for key, value in found.model.state_dict().items())
    of_the_copy = {m for m in copied.modules() if m is not copied}
    assert not of_the_copy & set(found.model.modules())
    assert not any(isinstance(m, nn.ReLU6 | nn.BatchNorm2d) for m in copied.modules())


@pytest.mark.parametrize("name", SIDES)
def test_deep_lift_adds_up_where_a_plain_call_does_not(built: Callable[[str], LoadedModel], name: str) -> None:
    found, x = built(name), pictures(2, SIDES[name])
    for kind in ("mean", "blur"):
        got = attribute.maps(found, x, "deep_lift", [1, 2], {"baseline": kind})
        assert got.delta is not None and got.change is not None and not got.notes
        np.testing.assert_allclose(got.map.sum((1, 2)), got.change, rtol=1e-3, atol=1e-3)
        assert np.abs(got.delta).max() < 1e-3 * np.abs(got.map).sum((1, 2)).max()
    if name == "efficientnet_lite0":  # which Captum takes without a word
        _, delta = captum.attr.DeepLift(found.model).attribute(x.clone().requires_grad_(), target=1, return_convergence_delta=True)
        assert delta.abs().max() > 0.1


@pytest.mark.parametrize("name", SIDES)
def test_relevance_is_the_score_where_there_are_no_biases_and_loses_what_they_take(built: Callable[[str], LoadedModel], name: str) -> None:
    found, x = built(name), pictures(2, SIDES[name])
    assert attribute.unsupported(found, "lrp") == ""
    got = attribute.maps(found, x, "lrp", [1, 0], {"gamma": 0})
    with torch.inference_mode():
        scores = found.model(x)[[0, 1], [1, 0]].double().numpy()
    assert got.delta is not None and got.change is not None and "biases" in got.notes[0]
    np.testing.assert_allclose(got.change, scores, atol=1e-5)
    np.testing.assert_allclose(got.map.sum((1, 2)), got.change + got.delta, rtol=1e-3, atol=1e-3)
    assert np.abs(got.delta).max() > 1e-3  # these networks have biases


def test_guided_backpropagation_lets_nothing_negative_pass_a_relu6() -> None:
    found = network("efficientnet_lite0", 32)
    copied = rewrite.copy_for(found).model
    first, last = nn.Conv2d(3, 1, 1, bias=False), nn.Linear(4, 1, bias=False)
    tested = nn.Sequential(first, rewrite.ReLU6(), nn.Flatten(), last)
    assert sum(isinstance(m, rewrite.ReLU6) for m in copied.modules()) == sum(isinstance(m, nn.ReLU6) for m in found.model.modules())
    first.weight.data[:] = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    last.weight.data[:] = torch.tensor([[1.0, -1, 1, 1]])
    x = torch.zeros(1, 3, 2, 2)
    x[0, 0] = torch.tensor([[3.0, 3], [-1, 9]])  # within, within with a negative weight, below, above
    got = captum.attr.GuidedBackprop(tested).attribute(x.requires_grad_(), target=0)
    assert got[0, 0].tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil"), [(3, 2, 1, False), (3, 1, 1, True), (3, 2, 0, True), (2, 1, 0, False), (3, 3, 1, True)]
)
@pytest.mark.parametrize("side", [7, 8, 11])
def test_deep_lift_through_a_pooling_adds_up_and_is_captums_where_its_windows_lie_apart(
    kernel: int, stride: int, padding: int, ceil: bool, side: int
) -> None:
    torch.manual_seed(1)
    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(2)).eval()
    x, baseline = torch.randn(2, 3, side, side + 2), torch.zeros(2, 3, side, side + 2)
    model(x)
    parts, change = rescale.share_out(model, x, baseline, [1, 0])
    torch.testing.assert_close(parts.double().sum((1, 2, 3)), change, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(change, (model(x) - model(baseline))[[0, 1], [1, 0]].double())
    if stride >= kernel:
        wanted = captum.attr.DeepLift(model).attribute(x.clone().requires_grad_(), baseline, target=torch.tensor([1, 0]))
        torch.testing.assert_close(parts, wanted.detach(), rtol=1e-4, atol=1e-5)


# The served network -------------------------------------------------------------------------------


def traces(found: LoadedModel) -> dict[str, Any]:
    """What a method could leave behind, in the network and in the global generators."""
    modules = list(found.model.modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "hooks": [len(getattr(m, kind)) for m in modules for kind in hooks],
        "attributes": [sorted(vars(m)) for m in modules],
        "training": [m.training for m in modules],
        "requires_grad": [p.requires_grad for p in found.model.parameters()],
        "grad": [p.grad is None for p in found.model.parameters()],
        "state": {key: value.sum().item() for key, value in found.model.state_dict().items()},
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # type: ignore[index,union-attr]
        "random": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
    }


@EVERY
def test_nothing_is_left_behind_after_a_map_a_stop_and_a_failure(built: Callable[[str], LoadedModel], method: str) -> None:
    found, x, settings = built("plain"), pictures(2, 24), few(method)
    attribute.maps(found, x, method, [0, 1], settings)  # libraries that are loaded on the way may draw a number
    before, picture = traces(found), x.clone()
    attribute.maps(found, x, method, [0, 1], settings)
    assert traces(found) == before and torch.equal(x, picture) and not x.requires_grad

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        attribute.maps(found, x + 1, method, [0, 1], settings, stop)  # another picture, of which nothing is remembered
    assert traces(found) == before
    forward = nn.Linear.forward

    def broken(self: nn.Linear, x: Tensor) -> Tensor:
        raise ZeroDivisionError("in the middle of the network")

    nn.Linear.forward = broken  # type: ignore
    try:
        with pytest.raises(ZeroDivisionError):
            attribute.maps(found, x + 2, method, [0, 1], settings)
    finally:
        nn.Linear.forward = forward  # type: ignore[method-assign]
    assert traces(found) == before
    again = attribute.maps(found, x, method, [0, 1], settings)
    np.testing.assert_array_equal(again.map, attribute.maps(found, x, method, [0, 1], settings).map)


@EVERY
def test_progress_rises_to_the_number_of_passes(built: Callable[[str], LoadedModel], method: str) -> None:
    said: list[tuple[int, int]] = []
    settings = methods.method_settings(method, few(method))
    attribute.maps(built("plain"), pictures(2, 24) * 0.9, method, [0, 1], settings, lambda done, total: said.append((done, total)))
    total = 2 * methods.passes(method, settings, 24, 24)
    assert said[0] == (0, total) and said[-1] == (total, total) and said == sorted(said)


class Small(nn.Conv2d):
    """A convolution in a machine with memory for three pictures."""

    most = 3
    refused = 0
    error: Exception = torch.OutOfMemoryError("out of memory")

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > Small.most:
            Small.refused += 1
            raise Small.error
        return super().forward(x)


@EVERY
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("out"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_what_does_not_fit_into_memory_is_halved(
    built: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    roomy, x, settings = built("plain"), pictures(5, 24), few(method)
    small = network("plain", 24)
    conv = Small(6, 8, 3, stride=2, padding=1)
    conv.load_state_dict(roomy.model.get_submodule("second").state_dict())
    small.model.second = conv.requires_grad_(False)
    small.model.load_state_dict(roomy.model.state_dict())
    monkeypatch.setattr(Small, "most", 3)
    monkeypatch.setattr(Small, "refused", 0)
    monkeypatch.setattr(Small, "error", error)
    before = traces(small)
    targets = [0, 1, 2, 1, 0]
    got = attribute.maps(small, x, method, targets, settings)
    assert Small.refused > 0
    if method != "gradient_shap":  # in which Captum draws at random call by call; others draw all before the first
        wanted = attribute.maps(roomy, x, method, targets, settings).map
        np.testing.assert_allclose(got.map, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    assert traces(small) == before
    monkeypatch.setattr(Small, "most", 0)
    with pytest.raises(AppError, match="Not even one picture fits"):
        attribute.maps(small, x + 1, method, targets, settings)
    assert traces(small) == before


def test_another_class_of_the_same_picture_asks_the_network_nothing_when_only_covers_differ(built: Callable[[str], LoadedModel]) -> None:
    found, x = built("plain"), pictures(1, 24) * 0.7
    asked = 0

    def count(module: nn.Module, args: Any) -> None:
        nonlocal asked
        asked += 1

    for method in sorted(those(lambda m: not m.gradient)):
        first = attribute.maps(found, x, method, [0], few(method))
        handle = found.model.register_forward_pre_hook(count)
        try:
            second = attribute.maps(found, x, method, [1], few(method))
            assert asked == 0
            np.testing.assert_array_equal(attribute.maps(found, x, method, [0], few(method)).map, first.map)
            assert asked == 0 and not np.allclose(first.map, second.map)
            attribute.maps(found, x + 0.1, method, [1], few(method))
            assert asked > 0
            asked = 0
        finally:
            handle.remove()


@pytest.mark.parametrize("method", sorted(those(lambda m: not m.gradient)))
def test_onnx_runtime_takes_over_where_it_pays_with_the_same_map(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    found, x = network("plain", 24), pictures(2, 24)
    slow = attribute.maps(found, x[:1], method, [1], few(method)).map
    assert found not in forward_passes._exported  # it takes seconds, which a small network never earns back
    monkeypatch.setattr(forward_passes, "EXPORT_AFTER", 0)
    before = traces(found)
    attribute.maps(found, x[1:], method, [1], few(method))
    assert forward_passes._exported[found] is not None and traces(found) == before
    forward_passes._remembered.clear()
    monkeypatch.setattr(Plain, "forward", lambda *args: pytest.fail("PyTorch was asked"))
    np.testing.assert_allclose(attribute.maps(found, x[:1], method, [1], few(method)).map, slow, atol=1e-4 * np.abs(slow).max())


def test_a_call_holds_what_the_free_memory_allows(built: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    found, x = built("plain"), pictures(1, 24)
    assert {forward_passes.largest_batch(found, x, gradient) for gradient in (True, False)} == {forward_passes.LARGEST_BATCH}
    every, largest = forward_passes.outputs(found, x)
    assert every > largest >= 6 * 24 * 24 * 4
    monkeypatch.setattr(forward_passes, "free_memory", lambda device: round(every * 2 * 5 / forward_passes.SHARE) + 1)
    assert forward_passes.largest_batch(found, x, gradient=True) == 5
    monkeypatch.setattr(forward_passes, "free_memory", lambda device: 0)
    assert forward_passes.largest_batch(found, x, gradient=False) == 1


# What cannot be done, in words --------------------------------------------------------------------


def test_a_gpu_on_which_nobody_trains_is_asked_and_where_it_cannot_the_cpu_is(
    built: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, x = built("plain"), pictures(2, 24)
    wanted = attribute.maps(found, x, "saliency", [0, 1])
    asked: list[tuple[str, bool]] = []
    on_device = attribute._maps

    def watched(network: LoadedModel, *given: Any) -> attribute.Maps:
        asked.append((network.device.type, network is found))
        return on_device(network, *given)

    monkeypatch.setattr(attribute, "_maps", watched)
    monkeypatch.setattr(attribute, "unused_gpu", lambda: torch.device("cpu"))  # a copy on another device, as far as this machine has one
    assert (attribute.maps(found, x, "saliency", [0, 1]).map == wanted.map).all() and asked == [("cpu", False)]
    monkeypatch.setattr(attribute, "unused_gpu", lambda: torch.device("meta"))  # a device that computes nothing
    assert (attribute.maps(found, x, "saliency", [0, 1]).map == wanted.map).all() and asked[1:] == [("meta", False), ("cpu", True)]


def reasons(found: LoadedModel) -> dict[str, str]:
    return {m: why for m in methods.METHODS if (why := attribute.unsupported(found, m))}


def test_networks_say_which_methods_they_do_not_support_and_why() -> None:
    linear = reasons(network("linear", 12))
    assert {"grad_cam", "guided_grad_cam"} <= linear.keys() == those(lambda m: m.chooses_layer)
    assert "Linear softmax has none" in linear["grad_cam"]
    same = reasons(network("similarity_l1", 12))
    assert same.keys() == those(lambda m: m.gradient) and "no weights" in same["saliency"]
    silu = reasons(network("timm:efficientnet_b0", 32))
    known = those(lambda m: m.activations)
    assert {"deep_lift", "guided_grad_cam", "lrp"} <= silu.keys() == known
    assert "SiLU" in silu["deep_lift"] and "SiLU" in silu["guided_grad_cam"]
    attention = reasons(network("timm:test_vit", 160))
    assert attention.keys() == known | those(lambda m: m.chooses_layer) and "test_vit" in attention["deep_lift"]
    excited = reasons(network("timm:seresnet18", 32))
    assert "multiplies" in excited["deep_lift"]
    with pytest.raises(Invalid, match="needs a convolution"):
        attribute.maps(network("linear", 12), pictures(1, 12), "grad_cam", [0])


@pytest.mark.parametrize("function", ["relu", "gelu", "tanh", "sigmoid"])
def test_a_network_of_ones_own_is_supported_by_what_its_activations_allow(function: str) -> None:
    rows = (
        Layer("convolution", size=4, padding=1), Layer("normalisation"), Layer("activation", function=function),
        Layer("pooling", window=3, stride=2), Layer("dense", size=6), Layer("activation", function=function), Layer("dropout"),
    )  # fmt: skip
    found = network("own", 12, rows)
    found = replace(found, architecture=replace(found.architecture, cam_layer="layers.convolution1"))
    wanted = {
        "relu": set(),
        "gelu": {"deep_lift", "guided_grad_cam", "lrp"},
        "tanh": {"guided_grad_cam"},
        "sigmoid": {"guided_grad_cam", "lrp"},
    }
    assert reasons(found).keys() == wanted[function]
    got = attribute.maps(found, pictures(1, 12), "integrated_gradients", [1], {"steps": 64})
    assert got.delta is not None and got.change is not None and abs(got.delta[0]) < 0.05 * max(0.1, abs(got.change[0]))


def test_a_single_output_is_explained_for_either_of_its_two_classes() -> None:
    found = network("own", 12, (Layer("convolution", size=4, padding=1), Layer("activation", function="relu")), "sigmoid")
    assert "lrp" not in reasons(found) or "add up" in reasons(found)["lrp"]
    for_, against = (attribute.maps(found, pictures(1, 12), "deep_lift", [target]).map for target in (0, 1))
    np.testing.assert_allclose(for_, -against, atol=1e-5)


def test_a_network_that_answers_nan_is_said_to(built: Callable[[str], LoadedModel]) -> None:
    found = network("plain", 24)
    nn.init.constant_(found.model.get_parameter("head.weight"), float("nan"))
    for method in methods.METHODS:
        with pytest.raises(Invalid, match=r"not finite|do not add up"):
            attribute.maps(found, pictures(1, 24), method, [0], few(method))


def test_a_window_larger_than_the_picture_shrinks_with_a_word(built: Callable[[str], LoadedModel]) -> None:
    got = attribute.maps(built("plain"), pictures(1, 24), "occlusion", [0], {"window": 100})
    assert got.notes == ("The window of 100 pixels is larger than this picture: one of 24 was used.",)
    assert np.ptp(got.map) < 1e-6 and got.map.any()  # all of it is covered at once
    assert methods.passes("occlusion", {"window": 100, "stride": 0}, 24, 24) == 2


@pytest.mark.parametrize("kind", ["mean", "black", "white", "blur"])
def test_baselines_are_pictures_the_network_could_have_seen(built: Callable[[str], LoadedModel], kind: str) -> None:
    found, x = built("plain"), pictures(2, 24)
    values = seen(baseline(found.preprocess, x, kind)[0], found.preprocess)
    wanted = {"mean": (0.5, 0.4, 0.45), "black": (0, 0, 0), "white": (1, 1, 1)}
    if kind in wanted:
        np.testing.assert_allclose(values, np.broadcast_to(wanted[kind], values.shape), atol=1e-6)
    else:
        before = seen(x[0], found.preprocess)
        assert values.std() < 0.75 * before.std() and values.mean() == pytest.approx(before.mean(), abs=0.02)
    got = attribute.maps(found, x[:1], "integrated_gradients", [0], {"baseline": kind, "steps": 100})
    assert got.delta is not None and got.change is not None and abs(got.delta[0]) < 0.05 * abs(got.change[0])


# Superpixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 24, 48])
def test_superpixels_are_numbered_without_gaps_and_are_at_least_two(channels: int, side: int) -> None:
    x = pictures(1, side, channels)[0]
    for picture in (x, torch.zeros_like(x)):
        numbers = superpixels(picture, preprocess(side, channels), 12)
        found = np.unique(numbers)
        assert numbers.shape == (side, side) and found.tolist() == list(range(len(found))) and 2 <= len(found) <= 30


def test_superpixels_follow_the_edge_of_a_thing() -> None:
    picture = np.full((3, 40, 40), 30, np.uint8)
    picture[:, 10:30, 10:30] = 220
    numbers = superpixels(normalised([picture], preprocess(40))[0], preprocess(40), 20)
    inside = np.zeros((40, 40), bool)
    inside[10:30, 10:30] = True
    shares = [inside[numbers == n].mean() for n in range(numbers.max() + 1)]
    assert sum(min(share, 1 - share) * (numbers == n).sum() for n, share in enumerate(shares)) < 0.05 * inside.sum()


def test_kernel_shap_finds_the_shapley_values_of_a_sum() -> None:
    """A network that adds up pixels gives each superpixel what its pixels add, in whatever order they come."""
    found = network("linear", 12)
    x, settings = pictures(1, 12), {"superpixels": 4, "samples": 64}
    numbers = superpixels(x[0], found.preprocess, 4)
    weights = found.model.get_parameter("head.weight")[2].view(3, 12, 12) * x[0]
    got = attribute.maps(found, x, "kernel_shap", [2], settings).map[0]
    for n in range(numbers.max() + 1):
        np.testing.assert_allclose(got[numbers == n], float(weights[:, numbers == n].sum()), atol=1e-3)


# Settings -----------------------------------------------------------------------------------------


def test_wrong_settings_are_all_named_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        methods.method_settings("integrated_gradients", {"steps": "many", "baseline": "pink", "speed": 3})
    assert all(word in str(refused.value) for word in ("steps", "many", "pink", "mean, black, white, blur", "speed"))
    with pytest.raises(Invalid, match="80 or more"):
        methods.method_settings("kernel_shap", {"samples": 20, "superpixels": 40})
    with pytest.raises(Invalid, match="no method called “magic”"):
        methods.method_settings("magic", {})
    assert methods.method_settings("occlusion", {"window": "8"}) == {"window": 8, "stride": 0, "baseline": "mean"}


def test_grad_cam_weighs_the_layer_that_was_chosen_and_no_other(built: Callable[[str], LoadedModel]) -> None:
    found, x = built("plain"), pictures(1, 24)
    assert attribute.layers(found) == ["second", "first"]
    coarse = captum.attr.LayerGradCam(found.model, found.model.get_submodule("first")).attribute(x.clone().requires_grad_(), target=0)
    got = attribute.maps(found, x, "grad_cam", [0], {"layer": "first"})
    np.testing.assert_allclose(got.map, coarse.detach().numpy()[:, 0], rtol=1e-4, atol=1e-6)
    with pytest.raises(Invalid, match="second, first"):
        attribute.maps(found, x, "grad_cam", [0], {"layer": "head"})


# Records ------------------------------------------------------------------------------------------


@EVERY
def test_a_record_says_what_the_forms_and_the_worker_must_know(method: str) -> None:
    facts = methods.METHODS[method]
    assert attribute.code(method).METHOD is facts and method == facts.name  # the file is called as the method is
    assert all(text.strip() for text in (facts.title, facts.summary, facts.trust, facts.source))
    assert facts.summary.endswith(".") and facts.trust.endswith(".")
    assert all(p.group == "method" and p.help and p.kind in ("int", "float", "choice") for p in facts.params)
    settings = methods.method_settings(method, {})
    assert methods.passes(method, settings, 224, 224) >= 1
    assert facts.sums_to != "change" or "baseline" in settings
    assert facts.rewrite or not facts.activations  # which are known of a copy only
    assert set(facts.activations) <= {kind.__name__ for kind in rewrite.POINTWISE}


def test_records_have_places_and_titles_of_their_own() -> None:
    facts = list(methods.METHODS.values())
    assert [m.order for m in facts] == sorted({m.order for m in facts})
    assert len({m.title for m in facts}) == len(facts)
