"""A power cut, simulated, while a run trains: its checkpoints are whole and no older than what had been written, and it goes on from them.

All that a training process syncs and renames is recorded. What lies on the disk after a cut at some moment is made from it: files
that were synced, names that were settled by a sync of their folder, and of all else some, in pieces of a sector, or nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.errors import AppError
from core.ml import trainer
from core.runs import launch, runs
from core.train import train
from core.types import EpochEnd
from tests.forking import ForkLauncher, fork
from tests.reliability import homes
from tests.reliability.power import SECTOR
from tests.reliability.row import Row
from tests.reliability.trainer import VALUES, outcome, same
from tests.squares import imported

EVENTS = "events.jsonl"
NOBODY = {"pid": 2**22 - 1, "started": 0.0}  # a process that is not there


@dataclass(frozen=True)
class Act:
    """One step of the training process towards the disk."""

    kind: Literal["synced", "renamed", "settled", "said"]  # settled: a folder, whose names last; said: the file counts as written
    events: int  # bytes of events so far, none of them synced
    name: str = ""
    inode: int = 0
    data: bytes = b""


def train_and_tell(folder: Path, out: Path, careless: bool) -> None:
    """The trainer, with a checkpoint after every epoch; its acts are written into out. careless: nothing is synced."""
    acts: list[Act] = []
    sync, rename, whole = os.fsync, os.replace, runs.write_atomically

    def note(kind: Literal["synced", "renamed", "settled", "said"], **more: Any) -> None:
        events = folder / EVENTS
        acts.append(Act(kind, events.stat().st_size if events.exists() else 0, **more))

    def fsync(fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if careless:
            return
        sync(fd)
        if path == folder:
            note("settled")
        elif path.parent == folder:
            note("synced", inode=path.stat().st_ino, data=path.read_bytes())

    def replace(source: Any, target: Any) -> None:
        if Path(target).parent == folder:
            note("renamed", name=Path(target).name, inode=os.stat(source).st_ino, data=Path(source).read_bytes())
        rename(source, target)

    def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
        whole(path, write)
        if path.parent == folder:
            note("said", name=path.name, data=path.read_bytes())

    with ExitStack() as stack:
        for where, name, by in ((os, "fsync", fsync), (os, "replace", replace), (runs, "write_atomically", write_atomically)):
            stack.enter_context(homes.replaced(where, name, by))
        stack.enter_context(homes.replaced(trainer.Checkpoints, "due", lambda self, event: isinstance(event, EpochEnd)))
        trainer.run(folder)
    out.write_bytes(pickle.dumps(acts))


class Telling(ForkLauncher):
    """Starts trainers that tell what they do to the disk, and keeps what was there before."""

    def __init__(self, out: Path, careless: bool) -> None:
        super().__init__()
        self.out, self.careless, self.before = out, careless, dict[str, bytes]()

    def start(self, folder: Path, command: list[str]) -> None:
        self.before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        code = (
            "from pathlib import Path; from tests.reliability.checkpoints import train_and_tell; "
            f"train_and_tell(Path({str(folder)!r}), Path({str(self.out)!r}), {self.careless})"
        )
        fork(["-c", code], folder / "worker.log").wait(120)


@dataclass
class Recorded:
    run_id: str
    before: dict[str, bytes]  # files of the run's folder
    acts: list[Act]
    events: bytes
    end: tuple[dict[str, Any], bytes]  # what the undisturbed run ended with


def recorded(home: Path, dataset: int, careless: bool) -> Recorded:
    launch.launcher = told = Telling(home.parent / "acts", careless)
    run = train.start(dataset, VALUES, "tester")
    folder = runs.folder(run.id)
    assert train.state(run.id).status == "succeeded", train.log_tail(run.id)
    acts = pickle.loads(told.out.read_bytes())
    launch.launcher = ForkLauncher()
    return Recorded(run.id, told.before, acts, (folder / EVENTS).read_bytes(), outcome(run.id))


def pieces(data: bytes, chance: random.Random) -> bytes:
    """Of what was not synced: its beginning, some sectors of which were never written."""
    kept = bytearray(data[: chance.randint(0, len(data))])
    for at in range(0, len(kept), SECTOR):
        if chance.random() < 0.3:
            kept[at : at + SECTOR] = bytes(len(kept[at : at + SECTOR]))
    return bytes(kept)


def after_cut(one: Recorded, acts: list[Act], chance: random.Random) -> dict[str, bytes]:
    """The files of the run's folder when the power is back."""
    plate, latest, names, pending = dict[int, bytes](), dict[int, bytes](), dict[str, int](), list[Act]()
    for act in acts:
        if act.kind == "synced":
            plate[act.inode] = act.data
        elif act.kind == "renamed":
            latest[act.inode] = act.data
            pending.append(act)
        elif act.kind == "settled":
            names |= {p.name: p.inode for p in pending}
            pending = []
    names |= {p.name: p.inode for p in pending[: chance.randint(0, len(pending))]}  # a journal keeps their order
    found = {**one.before, "handle.json": json.dumps(NOBODY).encode()}
    found |= {name: plate[inode] if inode in plate else pieces(latest[inode], chance) for name, inode in names.items()}
    if acts and (there := pieces(one.events[: acts[-1].events], chance)):
        found[EVENTS] = there
    return found


def cut(one: Recorded, chance: random.Random) -> str:
    """What is wrong after a cut at some moment of the run, and with how it goes on; "" if nothing."""
    acts = one.acts[: chance.randint(0, len(one.acts))]
    folder = runs.folder(one.run_id)
    shutil.rmtree(folder)
    folder.mkdir()
    for name, data in after_cut(one, acts, chance).items():
        (folder / name).write_bytes(data)
    for name in ("last.pt", "best.pt"):
        written = [act.data for act in one.acts if act.kind == "said" and act.name == name]
        acknowledged = sum(act.kind == "said" and act.name == name for act in acts)
        there = (folder / name).read_bytes() if (folder / name).exists() else None
        if acknowledged and there not in written[acknowledged - 1 :]:
            older = there in written
            return (
                f"{name} is {'an older one' if older else 'gone' if there is None else 'damaged: ' + hashlib.sha256(there).hexdigest()[:8]}"
            )
    state = train.state(one.run_id)
    try:
        if state.status != "succeeded":
            if state.status != "lost":
                return f"{state.status}: {state.message}"
            train.resume(one.run_id)
            state = train.wait(one.run_id)
        if state.status != "succeeded":
            return f"{state.status} when it went on: {state.message}"
        return "" if same(outcome(one.run_id), one.end) else "the end differs"
    except (AppError, OSError) as e:
        return f"{type(e).__name__}: {e}"


def trial(home: Path, n: int) -> Row:
    row = Row(control="checkpoints that are not synced")
    with homes.moved_in(home):
        found = imported(home.parent, 12)
        for careless, times in ((False, n), (True, max(3, n // 10))):
            one, chance = recorded(home, found.id, careless), random.Random(4)
            for i in range(times):
                problem = cut(one, chance)
                if careless:
                    row.control_check(not problem)
                else:
                    row.check(not problem, f"cut {i}: {problem}")
            if not careless:
                row.figures = f"{len(one.acts)} syncs and renames in a run; goes on to the same weights, to the bit"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
