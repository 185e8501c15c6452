"""Near copies: found at import by small grey pictures, and kept on one side of every split that Loupe draws."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageEnhance, ImageOps

from core.catalog import params
from core.data import alike, imports, splits, store
from core.data.sources import Source
from core.train import plan
from core.types import SPLITS, Dataset

CONFIG = params.run_config({"architecture": "convnet"})


def copies(folder: Path, photos: int, each: int = 5, seed: int = 5) -> None:
    """Every photo several times: cut, brighter, and the last one mirrored; two classes by turns."""
    rng = np.random.default_rng(seed)
    for n in range(photos):
        photo = Pillow.fromarray(rng.uniform(0, 255, (6, 6, 3)).astype(np.uint8)).resize((72, 72), Pillow.Resampling.BICUBIC)
        for c in range(each):
            copy = ImageEnhance.Brightness(photo.crop((c, c, 72, 72)).resize((72, 72))).enhance(1 + 0.01 * c)
            target = folder / "ab"[n % 2] / f"{seed}-{n:02d}.{c}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            (ImageOps.mirror(copy) if c and c == each - 1 else copy).save(target, quality=90)


def imported(folder: Path, name: str) -> Dataset:
    imports.import_now(name, Source("folder", (str(folder),)), "Ann")
    found = store.find_dataset(name)
    assert found is not None
    return found


def sides(dataset: Dataset, split: dict[str, str]) -> dict[str, set[str]]:
    """The splits that each photo's copies lie in."""
    found = defaultdict(set)
    for image in store.all_images(dataset.id):
        found[image.source.rpartition("/")[2].partition(".")[0]].add(split[image.id])
    return found


def drawn(dataset: Dataset) -> dict[str, str]:
    return {r.image_id: r.split for r in plan.snapshot(dataset.id, CONFIG).rows}


@pytest.fixture
def made(home: Path, tmp_path: Path) -> Dataset:
    copies(tmp_path / "in" / "train", 12)
    copies(tmp_path / "in" / "test", 4, each=1, seed=6)
    return imported(tmp_path / "in", "copies")


def test_copies_of_one_photo_lie_on_one_side_of_the_validation_that_is_drawn(made: Dataset) -> None:
    found = sides(made, drawn(made))
    assert all(len(one) == 1 for one in found.values())
    assert {"train", "validation", "test"} == set().union(*found.values())


def test_the_plan_counts_what_the_run_freezes_where_groups_stay_whole(made: Dataset) -> None:
    frozen = Counter(drawn(made).values())
    found = plan.plan(made.id)
    assert {split: found.count(split) for split in SPLITS} == frozen and frozen["validation"] % 5 == 0 < frozen["validation"]


def test_the_test_images_that_an_import_draws_are_no_copies_of_training_images(home: Path, tmp_path: Path) -> None:
    copies(tmp_path / "in", 12)
    made = imported(tmp_path / "in", "copies")
    found = sides(made, {i.id: i.split for i in store.all_images(made.id)})
    assert all(len(one) == 1 for one in found.values()) and splits.crossing(made.id) == 0


def test_a_test_split_that_is_drawn_later_takes_groups_whole(home: Path, tmp_path: Path) -> None:
    copies(tmp_path / "in" / "train", 24)
    given = imported(tmp_path / "in", "given")
    assert store.count(given.id, store.Filter(split="train")) == 120
    assert splits.draw_test(given.id) > 0
    found = sides(given, {i.id: i.split for i in store.all_images(given.id)})
    assert {"test"} in found.values() and all(len(one) == 1 for one in found.values())
    moved = next(i for i in store.all_images(given.id) if i.split == "test" and imports.split_of(i.id) == "train")
    assert "near duplicates" in splits.why(store.get_dataset(given.id), moved)


def test_a_copy_that_comes_with_a_later_import_goes_where_the_first_is(home: Path, tmp_path: Path) -> None:
    copies(tmp_path / "one", 8, each=1)
    copies(tmp_path / "two", 8, each=3)
    made = imported(tmp_path / "one", "copies")
    before = {i.source: i.split for i in store.all_images(made.id)}
    imported(tmp_path / "two", "copies")
    assert all(len(splits) == 1 for splits in sides(made, {i.id: i.split for i in store.all_images(made.id)}).values())
    assert before.items() <= {i.source: i.split for i in store.all_images(made.id)}.items()


def test_groups_that_cross_the_sources_own_splits_are_counted(home: Path, tmp_path: Path) -> None:
    copies(tmp_path / "in" / "train", 4)
    copies(tmp_path / "in" / "test", 2)  # the first two of the same photos
    for path in (tmp_path / "in" / "test").rglob("*.0.jpg"):
        path.unlink()
    assert splits.crossing(imported(tmp_path / "in", "copies").id) == 2


def test_a_dataset_that_an_older_loupe_imported_is_compared_before_its_first_run(made: Dataset) -> None:
    before = drawn(made)
    for path in alike._paths(made.id):
        path.unlink()
    assert alike.groups(made.id) == {}
    assert drawn(made) == before


def test_a_class_of_two_groups_gives_one_and_one_of_a_single_group_keeps_it() -> None:
    groups = {f"{n:02d}": str(n // 5) for n in range(20)}
    training = {f"{n:02d}": "a" if n < 10 else "b" if n < 15 else "c" for n in range(15)} | {f"{n}": "a" for n in range(15, 20)}
    found = store._drawn(training, 0, groups)
    assert len(found) == 5 and {training[i] for i in found} == {"a"}


def test_pictures_of_one_colour_are_no_copies_of_each_other(home: Path) -> None:
    from core.data import images

    flat = [images.thumbnail(Pillow.new("RGB", (40, 40), (level, 90, 200))) for level in range(100, 140)]
    assert alike.Alike(99).add({f"{n:016x}": images.small_grey(thumb) for n, thumb in enumerate(flat)}) == {}


def test_half_a_row_after_a_crash_is_cut_off(made: Dataset) -> None:
    rows, pairs = alike._paths(made.id)
    groups, count = dict(alike.groups(made.id)), len(alike.Alike(made.id).ids)
    rows.write_bytes(rows.read_bytes() + b"half")
    pairs.write_bytes(pairs.read_bytes() + b"0123")
    assert alike.groups(made.id) == groups and len(alike.Alike(made.id).ids) == count
