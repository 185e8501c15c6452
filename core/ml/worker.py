"""Trains one run, in its own process: python -m core.ml.worker RUN_DIR; or on several devices, started by torchrun."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

from core import processes
from core.errors import AppError, Stopped
from core.ml import turns
from core.runs import runs, stored

EVERY = 2.0  # seconds between two looks at whose run it is


def main(folder: Path) -> None:
    """SIGTERM stops the run as its stop file does."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        one_of_several(folder)
        return
    signal.signal(signal.SIGTERM, lambda *_: runs.request_stop(folder))
    try:
        kind = turns.known(runs.load(folder).config.device)
    except AppError:  # the trainer says so in the run's events
        kind = None
    with stored.Copier(folder) as copier:  # the last copy needs no device
        try:
            with turns.turn(folder, turns.parts(kind)) if kind else nullcontext() as held:
                from core.ml import trainer  # PyTorch: 4 s and 500 MB, which a run that waits its turn does without

                trainer.run(folder, held, copier.copy)
        except Stopped:
            runs.append(folder, turns.halted(folder))


def leave_to_another(folder: Path, job: str) -> None:
    """Ends this process, of the job or with "" of none, when the run is given to another job or from one machine to a cluster.

    Who could not be asked may have been taken for gone.
    """
    had = bool(job)  # else what stands there at first is of an earlier job, until who started this process has written that down
    while (has := runs.works_at(folder, job)) or not had:
        had = had or has
        time.sleep(EVERY)
    os._exit(0)


def one_of_several(folder: Path) -> None:
    """A rank, started by torchrun, which sends SIGTERM when another has died, too: it ends with it, and the run is lost, not stopped."""
    from core.ml import trainer

    processes.live_with(os.getppid())
    if os.environ["RANK"] == "0":
        with stored.Copier(folder) as copier:
            trainer.run(folder, written=copier.copy)
    else:
        trainer.follow(folder)


if __name__ == "__main__":
    if os.environ.get("RANK", "0") == "0":
        processes.keep(Path(sys.argv[1]).resolve())
    watched = Path(sys.argv[1]).resolve(), os.environ.get("LOUPE_RAY_JOB", "")
    threading.Thread(target=leave_to_another, args=watched, daemon=True).start()
    main(Path(sys.argv[1]).resolve())
