"""A thousand visits, one after the other: each opens a page of its own and leaves, and the server's memory stays what it was."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

from tests.browser.conftest import Server
from tests.reliability import homes, tabs
from tests.reliability.row import Row

PAGES = ("", "dataset", "label", "train", "evaluate", "explain", "predict", "review", "people")
BEFORE = 140  # visits until it is level: Streamlit keeps 128 sessions whose tab has closed, for two minutes each
MOST = 50.0  # MB that so many visits may add


def visited(server: Server, process: psutil.Process, before: int, n: int) -> tuple[list[str], float]:
    """What went wrong, and by how many MB the server grew with the last n visits."""
    wrong, at_first = [], 0.0
    for i in range(before + n):
        if i == before:
            at_first = process.memory_info().rss / 1e6
        page = PAGES[i % len(PAGES)]
        tab = tabs.Tab(server, page, "dataset=squares")
        tab.close()
        wrong.append(
            "" if b"went wrong" not in tab.text and b"Traceback" not in tab.text and len(tab.text) > 5000 else f"visit {i} of “{page}”"
        )
    return wrong, process.memory_info().rss / 1e6 - at_first


def trial(home: Path, n: int) -> Row:
    row = Row(control="a server that keeps something of each visit")
    with homes.moved_in(home):
        tabs.trained()
        with tabs.serving(home) as (server, process):
            wrong, grown = visited(server, process, BEFORE, n)
        for one in wrong:
            row.check(not one, one)
        row.check(grown < MOST, f"{n:,} visits add {grown:.0f} MB")
        row.check("Traceback" not in (log := (home / "server.log").read_text()), f"the log holds a traceback: {log[-500:]}")
        few = max(20, n // 20)
        with tabs.serving(home, "tests.reliability.tabs.leaking_app", round(2 * MOST * 1e6 / few)) as (server, process):
            row.control_check(visited(server, process, len(PAGES), few)[1] < MOST)
    row.figures = f"{n:,} visits add {grown:.0f} MB, of {MOST:.0f} allowed"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
