"""Networks: the named ones and the catalogue as they are built, search, one's own layers, weights, and a look inside."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.catalog import layers, networks, params
from core.errors import AppError, Conflict, Invalid
from core.explain import explain
from core.ml import anatomy as taken
from core.ml import infer, model, registry, worker
from core.ml import speed as measuring
from core.runs import launch, runs
from core.train import anatomy, speed, train
from core.types import Architecture, Dataset, Layer, Preprocess, RunConfig
from tests.ml.made import ended, files_of, make_run, squares

RELU = Layer("activation", function="relu")
SCRATCH = [a for a in networks.ARCHITECTURES.values() if a.factory.startswith("scratch:")]


def config(name: str, **values: Any) -> RunConfig:
    return params.run_config({"architecture": name, "device": "cpu", **values})


def plain(channels: int, side: int) -> Preprocess:
    return Preprocess(channels, side, side, (0.0,) * channels, (1.0,) * channels)


# Named networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in networks.ARCHITECTURES if n != "own"])
def test_a_named_network_answers_to_a_real_batch_and_its_head_and_cam_layer_are_found(name: str) -> None:
    arch = networks.ARCHITECTURES[name]
    side = 32 if arch.input_size or not arch.tutorial else arch.tutorial[1]
    net = model.create(arch, 3, plain(3, side)).eval()
    seen: dict[str, torch.Tensor] = {}
    for path in (arch.head, arch.cam_layer):
        if path:
            net.get_submodule(path).register_forward_hook(lambda _, __, out, path=path: seen.update({path: out}))
    with torch.inference_mode():
        answer = net(torch.rand(2, 3, side, side))
    assert answer.shape == (2, 3) and torch.equal(answer, seen[arch.head])
    assert not arch.cam_layer or seen[arch.cam_layer].ndim == 4


@pytest.mark.parametrize("name", [n for n, a in networks.ARCHITECTURES.items() if a.parameters])
def test_the_facts_of_a_named_network_are_those_of_the_catalogue(name: str) -> None:
    arch = networks.ARCHITECTURES[name]
    row = networks.catalogue()[arch.factory]
    assert (str(arch.parameters), str(arch.input_size), arch.head) == (row["parameters"], row["input_size"], row["head"])
    assert arch.any_shape == (row["any_shape"] == "1")
    known = networks.facts(arch)
    assert known is not None and known.smallest <= 32 and known.multiple == 1


@pytest.mark.parametrize(("name", "count"), [("11", 132_863_336), ("13", 133_047_848), ("16", 138_357_544), ("19", 143_667_240)])
def test_vgg_has_its_true_layout(name: str, count: int) -> None:
    arch = networks.architecture(f"torchvision:vgg{name}")
    assert arch.parameters == count
    net = model.on_meta(lambda: model.create(arch, 1000, plain(3, 224)))
    assert sum(p.numel() for p in net.parameters()) == count
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules()) == int(name)


@pytest.mark.parametrize("arch", SCRATCH, ids=lambda a: a.name)
@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 100), (3, 200)])
def test_the_parameters_of_networks_for_any_size_follow_their_formula(arch: Architecture, channels: int, side: int) -> None:
    net = model.on_meta(lambda: model.create(arch, 7, plain(channels, side)))
    assert networks.parameters(arch, channels, side, 7) == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "timm:mobilenetv3_small_050"])
def test_parameters_are_counted_with_a_head_for_the_classes_that_are_learned(name: str) -> None:
    arch = networks.architecture(name)
    net = model.on_meta(lambda: model.create(arch, 10, plain(3, 224)))
    assert networks.parameters(arch, 3, 224, 10) == sum(p.numel() for p in net.parameters())
    assert networks.parameters(arch, 3, 224, 1000) == arch.parameters
    assert name != "timm:mobilenetv3_small_050" or networks.parameters(arch, 3, 224, 10) == 578_474


# The catalogue ------------------------------------------------------------------------------------


def smallest_of_each_family() -> list[str]:
    """Of every family one whose batch is quickly run: the fewest parameters."""
    best: dict[str, tuple[int, str]] = {}
    for name, row in networks.catalogue().items():
        if not row["left_out"] and row["family"] != "sequencer":  # its LSTMs take 15 s step by step
            library = name.partition(":")[0]
            best[f"{library} {row['family']}"] = min(best.get(f"{library} {row['family']}", (10**12, "")), (int(row["parameters"]), name))
    return sorted(name for _, name in best.values())


def test_the_catalogue_holds_nearly_all_networks_of_both_libraries() -> None:
    rows = networks.catalogue().values()
    kept = [row["name"] for row in rows if not row["left_out"]]
    assert sum(name.startswith("torchvision:") for name in kept) > 70
    assert sum(name.startswith("timm:") for name in kept) > 1000
    assert all(row["left_out"] for row in rows if row["name"] not in set(kept))
    assert {row["multiple"] for row in rows} == {"", "0", "1", "32"}


def test_the_facts_of_the_catalogue_are_those_of_the_networks_themselves() -> None:
    chosen = smallest_of_each_family()
    assert len(chosen) > 60
    wrong = {}
    for name in chosen:
        row = networks.catalogue()[name]
        found = {key: str(value) for key, value in registry.facts(name).items()}
        if found != {key: row[key] for key in found}:
            wrong[name] = {key: (found[key], row[key]) for key in found if found[key] != row[key]}
    assert not wrong


@pytest.mark.parametrize(
    "name", ["torchvision:mobilenet_v3_small", "timm:mobilenetv3_small_050", "timm:resnet10t", "timm:vit_tiny_patch16_224"]
)
def test_a_network_of_the_catalogue_learns_frees_its_head_and_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    arch, settings_of = networks.architecture(name), config(name, pretrained=False, freeze=False)
    how = networks.preprocess_for(settings_of, [(40, 40, 3)])
    net = model.build(settings_of, 3, how)
    x = torch.rand(4, 3, how.crop, how.crop)
    F.cross_entropy(net(x), torch.tensor([0, 1, 2, 0])).backward()  # type: ignore[no-untyped-call]
    assert model.head_of(net, arch).weight.grad is not None
    model.save(tmp_path / "best.pt", net, model.describe(settings_of, ["a", "b", "c"], how, 1))
    again = model.load(tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(again.model(x), net.eval()(x))


def test_what_no_file_holds_is_computed_when_a_network_is_loaded(tmp_path: Path) -> None:
    settings_of = config("timm:swin_tiny_patch4_window7_224", pretrained=False, freeze=False)
    how = networks.preprocess_for(settings_of, [])
    net = model.build(settings_of, 2, how).eval()  # Swin's relative positions are in no state dict
    assert {name for name, _ in net.named_buffers()} - net.state_dict().keys()
    model.save(tmp_path / "best.pt", net, model.describe(settings_of, ["a", "b"], how, 1))
    x = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(model.load(tmp_path).model(x), net(x))


def test_networks_are_found_by_the_words_a_person_types() -> None:
    def names(text: str, page: int = 0) -> list[str]:
        return [a.name for a in networks.search(text, page)[0]]

    assert names("VGG-16")[0] == names("vgg16")[0] == "torchvision:vgg16"
    assert names("resnet18")[:2] == ["resnet18", "timm:resnet18"]
    assert names("convnext tiny")[0].endswith("convnext_tiny")
    assert set(names("1409.1556 timm")) <= {n for n, r in networks.catalogue().items() if r["source"] == "arXiv:1409.1556"}
    assert names("mobilnet")  # one letter too few
    assert names("no such thing") == []
    first, total = networks.search("vit", 0, 8)
    second, again = networks.search("vit", 1, 8)
    assert total == again > 100 and not {a.name for a in first} & {a.name for a in second}
    everything = networks.search("")[1]
    assert everything == sum(not r["left_out"] for r in networks.catalogue().values()) + len(SCRATCH)


def test_a_name_that_is_none_and_one_that_cannot_learn_are_answered_with_a_way_on() -> None:
    with pytest.raises(Invalid, match="torchvision:vgg16"):
        config("vgg-16")
    with pytest.raises(Invalid, match="cannot learn other classes here: its head is not one linear layer"):
        config("timm:deit_tiny_distilled_patch16_224")
    assert networks.architecture("torchvision:resnet18") is networks.ARCHITECTURES["resnet18"]


# Pictures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values", "sizes", "expected"),
    [
        ("resnet18", {}, [(28, 28, 1)], (3, 256, 224)),
        ("resnet18", {"pretrained": False, "freeze": False}, [(28, 28, 1)], (3, 32, 32)),
        ("resnet18", {"pretrained": False, "freeze": False}, [(100, 120, 3)], (3, 100, 100)),
        ("resnet18", {"pretrained": False, "freeze": False}, [(640, 480, 3)], (3, 224, 224)),
        ("resnet18", {"pretrained": False, "freeze": False}, [], (3, 224, 224)),
        ("resnet18", {"pretrained": False, "freeze": False, "image_size": 96}, [(640, 480, 3)], (3, 96, 96)),
        ("torchvision:inception_v3", {"pretrained": False, "freeze": False}, [(28, 28, 1)], (3, 75, 75)),
        ("timm:hrnet_w18", {"pretrained": False, "freeze": False}, [(100, 100, 3)], (3, 128, 128)),
        ("timm:vit_base_patch16_224", {"pretrained": False, "freeze": False}, [(28, 28, 1)], (3, 224, 224)),
        ("own", {"layers": [RELU]}, [(28, 28, 1)], (1, 28, 28)),
        ("own", {"layers": [RELU]}, [(640, 480, 3)], (3, 64, 64)),
    ],
)
def test_a_network_with_random_weights_sees_small_pictures_as_they_are_and_cuts_no_edges(
    name: str, values: dict[str, Any], sizes: list[tuple[int, int, int]], expected: tuple[int, int, int]
) -> None:
    found = networks.preprocess_for(config(name, **values), sizes)
    assert (found.channels, found.resize, found.crop) == expected
    own_figures = networks.measured(config(name, **values))
    assert own_figures == (expected[1] == expected[2])
    assert found.mean == ((0.0,) * expected[0] if own_figures else networks.IMAGENET_MEAN)


def test_a_network_too_deep_for_the_image_size_names_a_size_that_works() -> None:
    with pytest.raises(Invalid, match=r"VGG-11 is too deep for pictures of 16×16\. The smallest image_size that works is 32"):
        config("vgg11", image_size=16)
    with pytest.raises(Invalid, match="takes pictures of 224×224 only, not 128×128"):
        config("timm:vit_base_patch16_224", image_size=128)
    with pytest.raises(Invalid, match=r"multiples of 32, not 100\. Set image_size to 96"):
        config("timm:hrnet_w18", image_size=100)
    right = config("vgg11", pretrained=False, freeze=False)
    with pytest.raises(Invalid, match="smallest image_size that works is 32"):  # and in the worker, whatever the page let through
        model.build(replace(right, image_size=16), 2, plain(3, 16))
    assert networks.problem(replace(right, image_size=16), [], 2) and not networks.problem(right, [(8, 8, 1)], 2)


def test_what_the_table_of_sizes_does_not_know_is_tried_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "wrong_size", lambda arch, side: "")
    with pytest.raises(Invalid, match="cannot take pictures of 16×16"):
        model.check_size(networks.ARCHITECTURES["vgg11"], plain(3, 16))
    model.check_size(networks.ARCHITECTURES["vgg11"], plain(3, 32))


# One's own ----------------------------------------------------------------------------------------

NETS: dict[str, tuple[Layer, ...]] = {
    **layers.EXAMPLES,
    "none": (),
    "all kinds": (
        Layer("normalisation"),
        Layer("convolution", size=6, window=4, stride=3, padding=1),
        Layer("normalisation"),
        Layer("activation", function="gelu"),
        Layer("pooling", window=3, stride=2, padding=1, function="average"),
        Layer("dropout", rate=0.25),
        Layer("dense", size=11),
        Layer("normalisation"),
        Layer("activation", function="tanh"),
        Layer("activation", function="sigmoid"),
    ),
    "no dense": (Layer("convolution", size=5, window=3), Layer("pooling", window=26, stride=1, function="average")),
}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_shapes_and_parameters_of_ones_own_network_are_those_of_torch(net: str, output: str) -> None:
    rows = layers.walk(NETS[net], 3, 28, 2, output)
    assert not layers.problem(rows)
    built = model.create(networks.ARCHITECTURES["own"], 2, plain(3, 28), NETS[net], output).eval()
    seen: dict[str, torch.Tensor] = {}
    for name, module in built.named_modules():
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    assert built(torch.rand(2, 3, 28, 28)).shape == (2, 2)
    for row in rows:
        assert tuple(seen[row.name].shape[1:]) == row.shape, row
        assert sum(p.numel() for p in built.get_submodule(row.name).parameters()) == row.parameters, row
    cam = layers.cam_layer(NETS[net])
    assert not cam or isinstance(built.get_submodule(cam), nn.Conv2d)


def test_the_networks_of_the_tutorials_have_their_sizes() -> None:
    def count(net: tuple[Layer, ...], classes: int, output: str = "softmax") -> int:
        return sum(row.parameters for row in layers.walk(net, 1, 28, classes, output))

    assert count((), 2, "sigmoid") == 785
    assert count(layers.EXAMPLES["Two hidden layers of 200"], 10) == 784 * 200 + 200 + 200 * 200 + 200 + 200 * 10 + 10
    assert count(layers.EXAMPLES["5 and 8 hidden units"], 10) == 4063
    assert count(layers.EXAMPLES["Two 5 × 5 convolutions"], 10) == networks.parameters(networks.ARCHITECTURES["convnet"], 1, 28, 10)


def test_a_single_output_is_a_sigmoid_with_binary_cross_entropy() -> None:
    torch.manual_seed(0)
    net = model.create(networks.ARCHITECTURES["own"], 2, plain(1, 4), (Layer("dense", size=3), RELU), "sigmoid")
    assert isinstance(net, model.Own)
    x, truth = torch.rand(20, 1, 4, 4) * 6 - 3, torch.arange(20) % 2
    z = net.head(net.layers(x))[:, 0]
    torch.testing.assert_close(net(x).softmax(1)[:, 1], torch.sigmoid(z))
    torch.testing.assert_close(F.cross_entropy(net(x), truth), F.binary_cross_entropy_with_logits(z, truth.float()))


@pytest.mark.parametrize(
    ("net", "side", "sentence"),
    [
        (
            [RELU, *[Layer("pooling", window=2, stride=2)] * 3],
            4,
            "Layer 4 (pooling): its input is 1×1, smaller than the window of 2. Remove it, or use larger images.",
        ),
        (
            [Layer("convolution", size=4, window=9, padding=1)],
            6,
            "Layer 1 (convolution): its input is 6×6, 8×8 with its padding, smaller than the window of 9. Remove it, or use larger images.",
        ),
        (
            [RELU, Layer("dense", size=3), Layer("convolution", size=4)],
            28,
            "Layer 3 (convolution): a convolution needs a picture, but layer 2 (dense) has made one row of numbers of it. "
            "Move it before layer 2.",
        ),
        (
            [Layer("pooling", window=2, padding=2)],
            28,
            "Layer 1 (pooling): its padding of 2 is more than half of its window of 2. Use 1 at most.",
        ),
    ],
)
def test_a_layer_that_cannot_work_is_named_with_a_remedy_and_torch_agrees(net: list[Layer], side: int, sentence: str) -> None:
    rows = layers.walk(net, 1, side, 3)
    assert layers.problem(rows) == sentence
    assert sum(bool(row.problem) for row in rows) == 1
    with pytest.raises(Invalid) as e:
        model.build(config("own", layers=net), 3, plain(1, side))
    assert str(e.value) == sentence
    modules = [model.module_of(layer, (1, side, side)) for layer in net]
    with pytest.raises((RuntimeError, ValueError)):
        nn.Sequential(
            *(m for m in modules if not isinstance(m, nn.Linear)),
            *([nn.Flatten(), nn.Conv2d(1, 1, 3)] if side == 28 and len(net) == 3 else []),
        )(torch.rand(2, 1, side, side))


def test_a_single_output_needs_two_classes_and_a_huge_network_is_refused() -> None:
    assert "not 3" in layers.problem(layers.walk((), 1, 28, 3, "sigmoid"))
    huge = layers.problem(layers.walk([Layer("dense", size=60_000)] * 2, 1, 28, 3))
    assert huge.startswith("This network has 3,647,340,003 parameters, more than 500,000,000")


def test_the_formula_of_the_side_has_the_numbers_put_in() -> None:
    even, odd = layers.walk([Layer("convolution", size=1, window=5, padding=2), Layer("pooling", window=3, stride=2)], 1, 28, 2)[:2]
    assert even.formula == "(28 − 5 + 2×2) / 1 + 1 = 28"
    assert odd.formula == "(28 − 3 + 2×0) / 2 + 1 = 13.50, rounded down to 13" and odd.shape == (1, 13, 13)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_ones_own_network_is_trained_and_its_file_holds_all_it_is_built_from(home: Path, output: str) -> None:
    rows = tuple(row for row in squares(8) if output == "softmax" or row.label != "blue")
    net = [
        {"kind": "convolution", "size": 8, "window": 3, "padding": 1},
        {"kind": "activation"},
        {"kind": "pooling", "window": 2, "stride": 2},
    ]
    folder = make_run(rows, architecture="own", layers=net, output=output, epochs=2, batch_size=8)
    worker.main(folder)
    assert ended(folder).outcome == "succeeded", ended(folder)
    (folder / "config.json").rename(folder / "config.away")  # the file of the model is enough
    found = model.load(folder)
    assert found.architecture.cam_layer == "layers.convolution1"
    (folder / "config.away").rename(folder / "config.json")
    assert explain.supported(folder.name)["grad_cam"] == ""
    answers = infer.predict(str(folder), files_of(folder)[:4])
    assert all(math.isclose(sum(a["probabilities"]), 1) for a in answers) and list(runs.read_predictions(folder))


def test_a_network_of_timm_is_trained_from_random_weights(home: Path) -> None:
    folder = make_run(squares(8, side=40), architecture="timm:test_resnet", pretrained=False, freeze=False, epochs=2, batch_size=8)
    worker.main(folder)
    assert ended(folder).outcome == "succeeded", ended(folder)
    found = model.load(folder)
    assert found.preprocess.crop == found.preprocess.resize == 40
    assert found.preprocess.mean != (0.0,) * 3 and found.preprocess.mean != networks.IMAGENET_MEAN  # those of its own images


def test_a_network_too_deep_for_the_images_of_a_dataset_does_not_start(small: Dataset) -> None:
    pooling = [{"kind": "pooling", "window": 2, "stride": 2}] * 4  # 12 → 6 → 3 → 1
    with pytest.raises(Invalid, match=r"Layer 4 \(pooling\): its input is 1×1"):
        train.start(small.id, {"architecture": "own", "layers": pooling}, "tester")
    assert train.list_runs(small.id) == []


# Weights ------------------------------------------------------------------------------------------


def test_the_place_of_pretrained_weights_is_looked_at_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    resnet, small = networks.architecture("resnet18"), networks.architecture("timm:mobilenetv3_small_050")
    assert networks.weights_here(networks.architecture("efficientnet_lite0"))
    assert networks.weights_folder() == Path(torch.hub.get_dir()) / "checkpoints"
    assert networks.weights_file(resnet) == "resnet18-f37072fd.pth"
    assert networks.weights_file(small) == "mobilenetv3_small_050.lamb_in1k.safetensors"
    assert not networks.weights_here(resnet) and not networks.weights_here(small)
    networks.weights_folder().mkdir(parents=True)
    (networks.weights_folder() / networks.weights_file(resnet)).touch()
    cached = tmp_path / "hub" / "hub" / "models--timm--mobilenetv3_small_050.lamb_in1k" / "snapshots" / "abc"
    cached.mkdir(parents=True)
    (cached / "model.safetensors").touch()
    assert networks.weights_here(resnet) and networks.weights_here(small)


def test_weights_that_a_person_put_into_the_folder_are_those_the_network_starts_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    small = networks.architecture("timm:mobilenetv3_small_050")
    torch.manual_seed(1)
    given = model.create(small, 1000, plain(3, 224)).state_dict()
    networks.weights_folder().mkdir(parents=True)
    save_file(given, networks.weights_folder() / networks.weights_file(small))
    torch.manual_seed(2)
    settings_of = config("timm:mobilenetv3_small_050")
    net = model.build(settings_of, 3, networks.preprocess_for(settings_of, []))
    state = net.state_dict()
    assert all(torch.equal(state[name], given[name]) for name in given if not name.startswith("classifier"))
    assert state["classifier.weight"].shape[0] == 3 and settings_of.freeze
    assert [n for n, p in net.named_parameters() if p.requires_grad] == ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "torchvision:mobilenet_v3_small"])
@pytest.mark.parametrize("failure", ["no network", "half a file"])
def test_weights_that_cannot_be_had_are_named_with_their_address_and_place(
    name: str, failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(url: str, target: str, *args: Any, **rest: Any) -> None:
        if failure == "no network":
            raise OSError("no network")
        if args or "hash_prefix" in rest:  # torchvision's files carry a hash, which torch compares
            raise RuntimeError("invalid hash value")
        Path(target).write_bytes(b"half")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    settings_of = config(name)
    arch = networks.of(settings_of)
    with pytest.raises(AppError) as e:
        model.build(settings_of, 2, networks.preprocess_for(settings_of, []))
    known = networks.facts(arch)
    assert known is not None
    for part in (known.url, str(networks.weights_folder() / networks.weights_file(arch)), "EfficientNet-Lite0", "random weights"):
        assert part in e.value.hint
    assert not networks.weights_here(arch)


# A look inside ------------------------------------------------------------------------------------


def look(name: str, side: int, **values: Any) -> anatomy.Anatomy:
    settings_of = config(name, **values)
    found = taken.describe(name, settings_of.layers, settings_of.output, settings_of.freeze, 3, side, 5)
    rows = tuple(anatomy.Row(**{**row, "shape": tuple(row["shape"])}) for row in found.pop("rows"))
    return anatomy.Anatomy(rows, **found)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *((a.name, a.tutorial[1]) for a in SCRATCH if a.tutorial),
        ("efficientnet_lite0", 224),
        ("vgg11", 224),
        ("timm:resnet152", 224),
        ("timm:vit_tiny_patch16_224", 224),
        ("timm:swin_tiny_patch4_window7_224", 224),
        ("torchvision:vit_b_16", 224),
        ("timm:hrnet_w18", 224),
    ],
)
def test_the_rows_of_a_network_add_up_to_all_of_its_parameters_and_its_blocks_fit_on_a_page(name: str, side: int) -> None:
    found = look(name, side)
    assert sum(row.parameters for row in found.rows) == found.parameters
    assert found.rows[-1].kind == "output" and found.rows[-1].shape == (5,)
    blocks = anatomy.blocks(found)
    assert 1 <= len(blocks) <= 24
    assert sum(block.parameters for block in blocks) == found.parameters
    arch = networks.architecture(name)
    assert found.trained == (found.rows[-1].parameters if arch.weights else found.parameters)


def test_the_stages_of_a_deep_network_are_those_of_its_paper() -> None:
    blocks = anatomy.blocks(look("timm:resnet152", 224))
    stages = [(b.side, b.channels) for b in blocks if b.layers > 1]
    assert stages == [(56, 256), (28, 512), (14, 1024), (7, 2048)]
    assert [b.title for b in blocks if b.layers > 1] == ["layer1, 3 parts", "layer2, 8 parts", "layer3, 36 parts", "layer4, 3 parts"]


def test_the_rows_say_what_comes_out_of_each_layer_and_the_work_is_counted() -> None:
    found = look("convnet", 28)
    assert [(r.name, r.kind, r.shape) for r in found.rows][:4] == [
        ("conv1", "convolution", (32, 28, 28)),
        ("pool", "pooling", (32, 14, 14)),
        ("relu", "activation", (32, 14, 14)),
        ("conv2", "convolution", (64, 14, 14)),
    ]
    dense = 3136 * 1000 + 1000 * 5
    assert found.multiply_adds == 28 * 28 * 32 * 75 + 14 * 14 * 64 * 800 + dense


def test_the_model_worker_takes_a_network_apart_for_the_page(home: Path) -> None:
    try:
        found = anatomy.answer(anatomy.ask(config("convnet"), ((28, 28, 1),), 10))
        assert found.parameters == networks.parameters(networks.ARCHITECTURES["convnet"], 1, 28, 10) and found.side == 28
        assert anatomy.ask(config("convnet", epochs=99), ((28, 28, 1),), 10) is anatomy.ask(config("convnet"), ((28, 28, 1),), 10)
        with pytest.raises(Invalid, match="Layer 1"):
            anatomy.answer(anatomy.ask(config("own", layers=[Layer("pooling", window=30)]), ((28, 28, 1),), 10))
    finally:
        launch.close()
        anatomy._asked.cache_clear()


# Speed --------------------------------------------------------------------------------------------


def test_speed_is_measured_in_its_own_process_and_kept_until_pytorch_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert speed.known() == {} and speed.progress() == ""
    with pytest.raises(Invalid):
        speed.measure(["no such network"])
    speed.measure(["linear", "convnet"])
    with pytest.raises(Conflict):
        speed.measure(["linear"])
    until = time.monotonic() + 120
    while speed.progress() and time.monotonic() < until:
        time.sleep(0.2)
    found = speed.known()
    assert set(found) == {"linear", "convnet"}, (home / "speed" / "worker.log").read_text()
    assert found["linear"].images_per_s > found["convnet"].images_per_s > 1 and found["convnet"].side == 28
    monkeypatch.setattr(speed, "version", lambda package: "another")
    assert speed.known() == {}


def test_figures_of_another_device_are_dropped(tmp_path: Path) -> None:
    measuring.keep(tmp_path / "speed.json", "a", "cpu", 28, 10.0)
    measuring.keep(tmp_path / "speed.json", "b", "cpu", 28, 20.0)
    assert set(runs.read_json(tmp_path / "speed.json")["speeds"]) == {"a", "b"}
    measuring.keep(tmp_path / "speed.json", "c", "cuda", 28, 20.0)
    assert set(runs.read_json(tmp_path / "speed.json")["speeds"]) == {"c"}
