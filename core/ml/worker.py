"""Trains one run, in its own process: python -m core.ml.worker RUN_DIR."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from core.ml import trainer
from core.runs import runs


def main(folder: Path) -> None:
    """SIGTERM stops the run as its stop file does."""
    if int(os.environ.get("RANK", "0")):
        return  # rank 0 alone trains and writes
    signal.signal(signal.SIGTERM, lambda *_: runs.request_stop(folder))
    trainer.run(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
