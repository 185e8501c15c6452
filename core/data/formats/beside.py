"""Finds the files that a tool's own paths mean among those beside its table; nothing is ever fetched."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote, urlsplit

_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file
_AGAIN = re.compile(r"_[A-Za-z0-9]{7}(?=([.][^.]*)?$)")  # what Django adds where a name is taken


def _stored(name: str) -> str:
    """The name as Django's storage, and so Label Studio, keeps it."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


class Finder:
    """By the whole path, by the name alone where it is there once, and by the name that Label Studio made of it."""

    def __init__(self, files: Sequence[str]) -> None:
        self.names = set(files)
        self.by_base: dict[str, list[str]] = {}
        self.by_stored: dict[str, list[str]] = {}
        for file in files:
            base = posixpath.basename(file)
            self.by_base.setdefault(base, []).append(file)
            for form in {base, unicodedata.normalize("NFD", base)}:  # a Mac uploads names of decomposed letters, whose marks are dropped
                self.by_stored.setdefault(_stored(form), []).append(file)

    def file(self, given: str) -> tuple[str, str]:
        """(the file's name, "") or ("", the reason)."""
        if not given:
            return "", "it names no image"
        path = given.replace("\\", "/")
        if given.startswith("/data/local-files/"):
            path = parse_qs(urlsplit(given).query).get("d", [""])[0].replace("\\", "/")
        elif "://" in given or given.startswith("/data/"):
            path = unquote(urlsplit(given).path)
        for candidate in (path, unquote(path)):
            normal = posixpath.normpath(candidate)
            if normal in self.names:
                return normal, ""
            base = posixpath.basename(normal)
            found = next(filter(None, self._called(base)), [])
            best = _nearest(normal, found)
            if len(best) == 1:
                return best[0], ""
            if best:
                return "", f"there are {len(best)} files called {base}"
        if "://" in given:
            return "", f"{given[:200]} is a web address, and Loupe fetches nothing from the web; put the file beside the table"
        return "", f"{path[:200]} is not there"

    def _called(self, base: str) -> list[list[str]]:
        """The files that may be meant, the surest way first."""
        plain = _UPLOADED.sub("", base, count=1)
        tried = [self.by_base.get(base, []), self.by_base.get(plain, []), self.by_stored.get(_stored(plain), [])]
        return [*tried, self.by_stored.get(_stored(_AGAIN.sub("", plain)), [])]


def _nearest(path: str, found: Sequence[str]) -> list[str]:
    """Those of the files that share most folders with the path, from its end."""
    wanted = path.split("/")[-2::-1]

    def shared(file: str) -> int:
        folders = file.split("/")[-2::-1]
        return next((n for n, (a, b) in enumerate(zip(wanted, folders, strict=False)) if a != b), min(len(wanted), len(folders)))

    most = max(map(shared, found), default=0)
    return [file for file in dict.fromkeys(found) if shared(file) == most]
