"""Presets: what they train, which dataset they were made for, pixel similarity, and `python -m core reproduce`."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from core.catalog import networks, params, presets
from core.data import store
from core.evaluate import evaluate
from core.ml import infer
from core.ml.similarity import NEVER_SEEN, Similarity
from core.names import FASHION
from core.runs import openings, runs
from core.settings import settings
from core.train import train
from core.types import ClassMetrics, Evaluation, Interval, SnapshotRow

Command = Callable[..., subprocess.CompletedProcess[str]]


# The presets


def test_there_is_a_preset_for_every_figure_of_the_sources_and_its_settings_are_allowed() -> None:
    assert [(p.title, round(p.published, 4)) for p in presets.PRESETS.values()] == [
        ("Pixel similarity, 3 versus 7", 0.951),
        ("Linear, 3 versus 7", 0.97),
        ("Small net, 3 versus 7", 0.98),
        ("ResNet-18 from scratch, 3 versus 7", 0.99),
        ("Fully connected, MNIST", 0.9783),
        ("ConvNet, MNIST", 0.9903),
        ("Linear softmax, Fashion-MNIST", 0.815),
        ("5-8 hidden units, Fashion-MNIST", 0.719),
        ("Three-block CNN, few colour images", 0.75),
        ("ResNeXt-50 frozen, few colour images", 0.875),
        ("VGG-11 frozen, three moderation classes", 0.622),
    ]
    for name, preset in presets.PRESETS.items():
        assert preset.name == name and presets.find(name) is preset and preset.note.endswith(".")
        for changes in ({}, *preset.variants.values()):
            config = params.run_config({**preset.settings, **changes})
            assert networks.find(config.architecture) is not None
            assert config.pretrained == preset.needs_weights
    assert [p.name for p in presets.PRESETS.values() if p.needs_weights] == ["resnext50_photos", "vgg11_moderation"]
    assert presets.find("") is None


def test_a_preset_knows_the_dataset_it_was_made_for_by_its_classes_and_pictures() -> None:
    mnist, digits, photos = (28.0, 28.0, 1), (8.0, 8.0, 1), (500.0, 640.0, 3)

    def fits(classes: tuple[str, ...], size: tuple[float, float, int], test: dict[str, int]) -> dict[str, str]:
        return {p.name: presets.fit(p, classes, size, test.get(p.name, 0)) for p in presets.PRESETS.values()}

    found = fits(presets.DIGITS, mnist, {"dense_mnist": 10_000, "similarity": 2_038, "convnet_mnist": 500})
    assert (found["dense_mnist"], found["similarity"], found["convnet_mnist"]) == ("same", "same", "possible")
    assert (found["linear_fashion"], found["cnn3_photos"]) == ("other", "own")
    assert fits(presets.DIGITS, digits, {"dense_mnist": 10_000})["dense_mnist"] == "possible"
    assert fits(("3", "7"), mnist, {})["net_3_7"] == "possible" and fits(("3", "7"), mnist, {})["dense_mnist"] == "other"
    assert fits(FASHION, mnist, {"linear_fashion": 10_000})["linear_fashion"] == "same"
    assert fits(FASHION, mnist, {})["net_3_7"] == "other"
    assert set(fits(("cat", "dog"), photos, {}).values()) == {"other", "own"}
    assert presets.fit(presets.PRESETS["dense_mnist"], presets.DIGITS, None, 0) == "possible"


def judged(right: tuple[int, int], n: tuple[int, int]) -> Evaluation:
    """An evaluation of two classes with so many right of so many."""
    confusion = np.array([[right[0], n[0] - right[0]], [n[1] - right[1], right[1]]])

    def share(a: int, b: int) -> Interval:
        return Interval(a / b, a / b - 0.01, a / b + 0.02)

    classes = tuple(ClassMetrics(c, n[i], 0, None, share(right[i], n[i]), None) for i, c in enumerate("37"))
    return Evaluation("run", "test", ("3", "7"), sum(n), share(sum(right), sum(n)), None, classes, confusion, None, 0, 0)


def test_the_figure_is_the_mean_of_the_classes_only_where_the_source_counted_so() -> None:
    uneven = judged((90, 10), (100, 20))
    assert presets.figure(presets.PRESETS["net_3_7"], uneven) == uneven.accuracy
    mean = presets.figure(presets.PRESETS["similarity"], uneven)
    assert mean is not None and mean.value == pytest.approx((0.9 + 0.5) / 2)
    assert mean.value - mean.low == pytest.approx(0.01 / 2**0.5) and mean.high - mean.value == pytest.approx(0.02 / 2**0.5)


def test_the_line_names_n_and_says_a_few_images_as_a_count() -> None:
    line = presets.published_line(presets.PRESETS["net_3_7"], judged((900, 990), (1000, 1000)))
    assert line == "Published: about 98%. This run: 94.5% (93.5% to 96.5%) of 2,000 test images."
    few = presets.published_line(presets.PRESETS["cnn3_photos"], judged((3, 4), (4, 4)))
    assert few == "Published: 6 of 8. This run: 7 of 8 test images."


# Pixel similarity


def test_the_mean_images_and_distances_are_those_of_the_pixels() -> None:
    x, y = torch.rand(50, 3, 6, 6), torch.randint(0, 2, (50,))
    for kind in ("l1", "l2"):
        net = Similarity(kind, 3, 6, 3)  # type: ignore[arg-type]
        net.learn(zip(x.split(16), y.split(16), strict=True))
        means = np.stack([x[y == c].numpy().mean(0) for c in (0, 1)])
        np.testing.assert_allclose(net.means[:2], means, rtol=1e-5)
        gaps = x.numpy()[:, None] - means[None]
        expected = np.abs(gaps).mean((2, 3, 4)) if kind == "l1" else np.sqrt((gaps**2).mean((2, 3, 4)))
        logits = net(x)
        np.testing.assert_allclose(logits[:, :2], -expected, rtol=1e-4, atol=1e-6)
        assert bool((net.means[2] == NEVER_SEEN).all()) and not (logits.argmax(1) == 2).any()  # of this class it has seen nothing
        assert not list(net.parameters())


def test_a_picture_that_equals_its_mean_has_a_gradient_that_is_a_number() -> None:
    net, x = Similarity("l2", 1, 4, 2), torch.rand(1, 1, 4, 4, requires_grad=True)
    net.learn([(x.detach(), torch.tensor([0])), (torch.rand(3, 1, 4, 4), torch.tensor([1, 1, 1]))])
    net(x).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


# reproduce


def write_idx(path: Path, values: np.ndarray) -> None:
    kind = 2051 if values.ndim == 3 else 2049
    path.write_bytes(struct.pack(f">{values.ndim + 1}I", kind, *values.shape) + values.astype(np.uint8).tobytes())


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    """Ten kinds of noisy 10 × 10 pictures as MNIST lies on the disk: 20 of each to train with, 6 to test with."""
    folder, noise = tmp_path / "idx", np.random.default_rng(3)
    folder.mkdir()
    patterns = noise.integers(0, 256, (10, 10, 10))
    for stem, each in (("train", 20), ("t10k", 6)):
        numbers = np.repeat(np.arange(10), each)
        pictures = np.clip(patterns[numbers] + noise.normal(0, 400, (len(numbers), 10, 10)), 0, 255)
        write_idx(folder / f"{stem}-images-idx3-ubyte", pictures)
        write_idx(folder / f"{stem}-labels-idx1-ubyte", numbers)
    return folder


def test_reproduce_trains_on_idx_files_and_says_why_a_figure_is_missing(home: Path, idx: Path, command: Command) -> None:
    done = command("reproduce", "--mnist", str(idx), "--only", "similarity", "cnn3_photos", "vgg11_moderation")
    assert done.returncode == 0, done.stderr
    rows = {row["preset"]: row for row in json.loads(done.stdout)}
    assert list(rows) == ["similarity", "cnn3_photos", "vgg11_moderation"]
    assert all(list(row) == ["preset", "published", "ours", "n", "seconds", "note"] for row in rows.values())
    for name, why in (("cnn3_photos", "images of one’s own."), ("vgg11_moderation", "images of one’s own, and pretrained weights")):
        assert rows[name]["ours"] is None and rows[name]["n"] is None and why in rows[name]["note"]

    found = store.find_dataset("MNIST")
    assert found is not None
    by_architecture = {s.run.config.architecture: s.run for s in train.list_runs(found.id)}
    assert by_architecture.keys() == {"similarity_l1", "similarity_l2"}  # L2 stands in the note
    run = by_architecture["similarity_l1"]
    assert (run.preset, run.classes) == ("similarity", ("3", "7"))
    assert all(openings.times([one.id]) == 1 for one in by_architecture.values())  # the printed figures are of test images

    # the same from the stored originals, by hand
    snapshot = runs.snapshot_rows(runs.folder(run.id))
    seen = {split: [r for r in snapshot if r.split == split] for split in ("train", "validation", "test")}
    assert [len(seen[s]) for s in seen] == [34, 6, 12]

    def pixels(some: list[SnapshotRow]) -> np.ndarray:
        how = infer.loaded(str(runs.folder(run.id))).preprocess
        assert (how.mean, how.std) == ((0.0,), (1.0,))  # distances are of pixels in 0..1
        return np.stack([infer.read(str(settings().images / r.path), how) for r in some]) / 255

    means = {c: pixels([r for r in seen["train"] if r.label == c]).mean(0) for c in ("3", "7")}
    right = {}
    for c, other in (("3", "7"), ("7", "3")):
        x = pixels([r for r in seen["test"] if r.label == c])
        near, far = (np.abs(x - means[name]).mean((1, 2, 3)) for name in (c, other))
        right[c] = float((near < far).mean())
    row = rows["similarity"]
    assert row["ours"] == pytest.approx((right["3"] + right["7"]) / 2) and row["n"] == 12 and row["seconds"] > 0
    assert "Judged by 12 images, not by the 2,038" in row["note"] and "By L2: " in row["note"]
    evaluation = evaluate.evaluate(run.id, "test")
    figure = presets.figure(presets.PRESETS["similarity"], evaluation)
    assert figure is not None and figure.value == pytest.approx(row["ours"])

    # what the page shows of it
    folder, image = str(runs.folder(run.id)), seen["test"][0]
    drawn = infer.mean_images(folder)
    np.testing.assert_array_equal(drawn[0][:, :, 0], (means["3"][0] * 255).round())  # type: ignore[index]
    away = infer.distances(folder, str(settings().images / image.path))
    x = pixels([image])[0]
    assert away["l1"] == pytest.approx([np.abs(x - means[c]).mean() for c in ("3", "7")], rel=1e-4)
    assert away["l2"] == pytest.approx([np.sqrt(((x - means[c]) ** 2).mean()) for c in ("3", "7")], rel=1e-4)


def test_reproduce_says_what_it_could_not_read_and_refuses_an_unknown_preset(home: Path, tmp_path: Path, command: Command) -> None:
    done = command("reproduce", "--only", "nothing")
    assert done.returncode == 2 and "“nothing”" in done.stderr and "dense_mnist" in done.stderr
    done = command("reproduce", "--mnist", str(tmp_path / "gone"), "--only", "similarity")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["ours"] is None and "gone" in row["note"] and store.find_dataset("MNIST") is None
