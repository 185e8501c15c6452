"""A slice counts exactly its images, and says how far it is from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from core.data import classes, imports, labels, store
from core.evaluate import evaluate, slices
from core.types import Dataset, Evaluation, Image
from tests.evaluate.made import adversarial, run_of, run_on, softmax

CLASSES = ("a", "b")


def test_a_difference_is_newcombes() -> None:
    # Newcombe 1998, table II, method 10.
    for (right_a, n_a, right_b, n_b), low, high in (
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((10, 10, 0, 10), 0.6075, 1.0),
        ((0, 10, 0, 10), -0.2775, 0.2775),
    ):
        found = slices.difference(right_a, n_a, right_b, n_b)
        assert found is not None and found.value == pytest.approx(right_a / n_a - right_b / n_b)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert slices.difference(3, 10, 0, 0) is None


def test_the_slices_by_class_count_every_image_once_and_the_worst_comes_first(home: Path) -> None:
    truth, shares = adversarial("random")
    made, run_id = run_of(tuple("abcdefg"), truth, shares)
    e = evaluate.evaluate(run_id, "validation")
    found = slices.slices(e, made.id)
    assert {s.kind for s in found} == {"class"} and len(found) == 7  # no folder, one size, no thumbnails, no flag
    right = truth == shares.argmax(1)
    for s in found:
        mine = truth == "abcdefg".index(s.name)
        assert set(s.ids) == {f"{i:016x}" for i in np.flatnonzero(mine)} and s.n == len(s.ids)
        assert s.right == right[mine].sum() and s.accuracy.value == pytest.approx(right[mine].mean())
        assert s.difference is not None and s.difference.value == pytest.approx(right[mine].mean() - right[~mine].mean())
    large = [s.difference.value for s in found if s.n >= 30 and s.difference]
    small = [s.n for s in found if s.n < 30]
    assert large == sorted(large) and [s.n >= 30 for s in found] == [True] * len(large) + [False] * len(small)


@pytest.fixture
def photos(home: Path, tmp_path: Path) -> tuple[Dataset, list[Image], Evaluation]:
    """Forty pictures of two classes: dark ones from one camera, large bright ones from another, where the network is always wrong."""
    rng = np.random.default_rng(0)
    made = store.create_dataset("photos")
    found = []
    for i in range(40):
        side, light = (96, 200) if i % 2 else (20, 40)
        pixels = np.clip(rng.normal(light, 5, (side + i // 10, side, 3)), 0, 255).astype(np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / f"{i}.png")
        name = f"camera {1 + i % 2}/{CLASSES[i // 20]}/{i}.png"
        found.append(replace(imports.add_upload(made, tmp_path / f"{i}.png", name), label=CLASSES[i // 20], split="validation"))
    classes.ensure(made.id, CLASSES)
    labels.add_images(made.id, found, "tester", "import")
    truth = np.arange(40) // 20
    says = np.where(np.arange(40) % 2, 1 - truth, truth)
    run_id = run_on(store.get_dataset(made.id), CLASSES, found, truth, softmax(3.0 * np.eye(2)[says]))
    return store.get_dataset(made.id), found, evaluate.evaluate(run_id, "validation")


def of(found: Sequence[slices.Slice], kind: str) -> dict[str, tuple[int, int]]:
    """(right, n) by name."""
    return {s.name: (s.right, s.n) for s in found if s.kind == kind}


def test_slices_by_folder_size_and_brightness_find_where_it_fails(photos: tuple[Dataset, list[Image], Evaluation]) -> None:
    made, _, e = photos
    found = slices.slices(e, made.id)
    assert of(found, "class") == {"a": (10, 20), "b": (10, 20)}
    assert of(found, "folder") == {"camera 1": (20, 20), "camera 2": (0, 20)}  # the folder of the class says nothing new
    sizes, bright = of(found, "image size"), of(found, "brightness")
    assert sum(n for _, n in sizes.values()) == sum(n for _, n in bright.values()) == 40
    assert all(right == (n if int(name.split("–")[0].replace(",", "")) < 1000 else 0) for name, (right, n) in sizes.items())
    assert {name.split("–")[0] for name, (right, _) in bright.items() if right} <= {"brightness 15", "brightness 16"}
    assert not of(found, "flag")


def test_a_flag_makes_a_slice_of_its_own(photos: tuple[Dataset, list[Image], Evaluation]) -> None:
    made, found, e = photos
    flagged = [store.get_image(made.id, i.id) for i in found[:3]]
    labels.flag(made.id, {i.id: i.label_seq for i in flagged}, True, "Ann")
    e = evaluate.evaluate(e.run_id, "validation")
    assert of(slices.slices(e, made.id), "flag") == {"flagged": (2, 3), "not flagged": (18, 37)}
    flag = next(s for s in slices.slices(e, made.id) if s.name == "flagged")
    assert set(flag.ids) == {i.id for i in flagged}


def test_another_split_stands_beside_this_one(home: Path) -> None:
    truth, shares = adversarial("random")
    made = store.create_dataset("two")
    names = tuple("abcdefg")
    new = [
        Image(f"{i:016x}", made.id, "png", 8, 8, 1, 9, "test" if i % 3 == 0 else "validation", f"{i}.png", "", 0, 9, names[t])
        for i, t in enumerate(truth)
    ]
    classes.ensure(made.id, names)
    labels.add_images(made.id, new, "tester", "import")
    run_id = run_on(store.get_dataset(made.id), names, new, truth, shares)
    test, validation = (evaluate.evaluate(run_id, split) for split in ("test", "validation"))
    found = slices.slices(test, made.id, validation)
    assert {s.name: s.n for s in found if s.kind == "split"} == {"test": 100, "validation": 200}
    a, b = (s.difference.value for s in found if s.kind == "split" and s.difference)
    assert a == pytest.approx(-b)


def test_images_that_are_gone_are_still_counted_by_class(photos: tuple[Dataset, list[Image], Evaluation]) -> None:
    made, _, e = photos
    store.set_deleted(made.id, True)
    e = evaluate.evaluate(e.run_id, "validation")
    assert of(slices.slices(e, 999), "class") == {"a": (10, 20), "b": (10, 20)}
