"""The report of a run: one file that holds everything, says what is so, and takes names from outside as text."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.__main__ import main
from core.data import classes, labels, store
from core.errors import NotFound
from core.evaluate import evaluate
from core.explain import patterns
from core.runs import jobs, launch, openings, runs
from core.share import report
from core.train import train
from tests.conftest import Trained, copied


class Parsed(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def reported_once(trained_once: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The finished run with the maps of a report, which take most of its time."""
    with copied(trained_once, tmp_path_factory.mktemp("reported") / "home") as copy:
        report.make(copy.run_id, ["validation", "test"], "tester")
    return copy


@pytest.fixture
def reported(reported_once: Trained, tmp_path: Path) -> Iterator[Trained]:
    """The same in a home that the test may change."""
    with copied(reported_once, tmp_path / "copy") as copy:
        yield copy


def test_a_report_needs_no_other_file_and_runs_no_script(reported: Trained) -> None:
    found = Parsed(report.make(reported.run_id, ["validation", "test"], "tester"))
    assert "script" not in {tag for tag, _ in found.tags} and "link" not in {tag for tag, _ in found.tags}
    addresses = [value or "" for _, attrs in found.tags for name, value in attrs.items() if name in ("src", "href")]
    assert addresses and all(a.startswith("data:image/") for a in addresses)
    for address in addresses:
        data = base64.b64decode(address.partition(",")[2])
        assert data.startswith(b"\x89PNG") or b"<svg" in data[:400]
        assert b"<script" not in data and b"@import" not in data


def test_its_figures_are_those_of_the_evaluate_page(reported: Trained) -> None:
    page = report.make(reported.run_id, ["validation"], "tester")
    e = evaluate.evaluate(reported.run_id, "validation")
    assert e.accuracy is not None and f"{e.accuracy.value:.1%} of {e.n} right" in page and "Test:" not in page
    for setting in ("Learning rate", "Batch size", "Seed"):
        assert setting in page
    rows = runs.snapshot_rows(runs.folder(reported.run_id))
    cells = re.findall(r"<tr><td>all</td><td class=\"n\">(\d+)</td><td class=\"n\">(\d+)</td><td class=\"n\">(\d+)</td>", page)
    assert cells == [tuple(str(sum(r.split == s for r in rows)) for s in ("train", "validation", "test"))]


def test_test_images_are_in_it_only_when_asked_for_and_that_counts_as_a_look(reported: Trained) -> None:
    report.make(reported.run_id, ["validation"], "tester")
    assert openings.of(reported.run_id) == []
    assert "Test:" in report.make(reported.run_id, ["validation", "test"], "tester")
    assert [look.by for look in openings.of(reported.run_id)] == ["tester"]


def test_the_worst_mistakes_come_with_the_picture_and_a_map_for_either_class(reported: Trained) -> None:
    e = evaluate.evaluate(reported.run_id, "validation")
    wrong = store.get_image(reported.dataset.id, e.rows.iloc[0]["image_id"])
    other = next(c for c in reported.dataset.classes if c != e.rows.iloc[0]["predicted"])
    labels.apply(reported.dataset.id, {wrong.id: wrong.label_seq}, other, "tester")
    told: list[tuple[int, int]] = []
    page = report.make(reported.run_id, ["validation"], "tester", lambda done, total, what: told.append((done, total)))
    found = Parsed(page)
    assert {"what it saw", f"for {other}", f"for {e.rows.iloc[0]['predicted']}"} <= set(found.texts)
    assert told[0][0] == 0 and told[-1][0] < told[-1][1]


def test_a_name_from_outside_stays_text(reported: Trained) -> None:
    evil = "<script>alert(1)</script>"
    train.annotate(reported.run_id, evil, [])
    classes.rename(reported.dataset.id, reported.dataset.classes[0], "<b>$x$", "tester")
    found = Parsed(report.make(reported.run_id, ["validation"], "tester"))
    assert evil in found.texts and "<b>$x$" in found.texts
    assert not {"script", "b"} & {tag for tag, _ in found.tags}


def test_a_class_that_may_be_read_from_a_mark_is_warned_of(reported: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = SimpleNamespace(name="<3>")
    monkeypatch.setattr(patterns, "latest", lambda run_id: SimpleNamespace(warned=[marked], border_area=0.4))
    monkeypatch.setattr(patterns, "said", lambda p, border_area: ["This class may be read from a corner.", "And more."])
    assert "<3>: This class may be read from a corner." in Parsed(report.make(reported.run_id, ["validation"], "tester")).texts


def test_a_run_that_was_judged_on_other_images_alone_does_not_say_that_there_are_no_predictions(reported: Trained) -> None:
    path = runs.predictions_path(runs.folder(reported.run_id))
    path.write_text("\n".join(line for line in path.read_text().split("\n") if ",validation," not in line))
    page = report.make(reported.run_id, ["validation"], "tester")
    assert "There are no predictions" not in page and "no validation images" in page


def test_a_run_without_predictions_says_so(reported: Trained) -> None:
    runs.predictions_path(runs.folder(reported.run_id)).unlink()
    page = report.make(reported.run_id, ["validation"], "tester")
    assert "There are no predictions" in page and "<h2>Settings</h2>" in page


def test_the_maps_it_was_waiting_for_are_not_asked_again(trained_copy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    first = report.make(trained_copy.run_id, ["validation"], "tester")
    for name in ("submit", "submit_slow"):
        monkeypatch.setattr(launch, name, lambda *a, **k: pytest.fail("asked again"))
    again = report.make(trained_copy.run_id, ["validation"], "tester")
    assert len(again) == len(first)


def test_the_command_line_writes_it(reported: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run.html"
    assert main(["report", reported.run_id, "--out", str(out)]) == 0
    assert out.read_text().startswith("<!doctype html>")
    assert main(["report", reported.run_id, "--out", str(tmp_path / "no" / "run.html")]) != 0
    assert "cannot be written" in capsys.readouterr().err


# In the background


def ended(run_id: str) -> jobs.State:
    deadline = time.monotonic() + 240
    while (state := report.state(run_id)) is not None and state.status == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert state is not None
    return state


def test_a_report_is_made_by_a_process_of_its_own_once_and_can_be_stopped(reported: Trained) -> None:
    run_id = reported.run_id
    assert report.state(run_id) is None
    first = report.start(run_id, False, "tester")
    assert report.start(run_id, False, "other") == first  # a double click makes one
    report.stop(run_id)
    state = ended(run_id)
    assert (state.id, state.status, state.message) == (first, "stopped", "The report was stopped.")
    with pytest.raises(NotFound, match="not there"):
        report.page(run_id, first)
    while launch.launcher.alive(runs.reports_folder(runs.folder(run_id)) / first):  # it says so a moment before it ends
        time.sleep(0.05)

    second = report.start(run_id, True, "tester")
    state = ended(run_id)
    page = report.page(run_id, second)
    assert state.status == "done" and state.end["bytes"] == len(page) and state.job["test"] and page.startswith(b"<!doctype html>")
    assert [one.by for one in openings.of(run_id)] == ["tester"]
    assert [path.name for path in jobs.folders(runs.reports_folder(runs.folder(run_id)))] == [second]
    for odd in ("..", first):
        with pytest.raises(NotFound):
            report.page(run_id, odd)


def test_a_report_whose_process_was_killed_says_so(trained_copy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        def start(self, folder: Path, command: list[str]) -> None: ...
        def alive(self, folder: Path) -> bool:
            return False

        def kill(self, folder: Path) -> None: ...

    monkeypatch.setattr(launch, "launcher", Nothing())
    report.start(trained_copy.run_id, False, "tester")
    state = report.state(trained_copy.run_id)
    assert state is not None and state.status == "lost" and "Make it again" in state.hint
