"""The command line: JSON on stdout and nothing else, exit code 0, 1 (failed) or 2 (bad arguments)."""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from core import pace, terminal
from core.__main__ import parser
from core.data import imports, sources, store
from core.evaluate import evaluate
from core.runs import runs
from core.settings import settings
from core.train import train
from core.types import Dataset
from tests.data.opened import folder_of

if TYPE_CHECKING:
    from tests.conftest import Trained

Command = Callable[..., subprocess.CompletedProcess[str]]
Core = Callable[..., Any]


@pytest.fixture
def core(command: Command) -> Core:
    """What `python -m core …` prints, parsed; it must end with 0."""

    def run(*args: object) -> Any:
        done = command(*map(str, args))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def refusal(command: Command, *args: object) -> tuple[int, str]:
    """Exit code and stderr of a command that must print nothing and raise nothing."""
    done = command(*map(str, args))
    assert done.stdout == "" and "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_start_becomes_the_server_at_once_and_leaves_the_sample_to_it(python: Command) -> None:
    code = "import core.__main__ as m, sys; m.launch.replace_process = print; m.main(['start', '--port', '81']); print('sqlalchemy' in sys.modules)"
    done = python("-c", code)
    command, loaded = done.stdout.splitlines()
    assert command.endswith("'--server.port', '81', '--', '--sample']") and loaded == "False", done.stderr


def test_each_verb_is_known_to_the_parser_that_loads_its_story_alone() -> None:
    def verbs(one: argparse.ArgumentParser) -> set[str]:
        (found,) = (a for a in one._actions if isinstance(a, argparse._SubParsersAction))
        return set(found.choices)

    every = verbs(parser())
    assert len(every) > 25 and verbs(parser("nonsense")) == verbs(parser("--help")) == every
    for verb in every - {"start", "job"}:
        assert verb in verbs(parser(verb)) < every, verb
    assert verbs(parser("start")) == {"start", "job"}


# Import and train


def test_a_folder_is_imported_and_its_network_trained_and_evaluated(
    home: Path, tmp_path: Path, squares: Callable[[Path, int], Path], core: Core
) -> None:
    folder = squares(tmp_path / "squares", 8)
    (folder / "red" / "broken.png").write_bytes((folder / "red" / "red-0.png").read_bytes()[:60])
    (folder / "red" / "again.png").write_bytes((folder / "red" / "red-0.png").read_bytes())
    report = core("import", folder, "--name", "squares")
    assert report.keys() == {"added", "classes", "duplicates", "skipped", "understood", "offered", "given", "differ", "import_id"} and (
        report["added"],
        report["duplicates"],
    ) == (24, 1)
    assert [s.keys() for s in report["skipped"]] == [{"name", "reason"}] and "broken.png" in report["skipped"][0]["name"]
    assert core("import", folder, "--name", "squares")["added"] == 0
    goes = {"goes": 24, "changed": 0, "used": 0, "runs": {}, "gone": 0}
    assert core("undo-import", "squares", "--look") == {"dataset": "squares", "import_id": report["import_id"], **goes}
    assert core("undo-import", "squares", "--import", report["import_id"])["goes"] == 24
    assert core("import", folder, "--name", "squares")["added"] == 24

    done = core("train", "--dataset", "squares", "--architecture", "linear", "--set", "epochs=2", "--set", "device=cpu", "--wait")
    assert done.keys() == {"run", "status", "best_epoch", "seconds"}
    assert done["status"] == "succeeded" and done["best_epoch"] in (1, 2) and done["seconds"] > 0
    (listed,) = core("runs", "--dataset", "squares")
    assert (listed["run"], listed["status"], listed["architecture"]) == (done["run"], "succeeded", "linear")
    assert listed["validation"]["n"] == runs.load(runs.folder(done["run"])).counts["validation"]

    found = core("evaluate", done["run"])
    assert found.keys() >= {"run", "split", "n", "accuracy", "per_class", "confusion"}
    assert (found["run"], found["split"]) == (done["run"], "validation") and found["accuracy"].keys() == {"value", "low", "high"}
    assert sum(map(sum, found["confusion"]["counts"])) == found["n"] and found["per_class"].keys() == {"red", "green", "blue"}
    assert found == json.loads(json.dumps(evaluate.as_json(evaluate.evaluate(done["run"], "validation"))))
    with open(settings().runs / done["run"] / "predictions.csv", newline="", encoding="utf-8") as f:
        header, *rows = csv.reader(f)
    assert header == ["image_id", "split", "true", "predicted", "confidence", *runs.load(runs.folder(done["run"])).classes]
    assert {r[1] for r in rows} <= {"validation", "test"} and all(float(r[4]) == max(map(float, r[5:])) for r in rows)


def test_training_without_wait_answers_at_once_and_a_failed_run_ends_with_1(small: Dataset, core: Core, python: Command) -> None:
    training = ("train", "--dataset", "squares", "--architecture", "linear")
    begun = core(*training, "--set", "epochs=1")
    assert begun["status"] in ("pending", "running") and begun["best_epoch"] is None
    assert train.wait(begun["run"]).status == "succeeded"
    failed = python("-m", "core", *training, "--set", "learning_rate=10", "--set", "optimizer=sgd", "--set", "device=mps", "--wait")
    assert failed.returncode == 1 and json.loads(failed.stdout)["status"] == "failed" and "no mps device" in failed.stderr


@pytest.mark.parametrize(
    ("code", "words", "args"),
    [
        (2, "invalid choice", ("fly",)),
        (2, "required", ("import", "/tmp")),
        (2, "no dataset called “none”", ("train", "--dataset", "none", "--architecture", "linear")),
        (2, "perceptron", ("train", "--dataset", "squares", "--architecture", "perceptron")),
        (2, "“epochs” is not KEY=VALUE", ("train", "--dataset", "squares", "--architecture", "linear", "--set", "epochs")),
        (2, "“colour” is not a setting", ("train", "--dataset", "squares", "--architecture", "linear", "--set", "colour=1")),
        (2, "invalid choice", ("evaluate", "20260101-000000-0000", "--split", "train")),
        (1, "There is no run", ("evaluate", "20260101-000000-0000")),
        (1, "There is no run", ("predict", "../home", "a.png")),
        (1, "", ("import", "/does/not/exist", "--name", "x")),
    ],
)
def test_what_cannot_be_done_is_said_on_stderr_and_by_the_exit_code(
    small: Dataset, command: Command, code: int, words: str, args: tuple[str, ...]
) -> None:
    got, text = refusal(command, *args)
    assert got == code and words in text and text.strip()
    assert store.find_dataset("x") is None and train.list_runs() == []


# Evaluate, explain and predict


def test_evaluate_prints_the_metrics_of_either_split(trained: Trained, core: Core) -> None:
    found = core("evaluate", trained.run_id, "--split", "test")
    assert found["split"] == "test" and found["n"] == runs.load(runs.folder(trained.run_id)).counts["test"]
    accuracy = found["accuracy"]
    assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    assert found["confusion"]["classes"] == list("0123456789")
    assert [len(row) for row in found["confusion"]["counts"]] == [10] * 10


def test_explain_checks_how_far_a_map_can_be_trusted(trained: Trained, core: Core, tmp_path: Path) -> None:
    row = runs.snapshot_rows(runs.folder(trained.run_id))[0]
    found = core("explain", trained.run_id, row.image_id, "--method", "saliency", "--trust", "--out", str(tmp_path / "map.png"))
    assert set(found["trust"]) == {"deletion", "insertion", "completeness", "randomised", "infidelity", "sensitivity"}
    assert all(one["words"] and one["mark"] in ("good", "doubt", "bad", "undefined") for one in found["trust"].values())


def test_explain_writes_a_picture_of_an_image_given_by_id(trained: Trained, core: Core, tmp_path: Path, command: Command) -> None:
    row = runs.snapshot_rows(runs.folder(trained.run_id))[0]
    out = tmp_path / "map.png"
    found = core("explain", trained.run_id, row.image_id, "--method", "integrated_gradients", "--target", "4", "--out", out)
    assert found.keys() >= {"method", "target", "delta", "out"}
    assert (found["method"], found["target"], found["out"]) == ("integrated_gradients", "4", str(out))
    assert isinstance(found["delta"], float) and out.read_bytes().startswith(b"\x89PNG")
    code, text = refusal(command, "explain", trained.run_id, row.image_id, "--method", "magic", "--out", out)
    assert code == 2 and "no method called “magic”" in text
    code, text = refusal(command, "explain", trained.run_id, "neither", "--method", "saliency", "--out", out)
    assert code == 1 and "neither a file nor the id" in text


def test_predict_lists_the_likeliest_classes_of_every_file(trained: Trained, core: Core, tmp_path: Path) -> None:
    rows = [r for r in runs.snapshot_rows(runs.folder(trained.run_id)) if r.split == "test"][:2]
    files = [settings().images / r.path for r in rows]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = core("predict", trained.run_id, *files, tmp_path / "broken.png")
    assert [f["file"] for f in found] == [str(f) for f in (*files, tmp_path / "broken.png")]
    for answer, row in zip(found, rows, strict=False):
        shares = [t["probability"] for t in answer["top"]]
        assert (
            len(shares) == 5 and shares == sorted(shares, reverse=True) and all(t.keys() == {"label", "probability"} for t in answer["top"])
        )
        stored = evaluate.evaluate(trained.run_id, "test").rows.set_index("image_id").loc[row.image_id]
        assert answer["top"][0]["label"] == stored["predicted"] and shares[0] == pytest.approx(stored["confidence"], abs=1e-5)
    assert found[2]["error"] and "top" not in found[2]


def test_a_place_that_cannot_be_written_and_a_bad_setting_are_said_plainly(
    trained: Trained, command: Command, python: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = next(iter(runs.snapshot_rows(runs.folder(trained.run_id))))
    out = tmp_path / "nodir" / "x.png"
    code, text = refusal(command, "explain", trained.run_id, row.image_id, "--method", "saliency", "--out", out)
    assert code == 1 and f"{out} cannot be written" in text
    monkeypatch.setenv("LOUPE_MAX_UPLOAD_MB", "4 GB")
    done = python("-m", "core", "runs")
    assert (done.returncode, done.stdout) == (1, "") and "Traceback" not in done.stderr
    assert "LOUPE_MAX_UPLOAD_MB is “4 GB”" in done.stderr


def test_progress_into_a_file_is_a_few_whole_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_told", [0.0, "", ""])
    for done in range(1001):
        terminal.progress(done, 1000, "photos")
    terminal.progress(1000, 1000, "photos")  # the end is said once
    assert capsys.readouterr().err == "photos: 0 of 1,000\nphotos: 1,000 of 1,000\n"


def test_progress_on_a_terminal_is_one_line_that_ends(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for done in range(4):
        terminal.progress(done, 3, "photos")
    terminal.progress_ended()
    said = capsys.readouterr().err
    assert said.count("\r") == 4 and said.count("\n") == 1 and said.endswith("photos: 3 of 3\x1b[K\n")
    assert [said.count("█"), said.count("░")] == [0 + 7 + 13 + 20, 20 + 13 + 7 + 0]


def test_what_an_import_guesses_is_said_before_it_goes_on_and_a_look_stores_nothing(
    home: Path, tmp_path: Path, command: Command, core: Core
) -> None:
    folder = folder_of(tmp_path / "pets", "train_set/cat/1.png", "train_set/dog/2.png", "test/cat/3.png")
    seen = core("import", folder, "--name", "pets", "--look")
    assert seen["classes"] == [{"name": "cat", "images": {"train": 1, "test": 1}}, {"name": "dog", "images": {"train": 1}}]
    assert seen["guessed"] == ["“train_set” was taken for the train split (2 images)"] and store.list_datasets() == []
    done = command("import", str(folder), "--name", "pets")
    assert json.loads(done.stdout)["added"] == 3
    assert done.stderr.index(f"Guessed: {seen['guessed'][0]}.") < done.stderr.index("Reading images: 3 of 3")


def test_labels_that_come_later_are_offered_and_given_by_a_flag(home: Path, tmp_path: Path, command: Command, core: Core) -> None:
    core("import", folder_of(tmp_path / "bare", "1.png", "2.png"), "--name", "pets")
    folder = folder_of(tmp_path / "later", "cat/1.png", "dog/2.png")
    done = command("import", str(folder), "--name", "pets")
    assert (json.loads(done.stdout)["offered"], json.loads(done.stdout)["given"]) == (2, 0) and "--give-labels" in done.stderr
    assert core("import", folder, "--name", "pets", "--give-labels")["given"] == 2


def test_an_import_in_a_terminal_says_the_words_of_the_page_and_the_time_that_is_left(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    now = iter(float(n) for n in range(0, 1000, 20))
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: next(now)))
    said: list[str] = []

    def progress(done: int, total: int, what: str) -> None:
        said.append(pace.words(what, done, total))
        terminal.progress(done, total, what)

    imports.import_now("digits", sources.named("sample"), "me", progress)
    shown = [line.lstrip("█░ ") for line in capsys.readouterr().err.replace("\x1b[K", "").split("\r")[1:]]
    assert [line.partition(", about")[0] for line in shown] == said
    assert said[0] == "Reading the list of images" and said[-1] == "Reading images: 1,797 of 1,797"
    assert any(" left" in line for line in shown) and " left" not in shown[-1]
