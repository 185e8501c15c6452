"""Trains every preset on the data set its figure was published for, and puts the two figures beside each other."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.catalog import presets
from core.catalog.presets import Preset
from core.data import imports, sources, store
from core.data.sources import Source
from core.errors import AppError, Invalid
from core.evaluate import evaluate
from core.runs import openings
from core.train import train
from core.types import Evaluation, Progress

FOLDERS = {"MNIST": "mnist", "Fashion-MNIST": "fashion"}  # within LOUPE_TEST_DATA
DOWNLOADS = {"MNIST": "mnist", "Fashion-MNIST": "fashion-mnist"}


def reproduce(folders: Mapping[str, Path], only: Sequence[str], by: str, progress: Progress) -> list[dict[str, Any]]:
    """A row for each preset (only: those of these names): preset, published, ours, n, seconds, note; shares, not per cent.

    folders: IDX files by data set; without, those of LOUPE_TEST_DATA or a download. ours is None where it cannot be had here,
    and the note says why. The test images are looked at once, after each training.
    """
    return [_row(preset, folders, by, progress) for preset in presets.PRESETS.values() if not only or preset.name in only]


def _row(preset: Preset, folders: Mapping[str, Path], by: str, progress: Progress) -> dict[str, Any]:
    row: dict[str, Any] = {"preset": preset.name, "published": preset.published, "ours": None, "n": None, "seconds": None}
    if not preset.data:
        weights = ", and pretrained weights from the internet" if preset.needs_weights else ""
        return row | {"note": f"It needs images of one’s own{weights}. {preset.note}"}
    try:
        dataset_id = _dataset(preset.data, folders, by, progress)
        state, found = _trained(dataset_id, preset, {}, by, progress)
        notes = [preset.note]
        if found.n != preset.n:
            notes.append(f"Judged by {found.n:,} images, not by the {preset.n:,} of the source: the figures cannot be compared.")
        for name, changes in preset.variants.items():
            other = presets.figure(preset, _trained(dataset_id, preset, changes, by, progress)[1])
            notes += [f"By {name}: {other.value:.4f}."] if other else []
    except AppError as e:
        return row | {"note": f"{e} {preset.note}"}
    ours = presets.figure(preset, found)
    return row | {"ours": ours.value if ours else None, "n": found.n, "seconds": state.seconds, "note": " ".join(notes)}


def _dataset(name: str, folders: Mapping[str, Path], by: str, progress: Progress) -> int:
    """The data set of this name, imported if it is not here yet."""
    found = store.find_dataset(name)
    if found is None:
        imports.import_now(name, _source(name, folders), by, progress)
        found = store.find_dataset(name)
    if found is None:
        raise Invalid(f"{name} could not be imported.", "Import it on the Dataset page, or name its folder.")
    return found.id


def _source(name: str, folders: Mapping[str, Path]) -> Source:
    if name in folders:
        return sources.at(folders[name])
    if (given := os.environ.get("LOUPE_TEST_DATA")) and (folder := Path(given) / FOLDERS[name]).is_dir():
        return sources.at(folder)
    return sources.named(DOWNLOADS[name])


def _trained(dataset_id: int, preset: Preset, changes: Mapping[str, Any], by: str, progress: Progress) -> tuple[train.RunState, Evaluation]:
    """A run of the preset, ended, and what it is worth on the images its figure speaks of; AppError if it failed."""
    run = train.start(dataset_id, {**preset.settings, **changes}, by, preset.name)
    while (state := train.state(run.id)).active:
        progress(state.epoch, state.epochs, f"{preset.title}: epoch")
        time.sleep(0.2)
    if state.status != "succeeded":
        raise AppError(f"The training ended as {state.status}. {state.message}")
    if preset.split == "test":
        openings.record(run.id, by)
    return state, evaluate.evaluate(run.id, preset.split, today=False)
