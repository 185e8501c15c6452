"""The figures of people, network and audit, from decisions as the queue stores them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import roles
from core.__main__ import main
from core.data import decisions, images, queue, schema, uploads
from core.data.policies import Policy
from core.data.queue import Submission
from core.errors import Forbidden
from core.review import audit, bands, known, measures, policy, predict, report, review, statements
from core.runs import runs
from core.settings import settings
from core.types import Dataset, Prediction
from pages.parts.review import figures, practice, slipped
from tests import reviewing
from tests.pages.app import opened, words

RUN = "20260101-000000-cafe"
CLASSES = ("blue", "green", "red")
SALT = "a salt for tests"


@pytest.fixture
def predicted(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Prediction]:
    """The answer of a run that is not there to a picture of that number, which is not read either."""
    (settings().runs / RUN).mkdir(parents=True)
    run = type(
        "Run", (), {"classes": CLASSES, "dataset_id": small.id, "dataset_name": small.name, "name": RUN, "created_at": "2026-01-01"}
    )()
    monkeypatch.setattr(runs, "load", lambda _folder: run)
    monkeypatch.setattr(uploads, "find", lambda upload_id, name="": uploads.Upload(upload_id, name, Path(f"{upload_id}.png")))
    monkeypatch.setattr(review, "there", lambda *_: {})

    def make(number: int, *probabilities: float) -> Prediction:
        return Prediction(f"{number}.png", f"{number:016x}", CLASSES, probabilities)

    return make


def ruled(small: Dataset, **said: object) -> Policy:
    """Passes below 0.2 of red, blocks from 0.8 on; without draws unless they are given."""
    draws = {"blind": 0.0, "second": 0.0, "known": 0.0, "benign": 0, "salt": SALT, **said}
    made = policy.write(small.id, RUN, "Strict", policy.Rules({"red": bands.Limits(0.2, 0.8)}, **draws))  # type: ignore[arg-type]
    policy.activate(made.id)
    return made


def say(one: Submission, label: str | None, by: str, **more: object) -> None:
    verdict: queue.Verdict = "rejected" if label is None else "corrected"
    review.decide(one.id, verdict, label, by, **more)  # type: ignore[arg-type]


def knowns(small: Dataset, n: int) -> list[Submission]:
    row = {
        "dataset_id": small.id,
        "run_id": RUN,
        "ext": "png",
        "by": "Lea",
        "predicted": "blue",
        "probability": 0.5,
        "probabilities": {"blue": 0.5},
    }
    rows = [row | {"image_id": f"{i:016x}", "name": f"{i}.png", "state": "known", "known": CLASSES[i % 3]} for i in range(n)]
    queue.add(rows)
    return queue.browse(small.id, queue.Which(("known",)), "name", limit=n)


def test_wrong_decisions_planted_at_a_known_rate_lie_within_each_persons_interval(
    small: Dataset, predicted: Callable[..., Prediction]
) -> None:
    draw, planted, rows = np.random.default_rng(3), {"Ann": 0.1, "Ben": 0.3}, []
    for one in knowns(small, 90):
        for person, rate in planted.items():
            said = CLASSES[(CLASSES.index(one.known or "") + int(draw.random() < rate)) % 3]
            act = {"stage": "known", "verdict": "corrected", "label": said, "by": person, "hint": False, "seconds": 4.0, "at": one.at}
            rows.append(act | {"dataset_id": small.id, "submission_id": one.id, "predicted": one.predicted, "run_id": RUN})
    with schema.writing() as c:  # as queue.decide writes them, and 180 at once
        c.execute(schema.decisions.insert(), rows)
    team = measures.team(small.id)
    assert [one.who for one in team.people] == ["Ann", "Ben"]
    for each in team.people:
        assert each.known.n == 90 and each.known.interval is not None and each.pace is not None and each.pace.median == 4
        assert each.known.interval.low <= 1 - planted[each.who] <= each.known.interval.high
        assert each.confusion.counts.sum() == 90 and int(each.confusion.counts.trace()) == each.known.k
    assert team.people[0].known.interval.low > team.people[1].known.interval.high  # type: ignore[union-attr]
    assert (team.network.known.k, team.network.known.n) == (30, 90), "it said blue of all"


def test_ones_own_decision_alone_is_no_truth_and_what_somebody_else_said_too_is(
    small: Dataset, predicted: Callable[..., Prediction]
) -> None:
    ruled(small, second=1.0)
    for i in range(4):
        assert review.submit(small.id, RUN, predicted(i, 0.4, 0.3, 0.3), "Cem")
    alone, agreed, differed, none = sorted(reviewing.waiting(small.id), key=lambda one: one.name)
    for one in (alone, agreed, differed):
        say(one, "green", "Ann")
    say(none, None, "Ann")
    say(agreed, "green", "Ben", hint=False)
    say(differed, "red", "Ben", hint=False)
    say(none, None, "Ben", hint=False)
    say(queue.get(differed.id), "red", "Lea")
    say(alone, "green", roles.UNNAMED, hint=False)  # it may have been Ann herself
    found = measures.team(small.id)
    ann, ben, lea = found.people
    assert found.nameless == 1
    assert measures.agreements(small.id) == {one.who: one.agreement.raw for one in found.people}
    assert measures.yours(small.id, "Ann").judged == ann.judged
    assert {one.submission_id: one.right for one in ann.judged} == {agreed.id: True, differed.id: False, none.id: True}
    assert {one.submission_id: one.right for one in ben.judged} == {agreed.id: True, differed.id: True, none.id: True}
    assert [one.right for one in lea.judged] == [True] and measures.NONE in ann.confusion.classes
    assert (ann.agreement.n, ann.agreement.raw.value) == (3, pytest.approx(2 / 3)) and set(ann.twice) == {agreed.id, differed.id, none.id}
    assert lea.agreement.n == 0 and lea.agreement.raw.value is None


def test_what_a_nameless_person_decided_first_tells_nothing_of_the_network_and_is_told(
    small: Dataset, predicted: Callable[..., Prediction]
) -> None:
    ruled(small, second=1.0)
    for i in range(2):
        assert review.submit(small.id, RUN, predicted(i, 0.4, 0.3, 0.3), "Cem")
    shown, hidden = reviewing.waiting(small.id)
    say(shown, "green", roles.UNNAMED)
    assert "1 decision was made by people who gave no name" in words(drawn("figures", "team"))
    say(hidden, "green", "Ben", hint=False)
    for one in (shown, hidden):
        say(one, "green", "Ann", hint=False)
    assert measures.team(small.id).network.blind.n == 1


def test_wrong_answers_of_the_network_are_counted_as_its_hint_was_drawn(small: Dataset, predicted: Callable[..., Prediction]) -> None:
    acting = ruled(small, second=1.0, blind=0.5)
    for i in range(40):
        review.submit(small.id, RUN, predicted(i, 0.4, 0.3, 0.3), "Cem")
    for one in reviewing.waiting(small.id):
        blind = "blind" in policy.arms_of(acting, policy.rules(acting), one.image_id)
        if one.name == "0.png":  # who hides the answer though it was to be seen, or sees it though it was hidden, counts in neither
            say(one, "blue", "Ann", hint=blind)
        else:
            say(one, "green" if blind else "blue", "Ann", hint=not blind)  # always swayed, where the answer is seen
        say(one, "green", "Ben", hint=False)
        if queue.get(one.id).state == "lead":
            say(one, "green", "Lea")
    ann = measures.yours(small.id, "Ann")
    assert ann.hint.shown.k == ann.hint.shown.n > 5 and ann.hint.blind.k == 0 < ann.hint.blind.n
    assert ann.hint.shown.n + ann.hint.blind.n == 39 and ann.hint.difference is not None and ann.hint.difference.low > 0.5
    assert len(measures.swayed(ann.judged, "shown")) == ann.hint.shown.k and not measures.swayed(ann.judged, "blind")
    everybody = measures.team(small.id).everybody
    assert everybody.hint.shown.n == sum(one.hint.shown.n for one in measures.team(small.id).people)
    app = drawn("figures", "team")
    app.selectbox(key="team-who").select("Ann").run()
    assert not app.exception and "the hint misleads" in words(app)
    shown, hidden = figures.swayed(ann)
    assert (len(shown[2]), hidden[2]) == (ann.hint.shown.k, ()) and shown[1].startswith(f"{ann.hint.shown.k} of")
    same, alpha, ac1, blue, green = figures.agreeing(ann)
    assert len(same[2]) == len(alpha[2]) == len(ac1[2]) == ann.agreement.n == 40 and alpha[0] == "Krippendorff's α"
    assert (blue[0], len(blue[2]), len(green[2])) == ("Where one says blue", ann.agreement.by_class["blue"].n, 40)


def test_what_became_of_escalations_and_appeals_is_seen_by_who_made_them_and_by_a_lead(
    small: Dataset, predicted: Callable[..., Prediction]
) -> None:
    for i in range(3):
        review.submit(small.id, RUN, predicted(i, 0.4, 0.3, 0.3), "Cem")
    asked, kept, overturned = sorted(reviewing.waiting(small.id), key=lambda one: one.name)
    review.decide(asked.id, "escalated", None, "Ann", note="Art?")
    queue.decide(kept.id, queue.Act("Ann", "corrected", "red"), None)
    queue.decide(overturned.id, queue.Act("Ann", "corrected", "red"), None)
    for one, said in ((kept, "red"), (overturned, "green")):
        review.appeal(one.id, "Lea", "Look again.")
        assert [o.final for o in measures.yours(small.id, "Ann").appealed if o.submission_id == one.id] == [None]
        queue.decide(one.id, queue.Act("Ben", "corrected", said), None)
    mine = measures.yours(small.id, "Ann")
    assert [(o.note, o.final) for o in mine.escalated] == [("Art?", None)]
    assert {o.submission_id: o.upheld for o in mine.appealed} == {kept.id: True, overturned.id: False}
    with roles.acting(roles.Person("Ann", "moderator")):
        assert measures.yours(small.id, "Ann").decided == mine.decided
        with pytest.raises(Forbidden, match="Ann may not"):
            measures.yours(small.id, "Ben")
        with pytest.raises(Forbidden):
            measures.team(small.id)


def test_practice_is_offered_to_newcomers_tells_the_answer_ends_and_measures_nobody(
    small: Dataset, predicted: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    knowns(small, 24)
    seen = set[int]()
    while one := known.practice(small.id, "New"):
        seen.add(one.id)
        right, answer = known.practise(one.id, "red", "New")
        assert answer == queue.get(one.id).known and right == (answer == "red")
    assert len(seen) == known.WARM_UP and measures.yours(small.id, "New").known.n == 0
    assert known.practice(small.id, "Newer") is not None
    assert [known.is_new(small.id, one) for one in ("New", "Newer")] == [False, True]
    monkeypatch.setattr(practice.frame, "user", lambda: "Newer")
    app = opened("review", dataset="squares")
    assert "New here? Practise first" in words(app)
    app.button(key="practice-go").click().run()
    assert not app.exception and any("Practice: 0 of 20" in str(one.proto) for one in app.get("progress"))
    monkeypatch.setattr(practice.frame, "user", lambda: "New")
    assert "New here?" not in words(opened("review", dataset="squares"))


def test_what_two_people_or_a_lead_decided_can_be_asked_again_once(small: Dataset, predicted: Callable[..., Prediction]) -> None:
    ruled(small, second=1.0)
    for i in range(2):
        review.submit(small.id, RUN, predicted(i, 0.4, 0.3, 0.3), "Cem")
    first, second = sorted(reviewing.waiting(small.id), key=lambda one: one.name)
    say(first, None, "Ann")
    assert known.adjudicated(small.id, 9) == []
    say(first, None, "Ben", hint=False)
    say(second, "red", "Ann")
    (found,) = known.adjudicated(small.id, 9)
    assert found.id == first.id and known.mix_in_decided([found], "Lea") == 1 and known.adjudicated(small.id, 9) == []
    (asked,) = queue.browse(small.id, queue.Which(("known",)))
    assert asked.name == asked.image_id[:8]  # its own name would be known again
    assert asked.known == measures.NONE and queue.get(first.id).state == "decided" and known.there(small.id) == 1


# The whole flow


def test_three_hundred_items_pass_wait_are_audited_reported_and_stated(
    small: Dataset, predicted: Callable[..., Prediction], tmp_path: Path
) -> None:
    ruled(small, audit=0.3, blind=0.2, reasons={"red": ("Shows a weapon",)})
    draw = np.random.default_rng(5)
    red = draw.beta(0.4, 1.6, 300)
    truth = {f"{i:016x}": "red" if draw.random() < p else "blue" for i, p in enumerate(red)}
    review.keep(small.id, RUN, [predicted(i, *(1 - p) * np.array([0.7, 0.3]), p) for i, p in enumerate(red)], "Cem", "folder")
    sorted_ = queue.counts(small.id)
    for one in queue.browse(small.id, queue.Which(queue.OURS), limit=300):
        say(one, truth[one.image_id], "Ann", hint=not review.is_blind(one), reason="Shows a weapon", note="Ann's own note")
    end = datetime.now(UTC) + timedelta(seconds=5)
    *before, week = audit.weeks(small.id, end)
    assert len(before) == 7 and all(one.any is None and one.passed == 0 for one in before)
    passed = [one for one in queue.browse(small.id, queue.Which(), limit=300) if one.band == "pass"]
    wrong = sum(truth[one.image_id] == "red" for one in passed) / len(passed)
    assert week.passed == len(passed) and week.any is not None and week.any.low <= wrong <= week.any.high
    assert week.asked == sorted_["waiting"] and week.waiting == 0 and 0 < len(week.looked) < len(passed)
    assert all(len(s.name) and s.sampled >= audit.LEAST for s in week.any.strata) and sum(s.size for s in week.any.strata) == len(passed)
    (of_red,) = week.by_class
    assert of_red.name == "red" and of_red.recall is not None and len(week.found) == len(of_red.found) == week.any.found
    caught = sum(one.band != "pass" and truth[one.image_id] == "red" for one in queue.browse(small.id, queue.Which(), limit=300))
    assert of_red.recall.low <= caught / sum(said == "red" for said in truth.values()) <= of_red.recall.high

    (caught_by_week,) = slipped.over_time([*before, week], "Caught: red", "red", caught=True).data
    assert list(caught_by_week.y) == [of_red.recall.value] and of_red.slipped is not None
    (passed_by_week,) = slipped.over_time([*before, week], name="red").data
    assert list(passed_by_week.y) == [of_red.slipped.value]

    found = report.report(small.id, "day", end)
    page = report.page(found)
    assert found.bands == {"pass": week.passed, "ask": week.asked, "block": week.blocked} and sum(found.verdicts.values()) == len(
        decisions.made(small.id)
    )
    assert "Ann" not in page and "http" not in page and f"{sum(found.verdicts.values())} decisions by 1 person" in page
    assert report.DRIFT_UNKNOWN in page and report.as_json(found)["drift"] is None

    rows = statements.statements(small.id)
    assert len(rows) == sum(found.verdicts.values()) + week.blocked and {tuple(row) for row in rows} == {statements.FIELDS}
    text = statements.as_csv(rows) + statements.as_jsonl(rows)
    assert not any(word in text for word in ("Ann", "Cem", ".png", "own note")) and len({row["puid"] for row in rows}) == len(rows)
    by_how = {
        how: [row for row in rows if row["automated_decision"] == f"AUTOMATED_DECISION_{how}"]
        for how in ("FULLY", "PARTIALLY", "NOT_AUTOMATED")
    }
    assert len(by_how["FULLY"]) == week.blocked and by_how["PARTIALLY"] and by_how["NOT_AUTOMATED"]
    restricted = [row for row in rows if row["decision_visibility"]]
    assert {row["incompatible_content_explanation"] for row in restricted} == {"Shows a weapon"}
    assert all("red" in row["incompatible_content_ground"] for row in restricted) and 0 < len(restricted) < len(rows)
    assert [json.loads(line) for line in statements.as_jsonl(rows).splitlines()] == list(rows)


def test_what_was_overturned_has_a_statement_of_either_decision(small: Dataset, predicted: Callable[..., Prediction]) -> None:
    acting = ruled(small)
    review.submit(small.id, RUN, predicted(1, 0.3, 0.3, 0.4), "Cem")
    (one,) = reviewing.waiting(small.id)
    say(one, "red", "Ann")
    review.appeal(one.id, "Lea", "A toy.")
    assert len(statements.statements(small.id)) == 1
    say(one, "blue", "Ben", hint=False)
    first, second = statements.statements(small.id, category="C", territory="AT")
    assert first["decision_visibility"] and not second["decision_visibility"] and first["territorial_scope"] == "AT"
    assert policy.rules(acting).limits.keys() == {"red"} and statements.statements(small.id, since="2999") == []


def test_none_found_is_an_upper_bound_and_a_week_without_audit_is_not_known(small: Dataset, predicted: Callable[..., Prediction]) -> None:
    ruled(small, audit=0.5)
    review.keep(small.id, RUN, [predicted(i, 0.9, 0.05, 0.05) for i in range(60)], "Cem", "zip")
    end = datetime.now(UTC) + timedelta(seconds=5)
    blank = audit.weeks(small.id, end, 1)[0]
    assert (
        blank.any is not None and blank.any.value is None and blank.waiting > 0 and "not known: none of the 60" in report.missed(blank.any)
    )
    for one in queue.browse(small.id, queue.Which(("audit",)), limit=60):
        say(one, "blue", "Ann")
    week = audit.weeks(small.id, end, 1)[0]
    assert week.any is not None and week.any.value == 0 and 0 < week.any.high < 0.15 and report.missed(week.any).startswith("at most ")
    with schema.writing() as c:
        c.execute(schema.submissions.update().values(at="2026-01-01T00:00:00.000+00:00"))
    assert audit.weeks(small.id, datetime(2026, 1, 2, tzinfo=UTC), 1)[0].passed == 60


# The command line


def test_the_verbs_of_the_queue_decide_audit_report_and_state(
    small: Dataset, predicted: Callable[..., Prediction], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ruled(small, audit=1.0)

    def core(*args: object, code: int = 0) -> Any:
        assert main([str(one) for one in args]) == code
        out, err = capfd.readouterr()
        return json.loads(out) if not code else err

    folder = tmp_path / "in"
    folder.mkdir()
    for i, colour in enumerate((10, 120, 240)):
        (folder / f"{i}.png").write_bytes(images.png(np.full((8, 8, 3), colour, np.uint8)))
    (folder / "notes.txt").write_text("no picture")
    answers = [(0.9, 0.05, 0.05), (0.4, 0.2, 0.4), (0.05, 0.05, 0.9)]

    def judged(_run: str, names: list[str], files: list[Path]) -> list[Prediction]:
        return [Prediction(name, file.stem, CLASSES, answers[int(name[0])]) for file, name in zip(files, names, strict=True)]

    monkeypatch.setattr(predict, "ask", lambda _run, files: files)
    monkeypatch.setattr(predict, "answers", judged)
    sent = core("submit", RUN, folder)
    assert sent == {"run": RUN, "files": 3, "states": {"audit": 2, "waiting": 1}, "failed": []}
    (tmp_path / "empty").mkdir()
    assert "There is no picture" in core("submit", RUN, tmp_path / "empty", code=2)

    listed = core("queue", "squares", "--state", "waiting")
    assert listed["waiting"] == 3 and [one["name"] for one in listed["items"]] == ["1.png"]
    item = listed["items"][0]["id"]
    assert core("decide", item, "--label", "red")["state"] == "decided"
    assert "decided already" in core("decide", item, "--none", code=1)
    assert core("decide", item, "--undo") == {"item": item, "state": "waiting"}
    assert core("decide", item, "--escalate", "Art?")["state"] == "lead"

    sample = core("audit-sample", "squares")
    assert (sample["passed"], sample["blocked"], sample["asked"], sample["audited"]) == (1, 1, 1, 0) and len(sample["to_audit"]) == 2
    for one in sample["to_audit"]:
        core("decide", one["id"], "--label", "red")
    sample = core("audit-sample", "squares")
    assert len(sample["found"]) == 1 and sample["to_audit"] == []
    assert sample["wrongly_passed"]["value"] == 1 and sample["wrongly_blocked"] == {"k": 0, "n": 1}

    told = core("review-report", "squares", "day", "--out", tmp_path / "day.html")
    assert told["escalated"] == 1 and told["by_class"] == {"red": 2} and "Review of squares" in (tmp_path / "day.html").read_text()
    stated = core("statements", "squares", "--out", tmp_path / "s.jsonl")
    assert (stated["statements"], stated["restrictions"]) == (3, 3) and len((tmp_path / "s.jsonl").read_text().splitlines()) == 3
    assert "ends in neither" in core("statements", "squares", "--out", tmp_path / "s.txt", code=2)
    assert "is not a day" in core("statements", "squares", "--since", "May", "--out", tmp_path / "s.csv", code=2)


# The views


def drawn(view: str, figures: str = "", user: str = "Lea") -> AppTest:
    def script(view: str, name: str) -> None:
        from core.data import store
        from pages.parts.review import basket, figures

        current = store.find_dataset(name)
        assert current is not None
        (basket if view == "basket" else figures).show(current)

    app = AppTest.from_function(script, default_timeout=60, kwargs={"view": view, "name": "squares"})
    app.session_state["user"] = user
    if figures:
        app.query_params["figures"] = figures
    app.run()
    assert not app.exception and not app.error, words(app)
    return app


def test_a_lead_sees_all_views_empty_and_full_and_others_their_own_alone(
    small: Dataset, predicted: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    for view in ("yours", "team", "slipped", "known"):
        drawn("figures", view)
    assert "The basket is empty" in words(drawn("basket"))
    ruled(small, audit=0.5)
    review.keep(small.id, RUN, [predicted(i, 0.5, 0.49 - i / 30, i / 30) for i in range(15)], "Cem", "zip")
    for one in queue.browse(small.id, queue.Which(queue.OURS), limit=20):
        say(one, "blue", "Lea", seconds=2.0)
    waits = queue.count(small.id, queue.Which(basket="waiting"))
    assert "Right on known answers" in words(drawn("figures", "yours"))
    assert "Nobody has decided" not in words(drawn("figures", "team"))
    app = drawn("figures", "slipped")
    assert "people were asked about" in words(app)
    app.selectbox(key="slipped-of").select("Caught: red").run()
    assert not app.exception
    assert waits and f"Accept all {waits:,}" in words(drawn("basket"))
    monkeypatch.setattr(roles, "current", lambda fresh=False: roles.Person("Ann", "moderator"))
    assert "Accept" not in words(drawn("basket", user="Ann"))
    assert "You have decided nothing" in words(drawn("figures", "team", "Ann")), "one's own, whatever the address asks for"
