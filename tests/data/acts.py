"""What people do to a dataset's labels, and what is seen of it."""

from __future__ import annotations

import itertools
import time
from collections import Counter

from core.data import classes, labels, store
from core.data.labels import Which
from core.types import Class, Dataset, LabelEvent, now

numbers = itertools.count()


def ids(made: Dataset, name: str | None) -> list[str]:
    want = store.Filter(label=name) if name is not None else store.Filter(labelled=False)
    return [i.id for i in store.browse(made.id, want, 0, 1000)]


def seen(made: Dataset, chosen: list[str]) -> dict[str, int]:
    return {i.id: i.label_seq for i in store.get_images(made.id, chosen)}


def give(made: Dataset, chosen: list[str], name: str | None, by: str = "Ann") -> None:
    done = labels.apply(made.id, seen(made, chosen), name, by)
    assert len(done.seqs) == len(chosen)


def undo(made: Dataset, which: Which, by: str = "Eve") -> tuple[int, int]:
    """What undo says, after a look that it does what it said it would."""
    said = labels.count_undo(made.id, which)
    done = labels.undo(made.id, which, by, f"undo-{next(numbers)}")
    assert done == said
    return done.images, done.stay


def live(made: Dataset) -> tuple[str, ...]:
    return store.get_dataset(made.id).classes


def find(made: Dataset, name: str) -> Class:
    return next(c for c in classes.of(made.id) if c.name == name)


def trail(made: Dataset, image_id: str) -> list[LabelEvent]:
    return labels.history(made.id, image_id)


def words(made: Dataset, image_id: str) -> list[str | None]:
    return [e.label for e in trail(made, image_id)]


def counts(made: Dataset) -> dict[str | None, int]:
    return dict(Counter(store.current_labels(made.id).values()))


def pause() -> str:
    """Lets the clock tick, so that what comes next is another moment; returns the time between."""
    time.sleep(0.004)
    between = now()
    time.sleep(0.004)
    return between
