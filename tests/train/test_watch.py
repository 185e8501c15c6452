"""A run while it trains: its events folded into curves, figures and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.catalog import params
from core.errors import Invalid
from core.metrics import wilson
from core.runs import launch, runs
from core.settings import settings
from core.train import train, watch
from core.types import (
    Answers,
    Ended,
    EpochEnd,
    Event,
    Preparing,
    Queued,
    Resumed,
    Run,
    Snapshot,
    SnapshotRow,
    Started,
    Step,
)
from tests.conftest import Trained

AT = "2026-01-01T00:00:00.000+00:00"
CONFIG = params.run_config({"architecture": "linear", "epochs": 10, "batch_size": 8, "patience": 0, "device": "cpu"})
RUN = Run(
    "20260101-000000-feed", "Linear 1", 1, "d", CONFIG, ("cat", "dog"), "s", {"train": 8, "validation": 100, "test": 0}, AT, "me", "abc"
)
STARTED = Started("cpu", 10, 10, 4, 10, AT)
EVERYTHING = 10**9  # bytes


def step(epoch: int, number: int, loss: float = 1.0, **more: Any) -> Step:
    return replace(Step(epoch, number, loss, 0.5, 100.0, 9.0, AT, 0.01), **more)


def end(epoch: int, best: int = 1, **more: Any) -> EpochEnd:
    return replace(EpochEnd(epoch, 4 * epoch, 1.0, 0.9, 0.5, 0.9, 0.01, 100.0, best, 1.0, AT), **more)


def written(folder: Path, events: Sequence[Event]) -> None:
    for event in events:
        runs.append(folder, event)


@pytest.fixture
def folder(home: Path) -> Path:
    """Of a run of 100 validation images, 60 of them cats, that has told nothing yet."""
    rows = tuple(SnapshotRow(f"{i:016x}", f"00/{i:016x}.png", "cat" if i < 60 else "dog", "validation") for i in range(100))
    runs.create(settings().runs / RUN.id, RUN, Snapshot("s", RUN.classes, rows))
    return settings().runs / RUN.id


HISTORY: list[Event] = [
    Queued("cpu", AT),
    Preparing("Reading images", 1, 2, AT),
    STARTED,
    *(step(1, n, 2 / n) for n in (1, 2, 4)),
    end(1),
    Answers(1, [[0, 0, 50], [0, 1, 10], [1, 1, 40]], [], AT),
    *(step(2, n, 1 / n) for n in (5, 6, 8)),
    end(2),
    Answers(2, [[0, 0, 60], [1, 0, 40]], [], AT),
    Ended("paused", 2, "", 3.0, AT),
    STARTED,
    Resumed(1, 6, AT),
    *(step(2, n, 3 / n) for n in (7, 8)),
    end(2, 2),
    Answers(2, [[0, 0, 55], [0, 1, 5], [1, 1, 40]], [], AT),
    step(3, 9),
]


def drawn(most: int, after: int = 0) -> dict[str, Any]:
    """What a page has put together when all the parts have come."""
    points: list[list[Any]] = []
    ends: list[list[Any]] = []
    answers: list[dict[str, Any]] = []
    while True:
        part = watch.follow(RUN.id, after, most, True)
        if back := part["back"]:
            points = [p for p in points if p[0] <= back["step"]]
            ends = [e for e in ends if e[0] <= back["epoch"]]
            answers = [a for a in answers if a["epoch"] <= back["epoch"]]
        points, ends, answers = points + part["points"], ends + part["ends"], answers + part["answers"]
        after = part["next"]
        if not part["more"]:
            return {"points": points, "ends": ends, "answers": answers, "now": part["now"], "next": after}


def folded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the events that are folded from here on, in turn."""
    kinds: list[str] = []
    read = runs.event

    def event(line: dict[str, Any]) -> Event:
        kinds.append(line["kind"])
        return read(line)

    monkeypatch.setattr(runs, "event", event)
    return kinds


# The fold


@pytest.mark.parametrize("most", [1, 150, 400, 1000])
def test_parts_of_any_size_add_up_to_the_whole(folder: Path, most: int) -> None:
    written(folder, HISTORY)
    whole = drawn(EVERYTHING)
    assert [p[0] for p in whole["points"]] == [1, 2, 4, 5, 6, 7, 8, 9]
    assert [p[2] for p in whole["points"][5:7]] == [round(3 / 7, 6), 3 / 8]  # of the second try: what came after step 6 did not last
    assert [(a["epoch"], a["cells"][0][2]) for a in whole["answers"]] == [(1, 50), (2, 55)]
    watch._courses.clear()
    assert drawn(most) == whole


def test_a_step_stands_where_it_is_within_its_epoch_also_when_the_batches_have_another_size() -> None:
    events: list[Event] = [STARTED, step(1, 2), step(1, 4), end(1), replace(STARTED, steps=8), step(2, 6), step(2, 12)]
    assert [p[1] for p in watch.added(watch.Course(), events, RUN.classes)["points"]] == [0.5, 1, 1.25, 2]


def test_an_epoch_that_told_no_step_is_a_point_itself_and_older_runs_get_their_learning_rate_from_it() -> None:
    new = watch.added(watch.Course(), [STARTED, end(1, train_loss=0.25)], RUN.classes)
    assert new["points"] == [[4, 1, 0.25, 0.9, 0.01, 100]] and new["ends"] == [[1, 0.5, 0.9]]
    older: list[Event] = [STARTED, step(1, 2, learning_rate=None), step(1, 4, learning_rate=None), end(1, learning_rate=0.3)]
    assert [p[4] for p in watch.added(watch.Course(), older, RUN.classes)["points"]] == [0.3, 0.3]


def test_a_question_folds_only_what_is_new_also_for_two_who_watch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(folder, HISTORY)
    early = watch.follow(RUN.id, 0, 1, False)
    late = watch.follow(RUN.id, 0, EVERYTHING, False)
    kinds = folded(monkeypatch)
    assert watch.follow(RUN.id, late["next"], EVERYTHING, False)["points"] == [] and kinds == []
    written(folder, [step(3, 10)])
    assert [p[0] for p in watch.follow(RUN.id, late["next"], EVERYTHING, False)["points"]] == [10] and kinds == ["Step"]
    assert watch.follow(RUN.id, early["next"], 1, False)["now"]["what"] == "Reading images" and kinds == ["Step", "Preparing"]


def test_what_is_kept_is_bounded_and_what_was_forgotten_is_folded_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOST_COURSES", 3)
    monkeypatch.setattr(watch, "_courses", {})
    written(folder, HISTORY)
    whole = drawn(1)
    assert len(watch._courses) == 3
    kinds = folded(monkeypatch)
    again = watch.follow(RUN.id, whole["next"], EVERYTHING, True)
    assert again["now"] == whole["now"] and kinds == []
    watch._courses.clear()  # as after a restart of the server
    assert watch.follow(RUN.id, whole["next"], EVERYTHING, True) == again and len(kinds) == len(HISTORY) - 3  # all but Answers


def test_the_middle_of_a_line_is_refused(folder: Path) -> None:
    written(folder, HISTORY)
    size = (folder / "events.jsonl").stat().st_size
    for offset in (1, 5, size - 1, size + 1):
        with pytest.raises(Invalid, match="not the start of an event"):
            watch.follow(RUN.id, offset, EVERYTHING, True)


def test_a_run_without_a_process_is_lost_but_not_before_its_last_part(folder: Path) -> None:
    assert watch.follow(RUN.id, 0, EVERYTHING, False)["now"]["what"] == "Cut off"
    written(folder, HISTORY)
    first = watch.follow(RUN.id, 0, 1, False)
    assert first["more"] and (first["now"]["status"], first["now"]["active"]) == ("queued", True)
    last = watch.follow(RUN.id, 0, EVERYTHING, False)["now"]
    assert (last["status"], last["active"], last["what"]) == ("lost", False, "Cut off in epoch 3")


def test_the_state_of_a_run_and_what_its_page_says_come_from_the_same_fold(trained: Trained) -> None:
    state, part = train.state(trained.run_id), watch.follow(trained.run_id, 0, EVERYTHING, True)
    assert state.best is not None and state.best.val_accuracy is not None and state.seconds is not None
    now, n = part["now"], state.run.counts["validation"]
    assert (now["status"], now["active"], now["share"], now["best"]) == ("succeeded", False, 1, state.best_epoch)
    assert now["what"] == f"Finished in {watch.duration(state.seconds)}" and "CPU" in now["facts"]
    assert f"Best epoch {state.best_epoch}: {watch.right(state.best.val_accuracy, n)}." in now["words"]
    assert [e[0] for e in part["ends"]] == [a["epoch"] for a in part["answers"]] == list(range(1, state.epoch + 1))
    xs = [p[1] for p in part["points"]]
    assert xs == sorted(xs) and xs[0] > 0 and xs[-1] == state.epoch
    best = part["answers"][state.best.epoch - 1]
    assert sum(many for _, _, many, _ in best["cells"]) == sum(best["rows"]) == n
    assert best["words"].startswith(f"{round(state.best.val_accuracy * n)} of {n} images right")


# What it answers


def test_a_matrix_comes_with_the_share_of_each_cell_and_what_is_confused_most() -> None:
    one = watch.matrix(
        Answers(3, [[0, 0, 50], [0, 1, 10], [1, 0, 1], [1, 1, 39]], [["a", 0, 0, 0.9, 0.9], ["b", 1, 0, 0.6, 0.4]], AT), ("cat", "dog")
    )
    assert one["rows"] == [60, 40] and one["cells"][1] == [0, 1, 10, round(10 / 60, 4)]
    assert one["words"] == "89 of 100 images right. Rows: what it is; columns: what the network says."
    assert one["confused"] == "Most often confused: actual cat, predicted dog: 10 images."
    assert one["sampled"].startswith("1 of 2 right.")
    assert watch.matrix(Answers(3, [[0, 0, 1]], [], AT), ("cat", "dog"))["confused"] == "Nothing is confused."


# Sentences


@pytest.mark.parametrize(
    ("event", "what", "facts", "words"),
    [
        (Queued("cpu", AT), "Queued: next in line for the CPU", "", "It starts by itself; you may close this page."),
        (Queued("cuda (H100)", AT, 3), "Queued: 3rd in line for the CUDA (H100)", "", "It starts by itself; you may close this page."),
        (Preparing("Reading images", 1200, 5000, AT), "Reading images", "1,200 of 5,000", "Every image is read once before the training begins."),
        (Preparing("", 0, 1, AT), "Preparing", "", "Every image is read once before the training begins."),
        (step(1, 1, memory_mb=20480.0), "Epoch 1 of 10", "100 images/s, 20.0 GB of memory, about 9 s left", "The network sees the images for the first time."),
        (end(1), "Epoch 2 of 10", "100 images/s", "The network has seen every image once. Best so far, epoch 1: {}."),
        (Ended("failed", None, "It broke.", 1.0, AT), "The training failed", "", ""),
        (Ended("paused", None, "", 59.6, AT), "Paused after 60 s", "", ""),
        (Ended("stopped", None, "Stopped before the first epoch.", 7200.0, AT), "Stopped after 2 h 0 min", "", "Stopped before the first epoch."),
    ],
)  # fmt: skip
def test_a_run_says_what_happens_and_what_that_means(event: Event, what: str, facts: str, words: str) -> None:
    now = watch.course([event])
    said = watch.stands(RUN, now, runs.status([event], alive=True), 0.6)
    right = "90.0% of the 100 validation images right (95% interval 82.6% to 94.5%)"
    assert (said["what"], ", ".join(said["facts"]), said["words"]) == (what, facts, words.format(right))


def at(second: int) -> str:
    return f"2026-01-01T00:{second // 60:02}:{second % 60:02}.000+00:00"


def test_a_run_that_has_ended_says_where_its_time_went_and_no_speed() -> None:
    events: list[Event] = [
        Queued("cpu", at(0)),
        Preparing("Reading images", 0, 10, at(50)),
        Preparing("Reading images", 9, 10, at(80)),
        Preparing("Running the backbone", 0, 10, at(90)),
        replace(STARTED, at=at(330)),
        step(1, 1, at=at(331)),
        Ended("paused", 1, "", 285.0, at(335)),
        Preparing("Going on", 0, 1, at(1000)),
        Ended("succeeded", 1, "", 288.0, at(1003)),
    ]
    now = watch.course(events)
    facts = watch.stands(RUN, now, "succeeded", None)["facts"]
    assert facts == ["CPU", "reading images 40 s", "running the backbone 4 min", "learning 8 s"]


def test_what_a_run_said_about_its_data_is_on_its_page_while_it_runs_and_afterwards() -> None:
    said = "9 of the 17 images do not fit into the cache."
    events: list[Event] = [replace(STARTED, note=said), step(1, 1)]
    assert watch.stands(RUN, watch.course(events), "running", None)["words"].endswith(said)
    ends: list[Event] = [*events, end(1), Ended("succeeded", 1, "", 1.0, AT)]
    assert watch.stands(RUN, watch.course(ends), "succeeded", None)["words"].endswith(said)


def test_a_speed_by_kept_features_says_so() -> None:
    now = watch.course([STARTED, step(1, 1)])
    frozen = replace(RUN, config=replace(CONFIG, pretrained=True, freeze=True))
    assert "100 images/s by their kept features" in watch.stands(frozen, now, "running", None)["facts"]
    assert "100 images/s" in watch.stands(replace(RUN, config=replace(CONFIG, freeze=False)), now, "running", None)["facts"]


def course_of(*ends: EpochEnd) -> watch.Course:
    return watch.course([STARTED, *(e for one in ends for e in (step(one.epoch, one.step), one))])


RISING = [end(n, val_loss=0.5 + 0.1 * n) for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("ends", "settings", "said"),
    [
        (RISING, {}, "Validation loss has risen for 2 epochs: the network begins to memorise."),
        (RISING, {"patience": 5}, "Validation loss has risen for 2 epochs: the network begins to memorise; early stopping will act in 3."),
        (
            RISING, {"patience": 5, "stop_on": "accuracy"},
            "Validation loss has risen for 2 epochs: the network begins to memorise; without a better accuracy early stopping will act in 3.",
        ),
        (RISING[:2], {"warmup": 3.0}, "The learning rate warms up: the strides grow."),
        (RISING[:1], {"schedule": "one_cycle"}, "The learning rate warms up: the strides grow."),
        ([end(1), end(2), end(3)], {"schedule": "one_cycle", "patience": 9}, "No better epoch for 2: early stopping will act in 7."),
        ([end(1), end(2), end(3)], {}, "No better epoch for 2."),
        ([end(1, val_accuracy=0.65)], {}, "Validation accuracy is at the level of guessing (60.0%): it has not learned to tell the classes apart yet."),
        (
            [end(1, train_accuracy=1.0, val_accuracy=0.8)], {},
            "Training and validation are far apart (100.0% and 80.0% right): it knows its own images better than new ones. "
            "More images, or changing them at random, may help.",
        ),
        ([end(1, train_accuracy=0.95, val_accuracy=0.85)], {}, ""),  # within the interval
        ([], {"warmup": 1.0}, "The learning rate warms up: the first strides are small."),
        ([], {}, ""),
    ],
)  # fmt: skip
def test_the_one_thing_most_worth_knowing_is_said(ends: list[EpochEnd], settings: dict[str, Any], said: str) -> None:
    assert watch.advice(replace(RUN, config=replace(CONFIG, **settings)), course_of(*ends), 0.6) == said


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({"best": 10, "val_loss": 0.4}, "Validation loss was still falling: more epochs may help."),
        ({"best": 10, "val_loss": 0.6, "val_accuracy": 0.95}, "The last epoch was the best: more epochs may help."),
        ({"best": 9}, ""),
        ({"best": 9, "val_loss": None, "val_accuracy": None}, ""),
    ],
)
def test_after_its_end_a_run_says_whether_more_epochs_may_help(last: dict[str, Any], said: str) -> None:
    ends = [end(9, 9), end(10, **last)]
    now = watch.course([STARTED, *ends, Ended("succeeded", ends[-1].best_epoch, "", 9.0, AT)])
    words = watch.stands(RUN, now, "succeeded", 0.6)["words"]
    assert words.startswith(f"Best epoch {last['best']}: ") and words.endswith(said or "%).")


def test_of_few_images_a_count_is_said_and_of_many_a_share_with_its_interval() -> None:
    assert watch.right(0.5, 0) == "50.0% of the validation images right"
    assert watch.right(0.9, 20) == "18 of 20 validation images right"
    interval = wilson(3600, 4000)
    assert interval is not None
    ends = f"{interval.low:.1%} to {interval.high:.1%}"
    assert watch.right(0.9, 4000) == f"90.0% of the 4,000 validation images right (95% interval {ends})"


def test_how_far_a_run_is_counts_epochs_and_what_comes_before_them() -> None:
    def share(*events: Event) -> float:
        return float(watch.stands(RUN, watch.course(events), "running", None)["share"])

    assert share(Preparing("Reading images", 1, 4, AT)) == 0.25
    assert share(STARTED, step(1, 2)) == 0.05
    assert share(STARTED, end(1), Preparing("Going on", 0, 1, AT)) == 0.1
    assert share(STARTED, end(1), end(2), Resumed(1, 6, AT)) == 0.15
    assert share(STARTED, end(1), Ended("stopped", 1, "", 1.0, AT)) == 0.1
    assert share(STARTED, end(1), Ended("succeeded", 1, "", 1.0, AT)) == 1


def test_numbers_are_said_as_people_say_them() -> None:
    assert [watch.duration(s) for s in (0.2, 59, 99.4, 100, 5960, 6000, 9000)] == [
        "1 s",
        "59 s",
        "99 s",
        "2 min",
        "99 min",
        "1 h 40 min",
        "2 h 30 min",
    ]
    assert [watch.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "13th",
        "21st",
        "112th",
    ]
    assert [watch.times(n) for n in (1, 2, 3)] == ["once", "twice", "3 times"]
    assert [watch.memory(mb) for mb in (512.4, 9999, 20480)] == ["512 MB", "9,999 MB", "20.0 GB"]
    assert [watch.device(name) for name in ("cpu", "cuda (H100)", "computer")] == ["CPU", "CUDA (H100)", "computer"]


def test_a_process_that_was_stopped_from_outside_is_said_not_to_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(folder, HISTORY)
    monkeypatch.setattr(launch.launcher, "alive", lambda _: True)
    assert watch.follow(RUN.id, 0, EVERYTHING, False)["now"]["words"] != watch.HALTED
    monkeypatch.setattr(launch, "halted", lambda _: True)
    now = watch.follow(RUN.id, 0, EVERYTHING, False)["now"]
    assert (now["what"], now["words"], now["active"]) == ("Does not answer", watch.HALTED, True)
    assert train.state(RUN.id).message == watch.HALTED
