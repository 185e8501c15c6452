"""Runs, embeddings and what imports remember, in object storage: copied when they change, and brought to a machine that is new.

Beside such files lies core.storage.INDEX, which says what storage has of them; the files themselves are whole in storage at any time.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from core import processes, storage
from core.errors import AppError, Unavailable
from core.runs import runs
from core.settings import settings
from core.types import Progress, silent

LOCK = ".stored.lock"
NOT_COPIED = (processes.HANDLE, "stop", "pause", storage.INDEX)  # of this machine alone
WEIGHTS = ("last.pt", "best.pt")
APPENDED = (".jsonl", ".log", ".depth", ".originals", ".alike", ".grey")  # other files are written beside and renamed
BETWEEN, AGAIN = 10.0, 2.0  # seconds between two copies of a run that trains, and until one that failed is tried again
LAST_WORD = 60.0  # seconds that a run which has ended waits for a storage that is away; the server copies it later
QUIET = 30.0  # seconds without a change before what an import appends to is copied


# Copying --------------------------------------------------------------------------------------------


def copy(folder: Path, patience: float | None = None) -> None:
    """Copies what has changed in a folder since the last time; Unavailable if it cannot.

    In such an order that what is there at any moment can be gone on from, whenever it ends. What is missing here stays there: the
    folder is a cache, and only a checkpoint that its run has deleted is deleted there too.
    """
    if not storage.on() or not folder.is_dir():
        return
    with suppress(filelock.Timeout), filelock.FileLock(folder / LOCK).acquire(timeout=0), _changed(folder) as made:
        known = storage.index(folder)
        for name in sorted(os.listdir(made), key=lambda name: _turn(made, name)):
            stat = (made / name).stat()
            facts: dict[str, Any] = {"size": stat.st_size, "mtime": stat.st_mtime_ns}
            if name in WEIGHTS:
                facts["sha256"] = [runs.sha256(made / name)]
                if name in known:  # storage may have it although its answer is lost
                    known[name]["sha256"] = [*known[name].get("sha256", ()), *facts["sha256"]]
                    storage.write_index(folder, known)
            if name == "hashes.json":
                _put_hashes(folder, made, known, patience)
            else:
                storage.put_file(made / name, folder / name, patience)
            known[name] = facts
            storage.write_index(folder, known)
        if _has_done_with_checkpoint(folder, known):
            storage.remove([folder / "last.pt"])
            del known["last.pt"]
            storage.write_index(folder, known)


@contextmanager
def _changed(folder: Path) -> Iterator[Path]:
    """A folder with those of the folder's files that storage has otherwise, as they are at one moment: the run may replace them meanwhile.

    Weights first, and the checkpoint before the best ones: of the two the checkpoint must never be the newer.
    """
    names = {*_names_changed(folder)}
    if names & {*WEIGHTS}:  # a run writes the hashes before the weights: they may have been copied between the two
        names.add("hashes.json")
    with runs.scratch(folder / "stored") as made:
        for name in sorted(names, key=lambda name: WEIGHTS.index(name) if name in WEIGHTS else len(WEIGHTS)):
            if not name.endswith(APPENDED):
                with suppress(OSError):  # a file system without links
                    os.link(folder / name, made / name)
            if not (made / name).exists():
                with suppress(FileNotFoundError):
                    shutil.copy2(folder / name, made / name)
        yield made


def _names_changed(folder: Path) -> list[str]:
    known, found = storage.index(folder), []
    for entry in os.scandir(folder):
        if entry.is_file() and entry.name not in NOT_COPIED and not entry.name.startswith((".", "predictions-")):
            with suppress(FileNotFoundError):
                stat, one = entry.stat(), known.get(entry.name)
                if not entry.name.endswith((".pack", ".lock")) and (
                    one is None or (one["size"], one["mtime"]) != (stat.st_size, stat.st_mtime_ns)
                ):
                    found.append(entry.name)
    return found


def _has_done_with_checkpoint(folder: Path, known: dict[str, Any]) -> bool:
    """Whether storage has a checkpoint that the run deleted when it succeeded; one that was evicted or lost here is still needed."""
    if "last.pt" not in known or (folder / "last.pt").exists():
        return False
    lines = runs.read_lines(folder)[0]
    return bool(lines) and lines[-1].get("kind") == "Ended" and lines[-1].get("outcome") == "succeeded"


def _turn(made: Path, name: str) -> int:
    """Hashes before the weights that they are of, the best weights before the checkpoint that names them.

    Events after a checkpoint are dropped when it goes on, so they come first; but what says that the run has ended comes last.
    """
    if name == "events.jsonl":
        return 5 if _ended(made) else 1
    return {"hashes.json": 2, "best.pt": 3, "last.pt": 4}.get(name, 0)


def _ended(folder: Path) -> bool:
    lines = runs.read_lines(folder)[0]
    return bool(lines) and lines[-1].get("kind") in ("Ended", "Done", "Stopped", "Failed")


def _put_hashes(folder: Path, made: Path, known: dict[str, Any], patience: float | None) -> None:
    """The hashes of the weights that storage has, beside those of the ones that are about to take their place."""
    found = runs.read_hashes(made)
    for name in WEIGHTS:
        coming = [runs.sha256(made / name)] if (made / name).exists() else []
        if hashes := [*known.get(name, {}).get("sha256", ()), *coming]:
            found[name] = hashes
    runs.write_json(made / "hashes.stored", found)
    storage.put_file(made / "hashes.stored", folder / "hashes.json", patience)


class Copier:
    """Copies a run that trains in a thread of its own; training never waits for storage."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.problem = folder, ""
        self._wanted, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="storage")
        if storage.on():
            self._thread.start()

    def copy(self) -> None:
        """Soon."""
        self._wanted.set()

    def __enter__(self) -> Copier:
        return self

    def __exit__(self, *_: object) -> None:
        """Waits until all is copied, or storage has been away for LAST_WORD."""
        if storage.on():
            self._over.set()
            self._wanted.set()
            self._thread.join()
            self._try(LAST_WORD)
            if self.problem:
                print(f"{self.problem} The run is whole here; the server copies it once it can, or python -m core storage.", flush=True)

    def _work(self) -> None:
        while not self._over.is_set():
            self._wanted.wait()
            self._wanted.clear()
            while not self._over.is_set() and not self._try(0.0):
                self._over.wait(AGAIN)
            self._over.wait(BETWEEN)

    def _try(self, patience: float | None) -> bool:
        before = self.problem
        try:
            copy(self.folder, patience)
            self.problem = ""
        except Exception as e:  # whatever it is, the thread goes on
            self.problem = f"The run could not be copied to storage: {e}"
        if self.problem and not before:
            print(self.problem, flush=True)  # into the run's log
        return not self.problem


# All that is here -----------------------------------------------------------------------------------


def _folders() -> list[Path]:
    """Runs, those in the bin too, and embeddings."""
    home = settings().home
    found = [*settings().runs.glob("[!.]*/config.json"), *home.glob("bin/*/config.json"), *settings().embeddings.glob("*/[!.]*/job.json")]
    return sorted(path.parent for path in found)


def behind() -> int:
    """How many runs and embeddings storage does not have as they are here."""
    return sum(is_behind(folder) for folder in _folders() if not _in_bin(folder)) if storage.on() else 0


def is_behind(folder: Path) -> bool:
    """Whether storage does not have a folder as it is here."""
    return bool(_names_changed(folder)) or _has_done_with_checkpoint(folder, storage.index(folder))


def copy_all(patience: float | None = storage.SOON) -> int:
    """Copies what changed of all runs and embeddings, and of what imports remember; returns how many folders that were.

    What is the matter with one folder is raised once the others are copied.
    """
    done, problem = 0, None
    for folder in _folders():
        try:
            if not _in_bin(folder) and is_behind(folder):
                copy(folder, patience)
                done += 1
            _mark(folder, patience)
        except Unavailable:
            raise
        except (AppError, OSError) as e:
            problem = e
    importing = any(time.time() - path.stat().st_mtime < QUIET for path in settings().thumbs.glob("*.*"))
    if not importing and settings().thumbs.is_dir() and is_behind(settings().thumbs):
        copy(settings().thumbs, patience)
    if problem:
        raise problem
    return done


def _in_bin(folder: Path) -> bool:
    return folder.parent == settings().home / "bin"


def _mark(folder: Path, patience: float | None) -> None:
    """Lets storage know that a run is in the bin, or back from there: its files stay where they are."""
    mark = settings().home / "bin" / f"{folder.name}.deleted"
    if _in_bin(folder) and storage.index(folder) and not (folder / ".deleted").exists():
        storage.put(mark, b"", patience)
        (folder / ".deleted").touch()
    elif not _in_bin(folder) and (folder / ".deleted").exists():
        storage.remove([mark])
        (folder / ".deleted").unlink()


def another() -> None:
    """Takes nothing for copied: LOUPE_STORAGE names another one than before."""
    for folder in (*_folders(), settings().thumbs):
        if known := storage.index(folder):
            storage.write_index(folder, {name: one for name, one in known.items() if not (folder / name).exists()})


def fetch_all(progress: Progress = silent) -> int:
    """Brings runs and embeddings that only storage has, but for their weights, which are fetched when they are needed; how many."""
    deleted = {name.removesuffix(".deleted") for name in storage.names(settings().home / "bin")}
    parents = [settings().runs, *(settings().embeddings / name for name in storage.folders(settings().embeddings))]
    wanted = []
    for parent in parents:
        for name in storage.folders(parent):
            folder = settings().home / "bin" / name if name in deleted and parent == settings().runs else parent / name
            if not folder.exists() and not (settings().home / "bin" / name).exists():
                wanted.append((parent / name, folder))
    progress(0, len(wanted), "Fetching runs from storage")
    storage.at_once(lambda pair: _bring(*pair), wanted)
    if not settings().thumbs.is_dir() or not storage.index(settings().thumbs):
        _bring(settings().thumbs, settings().thumbs, only=(".depth", ".originals", ".alike", ".grey"))
    return len(wanted)


def _bring(source: Path, folder: Path, only: tuple[str, ...] = ("",)) -> None:
    sizes = {name: size for name, size in storage.names(source).items() if name.endswith(only)}
    if not sizes or (folder.parent != settings().home and not {"config.json", "job.json"} & sizes.keys()):
        return  # it was cut off before its first files were whole
    with runs.scratch(folder) as made:
        known: dict[str, Any] = {name: {"size": size, "mtime": time.time_ns()} for name, size in sizes.items()}
        for name in sizes.keys() - {*WEIGHTS}:
            storage.get_file(source / name, made / name, sizes[name])
            known[name]["mtime"] = (made / name).stat().st_mtime_ns
        for name in sizes.keys() & {*WEIGHTS}:
            known[name]["sha256"] = runs.read_hashes(made).get(name, [])
        if folder.parent.name == "bin":
            (made / ".deleted").touch()
        storage.write_index(made, known)
        if folder.is_dir():  # of thumbnails
            for path in made.iterdir():
                if path.name == storage.INDEX or not (folder / path.name).exists():
                    os.replace(path, folder / path.name)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.rename(made, folder)


def bring_weights(folder: Path) -> None:
    """Fetches what a run needs to go on; Unavailable if it cannot."""
    for name in WEIGHTS:
        storage.local(folder / name, storage.PATIENT)
