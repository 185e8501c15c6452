"""Reading JPEGs: python -m tests.benchmarks reading.

What an import does with a file beside decoding, hashing and shrinking it by Pillow alone; and what a network gets of it beside
torchvision's transforms on PIL and torchvision's own decoder. Images for each second of one processor, so that others on the machine
change little. Last a whole import, from the folder to the database, beside the same plain work in as many processes, on the clock.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

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

ROOT = Path(__file__).parents[2]
COUNT, IMPORTED = 200, 3000
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


IMPORT = """
import sys, time
from pathlib import Path
from core.data import imports, sources
begun = time.perf_counter()
imports.import_now("photographs", sources.at(Path(sys.argv[1])), "benchmark")
print(time.perf_counter() - begun)
"""
PLAIN = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tests.benchmarks.reading import plain_file
begun = time.perf_counter()
with ProcessPoolExecutor(os.cpu_count()) as pool:
    list(pool.map(plain_file, Path(sys.argv[1]).rglob("*.jpg"), chunksize=32))
print(time.perf_counter() - begun)
"""


def plain_file(path: Path) -> bytes:
    return plain_import(path.read_bytes())


def whole(code: str, folder: Path) -> float:
    """Images per second, in a process and a data folder of their own."""
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "LOUPE_HOME": home}
        done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return IMPORTED / float(done.stdout)


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
        "0.83 of it alone",
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
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, data in enumerate(photos(IMPORTED)):
            (folder / str(number % 4)).mkdir(exist_ok=True)
            (folder / str(number % 4) / f"{number}.jpg").write_bytes(data)
        both = {"Loupe": partial(whole, IMPORT, folder), "decode + hash + thumbnail": partial(whole, PLAIN, folder)}
        n = f"{IMPORTED:,} JPEGs of {SIZE[0]} × {SIZE[1]}, {os.cpu_count()} cores"
        yield Row("an import, from the folder to the database", n, "500 images/s, 0.83 of it alone", "images/s", in_turns(both))
