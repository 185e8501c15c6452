"""Class folders: the label of an image is the name of its folder, inside a folder of its split or none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from core.data.tables import Format, Row, split_in, split_of
from core.types import Skipped, Split

CLEAR = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})  # names that only splits have


def write(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, str]:
    return {}  # where the images lie says it all


def read(name: str, text: str, files: Sequence[str], skipped: list[Skipped]) -> list[Row]:
    """Of images, as there is no table."""
    return arranged(files, skipped)[0]


def arranged(files: Sequence[str], skipped: list[Skipped]) -> tuple[list[Row], dict[str, bool]]:
    """The images by where they lie, and what was made of the folders: sentences for people -> whether it had to be guessed."""
    paths = [[part.strip() for part in file.split("/")] for file in files]
    said: dict[str, bool] = {}
    if depth := _wrappers(paths):
        peeled = max((parts[:depth] for parts in paths), key=len)
        paths = [parts[min(depth, len(parts) - 1) :] for parts in paths]  # pictures right in a wrapping folder carry no label
        tops = {parts[0] for parts in paths if len(parts) > 1}
        usual = depth == 1 and (len(tops) > 1 or tops <= CLEAR)  # as one packs a folder: there is no other way to read it
        said[f"“{'/'.join(peeled)}” only wraps the others and names no class"] = not usual
    splits = _splits(paths)
    for folder, taken in splits.items():
        inside = [parts[1:] for parts in paths if parts[0] == folder and len(parts) > 1]
        said[f"“{folder}” was taken for the {taken} split ({len(inside):,} images)"] = folder.casefold() not in CLEAR
    for folder in sorted({parts[0] for parts in paths if len(parts) > 1} - splits.keys()):
        if splits:
            said[f"“{folder}” is left out: the folders beside it are splits"] = True
        elif split_of(folder):
            said[f"“{folder}” was taken for a class: the folders beside it are no splits"] = True

    wrapped = {folder: _repeats(paths, folder) for folder in splits}
    said |= {f"“{'/'.join(path)}” only wraps the others and names no class": True for path in wrapped.values() if path}
    below = ""
    rows: list[Row] = []
    for file, parts in zip(files, paths, strict=True):
        split: Split | None = None
        if splits and len(parts) > 1:
            if parts[0] not in splits:
                skipped.append(Skipped(file, "it is in no split folder (train, validation or test)"))
                continue
            split, peel = splits[parts[0]], max(1, len(wrapped[parts[0]]))
            parts = parts[min(peel, len(parts) - 1) :]
        rows.append(Row(file, file, parts[0] if len(parts) > 1 else None, split or ""))
        below = below or (f"{parts[0]}/{parts[1]}" if len(parts) > 2 else "")
    if below:
        said[f"Folders below a class name no class of their own: “{below}” is “{below.partition('/')[0]}”"] = True
    return rows, said


def _wrappers(paths: Sequence[Sequence[str]]) -> int:
    """How many folders lie around all others: neither splits nor classes."""
    depth = 0
    while True:
        inner = [parts[depth:] for parts in paths if len(parts) > depth]
        tops = {parts[0] for parts in inner if depth == 0 or len(parts) > 1}
        deep = [parts for parts in inner if len(parts) > 2]
        if len(tops) != 1 or split_of(next(iter(tops))) or not deep:
            return depth
        below = {parts[1] for parts in deep}
        if len(below) == 1 and depth == 0 and len(deep) == len(inner):  # one class, or wrappers around what branches further down
            further = 1
            while len({parts[further] for parts in inner if len(parts) > further + 1}) == 1 and not split_of(deep[0][further]):
                further += 1
            branches = any(len(parts) > further + 1 for parts in inner)
            return further if branches else 1
        if len(below) == 1 and not split_of(next(iter(below))):  # it is a class with a folder in it
            return depth
        depth += 1


def _splits(paths: Sequence[Sequence[str]]) -> dict[str, Split]:
    """What the folders at the top stand for, where they are splits and not classes."""
    folders = dict.fromkeys(parts[0] for parts in paths if len(parts) > 1)
    with_classes = {parts[0] for parts in paths if len(parts) > 2}
    plain = {folder: split for folder in folders if (split := split_of(folder))}
    of_classes = {split for folder, split in plain.items() if folder in with_classes}
    if plain and (len(plain) == len(folders) or len(of_classes) > 1 or "train" in of_classes):
        return plain
    named: dict[str, dict[str, Split]] = defaultdict(dict)  # by the set's name in them, as in pets_train and pets_test
    for folder in with_classes:
        split, rest = split_in(folder)
        if split:
            named[rest][folder] = split
    best = max(named.values(), key=len, default={})
    # One alone, such as “bullet train”, is more likely a class.
    return {folder: best[folder] for folder in folders if folder in best} if len(set(best.values())) > 1 else {}


def _repeats(paths: Sequence[Sequence[str]], split: str) -> list[str]:
    """The folder of the split with those below it that only wrap its classes; empty if there are none."""
    inside = [parts for parts in paths if parts[0] == split and len(parts) > 1]
    depth = 1
    while True:
        below = Counter(parts[depth] for parts in inside if len(parts) > depth + 1)
        deeper = {parts[depth + 1] for parts in inside if len(parts) > depth + 2}
        only = next(iter(below), "")
        if len(below) != 1 or not deeper or not (split_of(only) or only == split or len(deeper) > 1):
            return list(inside[0][:depth]) if depth > 1 else []
        depth += 1


FORMAT = Format(
    title="Class folders",
    sentence="A folder per split and class, as most training tools read them.",
    can=frozenset({"labels"}),
    write=write,
    read=read,
    own_facts=False,
)
