"""Everything that was predicted, in one place: found again, told apart, and taken out as a table."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from core import roles
from core.data import audit, classes, queue, removal, schema, sources, uploads
from core.review import batch, policy, predict, review, taken
from core.review.bands import Limits
from core.runs import jobs
from core.settings import settings
from core.types import Prediction
from pages.parts.predict import answers
from pages.shared import frame
from tests.held_out import pictures
from tests.pages.app import elements, opened, words

if TYPE_CHECKING:
    from tests.conftest import Trained


def kept(trained: Trained, states: dict[str, int] | None = None) -> list[Prediction]:
    """Three pictures that were asked about; one of them has the name of a formula."""
    files = list(pictures(trained).values())[:3]
    made = [uploads.keep(name, file.read_bytes()) for name, file in zip(("=cmd.png", "two.png", "three.png"), files, strict=True)]
    found = predict.predict(trained.run_id, [one.path for one in made], [one.name for one in made])
    told = [one for one in found if isinstance(one, Prediction)]
    assert review.keep(trained.dataset.id, trained.run_id, told, "Ann", "upload") == (states or {"predicted": 3})
    return told


def test_what_was_asked_now_is_there_after_a_reload_and_a_zip_is_asked_about_in_the_background(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[object, ...]] = []
    monkeypatch.setattr(batch, "start", lambda *given: started.append(given))
    file = next(iter(pictures(trained_copy).values()))
    app = opened("predict", dataset=trained_copy.dataset.name)
    app.file_uploader[0].upload("mine.png", file.read_bytes()).upload("many.zip", b"PK").upload("bad.png", b"no image").upload(
        "bad.pdf", b"%PDF"
    ).run()
    assert not app.exception and "asked about in the background" in app.toast[0].value
    ((dataset_id, run_ids, source, _, how),) = started
    assert [one.proto.label for one in elements(app, "download_button")] == ["CSV"]
    assert (dataset_id, run_ids, how) == (trained_copy.dataset.id, [trained_copy.run_id], "zip") and source.shown() == "many.zip"  # type: ignore[attr-defined]
    said = words(app)
    assert "bad.pdf is not an image that Loupe reads." in said.replace("\\", "")
    assert said.index("This is not an image") < said.index("Send all 1 to review")  # above the answers, however many there are
    unsure = next(b for b in app.button if "unsure to review" in b.label)
    assert unsure.help == "Unsure: the likeliest class has less than 80%."
    app.button(key="send-all").click().run()
    assert "1 sent to review." in words(app) and app.button(key="send-all").disabled
    assert app.button(key="to-review").click().run().title[0].value == "Review"
    app = opened("predict", dataset=trained_copy.dataset.name, view="all")
    shown = next(str(e.proto.body) for e in elements(app, "html") if 'class="answers"' in str(e.proto.body))
    assert shown.count("<strong") == 1 and "mine.png" in shown


def test_a_folder_is_asked_about_after_reviews_grid_was_open(trained_copy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[object, ...]] = []
    monkeypatch.setattr(batch, "start", lambda *given: started.append(given))
    (settings().roots[0] / "camera").mkdir(parents=True)
    app = opened("review", dataset=trained_copy.dataset.name, view="grid")
    assert app.session_state["many"] == "12"  # the size of the grid
    app.query_params["view"] = "many"
    app.switch_page("predict.py").run()
    app.selectbox(key="many-folder").set_value(next(iter(app.selectbox(key="many-folder").options))).run()
    app.button(key="many-start-server").click().run()
    assert not app.exception and not app.error and len(started) == 1, words(app)


def jpeg(file: Path) -> bytes:
    made = io.BytesIO()
    Image.open(file).convert("RGB").save(made, "JPEG")
    return made.getvalue()


def test_what_the_camera_took_is_answered_with_its_band_and_kept_as_taken(trained_copy: Trained) -> None:
    file, other = list(pictures(trained_copy).values())[:2]
    blocks = policy.Rules({trained_copy.dataset.classes[0]: Limits(0.0, 0.0)}, blind=0.0, second=0.0)
    policy.activate(policy.write(trained_copy.dataset.id, trained_copy.run_id, "Strict", blocks).id)
    app = opened("predict", dataset=trained_copy.dataset.name)
    app.file_uploader[0].upload("mine.png", other.read_bytes())
    app.camera_input[0].set_value(("taken.jpg", jpeg(file), "image/jpeg")).run()
    assert not app.exception and words(app).count(":gray-badge[:material/gavel: blocked]") == 2
    kept_so = {one.source: (one.name, one.band) for one in queue.browse(trained_copy.dataset.id, queue.Which())}
    assert kept_so == {"camera": ("taken.jpg", "block"), "upload": ("mine.png", "block")}


def test_answers_come_by_themselves_while_a_batch_goes_on_and_do_not_tell_what_measures_people(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = trained_copy.dataset
    passes = policy.Rules({dataset.classes[0]: Limits(1.0, None)}, blind=0.0, second=0.0, audit=1.0)
    policy.activate(policy.write(dataset.id, trained_copy.run_id, "Mild", passes).id)
    kept(trained_copy, {"audit": 3})
    monkeypatch.setattr(batch, "asking", lambda _: True)
    for role in ("moderator", "trainer"):
        monkeypatch.setattr(frame, "who", lambda fresh=False, role=role: roles.Person("Ann", role))
        app = opened("predict", dataset=dataset.name, view="all")
        shown = next(str(e.proto.body) for e in elements(app, "html") if 'class="answers"' in str(e.proto.body))
        assert "their answers come here by themselves" in words(app) and "waits for a person" in shown


def test_all_answers_are_found_by_name_and_sent_to_review_from_their_page(trained_copy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    told = kept(trained_copy)
    app = opened("predict", dataset=trained_copy.dataset.name, view="all")
    shown = next(str(e.proto.body) for e in elements(app, "html") if 'class="answers"' in str(e.proto.body))
    assert not app.exception and shown.count("<strong") == 3 and all(one.file in shown for one in told)
    app = opened("predict", dataset=trained_copy.dataset.name, view="all", q="TWO")
    shown = next(str(e.proto.body) for e in elements(app, "html") if 'class="answers"' in str(e.proto.body))
    assert shown.count("<strong") == 1 and "two.png" in shown
    next(b for b in app.button if b.label == "Send 1 of this page to review").click().run()
    assert queue.counts(trained_copy.dataset.id) == {"predicted": 2, "waiting": 1}
    monkeypatch.setattr(answers, "PER_PAGE", 2)  # the other two stand on two pages
    first = trained_copy.dataset.classes[0]
    ruled = policy.Rules({first: Limits(0.5, None)}, blind=0.0, second=0.0)
    policy.activate(policy.write(trained_copy.dataset.id, trained_copy.run_id, "Mild", ruled).id)
    classes.rename(trained_copy.dataset.id, first, "renamed", "Ann")  # its run knows it by the old word
    app = opened("predict", dataset=trained_copy.dataset.name, view="all", sort="oldest")
    next(b for b in app.button if b.label == "Send all 2").click().run()
    assert not app.exception and queue.counts(trained_copy.dataset.id) == {"waiting": 3}
    app = opened("predict", dataset=trained_copy.dataset.name, view="all", q="nothing like it")
    assert "Nothing fits these filters" in words(app)


def test_the_pictures_that_were_seen_are_sent_whatever_came_since_and_one_that_is_gone_is_told(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = kept(trained_copy)[:2]
    gone = queue.browse(trained_copy.dataset.id, queue.Which(text=told[1].file))[0]
    monkeypatch.setattr(answers, "PER_PAGE", 2)
    with schema.writing() as c:
        c.execute(schema.submissions.update().where(schema.submissions.c.name == "three.png").values(at="2026-01-01"))
    app = opened("predict", dataset=trained_copy.dataset.name, view="all")
    with schema.writing() as c:
        c.execute(schema.submissions.update().where(schema.submissions.c.name == "three.png").values(at="2099-01-01"))
    uploads.find(gone.image_id).path.unlink()
    app.button(key="send-page").click().run()
    assert not app.exception and not app.error and "1 sent to review. 1 could not be sent" in app.toast[0].value
    assert [one.name for one in queue.browse(trained_copy.dataset.id, queue.Which(queue.OURS))] == [told[0].file]
    assert review.send(trained_copy.dataset.id + 1, [one.id for one in queue.browse(trained_copy.dataset.id, queue.Which())], "Ann") == (
        0,
        3,
    )


def test_the_tables_hold_every_class_and_no_formula(trained_copy: Trained) -> None:
    told = kept(trained_copy)

    def text(form: taken.Form) -> str:
        return taken.stored(trained_copy.dataset.id, queue.Which(), "name", form, "Ann")

    rows = list(csv.DictReader(io.StringIO(text("csv"))))
    assert [row["file"] for row in rows] == ["'=cmd.png", "three.png", "two.png"]
    lines = [json.loads(line) for line in text("jsonl").splitlines()]
    first = next(one for one in told if one.file == "=cmd.png")
    assert lines[0]["file"] == "=cmd.png" and lines[0]["predicted"] == first.top(1)[0][0]
    assert sum(value for name, value in lines[0].items() if name.startswith("p(")) > 0.999
    now = list(csv.DictReader(io.StringIO(taken.predictions(trained_copy.run_id, told, "Ann"))))
    assert [row["file"] for row in now] == ["'=cmd.png", "two.png", "three.png"] and now[0]["predicted"] == first.top(1)[0][0]
    some = audit.search(audit.Which("Ann", "export.predictions"), 1, 9)[0]
    assert [(one.on, one.after["pictures"]) for one in some] == [
        ({"dataset": trained_copy.dataset.id, "run": trained_copy.run_id}, 3),
        *[({"dataset": trained_copy.dataset.id}, 3)] * 2,
    ]


def test_a_dropped_picture_and_a_rule_of_removal_stand_on_the_page_of_all_answers(trained_copy: Trained) -> None:
    told = kept(trained_copy)
    app = opened("predict", dataset=trained_copy.dataset.name, view="all")
    app.file_uploader[0].upload("again.png", uploads.find(told[1].image_id).path.read_bytes(), "image/png").run()
    shown = next(str(e.proto.body) for e in elements(app, "html") if 'class="answers"' in str(e.proto.body))
    assert not app.exception and "two.png" in shown and "The very same file." in shown and "Compared with 3 pictures" in words(app)

    removal.set_rule(trained_copy.dataset.id, 90, [], False, "Ann")
    app = opened("predict", dataset=trained_copy.dataset.name, view="all")
    next(b for b in app.button if b.label == "Remove old ones (1 rule)").click().run()
    assert not app.exception and "That is **0** at the moment" in words(app)
    assert "Every day all answers older than 90 days**, set by Ann" in words(app) and "It has not run yet" in words(app)
    next(b for b in app.button if b.label == "Switch off").click().run()
    assert removal.rules(trained_copy.dataset.id) == []


@pytest.mark.parametrize("role", ["viewer", "moderator", "trainer"])
def test_who_may_not_ask_is_told_so_and_who_may_not_bring_images_in_is_offered_no_folder(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch, role: roles.Role
) -> None:
    kept(trained_copy)
    monkeypatch.setattr(frame, "who", lambda fresh=False: roles.Person("Ann", role))
    for view, shown in (("ask", "Drop one or many pictures"), ("many", "From your computer"), ("all", "**3** pictures")):
        app = opened("predict", dataset=trained_copy.dataset.name, view=view)
        assert not app.exception and not app.error, words(app)
        assert (shown in words(app)) == (role != "viewer" or view == "all"), view
        assert ("Ann may not ask a network" in words(app)) == (role == "viewer" and view != "all")
        assert ("From a folder on this server" in words(app)) == (role == "trainer" and view == "many")
        assert ("of this page to review" in words(app)) == (role != "viewer" and view == "all")
        files = {one.proto.label for one in elements(app, "download_button")}
        assert files == ({"CSV", "JSONL"} if role == "trainer" and view == "all" else set())
        assert ("Ann may not take" in words(app)) == (role != "trainer" and view == "all")


def test_of_many_pictures_all_are_told_what_became_of_them_and_each_part_leads_to_them(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(trained_copy)
    job = {"source": sources.at(trained_copy.home).as_dict(), "by": "Ann", "at": "2026-01-01T00:00:00+00:00", "runs": [trained_copy.run_id]}
    end = {"states": {"waiting": 29, "blocked": 34, "predicted": 1}, "done": 76, "before": 12}
    monkeypatch.setattr(batch, "recent", lambda _: [batch.Batch(jobs.State("one", batch.PREDICT, "done", job, end), 0)])
    app = opened("predict", dataset=trained_copy.dataset.name, view="many")
    parts = {str(b.key).removeprefix("became-one-"): b.label for b in app.button if str(b.key).startswith("became-one-")}
    assert parts == {"waiting": "29 wait for a person", "blocked": "34 blocked", "predicted": "1 answered"}
    assert "76 pictures:" in words(app) and "12 were answered before" in words(app)
    app.button(key="became-one-predicted").click().run()
    assert not app.exception and "**3** pictures" in words(app) and app.query_params["state"] in ("predicted", ["predicted"])
