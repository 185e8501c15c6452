"""Which file of a folder or zip the path in a table means."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from core.data.tables import Count
from core.data.trees import File


class Paths:
    """Finds the file that a path of any system means, by the longest common tail; only among the files of the tree."""

    def __init__(self, files: Iterable[File]) -> None:
        self.by_tail = Count()  # paths that name a file only by their last parts
        self.exact: dict[str, File] = {}
        self.by_base: dict[str, list[File]] = {}
        for file in files:
            self.exact[file.name] = file
            self.by_base.setdefault(posixpath.basename(file.name).casefold(), []).append(file)

    def find(self, base: str, image: str) -> File | str:
        """The file, or why there is none."""
        if not image:
            return "it names no image"
        path = posixpath.normpath(image.replace("\\", "/"))
        if (file := self.exact.get(posixpath.normpath(posixpath.join(base, path)))) is not None:
            return file
        near = [f for f in self.by_base.get(posixpath.basename(path).casefold(), []) if not base or f.name.startswith(f"{base}/")]
        if not near:
            return f"{image} is not there"
        given = posixpath.join(base, path.lstrip("/")).casefold().split("/")[::-1]
        tails = [_common(given, f.name.casefold().split("/")[::-1]) for f in near]
        best = [f for f, tail in zip(near, tails, strict=True) if tail == max(tails)]
        if len(best) > 1:
            return f"{image} may be {best[0].name} or {best[1].name}"
        if not f"/{best[0].name}".endswith(f"/{path}"):
            self.by_tail.add(f"{image} is {best[0].name}")
        return best[0]


def _common(one: list[str], other: list[str]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
