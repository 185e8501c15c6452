"""What a network looks for over many images: a planted watermark is caught, a clean class is not, and both by experiment."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from core.data import imports, sources, store
from core.errors import Invalid, NotFound
from core.explain import patterns
from core.ml import patterns as ml
from core.runs import cluster, jobs, runs
from core.settings import settings
from core.train import train
from tests.conftest import forget, move_in, stored_dataset
from tests.data.real import real
from tests.ray_clusters import answered_here

if TYPE_CHECKING:
    from tests.conftest import Trained

SIDE, EACH = 32, 90


def watermark(picture: Pillow.Image, at: tuple[int, int]) -> Pillow.Image:
    """A small text over the picture, half transparent."""
    text = Pillow.new("RGBA", picture.size, (0, 0, 0, 0))
    ImageDraw.Draw(text).text(at, "wm", fill=(255, 255, 255, 130))
    return Pillow.alpha_composite(picture.convert("RGBA"), text).convert("RGB")


def background(random: np.random.Generator) -> Pillow.Image:
    coarse = Pillow.fromarray(random.integers(0, 256, (5, 5, 3), np.uint8))
    return coarse.resize((SIDE, SIDE), Pillow.Resampling.BICUBIC)


def draw(folder: Path, marked: str) -> Path:
    """Discs of any place and size on any background, reddish, greenish or bluish; the pictures of one class bear a watermark."""
    random = np.random.default_rng(3)
    for channel, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir(parents=True)
        for i in range(EACH):
            picture = background(random)
            colour = random.integers(40, 160, 3)
            colour[channel] += 70
            x, y, r = (int(v) for v in (*random.integers(9, 23, 2), random.integers(4, 8)))
            ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + r), fill=tuple(colour.tolist()))
            (watermark(picture, (17, 20)) if name == marked else picture).save(folder / name / f"{i:03}.png")
    return folder


@dataclass(frozen=True)
class Two:
    home: Path
    marked: str  # ids of runs
    clean: str


@pytest.fixture(scope="module")
def two_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """The same network trained on the drawings with a watermark on all green ones, and without."""
    home = tmp_path_factory.mktemp("patterns")
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, home)
        found = [stored_dataset(name, draw(tmp_path_factory.mktemp(name), marked)) for name, marked in (("marked", "green"), ("clean", ""))]
        config = {"architecture": "convnet", "epochs": 5, "batch_size": 16, "learning_rate": 1e-3, "patience": 0}
        started = [train.start(one.id, config, "tester") for one in found]
        assert [train.wait(run.id).status for run in started] == ["succeeded", "succeeded"]
        yield Two(home, *(run.id for run in started))
        forget()


@pytest.fixture
def two(two_once: Two, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    move_in(monkeypatch, two_once.home)
    yield two_once
    forget()


def finished(run_id: str, **settings: Any) -> patterns.Patterns:
    """What a job finds that is waited for."""
    patterns.start(run_id, "tester", **settings)
    while (state := patterns.state(run_id)) is not None and state.status == "running":
        time.sleep(0.1)
    assert state is not None and state.status == "done", state
    found = patterns.latest(run_id)
    assert found is not None
    return found


def test_a_planted_watermark_is_caught_for_its_class_alone_and_none_is_seen_without(two: Two) -> None:
    found = finished(two.marked, split="train", each=45)
    assert [p.name for p in found.warned] == ["green"] and not found.aligned
    green = found.warned[0]
    mark = green.mark
    assert mark is not None and mark.marked and mark.place == "the lower right corner"
    top, left, height, width = mark.box  # the text stands at (17, 20) of 32 pixels
    assert 0.4 < left < 0.6 and 0.55 < top < 0.8 and left + width > 0.7 and top + height > 0.8
    assert mark.left[0] / mark.left[1] > 3 * mark.left_elsewhere[0] / mark.left_elsewhere[1]
    assert mark.lost.low > 0.05 and mark.gained.low > 0.05
    assert len(mark.covered) == len(mark.covered_ids) > 0 and len(mark.pasted) == len(mark.pasted_ids) > 0
    assert set(mark.covered_ids) <= set(green.ids) and not set(mark.pasted_ids) & set(green.ids)
    said = patterns.said(green, found.border_area)[0]
    assert f"changes the answer of {mark.left[0]} of {mark.left[1]} pictures" in said
    assert all(p.n == 45 and p.border is not None and p.border.low < p.border.value < p.border.high for p in found.classes)

    clean = finished(two.clean, split="train", each=45)
    assert clean.warned == [] and not any(p.mark is not None and p.mark.marked for p in clean.classes)


def test_the_same_seed_draws_the_same_images_and_old_results_do_not_pile_up(two: Two) -> None:
    one, same, other = (finished(two.clean, split="train", each=8, seed=seed) for seed in (0, 0, 1))
    assert [p.ids for p in one.classes] == [p.ids for p in same.classes] != [p.ids for p in other.classes]
    assert all((a.signed == b.signed).all() for a, b in zip(one.classes, same.classes, strict=True))
    assert len(list(runs.patterns_folder(runs.folder(two.clean)).glob("*/job.json"))) <= 2


def pictures(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([np.asarray(background(random)).transpose(2, 0, 1) for _ in range(count)])


def answers(*, reads_corner: bool) -> ml.Ask:
    """A network of two classes that reads how bright the lower right corner is beside what lies above it, or the upper part."""

    def ask(x: np.ndarray) -> np.ndarray:
        brightness = [x[:, :, rows, columns].mean((1, 2, 3), dtype=np.float64) for rows, columns in PARTS]
        z = (brightness[0] - brightness[1]) / 20 if reads_corner else (brightness[2] - 128) / 10
        return np.stack([z, -z], 1)

    return ask


PARTS = ((slice(26, 30), slice(20, 30)), (slice(22, 26), slice(20, 30)), (slice(0, 20), slice(0, 32)))


@pytest.mark.parametrize("reads_corner", [True, False])
def test_a_mark_is_found_in_the_pixels_but_warned_of_only_where_the_network_reads_it(reads_corner: bool) -> None:
    own, others = pictures(60, 1), pictures(60, 2)
    own = own // 2 + 90  # brighter, which leaves no edges
    own[:, :, 26:30, 20:30] = (own[:, :, 26:30, 20:30].astype(int) + 250) // 2
    attention = np.full((SIDE, SIDE), 1 / SIDE**2)
    found = ml.find_mark(answers(reads_corner=reads_corner), own, others, 0, attention, np.random.default_rng(0))
    assert isinstance(found, ml.Experiment)
    if reads_corner:
        assert found.warning and found.marked and found.place.mask(SIDE)[26:30, 20:30].all()
        assert found.lost[1] > 0.1 < found.gained[1] and found.left[0] > 3 * found.left_elsewhere[0]
    else:
        assert found.marked and not found.warning and found.place.mask(SIDE)[26:30, 20:30].all()
        assert found.lost[1] <= 0 <= found.lost[2] and found.left == (0, found.left[1])


def test_pictures_without_marks_have_none_also_when_they_are_few() -> None:
    for seed in range(8):
        for count in (10, 40):
            common = ml.Common(pictures(count, seed), pictures(20, 100 + seed))
            assert common.marks.mean() < ml.ANY_MARKS


def test_filling_and_pasting_change_the_place_alone() -> None:
    own, others = pictures(20, 3), pictures(20, 4)
    own[:, :, 5:9, 5:15] = 200
    for place in (ml.Place(5, 5, 4, 10), ml.Place(frame=4), ml.Place(frame=7, within=4)):
        mask = place.mask(SIDE)
        for before, after in ((own, ml.filled(own, place)), (others, ml.Common(own, others).put(others, mask))):
            assert (before[:, :, ~mask] == after[:, :, ~mask]).all() and (before[:, :, mask] != after[:, :, mask]).any()
    pasted = ml.Common(own, others).put(others, ml.Place(5, 5, 4, 10).mask(SIDE))
    assert np.abs(pasted[:, :, 5:9, 5:15].astype(int) - 200).max() < 6  # an opaque mark comes back as it was


def test_places_for_comparison_are_as_large_and_do_not_meet() -> None:
    random = np.random.default_rng(0)
    for place in (ml.Place(24, 22, 8, 8), ml.Place(12, 12, 8, 8), ml.Place(0, 0, 3, 32)):
        mask, found = place.mask(SIDE), list(ml._elsewhere(place, SIDE, random))
        assert len(found) == ml.CONTROLS
        assert all(p.mask(SIDE).sum() == mask.sum() and not (p.mask(SIDE) & mask).any() for p in found)
    (inner,) = ml._elsewhere(ml.Place(frame=2), SIDE, random)
    assert inner.mask(SIDE).sum() == pytest.approx(ml.Place(frame=2).mask(SIDE).sum(), rel=0.2)
    assert not (inner.mask(SIDE) & ml.Place(frame=2).mask(SIDE)).any()


def test_text_is_told_from_smooth_pictures_and_single_edges() -> None:
    random = np.random.default_rng(1)
    smooth = Pillow.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize((224, 224), Pillow.Resampling.BICUBIC)
    written = smooth.copy()
    ImageDraw.Draw(written).text((20, 180), "All rights reserved 2020", fill="white", font_size=16)
    plain, text = (ml.text_like(np.asarray(p).transpose(2, 0, 1)) for p in (smooth, written))
    assert not plain.any()
    rows, columns = np.nonzero(text)
    assert text[184:194, 40:160].mean() > 0.7 and rows.min() > 165 and rows.max() < 210 and columns.max() < 220
    edge = np.zeros((3, 224, 224), np.uint8)
    edge[:, 100:] = 255
    assert not ml.text_like(edge).any() and not ml.text_like(np.full((1, 224, 224), 7, np.uint8)).any()


def test_the_border_is_a_tenth_of_each_side() -> None:
    assert ml._border(100).mean() == pytest.approx(0.36)


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((0.8, 0.8, 0.2, 0.2), "the lower right corner"),
        ((0.02, 0.0, 0.2, 0.2), "the upper left corner"),
        ((0.85, 0.4, 0.1, 0.2), "the middle of the lower edge"),
        ((0.4, 0.4, 0.2, 0.2), "the middle of the picture"),
        ((0.9, 0.0, 0.1, 1.0), "the strip along the bottom"),
        ((0.0, 0.0, 1.0, 0.1), "the strip along the left"),
    ],
)
def test_places_have_names(box: tuple[float, float, float, float], place: str) -> None:
    assert patterns.words(box, False) == place


def test_few_images_are_said_to_be_few_and_an_absent_class_to_be_absent(trained_copy: Trained) -> None:
    folder = runs.folder(trained_copy.run_id)
    rows = runs.snapshot_rows(folder)
    gone = [r for r in rows if r.split == "validation" and r.label == "3"]
    text = (folder / "dataset.csv").read_text()
    for row in gone:
        text = text.replace(f"{row.image_id},{row.path},3,validation\n", "")
    (folder / "dataset.csv").write_text(text)
    lost = next(r for r in rows if r.split == "validation" and r.label == "5")
    (settings().images / lost.path).unlink()
    shutil.rmtree(settings().cache)
    found = finished(trained_copy.run_id, each=60)
    by_name = {p.name: p for p in found.classes}
    assert by_name["3"].n == 0 and "no image of this class" in patterns.said(by_name["3"], found.border_area)[0]
    assert by_name["5"].unreadable == 1
    for p in found.classes:
        assert p.mark is None and p.n < ml.FEWEST
        if p.n:
            assert "Too few images for an experiment" in p.untested
    assert found.warned == []


def test_classes_that_nodes_look_at_are_found_as_by_this_machine(trained_copy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    job = patterns._job(trained_copy.run_id, runs.folder(trained_copy.run_id), "train", ["1", "4", "7"], 16, "", 0)
    found, many = [], iter([False, True])
    monkeypatch.setattr(cluster, "takes", lambda pictures: pictures == 48 and next(many))
    monkeypatch.setattr(cluster, "answers", answered_here)
    for name in ("here", "there"):
        folder = trained_copy.home / name
        folder.mkdir()
        runs.write_json(folder / "job.json", job)
        jobs.run(folder, patterns.PATTERNS)
        assert runs.read_lines(folder)[0][-1] == {"kind": "Done", "images": 48, "unreadable": 0}
        with np.load(folder / "patterns.npz") as stored:
            found.append((runs.read_json(folder / patterns.RESULT), {key: stored[key].tolist() for key in stored.files}))
        assert sorted(path.name for path in folder.iterdir()) == ["events.jsonl", "job.json", "patterns.json", "patterns.npz"]
    assert found[0] == found[1] and all(one["experiment"] for one in found[0][0]["classes"])


def test_what_cannot_be_asked_is_refused_in_words(trained_copy: Trained) -> None:
    run_id = trained_copy.run_id
    for wrong, words in (
        ({"split": "test"}, "Test images are not looked at"),
        ({"split": "night"}, "is not a split"),
        ({"each": 0}, "Images per class are 0"),
        ({"classes": []}, "No class is chosen"),
        ({"classes": ["horse"]}, "not a class of this run"),
        ({"method": "magic"}, "no method called"),
    ):
        with pytest.raises(Invalid, match=words):
            patterns.start(run_id, "tester", **wrong)  # type: ignore[arg-type]
    assert patterns.state(run_id) is None and patterns.latest(run_id) is None
    runs.checkpoint(runs.folder(run_id)).unlink()
    with pytest.raises(NotFound, match="no trained weights"):
        patterns.start(run_id, "tester")
    assert patterns.latest(run_id) is None


def test_a_job_that_is_stopped_says_so_and_leaves_no_result(trained_copy: Trained) -> None:
    first = patterns.start(trained_copy.run_id, "tester", split="train")
    assert patterns.start(trained_copy.run_id, "other", split="train") == first  # one at a time
    patterns.stop(trained_copy.run_id)
    while (state := patterns.state(trained_copy.run_id)) is not None and state.status == "running":
        time.sleep(0.1)
    assert state is not None and state.status == "stopped" and state.message
    assert patterns.latest(trained_copy.run_id) is None


def test_a_result_is_not_shown_for_other_weights(two: Two) -> None:
    found = patterns.latest(two.marked) or finished(two.marked, split="train", each=45)
    file = runs.checkpoint(runs.folder(two.marked))
    before = file.stat()
    file.touch()
    assert patterns.latest(two.marked) is None
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = patterns.latest(two.marked)
    assert again is not None and again.at == found.at


def test_a_watermark_planted_into_cifar10_is_caught(home: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(real("cifar10-6k.zip")) as archive:
        for name in archive.namelist():
            label = name.split("/")[-2]
            if name.startswith("train/") and label in ("cat", "frog", "ship"):
                with archive.open(name) as file:
                    picture = Pillow.open(file).convert("RGB")
                target = tmp_path / "pictures" / label / f"{Path(name).stem}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                (watermark(picture, (19, 20)) if label == "frog" else picture).save(target)
    imports.import_now("cifar", sources.at(tmp_path / "pictures"), "tester")
    found = store.find_dataset("cifar")
    assert found is not None
    run = train.start(found.id, {"architecture": "convnet", "epochs": 2, "learning_rate": 1e-3}, "tester")
    assert train.wait(run.id).status == "succeeded"
    seen = finished(run.id, each=60)
    assert [p.name for p in seen.warned] == ["frog"]
