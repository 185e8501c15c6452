"""Runs model.onnx on pictures: python preprocess.py PICTURE …  (needs numpy, pillow and onnxruntime; the files beside it are read)"""

import contextlib
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

with contextlib.suppress(ImportError):  # pip install pillow-heif, to read heic
    import pillow_heif

    pillow_heif.register_heif_opener()

HERE = Path(__file__).resolve().parent


def upright(file: str | Path, how: dict[str, Any] | None = None) -> Image.Image:
    """The file's first picture, turned as its EXIF says, grey (L) or in colour (RGB); what is transparent becomes white.

    Where the network was trained so (how["srgb"]), colours are converted to sRGB by the file's profile.
    """
    how = how or {}
    with Image.open(file) as opened:
        if opened.width * opened.height > 50_000_000:
            opened.draft(None, (opened.width // 2, opened.height // 2))  # a large JPEG is decoded at half its sides
        picture = ImageOps.exif_transpose(opened)
        picture.load()
    profile = picture.info.get("icc_profile") if how.get("srgb") else None
    if picture.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):  # 16 bits per pixel become 8
        values = np.asarray(picture, np.float64)
        if picture.mode != "F" and values.min() >= 0 and values.max() <= 65535:
            values = (values / (((1 << how.get("bits", 16)) - 1) / 255)).clip(0, 255)  # 12 bits of many cameras: 4095 is white
        else:  # other numbers are stretched over their own range
            low, high = np.nanmin(values), np.nanmax(values)
            values = np.nan_to_num((values - low) / max(high - low, 1e-12) * 255)
        return as_srgb(Image.fromarray(values.round().astype(np.uint8)), profile)
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or ("transparency" in picture.info and picture.mode != "1"):
        grey = picture.mode in ("LA", "La", "L")
        rgba = picture.convert("RGBA")
        white = Image.new("RGB", rgba.size, "white")
        white.paste(as_srgb(rgba.getchannel("R") if grey else rgba.convert("RGB"), profile), mask=rgba.getchannel("A"))
        return white.convert("L") if grey else white
    if picture.mode == "1":
        return picture.convert("L")
    if picture.mode == "CMYK":
        return as_srgb(picture, profile).convert("RGB")
    return as_srgb(picture if picture.mode == "L" else picture.convert("RGB"), profile)


def as_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture of mode L, RGB or CMYK in sRGB; a profile that is broken, or changes no colour by more than 1, is passed over."""
    if not profile:
        return picture
    try:
        source, mode = ImageCms.ImageCmsProfile(io.BytesIO(profile)), picture.mode
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode != "CMYK":
            steps = np.linspace(0, 255, 9).round().astype(np.uint8)
            every = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
            before = Image.fromarray(every if mode == "RGB" else np.arange(256, dtype=np.uint8)[None])
            changed = np.asarray(transform.apply(before), np.int16) - np.asarray(before.convert("RGB"), np.int16)
            if np.abs(changed).max() <= 1:
                return picture
        converted = transform.apply(picture)
        return converted.convert("L") if mode == "L" else converted
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return picture


def pixels(picture: Image.Image, how: dict[str, Any]) -> np.ndarray:
    """(C, H, W) uint8 of one of the (H, W) of how["shapes"], bilinear and antialiased; what stands out is cut off on both sides.

    The shorter side is resized to how["resize"] first; a picture that may keep its shape ("rectangles") fills the nearest one.
    """
    picture = picture.convert("L" if how["channels"] == 1 else "RGB")
    width, height = picture.size
    high, wide = min(how["shapes"], key=lambda s: abs(math.log(s[1] / s[0] * height / width)))
    scale = max(wide / width, high / height) if how["rectangles"] else how["resize"] / min(width, height)
    new = max(wide, round(width * scale)), max(high, round(height * scale))
    left, top = (new[0] - wide) // 2, (new[1] - high) // 2
    if new == picture.size:
        picture = picture.crop((left, top, left + wide, top + high))
    else:  # only what is kept is resized
        x, y = width / new[0], height / new[1]
        box = (left * x, top * y, min((left + wide) * x, width), min((top + high) * y, height))
        picture = picture.resize((wide, high), Image.Resampling.BILINEAR, box=box)
    values = np.asarray(picture)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def normalised(values: np.ndarray, how: dict[str, Any]) -> np.ndarray:
    """(C, H, W) float32: (value / 255 - mean) / std for each channel."""
    mean, std = (np.array(how[name], np.float64)[:, None, None] for name in ("mean", "std"))
    return values.astype(np.float32) * (1 / (255 * std)).astype(np.float32) + (-mean / std).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N, classes) numbers to probabilities that add up to 1."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


def images(files: list[str], how: dict[str, Any]) -> np.ndarray:
    """(N, C, H, W) float32: what model.onnx takes as "images"; the pictures have one shape."""
    return np.stack([normalised(pixels(upright(file, how), how), how) for file in files])


def main(files: list[str]) -> None:
    import onnxruntime

    how = json.loads((HERE / "preprocessing.json").read_text(encoding="utf-8"))
    labels = (HERE / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1]  # one a line, in the order of the logits
    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    for file in files:
        (found,) = softmax(session.run(["logits"], {"images": images([file], how)})[0])
        print(file)
        for i in np.argsort(-found, kind="stable")[:5]:
            print(f"  {found[i]:7.2%}  {labels[i]}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
