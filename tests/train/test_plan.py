"""The images a run would use, the guards before it starts, the course of its learning rate, and nine variants of an image."""

from __future__ import annotations

import io
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from core import pace
from core.catalog import params, schedule
from core.data import labels, schema, store
from core.errors import Invalid
from core.ml.fit import make_optimizer, make_scheduler, parameter_groups
from core.runs import launch
from core.train import plan, train
from core.train.plan import Guard, Pictures, Plan
from core.types import SPLITS, Dataset, RunConfig
from tests.conftest import Trained

DIGITS = Pictures(8, 8, 1, ((8, 8, 1),) * 9)
PHOTOS = Pictures(480, 640, 3, ((640, 480, 3),) * 9)


def config(**values: Any) -> RunConfig:
    return params.run_config({"architecture": "convnet", "batch_size": 8, **values})


def planned(train: dict[str, int], validation: dict[str, int] | None = None, test: dict[str, int] | None = None) -> Plan:
    """A plan with as many images in the other splits as in training, unless they are given."""
    images = {"train": train, "validation": train if validation is None else validation, "test": train if test is None else test}
    return Plan(tuple(dict.fromkeys(name for held in images.values() for name in held)), images)  # type: ignore[arg-type]


def said(found: Plan, chosen: RunConfig, seen: Pictures | None = None, seconds: float | None = None) -> list[Guard]:
    return plan.guards(found, chosen, seen, seconds)


FINE = planned({"cat": 40, "dog": 50})


# Counts


def test_the_counts_are_those_of_the_snapshot_a_run_would_freeze(trained: Trained) -> None:
    for only in ((), ("3", "7")):
        found = plan.plan(trained.dataset.id, only)
        frozen = plan.snapshot(trained.dataset.id, config(classes=only))
        assert {split: dict(held) for split, held in found.images.items() if held} == {
            split: dict(Counter(r.label for r in frozen.rows if r.split == split)) for split in SPLITS
        }
        assert found.classes == frozen.classes and found.count("validation") > 0
        if only:
            assert found.classes == only


def test_an_image_is_in_the_same_split_whichever_classes_are_chosen(trained: Trained) -> None:
    whole = {r.image_id: r.split for r in plan.snapshot(trained.dataset.id, config()).rows}
    some = plan.snapshot(trained.dataset.id, config(classes=("3", "7")))
    assert 0 < len(some.rows) < len(whole) and all(whole[r.image_id] == r.split for r in some.rows)
    assert some.id != plan.snapshot(trained.dataset.id, config()).id


def test_counting_a_hundred_thousand_images_does_not_hold_up_a_page(trained_copy: Trained) -> None:
    image = store.some(trained_copy.dataset.id, "train", 1)[0]
    with schema.writing() as c:
        row = c.execute(schema.images.select().where(schema.images.c.id == image.id)).one()._asdict()
        many = [{**row, "id": f"{i:016x}", "label": str(i % 10), "dataset_id": trained_copy.dataset.id} for i in range(100_000)]
        c.execute(schema.images.insert(), many)
    plan.plan(trained_copy.dataset.id)
    best = 9.0
    for _ in range(5):
        begun = time.perf_counter()
        assert plan.plan(trained_copy.dataset.id).count("train") > 80_000 and plan.pictures(trained_copy.dataset.id)
        best = min(best, time.perf_counter() - begun)
    assert best < 0.1


def test_without_labels_with_one_class_or_a_class_of_another_dataset_nothing_can_be_learned(small: Dataset) -> None:
    with pytest.raises(Invalid, match="“purple” is no class of “squares”"):
        plan.plan(small.id, ["red", "purple"])
    for name in ("green", "blue"):
        ids = [i.id for i in store.browse(small.id, store.Filter(label=name), 0, 99)]
        labels.apply_to_all(small.id, ids, "red", "tester", name, "manual", over=True)
    with pytest.raises(Invalid, match="the only class with training images is “red”"):
        plan.plan(small.id)
    labels.apply_to_all(small.id, [i.id for i in store.all_images(small.id)], None, "tester", "none", "manual", over=True)
    with pytest.raises(Invalid, match="No image of this dataset carries a label"):
        plan.plan(small.id)


def test_a_single_output_needs_two_classes_and_a_run_that_has_ten_does_not_start(trained_copy: Trained) -> None:
    own = {"architecture": "own", "layers": [{"kind": "dense", "size": 5}], "output": "sigmoid"}
    with pytest.raises(Invalid, match="tells two classes apart; here are 10"):
        train.start(trained_copy.dataset.id, own, "tester")
    plan.check(plan.plan(trained_copy.dataset.id, ("3", "7")), params.run_config({**own, "classes": ("3", "7")}))


# Guards


def test_a_good_plan_is_not_warned_about() -> None:
    assert said(FINE, config(), DIGITS, 60) == []


@pytest.mark.parametrize(
    ("found", "chosen", "seen", "words", "mended"),
    [
        (planned({"a b": 40, "c d": 50, "e f": 3}), config(), DIGITS, "Fewer than ten training images of “e f”", {"classes": ["a b", "c d"]}),
        (planned({"cat": 400, "dog": 12}), config(), DIGITS, "“cat” has 400 training images, “dog” only 12", {"balance": "weights"}),
        (FINE, config(architecture="efficientnet_lite0", freeze=False), DIGITS, "enlarged to 224 × 224", {"architecture": "convnet"}),
        (FINE, config(image_size=128), DIGITS, "enlarged to 128 × 128", {"image_size": 0}),
        (FINE, config(image_size=28), PHOTOS, "shrunk to 28 × 28", {"image_size": 128}),
        (FINE, config(), PHOTOS, "shrunk to 64 × 64", {"architecture": "efficientnet_lite0"}),
        (FINE, config(architecture="efficientnet_lite0", image_size=32), PHOTOS, "shrunk to 32 × 32", {"image_size": 0}),
        (FINE, config(architecture="efficientnet_lite0", image_size=28), DIGITS, "frozen layers know colour", {"architecture": "convnet"}),
        (planned({"0": 40, "1": 40}), config(flip="horizontal"), DIGITS, "“0” and “1” are digits or letters: mirrored", {"flip": "none"}),
        (planned({"turn left": 40, "turn right": 40}), config(flip="both"), PHOTOS, "the other side", {"flip": "none"}),
        (planned({"six": 40, "nine": 40}), config(rotate=90), DIGITS, "a 6 turned round is a 9", {"rotate": 15.0}),
        (FINE, config(batch_size=200), DIGITS, "A batch of 200 is more than the 90 training images", {"batch_size": 8}),
        (FINE, config(architecture="resnet18", freeze=False), PHOTOS, "about 2.0 h with 90 training images", {"freeze": True}),
    ],
)  # fmt: skip
def test_each_guard_names_what_is_wrong_and_its_button_mends_it(
    found: Plan, chosen: RunConfig, seen: Pictures, words: str, mended: dict[str, Any]
) -> None:
    seconds = 7200 if "2.0 h" in words else 60
    guards = [g for g in said(found, chosen, seen, seconds) if words in g.message]
    assert len(guards) == 1, said(found, chosen, seen, seconds)
    assert guards[0].values == mended and guards[0].title and guards[0].remedy
    other = {k: v for k, v in {"classes": chosen.classes, "image_size": 0 if "architecture" in mended else chosen.image_size}.items() if v}
    better = params.run_config({"architecture": chosen.architecture, "batch_size": 8, **other, **mended})
    left = {k: {n: i for n, i in held.items() if not better.classes or n in better.classes} for k, held in found.images.items()}
    after = said(Plan(better.classes or found.classes, left), better, seen, 60)  # type: ignore[arg-type]
    assert not [g for g in after if words in g.message], after


def test_a_split_without_a_class_or_without_images_is_named() -> None:
    for found, words in (
        (planned({"cat": 40, "dog": 40}, validation={}), "There are no validation images"),
        (planned({"cat": 40, "dog": 40}, test={}), "There are no test images"),
        (planned({"cat": 40, "dog": 40}, test={"cat": 3}), "No test image of “dog”"),
        (planned({"cat": 40, "dog": 40}, validation={"cat": 3, "dog": 2, "cow": 1}), "No training image of “cow”"),
    ):
        guards = [g for g in said(found, config()) if words in g.message]
        assert len(guards) == 1 and guards[0].page


def test_near_duplicates_are_unknown_found_or_not_there() -> None:
    unknown, some, late = plan.duplicates(None), plan.duplicates(3), plan.duplicates(0, 12)
    assert unknown and "not checked yet" in unknown.message
    assert some and "3 groups of near duplicates lie in more than one split" in some.message and some.page
    assert late and "12 images came after" in late.message
    assert plan.duplicates(0) is None


# The course of the learning rate


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"warmup": 2},
        {"schedule": "cosine"},
        {"schedule": "cosine", "warmup": 1.5},
        {"schedule": "step", "step_every": 3, "step_factor": 0.5},
        {"schedule": "step", "step_every": 3, "warmup": 1},
        {"schedule": "one_cycle"},
    ],
    ids=str,
)
def test_the_sketch_of_the_schedule_is_what_training_does(values: dict[str, Any]) -> None:
    chosen, batches = config(epochs=10, learning_rate=0.1, **values), 40
    model = torch.nn.Linear(2, 2)
    optimizer = make_optimizer(parameter_groups(model, model, "", chosen), chosen, torch.device("cpu"))
    scheduler = make_scheduler(optimizer, chosen, batches)
    done = []
    for _ in range(chosen.epochs * batches):
        done.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    drawn = [chosen.learning_rate * schedule.share(chosen, step / batches) for step in range(len(done))]
    jumps = np.abs(np.diff(drawn)) > 0.01  # where the rate drops, a step more or less is a jump
    away = np.abs(np.array(done) - np.array(drawn))[1:][~jumps]
    assert away.max() < 0.002, (away.argmax(), away.max())
    epochs, rates = schedule.course(chosen)
    assert (epochs[0], epochs[-1]) == (0, 10) and max(rates) == pytest.approx(0.1, rel=0.01)


# Nine variants


def nine(data: bytes) -> list[np.ndarray]:
    whole = np.asarray(Pillow.open(io.BytesIO(data)))
    side = (whole.shape[0] - 8) // 3
    return [whole[r : r + side, c : c + side, :3] for r in range(0, whole.shape[0], side + 4) for c in range(0, whole.shape[1], side + 4)]


def test_nine_variants_of_an_image_are_drawn_as_training_would(trained: Trained) -> None:
    found = plan.plan(trained.dataset.id, ("3", "7"))
    image, other = plan.example(trained.dataset.id, found, 0), plan.example(trained.dataset.id, found, 1)
    assert image and other and {image.label, other.label} == {"3", "7"} and image.split == other.split == "train"

    def drawn(seed: int = 0, **values: Any) -> list[np.ndarray]:
        return nine(plan.variants(trained.dataset.id, config(**values), image.path, other.path, seed))

    still = drawn()
    assert len(still) == 9 and all(np.array_equal(v, still[0]) for v in still)
    flipped = drawn(flip="horizontal")
    assert {v.tobytes() for v in flipped} == {still[0].tobytes(), still[0][:, ::-1].tobytes()}
    turned = drawn(rotate=20)
    assert len({v.tobytes() for v in turned}) == 9
    assert [v.tobytes() for v in turned] == [v.tobytes() for v in drawn(rotate=20)] != [v.tobytes() for v in drawn(1, rotate=20)]
    assert not any(np.array_equal(v, still[0]) for v in drawn(mixup=1.0))
    launch.close()


def test_counting_on_shows_other_images_of_every_class(trained: Trained) -> None:
    found = plan.plan(trained.dataset.id)
    seen = [plan.example(trained.dataset.id, found, i) for i in range(40)]
    assert all(seen) and len({i.id for i in seen if i}) > 30 and {i.label for i in seen if i} == set(trained.dataset.classes)


def test_a_rough_duration_is_said_in_seconds_minutes_or_hours() -> None:
    assert [pace.duration(s) for s in (0.2, 42, 600, 9000)] == ["about 1 s", "about 42 s", "about 10 min", "about 2.5 h"]


def test_a_setting_that_is_left_to_loupe_is_said_to_be_automatic_and_not_0() -> None:
    assert (params.words("image_size", 0), params.words("image_size", 96), params.words("seed", 0)) == ("automatic", "96", "0")


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({"architecture": "resnet18", "pretrained": True, "freeze": False}, True),
        ({"architecture": "resnet18", "pretrained": True, "freeze": True}, False),
        ({"architecture": "resnet18", "pretrained": True, "freeze": True, "unfreeze_after": 2, "epochs": 4}, True),
        ({"architecture": "timm:resnet50", "pretrained": True, "freeze": False}, True),
        ({"architecture": "vgg11", "pretrained": True, "freeze": False}, False),
        ({"architecture": "torchvision:convnext_tiny", "pretrained": True, "freeze": False}, False),
        ({"architecture": "convnet"}, False),
        ({"architecture": "own", "layers": [{"kind": "normalisation"}, {"kind": "dense", "size": 8}]}, True),
        ({"architecture": "own", "layers": [{"kind": "dense", "size": 8}]}, False),
    ],
)
def test_one_image_in_a_batch_is_warned_about_where_batch_normalisation_is_trained(values: dict[str, Any], warned: bool) -> None:
    def found(size: int) -> list[Guard]:
        chosen = params.run_config({**values, "batch_size": size})
        return [g for g in said(planned({"cat": 50, "dog": 50}), chosen) if "batch normalisation" in g.message]

    assert [g.values for g in found(1)] == ([{"batch_size": 8}] if warned else [])
    assert found(2) == []


# What is recommended


@pytest.mark.parametrize(
    ("seen", "network", "because"),
    [(DIGITS, "convnet", "small grey pictures"), (PHOTOS, "efficientnet_lite0", "photos of about 640 × 480"), (None, "efficientnet_lite0", "photos")],
)  # fmt: skip
def test_a_newcomer_is_recommended_a_network_for_these_images_and_told_why(seen: Pictures | None, network: str, because: str) -> None:
    values, why = plan.recommended(planned({"cat": 400, "dog": 500}), seen)
    assert values == {"architecture": network} and because in why[0]


def test_what_is_recommended_heeds_rare_classes_and_few_images() -> None:
    found = planned({"cat": 900, "dog": 12})
    values, why = plan.recommended(found, PHOTOS)
    assert values["balance"] == "weights" and "rare classes are learned worse" in " ".join(why)
    few = planned({"cat": 10, "dog": 10})
    values, _ = plan.recommended(few, PHOTOS)
    assert values["batch_size"] <= 20 and not [g for g in said(few, config(**values), PHOTOS) if g.values]
