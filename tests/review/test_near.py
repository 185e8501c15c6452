"""A picture found again among what was predicted: the very same file, and copies of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image as Pillow

from core.data import images, queue, uploads
from core.data.queue import Which
from core.ml import infer
from core.review import near
from core.runs import launch
from core.types import Dataset

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def scene(seed: int, width: int = 320, height: int = 240) -> Pillow.Image:
    """Something like a photo: soft shapes with a little grain."""
    noise = np.random.default_rng(seed)
    coarse = Pillow.fromarray(noise.integers(0, 256, (6, 8, 3), np.uint8)).resize((width, height), Pillow.Resampling.BICUBIC)
    return Pillow.fromarray((np.asarray(coarse, np.int16) + noise.integers(-8, 9, (height, width, 1))).clip(0, 255).astype(np.uint8))


def file(picture: Pillow.Image, kind: str = "PNG", **how: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **how)
    return out.getvalue()


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The worker's answers, without a worker."""
    monkeypatch.setattr(launch, "ask", lambda call, *args: getattr(infer, call.name)(*args))
    monkeypatch.setattr(launch, "submit_slow", lambda call, *args: getattr(infer, call.name)(*args))
    monkeypatch.setattr(launch, "result", lambda answer: answer)
    yield


@pytest.fixture
def predicted(small: Dataset) -> Callable[..., None]:
    """Puts pictures among what was predicted, as the network's answer brings them, or as an older Loupe did: without a fingerprint."""

    def put(name: str, picture: Pillow.Image, known: bool = True, **more: object) -> None:
        kept = uploads.keep(name, file(picture))
        said = {
            "predicted": "red",
            "probability": 0.9,
            "probabilities": {"red": 0.9},
            "state": "predicted",
            "run_id": "deleted",
            "by": "Ann",
        }
        marks = {"fingerprint": images.fingerprint(picture)} if known else {}
        queue.add([{"dataset_id": small.id, "image_id": kept.id, "ext": "png", "name": name, **said, **marks, **more}])

    return put


def names(found: near.Found) -> list[tuple[str, str]]:
    return [(one.name, near.sure(match)) for one, match in found.items]


def test_a_dropped_picture_finds_its_file_and_copies_in_another_size_format_and_quality_and_says_how(
    small: Dataset, predicted: Callable[..., None]
) -> None:
    for seed in range(8):
        predicted(f"{seed}.png", scene(seed))
    assert names(near.find(small.id, "a.png", file(scene(3)), Which())) == [("3.png", "The very same file.")]
    half = scene(3).resize((160, 120)).convert("RGB")
    for data, name in ((file(half, "JPEG", quality=40), "a.jpg"), (file(scene(3), "WEBP", quality=30), "a.webp")):
        ((found, said),) = names(near.find(small.id, name, data, Which()))
        assert found == "3.png" and said.endswith("of 64 marks of the picture are the same: very likely a copy.")
    mirrored = scene(3).transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)
    ((found, said),) = names(near.find(small.id, "a.png", file(mirrored), Which()))
    assert found == "3.png" and said.startswith("Mirrored, and then ")
    assert names(near.find(small.id, "a.png", file(scene(99)), Which())) == []
    assert not uploads.pictures().joinpath(f"{images.image_id(file(mirrored))}.png").exists()  # nothing is stored


def test_it_looks_among_what_the_filters_leave_and_one_that_cannot_be_read_finds_only_its_file(
    small: Dataset, predicted: Callable[..., None]
) -> None:
    predicted("waits.png", scene(1), state="waiting")
    small_copy = file(scene(1).resize((200, 150)))
    assert [one for one, _ in names(near.find(small.id, "a.png", small_copy, Which(("waiting",))))] == ["waits.png"]
    assert not near.find(small.id, "a.png", small_copy, Which(("decided",))).items
    broken = near.find(small.id, "a.png", small_copy[:100], Which())
    assert not broken.items and "cannot be read" in broken.unread
    flat = near.find(small.id, "a.png", file(Pillow.new("RGB", (40, 40), (9, 9, 9))), Which())
    assert flat.flat and not flat.items


def test_pictures_that_resemble_each_other_anyhow_are_not_called_copies(small: Dataset, predicted: Callable[..., None]) -> None:
    for n in range(12):
        predicted(f"{n}.png", scene(5).resize((100 + n, 80)))
    found = near.find(small.id, "a.png", file(scene(5)), Which())
    assert found.alike and found.compared == 12


def test_what_an_older_loupe_predicted_gets_its_fingerprint_later(small: Dataset, predicted: Callable[..., None]) -> None:
    predicted("old.png", scene(2), known=False)
    predicted("gone.png", scene(4), known=False)
    (uploads.pictures() / f"{images.image_id(file(scene(4)))}.png").unlink()
    copy = file(scene(2).resize((160, 120)))
    assert near.find(small.id, "a.png", copy, Which()).without == 2
    assert near.fill() == 2 and near.fill() == 0
    found = near.find(small.id, "a.png", copy, Which())
    assert [one.name for one, _ in found.items] == ["old.png"] and found.without == 0
