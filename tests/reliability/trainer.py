"""The trainer killed: from outside at random moments, and inside a checkpoint's write, at any byte of it."""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from core.errors import AppError
from core.ml import trainer
from core.runs import launch, runs
from core.runs.runs import write_json
from core.train import train
from core.types import EpochEnd
from tests.forking import ForkLauncher, fork
from tests.reliability import homes
from tests.reliability.row import Row
from tests.squares import imported

VALUES = {"architecture": "convnet", "epochs": 6, "batch_size": 8, "flip": "horizontal"}
CHECKPOINTS = 10  # files that a run of VALUES writes at least, if it writes its weights after every epoch
LATEST = 1.2  # s after its start, about when such a run ends


def train_and_die(folder: Path, seed: int, plain: bool) -> None:
    """The trainer, with a checkpoint after every step's event, which kills itself in one of them. plain: written without care."""
    chance = random.Random(seed)
    left, stage, share = chance.randint(1, CHECKPOINTS), chance.choice(("inside", "written", "renamed")), chance.random()
    whole = (lambda path, write: write(path)) if plain else runs.write_atomically

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write(path: Path, save: Callable[[Path], object]) -> None:
        nonlocal left
        left -= path.suffix == ".pt"
        if left or path.suffix != ".pt":
            whole(path, save)
            return

        def dies(tmp: Path) -> None:
            if stage == "inside" or plain:  # the kernel ends who writes one byte more
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                most = int(share * (path.stat().st_size if path.exists() else 20_000)) + 1
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            save(tmp)
            if stage == "written":
                die()

        whole(path, dies)
        die()

    runs.write_atomically = write  # type: ignore[assignment]
    trainer.Checkpoints.due = lambda self, event: isinstance(event, EpochEnd)  # type: ignore[method-assign]
    trainer.run(folder)


class Deadly(ForkLauncher):
    """Starts trainers that kill themselves in a checkpoint."""

    def __init__(self, seed: int, plain: bool) -> None:
        super().__init__()
        self.seed, self.plain = seed, plain

    def start(self, folder: Path, command: list[str]) -> None:
        code = (
            "from pathlib import Path; from tests.reliability.trainer import train_and_die; "
            f"train_and_die(Path({str(folder)!r}), {self.seed}, {self.plain})"
        )
        started = fork(["-c", code], folder / "worker.log")
        started.connection.close()
        self._children.pop(folder, None)
        try:
            since = psutil.Process(started.pid).create_time()
        except psutil.NoSuchProcess:
            since = 0.0
        write_json(folder / "handle.json", {"pid": started.pid, "started": since})


def outcome(run_id: str) -> tuple[dict[str, Any], bytes]:
    folder = runs.folder(run_id)
    stored = torch.load(runs.checkpoint(folder), weights_only=True)
    return stored["state"], runs.predictions_path(folder).read_bytes()


def same(one: tuple[dict[str, Any], bytes], other: tuple[dict[str, Any], bytes]) -> bool:
    return one[1] == other[1] and one[0].keys() == other[0].keys() and all(torch.equal(one[0][n], other[0][n]) for n in one[0])


def killed(home: Path, dataset: int, seed: int, whole: tuple[dict[str, Any], bytes], plain: bool = False) -> str:
    """Kills a run once and lets it go on; what went wrong, or ""."""
    chance = random.Random(seed)
    inside = plain or seed % 2 == 0
    launch.launcher = Deadly(seed, plain) if inside else ForkLauncher()
    run = train.start(dataset, VALUES, "tester")
    folder = runs.folder(run.id)
    try:
        if inside:
            homes.until(lambda: not launch.launcher.alive(folder), 60)
        else:
            homes.until(lambda: (folder / "events.jsonl").exists())
            time.sleep(chance.random() * LATEST)
            launch.launcher.kill(folder)
            homes.until(lambda: not launch.launcher.alive(folder))
        state = train.state(run.id)
        if state.status == "succeeded":
            return "" if same(outcome(run.id), whole) else "the end differs"
        if state.status != "lost":
            return f"{state.status} after its death: {state.message}"
        launch.launcher = ForkLauncher()
        try:
            train.resume(run.id)
        except AppError as e:
            return str(e)
        state = train.wait(run.id)
        if state.status != "succeeded":
            return f"{state.status} when it went on: {state.message}"
        if left := homes.litter(home):
            return f"left behind: {', '.join(left)}"
        return "" if same(outcome(run.id), whole) else "the end differs"
    finally:
        train.delete(run.id)


def trial(home: Path, n: int) -> Row:
    row = Row(control="checkpoints written in place")
    with homes.moved_in(home):
        found = imported(home.parent, 12)
        first = train.start(found.id, VALUES, "tester")
        assert train.wait(first.id).status == "succeeded", train.log_tail(first.id)
        whole = outcome(first.id)
        for seed in range(n):
            problem = killed(home, found.id, seed, whole)
            row.check(not problem, f"kill {seed}: {problem}")
        for seed in range(1000, 1000 + max(2, n // 10)):
            row.control_check(not killed(home, found.id, seed, whole, plain=True))
    row.figures = "bit-equal weights and answers on the CPU"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
