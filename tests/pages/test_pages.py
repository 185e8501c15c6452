"""Each page through Streamlit's AppTest: with data, without, and when something is wrong."""

from __future__ import annotations

import ast
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from core.api import routes
from core.data import classes, dataset, imports, labels, queue, sources, splits, store, uploads
from core.errors import AppError
from core.explain import explain
from core.label import embed
from core.review import predict
from core.runs import launch
from core.settings import settings
from core.share import export
from core.train import train
from core.types import Attribution, Dataset
from pages.shared import board, detail
from tests.conftest import ROOT, Trained
from tests.pages.app import PAGES, elements, opened, words
from tests.waiting import until


def test_every_page_is_in_the_navigation_once() -> None:
    calls = [node for node in ast.walk(ast.parse((ROOT / "pages" / "main.py").read_text())) if isinstance(node, ast.Call)]
    files = [ast.literal_eval(call.args[0]) for call in calls if ast.unparse(call.func) == "st.Page"]
    assert sorted(files) == [f"{name}.py" for name in PAGES]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_draws_inside_the_frames_guard_alone(name: str) -> None:
    inert = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef)
    docstring, *rest = ast.parse((ROOT / "pages" / f"{name}.py").read_text()).body
    (drawn,) = [node for node in rest if not isinstance(node, inert)]
    assert isinstance(docstring, ast.Expr) and isinstance(drawn, ast.With)
    assert ast.unparse(drawn.items[0].context_expr).startswith("frame.page(")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_on_an_empty_installation_and_says_what_to_do(home: Path, name: str) -> None:
    app = opened(name)
    assert not app.exception and not app.error
    expected = {
        "home": "Show me",
        "dataset": "Three ways in",
        "audit": "Nothing of this kind was recorded",
        "people": "Nobody was added yet",
    }
    assert expected.get(name, "No dataset yet") in words(app)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_with_a_trained_run(trained: Trained, name: str) -> None:
    app = opened(name, dataset=trained.dataset.name)
    assert not app.exception and not app.error, words(app)
    assert app.title[0].value


def test_an_unexpected_error_becomes_a_sentence_and_no_traceback(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the machine room")

    monkeypatch.setattr(dataset, "browse", broken)
    app = opened("dataset", dataset=trained.dataset.name)
    assert not app.exception
    assert "Something went wrong" in app.error[0].value and "secret" not in words(app)


def test_a_dataset_that_was_deleted_elsewhere_leaves_a_page_that_says_what_to_do(home: Path, small: Dataset) -> None:
    app = opened("train", dataset=small.name)
    assert "Start training" in words(app)
    store.set_deleted(small.id, True)
    app.run()
    assert not app.exception and "No dataset yet" in words(app)


def test_a_dataset_of_one_class_cannot_be_trained_and_the_page_says_why(
    home: Path, squares: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    from core.data import imports, sources

    folder = squares(tmp_path / "squares", 3)
    only = tmp_path / "only"
    only.mkdir()
    (folder / "red").rename(only / "red")
    (only / "extra").mkdir()  # an empty folder is no class
    imports.import_now("red", sources.at(only), "tester")
    app = opened("train", dataset="red")
    assert not app.exception
    assert "at least two classes" in words(app)
    assert not [b for b in app.button if b.label == "Start training"]


def test_a_wrong_learning_rate_is_named_and_nothing_starts(trained: Trained) -> None:
    app = opened("train", dataset=trained.dataset.name)
    field = next(t for t in app.text_input if t.label == "Learning rate")
    field.set_value("fast").run()
    assert "(learning_rate) is “fast”" in app.error[0].value.replace("\\", "")
    assert next(b for b in app.button if b.label == "Start training").disabled


def test_a_picture_is_predicted_sent_to_review_once_and_decided(trained_copy: Trained) -> None:
    image = store.browse(trained_copy.dataset.id, store.Filter(split="test"), 0, 1)[0]
    data = (trained_copy.home / "images" / image.path).read_bytes()
    for _ in range(2):  # in two tabs
        app = opened("predict", dataset=trained_copy.dataset.name)
        app.file_uploader[0].upload("mine.png", data).run()
        assert not app.exception and not app.error, words(app)
        assert "In the dataset already: a test image, labelled" in words(app)
        next(b for b in app.button if b.label == "Send all 1 to review").click().run()
    assert queue.queue_length(trained_copy.dataset.id) == 1
    page = opened("review", dataset=trained_copy.dataset.name)
    given = next(json.loads(e.proto.json) for e in page.get("bidi_component") if "predicted" in e.proto.json)
    assert (given["order"], given["view"], given["dataset_id"]) == ("mixed", "one", trained_copy.dataset.id)
    with TestClient(Starlette(routes=routes.ROUTES), headers={"X-Loupe-Token": given["token"]}) as client:
        mine = {"dataset_id": trained_copy.dataset.id, "session": "page"}
        (one,) = client.post("/api/review/deal", json=mine).json()["items"]
        have = client.get(f"/api/review/about/{one['id']}").json()["have"]
        assert (have["label"], have["split"], have["known"]) == (image.label, "test", True)
        said = mine | {"id": one["id"], "verdict": "accepted", "operation": "press"}
        assert [client.post("/api/review/decide", json=said).json()["state"] for _ in range(2)] == ["decided", "decided"]
        assert queue.queue_length(trained_copy.dataset.id) == 0
        page = opened("review", dataset=trained_copy.dataset.name, view="decisions")
        assert not page.exception and "1 decision, newest first" in words(page)
        assert client.post("/api/review/undo", json=mine).json()["item"]["id"] == one["id"]
    assert queue.queue_length(trained_copy.dataset.id) == 1


def test_a_predicted_picture_is_explained_at_a_click(trained_copy: Trained) -> None:
    image = store.browse(trained_copy.dataset.id, store.Filter(), 0, 1)[0]
    app = opened("predict", dataset=trained_copy.dataset.name)
    app.file_uploader[0].upload("mine.png", (trained_copy.home / "images" / image.path).read_bytes()).run()
    next(b for b in app.button if b.label == "Why").click().run()
    assert not app.exception and not app.error, words(app)
    assert app.title[0].value == "Explain" and "mine\\.png has no label" in words(app)


def test_a_board_asks_for_little_at_a_time_and_stops_what_nobody_waits_for_any_more(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(trained_copy.home / "runs" / trained_copy.run_id / "maps", ignore_errors=True)  # what a map takes is not known yet
    launch.close()
    for submit in (launch.submit, launch.submit_slow):
        submit(time.sleep, 1)  # nothing is done before it is stopped
    monkeypatch.setattr(board.st, "session_state", {})
    image = store.browse(trained_copy.dataset.id, store.Filter(), 0, 1)[0]
    cells = [board.Cell(trained_copy.run_id, "weights", settings().images / image.path, "saliency", str(digit)) for digit in range(10)]
    asked = [one.asked for one in board.look(cells) if one.asked is not None]
    assert len(asked) == board.AHEAD / board.UNKNOWN
    board.look([])
    for one in asked:
        with pytest.raises(AppError, match="stopped"):
            explain.answer(one)
    launch.close()


@pytest.mark.parametrize(
    ("delta", "change", "words", "doubt"),
    [
        (0.02, 2.0, "Adds up to the change in score (+2) within 1%.", False),
        (0.2, -2.0, "Adds up to the change in score (−2) only within 10%.", False),
        (1.0, 2.0, "Misses the change in score (+2) by 50%: do not trust the details. More steps may help.", True),
        (0.0, 0.0, "The score does not change on the way to this picture.", False),
        (None, None, "", False),
    ],
)
def test_the_error_of_a_maps_sum_is_said_in_words(delta: float | None, change: float | None, words: str, doubt: bool) -> None:
    nothing = np.zeros((2, 2))
    found = Attribution("run", "image", "integrated_gradients", "cat", 0.5, nothing, nothing, delta, change)
    assert board.said(found) == {"caption": words, "doubt": doubt}


def test_a_file_that_is_no_image_is_named_beside_a_good_one(trained_copy: Trained) -> None:
    good = store.browse(trained_copy.dataset.id, store.Filter(), 0, 1)[0]
    app = opened("predict", dataset=trained_copy.dataset.name)
    app.file_uploader[0].upload("good.png", (trained_copy.home / "images" / good.path).read_bytes())
    app.file_uploader[0].upload("bad.png", b"no image").run()
    assert "bad" in app.warning[0].value and "not an image" in app.warning[0].value
    assert "Send all 1 to review" in words(app)
    assert uploads.find(good.id).path.exists()
    launch.close()


def test_an_export_is_offered_for_download_and_one_that_is_gone_makes_way(trained_copy: Trained) -> None:
    app = opened("dataset", dataset=trained_copy.dataset.name)
    next(b for b in app.button if b.label == "Make the zip").click().run()
    key = f"export-{trained_copy.dataset.id}"
    for _ in range(200):
        if export.state(app.session_state[key]).status != "running":
            break
        time.sleep(0.05)
    app.run()
    assert not app.exception and "300 images" in words(app), words(app)
    shutil.rmtree(settings().exports / app.session_state[key])
    app.run()
    assert not app.exception and not app.error and any(b.label == "Make the zip" for b in app.button)


def test_the_form_shows_what_applies_and_keeps_it_while_another_page_is_open(trained: Trained) -> None:
    app = opened("train", dataset=trained.dataset.name)

    def labels() -> set[str]:
        return {e.label for kind in ("text_input", "number_input", "selectbox", "multiselect", "toggle") for e in elements(app, kind)}

    def choose(title: str, value: str) -> None:
        next(s for s in app.selectbox if s.label == title).set_value(value).run()

    assert {"Classes", "Mixup", "Weight decay", "Warm-up (epochs)"} <= labels()
    assert not {"Momentum", "Step factor", "Step every (epochs)"} & labels()
    choose("Optimiser", "sgd")
    choose("Schedule", "step")
    assert {"Momentum", "Step factor", "Step every (epochs)"} <= labels()
    choose("Schedule", "one_cycle")
    assert not {"Step factor", "Warm-up (epochs)"} & labels()
    next(t for t in app.text_input if t.label == "Momentum").set_value("0.5").run()
    assert "More (1 changed)" in [e.label for e in app.expander]
    app.switch_page("dataset.py").run()
    app.switch_page("train.py").run()
    assert next(t for t in app.text_input if t.label == "Momentum").value == "0.5"
    assert next(s for s in app.selectbox if s.label == "Schedule").value == "one_cycle"


def test_the_counts_follow_the_chosen_classes_and_a_button_mends_what_is_warned_about(trained: Trained) -> None:
    app = opened("train", dataset=trained.dataset.name)
    next(m for m in app.multiselect if m.label == "Classes").set_value(["3", "7"]).run()
    assert "learns 2 classes from **" in words(app)
    next(n for n in app.number_input if n.label.startswith("Batch size")).set_value(4000).run()
    assert "A batch of 4,000 is more than the" in words(app)
    next(b for b in app.button if b.label.startswith("Use batch size")).click().run()
    assert "A batch of" not in words(app) and "learns 2 classes" in words(app)  # the rest stands as it was
    next(m for m in app.multiselect if m.label == "Classes").set_value(["3"]).run()
    assert "at least two classes" in words(app)
    assert next(b for b in app.button if b.label == "Start training").disabled


def test_classes_to_choose_from_are_shown_as_they_are_called(trained_copy: Trained) -> None:
    classes.rename(trained_copy.dataset.id, "3", "T-shirt_(3)", "tester")  # a list of choices reads no Markdown: no escapes
    app = opened("train", dataset=trained_copy.dataset.name)
    assert "T-shirt_(3)" in next(m for m in app.multiselect if m.label == "Classes").options


def test_near_duplicates_across_splits_are_looked_for_and_named_before_a_run(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(embed, "start", lambda dataset_id, by, arranged: started.append((dataset_id, arranged)))
    app = opened("train", dataset=trained_copy.dataset.name)
    assert "is not checked yet" in words(app)
    next(b for b in app.button if b.label == "Look for near duplicates").click().run()
    assert started == [(trained_copy.dataset.id, False)]  # nobody has asked for a map

    images = store.all_images(trained_copy.dataset.id)
    pair = [next(i for i in images if i.split == split) for split in ("train", "test")]
    group = np.array([0 if i in pair else -1 for i in images], np.int32)
    zeros = np.zeros(len(images), np.float32)
    folder = settings().embeddings / str(trained_copy.dataset.id) / "20260101-000000-abcdef"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"dataset_id": trained_copy.dataset.id, "by": "tester", "at": "2026"}))
    ids, xy, unreadable = np.array([i.id for i in images]), np.zeros((len(images), 2), np.float32), np.array([], str)
    path = folder / "embedding.npz"
    np.savez(path, ids=ids, xy=xy, unreadable=unreadable, brightness=zeros, sharpness=zeros, oddness=zeros, group=group)
    app.run()
    assert "One group of near duplicates lies in more than one split" in words(app)
    next(b for b in app.button if b.label == "Show them").click().run()
    assert app.title[0].value == "Label" and not app.exception
    assert {s.label: s.value for s in app.selectbox if s.label in ("Order", "Show")} == {"Order": "near-duplicates", "Show": "all"}


def test_copies_across_splits_that_the_import_found_are_named_before_a_run_without_a_map(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "crossing", lambda dataset_id: 2)
    assert "2 groups of near duplicates lie in more than one split" in words(opened("train", dataset=trained_copy.dataset.name))


def test_what_comes_stands_there_while_the_network_is_asked(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("answers", "predict_one"):  # as long as these take, a page is as it is when it ends here
        monkeypatch.setattr(predict, name, lambda *_: st.stop())
    monkeypatch.setattr(predict, "stored", lambda *_: None)
    image = store.browse(trained.dataset.id, store.Filter(split="test"), 0, 1)[0]
    app = opened("predict", dataset=trained.dataset.name)
    app.file_uploader[0].upload("mine.png", (trained.home / "images" / image.path).read_bytes()).run()
    assert not app.exception and "mine.png" in "".join(str(one.proto) for one in elements(app, "html"))
    assert "is asked: 0 of 1 pictures" in str(elements(app, "progress")[0].proto)
    explained = opened("explain", dataset=trained.dataset.name)
    assert not explained.exception and "The network is asked; after a start it is loaded first" in words(explained)


def test_a_file_that_cannot_be_explained_is_refused_in_words_and_no_other_picture_stands_in_its_place(trained_copy: Trained) -> None:
    app = opened("explain", dataset=trained_copy.dataset.name)
    assert "is labelled" in words(app)
    app.button_group(key="explain-source").set_value("own").run()
    assert "is labelled" not in words(app)
    for name, why in (("bad.pdf", "bad.pdf is not an image that Loupe reads"), ("broken.jpg", "This is not an image that Loupe reads")):
        app.file_uploader[0].upload(name, b"no image").run()
        said = words(app).replace("\\", "")
        assert why in said and "The network" not in said and "is labelled" not in said


def test_a_drawer_that_reports_the_label_it_opened_with_labels_nothing(small: Dataset) -> None:
    image = store.browse(small.id, store.Filter(), 0, 1)[0]
    other = next(c for c in small.classes if c != image.label)
    before = labels.history(small.id, image.id)
    detail.choose(small, image, image.label)
    assert labels.history(small.id, image.id) == before
    detail.choose(small, image, other)
    assert store.get_image(small.id, image.id).label == other


def test_show_me_waits_for_the_sample_that_is_coming_in_to_its_last_picture(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources.named("sample")
    job = imports.start(source, "digits", "tester")
    until(lambda: dataset.totals(found.id)[0] > 0 if (found := store.find_dataset("digits")) else False, "the first of the sample")
    state = imports.state(job)
    monkeypatch.setattr(imports, "running", lambda: [state])  # however quickly it came in
    monkeypatch.setattr(imports, "state", lambda *_: state)
    monkeypatch.setattr(train, "start", lambda *_: pytest.fail("it was trained on a part of the sample"))
    app = opened("home", dataset="digits")
    next(b for b in app.button if b.label == "Show me").click().run()
    assert not app.exception and app.session_state["tour-import"] == job
    imports.stop(job)


def test_the_tour_says_so_when_the_pictures_it_judged_carry_no_label_any_more(trained_copy: Trained) -> None:
    app = opened("home", dataset=trained_copy.dataset.name)
    app.session_state["tour"] = trained_copy.run_id
    assert "it was right **" in words(app.run())
    found = store.all_images(trained_copy.dataset.id)
    labels.apply(trained_copy.dataset.id, {image.id: image.label_seq for image in found}, None, "tester")
    app.run()
    assert not app.exception and "carry no label any more" in words(app)


def test_a_network_is_said_as_it_will_be_trained_with_its_download_only_where_one_is_needed(
    small: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    app = opened("train", dataset=small.name)

    def line(title: str) -> str:
        return next(o for r in app.radio for one in r.options if (o := str(one).replace("\\", "")).startswith(title))

    assert "11.2 million parameters · 224 × 224 · a download of about 47 MB, once" in line("ResNet-18")
    next(r for r in app.radio if str(r.key).startswith("network-")).set_value("resnet18").run()
    next(t for t in app.toggle if str(t.key).endswith("resnet18-pretrained")).set_value(False).run()
    next(n for n in app.number_input if str(n.key).endswith("-image_size")).set_value(96).run()
    assert not app.exception and "11.2 million parameters · 96 × 96 · from random weights" in line("ResNet-18")
    assert "a download of about 531 MB, once" in line("VGG-11")  # nobody chose that it begins anew
    assert next(r for r in app.radio if str(r.key).startswith("network-")).value == "resnet18"


def test_a_hundred_labels_in_a_row_are_one_line_of_the_history_which_opens_into_them(home: Path, small: Dataset) -> None:
    for number, image_id in enumerate(i.id for i in store.browse(small.id, store.Filter(), 0, 6)):
        seq = store.get_image(small.id, image_id).label_seq
        labels.apply(small.id, {image_id: seq}, "red", "Ann", f"click-{number}")
    app = opened("dataset", dataset=small.name, view="History")
    assert not app.exception and not app.error, words(app)
    assert [b.label for b in app.button].count("Show") == 2  # Ann's row and the import
    assert "6 labels given" in words(app)
    assert any(e.proto.body.startswith('<div class="strip"><img') for e in elements(app, "html"))
    next(b for b in app.button if b.label == "Show").click().run()
    assert [b.label for b in app.button].count("Take back") == 1 + 6 and words(app).count("1 image → red") == 6
    next(b for b in app.button if b.label == "Take all back").click().run()
    assert "6 images have what they had before." in str([t.value for t in app.toast])


def test_the_import_says_what_becomes_of_the_next_images_and_draws_a_test_split(
    home: Path, squares: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    from core.data import imports, sources

    squares(tmp_path / "in" / "train", 20)
    imports.import_now("given", sources.at(tmp_path / "in"), "tester")
    train = opened("train", dataset="given")
    assert "about one in seven" not in words(train) and "Images added next join training" in words(train)
    next(b for b in train.button if b.label == "Draw a test split").click().run()
    assert train.title[0].value == "Dataset" and "60 training, 0 test images. Validation is drawn for each run." in words(train).replace(
        "\\", ""
    )
    app = opened("dataset", dataset="given", view="Add images")
    next(b for b in app.button if b.label == "Draw a test split now").click().run()
    assert "about 15 in 100 join the test" in words(app) and " 0 test images" not in words(app)
    next(b for b in app.button if b.label == "Keep all later images as training").click().run()
    assert "Images added next join training" in words(app) and not app.exception


def test_a_drawer_tells_facts_and_history_first_and_asks_no_network_until_it_is_opened(
    small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(detail.predict, "received", lambda *a: asked.append(a[0]))
    image = store.browse(small.id, store.Filter(), 0, 1)[0]
    app = AppTest.from_function(_in_a_drawer, args=(small.id, image.id)).run()
    assert not app.exception and not asked
    shown = "\n".join(str(getattr(e, "value", "")) or str(getattr(e, "proto", "")) for e in app.main)
    assert "by hand" not in shown and "import" in shown
    assert [e.label for e in app.expander] == ["What the network receives"]


def _in_a_drawer(dataset_id: int, image_id: str) -> None:
    from core.data import store
    from pages.shared import detail

    current, image = store.get_dataset(dataset_id), store.get_image(dataset_id, image_id)
    detail._facts(current, image)
    detail._timeline(current, image)
    detail._received(current, image)


def test_who_trains_for_the_first_time_reads_one_sentence_and_presses_one_button(
    home: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, object]] = []
    monkeypatch.setattr("core.train.train.start", lambda dataset_id, values, by, preset="": started.append(dict(values)))
    app = opened("train", dataset=small.name)
    assert "learns 3 classes from **" in words(app) and "These are small coloured pictures" in words(app)
    settings_of = next(e for e in app.expander if e.label == "Settings")
    assert not settings_of.proto.expanded and "Start training" in [b.label for b in settings_of.button]
    inside = {*words(settings_of).splitlines(), *(option for radio in settings_of.radio for option in radio.options)}
    assert len(inside) > 10
    outside = {*words(app).splitlines(), *(option for radio in app.radio for option in radio.options)} - inside
    assert not [line for line in outside if re.search(r"\bnats\b|LOUPE_ROOTS|images/s", line)]
    next(b for b in app.button if b.label == "Train this network").click().run()
    assert started and started[0]["architecture"] == "cnn3"
    app.session_state["settings-False"] = True  # somebody opens them
    app.run()
    assert not app.exception and [b.label for b in app.button if b.label in ("Train this network", "Start training")] == ["Start training"]


def test_a_cloned_runs_form_stands_above_the_run_and_says_whose_settings_it_holds(trained: Trained) -> None:
    app = opened("train", dataset=trained.dataset.name, run=trained.run_id)
    next(b for b in app.button if b.label == "Clone with changes").click().run()
    form = next(e for e in app.expander if e.label == "Train another network")
    assert form.proto.expanded and "The form holds the settings of" in form.caption[0].value
    labels_of = [b.label for b in app.button]
    assert labels_of.index("Start training") < labels_of.index("Clone with changes")
    assert not app.toast


def test_the_first_screen_of_a_dataset_belongs_to_its_pictures(small: Dataset) -> None:
    app = opened("dataset", dataset=small.name)
    assert not next(e for e in app.expander if e.label == "Class balance").proto.expanded
    assert not app.get("plotly_chart") and app.get("bidi_component")


def test_a_run_is_followed_by_its_accuracy_where_only_two_columns_have_room(trained: Trained) -> None:
    app = opened("train", dataset=trained.dataset.name)
    assert list(app.dataframe[0].value.columns)[:2] == ["run", "right"]
