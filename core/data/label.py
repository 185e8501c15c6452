"""Labelling: giving, flagging and taking back, classes, dealing out work; every change is one more event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from core.data import ledger, store
from core.data.ledger import LabelResult, Undone
from core.data.ledger import Which as Which
from core.data.store import Filter as Filter
from core.errors import Conflict, Invalid
from core.names import MAX_EXAMPLES, checked_name
from core.names import MAX_GUIDELINE as MAX_GUIDELINE
from core.types import Act, Class, Current, Image, LabelEvent

if TYPE_CHECKING:
    import pandas as pd

MAX_AT_ONCE = 5000


def apply(
    dataset_id: int, seen: Mapping[str, int], label: str | None, by: str, operation: str | None = None, source: str = "manual"
) -> LabelResult:
    """Gives the label (None takes it back) to the images whose version is still the one seen: image id -> label_seq."""
    _check(seen, operation)
    return ledger.apply(dataset_id, seen, label, by, source, operation)


def flag(dataset_id: int, seen: Mapping[str, int], flagged: bool, by: str, operation: str | None = None) -> LabelResult:
    """Flags the images for another look, or takes the flag away."""
    _check(seen, operation)
    return ledger.flag(dataset_id, seen, flagged, by, operation)


def _check(seen: Mapping[str, int], operation: str | None) -> None:
    if operation is not None and operation.startswith(ledger.PAST):
        raise Invalid("This operation has the name of an imported event.", "Reload the page and try again.")
    if not seen:
        raise Invalid("No image was chosen.", "Choose at least one image.")
    if len(seen) > MAX_AT_ONCE:
        raise Invalid(f"{len(seen)} images were chosen.", f"Up to {MAX_AT_ONCE} can be labelled in one go.")


def apply_to_all(dataset_id: int, ids: Sequence[str], label: str | None, by: str, operation: str, source: str, over: bool = False) -> int:
    """Gives the label to all the images, however many; those labelled already keep theirs unless over; returns how many changed."""
    found = [i for i in store.get_images(dataset_id, ids) if i.label != label and (over or i.label is None)]
    changed = 0
    for start in range(0, len(found), MAX_AT_ONCE):
        seen = {i.id: i.label_seq for i in found[start : start + MAX_AT_ONCE]}
        changed += len(ledger.apply(dataset_id, seen, label, by, source, operation).seqs)
    return changed


# History ------------------------------------------------------------------------------------------


def flagged(dataset_id: int) -> dict[str | None, int]:
    """How many images are flagged, by their label."""
    return ledger.flagged(dataset_id)


def history(dataset_id: int, image_id: str) -> list[LabelEvent]:
    """The image's label events, newest first."""
    return ledger.history(dataset_id, image_id)


def changes(dataset_id: int, after: int) -> tuple[int, list[Current]]:
    """The newest seq, and what images carry that anybody has changed after the given one."""
    return ledger.changes(dataset_id, after)


def acts(dataset_id: int, which: Which, page: int, per_page: int = 20) -> tuple[list[Act], int]:
    """One page (from 1) of what was done, newest first, and how many acts there are."""
    return ledger.acts(dataset_id, which, (max(1, page) - 1) * per_page, per_page)


def which(act: Act) -> Which:
    """The events of an act."""
    return Which(by=act.by, first=act.first, last=act.last, operation=act.operation)


def images_of(dataset_id: int, act: Act, limit: int) -> list[str]:
    """The ids of the act's images, the first ones."""
    return ledger.images_of(dataset_id, which(act), limit)


def people(dataset_id: int) -> list[str]:
    """Everybody who has labelled or flagged something."""
    return ledger.people(dataset_id)


def undo(dataset_id: int, which: Which, by: str, operation: str) -> Undone:
    """Takes events back where nothing came after them; the same operation twice is done once."""
    return ledger.undo(dataset_id, which, by, operation)


def count_undo(dataset_id: int, which: Which) -> Undone:
    """What undo would do."""
    return ledger.undo(dataset_id, which, "", dry=True)


def go_back(dataset_id: int, image: Image, event: LabelEvent, by: str) -> LabelResult:
    """Gives the image what it carried before the event, whatever came after it; Conflict if it has changed since it was seen."""
    done = ledger.go_back(dataset_id, image.id, image.label_seq, event.seq, by)
    if done.refused:
        one = done.refused[image.id]
        raise Conflict(f"{one.by} has changed this image since.", "Look at its history and choose again.")
    return done


def imported_predictions(dataset_id: int, ids: Sequence[str]) -> pd.DataFrame:
    """The likeliest prediction that came with an import for each of the images: image_id, predicted, confidence (may be NaN)."""
    import pandas as pd  # 0.4 s that processes which only label need not spend

    rows = [(image_id, name, score) for image_id, _, name, score in store.imported_predictions(dataset_id, ids)]
    found = pd.DataFrame(rows, columns=["image_id", "predicted", "confidence"]).astype({"confidence": float})
    return found.sort_values("confidence", ascending=False).drop_duplicates("image_id")


# Classes ------------------------------------------------------------------------------------------


def classes(dataset_id: int) -> list[Class]:
    """All classes in their order, retired ones last."""
    return ledger.list_classes(dataset_id)


def add_class(dataset_id: int, name: str) -> str:
    """Adds the class and returns its name as stored."""
    name = checked_name(name, "class")
    for known in ledger.list_classes(dataset_id):
        if known.name.casefold() == name.casefold():
            if known.retired_at:
                raise Conflict(f"The class “{known.name}” was retired.", "Bring it back below, or choose another name.")
            raise Conflict(f"There is a class “{known.name}” already.", "Use that one, or choose another name.")
    ledger.add_classes(dataset_id, [name])
    return name


def rename_class(dataset_id: int, old: str, new: str, by: str) -> str:
    """Renames the class and returns the name as stored; history keeps the words of its day."""
    new = checked_name(new, "class")
    if new != old:
        ledger.rename_class(dataset_id, old, new, by)
    return new


def merge_class(dataset_id: int, name: str, into: str, by: str, operation: str | None = None) -> int:
    """Moves all images of a class into another and retires it; returns how many moved."""
    return ledger.retire_class(dataset_id, name, into, by, operation)


def retire_class(dataset_id: int, name: str, by: str, operation: str | None = None) -> int:
    """Offers the class no more; returns how many images lost their label by it."""
    return ledger.retire_class(dataset_id, name, None, by, operation)


def restore_class(dataset_id: int, name: str, by: str) -> int:
    """Offers a retired class again; returns how many images have it back."""
    return ledger.restore_class(dataset_id, name, by)


def restorable(dataset_id: int) -> dict[str, int]:
    """How many images each retired class would get back."""
    return ledger.restorable(dataset_id)


def order_classes(dataset_id: int, names: Sequence[str]) -> None:
    ledger.order_classes(dataset_id, names)


def describe_class(dataset_id: int, name: str, guideline: str, seen: str | None = None) -> None:
    """Sets the guideline, what belongs to the class and what does not, if it is still the one seen."""
    guideline = guideline.strip()
    if len(guideline) > MAX_GUIDELINE:
        raise Invalid(f"The guideline has {len(guideline):,} characters.", f"Up to {MAX_GUIDELINE:,} are allowed.")
    ledger.describe_class(dataset_id, name, guideline, seen)


def set_example(dataset_id: int, name: str, image_id: str, accepted: bool | None) -> None:
    """Makes the image an accepted or rejected example of the class; None takes it away."""
    one = next((known for known in ledger.list_classes(dataset_id) if known.name == name), None)
    shown = () if accepted is None or one is None else one.accepted if accepted else one.rejected
    if len(shown) >= MAX_EXAMPLES and image_id not in shown:
        raise Invalid(f"“{name}” has {MAX_EXAMPLES} such examples already.", "Take one away first.")
    store.get_image(dataset_id, image_id)
    ledger.set_example(dataset_id, name, image_id, accepted)


# Several people -----------------------------------------------------------------------------------


def deal(dataset_id: int, session: str, candidates: Sequence[str], count: int, keep: Sequence[str] = ()) -> list[str]:
    """The first candidates without a label that were not dealt out to anybody else; they are this session's while it is there.

    What it held before is free again, but for keep.
    """
    return store.deal(dataset_id, session, candidates, count, keep)


def renew(dataset_id: int, session: str) -> None:
    """Says that the session is still there."""
    store.renew(dataset_id, session)


def release(dataset_id: int, session: str) -> None:
    """Gives back what was dealt out to a session that has ended."""
    store.release(dataset_id, session)


def held_by_others(dataset_id: int, session: str) -> int:
    """How many images are dealt out to others at the moment."""
    return store.held_by_others(dataset_id, session)
