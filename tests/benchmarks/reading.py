"""Reading JPEGs, side by side in one run: python tests/benchmarks/reading.py [--images N].

What an import does with a file beside decoding, hashing and shrinking it by Pillow alone; and what a network gets of it beside
torchvision's transforms on PIL and torchvision's own decoder. Images for each second of one processor, so that others on the machine
change little; medians of ROUNDS interleaved rounds (lowest to highest).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.nn import functional as F
from torchvision.io import decode_jpeg
from torchvision.transforms import CenterCrop, Compose, Resize

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.data import images
from core.types import Preprocess

ROUNDS = 5
SIZE = (400, 534)
HOW = Preprocess(3, 256, 224, (0.0,) * 3, (1.0,) * 3, srgb=True)


def photos(count: int) -> list[bytes]:
    """Pieces of two real photographs, no two equal."""
    random, found = np.random.default_rng(0), list[bytes]()
    for number in range(count):
        whole = Image.fromarray(load_sample_images().images[number % 2])
        left, out = int(random.integers(0, 320)), io.BytesIO()
        whole.crop((left, 0, left + 320, 427)).resize(SIZE).save(out, "JPEG", quality=88)
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


WORK: dict[str, dict[str, Callable[[bytes], object]]] = {
    "import": {"Loupe": images.examine, "decode + hash + thumbnail": plain_import},
    "network's input": {"Loupe": lambda data: images.read(data, HOW), "transforms": by_transforms, "torchvision.io": by_torchvision},
}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--images", type=int, default=200)
    files = photos(ask.parse_args().images)
    torch.set_num_threads(1)
    print(
        f"{len(files)} JPEGs of {SIZE[0]} × {SIZE[1]}, Pillow {Image.__version__}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    for what, ways in WORK.items():
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, read in ways.items():
                begun = time.process_time()
                for data in files:
                    read(data)
                rates[name].append(len(files) / (time.process_time() - begun))
        loupe = statistics.median(rates["Loupe"])
        for name, found in rates.items():
            middle = statistics.median(found)
            print(f"{what:>16} {name:<26} {middle:6.0f} ({min(found):.0f} to {max(found):.0f}) · Loupe is {loupe / middle:.2f} x")


if __name__ == "__main__":
    main()
