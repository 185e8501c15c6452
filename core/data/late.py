"""Labels that come for images which are in the dataset already: offered where an image has none, shown where it has another one."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from core import roles
from core.data import classes, labels, store
from core.types import Dataset

Late = dict[str, tuple[str | None, str]]  # image id -> the label that it carries here, and that of the source


@dataclass(frozen=True)
class Later:
    """What came with an import, beside what the images carry today."""

    dataset: Dataset
    give: Late  # the image has no label
    differ: Late  # the image has another one


@roles.needs("see")
def of(dataset_id: int, late: Late) -> Later | None:
    """None where there is nothing to give and nothing that differs."""
    dataset = store.get_dataset(dataset_id)
    if dataset.deleted_at:
        return None
    here = store.known_images(dataset_id, list(late))
    word = classes.today(dataset_id, dict.fromkeys(label for _, label in late.values()))
    found: Late = {i: (here[i], word[label]) for i, (_, label) in late.items() if i in here and here[i] != word[label]}
    give = {i: one for i, one in found.items() if one[0] is None}
    differ = {i: one for i, one in found.items() if one[0] is not None}
    return Later(dataset, give, differ) if found else None


@roles.needs("import")
def give(dataset_id: int, wanted: Late, by: str, origin: str) -> int:
    """Gives the images these labels, as one act, where they still carry what was seen; returns how many changed."""
    return labels.give_each(dataset_id, wanted, by, secrets.token_hex(16), "import", f"labels of {origin}")
