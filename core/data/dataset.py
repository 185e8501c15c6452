"""A dataset for the pages: how many images it holds of which kind, and a page of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core import roles
from core.data import store
from core.data.store import Filter
from core.types import Image

if TYPE_CHECKING:
    import pandas as pd


@roles.needs("see")
def counts(dataset_id: int) -> pd.DataFrame:
    """Columns split, label (None: unlabelled) and images."""
    import pandas as pd  # 0.4 s that the command line need not spend

    return pd.DataFrame(store.counts(dataset_id), columns=["split", "label", "images"])


@roles.needs("see")
def totals(dataset_id: int) -> tuple[int, int]:
    """(images, labelled images)."""
    rows = store.counts(dataset_id)
    return sum(n for _, _, n in rows), sum(n for _, label, n in rows if label is not None)


def sizes() -> dict[str, int]:
    """Images per dataset name."""
    return {d.name: totals(d.id)[0] for d in store.list_datasets()}


@roles.needs("see")
def browse(dataset_id: int, want: Filter, page: int, per_page: int = 60) -> tuple[list[Image], int]:
    """One page (from 1) of the images wanted, and how many there are on all pages."""
    return store.page(dataset_id, want, (max(1, page) - 1) * per_page, per_page)
