"""Has PyTorch loaded before anyone waits for it, and forks off what needs it: python -m core.ml.forks.

Each line of its standard input is a command line of core.ml or of a job, and its log; the fork answers with its pid. It ends when that input ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
import traceback
from collections.abc import Callable

LOADED = (
    "core.ml.trainer", "core.ml.finder", "core.ml.speed", "core.ml.worker", "core.ml.embed", "torchvision.models", "timm", "onnxruntime",
)  # fmt: skip
IDLE = 600.0  # seconds without a line after which it ends, for it holds 430 MB


def main() -> None:
    """Imports only: a process that has used a GPU, or PyTorch's threads, cannot be forked."""
    answers = os.dup(1)
    os.dup2(2, 1)
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is loaded stays shared with the forks: their collector does not write to it
    signal.signal(signal.SIGCHLD, reap)
    os.write(answers, b"ready\n")
    lines = os.fdopen(0, "rb", buffering=0, closefd=False)
    while select.select([lines], [], [], IDLE)[0] and (line := lines.readline()):
        try:
            child = os.fork()
        except OSError:  # no memory for another process
            os.write(answers, b"0\n")
            continue
        if not child:
            become(answers, **json.loads(line))


def reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def become(answers: int, command: list[str], log: str) -> None:
    """What `python -m command…` does, in a session of its own; does not return."""

    def work() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for fd, to in ((0, os.open(os.devnull, os.O_RDONLY)), (1, written), (2, written)):
            os.dup2(to, fd)
        os.write(answers, b"%d\n" % os.getpid())  # last: who has the pid may kill the session
        os.close(answers)
        sys.argv = command
        if command[0] != "core":  # of which __main__ is run, and that is not loaded
            sys.modules.pop(command[0], None)
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)

    os._exit(status_of(work))


def status_of(work: Callable[[], None]) -> int:
    """What python exits with after the work, which may end by any exception; what was printed has left."""
    status = 1
    try:
        work()
        status = 0
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return status


if __name__ == "__main__":
    main()
