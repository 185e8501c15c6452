"""Runs whose process is gone: shown as lost at once, and gone on with at a click, or by themselves as often as their owner asked."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from core.api import operations, signing
from core.runs import launch, runs
from core.train import again, train
from core.types import Preparing
from tests import forking
from tests.browser.conftest import Server
from tests.reliability import homes, tabs
from tests.reliability.row import Row
from tests.squares import imported

VALUES = {"architecture": "convnet", "epochs": 1000, "batch_size": 2}  # goes on for minutes
MOST = 5.0  # s until it is shown
RESTARTS = 3  # at most
PATIENCE = 60.0  # s until it goes on
LIFE = 1.5  # s at most from its going on to its death
STAYS = again.SETTLED + 2 * operations.LOOK  # s after which one that may go on by itself would have


class Watcher:
    """Asks how a run stands, as its page does."""

    def __init__(self, server: Server, run_id: str) -> None:
        self.run_id, self.after = run_id, 0
        self.line = http.client.HTTPConnection("localhost", server.port, timeout=30)

    def status(self) -> str:
        headers = {"X-Loupe-Token": signing.token("tester")}
        self.line.request("GET", f"/api/runs/{self.run_id}/events?after={self.after}", headers=headers)
        answer = self.line.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        found = json.loads(said)
        self.after = found["next"]
        return str(found["now"]["status"])

    def seconds_until(self, *statuses: str, most: float = PATIENCE) -> float | None:
        """None if it does not come to that in so many seconds."""
        began = time.monotonic()
        return time.monotonic() - began if homes.until(lambda: self.status() in statuses, most) else None


def kill(run_id: str, wait: float) -> None:
    """So many seconds after it has begun."""
    folder = runs.folder(run_id)
    assert homes.until(lambda: (folder / "handle.json").exists() and launch.launcher.alive(folder))
    time.sleep(wait)
    os.kill(runs.read_json(folder / "handle.json")["pid"], signal.SIGKILL)


def click(server: Server, run_id: str) -> None:
    tab = tabs.Tab(server, "train", f"dataset=squares&run={run_id}")
    tab.run(pressed="resume")
    tab.close()


def at_a_click(row: Row, server: Server, dataset: int, n: int, chance: random.Random) -> float:
    """The most seconds until a run was shown as lost."""
    run_id = train.start(dataset, VALUES, "tester").id
    watcher, slowest = Watcher(server, run_id), 0.0
    for i in range(n):
        kill(run_id, chance.random() * LIFE)
        seconds = watcher.seconds_until("lost", most=MOST)
        row.check(seconds is not None and train.state(run_id).status == "lost", f"kill {i}: not shown as lost after {MOST:.0f} s")
        slowest = max(slowest, seconds or MOST)
        click(server, run_id)
        row.check(watcher.seconds_until("running") is not None, f"kill {i}: it does not go on at a click")
    train.stop(run_id)
    row.check(watcher.seconds_until("stopped") is not None, "it does not stop")
    return slowest


def by_itself(row: Row, server: Server, dataset: int, restarts: int, chance: random.Random) -> float:
    """The most seconds until a run went on."""
    run_id = train.start(dataset, {**VALUES, "restarts": restarts}, "tester").id
    watcher, slowest = Watcher(server, run_id), 0.0
    for i in range(restarts):
        watcher.seconds_until("running")
        kill(run_id, chance.random() * LIFE)
        row.check(watcher.seconds_until("lost", most=MOST) is not None, f"death {i}: not shown as lost after {MOST:.0f} s")
        seconds = watcher.seconds_until("running")
        row.check(seconds is not None, f"death {i}: it does not go on by itself")
        slowest = max(slowest, seconds or PATIENCE)
    kill(run_id, chance.random() * LIFE)
    watcher.seconds_until("lost")
    row.check(watcher.seconds_until("running", "queued", most=STAYS) is None, f"it goes on more than {restarts} times")
    times = sum(isinstance(one, Preparing) and one.what == again.BY_ITSELF for one in runs.events(runs.folder(run_id)))
    row.check(times == restarts, f"it says that it went on by itself {times} times")
    click(server, run_id)
    row.check(watcher.seconds_until("running") is not None, "it does not go on at a click either")
    train.stop(run_id)
    watcher.seconds_until("stopped")
    return slowest


def believing(port: int) -> None:
    """The app, which takes every process for alive."""
    forking.ForkLauncher.alive = lambda *_: True  # type: ignore[method-assign]
    forking.run_app(port)


def trial(home: Path, n: int) -> Row:
    """n kills, each with a click, and another run that goes on by itself."""
    row, chance = Row(control="a server that takes every process for alive"), random.Random(5)
    with homes.moved_in(home):
        made = imported(home.parent, 30).id
        with tabs.serving(home) as (server, _):
            shown = at_a_click(row, server, made, n, chance)
            alone = by_itself(row, server, made, restarts := min(n, RESTARTS), chance)
        run_id = train.start(made, VALUES, "tester").id
        with tabs.serving(home, "tests.reliability.lost.believing") as (server, _):
            kill(run_id, LIFE)
            row.control_check(Watcher(server, run_id).seconds_until("lost", most=MOST) is not None)
        row.check(not (left := homes.litter(home)), f"left behind: {left[:3]}")
    row.figures = f"shown after at most {shown:.1f} s; by itself it goes on after at most {alone:.0f} s, {restarts} times"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
