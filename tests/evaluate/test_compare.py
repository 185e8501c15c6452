"""Runs beside each other: counts and intervals are those of an independent computation, and what differs is found."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from core.catalog import params
from core.data import classes, labels, store
from core.errors import Invalid
from core.evaluate import compare, evaluate
from core.metrics import wilson
from core.runs import runs
from core.train import train
from core.types import Resumed, now
from pages.parts.train import runs as page
from tests.conftest import Trained, copy_home, forget, move_in
from tests.pages.app import opened, words


@pytest.fixture(scope="module")
def pair_once(trained_once: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Trained, str]]:
    """The finished ConvNet, and a linear model that learned the same images for one epoch."""
    home = tmp_path_factory.mktemp("pair") / "home"
    copy_home(trained_once.home, home)
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, home)
        run = train.start(trained_once.dataset.id, {"architecture": "linear", "epochs": 1, "seed": 3}, "somebody else")
        assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
        forget()
    yield replace(trained_once, home=home), run.id


@pytest.fixture
def pair(pair_once: tuple[Trained, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Trained, str, str]]:
    """Both runs in a home that the test may change: (what conftest made, first run, second run)."""
    made, second = pair_once
    copy_home(made.home, tmp_path / "home")
    move_in(monkeypatch, tmp_path / "home")
    yield replace(made, home=tmp_path / "home"), made.run_id, second
    forget()


def by_hand(a: str, b: str, split: str, labels: Mapping[str, str | None]) -> dict[str, set[str]]:
    """Image ids of each cell, from the files alone."""
    answers = []
    for one in (a, b):
        with open(runs.predictions_path(runs.folder(one)), newline="", encoding="utf-8") as f:
            answers.append({row["image_id"]: row["predicted"] for row in csv.DictReader(f) if row["split"] == split})
    found: dict[str, set[str]] = {name: set() for name in compare.OUTCOMES}
    for image in answers[0].keys() & answers[1].keys():
        first, second = (said[image] == labels[image] for said in answers)
        found["both" if first and second else "only_a" if first else "only_b" if second else "neither"].add(image)
    return found


def again(run_id: str, **changed: Any) -> str:
    """A copy of a finished run under another id."""
    source = runs.folder(run_id)
    new = f"{run_id[:-4]}{len(list(source.parent.iterdir())):04x}"
    shutil.copytree(source, source.with_name(new))
    run = runs.load(source)
    config = replace(run.config, **{k: v for k, v in changed.items() if k in params.PARAMS})
    rest = {k: v for k, v in changed.items() if k not in params.PARAMS}
    runs.write_json(runs.folder(new) / "config.json", asdict(replace(run, id=new, config=config, **rest)))
    return new


def give(dataset_id: int, image_id: str, name: str | None) -> None:
    """Labels an image as of today."""
    labels.apply(dataset_id, {i.id: i.label_seq for i in store.get_images(dataset_id, [image_id])}, name, "tester")


# Figures


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [((36, 12, 2, 0), 0.0569, 0.3404), ((18, 12, 2, 18), 0.0562, 0.3290), ((53, 0, 0, 1), -0.0729, 0.0729)],
)
def test_the_interval_of_a_difference_is_the_one_newcombe_printed(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    both, only_first, only_second, neither = counts  # his difference is the first less the second
    found = compare.paired_difference(both, only_second, only_first, neither)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx(((only_first - only_second) / sum(counts), low, high), abs=1e-4)


def test_a_difference_turns_round_with_the_runs_and_needs_images() -> None:
    found, turned = compare.paired_difference(20, 9, 3, 4), compare.paired_difference(20, 3, 9, 4)
    assert found is not None and turned is not None
    assert (found.value, found.low, found.high) == pytest.approx((-turned.value, -turned.high, -turned.low))
    assert compare.paired_difference(0, 0, 0, 0) is None


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (0, 7), (4, 11), (21, 45), (6, 6), (5000, 5200)])
def test_mcnemars_test_is_the_exact_binomial_test_of_the_flips(only_a: int, only_b: int) -> None:
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert compare.mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_four_counts_and_their_images_are_those_counted_by_hand(pair: tuple[Trained, str, str], split: str) -> None:
    made, a, b = pair
    found = compare.paired(evaluate.evaluate(a, split), evaluate.evaluate(b, split))
    expected = by_hand(a, b, split, store.current_labels(made.dataset.id))
    assert (found.both, found.only_a, found.only_b, found.neither) == tuple(len(expected[name]) for name in compare.OUTCOMES)
    assert {name: set(found.rows.loc[found.rows["outcome"] == name, "image_id"]) for name in compare.OUTCOMES} == expected
    assert found.only_a > 0 and found.n == sum(map(len, expected.values())) and found.left_out == 0
    assert found.answers_differ == int((found.rows["a"] != found.rows["b"]).sum()) >= found.only_a + found.only_b


def test_a_label_corrected_today_moves_its_image_to_another_cell(pair: tuple[Trained, str, str]) -> None:
    made, a, b = pair
    before = compare.paired(evaluate.evaluate(a, "validation"), evaluate.evaluate(b, "validation"))
    row = before.rows[before.rows["outcome"] == "only_a"].iloc[0]
    give(made.dataset.id, row["image_id"], row["b"])
    after = compare.paired(evaluate.evaluate(a, "validation"), evaluate.evaluate(b, "validation"))
    assert after.rows.set_index("image_id").loc[row["image_id"], "outcome"] == "only_b"
    assert (after.only_a, after.only_b) == (before.only_a - 1, before.only_b + 1)


def test_only_images_that_both_judged_are_compared_and_the_others_counted(pair: tuple[Trained, str, str]) -> None:
    _, a, b = pair
    rows = list(runs.read_predictions(runs.folder(b)))
    judged = [r for r in rows if r.split == "validation"]
    runs.write_predictions(runs.folder(b), runs.load(runs.folder(b)).classes, [r for r in rows if r not in judged[:5]])
    found = compare.paired(evaluate.evaluate(a, "validation"), evaluate.evaluate(b, "validation"))
    assert (found.n, found.left_out) == (len(judged) - 5, 5)
    assert not {r.image_id for r in judged[:5]} & set(found.rows["image_id"])


def test_the_words_name_the_better_run_its_lead_and_what_chance_could_do(pair: tuple[Trained, str, str]) -> None:
    _, a, b = pair
    real = compare.paired(evaluate.evaluate(a, "validation"), evaluate.evaluate(b, "validation"))

    def said(both: int, only_a: int, only_b: int, neither: int) -> str:
        n = both + only_a + only_b + neither
        difference, p = compare.paired_difference(both, only_a, only_b, neither), compare.mcnemar(only_a, only_b)
        return page.verdict(
            replace(real, n=n, both=both, only_a=only_a, only_b=only_b, neither=neither, difference=difference, p=p, left_out=0)
        )

    lead = said(1400, 21, 68, 40)
    low, high = compare.paired_difference(1400, 21, 68, 40).low, compare.paired_difference(1400, 21, 68, 40).high  # type: ignore[union-attr]
    assert f"B is right on 3.1 points more images** (95%: {100 * low:.1f} to {100 * high:.1f}, n = 1,529" in lead
    assert "p < 0.001" in lead and "hardly chance" in lead
    assert "A is right on 3.1 points more images" in said(1400, 68, 21, 40)
    assert "chance may be all" in said(200, 4, 11, 8)
    assert "equally many images" in said(200, 4, 4, 8) and "very same images" in said(200, 0, 0, 8)
    few = said(10, 1, 6, 3)
    assert "Of 20 validation images A has 11 right and B 16: too few" in few and "points" not in few


# What differs


def test_settings_that_differ_are_found_in_the_order_of_the_form() -> None:
    one = params.run_config({"architecture": "convnet"})
    assert params.differing([one, one]) == []
    found = params.differing([one, replace(one, momentum=0.5), replace(one, epochs=one.epochs + 1, flip="both")])
    assert found == [p.name for p in params.TRAIN_PARAMS if p.name in ("momentum", "epochs", "flip")]


def test_images_added_gone_and_relabelled_are_counted_and_a_new_name_of_a_class_is_not(pair: tuple[Trained, str, str]) -> None:
    made, a, _ = pair
    first = runs.load(runs.folder(a))
    rows = [r for r in runs.snapshot_rows(runs.folder(a)) if r.split == "train"]
    for row in rows[:2]:
        give(made.dataset.id, row.image_id, "8" if row.label == "7" else "7")
    give(made.dataset.id, rows[2].image_id, None)
    classes.rename(made.dataset.id, "3", "three", "tester")
    snapshot = store.snapshot(made.dataset.id, 0)
    other = replace(first, id="20990101-000000-beef", snapshot_id=snapshot.id, classes=snapshot.classes, created_at=now())
    runs.create(runs.folder(a).with_name(other.id), other, snapshot)
    assert compare.changes(first, first) == {}
    assert compare.changes(first, other) == {"train": compare.Changes(added=0, gone=1, relabelled=2)}
    assert compare.changes(other, first) == {"train": compare.Changes(added=1, gone=0, relabelled=2)}


def test_epochs_that_a_resumed_run_repeated_stand_once_as_they_came_out_at_last(pair: tuple[Trained, str, str]) -> None:
    _, a, _ = pair
    before = compare.curve(a)
    assert [e.epoch for e in before] == [1, 2, 3]
    runs.append(runs.folder(a), Resumed(1, before[0].step, now()))
    for epoch in (2, 3, 4):
        runs.append(runs.folder(a), replace(before[0], epoch=epoch, val_loss=float(epoch)))
    after = compare.curve(a)
    assert [e.epoch for e in after] == [1, 2, 3, 4] and after[0] == before[0]
    assert [e.val_loss for e in after[1:]] == [2.0, 3.0, 4.0]


def test_too_few_too_many_and_foreign_runs_are_refused(pair: tuple[Trained, str, str]) -> None:
    _, a, b = pair
    for wrong in ([a], [a, a], [a, b, *(again(a) for _ in range(5))]):
        with pytest.raises(Invalid, match="named"):
            compare.chosen(wrong)
    with pytest.raises(Invalid, match="different datasets"):
        compare.chosen([a, again(b, dataset_id=999)])
    assert [r.id for r in compare.chosen([b, a, b])] == [b, a]


def test_the_command_line_tells_differences_metrics_and_paired_counts(
    pair: tuple[Trained, str, str], command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    made, a, b = pair
    done = command("compare", a, b)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["settings"]["architecture"] == {a: "convnet", b: "linear"} and found["settings"]["seed"] == {a: 0, b: 3}
    assert "momentum" not in found["settings"] and found["images"] == {b: {}}
    for one in (a, b):
        e = evaluate.evaluate(one, "validation")
        assert e.accuracy is not None
        assert found["runs"][one]["n"] == e.n and found["runs"][one]["accuracy"] == asdict(e.accuracy)
        assert found["runs"][one]["weights_bytes"] == runs.checkpoint(runs.folder(one)).stat().st_size
    cells = by_hand(a, b, "validation", store.current_labels(made.dataset.id))
    assert [found["pairs"][0][name] for name in compare.OUTCOMES] == [len(cells[name]) for name in compare.OUTCOMES]
    refused = command("compare", a)
    assert refused.returncode == 1 and refused.stdout == "" and "Choose 2 to 6" in refused.stderr


# The page


def test_a_link_with_two_runs_opens_their_comparison(pair: tuple[Trained, str, str]) -> None:
    made, a, b = pair
    app = opened("train", dataset=made.dataset.name)
    assert "beside each other" not in words(app)
    app.query_params["runs"] = f"{a},{b}"
    app.run()
    assert not app.exception and not app.error, words(app)
    said = words(app)
    assert "2 runs beside each other" in said and "The same images, two answers" in said
    settings = app.table[0].value
    assert list(settings.columns) == ["A", "B"] and {"Network", "Epochs", "Seed"} <= set(settings.index)
    assert settings.loc["Network", "B"] == "Linear softmax" and "Optimiser" not in settings.index
    cells = by_hand(a, b, "validation", store.current_labels(made.dataset.id))
    for name, title in page.CELLS.items():
        assert any(x.label == f"{title} · **{len(cells[name]):,}**" for x in app.button)
    app.button(key="cell-only_a").click().run()
    assert f"Only A right: {len(cells['only_a'])} images" in words(app)
    assert "These are test images" not in words(app)
    app.toggle(key=f"on-test-{a}-{b}").set_value(True).run()
    assert "These are test images" in words(app) and not app.exception


def test_several_runs_are_deleted_at_once_and_brought_back(pair: tuple[Trained, str, str]) -> None:
    made, a, b = pair
    app = opened("train", dataset=made.dataset.name)
    app.query_params["runs"] = f"{a},{b}"
    app.run()
    app.button(key="delete-runs").click().run()
    assert train.list_runs(made.dataset.id) == [] and "2 runs were moved to the bin" in words(app)
    app.button(key="undo-delete-runs").click().run()
    assert {s.run.id for s in train.list_runs(made.dataset.id)} == {a, b} and not app.exception


def test_a_run_started_elsewhere_ends_the_comparison_and_a_missing_one_is_told(pair: tuple[Trained, str, str]) -> None:
    made, a, b = pair
    app = opened("train", dataset=made.dataset.name)
    app.query_params["runs"] = f"{a},{b},gone"
    app.run()
    assert "2 runs beside each other" in words(app) and "not here any more" in app.toast[0].value
    app.session_state["watched"] = b
    app.run()
    assert "beside each other" not in words(app) and "runs" not in app.query_params and not app.exception


def test_200_runs_are_paged_filtered_and_drawn_in_half_a_second(pair: tuple[Trained, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    made, a, b = pair
    for i in range(198):
        again((a, b)[i % 2], seed=i, name=f"Copy {i}", by="Ada" if i == 7 else "tester")
    assert len(train.list_runs(made.dataset.id)) == 200
    seconds = []
    table = page.table

    def timed(*args: Any) -> None:
        begun = time.perf_counter()
        table(*args)
        seconds.append(time.perf_counter() - begun)

    monkeypatch.setattr(page, "table", timed)
    app = opened("train", dataset=made.dataset.name)
    app.run()
    assert not app.exception and len(app.dataframe[0].value) == 50 and app.session_state["runs-page"] == 1
    assert "setting seed" in app.dataframe[0].value and "setting momentum" not in app.dataframe[0].value
    assert len(seconds) >= 2 and min(seconds) < 0.5
    app.text_input(key="runs-text").set_value("ada copy").run()
    assert list(app.dataframe[0].value["run"]) == ["Copy 7"]
    app.text_input(key="runs-text").set_value("nothing of the kind").run()
    assert "No run fits the filter" in words(app) and not app.exception


def test_runs_are_found_by_tag_and_their_notes_stand_in_the_table(pair: tuple[Trained, str, str]) -> None:
    made, _, b = pair
    train.annotate(b, "the slow one", ["keep", "demo"])
    app = opened("train", dataset=made.dataset.name)
    table = app.dataframe[0].value.set_index("run")
    assert list(table["note"]) == ["the slow one", ""] and list(table["tags"].iloc[0]) == ["keep", "demo"]
    app.button_group(key="runs-tags").set_value(["demo"]).run()
    assert len(app.dataframe[0].value) == 1 and not app.exception
    train.annotate(b, "", [])  # a tag that is gone takes its filter with it
    app.run()
    assert len(app.dataframe[0].value) == 2 and "note" not in app.dataframe[0].value and not app.exception


def test_few_validation_images_are_a_count_and_many_a_share() -> None:
    def text(right: int, n: int) -> str:
        return page.share(wilson(right, n), n)

    assert text(9, 12) == "9 of 12 right (47% to 91%)" and text(29, 29) == "29 of 29 right (88% to 100%)"
    assert text(27, 30) == "90.0% (74.4% to 96.5%)" and page.share(None, 0) == ""
