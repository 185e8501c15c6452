"""Pixels and features as rows of one file, and the tensors a network learns from."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

import filelock
import numpy as np
import torch
from torch import Tensor

from core import space, storage
from core.data import images
from core.errors import AppError, Invalid, Unavailable, Unwritable
from core.ml.devices import free_memory, whole_memory
from core.runs import runs
from core.settings import settings
from core.types import Preprocess, Skipped, SnapshotRow

Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # stored rows and labels to normalised ones
Tick = Callable[[int, int], None]  # (done, total); it may raise Stopped
Computed = Iterable[tuple[Sequence[str], np.ndarray]]  # some of the ids, and one row for each

ID_BYTES = 16
AT_ONCE = 256  # rows that one makes before another who wants the same ones has its turn
CHUNK = 512  # images decoded between two reports of progress and two appends
RESIDENT_BYTES = 400_000_000  # of a split that lies in the machine's own memory: what is mapped is as quick, and is given back when needed
BLOCK_BYTES, WINDOW = 8_000_000, 16  # of rows that lie together on the disk: what Linux reads around one at most; blocks shuffled as one
BLOCK = 16  # images a thread takes at a time: for tiny ones the handing over costs as much as the decoding


class RowCache:
    """An append-only, memory-mapped file of rows of one shape, found by image id.

    Rows reach the disk before their ids do, so a crash leaves a tail that is ignored and cut off by the next append. While this object
    or a map that it gave is there, no process evicts them (core.space).
    """

    def __init__(self, folder: Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = folder / f"{name}.rows"
        self.ids = folder / f"{name}.ids"
        self.lock = filelock.FileLock(folder / f"{name}.lock")
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.row_bytes = int(np.prod(shape)) * self.dtype.itemsize
        self.file: IO[bytes] | None = None

    def use(self, new: bool = False) -> None:
        """Opens the rows, if there are any, under a shared lock: a map has the same open file, so the lock lasts as long as the map."""
        with self.lock:
            if self.file is None and (new or self.rows.exists()):
                self.file = open(self.rows, "r+b" if self.rows.exists() else "w+b")  # noqa: SIM115
                fcntl.flock(self.file, fcntl.LOCK_SH)
                os.utime(self.rows)  # the last use

    def __len__(self) -> int:
        sizes = [_size(path) for path in (self.rows, self.ids)]
        return min(sizes[0] // self.row_bytes, sizes[1] // ID_BYTES)

    def append(self, ids: Sequence[str], rows: np.ndarray) -> None:
        if not len(ids):
            return
        data = b"".join(image_id.encode().ljust(ID_BYTES) for image_id in ids)
        if len(data) != ID_BYTES * len(rows):
            raise ValueError(f"{len(ids)} ids of up to {ID_BYTES} characters were expected for {len(rows)} rows")
        with self.lock:
            self.use(new=True)
            usable = len(self)
            try:
                _append(self.rows, usable * self.row_bytes, np.ascontiguousarray(rows, self.dtype).tobytes())
                _append(self.ids, usable * ID_BYTES, data)
            except OSError:  # what is of no use would go on filling the disk
                for path, size in ((self.rows, usable * self.row_bytes), (self.ids, usable * ID_BYTES)):
                    with suppress(OSError):
                        os.truncate(path, size)
                raise

    def read(self) -> tuple[np.ndarray, dict[str, int]]:
        """All rows as a read-only memory map, and where each id's row is."""
        self.use()
        usable = len(self)
        if self.file is None or not usable:
            return np.empty((0, *self.shape), self.dtype), {}
        with open(self.ids, "rb") as f:
            data = f.read(usable * ID_BYTES).decode()
        where = {data[i : i + ID_BYTES].rstrip(): i // ID_BYTES for i in range(0, len(data), ID_BYTES)}
        return np.memmap(self.file, self.dtype, "r", shape=(usable, *self.shape)), where

    def newer(self, known: int) -> list[str]:
        """The ids of the rows from this place on; they are in use from here on."""
        self.use()
        if (usable := len(self)) <= known:
            return []
        with open(self.ids, "rb") as f:
            f.seek(known * ID_BYTES)
            data = f.read((usable - known) * ID_BYTES).decode()
        return [data[i : i + ID_BYTES].rstrip() for i in range(0, len(data), ID_BYTES)]

    def fetch(
        self, ids: Sequence[str], compute: Callable[[list[str]], Computed], progress: Tick = lambda done, total: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """All rows, and the (N,) row of each id: -1 where compute gave none; Unwritable where they exceed LOUPE_CACHE_GB.

        Two who want the same rows make them in turns, each what the other has not made. progress: also called while it waits; it may
        raise Stopped.
        """
        rows, where = self.read()
        if missing := list(dict.fromkeys(i for i in ids if i not in where)):
            self.need(len(missing) * (self.row_bytes + ID_BYTES))
            progress(0, len(missing))
            known, here = len(where), set[str]()
            for start in range(0, len(missing), AT_ONCE):
                done = start
                with self.alone(partial(progress, start, len(missing))):
                    here.update(newer := self.newer(known))
                    known += len(newer)
                    for some, computed in compute([i for i in missing[start : start + AT_ONCE] if i not in here]):
                        self.append(some, computed)
                        progress(done := done + len(some), len(missing))
            rows, where = self.read()
        return rows, np.array([where.get(i, -1) for i in ids], np.int64)

    @contextmanager
    def alone(self, wait: Callable[[], None]) -> Iterator[None]:
        """Nobody else makes rows of it meanwhile; wait: called now and then while another does, and may raise Stopped."""
        line, making = (filelock.FileLock(self.rows.with_suffix(suffix)) for suffix in (".line", ".making"))
        with ExitStack() as held:
            first = held.enter_context(ExitStack())  # in the line: who has just made some waits behind whoever stands there
            for lock, until in ((line, first), (making, held)):
                while not lock.is_locked:
                    with suppress(filelock.Timeout):
                        lock.acquire(timeout=2)
                        until.callback(lock.release)
                        break
                    wait()
            first.close()
            yield

    def need(self, more: int) -> None:
        if space.cache_room(more) < more and (held := space.cached()) + more > (most := space.cache_limit()):
            raise Unwritable(
                f"The features of these images need {more / 1e9:,.1f} GB in the cache. It may hold {most / 1e9:,.0f} GB, of which "
                f"{held / 1e9:,.1f} are in use.",
                f"Set LOUPE_CACHE_GB to {-(-(held + more) // 1_000_000_000)} or more, or wait until the runs that use it have ended.",
            )


def _size(path: Path) -> int:
    """Of the open file: what a shared folder remembers of one may be older than what another machine has appended."""
    with suppress(FileNotFoundError), open(path, "rb") as f:
        return os.fstat(f.fileno()).st_size
    return 0


def _append(path: Path, start: int, data: bytes) -> None:
    with open(path, "r+b" if path.exists() else "w+b") as f:
        f.truncate(start)  # a torn tail
        f.seek(start)
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """As a whole .npz, or not at all."""

    def write(tmp: Path) -> None:
        with open(tmp, "wb") as f:
            np.savez(f, **arrays)

    runs.write_atomically(path, write)


# Pixels -------------------------------------------------------------------------------------------


class Decoded:
    """Rows of which the first lie in the cache, which had no room for the others: they are decoded whenever they are asked for."""

    def __init__(self, rows: np.ndarray, ids: Sequence[str], decode: Callable[[str], np.ndarray]) -> None:
        self.rows, self.ids, self.decode = rows, ids, decode
        self.shape, self.dtype = (len(rows) + len(ids), *rows.shape[1:]), rows.dtype
        self.itemsize, self.decoded = rows.itemsize, len(ids)
        self.pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
        self.begun: dict[int, Future[np.ndarray]] = {}

    def ahead(self, index: np.ndarray) -> None:
        """Begins to decode rows that will be asked for next, while the network learns from those before."""
        for row in index[index >= len(self.rows)].tolist():
            if row not in self.begun:
                self.begun[row] = self.pool.submit(self.decode, self.ids[row - len(self.rows)])

    def __getitem__(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
        index = np.asarray(index)
        found = np.empty((len(index), *self.shape[1:]), self.dtype)
        stored = index < len(self.rows)
        found[stored] = self.rows[index[stored]]
        others = np.flatnonzero(~stored)
        for start in range(0, len(others), CHUNK):
            some = others[start : start + CHUNK]
            self.ahead(index[some])
            for place in some:
                found[place] = self.begun[int(index[place])].result()
            for row in index[some].tolist():
                self.begun.pop(row, None)
        return found


Source = np.ndarray | Decoded


def ahead(source: Source, index: np.ndarray) -> None:
    """Begins to decode what will be asked for next; what is stored is there."""
    if isinstance(source, Decoded):
        source.ahead(index)


@dataclass(frozen=True, eq=False)
class Pixels:
    """What the network receives of a run's readable images, before normalisation."""

    rows: tuple[SnapshotRow, ...]
    sources: tuple[Source, ...]  # (M, C, H, W) uint8, memory-mapped; one for each shape of picture
    part: np.ndarray  # (N,) the source of each snapshot row
    index: np.ndarray  # (N,) its row there
    skipped: tuple[Skipped, ...] = ()


def sample_sizes(rows: Sequence[SnapshotRow], count: int = 256) -> list[tuple[int, int, int]]:
    """(width, height, channels) of up to count readable images, spread evenly over the rows."""
    found = []
    paths = [settings().images / rows[i].path for i in np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]
    storage.fetch(paths)
    for path in paths:
        try:
            found.append(images.shape(path))
        except Unavailable:  # it can be read once storage is back
            raise
        except AppError:
            continue
    return found


def pixel_rows(cache_folder: Path, dataset_id: int, preprocess: Preprocess, rows: Sequence[SnapshotRow], progress: Tick) -> Pixels:
    """Decodes each image once per dataset and size; images that cannot be read are named and left out.

    What the cache has no room for is decoded once to see that it can be read, and again whenever it is asked for: the same numbers.
    Raises Invalid if none can be read.
    """
    how, folder = preprocess, settings().images
    paths = {row.image_id: row.path for row in rows}
    skipped: list[Skipped] = []

    def read(image_id: str) -> np.ndarray:
        return images.read_original(folder / paths[image_id], image_id, how)

    def decode(image_id: str) -> np.ndarray | Skipped:
        try:
            return read(image_id)
        except Unavailable:
            raise
        except AppError as e:
            return Skipped(Path(paths[image_id]).name, e.message)

    def decode_block(some: list[str]) -> list[np.ndarray | Skipped]:
        return [decode(image_id) for image_id in some]

    def again(image_id: str) -> np.ndarray:
        try:
            return read(image_id)
        except Unavailable:
            raise
        except AppError as e:
            raise Invalid(f"{Path(paths[image_id]).name} can no longer be read: {e.message}", e.hint) from e

    def decode_all(missing: list[str], keep: set[str]) -> None:
        progress(0, len(missing))
        # Pillow decodes without the GIL, so threads help with photos. With tiny pictures they only wait for each other:
        # on two cores 10,200 MNIST digits/s with one thread, 5,900 with two.
        quick: bool | None = None
        here: set[str] = set()  # what came since
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            for start in range(0, len(missing), CHUNK):
                storage.fetch(folder / paths[i] for i in missing[start : start + CHUNK])
                with parts.alone(partial(progress, start, len(missing))):  # two who want the same ones decode them in turns
                    for part, cache in enumerate(caches.values()):
                        here.update(newer := cache.newer(lengths[part]))
                        lengths[part] += len(newer)
                    some = [i for i in missing[start : start + CHUNK] if i not in here]
                    first: list[np.ndarray | Skipped] = []
                    if quick is None and some:
                        begun = time.perf_counter()
                        first = decode_block(some[:BLOCK])
                        quick = time.perf_counter() - begun < 0.001 * len(first)
                    blocks = [some[i : i + BLOCK] for i in range(len(first), len(some), BLOCK)]
                    further = map(decode_block, blocks) if quick else pool.map(decode_block, blocks)
                    decoded = dict(zip(some, chain(first, chain.from_iterable(further)), strict=True))
                    skipped.extend(d for d in decoded.values() if isinstance(d, Skipped))
                    for part, (shape, cache) in enumerate(caches.items()):
                        alike = {i: d for i, d in decoded.items() if isinstance(d, np.ndarray) and d.shape[1:] == shape}
                        kept = [i for i in alike if i in keep]
                        try:
                            cache.append(kept, np.stack([alike[i] for i in kept]) if kept else np.empty(0))
                        except OSError as e:
                            if e.errno not in space.FULL:
                                raise
                            keep.clear()  # there was room when this began: from here on they are decoded as they are asked for
                        others = [i for i in alike if i not in keep]
                        part_of.update(dict.fromkeys(others, part))
                        with suppress(OSError):  # which shape a picture has is found out again
                            parts.append(others, np.full((len(others), 1), part))
                progress(min(start + CHUNK, len(missing)), len(missing))

    name = f"{dataset_id}-{'srgb' if how.srgb else 'pixels'}{how.bits if how.bits < 16 else ''}-{how.channels}x"
    names = {(h, w): f"{name}{h}by{w}" if how.rectangles else f"{name}{how.resize}x{how.crop}" for h, w in images.shapes(how)}
    caches = {shape: RowCache(cache_folder, name, (how.channels, *shape), "uint8") for shape, name in names.items()}
    parts = RowCache(cache_folder, f"{name}{how.resize}x{how.crop}{'-rectangles' if how.rectangles else ''}-parts", (1,), "uint8")
    lengths = [len(cache) for cache in caches.values()]
    where = found(caches)
    part_of: dict[str, int] = {}  # of those that the cache has no room for, the number of their cache
    if missing := [i for i in paths if i not in where]:
        known = parts.read()[1]  # in use from here on: it is not evicted for the others
        row_bytes = max(cache.row_bytes for cache in caches.values()) + ID_BYTES
        keep = set(missing[: space.cache_room(len(missing) * row_bytes) // row_bytes])
        if unknown := [i for i in missing if i in keep or i not in known]:
            decode_all(unknown, keep)
        where = found(caches)
        numbers, rows_of = parts.read()
        part_of = {i: int(numbers[rows_of[i], 0]) for i in missing if i in rows_of} | part_of
        part_of = {i: part for i, part in part_of.items() if i not in where}
    sources: list[Source] = []
    for part, cache in enumerate(caches.values()):
        stored = cache.read()[0]
        others = [i for i, number in part_of.items() if number == part]
        where.update({i: (part, len(stored) + n) for n, i in enumerate(others)})
        sources.append(Decoded(stored, others, again) if others else stored)
    readable = tuple(row for row in rows if row.image_id in where)
    if not readable:
        first = f" The first: {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise Invalid(f"None of the {len(rows)} images can be read.{first}", "Import them again.")
    numbers, index = np.array([where[row.image_id] for row in readable], np.int64).T
    return Pixels(readable, tuple(sources), numbers, index, tuple(skipped))


def found(caches: Mapping[tuple[int, int], RowCache]) -> dict[str, tuple[int, int]]:
    """(number of the cache, row) of every image id they hold."""
    return {image_id: (part, row) for part, cache in enumerate(caches.values()) for image_id, row in cache.read()[1].items()}


def measure(pixels: Source, index: np.ndarray, most: int = 20_000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of values in 0..1, over up to `most` of the images."""
    index = index[:: -(-len(index) // most)]
    counts = np.zeros((pixels.shape[1], 256))
    for start in range(0, len(index), 1000):
        batch = pixels[np.sort(index[start : start + 1000])]
        for channel in range(pixels.shape[1]):
            counts[channel] += np.bincount(batch[:, channel].reshape(-1), minlength=256)
    values = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0)).clip(1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())


# Tensors ------------------------------------------------------------------------------------------


class Normalise:
    """uint8 (N, C, S, S) to float: (x / 255 - mean) / std, as one multiplication and one addition."""

    def __init__(self, preprocess: Preprocess, device: torch.device) -> None:
        mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (preprocess.mean, preprocess.std))
        self.scale = (1 / (255 * std)).float().to(device)
        self.shift = (-mean / std).float().to(device)

    def __call__(self, x: Tensor, into: Tensor | None = None) -> Tensor:
        """into: float32 that is written over, of as many rows or more: fresh memory takes twice as long to fill."""
        return (x.float() if into is None else into[: len(x)].copy_(x)).mul_(self.scale).add_(self.shift)


class Tensors:
    """One split: rows on the device if they fit there easily, else gathered batch by batch."""

    def __init__(
        self,
        sources: Sequence[Source],  # (M, ...) uint8 pixels or float32 features, one for each shape of picture
        index: np.ndarray,  # (N,) rows of a source
        labels: Tensor,  # (N,) int64, on the device
        normalise: Normalise | None = None,  # None: the rows are features
        channels_last: bool = False,
        part: np.ndarray | None = None,  # (N,) which source; None: the first
    ) -> None:
        self.labels, self.normalise, self.channels_last = labels, normalise, channels_last
        self.device = labels.device
        self.part = torch.from_numpy(np.zeros(len(index), np.int64) if part is None else part)
        self.row_values = max(int(np.prod(source.shape[1:])) for source in sources)
        self.row_bytes = self.row_values * sources[0].itemsize
        self.sources, self.index = sources, index
        self.resident: list[Tensor] = []
        self.place = torch.from_numpy(index)  # of each row in its source, or among the resident ones of its part
        most = 0.25 * free_memory(self.device)
        if self.device.type == "cpu":
            most = min(most, RESIDENT_BYTES)
        if len(index) * self.row_bytes < most:
            self.place = torch.empty(len(index), dtype=torch.int64)
            for number, source in enumerate(sources):
                chosen = (self.part == number).nonzero()[:, 0]
                self.place[chosen] = torch.arange(len(chosen))
                self.resident.append(torch.from_numpy(source[index[chosen.numpy()]]).to(self.device))
            self.place = self.place.to(self.device)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def exceeds_memory(self) -> bool:
        """Whether the rows are more than the machine can keep of the file that they are read from, beside all else."""
        return not self.resident and 2 * len(self) * self.row_bytes > whole_memory()

    def in_blocks(self, chosen: Tensor, shuffler: torch.Generator) -> Tensor:
        """The (N,) positions in an order for a file that exceeds memory: blocks of it come at random, and rows within WINDOW blocks.

        In a wholly random order each row costs the disk a read of its own, with all that the system reads around it. Rows lie in the
        order of their images' hashes, so a block is a random sample in itself.
        """
        index = torch.from_numpy(self.index)
        near = chosen[torch.argsort((self.part * (int(index.max()) + 1) + index)[chosen], stable=True)]
        blocks = near.split_with_sizes(batch_sizes(len(near), max(1, BLOCK_BYTES // self.row_bytes), 1))
        drawn = torch.randperm(len(blocks), generator=shuffler).tolist()
        windows = [torch.cat([blocks[i] for i in drawn[start : start + WINDOW]]) for start in range(0, len(drawn), WINDOW)]
        return torch.cat([some[torch.randperm(len(some), generator=shuffler)] for some in windows])

    def batches(self, order: Tensor, size: int, shuffler: torch.Generator | None, least: int = 2) -> list[Tensor]:
        """The (N,) int64 positions in batches; pictures of one batch have one shape, and the shuffler mixes the shapes."""
        if len(self.sources) == 1:
            return list(order.split_with_sizes(batch_sizes(len(order), size, least)))
        found: list[Tensor] = []
        for number in range(len(self.sources)):
            some = order[self.part[order] == number]
            found += some.split_with_sizes(batch_sizes(len(some), size, least))
        return found if shuffler is None else [found[i] for i in torch.randperm(len(found), generator=shuffler).tolist()]

    def rows(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Rows as they are stored and labels of (B,) positions of one shape, which lie on the CPU."""
        number = int(self.part[chosen[0]]) if len(self.sources) > 1 else 0
        if self.resident:
            chosen = chosen.to(self.device)
            return self.resident[number][self.place[chosen]], self.labels[chosen]
        x = torch.from_numpy(self.sources[number][self.index[chosen.numpy()]])
        x = x.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else x.to(self.device)
        return x, self.labels[chosen.to(self.device)]

    def ahead(self, batches: Sequence[Tensor]) -> None:
        """Begins to read what will be asked for next, (B,) positions of one shape each, where that takes long."""
        for chosen in () if self.resident else batches:
            ahead(self.sources[int(self.part[chosen[0]])], self.index[chosen.numpy()])

    def take(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The same, normalised."""
        x, y = self.rows(chosen)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return x if self.normalise is None else self.normalise(x), y

    def take_batches(self, batches: Sequence[Tensor], change: Change | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised rows and labels batch by batch; where nothing changes them they are gathered together, which is faster."""
        if change is not None:
            for some in batches:
                x, y = change(*self.rows(some))
                yield (x.contiguous(memory_format=torch.channels_last) if self.channels_last else x), y
        elif len(self.sources) > 1:
            yield from map(self.take, batches)
        else:
            x, y = self.take(torch.cat(list(batches)))
            sizes = [len(some) for some in batches]
            yield from zip(x.split_with_sizes(sizes), y.split_with_sizes(sizes), strict=True)


def batch_sizes(n: int, size: int, least: int = 2) -> list[int]:
    """The images of each step; a last one of fewer than `least` joins its neighbour, for batch normalisation needs two."""
    sizes = [size] * (n // size) + [n % size] * (n % size > 0)
    if len(sizes) > 1 and sizes[-1] < min(least, size):
        sizes[-2:] = [size + sizes[-1]]
    return sizes
