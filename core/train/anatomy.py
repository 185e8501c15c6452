"""What a network looks like inside: asked of the model worker, and gathered into blocks that can be drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from core.catalog import layers, networks
from core.errors import AppError
from core.runs import launch, remote
from core.types import RunConfig

DRAWN = 16  # blocks at most; of a network with more layers, those of one picture size are one block
STAGES = 4  # parts of several layers, from which on they are drawn as they are named
MAIN = ("convolution", "dense", "pooling", "attention", "output")  # other layers belong to the one before


@dataclass(frozen=True)
class Row:
    """One layer, in the order they run."""

    name: str  # module path
    kind: str
    detail: str
    shape: tuple[int, ...]  # what comes out of it for one picture
    parameters: int


@dataclass(frozen=True)
class Anatomy:
    """A network taken apart."""

    rows: tuple[Row, ...]
    channels: int  # of the picture
    side: int  # pixels
    parameters: int
    trained: int  # parameters that learn, at first
    multiply_adds: int  # of convolutions and dense layers, for one picture


@dataclass(frozen=True)
class Block:
    """What is drawn as one: its height shows the side, its width the channels."""

    title: str
    kind: str
    side: int
    channels: int
    layers: int
    parameters: int


def ask(config: RunConfig, seen: tuple[tuple[int, int, int], ...], classes: int) -> Future[Any]:
    """Queues the question in the model worker, once; read it with answer()."""
    how = networks.preprocess_for(config, seen)
    return _asked(config.architecture, config.layers, config.output, config.freeze, how.channels, how.crop, classes)


@lru_cache(maxsize=64)
def _asked(*key: Any) -> Future[Any]:
    return launch.submit(remote.anatomy.describe, *key)


def done(future: Future[Any], seconds: float) -> bool:
    """Whether the answer is there, or comes within so many seconds."""
    return bool(wait([future], seconds).done)


def answer(future: Future[Any]) -> Anatomy:
    """Invalid if the network cannot take pictures of this size."""
    try:
        found = dict(launch.result(future))  # the answer is kept, and given again
    except AppError:
        _asked.cache_clear()  # the worker may have died: it is asked anew
        raise
    rows = tuple(Row(**{**row, "shape": tuple(row["shape"])}) for row in found.pop("rows"))
    return Anatomy(rows, **found)


# Blocks -------------------------------------------------------------------------------------------


def blocks(network: Anatomy) -> list[Block]:
    """The network as at most about DRAWN blocks: layer by layer, else stage by stage."""
    rows: list[Row] = []
    extra = Counter[int]()  # parameters of what belongs to a block
    geometry: list[tuple[int, int]] = []  # (side, channels) of what comes out at last
    for row in network.rows:
        if row.kind in MAIN and row.shape:
            rows.append(row)
            geometry.append(_geometry(row.shape))
        elif geometry and row.shape and _geometry(row.shape)[0] == geometry[-1][0] > 1:
            geometry[-1] = _geometry(row.shape)  # after DenseNet's joining together there are more channels
        extra[max(len(rows) - 1, 0)] += row.parameters
    keys = _keys(rows, geometry)
    found = []
    for _, some in groupby(range(len(rows)), key=lambda i: keys[i]):
        places = list(some)
        side, channels = next((geometry[i] for i in reversed(places) if geometry[i][0] > 1), geometry[places[-1]])
        kinds = Counter[str]()
        for i in places:
            kinds[rows[i].kind] += 1 + extra[i]
        found.append(
            Block(
                _title([rows[i] for i in places]),
                kinds.most_common(1)[0][0],
                side,
                channels,
                len(places),
                sum(extra[i] for i in places),
            )
        )
    return found


def _keys(rows: list[Row], geometry: list[tuple[int, int]]) -> list[Any]:
    """Neighbours with the same key are one block."""
    if len(rows) <= DRAWN:
        return list(range(len(rows)))
    # Squeeze-and-excitation looks at 1 × 1 on the way: such rows belong to the stage around them.
    last = max((i for i, (side, _) in enumerate(geometry) if side > 1), default=-1)
    sized: list[Any] = []
    around = 0
    for i, (side, _) in enumerate(geometry):
        around = side if side > 1 else around
        sized.append(around if i <= last else f"end {i}")
    parts = [row.name.split(".") for row in rows]
    tops = [part[0] for part in parts]
    if sum(n > 1 for n in Counter(tops).values()) >= STAGES:
        return tops  # its parts are its stages, as in ResNet
    if STAGES < sum(1 for _ in groupby(sized)) <= DRAWN:
        return sized
    below = [tuple(part[:2]) for part in parts]  # transformers: one size from end to end, block after block
    return below if sum(1 for _ in groupby(below)) <= 2 * DRAWN else tops


def blocks_of_own(rows: Sequence[layers.Row]) -> list[Block]:
    """The same of a network that is being built, as far as its shapes are known."""
    named = [Row(row.title.partition(",")[0].partition(":")[0], row.kind, "", row.shape, row.parameters) for row in rows]
    return blocks(Anatomy(tuple(named), 0, 0, 0, 0, 0))


def _geometry(shape: tuple[int, ...]) -> tuple[int, int]:
    """(side, channels) of (channels, h, w), (h, w, channels), (tokens, channels) or (units,)."""
    if len(shape) == 1:
        return 1, shape[0]
    if len(shape) == 2:
        return max(1, round(shape[0] ** 0.5)), shape[1]
    *_, first, second, third = shape
    return (first, third) if first == second != third else (second, first)


def _title(rows: list[Row]) -> str:
    """One layer by its name, several by what their names share."""
    if len(rows) == 1:
        return rows[0].name
    tops = Counter(row.name.partition(".")[0] for row in rows)
    top = tops.most_common(1)[0][0]
    parts = {row.name.split(".")[1] for row in rows if row.name.startswith(f"{top}.") and row.name.split(".")[1].isdigit()}
    if len(parts) == 1:
        return f"{top}.{parts.pop()}"
    return f"{top}, {len(parts)} parts" if parts else top
