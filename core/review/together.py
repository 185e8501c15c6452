"""Pictures of several requests answered in one call of the model worker: while it is busy they gather, and nobody waits for that."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from core.runs import launch
from core.runs.remote import infer

MOST = 32  # pictures of one call: as many as the worker puts through the network at once
AHEAD = 2  # calls at the worker: one at work, and one that it finds when it has ended

Rows = list[dict[str, Any]]
Asked = tuple[list[str], Future[Rows]]  # files of one request, and where their answers go


@dataclass
class _Line:
    """What waits to be asked of one run."""

    waiting: deque[Asked] = field(default_factory=deque)
    asked: int = 0  # calls that are not answered yet


_turn = threading.Lock()
_lines: dict[str, _Line] = {}


def ask(run_folder: str, files: list[str]) -> Future[Rows]:
    """As infer.predict answers these files."""
    answer: Future[Rows] = Future()
    with _turn:
        _lines.setdefault(run_folder, _Line()).waiting.append((files, answer))
    _send(run_folder)
    return answer


def _send(run_folder: str) -> None:
    """Asks for what waits, unless the worker has as much as it should already."""
    while (taken := _next(run_folder)) is not None:
        try:
            future = launch.submit(infer.predict, run_folder, [file for files, _ in taken for file in files])
        except Exception as e:
            _answered(run_folder)
            for _, answer in taken:
                answer.set_exception(e)
        else:
            future.add_done_callback(partial(_share, run_folder, taken))


def _next(run_folder: str) -> list[Asked] | None:
    """What goes into the next call; None if there is none to make."""
    with _turn:
        line = _lines.get(run_folder)
        if line is None or line.asked >= AHEAD:
            return None
        if not line.waiting:
            if not line.asked:
                del _lines[run_folder]
            return None
        taken: list[Asked] = []
        pictures = 0
        while line.waiting and (not taken or pictures + len(line.waiting[0][0]) <= MOST):
            taken.append(line.waiting.popleft())
            pictures += len(taken[-1][0])
        line.asked += 1
        return taken


def _share(run_folder: str, taken: list[Asked], done: Future[Rows]) -> None:
    """Gives each request its own answers."""
    _answered(run_folder)
    problem = done.exception()
    rows = [] if problem else done.result()
    start = 0
    for files, answer in taken:
        if problem:
            answer.set_exception(problem)
        else:
            answer.set_result(rows[start : start + len(files)])
            start += len(files)
    if problem:  # of a worker that died: another cannot be started in the thread that buries it
        threading.Thread(target=_send, args=(run_folder,), daemon=True).start()
    else:
        _send(run_folder)


def _answered(run_folder: str) -> None:
    with _turn:
        _lines[run_folder].asked -= 1
