"""Where files on this server may be read: below the allowed folders and among the uploads, whatever links say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core import roles
from core.data.sources import Source
from core.data.trees import natural
from core.errors import Invalid
from core.settings import settings


def allowed_folder(text: str) -> Path:
    """The folder, zip or table that was typed, links resolved; Invalid unless it lies below an allowed folder."""
    roles.allow_somewhere("import")
    roots = [root.resolve() for root in settings().roots]
    try:
        path = Path(text.strip()).resolve()
        inside = text.strip() != "" and any(path.is_relative_to(root) for root in roots)
    except (OSError, ValueError, RuntimeError):
        inside = False
    listed = ", ".join(str(root) for root in roots)
    if not inside:  # said before it is known whether the path exists: nobody learns what else is on this machine
        raise Invalid(f"“{text.strip()}” is not below a folder that may be imported.", f"Allowed are: {listed}.")
    if not path.exists():
        raise Invalid(f"“{text.strip()}” does not exist.", f"Put the images below one of: {listed}.")
    return path


def folders_under_roots() -> list[Path]:
    """Folders and zips of the first and second level below the allowed folders, to choose from."""
    roles.allow_somewhere("import")
    found: set[Path] = set()
    for root in settings().roots:
        for path in (*root.glob("*"), *root.glob("*/*")):
            hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
            wanted = path.is_dir() or path.suffix.lower() == ".zip"
            if wanted and not hidden and path.resolve().is_relative_to(root.resolve()):
                found.add(path)
    return sorted(found, key=lambda path: natural(str(path)))[:500]


def confined(source: Source) -> Source:
    """The source with its links resolved, read only below the allowed folders and the uploads; Invalid where it lies elsewhere."""
    if source.kind in ("sample", "torchvision"):
        return source
    uploads = settings().uploads.resolve()
    for path in source.paths:
        if not Path(path).resolve().is_relative_to(uploads):
            allowed_folder(path)
    roots = (*(str(r.resolve()) for r in settings().roots), str(uploads))
    paths = tuple(str(Path(p).resolve()) for p in source.paths)
    return replace(source, paths=paths, title=source.title or source.shown(), roots=roots)
