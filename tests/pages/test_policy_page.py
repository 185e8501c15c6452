"""The view Policy of the page Review: figures follow thresholds, promises, versions that are made active, and clear words where data lack."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core.data import policies, queue
from core.review import policy, shadow, validation
from core.review.bands import Limits
from core.runs import runs
from core.settings import settings
from core.types import Dataset
from pages.parts.review import policy_draft
from tests.evaluate.made import run_of
from tests.pages.app import elements, opened, words

CLASSES = ("approved", "not suitable", "risked")
Judged = tuple[Dataset, str]


@pytest.fixture
def judged(home: object) -> Judged:
    """900 validation images, 6% of them risked, with a finished run's answers."""
    rng = np.random.default_rng(3)
    truth = rng.choice(3, 900, p=[0.72, 0.22, 0.06])
    shares = 0.4 * rng.dirichlet(np.ones(3), 900) + 0.6 * np.eye(3)[np.where(rng.random(900) < 0.9, truth, 0)]
    made, run_id = run_of(CLASSES, truth, shares)
    runs.checkpoint(runs.folder(run_id)).write_bytes(b"weights that nobody asks")
    return made, run_id


def views(app: AppTest) -> list[str]:
    """The parts of the policy, as they stand side by side."""
    rows = [[option.content for option in e.proto.options] for e in elements(app, "button_group")]  # type: ignore[attr-defined]
    return next(row for row in rows if "Shadow" in row)


def page(judged: Judged, view: str = "write") -> AppTest:
    app = opened("review", dataset=judged[0].name, view="policy", policy=view)
    assert not app.exception, words(app)
    return app


def said(app: AppTest) -> str:
    tables = "\n".join(str(e.proto.body) for e in elements(app, "html"))
    return (words(app) + tables).replace("\\", "").replace("\u00a0", " ")


def press(app: AppTest, label: str) -> AppTest:
    next(b for b in app.button if b.label == label and not b.disabled).click().run()
    assert not app.exception, words(app)
    return app


def test_a_threshold_of_evaluate_lets_a_person_be_asked_until_somebody_says_block(judged: Judged) -> None:
    app = page(judged)
    app.session_state[policy_draft.GIVEN] = (judged[1], "risked", 0.3)
    app.run()
    blocks = next(e for e in app.toggle if "without a person" in e.label)
    assert app.multiselect[0].value == ["risked"] and app.slider[0].value == 0.3 and not blocks.value
    blocks.set_value(True).run()
    app.session_state[policy_draft.GIVEN] = (judged[1], "risked", 0.4)
    app.run()
    assert app.slider[0].value == (0.4, 0.9), "what the draft says already stays"


def test_thresholds_show_at_once_what_they_do_and_become_a_version_that_is_made_active(judged: Judged) -> None:
    dataset, run_id = judged
    app = page(judged)
    assert "Choose the classes that are to be blocked" in said(app) and not app.slider
    app.multiselect[0].set_value(["risked"]).run()
    held = validation.of(run_id)
    n = held.count("risked")
    assert f"risked is rare: {n} of 900 validation images" in said(app) and "accuracy is the wrong measure" in said(app)
    before, side_by_side = said(app), views(app)
    app.slider[0].set_value((0.2, 0.7)).run()
    passes = int((held.probabilities[:, 2] < 0.2).sum())
    assert f"passes without a person</th><td>{passes} of 900" in said(app) != before and f"of {n}, " in said(app)
    assert "a guess: nobody has decided here yet" in " ".join(e.label for e in app.number_input)
    press(app, "Save as a version")
    assert "A policy needs a name" in said(app) and policies.of(dataset.id) == []
    next(e for e in app.text_input if e.label == "Name of the version").set_value("Strict").run()
    press(app, "Save as a version")
    (made,) = policies.of(dataset.id)
    assert views(app) == side_by_side
    assert policy.rules(made).limits == {"risked": Limits(0.2, 0.7)} and policy.active(dataset.id) is None
    app = press(page(judged, "versions"), "Make active")
    assert policy.active(dataset.id) is None and "From now on every picture that the run Linear 1 predicts is sorted by" in said(
        app
    ).replace("*", "")
    press(app, "Make it active")
    assert policy.active(dataset.id) == made


def test_a_promise_sets_the_lower_threshold_or_says_how_many_images_it_takes(judged: Judged) -> None:
    app = page(judged)
    app.multiselect[0].set_value(["not suitable"]).run()
    press(app, "Set the lower threshold")
    lower = app.slider[0].value[0]
    assert 0 < lower != 0.1 and "At most 5% of not suitable pass below" in said(app) and "which had no say" in said(app)
    app.slider[0].set_value((lower + 0.05, 0.9)).run()
    assert "the promise does not hold any more" in said(app)
    next(e for e in app.number_input if e.label.startswith("At most")).set_value(0.2).run()
    press(app, "Set the lower threshold")
    assert "too few to promise that at most 0.2% pass" in said(app) and "at least 499" in said(app)


def test_few_images_and_none_get_words_in_place_of_shares(judged: Judged) -> None:
    run_id = judged[1]
    path = runs.predictions_path(runs.folder(run_id))
    rows = list(runs.read_predictions(runs.folder(run_id)))
    few = [r for r in rows if r.true != "risked"][:40] + [r for r in rows if r.true == "risked"][:12]
    runs.write_predictions(runs.folder(run_id), CLASSES, few)
    app = page(judged)
    app.multiselect[0].set_value(["risked"]).run()
    assert "12 validation images are risked: fewer than 30" in said(app) and re.search(r"of 12 \([0-9]+% to [0-9]+%\)", said(app))
    assert not app.toggle[0].value  # nobody is blocked by what twelve images say, unless somebody asks for it
    app.toggle[0].set_value(True).run()
    next(e for e in app.text_input if e.label == "Name of the version").set_value("Early").run()
    press(app, "Save as a version")
    app = press(page(judged, "versions"), "Make active")
    assert "**risked** is blocked without a person from 0.900 on, measured on 12 validation images of it." in said(app)
    press(app, "Cancel")
    assert policy.active(judged[0].id) is None and "Make it active" not in said(app)
    runs.write_predictions(runs.folder(run_id), CLASSES, [])
    assert "no predictions of validation images" in said(page(judged))
    path.unlink()
    assert "before its predictions were written" in said(page(judged))


def test_the_shadow_says_how_much_its_run_has_answered_and_asks_it_about_the_rest(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    one = policy.write(judged[0].id, judged[1], "Strict", policy.Rules({"risked": Limits(0.1, 0.8)}))
    policy.activate(one.id, "shadow")
    said_of = {"predicted": "risked", "probability": 0.9, "probabilities": {"risked": 0.9}, "state": "predicted"}
    row = {"dataset_id": judged[0].id, "image_id": "0" * 16, "ext": "png", "name": "a.png", "by": "Ann", **said_of}
    queue.add([{**row, "run_id": "another"}])
    asked: list[str] = []
    monkeypatch.setattr(shadow, "ask_rest", lambda found, by: asked.append(by))
    app = page(judged, "shadow")
    assert "has answered **0 of the 1** pictures that came since" in said(app)
    press(app, "Ask it about the other 1")
    assert len(asked) == 1


def test_a_deleted_run_is_said_in_versions_and_shadow_and_only_off_is_left(judged: Judged) -> None:
    one = policy.write(judged[0].id, judged[1], "Strict", policy.Rules({"risked": Limits(0.1, 0.8)}))
    policy.activate(one.id, "shadow")
    assert "No picture has come since" in said(page(judged, "shadow"))
    shutil.rmtree(settings().runs / judged[1])
    app = page(judged, "versions")
    assert "Its run was deleted" in said(app) and [b.label for b in app.button if b.label == "Make active" and not b.disabled] == []
    assert "there is nothing to compare" in said(page(judged, "shadow"))
    press(press(app, "Turn off"), "Turn it off")
    assert policy.shadow(judged[0].id) is None
