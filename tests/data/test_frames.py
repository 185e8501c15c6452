"""Pictures of several frames: which are read, within which limits, and that an import says that it takes the first."""

from __future__ import annotations

import io
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from core.data import images, imports, sources, strip
from core.errors import Invalid
from core.settings import settings
from core.types import Preprocess
from tests.data.animated import KINDS, animation

HOW = Preprocess(1, 8, 8, (0.0,), (1.0,), srgb=True)


def levels(data: bytes) -> list[int]:
    return [int(array[0, 4, 4]) for _, _, array, _ in images.read_frames(data, HOW)]


@pytest.mark.parametrize("ext", KINDS)
def test_every_frame_of_every_format_is_read_in_order(ext: str) -> None:
    data = animation([20, 90, 160, 230], ext, (32, 32))
    assert levels(data) == pytest.approx([20, 90, 160, 230], abs=6)
    assert [(number, total) for number, total, _ in images.frames(data)] == [(i, 4) for i in range(4)]
    assert images.is_animated(data) and images.examine(data).animated


@pytest.mark.parametrize("ext", KINDS)
def test_a_picture_of_one_frame_is_a_still(ext: str) -> None:
    data = animation([90], ext, (32, 32))
    (only,) = images.frames(data)
    assert only[:2] == (0, 1) and np.array_equal(np.asarray(only[2]), np.asarray(images.open_picture(data)))
    assert not images.is_animated(data) and not images.examine(data).animated


def test_a_phones_photo_with_a_second_picture_for_depth_is_a_still() -> None:
    out = io.BytesIO()
    Pillow.new("RGB", (32, 32), "red").save(out, "MPO", save_all=True, append_images=[Pillow.new("RGB", (32, 32), "blue")])
    assert not images.is_animated(out.getvalue()) and len(list(images.frames(out.getvalue()))) == 1


@pytest.mark.parametrize("total", [1, 2, 63, 64, 65, 66, 100, 127, 128, 1000, 20_000])
def test_at_most_64_frames_are_judged_evenly_with_the_first_and_the_last(total: int) -> None:
    found = images.judged(total)
    assert len(found) == len(set(found)) == min(total, 64) and (found[0], found[-1]) == (0, total - 1)
    gaps = {b - a for a, b in pairwise(found)}
    assert found == sorted(found) and (not gaps or max(gaps) - min(gaps) <= 1)


def test_of_a_thousand_frames_those_that_are_judged_are_the_right_ones() -> None:
    data = animation([i % 200 + 20 for i in range(1000)], size=(8, 8))
    assert levels(data) == [i % 200 + 20 for i in images.judged(1000)]


def test_frames_are_upright_and_flattened_as_a_first_frame_is() -> None:
    exif = Pillow.Exif()
    exif[images.ORIENTATION] = 6
    wide = [Pillow.new("RGBA", (20, 10), (0, 0, 0, alpha)) for alpha in (255, 0)]
    out = io.BytesIO()
    wide[0].save(out, "WEBP", save_all=True, append_images=wide[1:], exif=exif, lossless=True)
    found = [picture for *_, picture in images.frames(out.getvalue())]
    assert [p.size for p in found] == [(10, 20)] * 2 and [p.getpixel((5, 5)) for p in found] == [(0, 0, 0), (255, 255, 255)]
    assert images.frame(out.getvalue(), 1).getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("ext", KINDS)
def test_an_animation_that_ends_too_early_never_loses_frames_in_silence(ext: str) -> None:
    data = animation([20, 90, 160, 230], ext, (64, 64))
    for end in (len(data) // 2, len(data) * 3 // 4, len(data) - 30):
        try:
            found = list(images.frames(data[:end]))
        except Invalid as e:
            assert "frame" in e.message.lower() or "cannot be read" in e.message or "not an image" in e.message
        else:  # what is cut off between two frames leaves no trace in a GIF
            assert len(found) == 4 or ext == "gif"


def test_a_frame_that_is_cut_off_is_named() -> None:
    data = animation([20, 90, 160], size=(200, 200))
    with pytest.raises(Invalid, match=r"Frame 3 of 3: The image cannot be read: it ends too early"):
        list(images.frames(data[:-60]))
    assert images.examine(data[:-60]).animated  # its first frame is whole


def test_a_bomb_of_frames_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data, pages = animation([1, 2, 3, 4]), animation([1, 2, 3, 4], "tif")
    monkeypatch.setattr(images, "FRAME_PIXELS", 4 * 144)
    assert len(levels(data)) == len(levels(pages)) == 4
    monkeypatch.setattr(images, "FRAME_PIXELS", 4 * 144 - 1)
    for refused in (data, pages):
        with pytest.raises(Invalid, match="4 frames of 12 × 12"):
            levels(refused)
    monkeypatch.setattr(images, "MAX_FRAMES_THERE", 3)
    with pytest.raises(Invalid, match="more than 3 frames"):
        images.frame(data, 1)


def test_a_later_page_that_is_too_large_is_refused_by_its_number(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    Pillow.new("L", (9, 9)).save(out, "TIFF", save_all=True, append_images=[Pillow.new("L", (1200, 1000))])
    monkeypatch.setenv("LOUPE_MAX_MEGAPIXELS", "1")
    settings.cache_clear()
    assert images.examine(out.getvalue()).width == 9
    with pytest.raises(Invalid, match=r"Frame 2 of 2: The picture has 1200 × 1000 pixels"):
        list(images.frames(out.getvalue()))


def test_a_frame_that_is_not_there_is_refused(tmp_path: Path) -> None:
    data = animation([20, 90])
    assert images.frame(data, 1).getpixel((5, 5)) == (90, 90, 90)
    for number in (2, -1, 10**9):
        with pytest.raises(Invalid, match="no frame"):
            images.frame(data, number)


def test_the_contact_sheet_has_a_cell_for_each_judged_frame(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(animation([i for i in range(20, 120)]))
    with Pillow.open(io.BytesIO(images.contact_sheet(tmp_path / "a.gif"))) as sheet:
        assert sheet.size == (8 * images.SHEET_SIDE, 8 * images.SHEET_SIDE)
        for i, number in enumerate(images.judged(100)):
            at = ((i % 8) * images.SHEET_SIDE + 64, (i // 8) * images.SHEET_SIDE + 64)
            assert sheet.convert("L").getpixel(at) == pytest.approx(20 + number, abs=3)


def test_an_import_says_that_the_first_frame_is_what_is_learned_from(home: Path, tmp_path: Path) -> None:
    (tmp_path / "in/cat").mkdir(parents=True)
    for i, ext in enumerate(("gif", "webp", "png")):
        (tmp_path / "in/cat" / f"{i}.{ext}").write_bytes(animation([20 + i, 90], ext))
    Pillow.new("L", (9, 9)).save(tmp_path / "in/cat/still.gif")
    report = imports.import_now("x", sources.at(tmp_path / "in"), "me")
    (said,) = [line for line in report.understood if "frame" in line]
    assert report.added == 4 and said.startswith("3 animated pictures") and "their first frame is what is learned from" in said
    (tmp_path / "one/cat").mkdir(parents=True)
    (tmp_path / "one/cat/solo.gif").write_bytes(animation([70, 90]))
    assert any("its first frame" in s and "solo.gif" in s for s in imports.import_now("y", sources.at(tmp_path / "one"), "me").understood)


def a_gif_of(frames: int) -> bytes:
    """One pixel each: 11 bytes a frame."""
    head = b"GIF89a" + bytes([1, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 255, 255, 255])
    return head + (b"," + bytes([0, 0, 0, 0, 1, 0, 1, 0, 0]) + bytes([2, 2, 0x44, 1, 0])) * frames + b";"


@pytest.mark.parametrize("way", ["bytes", "file"])
def test_frames_are_counted_no_further_than_is_allowed(tmp_path: Path, way: str) -> None:
    data = a_gif_of(2_000_000)  # 30 MB: Pillow counts for a minute
    (tmp_path / "a.gif").write_bytes(data)
    begun = time.monotonic()
    with pytest.raises(Invalid, match="more than 20,000 frames"):
        next(images.frames(data if way == "bytes" else tmp_path / "a.gif"))
    assert time.monotonic() - begun < 5
    assert [total for _, total, _ in images.frames(a_gif_of(3))] == [3] * 3


@pytest.mark.parametrize("ext", ["gif", "tif"])
def test_a_picture_of_just_as_many_frames_as_allowed_is_read(monkeypatch: pytest.MonkeyPatch, ext: str) -> None:
    monkeypatch.setattr(images, "MAX_FRAMES_THERE", 4)
    assert levels(animation([20, 90, 160, 230], ext, (32, 32))) == pytest.approx([20, 90, 160, 230], abs=6)
    with pytest.raises(Invalid, match="more than 4 frames"):
        levels(animation([20, 90, 160, 230, 30], ext, (32, 32)))


def test_the_blocks_of_a_gif_are_counted_as_pillow_does() -> None:
    for frames in (1, 2, 7):
        data = animation([20 * i + 20 for i in range(frames)], "gif", (32, 32))
        assert strip.gif_frames(data, 100) == strip.gif_frames(data[:-1], 100) == frames and strip.gif_frames(data, 1) == 1
    assert strip.gif_frames(b"GIF89a", 5) == 0
