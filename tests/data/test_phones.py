"""Photos as phones write them: HEIC and AVIF, and more pixels than 50 million."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps
from sklearn.datasets import load_sample_images

from core.data import images, imports, sources, store
from core.errors import Invalid
from core.settings import settings
from core.share import preprocess as script
from core.types import Preprocess
from tests.conftest import ROOT
from tests.data.colour import profile

HOW = Preprocess(3, 24, 16, (0.0,) * 3, (1.0,) * 3, srgb=True)
SECRET = b"SecretCamera"


def photo(fmt: str, size: tuple[int, int] = (64, 40), **options: Any) -> bytes:
    exif = Pillow.Exif()
    exif[0x010F] = SECRET.decode()
    out = io.BytesIO()
    Pillow.new("RGB", size, (200, 50, 51)).save(out, fmt, exif=exif, **options)
    return out.getvalue()


@pytest.mark.parametrize(("fmt", "ext"), [("HEIF", "heic"), ("AVIF", "avif")])
def test_a_phones_own_format_is_imported_shown_read_and_exported(home: Path, tmp_path: Path, fmt: str, ext: str) -> None:
    data = photo(fmt, icc_profile=profile())
    (tmp_path / "in/cat").mkdir(parents=True)
    (tmp_path / "in/cat" / f"IMG_1.{ext.upper()}").write_bytes(data)
    report = imports.import_now("x", sources.at(tmp_path / "in"), "me")
    assert (report.added, report.skipped) == (1, [])
    (one,) = store.all_images(store.list_datasets()[0].id)
    assert (one.ext, one.width, one.height, one.label) == (ext, 64, 40, "cat")
    path = settings().images / one.path
    seen = images.read(path, HOW)
    assert np.abs(seen[:, 8, 8].astype(int) - (219, 14, 36)).max() <= 6
    told = {**asdict(HOW), "shapes": images.shapes(HOW)}
    assert np.array_equal(script.pixels(script.upright(path, told), told), seen)
    given = images.shareable(data)
    assert SECRET in data and SECRET not in given and np.abs(images.read(given, HOW).astype(int) - seen).max() <= 4
    assert images.picture_file(path)[1] == "image/png"


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "LA"])
def test_a_turned_picture_is_upright_in_pixels_and_size_and_carries_nothing_on(fmt: str, mode: str) -> None:
    drawn = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (5, 9, 3), np.uint8)).resize((90, 50)).convert(mode)
    for turned in range(1, 9):
        exif, out = Pillow.Exif(), io.BytesIO()
        exif[images.ORIENTATION] = turned
        try:
            drawn.save(out, fmt, exif=exif, quality=90)
        except OSError:
            pytest.skip(f"{fmt} holds no {mode}")
        shown = images.open_picture(out.getvalue())
        with Pillow.open(io.BytesIO(out.getvalue())) as opened:
            upright = images._plain(ImageOps.exif_transpose(opened), srgb=True)
        assert (type(shown), shown.info, shown.mode) == (Pillow.Image, {}, upright.mode)
        assert np.array_equal(np.asarray(shown), np.asarray(upright))
        examined = images.examine(out.getvalue())
        assert (examined.width, examined.height) == shown.size == ((90, 50) if turned < 5 else (50, 90))
        assert images.shape(out.getvalue()) == (*shown.size, len(shown.getbands()))


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (1000, 100), (239, 239)])
def test_a_thumbnail_from_a_jpeg_that_was_decoded_smaller_looks_like_that_of_the_whole(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[tuple[int, int]] = []

    def noted(picture: Pillow.Image, srgb: bool) -> Pillow.Image:
        decoded.append(picture.size)
        return picture

    monkeypatch.setattr(images, "_plain", noted)
    out = io.BytesIO()
    Pillow.fromarray(load_sample_images().images[0]).resize(size).save(out, "JPEG", quality=95)
    found = images.examine(out.getvalue())
    whole = np.asarray(Pillow.open(io.BytesIO(images.thumbnail(Pillow.open(out)))), np.int16)
    assert (found.width, found.height) == size and max(decoded[0]) >= min(images.DRAFT_SIDE, max(size))
    assert np.abs(np.asarray(Pillow.open(io.BytesIO(found.thumb)), np.int16) - whole).mean() < 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB"])
def test_size_and_channels_are_known_before_a_picture_is_decoded(mode: str) -> None:
    drawn = Pillow.linear_gradient("L").resize((9, 5))
    out = io.BytesIO()
    if mode in ("I;16", "I", "F"):
        Pillow.fromarray(np.asarray(drawn).astype({"I;16": "uint16", "I": "int32", "F": "float32"}[mode])).save(out, "TIFF")
    else:
        (drawn if mode == "L" else Pillow.new(mode, (9, 5))).save(out, "PNG" if mode == "P" else "TIFF")
    shown = images.open_picture(out.getvalue())
    assert images.shape(out.getvalue()) == (9, 5, len(shown.getbands()))


@pytest.mark.parametrize("fmt", ["HEIF", "AVIF"])
def test_one_that_is_cut_off_or_too_large_is_refused_with_the_reason(fmt: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = photo(fmt)
    for end in (20, len(data) // 2, len(data) - 20):
        with pytest.raises(Invalid):
            images.examine(data[:end])
    monkeypatch.setattr(images, "settings", lambda: type("S", (), {"max_megapixels": 0.002})())
    with pytest.raises(Invalid, match="64 × 40 pixels"):
        images.examine(data)


MEASURED = """
import re, sys
from pathlib import Path
from core.data import images
from core.types import Preprocess

def peak():  # MB; what getrusage says is that of the parent, too
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000

path, before = Path(sys.argv[1]), peak()
images.examine(path.read_bytes())
images.read(path, Preprocess(3, 24, 16, (0.0,) * 3, (1.0,) * 3, srgb=True))
print(peak() - before)
"""


def test_a_photo_of_fifty_megapixels_is_read_with_little_memory(home: Path, tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[images.ORIENTATION] = 6
    path = tmp_path / "a.jpg"
    Pillow.new("RGB", (8160, 6144), (90, 60, 30)).save(path, exif=exif)
    found = images.examine(path.read_bytes())
    assert (found.width, found.height) == (6144, 8160)
    assert images.open_picture(path).size == (3072, 4080)
    told = {**asdict(HOW), "shapes": images.shapes(HOW)}
    assert np.array_equal(script.pixels(script.upright(path, told), told), images.read(path, HOW))
    done = subprocess.run([sys.executable, "-c", MEASURED, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 140, "MB: measured 104, where Pillow takes 200 for its pixels alone"


def test_a_picture_of_more_than_the_setting_allows_names_the_setting(home: Path) -> None:
    out = io.BytesIO()
    Pillow.new("1", (10_001, 10_000)).save(out, "PNG")
    with pytest.raises(Invalid, match="10001 × 10000 pixels") as refused:
        images.examine(out.getvalue())
    assert "LOUPE_MAX_MEGAPIXELS" in refused.value.hint and "100 million" in refused.value.hint
