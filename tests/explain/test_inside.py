"""Inside a network: maps are what its layers give, neighbours what a plain computation finds, and nothing stays behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from core.errors import Invalid, NotFound
from core.explain import inside
from core.ml import inside as network
from core.ml.infer import loaded, normalised, read
from core.ml.model import head_of
from core.runs import runs
from core.settings import settings
from core.train import train

if TYPE_CHECKING:
    from core.types import Dataset
    from tests.conftest import Trained


def file_of(trained: Trained, split: str, number: int = 0) -> tuple[str, Path]:
    rows = [r for r in runs.snapshot_rows(runs.folder(trained.run_id)) if r.split == split]
    return rows[number].image_id, settings().images / rows[number].path


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


def test_feature_maps_are_those_of_a_plain_forward_hook_and_the_hook_is_gone(trained: Trained) -> None:
    folder, (_, file) = str(runs.folder(trained.run_id)), file_of(trained, "validation")
    found = loaded(folder)
    caught: list[torch.Tensor] = []
    hook = found.model.get_submodule("relu").register_forward_hook(lambda module, args, output: caught.append(output))
    with torch.inference_mode():
        expected = found.model(normalised([read(str(file), found.preprocess)], found.preprocess))
    hook.remove()
    for call in (1, 2):  # the network uses one ReLU after both convolutions
        answer = network.feature_maps(folder, str(file), "relu", call, 0, 5)
        values = caught[call - 1][0].numpy()
        strength = np.abs(values).mean((1, 2))
        assert answer["channels"] == np.argsort(-strength, kind="stable")[:5].tolist() and answer["total"] == len(values)
        assert (answer["maps"] == values[answer["channels"]]).all()
        assert (answer["low"], answer["high"]) == (values.min(), values.max())
    assert hooks(found.model) == 0
    with torch.inference_mode():
        assert torch.equal(found.model(normalised([read(str(file), found.preprocess)], found.preprocess)), expected)


def test_layers_are_listed_in_the_order_in_which_a_picture_passes_them(trained: Trained) -> None:
    found = inside.outputs(trained.run_id)
    assert [(o.name, o.call) for o in found][:4] == [("conv1", 1), ("pool", 1), ("relu", 1), ("conv2", 1)]
    first = found[0]
    maps = inside.feature_maps(trained.run_id, file_of(trained, "validation")[1], first, first=24)
    assert maps.total == first.shape[0] == 32 and len(maps.pictures) == 8 == len(set(maps.channels))
    assert all(p.startswith(b"\x89PNG") for p in maps.pictures)
    with pytest.raises(Invalid, match="no layer “attention”"):
        network.feature_maps(str(runs.folder(trained.run_id)), str(file_of(trained, "validation")[1]), "attention", 1, 0, 1)


def test_neighbours_are_those_of_a_comparison_with_every_training_image(trained_copy: Trained) -> None:
    folder = runs.folder(trained_copy.run_id)
    with pytest.raises(NotFound, match="not compared"):
        inside.neighbours(trained_copy.run_id, file_of(trained_copy, "validation")[1])
    inside.ended(inside.compare(trained_copy.run_id))
    assert inside.compared(trained_copy.run_id)
    found = loaded(str(folder))
    training = [r for r in runs.snapshot_rows(folder) if r.split == "train"]

    def features(files: list[Path]) -> np.ndarray:
        with torch.inference_mode():
            x = normalised([read(str(f), found.preprocess) for f in files], found.preprocess)
            head, found.model.head = found.model.head, nn.Identity()
            z = found.model(x).numpy()
            found.model.head = head
        return np.asarray(z / np.linalg.norm(z, axis=1, keepdims=True))

    others = features([settings().images / r.path for r in training])
    for split in ("validation", "train"):
        image_id, file = file_of(trained_copy, split)
        cosines = others @ features([file])[0]
        cosines[[r.image_id == image_id for r in training]] = -2  # a picture is not its own neighbour
        expected = np.argsort(-cosines)[:8]
        answer = inside.neighbours(trained_copy.run_id, file, image_id)
        assert answer.compared == answer.training == len(training)
        assert [one.similarity for one in answer.nearest] == pytest.approx(cosines[expected].tolist(), abs=1e-3)
        assert {one.image_id for one in answer.nearest} == {training[i].image_id for i in expected}
        labels = {r.image_id: r.label for r in training}
        assert all(one.label == labels[one.image_id] for one in answer.nearest)
        shares = inside.shares(answer.nearest)
        assert sum(n for _, n in shares) == 8 and [n for _, n in shares] == sorted((n for _, n in shares), reverse=True)
    assert hooks(found.model) == 0


def test_wide_features_are_kept_of_fewer_training_images(trained_copy: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = runs.folder(trained_copy.run_id), tmp_path / "features.npz"
    width = head_of(loaded(str(folder)).model, loaded(str(folder)).architecture).in_features
    monkeypatch.setattr(network, "MOST_BYTES", 5 * 4 * width)
    network.compare(str(folder), trained_copy.dataset.id, str(out), str(tmp_path / "progress"))
    with np.load(out) as arrays:
        assert arrays["features"].shape == (5, width) and int(arrays["training"]) > 5


def test_filters_are_pictures_of_the_first_weights(trained: Trained) -> None:
    found = inside.filters(trained.run_id)
    weights = loaded(str(runs.folder(trained.run_id))).model.get_submodule("conv1").weight
    assert isinstance(weights, torch.Tensor)
    assert (found.kind, found.layer, found.total, found.size) == ("convolution", "conv1", 32, (5, 5))
    assert len(found.pictures) == 32 and found.scale == pytest.approx(float(weights.abs().max()))


@pytest.mark.parametrize(("architecture", "kind"), [("linear", "classes"), ("similarity_l2", "means")])
def test_networks_without_such_layers_show_what_they_have_and_say_why(small: Dataset, architecture: str, kind: str) -> None:
    run = train.start(small.id, {"architecture": architecture, "epochs": 1}, "tester")
    assert train.wait(run.id).status == "succeeded"
    assert inside.outputs(run.id) == ()
    found = inside.filters(run.id)
    assert (found.kind, found.names, len(found.pictures)) == (kind, run.classes, 3)
    assert bool(inside.no_features(run.id)) == (kind == "means")


def test_a_run_without_weights_is_refused_in_words(trained_copy: Trained) -> None:
    runs.checkpoint(runs.folder(trained_copy.run_id)).unlink()
    with pytest.raises(NotFound, match="no trained weights"):
        inside.outputs(trained_copy.run_id)
    with pytest.raises(NotFound, match="no trained weights"):
        inside.compared(trained_copy.run_id)
