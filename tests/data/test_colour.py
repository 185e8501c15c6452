"""Pictures with a colour profile: what the thumbnail, the network and the exported code make of them."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from core.catalog import networks, params
from core.data import images
from core.share import preprocess as script
from core.types import Preprocess
from tests.data.colour import ink, profile

P3, RED = profile(), (200, 50, 51)
NEW = Preprocess(3, 8, 8, (0.0,) * 3, (1.0,) * 3, srgb=True)
OLD = replace(NEW, srgb=False)


def file(picture: Pillow.Image, fmt: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, fmt, **options)
    return out.getvalue()


def close(got: Any, wanted: tuple[int, ...], by: int = 3) -> bool:
    return np.abs(np.asarray(got, int) - wanted).max() <= by


@pytest.mark.parametrize(("fmt", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("TIFF", "RGB"), ("WEBP", "RGB")])
def test_colours_of_display_p3_are_those_of_srgb_in_thumbnail_and_network(fmt: str, mode: str) -> None:
    data = file(Pillow.new(mode, (200, 120), RED), fmt, icc_profile=P3, **({"quality": 98} if fmt != "TIFF" else {}))
    wanted = (219, 14, 36)
    assert close(images.open_picture(data).getpixel((100, 60)), wanted)
    thumb = Pillow.open(io.BytesIO(images.examine(data).thumb)).convert("RGB")
    assert close(thumb.getpixel((60, 30)), wanted, 5)
    assert close(images.read(data, NEW)[:, 4, 4], wanted)
    assert close(images.open_picture(images.shareable(data)).getpixel((100, 60)), wanted)


def test_an_old_run_reads_the_values_as_they_are_and_a_new_one_converts_them() -> None:
    data = file(Pillow.new("RGB", (20, 20), RED), icc_profile=P3)
    assert images.read(data, OLD)[:, 4, 4].tolist() == list(RED)
    stored = {name: value for name, value in asdict(OLD).items() if name != "srgb"}  # as an older Loupe wrote it
    assert not Preprocess(**stored).srgb
    for architecture in ("cnn3", "efficientnet_lite0"):
        assert networks.preprocess_for(params.run_config({"architecture": architecture}), [(20, 20, 3)]).srgb


@pytest.mark.parametrize("how", [NEW, OLD, replace(NEW, channels=1, mean=(0.0,), std=(1.0,))])
def test_the_exported_code_reads_colours_as_the_run_does(how: Preprocess, tmp_path: Path) -> None:
    told = {**asdict(how), "shapes": images.shapes(how)}
    red, grey = Pillow.new("RGB", (20, 20), RED), Pillow.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    clear = red.copy()
    clear.putalpha(120)
    for name, data in {
        "p3.png": file(red, icc_profile=P3),
        "clear.png": file(clear, icc_profile=P3),
        "palette.png": file(red.convert("P"), icc_profile=P3),
        "grey.png": file(grey, icc_profile=profile((), 1.0)),
        "sixteen.png": file(Pillow.fromarray(np.asarray(grey).astype(np.uint16) * 257), icc_profile=profile((), 1.0)),
        "ink.jpg": file(Pillow.new("CMYK", (20, 20), (0, 200, 200, 20)), "JPEG", icc_profile=ink()),
        "broken.png": file(red, icc_profile=P3[:150]),
    }.items():
        (tmp_path / name).write_bytes(data)
        theirs = script.pixels(script.upright(tmp_path / name, told), told)
        assert np.array_equal(theirs, images.read(tmp_path / name, how)), name


def test_a_grey_profile_and_one_of_inks_are_followed() -> None:
    grey = images.open_picture(file(Pillow.new("L", (9, 9), 100), icc_profile=profile((), 1.0)))
    assert grey.mode == "L" and close(grey.getpixel((4, 4)), (168,), 2)
    inks = images.open_picture(file(Pillow.new("CMYK", (16, 16), (255, 255, 0, 0)), "JPEG", icc_profile=ink()))
    red, green, blue = inks.getpixel((8, 8))  # type: ignore[misc]
    assert green > red + 60 and green > blue + 20


@pytest.mark.parametrize("broken", [b"x", P3[:150], P3[:300], bytes(4000), profile((), 1.0), ink(), P3[:36] + b"zzzz" + P3[40:]])
def test_a_profile_that_is_broken_or_of_another_mode_is_taken_as_srgb(broken: bytes) -> None:
    data = file(Pillow.new("RGB", (20, 20), RED), icc_profile=broken)
    assert images.open_picture(data).getpixel((4, 4)) == RED
    assert images.examine(data).width == 20


def test_a_profile_of_srgb_itself_changes_no_value() -> None:
    values = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(np.asarray(images.open_picture(file(Pillow.fromarray(values), icc_profile=own))), values)
