"""Somebody's slow question, and another's predictions meanwhile; and what becomes of the question when its tab is closed."""

from __future__ import annotations

import re
import sys
import time
import urllib.request
from pathlib import Path

from core.data import tokens
from core.runs import launch
from core.types import Run
from tests import forking
from tests.browser.conftest import Server
from tests.reliability import homes, tabs
from tests.reliability.row import Row

SIDE = 224  # pixels
MOST = 2.0  # s that a prediction may take
PAUSE = 0.25  # s between two predictions
SAMPLES, FEW = 5000, 200  # of Kernel SHAP; the fewer take about 5 s
DROPPED = 40.0  # s in which the question of a closed tab must have ended: it is looked for after 15


def tasks(server: Server, worker: str) -> int:
    """Calls that a model worker of the server has not answered yet."""
    said = urllib.request.urlopen(f"{server.url}/metrics").read().decode()
    found = re.search(rf'loupe_worker_tasks{{worker="{worker}"}} ([0-9.]+)', said)
    return int(float(found[1])) if found else 0


def asked(server: Server, run: Run, samples: int) -> list[tabs.Tab]:
    """A tab that waits for Kernel SHAP, of one picture for two classes, and one for whether two maps can be trusted."""
    query = f"dataset=squares&run={run.id}&from=predictions"
    tab, other = tabs.Tab(server, "explain", query), tabs.Tab(server, "explain", f"{query}&part=trust")
    off = {f"method-{name}": {"bool_value": False} for name in ("grad_cam", "integrated_gradients")}
    tab.run({"method-kernel_shap": {"bool_value": True}, **off})
    tab.run({f"setting-{run.id}-kernel_shap-samples": {"int_value": samples}})
    other.run(pressed="trust-start")
    return [tab, other]


class Person:
    """Asks for the prediction of one picture after the other, over the HTTP API."""

    def __init__(self, server: Server, run: Run, picture: bytes) -> None:
        self.address = f"{server.url}/api/v1/runs/{run.id}/predictions"
        _, self.token = tokens.add(f"person {time.monotonic()}", "labeller", None)
        self.picture = picture

    def ask(self, number: int) -> float:
        """Seconds until the answer; each picture is another, since answers are kept."""
        edge = "loupe"
        head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{number}.png"\r\nContent-Type: image/png\r\n\r\n'
        body = head.encode() + self.picture + number.to_bytes(4) + f"\r\n--{edge}--\r\n".encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": f"multipart/form-data; boundary={edge}"}
        began = time.monotonic()
        with urllib.request.urlopen(urllib.request.Request(self.address, body, headers), timeout=300) as answer:
            assert answer.status == 200, answer.read()
        return time.monotonic() - began


def one_worker(port: int) -> None:
    """The app, in which slow questions are asked of the worker that also predicts."""
    launch.submit_slow = launch.submit
    forking.run_app(port)


def waited(server: Server, run: Run, picture: bytes, seconds: float, worker: str, samples: int) -> tuple[list[tabs.Tab], list[float]]:
    """Seconds that each prediction took while the worker had the slow question."""
    person = Person(server, run, picture)
    person.ask(0)  # loads the network
    assert homes.until(lambda: tasks(server, "quick") == 0, 60), "the worker does not come to rest"
    open_tabs = asked(server, run, samples)
    assert homes.until(lambda: tasks(server, worker) > 0), "nothing slow was asked"
    taken, end = list[float](), time.monotonic() + seconds
    while not taken or (time.monotonic() < end and tasks(server, worker)):
        taken.append(person.ask(len(taken) + 1))
        time.sleep(PAUSE)
    return open_tabs, taken


def trial(home: Path, seconds: int) -> Row:
    row = Row(control="slow questions asked of the worker that predicts, and tabs that stay open")
    with homes.moved_in(home):
        run = tabs.trained(4, SIDE, image_size=SIDE, epochs=1)  # its Kernel SHAP takes minutes
        picture = next((home.parent / "squares" / "red").iterdir()).read_bytes()
        with tabs.serving(home) as (server, _):
            open_tabs, taken = waited(server, run, picture, seconds, "slow", SAMPLES)
            for i, one in enumerate(taken):
                row.check(one < MOST, f"prediction {i} took {one:.1f} s")
            row.control_check(tasks(server, "slow") == 0, "tabs that stay open")
            began = time.monotonic()
            for tab in open_tabs:
                tab.close()
            row.check(homes.until(lambda: tasks(server, "slow") == 0, DROPPED), f"the maps of closed tabs go on after {DROPPED:.0f} s")
            dropped = time.monotonic() - began
        with tabs.serving(home, "tests.reliability.slow.one_worker") as (server, _):
            row.control_check(max(waited(server, run, picture, 0.1, "quick", FEW)[1]) < MOST, "one worker for both")
    row.figures = f"{len(taken)} predictions beside Kernel SHAP and trust checks, slowest {max(taken):.2f} s; what closed tabs asked ends after {dropped:.0f} s"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
