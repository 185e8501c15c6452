"""Reading JPEGs: python -m tests.benchmarks reading.

What an import does with a file beside decoding, hashing and shrinking it by Pillow alone; and what a network gets of it beside
torchvision's transforms on PIL and torchvision's own decoder. Images for each second of one processor, so that others on the machine
change little.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.nn import functional as F
from torchvision.io import decode_jpeg
from torchvision.transforms import CenterCrop, Compose, Resize

from core.data import images
from core.types import Preprocess
from tests.benchmarks.rows import Row, in_turns

COUNT = 200
SIZE = (400, 534)
HOW = Preprocess(3, 256, 224, (0.0,) * 3, (1.0,) * 3, srgb=True)


def photos(count: int) -> list[bytes]:
    """Pieces of two real photographs, no two equal."""
    found = list[bytes]()
    for number in range(count):
        whole = Image.fromarray(load_sample_images().images[number % 2])
        left, wide, out = number // 2 % 320, 300 + number // 640, io.BytesIO()
        whole.crop((left, 0, left + wide, 427)).resize(SIZE).save(out, "JPEG", quality=88)
        found.append(out.getvalue())
    return found


def plain_import(data: bytes) -> bytes:
    hashlib.sha256(data).hexdigest()
    picture, out = Image.open(io.BytesIO(data)).convert("RGB"), io.BytesIO()
    picture.thumbnail((images.THUMB_SIDE, images.THUMB_SIDE), Image.Resampling.BILINEAR)
    picture.save(out, "JPEG", quality=82)
    return out.getvalue()


_transforms = Compose([Resize(HOW.resize), CenterCrop(HOW.crop)])


def by_transforms(data: bytes) -> np.ndarray:
    return np.asarray(_transforms(Image.open(io.BytesIO(data)).convert("RGB")))


def by_torchvision(data: bytes) -> torch.Tensor:
    """Its bytes differ from Pillow's by 1 of 255 in about one of a hundred."""
    picture = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))[None]
    scale = HOW.resize / min(picture.shape[2:])
    size = [round(side * scale) for side in picture.shape[2:]]
    top, left = ((side - HOW.crop) // 2 for side in size)
    whole = F.interpolate(picture, size, mode="bilinear", antialias=True)
    return whole[0, :, top : top + HOW.crop, left : left + HOW.crop].contiguous()


WORK: dict[str, tuple[str, dict[str, Callable[[bytes], object]]]] = {
    "what an import does with a JPEG": (
        "500 images/s, 0.83 of it alone",
        {"Loupe": images.examine, "decode + hash + thumbnail": plain_import},
    ),
    "a JPEG as a network's input": (
        "",
        {"Loupe": lambda data: images.read(data, HOW), "transforms": by_transforms, "torchvision.io": by_torchvision},
    ),
}


def measure() -> Iterator[Row]:
    files, threads = photos(COUNT), torch.get_num_threads()
    torch.set_num_threads(1)

    def rate(read: Callable[[bytes], object]) -> float:
        begun = time.process_time()
        for data in files:
            read(data)
        return len(files) / (time.process_time() - begun)

    for what, (wanted, ways) in WORK.items():
        n = f"{COUNT} JPEGs of {SIZE[0]} × {SIZE[1]}, for each second of one core"
        yield Row(what, n, wanted, "images/s", in_turns({name: partial(rate, read) for name, read in ways.items()}))
    torch.set_num_threads(threads)
