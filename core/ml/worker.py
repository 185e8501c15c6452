"""Trains one run, in its own process: python -m core.ml.worker RUN_DIR; or on several devices, started by torchrun."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from core import processes
from core.ml import ranks, trainer
from core.runs import runs


def main(folder: Path) -> None:
    """SIGTERM stops the run as its stop file does."""
    if ranks.expected() > 1:
        # torchrun sends SIGTERM when a rank has died, too: the others end with it, and the run is lost, not stopped.
        processes.live_with(os.getppid())
    else:
        signal.signal(signal.SIGTERM, lambda *_: runs.request_stop(folder))
    trainer.run(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
