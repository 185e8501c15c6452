"""Fifty open pages that watch a run, which goes on all the time: what the server takes for it stays what it was."""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import psutil

from core.api import signing
from core.runs import launch, runs
from core.runs.runs import write_json
from core.train import train
from core.types import EpochEnd, Run, Step, now
from tests.browser.conftest import Server
from tests.reliability import homes, tabs
from tests.reliability.row import Row

PAGES = 50
POLL = 0.5  # s between two looks of a page, as in assets/live/live.js
STEP, EPOCH = 0.25, 10  # s between two events of the run, and events of an epoch
PARTS = 3  # of the time, after a part that does not count; the last is compared with the first
MOST_CPU = 1.4  # times what an answer takes at first
MOST_MB = 8.0


class Idle:
    """A launcher of runs whose process is this one."""

    def start(self, folder: Path, command: list[str]) -> None:
        me = psutil.Process()
        write_json(folder / "handle.json", {"pid": me.pid, "started": me.create_time()})

    def alive(self, folder: Path) -> bool:
        return True

    def kill(self, folder: Path) -> None:
        raise AssertionError


@contextmanager
def going_on(like: Run) -> Iterator[str]:
    """A run that says something again and again, as the one that has ended did."""
    before = list(runs.events(runs.folder(like.id)))
    step, end = next(e for e in before if isinstance(e, Step)), next(e for e in before if isinstance(e, EpochEnd))
    *others, ended = [e for e in before if not isinstance(e, Step | EpochEnd)]
    with homes.replaced(launch, "launcher", Idle()):
        run = train.start(like.dataset_id, {"architecture": "convnet", "epochs": 1000}, "tester")
    folder, over = runs.folder(run.id), Event()
    for one in others:
        runs.append(folder, one)

    def speak() -> None:
        n = 0
        while not over.wait(STEP):
            n += 1
            runs.append(folder, replace(step, epoch=1 + n // EPOCH, step=n, at=now()))
            if n % EPOCH == 0:
                runs.append(folder, replace(end, epoch=n // EPOCH, step=n, best_epoch=1, at=now()))

    thread = Thread(target=speak)
    thread.start()
    try:
        yield run.id
    finally:
        over.set()
        thread.join()
        runs.append(folder, ended)


class Page(Thread):
    """Looks for what is new, again and again."""

    def __init__(self, server: Server, run_id: str, number: int, stop: Event) -> None:
        super().__init__()
        self.server, self.run_id, self.number, self.stop = server, run_id, number, stop
        self.answers, self.points, self.wrong = 0, 0, list[str]()

    def run(self) -> None:
        headers, after = {"X-Loupe-Token": signing.token(f"person {self.number}")}, 0
        line = http.client.HTTPConnection("localhost", self.server.port, timeout=30)
        self.stop.wait(POLL * self.number / PAGES)
        while not self.stop.wait(POLL):
            line.request("GET", f"/api/runs/{self.run_id}/events?after={after}&answers=1", headers=headers)
            answer = line.getresponse()
            said = answer.read()
            if answer.status != 200:
                self.wrong.append(f"{answer.status}: {said[:100]!r}")
                continue
            found = json.loads(said)
            after, self.answers, self.points = found["next"], self.answers + 1, self.points + len(found["points"])


def watched(home: Path, like: Run, seconds: float, *app: object) -> tuple[list[str], float, float, float]:
    """What went wrong, milliseconds of CPU for an answer in the first and, at the pace of then, in the last part, and MB by which the server grew between them."""
    wrong, stop = [], Event()
    with going_on(like) as run_id, tabs.serving(home, *app) as (server, process):
        open_tabs = [tabs.Tab(server, "train", f"dataset=squares&run={run_id}") for _ in range(PAGES)]
        pages = [Page(server, run_id, i, stop) for i in range(PAGES)]
        for one in pages:
            one.start()
        cpu, memory, answers, paces = [], [], [], []
        for _ in range(PARTS + 1):
            paces.append(pace(seconds / (PARTS + 1)))
            cpu.append(sum(process.cpu_times()[:2]))
            memory.append(process.memory_info().rss / 1e6)
            answers.append(sum(one.answers for one in pages))
        stop.set()
        for one in pages:
            one.join()
            wrong += one.wrong
        most = max(one.points for one in pages)
        wrong += [f"page {one.number} has seen {one.points} of {most} points" for one in pages if one.points < most - 3 * POLL / STEP]
        for tab in open_tabs:
            tab.close()
    each = [1000 * (cpu[i + 1] - cpu[i]) / max(1, answers[i + 1] - answers[i]) * paces[1] / paces[i + 1] for i in range(PARTS)]
    return wrong, each[0], each[-1], memory[-1] - memory[1]


def pace(seconds: float) -> float:
    """Waits, and returns the CPU seconds of a fixed piece of work meanwhile: the same takes longer while other processes share the cores."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.thread_time()
        sum(i * i for i in range(50_000))
        took.append(time.thread_time() - began)
        time.sleep(0.2)
    return statistics.median(took)


def flat(first: float, last: float, grown: float) -> str:
    """What is not; "" if all is."""
    slower = f"an answer takes {last:.1f} ms of CPU, {first:.1f} at first" if last > MOST_CPU * first else ""
    return "; ".join(filter(None, (slower, f"memory + {grown:.0f} MB" if grown > MOST_MB else "")))


def trial(home: Path, seconds: int) -> Row:
    row = Row(control="a server that keeps each answer and looks at all of them")
    with homes.moved_in(home):
        like = tabs.trained()
        wrong, first, last, grown = watched(home, like, seconds)
        row.tried += PAGES
        row.lost += wrong[:PAGES]
        row.check(not (problem := flat(first, last, grown)), problem)
        control = watched(home, like, min(seconds, 8), "tests.reliability.tabs.leaking_app", 50_000)
        row.control_check(not flat(*control[1:]))
    row.figures = f"{PAGES} pages for {seconds} s; an answer takes {first:.1f} ms of CPU, then {last:.1f}; memory {grown:+.1f} MB"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
