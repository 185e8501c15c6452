"""Pixel similarity: the mean images a run compares with, and how far one image is from each."""

from __future__ import annotations

from dataclasses import dataclass

from core.data import images, store
from core.runs import launch, runs
from core.runs.remote import infer
from core.settings import settings


@dataclass(frozen=True)
class Distances:
    """How far an image is from the mean image of each class, in the order of the run's classes; pixels lie in 0..1."""

    picture: bytes  # PNG, as it is compared
    l1: tuple[float, ...]  # mean absolute difference
    l2: tuple[float, ...]  # root mean square difference


def mean_images(run_id: str) -> dict[str, bytes | None]:
    """A PNG for each class of the run; None for one it has seen no image of."""
    path = runs.trained(run_id)
    found = launch.ask(infer.mean_images, str(path))
    return {name: None if mean is None else images.png(mean) for name, mean in zip(runs.load(path).classes, found, strict=True)}


def distances(run_id: str, image_id: str) -> Distances:
    """NotFound where the run has no mean images yet, or its dataset no such image."""
    path = runs.trained(run_id)
    file = settings().images / store.get_image(runs.load(path).dataset_id, image_id).path
    found = launch.ask(infer.distances, str(path), str(file))
    return Distances(images.png(found["image"]), tuple(found["l1"]), tuple(found["l2"]))
