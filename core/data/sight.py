"""The first sight of a source: what it was taken for and its first pictures, before anything of it is stored."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from core.data.images import Examined
from core.data.sources import Entry, Opened
from core.types import SPLITS, Progress, Skipped

PICTURES = 4  # of each class
CLASSES = 20  # that are shown with pictures


@dataclass
class ClassSeen:
    """What a source holds of a class, or of images without a label (None)."""

    name: str | None
    images: dict[str, int] = field(default_factory=dict)  # by split; "" where the source names none
    pictures: list[str] = field(default_factory=list)  # addresses that hold the thumbnail itself

    @property
    def total(self) -> int:
        return sum(self.images.values())


@dataclass
class Sight:
    guessed: list[str]
    understood: list[str]  # what was clear
    classes: list[ClassSeen]  # as they will be ordered, images without a label last
    skipped: list[Skipped]
    readings: dict[str, str] = field(default_factory=dict)  # encoding -> the unclear names of a zip; the one that was taken is first
    joins: str = ""  # the split that images of no split join; "": Loupe draws it

    def as_dict(self) -> dict[str, Any]:
        """Without the pictures: for the command line."""
        return {
            "guessed": self.guessed,
            "understood": self.understood,
            "classes": [{"name": one.name, "images": one.images} for one in self.classes],
            "skipped": [{"name": s.name, "reason": s.reason} for s in self.skipped],
        }

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Sight:
        classes, skipped = [ClassSeen(**one) for one in value["classes"]], [Skipped(**one) for one in value["skipped"]]
        return Sight(value["guessed"], value["understood"], classes, skipped, value["readings"], value["joins"])


def of(opened: Opened, joins: str, examine: Callable[[Entry], Examined | str], progress: Progress) -> Sight:
    """Counts what the source holds and examines the first pictures of its first classes, as an import would."""
    seen: dict[str | None, ClassSeen] = {name: ClassSeen(name) for name in opened.classes}
    shown = {*opened.classes[:CLASSES], None}
    taken: Counter[str | None] = Counter()

    def wanted(entry: Entry) -> bool:
        taken[entry.label] += entry.label in shown
        return entry.label in shown and taken[entry.label] <= PICTURES

    unread: list[Skipped] = []
    for n, entry in enumerate(opened.glance(wanted), 1):
        progress(n, opened.total, "Looking at the first images")
        one = seen.setdefault(entry.label, ClassSeen(entry.label))
        one.images[entry.split or ""] = one.images.get(entry.split or "", 0) + 1
        if entry.path is None and entry.data is None and entry.array is None:
            continue
        if isinstance(found := examine(entry), str):
            unread.append(Skipped(entry.name, found))
        else:
            one.pictures.append(address(found.thumb))
    for one in seen.values():
        one.images = {split: one.images[split] for split in (*SPLITS, "") if split in one.images}
    clear = [text for text in opened.understood if text not in opened.guessed]
    return Sight(
        opened.guessed, clear, sorted(seen.values(), key=lambda one: one.name is None), [*opened.skipped, *unread], opened.readings, joins
    )


def address(thumb: bytes) -> str:
    kind = "png" if thumb.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(thumb).decode()}"
