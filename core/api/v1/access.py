"""What a token may see: of a dataset that is not its own it learns as much as of one that does not exist."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import Path

from core import roles
from core.data import store
from core.errors import Invalid, NotFound
from core.runs import runs
from core.types import Dataset, Run

DatasetId = Annotated[int, Path(alias="dataset", description="The dataset's id, of GET /datasets.")]
RunId = Annotated[str, Path(alias="run", max_length=runs.MAX_ID, description="The run's id, of GET /runs.")]
MAX_INT = (1 << 31) - 1  # what every database holds


def datasets() -> list[Dataset]:
    me = roles.current()
    return [one for one in store.list_datasets() if me.may("see", one.id)]


def dataset(dataset_id: int, verb: str = "see") -> Dataset:
    """The dataset, if whoever asks may do this in it."""
    found = None
    if 0 <= dataset_id <= MAX_INT and roles.current().may("see", dataset_id):
        with suppress(NotFound):
            found = store.get_dataset(dataset_id)
    if found is None or found.deleted_at:
        raise NotFound(f"There is no dataset {dataset_id}.", "GET /api/v1/datasets lists those that this token may see.")
    roles.allow(verb, found.id)
    return found


def run(run_id: str, verb: str = "see") -> Run:
    """The run, if whoever asks may do this in its dataset."""
    found = None
    with suppress(NotFound, Invalid):  # a damaged one does not say whose it is
        found = runs.load(runs.folder(run_id))
    if found is None or not roles.current().may("see", found.dataset_id):
        raise NotFound(f"There is no run “{run_id[: runs.MAX_ID]}”.", "GET /api/v1/runs lists those that this token may see.")
    roles.allow(verb, found.dataset_id)
    return found
