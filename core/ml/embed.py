"""Where the images of a dataset lie: features, a map, near duplicates, quality and clusters; runs in other processes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]
from sklearn.cluster import HDBSCAN, KMeans, MiniBatchKMeans
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from core import storage
from core.catalog import networks, params
from core.catalog.networks import preprocess_for
from core.data import depth, images
from core.data.alike import SAME_BRIGHTNESS, usual_bound
from core.data.images import GREY_SIDE
from core.errors import AppError, Invalid, Unavailable
from core.ml.data import ID_BYTES, Normalise, Pixels, RowCache, pixel_rows, save_arrays
from core.ml.devices import pick_device, slots
from core.ml.features import BATCH, Forward, cache_of, fastest, run_once
from core.ml.model import build, set_module
from core.ml.turns import take
from core.settings import settings
from core.types import Architecture, Preprocess, Progress, SnapshotRow

ARCHITECTURE = "efficientnet_lite0"  # its weights come with Loupe: nothing is downloaded
# What is tiny is looked at by 128 × 128: three times faster than 224, and the five nearest neighbours agree with the label
# at least as often: 90.4 % (224: 89.4 %) of 1,797 digits of 8 × 8, 69.6 % (68.5 %) of 3,000 CIFAR-10 images of 32 × 32.
TINY, TINY_INPUT = 64, 128  # pixels, of the median longer side
DIMENSIONS = 128  # keep 86 % of the squared length of cats and dogs, 96 % of digits, 80 % of CIFAR-10
MAP_FITTED = 5000  # images t-SNE arranges: 8 s on two cores; the others are placed among them
NEIGHBOURS = 5
CLUSTERED = 20_000  # images at most that k-means and HDBSCAN learn from at once: HDBSCAN takes 1 s for them, half a minute for 100,000
COMPARED = 2000  # images at most by which clusters are judged: half a second
BLOCK = 2048  # rows of a block of a matrix product
SEED = 0


@dataclass(frozen=True)
class Listed:
    """One line of images.csv."""

    id: str
    path: str
    split: str
    width: int
    height: int


def embed(folder: Path, dataset_id: int, progress: Progress, arranged: bool = True) -> tuple[int, int]:
    """Embeds the images of images.csv into embedding.npz; returns how many were, and how many could not be read.

    Without arranging, the map is left at the two main axes, which cost nothing.
    Pixels and features are cached as they come: what was done before a stop is not done again.
    """

    def step(what: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(done, total, what)

    listed = read_list(folder)
    ids, features, measured = look(dataset_id, list(listed.values()), step("Reading images"), step("Looking at images"))
    arrange = step("Arranging the map" if arranged else "Looking for near duplicates")
    arrange(0, 3)
    reduced = reduce(features)
    arrange(1, 3)
    group = near_duplicates(reduced, measured)
    arrange(2, 3)
    xy = flat_map(reduced, ids) if arranged else between_0_and_1(reduced[:, :2] if reduced.shape[1] > 1 else np.repeat(reduced, 2, 1))
    sizes = np.array([(listed[i].width, listed[i].height) for i in ids], float)
    read = set(ids)
    arrays = {
        "ids": np.array(ids),
        "reduced": reduced,
        "xy": xy,
        "brightness": measured[:, 0],
        "sharpness": measured[:, 1],
        "oddness": np.abs(np.log2(sizes / np.median(sizes, axis=0))).max(1).astype(np.float32),
        "group": group,
        "arranged": np.array(arranged),
        "unreadable": np.array([i for i in listed if i not in read], "<U16"),
    }
    arrange(3, 3)
    save_arrays(folder / "embedding.npz", arrays)
    return len(ids), len(listed) - len(ids)


def read_list(folder: Path) -> dict[str, Listed]:
    with open(folder / "images.csv", newline="", encoding="utf-8") as f:
        return {i: Listed(i, path, split, int(width), int(height)) for i, path, split, width, height in csv.reader(f)}


# Looking ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Eye:
    """The network that looks at a dataset's images, and what is kept of each that it has seen."""

    model: nn.Module
    arch: Architecture
    preprocess: Preprocess
    features: RowCache  # (F,) float32
    measures: RowCache  # (2 + GREY_SIDE²,) float32: see measured_of

    def known(self) -> set[str]:
        """The ids of the images that it has seen."""
        return self.features.read()[1].keys() & self.measures.read()[1].keys()

    def measure(self, pixels: Pixels, ids: list[str]) -> None:
        """Keeps the measures of those images of which it has none."""
        place = {row.image_id: int(at) for row, at in zip(pixels.rows, pixels.index, strict=True)}

        def compute(missing: list[str]) -> Iterator[tuple[list[str], np.ndarray]]:
            for start in range(0, len(missing), 256):
                some = missing[start : start + 256]
                yield some, measured_of(pixels.sources[0][[place[i] for i in some]])

        self.measures.fetch(ids, compute)


def eye(dataset_id: int, tiny: bool, bits: int) -> Eye:
    config = params.run_config({"architecture": ARCHITECTURE, "image_size": TINY_INPUT if tiny else 0})
    preprocess = replace(preprocess_for(config, []), bits=bits)
    model, arch = build(config, 2, preprocess), networks.architecture(ARCHITECTURE)
    name = f"{dataset_id}-measures-{preprocess.channels}x{preprocess.crop}"
    measures = RowCache(settings().cache, name, (2 + GREY_SIDE * GREY_SIDE,), "float32")
    return Eye(model, arch, preprocess, cache_of(model, arch, preprocess, settings().cache, dataset_id), measures)


def are_tiny(listed: list[Listed]) -> bool:
    return float(np.median([max(one.width, one.height) for one in listed])) <= TINY


def look(
    dataset_id: int, listed: list[Listed], reading: Callable[[int, int], None], looking: Callable[[int, int], None]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The ids of the readable images, the backbone's (N, F) features of them, each of length 1, and their (N, 2 + GREY_SIDE²) measures.

    Only what was not looked at before is read.
    """
    found = eye(dataset_id, are_tiny(listed), depth.of(dataset_id))
    known = found.known()
    if unseen := [one for one in listed if one.id not in known]:
        rows = [SnapshotRow(one.id, one.path, "", one.split) for one in unseen]  # type: ignore[arg-type]
        try:
            pixels = pixel_rows(settings().cache, dataset_id, found.preprocess, rows, reading)
        except Invalid:  # none of them can be read
            if len(unseen) == len(listed):
                raise
        else:
            torch.backends.cudnn.allow_tf32 = False  # the cached features are those that training uses
            with spare_device() as device:
                # In use for as long as it is there: what is measured next could evict them.
                _kept = run_once(found.model, found.arch, found.preprocess, pixels, settings().cache, dataset_id, device, looking)
            found.measure(pixels, [row.image_id for row in pixels.rows])
    features, where = found.features.read()
    measured, also = found.measures.read()
    ids = [one.id for one in listed if one.id in where and one.id in also]
    seen = features[[where[i] for i in ids]]
    seen /= np.linalg.norm(seen, axis=1, keepdims=True) + 1e-12
    return ids, seen, measured[[also[i] for i in ids]]


def unseen(folder: Path, dataset_id: int, takes: Callable[[int], bool]) -> tuple[list[Any], list[list[str]]]:
    """What look_at is to be given for the images of images.csv that were not looked at yet: for all, and (id, path) of each.

    None of them where the nodes do not take so many; else there is room for what they will keep, or it is Unwritable.
    """
    listed = list(read_list(folder).values())
    given = (dataset_id, are_tiny(listed), depth.of(dataset_id))
    found = eye(*given)
    known = found.known()
    left = [[one.id, one.path] for one in listed if one.id not in known]
    if not takes(len(left)):
        return [], []
    for cache in (found.features, found.measures):
        cache.need(len(left) * (cache.row_bytes + ID_BYTES))
    return [*given, len(left)], left


def look_at(dataset_id: int, tiny: bool, bits: int, count: int, asked: list[list[str]]) -> list[dict[str, Any]]:
    """Looks at (id, path) of images, some of so many, on a node of a cluster, and keeps what it sees in the shared cache.

    A row for each image, with its id: also for one that cannot be read, which who asked then tries, and says why.
    """
    found, forward = _awake(dataset_id, tiny, bits, count)

    def read(one: list[str]) -> np.ndarray | None:
        try:
            return images.read_original(settings().images / one[1], one[0], found.preprocess)
        except Unavailable:  # storage does not answer: it is not the picture
            raise
        except AppError:
            return None

    storage.fetch(settings().images / one[1] for one in asked)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        decoded = {one[0]: array for one, array in zip(asked, pool.map(read, asked), strict=True) if array is not None}
    if ids := list(decoded):
        arrays = np.stack(list(decoded.values()))
        normalise = Normalise(found.preprocess, torch.device("cpu"))
        found.features.append(
            ids, np.concatenate([forward(normalise(torch.from_numpy(arrays[i : i + BATCH]))) for i in range(0, len(ids), BATCH)])
        )
        found.measures.append(ids, measured_of(arrays))
    return [{"id": one[0]} for one in asked]


@lru_cache(maxsize=1)
def _awake(dataset_id: int, tiny: bool, bits: int, count: int) -> tuple[Eye, Forward]:
    """With the network as a function."""
    found = eye(dataset_id, tiny, bits)
    set_module(found.model, found.arch.head, nn.Identity())
    return found, fastest(found.model.eval(), found.preprocess, torch.device("cpu"), count)


@contextmanager
def spare_device() -> Iterator[torch.device]:
    """The first of cuda, mps and cpu; the cpu where a run has the other: it must not run out of memory, and nobody waits for its end."""
    device = pick_device("auto")
    held = {} if device.type == "cpu" else take(slots(device.type), 1)
    try:
        yield torch.device(next(iter(held), "cpu"))
    finally:
        for lock in held.values():
            lock.release()


def measured_of(pixels: np.ndarray) -> np.ndarray:
    """Of (B, C, S, S) uint8, (B, 2 + GREY_SIDE²) float32: brightness (0..1), sharpness and a small grey picture.

    Sharpness is the variance of the Laplacian of what the network sees, so it does not depend on the picture's size.
    """
    side = pixels.shape[-1]
    grey = pixels.mean(1, dtype=np.float32) / 255  # (B, S, S)
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    small = grey.reshape(len(pixels), GREY_SIDE, side // GREY_SIDE, GREY_SIDE, side // GREY_SIDE).mean((2, 4)).reshape(len(pixels), -1)
    return np.concatenate([np.stack([grey.mean((1, 2)), laplacian.var((1, 2))], axis=1), small], axis=1)


# Arranging ----------------------------------------------------------------------------------------


def reduce(features: np.ndarray) -> np.ndarray:
    """(N, F) to (N, at most 128) float32 with nearly the same inner products: the main axes about 0.

    Not about the mean: of three images the cosines about their mean say nothing, and duplicates are found by cosines.
    """
    axes = np.linalg.eigh(features.T @ features)[1][:, ::-1][:, : min(DIMENSIONS, len(features))]
    axes *= np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1, 1)  # the same signs every time
    reduced: np.ndarray = features @ np.ascontiguousarray(axes)
    return reduced


def flat_map(reduced: np.ndarray, ids: list[str]) -> np.ndarray:
    """(N, 2) float32 in 0..1: alike is near (t-SNE, van der Maaten and Hinton 2008)."""
    fitted = np.sort(np.argsort(ids)[:MAP_FITTED])  # ids are hashes: a random choice that stays
    x = reduced[fitted]
    plane = np.linalg.svd(x - x.mean(0), full_matrices=False)[0] if len(x) > 2 else np.zeros((len(x), 2))
    start = np.zeros((len(x), 2), np.float32)
    start[:, : plane.shape[1]] = plane[:, :2]
    start[:, 0] += np.linspace(0, 1e-6, len(x))  # two images have no plane, equal ones no distance
    if len(x) > 4:
        start *= 1e-4 / start[:, 0].std()
        perplexity = min(30.0, (len(x) - 1) / 3)
        # 500 iterations and not 1000: half the time, and neighbours on the map agree as well, within 1 %
        start = TSNE(2, perplexity=perplexity, init=start, max_iter=500, random_state=SEED).fit_transform(x)
    xy = np.empty((len(reduced), 2), np.float32)
    xy[fitted] = start
    others = np.setdiff1d(np.arange(len(reduced)), fitted)
    length = (x**2).sum(1)
    for some in np.array_split(others, range(BLOCK, len(others), BLOCK)):
        squared = (reduced[some] ** 2).sum(1)[:, None] + length - 2 * reduced[some] @ x.T  # (B, fitted)
        near = np.argpartition(squared, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        # The median, for a mean lies between clusters: five neighbours are of an image's class in 74 % of digits, not 64 %.
        xy[some] = np.median(start[near], axis=1)
    return between_0_and_1(xy)


def between_0_and_1(xy: np.ndarray) -> np.ndarray:
    low, high = xy.min(0), xy.max(0)
    return np.where(high > low, (xy - low) / np.where(high > low, high - low, 1), 0.5).astype(np.float32)


# Near duplicates: the network must find both alike, and so must the pixels --------------------------
# Measured with copies of 200 cats and dogs: smaller by 10 %, JPEG of quality 40, 4 % cut off in all, brighter by 10 %, and all
# at once. Their cosines are above 0.90, those of different pictures below 0.91; the small grey pictures of copies correlate
# by more than 0.93, those of different pictures by less than 0.87. Both together found every copy and no false one.

ALIKE = 0.8  # cosine; it keeps apart what only has the same outline


def near_duplicates(reduced: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """(N,) int32: the number of the image's group of near duplicates, -1: in none.

    Every pair is compared, in blocks: 100,000 images take about half a minute on two cores and no memory to speak of.
    """
    unit = reduced / (np.linalg.norm(reduced, axis=1, keepdims=True) + 1e-12)
    grey = measured[:, 2:] - measured[:, 2:].mean(1, keepdims=True)
    grey /= np.linalg.norm(grey, axis=1, keepdims=True) + 1e-6  # a picture of one colour correlates with nothing
    bound = usual_bound(grey)
    left, right = [], []
    for start in range(0, len(unit), BLOCK):
        for other in range(start, len(unit), BLOCK):
            rows, columns = slice(start, start + BLOCK), slice(other, other + BLOCK)
            alike = unit[rows] @ unit[columns].T > ALIKE
            if alike.mean() > 0.02:  # many pairs: faster as one more product than pair by pair
                alike &= grey[rows] @ grey[columns].T > bound
            a, b = np.nonzero(alike)
            a, b = a + start, b + other
            a, b = a[a < b], b[a < b]
            for some in np.array_split(np.arange(len(a)), range(100_000, len(a), 100_000)):
                same = (grey[a[some]] * grey[b[some]]).sum(1) > bound
                same &= np.abs(measured[a[some], 0] - measured[b[some], 0]) < SAME_BRIGHTNESS
                left.append(a[some][same])
                right.append(b[some][same])
    i, j = np.concatenate([*left, np.empty(0, int)]), np.concatenate([*right, np.empty(0, int)])
    parts = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(len(unit),) * 2), directed=False)[1]
    sizes = np.bincount(parts)
    number = np.where(sizes > 1, np.cumsum(sizes > 1) - 1, -1)
    groups: np.ndarray = number[parts].astype(np.int32)
    return groups


# Clusters -----------------------------------------------------------------------------------------


def sureness(folder: str, method: str, found: np.ndarray) -> dict[str, Any]:
    """How clear the clusters are, of at most COMPARED images that are in one: n, silhouette (Rousseeuw 1987), and agreement.

    agreement: adjusted Rand index (Hubert and Arabie 1985) with k-means of those images from another beginning; None for HDBSCAN,
    which has no beginning. Both are None where fewer than two clusters, or no image more than clusters, can be compared.
    """
    with np.load(Path(folder) / "embedding.npz") as stored:
        ids, x = stored["ids"], stored["reduced" if method == "k-means" else "xy"]
    some = [i for i in np.argsort(ids).tolist() if found[i] >= 0][:COMPARED]
    names, number = found[some], len(np.unique(found[some]))
    if not 2 <= number < len(some):
        return {"n": len(some), "silhouette": None, "agreement": None}
    again = KMeans(number, n_init=10, random_state=SEED + 1).fit_predict(x[some]) if method == "k-means" else None
    return {
        "n": len(some),
        "silhouette": float(silhouette_score(x[some], names)),
        "agreement": None if again is None else float(adjusted_rand_score(names, again)),
    }


def clusters(folder: str, method: str, size: int) -> np.ndarray:
    """(N,) int: the cluster of each image of the embedding, the largest is 0; -1: in none.

    k-means makes `size` clusters of the reduced features. HDBSCAN finds groups of at least `size` on the map: among 128
    dimensions it left 56 to 100 % of cats and dogs or of digits in no group, on the map 13 to 37 %, and what it groups there
    is 97 to 99 % or 86 % of one class. Its leaves, for else all digits are two groups.
    """
    with np.load(Path(folder) / "embedding.npz") as stored:
        ids, reduced, xy = stored["ids"], stored["reduced"], stored["xy"]
    if method == "k-means":
        size = min(size, len(reduced))
        kind = MiniBatchKMeans if len(reduced) > CLUSTERED else KMeans
        found = kind(size, n_init=10, random_state=SEED).fit_predict(reduced)
    elif len(xy) < size:
        found = np.full(len(xy), -1)
    else:
        some = np.argsort(ids)[:CLUSTERED]  # ids are hashes: a random choice that stays
        smallest = max(2, round(size * len(some) / len(xy)))
        finder = HDBSCAN(min_cluster_size=smallest, min_samples=min(5, smallest), cluster_selection_method="leaf", copy=True)
        found = finder.fit_predict(xy[some])
        found = KNeighborsClassifier(1).fit(xy[some], found).predict(xy)
    names, counts = np.unique(found[found >= 0], return_counts=True)
    rank = np.full(found.max(initial=-1) + 2, -1)  # the last place is that of -1
    rank[names[np.argsort(-counts, kind="stable")]] = np.arange(len(names))
    numbered: np.ndarray = rank[found]
    return numbered
