"""Pictures as nobody should send them: (name, bytes, what must come of them)."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from PIL import Image as Pillow
from pillow_heif import register_heif_opener  # type: ignore[import-untyped]

from tests.data import colour

SIDE = (40, 28)  # pixels
MORE: dict[str, dict[str, Any]] = {"webp": {"lossless": True}, "avif": {"quality": 95}, "heic": {"quality": 95}}  # options of formats
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))  # XYZ (D50) of red, green, blue
SRGB = np.array([(3.13386, -1.61687, -0.49062), (-0.97880, 1.91614, 0.03345), (0.07195, -0.22899, 1.40524)])  # linear, of XYZ (D50)
register_heif_opener(thumbnails=False)


@dataclass(frozen=True)
class Made:
    name: str
    data: bytes
    must: Literal["read", "refused", "either"] = "either"
    pixels: np.ndarray | None = None  # upright, if it must be read to these
    within: int = 0  # of each value, for formats that lose some


def pixels(seed: int = 0) -> np.ndarray:
    """(H, W, 3), smooth, so that formats that lose something lose little."""
    wide, high = SIDE
    y, x = np.mgrid[0:high, 0:wide]
    return np.stack([x * 255 // wide, y * 255 // high, (x + y + seed * 40) * 255 // (wide + high + seed * 40)], -1).astype(np.uint8)


def saved(picture: Pillow.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def bases() -> dict[str, bytes]:
    one = Pillow.fromarray(pixels())
    return {
        "jpg": saved(one, "JPEG", quality=95, subsampling=0),
        "png": saved(one, "PNG"),
        "webp": saved(one, "WEBP", lossless=True),
        "bmp": saved(one, "BMP"),
        "gif": saved(one.convert("L"), "GIF"),
        "tif": saved(one, "TIFF", compression="tiff_lzw"),
        "avif": saved(one, "AVIF", quality=95),
        "heic": saved(one, "HEIF", quality=95),
    }


def damaged() -> Iterator[Made]:
    """Cut off at every 5 %, and with bytes changed."""
    chance = random.Random(5)
    for ext, data in bases().items():
        for percent in range(5, 100, 5):
            yield Made(f"cut-{percent}.{ext}", data[: len(data) * percent // 100])
        for i in range(24):
            odd = bytearray(data)
            for _ in range(chance.choice((1, 1, 4, 30))):
                odd[chance.randrange(len(odd))] = chance.randrange(256)
            yield Made(f"changed-{i}.{ext}", bytes(odd))


def misnamed() -> Iterator[Made]:
    for ext, data in bases().items():
        if ext != "gif":
            yield Made(
                f"is-{ext}.{'png' if ext != 'png' else 'jpg'}", data, "read", pixels(), {"jpg": 12, "avif": 24, "heic": 12}.get(ext, 0)
            )
    one = Pillow.fromarray(pixels())
    html = b"<html><script>alert(1)</script></html>"
    for name, data in {
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "html": html, "pdf": b"%PDF-1.4\n", "exe": b"MZ" + bytes(200),
        "zip": b"PK\3\4" + bytes(100), "gz": b"\x1f\x8b" + bytes(50), "jxl": b"\xff\x0a" + bytes(100), "jxl-box": b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl " + bytes(90),
        "jp2": saved(one, "JPEG2000"), "ico": saved(one, "ICO"), "ppm": saved(one, "PPM"), "tga": saved(one, "TGA"), "pcx": saved(one, "PCX"),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "psd": b"8BPS\0\1" + bytes(60), "text": b"hello", "empty": b"", "one": b"\x89",
        "zeros": bytes(5000), "xml": b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><svg>&b;</svg>",
    }.items():  # fmt: skip
        yield Made(f"is-{name}.png", data, "refused")
        if name.startswith("jxl"):
            yield Made(f"is-{name}.jxl", data, "refused")  # no library at hand writes JPEG XL, and none reads it
    for ext in ("jpg", "png", "webp", "gif", "tif"):
        data = bases()[ext]
        yield Made(f"and-html.{ext}", data + html, "either" if ext == "gif" else "read", None if ext == "gif" else pixels(), 12)
        yield Made(f"and-zip.{ext}", data + b"PK\3\4" + bytes(200) + b"PK\5\6" + bytes(18))
        yield Made(f"head-only.{ext}", data[:12], "refused")
        yield Made(f"html-before.{ext}", html + data, "refused")


def modes() -> Iterator[Made]:
    """Every way to store pixels, and what they must be read as."""
    array = pixels()
    one, grey = Pillow.fromarray(array), Pillow.fromarray(array[..., 0])
    yield Made("grey.png", saved(grey, "PNG"), "read", array[..., 0])
    yield Made("grey.jpg", saved(grey, "JPEG", quality=100), "read", array[..., 0], 4)
    bit = array[..., 0] > 127
    yield Made("bit.png", saved(Pillow.fromarray(bit), "PNG"), "read", (bit * 255).astype(np.uint8))
    yield Made("bit.tif", saved(Pillow.fromarray(bit), "TIFF", compression="group4"), "read", (bit * 255).astype(np.uint8))
    few = one.quantize(16)
    yield Made("palette.png", saved(few, "PNG"), "read", np.asarray(few.convert("RGB")))
    yield Made("palette.bmp", saved(few, "BMP"), "read", np.asarray(few.convert("RGB")))
    yield Made("palette.tif", saved(few, "TIFF"), "read", np.asarray(few.convert("RGB")))
    deep = array[..., 0].astype(np.uint16) * 257
    yield Made("deep.png", saved(Pillow.fromarray(deep), "PNG"), "read", array[..., 0], 1)
    yield Made("deep.tif", saved(Pillow.fromarray(deep), "TIFF"), "read", array[..., 0], 1)
    wide = (array.astype(">u2") * 257).reshape(SIDE[1], -1)
    packed = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide))
    yield Made("deep-colour.png", png(*SIDE, chunk(b"IDAT", packed), END, depth=16), "read", array, 1)
    through = one.quantize(16)
    yield Made("palette-through.png", saved(through, "PNG", transparency=bytes(16)), "read", np.full_like(array, 255))
    cmyk = one.convert("CMYK")
    yield Made("cmyk.tif", saved(cmyk, "TIFF"), "read", np.asarray(cmyk.convert("RGB")))
    yield Made("cmyk.jpg", saved(cmyk, "JPEG", quality=95), "read", np.asarray(cmyk.convert("RGB")), 12)
    yield Made("ycck.jpg", ycck(cmyk), "read", np.asarray(cmyk.convert("RGB")), 12)
    for alpha in (0, 255):
        rgba = one.copy()
        rgba.putalpha(alpha)
        seen = array if alpha else np.full_like(array, 255)
        yield Made(f"alpha-{alpha}.png", saved(rgba, "PNG"), "read", seen)
        yield Made(f"alpha-{alpha}.webp", saved(rgba, "WEBP", lossless=True, exact=True), "read", seen)
    other = Pillow.fromarray(pixels(3))
    for ext, kind in (("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF"), ("gif", "GIF"), ("avif", "AVIF"), ("heic", "HEIF")):
        data = saved(one, kind, save_all=True, append_images=[other] * 3, **MORE.get(ext, {}))
        yield Made(f"frames.{ext}", data, "read", None if ext == "gif" else array, {"avif": 24, "heic": 12}.get(ext, 0))
    yield Made(
        "many-frames.gif", saved(grey, "GIF", save_all=True, append_images=[Pillow.fromarray(pixels(i)).convert("L") for i in range(200)])
    )
    yield Made("two.mpo", saved(one, "MPO", save_all=True, append_images=[other], quality=95, subsampling=0), "read", array, 12)
    for turn in range(9):
        exif = Pillow.Exif()
        exif[0x0112] = turn
        upright = turned(array, turn)
        yield Made(f"turned-{turn}.jpg", saved(one, "JPEG", exif=exif, quality=95, subsampling=0), "read", upright, 12)
        yield Made(f"turned-{turn}.png", saved(one, "PNG", exif=exif), "read", upright)
        yield Made(f"turned-{turn}.tif", saved(one, "TIFF", exif=exif), "read", upright)
    for i, exif_bytes in enumerate(
        (b"Exif\0\0" + b"\xff" * 200, b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM\0*" + bytes(80), b"x" * 60_000)
    ):
        yield Made(f"broken-exif-{i}.jpg", saved(one, "JPEG", exif=exif_bytes, quality=95, subsampling=0), "either", array, 12)
    exif = Pillow.Exif()
    exif[0x0112] = 6  # HEIF turns pictures by a property of its own, and says that what EXIF says is not followed (ISO/IEC 23008-12)
    yield Made("said-turned.heic", saved(one, "HEIF", exif=exif, quality=95), "read", array, 12)
    yield from profiles(one)
    for i, profile in enumerate((b"x" * 100, bytes(128), b"\0" * 4 + b"acsp" * 40)):
        yield Made(f"broken-profile-{i}.png", saved(one, "PNG", icc_profile=profile), "read", array)


def ycck(picture: Pillow.Image) -> bytes:
    """CMYK as Photoshop writes it: turned into luminance, two colours and black, all inverted, which Adobe's mark says by a 2."""
    array = np.asarray(picture)
    stored = np.dstack([255 - np.asarray(Pillow.fromarray(array[..., :3]).convert("YCbCr")), array[..., 3]])
    plain = saved(Pillow.fromarray(stored, "CMYK"), "JPEG", quality=100, subsampling=0)
    at = plain.index(b"Adobe") + 11
    assert plain[at] == 0
    return plain[:at] + b"\2" + plain[at + 1 :]


def profiles(one: Pillow.Image) -> Iterator[Made]:
    """Colours by profiles with other primaries, turned into sRGB without the library that Loupe turns them with."""
    for name, primaries, gamma in (("p3", colour.DISPLAY_P3, 2.2), ("adobe", ADOBE, 2.2), ("linear", colour.DISPLAY_P3, 1.0)):
        profile = colour.profile(primaries, gamma)
        seen = in_srgb(np.asarray(one), primaries, gamma)
        yield Made(f"{name}.png", saved(one, "PNG", icc_profile=profile), "read", seen, 3)
        yield Made(f"{name}.tif", saved(one, "TIFF", icc_profile=profile), "read", seen, 3)
        yield Made(f"{name}.webp", saved(one, "WEBP", lossless=True, icc_profile=profile), "read", seen, 3)
        if gamma != 1.0:  # which would multiply what these lose
            yield Made(f"{name}.jpg", saved(one, "JPEG", quality=100, subsampling=0, icc_profile=profile), "read", seen, 20)
            yield Made(f"{name}.heic", saved(one, "HEIF", quality=100, chroma=444, icc_profile=profile), "read", seen, 20)
    grey = one.getchannel("R")
    light = in_srgb(np.asarray(grey)[..., None].repeat(3, 2), None, 1.0)[..., 0]
    yield Made("linear-grey.png", saved(grey, "PNG", icc_profile=colour.profile((), 1.0)), "read", light, 6)


def in_srgb(array: np.ndarray, primaries: tuple[tuple[float, float, float], ...] | None, gamma: float) -> np.ndarray:
    """(H, W, 3) of a screen with these primaries and this gamma, by the formulas of IEC 61966-2-1; None: its colours are sRGB's."""
    light = (array / 255) ** (round(gamma * 256) / 256)
    if primaries is not None:
        light = np.clip(light @ np.array(primaries) @ SRGB.T, 0, 1)
    return (np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255).round().astype(np.uint8)


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """By the EXIF standard, without Pillow."""
    undo = {2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1], 5: array.swapaxes(0, 1), 6: array.swapaxes(0, 1)[:, ::-1]}
    undo |= {7: array[::-1, ::-1].swapaxes(0, 1), 8: array.swapaxes(0, 1)[::-1]}
    return undo.get(orientation, array)


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    found = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", found)


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2, interlace: int = 0, packing: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, packing, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks)


END = chunk(b"IEND", b"")


def made_up() -> Iterator[Made]:
    """Headers that lie, PngSuite's broken ones by their description, and bombs."""
    rows = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(range(12)) for _ in range(4))))
    good = png(4, 4, rows, END)
    yield Made("good.png", good, "read")
    for side in (60_000, 2**31 - 1, 9_459, 20_000):
        yield Made(f"giant-{side}.png", png(side, side, rows, END), "refused")
        yield Made(
            f"giant-{side}.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0), "refused"
        )
    zeros = zlib.compress(bytes(60_000_000), 9)
    yield Made("bomb.png", png(11_000, 11_000, chunk(b"IDAT", zeros), END, colour=0), "refused")
    yield Made("bomb-within.png", png(9_000, 6_600, chunk(b"IDAT", zeros), END, colour=0))
    for kind in (b"zTXt", b"iTXt", b"iCCP"):
        packed = zlib.compress(bytes(300_000_000), 9)
        text = b"a\0\1\0\0" + packed if kind == b"iTXt" else b"a\0\0" + packed
        yield Made(f"bomb-{kind.decode()}.png", png(4, 4, chunk(kind, text), rows, END))
    yield Made("many-texts.png", png(4, 4, *[chunk(b"tEXt", b"a\0b")] * 30_000, rows, END))
    for name, data in {  # PngSuite's x*.png by their description
        "xs1-high-bit": b"\x09" + good[1:], "xs2-a-Q": good[:1] + b"Q" + good[2:], "xs4-lower-case": good[:3] + b"g" + good[4:],
        "xs7-a-space": good[:6] + b" " + good[7:], "xcr-cr-added": good[:7] + b"\r" + good[7:], "xlf-lf-added": good[:6] + b"\n" + good[6:],
        "xhd-sum-of-head": good[:29] + b"\0\0\0\0" + good[33:], "xdt-no-data": png(4, 4, END), "xc1-colour-1": png(4, 4, rows, END, colour=1),
        "xc9-colour-9": png(4, 4, rows, END, colour=9),
        "xd0-depth-0": png(4, 4, rows, END, depth=0), "xd3-depth-3": png(4, 4, rows, END, depth=3), "xd9-depth-99": png(4, 4, rows, END, depth=99),
    }.items():  # fmt: skip
        yield Made(f"{name}.png", data, "refused")
    black = chunk(b"IDAT", zlib.compress(bytes(52)), 1)
    yield Made("xcs-sum-of-data.png", png(4, 4, black, END), "either", np.zeros((4, 4, 3), np.uint8))
    for name, data in {
        "signature-cr": good.replace(b"\r\n", b"\n", 1), "no-end": png(4, 4, rows), "zero-wide": png(0, 4, rows, END),
        "zero-high": png(4, 0, rows, END), "no-palette": png(4, 4, rows, END, colour=3), "packing": png(4, 4, rows, END, packing=7),
        "interlaced-lie": png(4, 4, rows, END, interlace=1), "bad-zlib": png(4, 4, chunk(b"IDAT", b"not zlib"), END), "long-chunk": good[:33] + b"\x7f\xff\xff\xffIDAT",
        "head-twice": good[:33] + good[8:], "palette-long": png(4, 4, chunk(b"PLTE", bytes(3 * 300)), rows, END, colour=3),
    }.items():  # fmt: skip
        yield Made(f"{name}.png", data)
    yield Made(
        "giant.gif", b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\2\1\0\0;"
    )
    jpg = bases()["jpg"]
    at = jpg.index(b"\xff\xc0")
    yield Made("giant.jpg", jpg[: at + 5] + struct.pack(">HH", 65_500, 65_500) + jpg[at + 9 :], "refused")
    yield Made("zero.jpg", jpg[: at + 5] + struct.pack(">HH", 0, 40) + jpg[at + 9 :])
    yield Made("many-comments.jpg", jpg[:2] + b"\xff\xfe\x00\x04ab" * 50_000 + jpg[2:], "read", pixels(), 12)
    tif = saved(Pillow.fromarray(pixels()), "TIFF")
    directory = struct.unpack("<I", tif[4:8])[0]
    n = struct.unpack("<H", tif[directory : directory + 2])[0]
    following = directory + 2 + 12 * n
    yield Made("loop.tif", tif[:following] + struct.pack("<I", directory) + tif[following + 4 :])
    yield Made("nowhere.tif", tif[:4] + struct.pack("<I", 2**31) + tif[8:], "refused")
    for tag, value in ((256, 2**30), (257, 2**30), (277, 60_000), (273, 2**31), (279, 2**32 - 1)):
        yield Made(f"tag-{tag}.tif", with_tag(tif, directory, n, tag, value))


def with_tag(tif: bytes, directory: int, n: int, tag: int, value: int) -> bytes:
    odd = bytearray(tif)
    for i in range(n):
        at = directory + 2 + 12 * i
        if struct.unpack("<H", odd[at : at + 2])[0] == tag:
            odd[at + 2 : at + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(odd)


@cache
def corpus() -> tuple[Made, ...]:
    return (*damaged(), *misnamed(), *modes(), *made_up())
