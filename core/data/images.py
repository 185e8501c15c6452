"""The only image decoding: safe open, hash, thumbnails, and the pixels a network receives."""

from __future__ import annotations

import bisect
import fcntl
import hashlib
import io
import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps, UnidentifiedImageError

from core import processes, storage
from core.data import strip
from core.errors import Invalid, NotFound
from core.settings import settings
from core.types import Preprocess

FORMATS = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "BMP": "bmp",
    "GIF": "gif",
    "TIFF": "tif",
    "HEIF": "heic",
    "AVIF": "avif",
}
ALLOWED = "jpg, png, webp, heic, avif, bmp, gif and tiff"
OPENED = [name for name in FORMATS if name != "MPO"]  # JPEGs of several pictures, as phones write them, open as JPEG
EXTENSIONS = frozenset({"jpg", "jpeg", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif"})
HALVED = 50_000_000  # pixels; a JPEG of more is decoded at half its sides, which costs a quarter of the memory
MAX_BYTES = 100_000_000
THUMB_SIDE = 160  # pixels, longer side
GREY_SIDE = 16  # pixels: the side of the small grey picture by which near copies are found
DRAFT_SIDE = 240  # pixels, longer side: a JPEG is decoded at a half, quarter or eighth that has as many, for a thumbnail no more is needed
SMALL, ENLARGED = 128, 512  # pixels, longer side: up to which a page shows a picture enlarged, and to about what
ANIMATED = frozenset({"GIF", "WEBP", "PNG", "TIFF", "HEIF", "AVIF"})  # may have frames or pages; the second of an MPO is a photo's helper
APART = frozenset({"TIFF", "HEIF"})  # a frame is decoded without those before it
MAX_FRAMES = 64  # of one picture that are judged
MAX_FRAMES_THERE = 20_000  # that one picture may have
FRAME_PIXELS = 1_000_000_000  # decoded for the frames of one picture; about 10 s
PRINT_SIDE = 32  # pixels: the side of the small grey picture of which a fingerprint is taken
FRESH = 5.0  # seconds for which storage is not asked again which thumbnails it has
SHEET_SIDE, SHEET_ROW = 128, 8  # pixels a frame on a contact sheet, frames in a row
ORIENTATION = 0x0112  # the EXIF tag
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"quality": 95} for name in ("JPEG", "WEBP", "HEIF", "AVIF")},
    "TIFF": {"compression": "tiff_deflate"},
}

Pillow.MAX_IMAGE_PIXELS = None  # the size is checked below, before any pixel is decoded


@lru_cache(maxsize=1)
def _register_heif() -> None:
    """With the first picture: it takes 0.1 s, which the start of the server and most commands need not wait for."""
    import pillow_heif  # type: ignore[import-untyped]

    pillow_heif.register_heif_opener(thumbnails=False)


@dataclass(frozen=True)
class Examined:
    """What import keeps of one picture."""

    id: str
    ext: str
    width: int
    height: int
    channels: int
    thumb: bytes
    bits: int = 0  # that the grey values of a 16-bit picture take; 0: it is none
    animated: bool = False  # has further frames or pages, of which nothing is kept
    grey: bytes = b""  # GREY_SIDE² pixels, by which near copies are found


def image_id(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


_id = image_id  # where a parameter bears the name


def array_id(pixels: np.ndarray) -> str:
    """The id of a picture that has no file: (H, W) or (H, W, 3) uint8."""
    return image_id(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes())


def array_ids(source: Path | bytes) -> list[str]:
    """The ids that arrays with the pixels of this file have: grey and in colour, and as small as before picture_file() enlarged it."""
    shown = np.asarray(open_picture(source))
    high, wide = shown.shape[:2]
    factors = [k for k in range(ENLARGED // SMALL, ENLARGED + 1) if high % k == wide % k == 0 and ENLARGED // (max(high, wide) // k) == k]
    small = [(shown[::k, ::k], k) for k in factors]
    found = [shown, *(one for one, k in small if (one.repeat(k, 0).repeat(k, 1) == shown).all())]
    ids = [array_id(one) for one in found]
    for one in found:
        if one.ndim == 2:
            ids.append(array_id(one[..., None].repeat(3, 2)))
        elif (one == one[..., :1]).all():
            ids.append(array_id(one[..., 0]))
    return ids


def open_picture(source: Path | bytes, srgb: bool = True, bits: int = 0) -> Pillow.Image:
    """The first frame, upright, as L or RGB; Invalid says what is wrong with it.

    srgb: colours are converted by the file's profile; False: they are taken as they are, as runs of an older Loupe learned them.
    bits: that hold the grey values of the set's 16-bit pictures; 0: those of this one.
    """
    return _open(source, srgb, bits)[0]


def shape(source: Path | bytes) -> tuple[int, int, int]:
    """Width, height and channels that open_picture() gives; read from the head of the file, so of one that is cut off, too."""
    with _reading(source) as picture:
        _halve(picture)
        width, height = _upright(picture)
        return width, height, 1 if picture.mode in GREY else 3


def _upright(picture: Pillow.Image) -> tuple[int, int]:
    """Width and height of a picture that is not decoded yet; a TIFF's are so in Pillow already."""
    width, height = picture.size
    turned = picture.format != "TIFF" and picture.getexif().get(ORIENTATION, 1) in range(5, 9)
    return (height, width) if turned else (width, height)


def read(source: Path | bytes, how: Preprocess) -> np.ndarray:
    """pixels() of a file, read the way the run was trained."""
    return pixels(open_picture(source, how.srgb, how.bits), how)


def is_animated(source: Path | bytes) -> bool:
    """Whether it has more than one frame or page; nothing is decoded."""
    with _reading(source) as picture:
        return _animated(picture)


def _animated(picture: Pillow.Image) -> bool:
    return picture.format in ANIMATED and bool(getattr(picture, "is_animated", False))


def judged(total: int) -> list[int]:
    """Which of so many frames are judged, from 0: all, or MAX_FRAMES evenly spaced with the first and the last."""
    last = MAX_FRAMES - 1
    return list(range(total)) if total <= MAX_FRAMES else [i * (total - 1) // last for i in range(MAX_FRAMES)]


def frames(source: Path | bytes, srgb: bool = True, bits: int = 0) -> Iterator[tuple[int, int, Pillow.Image]]:
    """Of each frame to be judged its number from 0, how many there are, and the frame as open_picture gives it; a still has one.

    One frame is in memory at a time. Invalid where one cannot be read: what cannot be judged is not passed over.
    """
    number, total = 0, 1
    try:
        with _reading(source) as picture:
            if not _animated(picture):
                _halve(picture)
                picture.load()
                yield 0, 1, _plain(ImageOps.exif_transpose(picture), srgb, bits)
                return
            total, left = _frames(picture, source), FRAME_PIXELS
            for number in judged(total):
                left = _go_to(picture, number, left)
                yield number, total, _plain(ImageOps.exif_transpose(picture), srgb, bits)
    except Invalid as e:
        if number == 0:
            raise
        raise Invalid(f"Frame {number + 1:,} of {total:,}: {e.message}", e.hint) from None


def read_frames(source: Path | bytes, how: Preprocess) -> Iterator[tuple[int, int, np.ndarray, int | None]]:
    """frames() as read() gives a picture, with the fingerprint of the first one."""
    for number, total, frame in frames(source, how.srgb, how.bits):
        yield number, total, pixels(frame, how), None if number else fingerprint(frame)


def _frames(picture: Pillow.Image, source: Path | bytes) -> int:
    """How many frames it has; Invalid if to reach the last, or to count them, would take too long."""
    width, height = picture.size
    if _more_than(MAX_FRAMES_THERE, picture, source):
        raise _too_many(f"The picture has more than {MAX_FRAMES_THERE:,} frames.")
    total = int(getattr(picture, "n_frames", 1))
    decoded = min(total, MAX_FRAMES) if picture.format in APART else total
    if total > MAX_FRAMES_THERE or decoded * width * height > FRAME_PIXELS:
        raise _too_many(f"The picture has {total:,} frames of {width:,} × {height:,} pixels.")
    return total


def _more_than(most: int, picture: Pillow.Image, source: Path | bytes) -> bool:
    """Counted no further than that where a file does not say how many frames it has: Pillow would count millions of them, for minutes."""
    if picture.format == "GIF":
        data = source if isinstance(source, bytes) else source.read_bytes()
        return strip.gif_frames(data, most + 1) > most
    if picture.format == "TIFF":
        with suppress(EOFError), Pillow.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=["TIFF"]) as another:
            another.seek(most)  # after an error the picture itself would count wrong
            return True
    return False


def _too_many(what: str) -> Invalid:
    return Invalid(
        what,
        f"Up to {MAX_FRAMES_THERE:,} frames and {FRAME_PIXELS // 1_000_000:,} million pixels in all are allowed: make it smaller or cut it.",
    )


def _go_to(picture: Pillow.Image, number: int, left: int) -> int:
    """Decodes a frame and returns how many of the pixels are left that may be decoded; pages of a TIFF differ in size."""
    picture.seek(number)
    width, height = picture.size
    _check_size(width, height)
    left -= width * height
    if left < 0:
        raise _too_many("The frames are too large together.")
    picture.load()
    return left


def _open(source: Path | bytes, srgb: bool = True, bits: int = 0) -> tuple[Pillow.Image, str]:
    with _reading(source) as picture:
        _halve(picture)
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)  # else what is upright is copied
        return _plain(picture, srgb, bits), FORMATS[picture.format or ""]


def _halve(picture: Pillow.Image) -> None:
    width, height = picture.size
    if width * height > HALVED:
        picture.draft(None, (width // 2, height // 2))  # does nothing but for JPEG


def _shrink(picture: Pillow.Image, side: int) -> None:
    """Has a JPEG decoded at a half, a quarter or an eighth of its sides, whose longer one keeps as many pixels."""
    longer = max(picture.size)
    picture.draft(None, (max(1, picture.width * side // longer), max(1, picture.height * side // longer)))


@contextmanager
def _reading(source: Path | bytes) -> Iterator[Pillow.Image]:
    """The opened file, of an allowed size and not decoded yet; Invalid for whatever goes wrong with it inside."""
    size = len(source) if isinstance(source, bytes) else _size(storage.local(source))
    if size == 0:
        raise Invalid("The file is empty.")
    if size > MAX_BYTES:
        raise Invalid(f"The file has {size / 1e6:.0f} MB.", f"Up to {MAX_BYTES / 1e6:.0f} MB are allowed for one image.")
    _register_heif()
    with warnings.catch_warnings():
        # Pillow warns about odd metadata that does not matter here; the size check below is our own.
        warnings.simplefilter("ignore")
        try:
            with Pillow.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=OPENED) as picture:
                _check_size(*picture.size)
                yield picture
        except Invalid:
            raise
        except UnidentifiedImageError:
            raise Invalid("This is not an image that Loupe reads.", f"Allowed are {ALLOWED}.") from None
        except (MemoryError, OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, EOFError, RuntimeError) as e:
            # Pillow raises all of these on damaged files.
            reason = "it ends too early" if "truncated" in str(e).lower() else "its contents are damaged"
            raise Invalid(f"The image cannot be read: {reason}.", "Open and save it again in an image program.") from None


def _check_size(width: int, height: int) -> None:
    if width * height > settings().max_megapixels * 1_000_000:
        raise Invalid(
            f"The picture has {width} × {height} pixels.",
            f"Up to {settings().max_megapixels} million are allowed; LOUPE_MAX_MEGAPIXELS sets it.",
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # a name with a NUL
        raise Invalid(f"The file {path.name} cannot be read.", "It may have been moved or deleted.") from None


WIDE = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # PNG and TIFF store 16-bit grey as I;16 or I
GREY = frozenset({"1", "L", "LA", "La", *WIDE})
BITS = (8, 10, 12, 14, 16)  # of cameras


def bits_of(picture: Pillow.Image) -> int:
    """The fewest of BITS that hold all values of a 16-bit grey picture; 0: it is none."""
    if picture.mode not in WIDE[:-1]:
        return 0
    low, high = (int(v) for v in picture.getextrema())  # type: ignore[arg-type]
    return next((bits for bits in BITS if low >= 0 and high < 1 << bits), 0)


def _plain(picture: Pillow.Image, srgb: bool, bits: int = 0) -> Pillow.Image:
    """L for grey pictures, RGB for all others; transparent parts become white, values of so many bits are scaled to 8."""
    profile = picture.info.get("icc_profile") if srgb else None
    if picture.mode in WIDE:
        values = np.asarray(picture, dtype=np.float64)
        if own := bits_of(picture):
            values = (values / (((1 << (bits or own)) - 1) / 255)).clip(0, 255)  # a brighter picture than the set had is white there
        else:  # F and wider values are stretched over their own range
            low, high = np.nanmin(values), np.nanmax(values)
            values = np.nan_to_num((values - low) / max(high - low, 1e-12) * 255)
        return _as_srgb(Pillow.fromarray(values.round().astype(np.uint8)), profile)
    if picture.mode == "1":
        return _bare(picture.convert("L"))
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        coloured = picture.mode not in ("LA", "La", "L")
        rgba = picture.convert("RGBA")
        flat = Pillow.new("RGB", rgba.size, "white")
        flat.paste(_as_srgb(rgba.convert("RGB") if coloured else rgba.getchannel("R"), profile), mask=rgba.getchannel("A"))
        return flat if coloured else flat.convert("L")
    # Always a copy: what is returned is no opened file, whose tags Pillow could write into another.
    picture = _as_srgb(picture.convert(picture.mode if picture.mode in ("L", "CMYK") else "RGB"), profile)
    return _bare(picture.convert("RGB") if picture.mode == "CMYK" else picture)


def _as_srgb(picture: Pillow.Image, profile: bytes | None) -> Pillow.Image:
    """The colours of an L, RGB or CMYK picture in sRGB, grey staying grey; a profile that is broken or of another mode is passed over."""
    transform = _to_srgb(profile, picture.mode) if profile else None
    if transform is None:
        return picture
    converted = transform.apply(picture)
    return converted.convert("L") if picture.mode == "L" else converted


@lru_cache(maxsize=32)  # the photos of one camera have one profile
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None where the profile cannot be used, or changes no colour by more than rounding does, as sRGB's own many profiles."""
    try:
        transform = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), mode, "RGB")
        steps = np.linspace(0, 255, 9).round().astype(np.uint8)
        if mode == "CMYK":
            return transform
        colours = (
            np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3) if mode == "RGB" else np.arange(256, dtype=np.uint8)[None]
        )
        before = Pillow.fromarray(colours)
        changed = np.asarray(transform.apply(before), np.int16) - np.asarray(before.convert("RGB"), np.int16)
        return transform if np.abs(changed).max() > 1 else None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _bare(picture: Pillow.Image) -> Pillow.Image:
    picture.info.clear()  # nothing made from a picture carries its EXIF, comments or colour profile
    return picture


def examine(data: bytes) -> Examined:
    """Decodes the file once and returns all that import needs of it."""
    with _reading(data) as opened:
        ext, (width, height) = FORMATS[opened.format or ""], _upright(opened)
        _shrink(opened, DRAFT_SIDE)
        opened.load()
        bits, animated = bits_of(opened), _animated(opened)
        ImageOps.exif_transpose(opened, in_place=True)
        picture = _plain(opened, srgb=True)
    thumb = thumbnail(picture)
    return Examined(image_id(data), ext, width, height, len(picture.getbands()), thumb, bits, animated, small_grey(thumb))


def thumbnail(picture: Pillow.Image) -> bytes:
    """JPEG, or lossless PNG for pictures so small that every pixel counts."""
    small = picture.copy()
    out = io.BytesIO()
    if max(picture.size) <= 64:
        small.save(out, "PNG", compress_level=1)
        return out.getvalue()
    small.thumbnail((THUMB_SIDE, THUMB_SIDE), Pillow.Resampling.BILINEAR, reducing_gap=2.0)
    small.save(out, "JPEG", quality=82)
    return out.getvalue()


def brightness(thumb: bytes) -> float:
    """The mean of a thumbnail, 0 black to 1 white; a JPEG is decoded at an eighth of its size, in 0.2 ms."""
    with Pillow.open(io.BytesIO(thumb)) as picture:
        picture.draft("L", (picture.width // 8, picture.height // 8))
        return float(np.asarray(picture.convert("L")).mean()) / 255


def small_grey(thumb: bytes) -> bytes:
    """A thumbnail as (GREY_SIDE, GREY_SIDE) uint8 of grey; 0.3 ms."""
    with Pillow.open(io.BytesIO(thumb)) as picture:
        picture.draft("L", (4 * GREY_SIDE, 4 * GREY_SIDE))
        how = Pillow.Resampling.BOX if min(picture.size) >= GREY_SIDE else Pillow.Resampling.BILINEAR
        return picture.convert("L").resize((GREY_SIDE, GREY_SIDE), how).tobytes()


@lru_cache(maxsize=1)
def _waves() -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """(12, PRINT_SIDE) cosines, and the two indices of the 64 lowest frequencies but for the mean."""
    waves = np.cos(np.pi * np.outer(np.arange(12), 2 * np.arange(PRINT_SIDE) + 1) / (2 * PRINT_SIDE))
    lowest = sorted(np.ndindex(12, 12), key=lambda one: (sum(one), one))[1:65]
    return waves, (np.array([one[0] for one in lowest]), np.array([one[1] for one in lowest]))


def fingerprint(picture: Pillow.Image, mirrored: bool = False) -> int:
    """A signed 64-bit number that copies of a picture nearly share; 0 where all of it is of one colour. 0.3 ms, of 12 megapixels 8 ms.

    Of the picture in few grey pixels the signs of the lowest frequencies (discrete cosine transform): size, compression and brightness
    move few of them.
    """
    how = Pillow.Resampling.BOX if min(picture.size) >= PRINT_SIDE else Pillow.Resampling.BILINEAR
    grey = np.asarray(picture.resize((PRINT_SIDE, PRINT_SIDE), how, reducing_gap=2.0).convert("L"), np.float64)
    if grey.std() < 1:  # less than one step: its pattern is that of rounding
        return 0
    waves, lowest = _waves()
    signs = (waves @ (grey[:, ::-1] if mirrored else grey) @ waves.T)[lowest] > 0
    return int(np.packbits(signs).view(">i8")[0])


def fingerprints(source: Path | bytes) -> tuple[int, int]:
    """Of a file's first frame, and of it mirrored; Invalid if it cannot be read."""
    picture = open_picture(source)
    return fingerprint(picture), fingerprint(picture, mirrored=True)


def png(pixels: np.ndarray) -> bytes:
    """(H, W), (H, W, 3) or (H, W, 4) uint8 as a PNG file."""
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def frame(source: Path | bytes, number: int) -> Pillow.Image:
    """One frame, counted from 0, as open_picture gives the first; Invalid if there is none of that number."""
    with _reading(source) as picture:
        if not 0 <= number < (_frames(picture, source) if _animated(picture) else 1):
            raise Invalid(f"The picture has no frame {number + 1:,}.", "Reload the page.")
        _halve(picture)
        _go_to(picture, number, FRAME_PIXELS)
        return _plain(ImageOps.exif_transpose(picture), srgb=True)


def contact_sheet(path: Path) -> bytes:
    """The frames that are judged as one JPEG: cells of SHEET_SIDE, SHEET_ROW in a row, each frame whole in the middle of its own."""
    sheet: Pillow.Image | None = None
    for i, (_, total, picture) in enumerate(frames(path)):
        if sheet is None:
            n = len(judged(total))
            sheet = Pillow.new("RGB", (min(n, SHEET_ROW) * SHEET_SIDE, -(-n // SHEET_ROW) * SHEET_SIDE), "white")
        small = ImageOps.contain(picture.convert("RGB"), (SHEET_SIDE, SHEET_SIDE))
        left, top = (i % SHEET_ROW) * SHEET_SIDE, (i // SHEET_ROW) * SHEET_SIDE
        sheet.paste(small, (left + (SHEET_SIDE - small.width) // 2, top + (SHEET_SIDE - small.height) // 2))
    assert sheet is not None  # frames() gives one or raises
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=82)
    return out.getvalue()


def picture_file(path: Path, number: int = 0, max_side: int = 2048) -> tuple[bytes, str]:
    """A frame of a picture, from 0, for the browser and its media type: upright, without metadata, never larger than asked."""
    picture = frame(path, number) if number else open_picture(path)
    picture.thumbnail((max_side, max_side), Pillow.Resampling.BICUBIC)
    out = io.BytesIO()
    if max(picture.size) <= SMALL:  # enlarged here, pixel by pixel: a browser would blur it
        factor = ENLARGED // max(picture.size)
        picture = picture.resize((picture.width * factor, picture.height * factor), Pillow.Resampling.NEAREST)
    if max(picture.size) <= ENLARGED:
        picture.save(out, "PNG", compress_level=1)
        return out.getvalue(), "image/png"
    picture.save(out, "JPEG", quality=90)
    return out.getvalue(), "image/jpeg"


def shareable(data: bytes) -> bytes:
    """The file for others to have: upright and without metadata, encoded anew only where that cannot be done otherwise.

    What is encoded anew keeps its format and is lossless, but for JPEG and lossy WebP (quality 95).
    """
    stripped = strip.metadata(data)
    if stripped == data:
        return data
    with _reading(data) as picture:
        turned = picture.getexif().get(ORIENTATION, 1) in range(2, 9)
        if stripped is not None and not turned:
            return stripped
        picture.load()
        kind = "JPEG" if picture.format == "MPO" else picture.format or ""
        lossless = kind == "WEBP" and strip.is_lossless_webp(data)
        options = {"exact": True, "lossless": True} if lossless else OPTIONS.get(kind, {})
        upright = ImageOps.exif_transpose(picture)
        # Only what the pixels mean; Pillow would write the rest of it back into the file.
        upright.info = {key: value for key, value in upright.info.items() if key in ("transparency", "icc_profile")}
        out = io.BytesIO()
        upright.save(out, kind, **options)
        return out.getvalue()


def store_original(folder: Path, name: str, data: bytes) -> None:
    """Writes <folder>/<name>, whole or not at all; what is there already is left alone, unless a crash left it as something else."""
    target = folder / name
    if _holds(target, data):
        return
    tmp = processes.temporary(target)
    try:
        try:
            storage.with_room(lambda: tmp.write_bytes(data))
        except FileNotFoundError:  # the first of its folder
            target.parent.mkdir(parents=True, exist_ok=True)
            storage.with_room(lambda: tmp.write_bytes(data))
        os.replace(tmp, target)
    except OSError as e:
        tmp.unlink(missing_ok=True)
        raise OSError(e.errno, e.strerror, str(target)) from None


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:  # not there, or a part of the disk that cannot be read
        return False


def is_original(data: bytes, image_id: str) -> bool:
    """Whether the id was made from these bytes, or from the pixels in them: a picture that came without a file is kept as PNG."""
    if _id(data) == image_id:
        return True
    try:
        return image_id in array_ids(data)
    except Invalid:
        return False


def read_original(path: Path, image_id: str, how: Preprocess) -> np.ndarray:
    """read() of an image of a dataset; Invalid, too, where the file is not the one that was imported."""
    try:
        data = storage.local(path, storage.PATIENT).read_bytes()
    except OSError as e:
        raise Invalid(f"The file cannot be read: {e.strerror}.", "It may have been moved or deleted; import it again.") from None
    picture = open_picture(data, how.srgb, how.bits)
    if (
        _id(data) != image_id and array_id(np.asarray(picture)) != image_id and not is_original(data, image_id)
    ):  # the last decodes once more
        raise Invalid("It is not the file that was imported.", "Import that one again, or bring it back from a backup.")
    return pixels(picture, how)


class ThumbPack:
    """One file of thumbnails per dataset, appended to at import; a thumbnail is found by offset and size alone.

    Object storage cannot append: there, and in a folder that is or was a cache of it, each append is a file of its own, OFFSET-SIZE,
    which goes on where the pack and the files before it end.
    """

    def __init__(self, folder: Path, dataset_id: int) -> None:
        self.path = folder / f"{dataset_id}.pack"
        self.slices = folder / str(dataset_id)

    def append(self, thumbs: list[bytes], behind: int = 0) -> list[int]:
        """Appends the thumbnails in one write and returns their offsets.

        behind: where those end that rows name. A pack that ends before was evicted, or is on another machine.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        patience = storage.SOON if len(thumbs) == 1 else storage.PATIENT
        stored, name = storage.names(self.slices, patience), ""
        with open(self.path.with_suffix(".lock"), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed: a review may append during an import
            offset = self.path.stat().st_size if self.path.exists() else 0
            if storage.on() or self.slices.is_dir() or offset < behind:
                there = slices((*(os.listdir(self.slices) if self.slices.is_dir() else ()), *stored))
                offset = max(offset, behind, *(sum(place(name)) for name in there))
                name = slice_name(offset, sum(map(len, thumbs)))
                store_original(self.slices, name, b"".join(thumbs))
            else:
                with open(self.path, "ab") as f:
                    f.write(b"".join(thumbs))
        if name:
            storage.keep([self.slices / name], patience)  # who else appends need not wait for it
        offsets = []
        for thumb in thumbs:
            offsets.append(offset)
            offset += len(thumb)
        return offsets

    def read(self, offset: int, size: int) -> bytes:
        """NotFound for what lies beyond the file, or in none."""
        with suppress(FileNotFoundError), open(self.path, "rb") as f:
            if 0 < size <= os.fstat(f.fileno()).st_size - offset:
                return os.pread(f.fileno(), size, offset)
        data = b""
        while len(data) < size and (part := self._in_slice(offset + len(data), size - len(data))):
            data += part
        if not data or len(data) < size:
            raise NotFound("This thumbnail does not exist.", "Reload the page.")
        return data

    def _in_slice(self, offset: int, most: int) -> bytes:
        """What the file that holds the offset has from there on; b"" where none does."""
        for names in (_slices_here, _slices_stored):
            there = names(self.slices)
            i = bisect.bisect(there, f"{offset:015}-~") - 1
            if i >= 0 and offset < sum(place(there[i])):
                with suppress(FileNotFoundError), open(storage.local(self.slices / there[i]), "rb") as f:
                    return os.pread(f.fileno(), most, offset - place(there[i])[0])
        return b""


def slice_name(offset: int, size: int) -> str:
    return f"{offset:015}-{size}"


def slices(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if storage.SLICE.fullmatch(name))


def place(name: str) -> tuple[int, int]:
    """Offset and size of a slice by its name."""
    offset, _, size = name.partition("-")
    return int(offset), int(size)


def is_whole_slice(path: Path) -> bool:
    return bool(storage.SLICE.fullmatch(path.name)) and path.stat().st_size == place(path.name)[1]


def _slices_here(folder: Path) -> list[str]:
    return _named(folder, folder.stat().st_mtime_ns) if folder.is_dir() else []


@lru_cache(maxsize=64)
def _named(folder: Path, _mtime_ns: int) -> list[str]:
    return slices(os.listdir(folder))


def _slices_stored(folder: Path) -> list[str]:
    return _listed(folder, int(time.monotonic() / FRESH)) if storage.on() else []


@lru_cache(maxsize=64)
def _listed(folder: Path, _now: int) -> list[str]:
    return slices(storage.names(folder))


def pixels(picture: Pillow.Image, how: Preprocess) -> np.ndarray:
    """What the network receives before normalisation: (channels, height, width) uint8, of one of shapes(how).

    The shorter side is resized to how.resize (bilinear, antialiased), then the centre square is cut out. Of a picture
    that may keep its shape, the nearest shape is filled and what stands out is cut off.
    """
    mode = "L" if how.channels == 1 else "RGB"
    picture = picture if picture.mode == mode else picture.convert(mode)
    width, height = picture.size
    if how.rectangles:
        high, wide = min(shapes(how), key=lambda s: abs(math.log(s[1] / s[0] * height / width)))
        scale = max(wide / width, high / height)
    else:
        high, wide = how.crop, how.crop
        scale = how.resize / min(width, height)
    size = (max(wide, round(width * scale)), max(high, round(height * scale)))
    left, top = (size[0] - wide) // 2, (size[1] - high) // 2
    right, bottom = left + wide, top + high
    if size == picture.size:
        picture = picture.crop((left, top, right, bottom))
    else:  # the cut alone is resized: the whole of a picture of 1 × 4000 would fill the memory
        x, y = width / size[0], height / size[1]
        box = (left * x, top * y, min(right * x, width), min(bottom * y, height))
        picture = picture.resize((wide, high), Pillow.Resampling.BILINEAR, box=box)
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


MAX_SIDE = 2048  # pixels a network may ask for; the largest that Loupe trains takes 1024


def possible(how: Preprocess) -> bool:
    """Whether its numbers are those of a picture: what comes from outside may hold any, and memory is taken by them."""
    sizes = how.channels in (1, 3) and 1 <= how.crop <= MAX_SIDE and 1 <= how.resize <= 2 * how.crop
    return sizes and how.bits in BITS and len(how.mean) == len(how.std) == how.channels and all(s > 0 for s in how.std)


RATIOS = (1 / 2, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 2.0)  # of width to height
MULTIPLE = 32  # pixels: what five halvings leave whole


def shapes(how: Preprocess) -> list[tuple[int, int]]:
    """The (height, width) that pixels() can have."""
    if not how.rectangles:
        return [(how.crop, how.crop)]

    def side(pixels: float) -> int:
        return max(1, round(pixels / MULTIPLE)) * MULTIPLE

    return [(side(how.crop / math.sqrt(r)), side(how.crop * math.sqrt(r))) if r != 1 else (how.crop, how.crop) for r in RATIOS]


def as_seen(array: np.ndarray) -> np.ndarray:
    """(C, H, W) uint8 of pixels() as an (H, W, 3) picture for people."""
    return np.repeat(array[0][:, :, None], 3, axis=2) if array.shape[0] == 1 else array.transpose(1, 2, 0)
