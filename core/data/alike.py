"""Which images of a dataset are near copies of one another, by small grey pictures of their thumbnails: whole groups share a split."""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from core.data import images
from core.settings import settings

# Measured on 24 photos with five copies each (cut by up to 4 %, brighter by up to 4 %, JPEG): copies correlate by 0.93 and more,
# different ones by 0.51 at most. Among 600 cats and dogs no pair is above the bound, among 3,000 of CIFAR-10 14, of 1,797 digits 10.
GREY_SIDE = 16  # pixels: the side of the small grey picture
SAME_PIXELS = 0.9  # correlation, at least
# Handwritten digits fill the same few pixels: different ones correlate by up to 0.996. So the bound also lies this many
# standard deviations (of Fisher's z) above what is usual among the dataset's own pairs: 0.989 there, 16 pairs of 1.6 million.
UNUSUAL = 6.0
ENOUGH = 30  # images from which the dataset's own pairs say what is usual
SAME_BRIGHTNESS = 0.15  # of 1
BLOCK = 2048  # images of a block of a matrix product
ROUGH = 8  # pixels: the side of the rough picture that is compared first
ID_BYTES = 16
ROW = ID_BYTES + GREY_SIDE * GREY_SIDE


def small_grey(thumb: bytes) -> bytes:
    """GREY_SIDE² pixels of a thumbnail."""
    return images.small_grey(thumb, GREY_SIDE)


def usual_bound(grey: np.ndarray, pairs: int = 200_000) -> float:
    """The correlation from which two small grey pictures of this dataset are the same; grey: (N, D), each of mean 0 and length 1."""
    if len(grey) < ENOUGH:
        return SAME_PIXELS
    drawn = np.random.default_rng(0).integers(0, len(grey), (2, pairs))
    a, b = drawn[:, drawn[0] != drawn[1]]
    z = np.concatenate([np.einsum("nd,nd->n", grey[i], grey[j]) for i, j in zip(np.array_split(a, 20), np.array_split(b, 20), strict=True)])
    z = np.arctanh(z.clip(-0.99999, 0.99999))
    middle, high = np.quantile(z, (0.5, 0.95))  # not the very highest: those may be duplicates
    return max(SAME_PIXELS, float(np.tanh(middle + UNUSUAL * (high - middle) / 1.645)))


def _paths(dataset_id: int) -> tuple[Path, Path]:
    """Ids and small grey pictures in rows of one length; and lines of two ids that are near copies."""
    return settings().thumbs / f"{dataset_id}.grey", settings().thumbs / f"{dataset_id}.alike"


def _unit(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, GREY_SIDE²) uint8 as pictures of mean 0 and length 1, and their brightness 0..1; one of one colour becomes 0, like no other."""
    unit = grey.astype(np.float32) / 255
    bright = unit.mean(1)
    unit -= bright[:, None]
    length = np.linalg.norm(unit, axis=1, keepdims=True)
    flat = length < GREY_SIDE / 255  # less than one step on average: its pattern is that of rounding
    return np.where(flat, 0, unit / np.where(flat, 1, length)).astype(np.float32), bright


@dataclass(frozen=True, eq=False)
class _Block:
    """Of up to BLOCK images: what is compared; 520 bytes of each."""

    grey: np.ndarray  # (B, GREY_SIDE²) uint8
    # The picture in fewer pixels, as its sum and its difference with its mirror image: the product of two such pictures is that of
    # their sums plus that of their differences, and if one is mirrored, minus it.
    even: np.ndarray  # (B, ROUGH² / 2 + 1) float32; last the length of what fewer pixels leave out
    odd: np.ndarray  # (B, ROUGH² / 2) float32
    bright: np.ndarray  # (B,) 0..1

    @classmethod
    def of(cls, grey: np.ndarray) -> _Block:
        """Of (B, GREY_SIDE²) uint8."""
        unit, bright = _unit(grey)
        fold = GREY_SIDE // ROUGH
        rough = unit.reshape(-1, ROUGH, fold, ROUGH, fold).sum((2, 4)) / fold
        left, right = rough[..., : ROUGH // 2], rough[..., : ROUGH // 2 - 1 : -1]
        even, odd = (half.reshape(-1, ROUGH * ROUGH // 2) / np.sqrt(np.float32(2)) for half in (left + right, left - right))
        left_out = np.sqrt(np.maximum((unit**2).sum(1) - (rough**2).sum((1, 2)), 0))
        return cls(grey, np.concatenate([even, left_out[:, None]], 1), odd, bright)

    def __add__(self, other: _Block) -> _Block:
        return _Block(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


class Alike:
    """The small grey pictures of a dataset; 100,000 take 70 MB."""

    def __init__(self, dataset_id: int) -> None:
        self.rows, self.pairs = _paths(dataset_id)
        data = self.rows.read_bytes() if self.rows.exists() else b""
        table = np.frombuffer(data[: len(data) // ROW * ROW], np.uint8).reshape(-1, ROW)
        self.ids = [bytes(row).decode("ascii") for row in table[:, :ID_BYTES]]
        self.seen = set(self.ids)
        self.blocks = [_Block.of(table[start : start + BLOCK, ID_BYTES:]) for start in range(0, len(table), BLOCK)]
        group, place = groups(dataset_id), {i: n for n, i in enumerate(self.ids)}
        self.group = np.array([place.get(group.get(i, i), n) for n, i in enumerate(self.ids)], np.int64)  # the place of one of its images
        self.bound, self.bound_of = SAME_PIXELS, 0  # and of how many images it is

    def add(self, greys: Mapping[str, bytes]) -> dict[str, list[str]]:
        """Takes the images in, and says of each that is a near copy of what is here, or came before it: of one image of each group.

        greys: the small grey picture by the image's id.
        """
        fresh = {i: grey for i, grey in greys.items() if i not in self.seen}
        if not fresh:
            return {}
        grey = np.frombuffer(b"".join(fresh.values()), np.uint8).reshape(len(fresh), -1)
        first, new = len(self.ids), _Block.of(grey)
        self.ids += fresh
        self.seen |= fresh.keys()
        self.group = np.concatenate([self.group, np.arange(first, len(self.ids))])
        if self.blocks and len(self.blocks[-1].bright) + len(grey) <= BLOCK:
            self.blocks[-1] += new
        else:
            self.blocks.append(new)
        found: dict[str, list[str]] = {}
        with threadpool_limits(1):  # the decoders have the other processors: two threads took 16 s of them for 20,000 images, one 7
            for later, earlier in self._joined(first, new):
                found.setdefault(self.ids[later], []).append(self.ids[earlier])
        with _appending(self.rows, ROW) as f:
            f.write(b"".join(i.encode("ascii") + row.tobytes() for i, row in zip(fresh, grey, strict=True)))
        if found:
            with _appending(self.pairs, 2 * ID_BYTES + 2) as f:
                f.write("".join(f"{one} {other}\n" for one, others in found.items() for other in others).encode("ascii"))
        return found

    def _joined(self, first: int, new: _Block) -> Iterator[tuple[int, int]]:
        """(later, earlier) places of near copies, the later one of the new from first on: a pair for each two groups that become one.

        So a thousand copies are 999 pairs. A mirrored copy is a copy, too. The rough pictures are compared first: their product is
        never less than the correlation (Cauchy and Schwarz), at an eighth of the cost.
        """
        if len(self.ids) > 1.2 * self.bound_of:
            step = -(-len(self.ids) // BLOCK)
            self.bound = usual_bound(_unit(np.concatenate([b.grey[::step] for b in self.blocks]))[0], 20_000)
            self.bound_of = len(self.ids)
        unit, start = _unit(new.grey)[0], 0
        mirrored = unit.reshape(-1, GREY_SIDE, GREY_SIDE)[:, :, ::-1].reshape(unit.shape)
        for block in self.blocks:
            product = new.odd @ block.odd.T
            np.abs(product, out=product)
            product += new.even @ block.even.T
            near = product > self.bound
            for row in np.flatnonzero(near.any(1)).tolist():
                later, places = first + row, np.flatnonzero(near[row])
                places = places[(start + places < later) & (np.abs(block.bright[places] - new.bright[row]) < SAME_BRIGHTNESS)]
                places = places[self.group[start + places] != self.group[later]]
                if len(places):
                    some = _unit(block.grey[places])[0]
                    places = places[np.maximum(some @ unit[row], some @ mirrored[row]) > self.bound]
                for group, at in zip(*np.unique(self.group[start + places], return_index=True), strict=True):
                    self.group[self.group == self.group[later]] = group
                    yield later, start + int(places[at])
            start += len(block.bright)


@contextmanager
def _appending(path: Path, row: int) -> Iterator[io.BufferedWriter]:
    """Open at the end of its last whole row, for one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        f.truncate(f.seek(0, os.SEEK_END) // row * row)
        f.seek(0, os.SEEK_END)
        yield f


def compared(dataset_id: int) -> set[str]:
    """The ids of the images that Alike has taken in, without their pictures."""
    path = _paths(dataset_id)[0]
    count = path.stat().st_size // ROW if path.exists() else 0
    if not count:
        return set()
    ids = np.memmap(path, np.uint8, "r", shape=(count, ROW))[:, :ID_BYTES].tobytes().decode("ascii")
    return {ids[start : start + ID_BYTES] for start in range(0, len(ids), ID_BYTES)}


def groups(dataset_id: int) -> Mapping[str, str]:
    """The group of each image that has a near copy, as far as they were compared."""
    path = _paths(dataset_id)[1]
    return _groups(path, path.stat().st_size) if path.exists() else {}


@lru_cache(maxsize=8)
def _groups(path: Path, _size: int) -> Mapping[str, str]:
    first: dict[str, str] = {}

    def root(one: str) -> str:
        while first[one] != one:
            first[one] = first[first[one]]
            one = first[one]
        return one

    for line in path.read_text(encoding="ascii").splitlines():
        if len(line) == 2 * ID_BYTES + 1:  # a crash may leave half a line
            one, other = line[:ID_BYTES], line[ID_BYTES + 1 :]
            first.setdefault(one, one)
            first.setdefault(other, other)
            first[root(one)] = root(other)
    return {i: root(i) for i in first}
