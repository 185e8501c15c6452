"""The data of a run made ready: images read, the network built, and both divided into the stages of its training."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from core.catalog import networks
from core.catalog.networks import measured, preprocess_for
from core.catalog.params import augmented
from core.data import depth
from core.errors import Invalid, Stopped
from core.ml import data, features
from core.ml.augment import Augment
from core.ml.data import Normalise, Pixels, Tensors
from core.ml.fit import Stage, Training
from core.ml.model import build, load
from core.ml.ranks import ALONE, Ranks
from core.ml.turns import halt_requested
from core.runs import runs
from core.settings import settings
from core.types import SPLITS, Preparing, Preprocess, Run, RunConfig, SnapshotRow, Split, now


@dataclass(eq=False)
class Prepared:
    """A network, and the images it learns from and is judged by, on the device."""

    model: nn.Module
    head: str
    preprocess: Preprocess
    pixels: Pixels
    places: dict[Split, np.ndarray]  # positions among pixels.rows
    stages: list[Stage]
    test: Tensors | None
    classes: int

    def training(self, config: RunConfig, ranks: Ranks = ALONE) -> Training:
        return Training(self.model, self.head, config, self.stages, self.classes, ranks)


def prepare(folder: Path, run: Run, device: torch.device) -> Prepared:
    """Reads the images, builds the network and runs a backbone once that stays frozen; reports its progress to the folder."""
    config, arch = run.config, networks.architecture(run.config.architecture)
    torch.manual_seed(config.seed)
    pixels, places, preprocess = read(folder, run)
    model = build(config, len(run.classes), preprocess).to(device)
    channels_last = any(isinstance(m, nn.Conv2d) for m in model.modules())
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows = Rows(run.classes, device, Normalise(preprocess, device), channels_last)
    changes = Augment(config, preprocess, len(run.classes), device) if augmented(config) else None
    stages: list[Stage] = []
    test: Tensors | None = None
    if config.freeze:
        last = config.unfreeze_after or config.epochs
        if changes is None:  # the same image gives the same features in every epoch
            report = Report(folder, "Running the backbone once")
            found = features.run_once(model, arch, preprocess, pixels, settings().cache, run.dataset_id, device, report)
            train, validation, test = (rows.on_features(*found, pixels, places[name]) for name in SPLITS)
            stages.append(Stage(last, arch.head, True, needed(train), validation))
        else:
            train, validation = rows.on_pixels(pixels, places["train"]), rows.on_pixels(pixels, places["validation"])
            stages.append(Stage(last, "", True, needed(train), validation, changes))
    if not config.freeze or config.unfreeze_after:
        before = config.unfreeze_after if config.freeze else 0
        full, validation = needed(rows.on_pixels(pixels, places["train"])), rows.on_pixels(pixels, places["validation"])
        for last, side in sizes(config, before, preprocess):
            train = full
            if side != preprocess.crop:
                small = read_smaller(folder, run, preprocess, [pixels.rows[i] for i in places["train"]], side)
                train = needed(rows.on_pixels(small, np.arange(len(small.rows))))
            stages.append(Stage(last, "", False, train, validation, changes))
    if not stages[-1].part:
        test = rows.on_pixels(pixels, places["test"])
    return Prepared(model, arch.head, preprocess, pixels, places, stages, test, len(run.classes))


def read(folder: Path, run: Run) -> tuple[Pixels, dict[Split, np.ndarray], Preprocess]:
    """The run's images as pixels, where those of each split are among them, and how they are fed: measured where it has to be."""
    rows = runs.snapshot_rows(folder)
    check(rows_of_training=sum(row.split == "train" for row in rows))
    preprocess = replace(preprocess_for(run.config, data.sample_sizes(rows)), bits=depth.of(run.dataset_id))
    if runs.checkpoint(folder).exists():  # resumed: it goes on with the pixels it has begun with
        began = load(folder).preprocess
        preprocess = replace(preprocess, srgb=began.srgb, bits=began.bits)
    pixels = data.pixel_rows(settings().cache, run.dataset_id, preprocess, rows, Report(folder, "Reading images"))
    places = {s: np.array([i for i, row in enumerate(pixels.rows) if row.split == s], np.int64) for s in SPLITS}
    train = places["train"]
    check(rows_of_training=len(train))
    if measured(run.config):
        largest = np.bincount(pixels.part[train]).argmax()
        mean, std = data.measure(pixels.sources[largest], pixels.index[train][pixels.part[train] == largest])
        preprocess = replace(preprocess, mean=mean, std=std)
    return pixels, places, preprocess


def read_smaller(folder: Path, run: Run, preprocess: Preprocess, rows: list[SnapshotRow], side: int) -> Pixels:
    smaller = replace(preprocess, resize=round(preprocess.resize * side / preprocess.crop), crop=side)
    return data.pixel_rows(settings().cache, run.dataset_id, smaller, rows, Report(folder, f"Reading images at {side} pixels"))


@dataclass(frozen=True, eq=False)
class Rows:
    """Makes the rows and labels of a split; None where it has no images."""

    classes: tuple[str, ...]
    device: torch.device
    normalise: Normalise
    channels_last: bool

    def labels(self, pixels: Pixels, place: np.ndarray) -> torch.Tensor:
        number = {name: i for i, name in enumerate(self.classes)}
        return torch.tensor([number[pixels.rows[i].label] for i in place], device=self.device)

    def on_pixels(self, pixels: Pixels, place: np.ndarray) -> Tensors | None:
        """place: (N,) positions among pixels.rows."""
        if not len(place):
            return None
        labels = self.labels(pixels, place)
        return Tensors(pixels.sources, pixels.index[place], labels, self.normalise, self.channels_last, pixels.part[place])

    def on_features(self, features: np.ndarray, index: np.ndarray, pixels: Pixels, place: np.ndarray) -> Tensors | None:
        """index: (images,) rows of the features."""
        return Tensors([features], index[place], self.labels(pixels, place)) if len(place) else None


def needed(tensors: Tensors | None) -> Tensors:
    assert tensors is not None  # check() has seen to it
    return tensors


def sizes(config: RunConfig, before: int, preprocess: Preprocess) -> list[tuple[int, int]]:
    """(last epoch, side in pixels) of each stage of the epochs after `before`: a half, three quarters, all of the size.

    After fast.ai's ImageNet run in 18 minutes (Howard 2018), in thirds instead of its own plan.
    """
    stages: list[tuple[int, int]] = []
    for third, share in enumerate((1 / 2, 3 / 4, 1) if config.progressive else (1.0,), 1):
        last = before + (config.epochs - before) * third // 3 if config.progressive else config.epochs
        side = preprocess.crop if share == 1 else min(preprocess.crop, max(32, round(preprocess.crop * share / 32) * 32))
        if last > (stages[-1][0] if stages else before):
            stages.append((last, side))
    return stages


def check(rows_of_training: int) -> None:
    if not rows_of_training:
        raise Invalid("There are no readable training images.", "Label some images whose split is train, or import more.")


class Report:
    """Writes how far a preparation has got, at most four times a second; raises Stopped if the run is to stop or pause."""

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.what, self.at = folder, what, 0.0

    def __call__(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self.at > 0.25:
            runs.append(self.folder, Preparing(self.what, done, total, now()))
            self.at = time.monotonic()
        if halt_requested(self.folder):
            raise Stopped
