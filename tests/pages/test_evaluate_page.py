"""What the Evaluate page says when something about a run, its labels or its images is not as it was."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from core.data import classes, schema, store
from core.runs import openings, runs
from core.types import Image
from tests.conftest import Trained
from tests.pages.app import elements, opened, words


def page(trained: Trained, **query: str) -> AppTest:
    app = opened("evaluate", dataset=trained.dataset.name, **query)
    assert not app.exception, words(app)
    return app


def said(app: AppTest) -> str:
    return words(app).replace("\\", "")


def matrix(app: AppTest) -> dict[str, Any]:
    """What the matrix is given."""
    found = [json.loads(c.proto.json) for c in app.get("bidi_component") if '"counts"' in c.proto.json]
    assert len(found) == 1
    return dict(found[0])


def images(trained: Trained, split: str = "validation") -> list[Image]:
    ids = [row.image_id for row in runs.read_predictions(runs.folder(trained.run_id)) if row.split == split]
    return store.get_images(trained.dataset.id, ids)


def rewrite(trained: Trained, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
    path = runs.predictions_path(runs.folder(trained.run_id))
    with open(path, newline="", encoding="utf-8") as f:
        rows = list(csv.reader(f))
    with open(path, "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(change(rows))


def test_the_matrix_is_given_only_the_cells_that_hold_images(trained: Trained) -> None:
    given = matrix(page(trained))
    rows = [r for r in runs.read_predictions(runs.folder(trained.run_id)) if r.split == "validation"]
    cells = {(r.true, r.predicted) for r in rows}
    counts, classes = given["counts"], given["classes"]
    assert isinstance(counts, list) and isinstance(classes, list)
    assert len(counts) == len(cells) and sum(counts) == len(rows) and classes == list("0123456789")


def test_images_that_are_gone_are_counted_and_said(trained_copy: Trained) -> None:
    name = images(trained_copy)[0].label
    assert name is not None
    mine = [i.id for i in images(trained_copy) if i.label == name]
    app = page(trained_copy, actual=name)
    assert "not in the dataset any more" not in said(app) and f"{len(mine)} images: actual {name}" in said(app)
    table = schema.images.c
    with schema.writing() as c:
        c.execute(schema.images.delete().where(table.dataset_id == trained_copy.dataset.id, table.id == mine[0]))
        assert c.execute(sa.select(sa.func.count()).select_from(schema.images).where(table.id == mine[0])).scalar_one() == 0
    app.run()
    assert not app.exception
    assert f"1 of these {len(mine)} images is not in the dataset any more" in said(app)


def test_a_class_retired_since_is_named_and_its_images_are_left_out(trained_copy: Trained) -> None:
    mine = [i for i in images(trained_copy) if i.label == "3"]
    classes.retire(trained_copy.dataset.id, "3", "tester")
    text = said(page(trained_copy))
    assert f"{len(mine)} left out: no label of this run's classes" in text and f"{len(mine)} labels changed since training" in text
    assert "No validation image is labelled 3: recall is undefined there. 1 of them is no class of this dataset any more." in text


def test_a_class_merged_or_renamed_since_bears_the_name_of_today(trained_copy: Trained) -> None:
    three = [i for i in images(trained_copy) if i.label == "3"]
    classes.rename(trained_copy.dataset.id, "3", "three", "tester")
    app = page(trained_copy)
    assert "three" in matrix(app)["classes"] and "changed since training" not in said(app)  # type: ignore[operator]
    classes.merge(trained_copy.dataset.id, "three", "5", "tester")
    text = said(page(trained_copy))
    assert f"{len(three)} labels changed since training" in text and "No validation image is labelled three" in text


def test_probabilities_that_are_no_numbers_are_said(trained_copy: Trained) -> None:
    def broken(rows: list[list[str]]) -> list[list[str]]:
        first = next(r for r in rows[1:] if r[1] == "validation")
        first[4:] = ["nan"] * len(first[4:])
        return rows

    rewrite(trained_copy, broken)
    for view in ("matrix", "hardest", "thresholds", "calibration", "slices"):
        app = page(trained_copy, view=view)
        assert not app.error and "For 1 image the network gave probabilities that are no numbers (NaN)" in said(app)


def test_a_run_that_was_stopped_within_its_first_epoch_says_so_and_leads_to_its_answers(trained_copy: Trained) -> None:
    path = runs.folder(trained_copy.run_id) / "events.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [line for line in lines if line["kind"] not in ("EpochEnd", "Ended")]
    ended = {**lines[-1], "outcome": "stopped", "best_epoch": None}
    path.write_text("".join(json.dumps(line) + "\n" for line in [*kept, ended]), encoding="utf-8")
    choice = page(trained_copy, run=trained_copy.run_id).selectbox(key="run")
    assert "ended within its first epoch" in choice.options[choice.index or 0]
    app = opened("train", dataset=trained_copy.dataset.name, run=trained_copy.run_id)
    assert not app.exception and any(one.label == "See its mistakes" for one in app.button)


def test_a_run_without_predictions_and_one_without_images_to_judge_say_so(trained_copy: Trained) -> None:
    rewrite(trained_copy, lambda rows: rows[:1])
    assert "neither validation nor test images" in page(trained_copy).info[0].value
    runs.predictions_path(runs.folder(trained_copy.run_id)).unlink()
    app = page(trained_copy)
    assert "before its predictions were written" in said(app)


def test_a_run_of_one_class_says_that_being_right_says_nothing(trained_copy: Trained) -> None:
    config = runs.folder(trained_copy.run_id) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "classes": ["0"]}))
    rewrite(trained_copy, lambda rows: [[*rows[0][:5], "0"], *([*r[:3], "0", "1", "1"] for r in rows[1:] if r[2] == "0")])
    for view in ("matrix", "classes", "hardest", "thresholds", "calibration", "slices"):
        app = page(trained_copy, view=view)
        assert not app.error and "This run knows one class only" in said(app), (view, said(app))


def test_test_images_are_not_evaluated_before_somebody_asks(trained_copy: Trained) -> None:
    app = page(trained_copy)
    control = next(c for c in elements(app, "button_group") if "test" in c.options)
    control.set_value("test").run()
    assert "Test data are for the end" in said(app) and not [c for c in app.get("bidi_component") if '"counts"' in c.proto.json]
    next(b for b in app.button if b.label == "Open the test set").click().run()
    assert not app.exception and sum(matrix(app)["counts"]) == len(images(trained_copy, "test"))


def test_explain_shows_no_mistake_on_test_images_before_somebody_asks(trained_copy: Trained) -> None:
    rewrite(trained_copy, lambda rows: [r for r in rows if r[1] != "validation"])
    app = opened("explain", dataset=trained_copy.dataset.name)
    assert not app.exception and "Test data are for the end" in said(app) and openings.times([trained_copy.run_id]) == 0
    next(b for b in app.button if b.label == "Open the test set").click().run()
    assert not app.exception and "Test data are for the end" not in said(app) and openings.times([trained_copy.run_id]) == 1


def test_the_test_accuracy_beside_a_presets_figure_is_an_opening_once_a_session_and_opens_no_images(trained_copy: Trained) -> None:
    config = runs.folder(trained_copy.run_id) / "config.json"
    runs.write_json(config, {**runs.read_json(config), "preset": "dense_mnist"})
    app = opened("train", dataset=trained_copy.dataset.name, run=trained_copy.run_id)
    assert not app.exception and "This run: " in said(app) and "test set opened once" in said(app)
    app = app.run().switch_page("evaluate.py").run()
    assert not app.exception and openings.times([trained_copy.run_id]) == 1
    next(c for c in elements(app, "button_group") if "test" in c.options).set_value("test").run()
    assert "Test data are for the end" in said(app)  # its images were not asked for
    next(b for b in app.button if b.label == "Open the test set").click().run()
    assert sum(matrix(app)["counts"]) == len(images(trained_copy, "test")) and openings.times([trained_copy.run_id]) == 1
