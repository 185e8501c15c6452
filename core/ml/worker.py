"""Trains one run, in its own process: python -m core.ml.worker RUN_DIR."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

from core.errors import AppError, Stopped
from core.ml.turns import halted, known, turn
from core.runs import runs


def main(folder: Path) -> None:
    """SIGTERM stops the run as its stop file does."""
    if int(os.environ.get("RANK", "0")):
        return  # rank 0 alone trains and writes
    signal.signal(signal.SIGTERM, lambda *_: runs.request_stop(folder))
    try:
        device = known(runs.load(folder).config.device)
    except AppError:  # the trainer says so in the run's events
        device = None
    try:
        with turn(folder, device) if device else nullcontext():
            from core.ml import trainer  # PyTorch: 4 s and 500 MB, which a run that waits its turn does without

            trainer.run(folder, device)
    except Stopped:
        runs.append(folder, halted(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
