"""Grey pictures of 12 bits in 16-bit files: one scale for the whole dataset, in thumbnail, network and exported code."""

from __future__ import annotations

import importlib.util
import io
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from core.data import depth, images, imports, removed, sources, store
from core.settings import settings
from core.types import Dataset, Preprocess

HOW = Preprocess(1, 8, 8, (0.0,), (1.0,), srgb=True)
SCRIPT = Path(images.__file__).parents[1] / "share" / "preprocess.py"


def picture(path: Path, level: int, kind: str = "png") -> Path:
    """16-bit grey, all of one value but for a black corner."""
    values = np.full((40, 40), level, np.uint16)
    values[:8, :8] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(values).save(path.with_suffix(f".{kind}"))
    return path.with_suffix(f".{kind}")


def thumb_level(dataset: Dataset, name: str) -> int:
    found = next(i for i in store.all_images(dataset.id) if i.source.endswith(name))
    data = images.ThumbPack(settings().thumbs, dataset.id).read(found.thumb_offset, found.thumb_size)
    return int(np.asarray(Pillow.open(io.BytesIO(data)))[-1, -1])


@pytest.fixture
def cells(home: Path, tmp_path: Path) -> Dataset:
    for name, level in (("dim/a", 900), ("dim/b", 1000), ("bright/c", 3500), ("bright/d", 4095)):
        picture(tmp_path / "in" / name, level)
    imports.import_now("cells", sources.at(tmp_path / "in"), "me")
    found = store.find_dataset("cells")
    assert found is not None
    return found


def test_values_of_twelve_bits_are_no_black_pictures_and_a_dark_one_stays_darker(cells: Dataset) -> None:
    assert depth.of(cells.id) == 12
    assert [thumb_level(cells, name) for name in ("a.png", "b.png", "c.png", "d.png")] == [56, 62, 218, 255]


def test_the_import_says_how_the_values_were_scaled(home: Path, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a", 3000)
    picture(tmp_path / "in" / "b", 300)
    (said,) = imports.import_now("cells", sources.at(tmp_path / "in"), "me").understood
    assert "2 pictures" in said and "12" in said and "4,095 is white" in said
    Pillow.new("L", (40, 40), 9).save(tmp_path / "in" / "plain.png")
    assert imports.import_now("cells", sources.at(tmp_path / "in"), "me").understood == []


def test_brighter_pictures_that_come_later_scale_all_thumbnails_anew(cells: Dataset, tmp_path: Path) -> None:
    out = [i.id for i in store.all_images(cells.id) if i.source.endswith("a.png")]
    removed.remove(cells.id, out, "me", "out")
    imports.import_now("cells", sources.at(picture(tmp_path / "more" / "e", 60_000).parent), "me")
    removed.bring_back(cells.id, out, "me", "back")
    assert depth.of(cells.id) == 16
    assert [thumb_level(cells, name) for name in ("a.png", "d.png", "e.png")] == [4, 16, 233]


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize(("bits", "level", "wanted"), [(12, 900, 56), (12, 4095, 255), (12, 9000, 255), (16, 900, 4), (10, 900, 224)])
def test_network_and_exported_code_scale_by_the_runs_bits(tmp_path: Path, kind: str, bits: int, level: int, wanted: int) -> None:
    how, file = replace(HOW, bits=bits), picture(tmp_path / "a", level, kind)
    spec = importlib.util.spec_from_file_location("preprocess_in_zip", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    told = {**asdict(how), "shapes": images.shapes(how)}
    ours = images.read(file, how)
    assert ours[0, -1, -1] == wanted and np.array_equal(ours, script.pixels(script.upright(file, told), told))


def test_a_run_of_an_older_loupe_goes_on_with_sixteen_bits(tmp_path: Path) -> None:
    stored = {name: value for name, value in asdict(HOW).items() if name != "bits"}
    assert images.read(picture(tmp_path / "a", 4095), Preprocess(**stored))[0, -1, -1] == 16


@pytest.mark.parametrize(("level", "bits"), [(200, 8), (256, 10), (1023, 10), (4095, 12), (4096, 14), (16_384, 16), (65_535, 16)])
def test_the_fewest_bits_that_hold_the_brightest_value_are_found(tmp_path: Path, level: int, bits: int) -> None:
    assert images.examine(picture(tmp_path / "a", level).read_bytes()).bits == bits


def test_a_picture_of_eight_bits_has_none_to_scale() -> None:
    out = io.BytesIO()
    Pillow.new("L", (9, 9), 200).save(out, "PNG")
    assert images.examine(out.getvalue()).bits == 0
