"""Pictures of several requests in one call of the model worker: each gets its own answers, and nobody waits for what has failed."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from core.review import together
from core.runs import launch


class Worker:
    """What was asked of it, to be answered when a test wants it to."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], Future[Any]]] = []

    def submit(self, function: object, folder: str, files: list[str]) -> Future[Any]:
        self.calls.append((files, Future()))
        return self.calls[-1][1]

    def answer(self, call: int) -> None:
        files, future = self.calls[call]
        future.set_result([{"file": file} for file in files])


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    one = Worker()
    monkeypatch.setattr(launch, "submit", one.submit)
    return one


def test_what_comes_while_the_worker_is_busy_is_asked_in_one_call_and_each_gets_its_own(worker: Worker) -> None:
    asked = [together.ask("run", [f"{i}", f"{i}b"]) for i in range(6)]
    other = together.ask("another run", ["x"])
    assert [files for files, _ in worker.calls] == [["0", "0b"], ["1", "1b"], ["x"]]  # at once, as long as it is not busy
    worker.answer(0)
    assert worker.calls[3][0] == [name for i in range(2, 6) for name in (f"{i}", f"{i}b")]
    for call in (3, 1, 2):
        worker.answer(call)
    assert [future.result(0) for future in asked] == [[{"file": f"{i}"}, {"file": f"{i}b"}] for i in range(6)]
    assert other.result(0) == [{"file": "x"}] and together._lines == {}


def test_a_call_takes_no_more_pictures_than_the_network_sees_at_once_unless_one_request_has_more(worker: Worker) -> None:
    for i in range(together.AHEAD):
        together.ask("run", [f"first {i}"])
    sizes = [together.MOST - 1, 1, 1, together.MOST + 5]
    asked = [together.ask("run", ["p"] * n) for n in sizes]
    done = 0
    while not all(future.done() for future in asked):
        worker.answer(done)
        done += 1
    assert [len(files) for files, _ in worker.calls] == [1] * together.AHEAD + [together.MOST, 1, together.MOST + 5]


def test_a_worker_that_dies_or_cannot_be_started_is_told_to_everybody_who_waits(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [together.ask("run", [f"{i}"]) for i in range(4)]
    monkeypatch.setattr(launch, "submit", lambda *_: 1 / 0)
    worker.calls[0][1].set_exception(RuntimeError("died"))
    worker.calls[1][1].set_exception(RuntimeError("died"))
    assert [type(future.exception(10)) for future in asked] == [RuntimeError, RuntimeError, ZeroDivisionError, ZeroDivisionError]
