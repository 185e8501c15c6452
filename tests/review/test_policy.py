"""What a policy says stays said: versions, activation, renamed and retired classes, deleted runs, draws, the shadow, and the verb."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.data import classes, places, policies, queue, sources, uploads
from core.data.policies import Policy
from core.data.sources import Source
from core.errors import Invalid, NotFound
from core.review import bands, batch, policy, review, shadow, validation
from core.review.bands import Limits
from core.runs import runs
from core.settings import settings
from core.types import Dataset, Prediction
from tests import reviewing
from tests.evaluate.made import run_of

CLASSES = ("approved", "not suitable", "risked")
RULES = policy.Rules({"risked": Limits(0.1, 0.8)}, reasons={"risked": ("weapon", "nudity")})
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def judged(home: object) -> tuple[Dataset, str]:
    """A dataset of 400 validation images, a tenth of them risked, and a run that answered them."""
    rng = np.random.default_rng(3)
    truth = rng.choice(3, 400, p=[0.7, 0.2, 0.1])
    shares = 0.4 * rng.dirichlet(np.ones(3), 400) + 0.6 * np.eye(3)[np.where(rng.random(400) < 0.9, truth, 0)]
    return run_of(CLASSES, truth, shares)


def another_run(run_id: str) -> str:
    """The same run again under another id."""
    twin = settings().runs / "20260101-000000-cafe"
    shutil.copytree(settings().runs / run_id, twin)
    runs.write_json(twin / "config.json", runs.read_json(twin / "config.json") | {"id": twin.name})
    return twin.name


def answer(risked: float, number: int = 0) -> Prediction:
    """A new picture with that probability of risked."""
    kept = uploads.keep(f"new-{number}.png", f"picture {number}".encode())
    return Prediction(kept.name, kept.id, CLASSES, (1 - risked, 0.0, risked))


def made_active(judged: tuple[Dataset, str], said: policy.Rules = RULES, kind: policies.Kind = "active") -> Policy:
    one = policy.write(judged[0].id, judged[1], "Strict", said)
    policy.activate(one.id, kind)
    return one


def kept(judged: tuple[Dataset, str], *answers: Prediction, run_id: str | None = None) -> dict[str, int]:
    return review.keep(judged[0].id, run_id or judged[1], answers, "Ann", "upload")


def test_shares_out_of_range_too_little_audit_and_nothing_to_block_are_refused() -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"blind": 1.2},
        {"second": -0.1},
        {"audit": 0.001},
        {"overdue_hours": 0},
        {"benign": -1},
        {"limits": {}},
    )
    for values in wrong:
        with pytest.raises(Invalid):
            replace(RULES, **values)


def test_a_name_a_class_and_a_run_that_do_not_fit_are_refused_and_nothing_is_stored(judged: tuple[Dataset, str]) -> None:
    dataset, run_id = judged
    with pytest.raises(Invalid, match="needs a name"):
        policy.write(dataset.id, run_id, "  ", RULES)
    with pytest.raises(Invalid, match="no class “horse”"):
        policy.write(dataset.id, run_id, "Horses", policy.Rules({"horse": Limits(0.1, 0.8)}))
    with pytest.raises(Invalid, match="belongs to the dataset judged"):
        policy.write(dataset.id + 1, run_id, "Elsewhere", RULES)
    with pytest.raises(NotFound):
        policy.write(dataset.id, "20250101-000000-0000", "No run", RULES)
    assert policies.of(dataset.id) == []


@pytest.mark.databases("sqlite", "postgresql")
def test_a_version_never_changes_and_the_same_name_makes_a_new_one(judged: tuple[Dataset, str]) -> None:
    first = made_active(judged)
    second = policy.write(judged[0].id, judged[1], "Strict", replace(RULES, blind=0.5))
    policy.activate(second.id)
    assert policies.get(first.id) == first and second.id != first.id and policies.of(judged[0].id) == [second, first]
    assert policy.rules(first) == replace(RULES, salt=policy.rules(first).salt) and policy.rules(first).salt != policy.rules(second).salt


@pytest.mark.databases("sqlite", "postgresql")
def test_one_is_active_and_one_the_shadow_and_every_change_is_told(judged: tuple[Dataset, str]) -> None:
    first, second = made_active(judged), made_active(judged, kind="shadow")
    assert (policy.active(judged[0].id), policy.shadow(judged[0].id)) == (first, second)
    policy.activate(second.id)
    assert (policy.active(judged[0].id), policy.shadow(judged[0].id)) == (second, None)
    policy.activate(second.id, "off")
    assert policy.active(judged[0].id) is None
    told = [(one, kind) for one, kind, _, _ in policies.history(judged[0].id)]
    assert told == [(second.id, "off"), (second.id, "active"), (first.id, "off"), (second.id, "shadow"), (first.id, "active")]


@pytest.mark.databases("sqlite", "postgresql")
def test_pictures_go_where_the_active_policy_says_and_others_are_only_kept(judged: tuple[Dataset, str]) -> None:
    assert kept(judged, answer(0.5, 9)) == {"predicted": 1}
    made_active(judged, replace(RULES, audit=0.01))
    found = [policy.sorter(*ids(judged))(answer(p, i))["band"] for i, p in enumerate((0.05, 0.5, 0.9))]
    assert found == ["pass", "ask", "block"] and kept(judged, answer(0.5, 1)) == {"waiting": 1}
    assert kept(judged, answer(0.9, 8), run_id=another_run(judged[1])) == {"predicted": 1}  # another run than the policy's


def ids(judged: tuple[Dataset, str]) -> tuple[int, str]:
    return judged[0].id, judged[1]


def test_a_draw_is_never_made_anew_whatever_becomes_of_the_policy(judged: tuple[Dataset, str]) -> None:
    one = made_active(judged, replace(RULES, blind=0.5, second=0.5, audit=0.5))
    sure = np.linspace(0, 0.05, 20)  # of each band so many that no draw can leave one of them out
    answers = [answer(p, i) for i, p in enumerate([*sure, *np.linspace(0, 1, 20), *(1 - sure)])]
    before = [policy.sorter(*ids(judged))(a) for a in answers]
    drawn = [policy.arms_of(one, policy.rules(one), a.image_id) for a in answers]
    assert {"audit", "passed", "blocked", "waiting"} == {row["state"] for row in before} and len(set(drawn)) > 4
    made_active(judged)
    classes.rename(judged[0].id, "risked", "dangerous", "tester")
    policy.activate(one.id)
    again = policies.get(one.id)
    assert [policy.sorter(*ids(judged))(a) for a in answers] == before
    assert [policy.arms_of(again, policy.rules(again), a.image_id) for a in answers] == drawn
    kept(judged, *answers)
    states = {s.image_id: s.state for s in queue.browse(judged[0].id, queue.Which(), limit=100)}
    kept(judged, *answers)
    assert {s.image_id: s.state for s in queue.browse(judged[0].id, queue.Which(), limit=100)} == states and len(states) == 60


def test_a_policy_goes_on_when_its_class_is_renamed_before_or_after_it_was_written(judged: tuple[Dataset, str]) -> None:
    dataset, run_id = judged
    classes.rename(dataset.id, "risked", "danger", "tester")
    one = policy.write(dataset.id, run_id, "By the run's word", RULES)
    two = policy.write(dataset.id, run_id, "By today's", policy.Rules({"danger": Limits(0.1, 0.8)}))
    assert list(policy.rules(one).limits) == list(policy.rules(two).limits) == ["danger"] and policy.remarks(one) == []
    classes.rename(dataset.id, "danger", "risk", "tester")
    classes.rename(dataset.id, "not suitable", "danger", "tester")  # the name that the policy knows is another class's today
    for written in (one, two):
        policy.activate(written.id)
        assert policy.sorter(dataset.id, run_id)(answer(0.9))["band"] == "block"
        assert list(policy.today(written).limits) == ["risk"] and list(policy.of_run(written).limits) == ["risked"]
    assert policy.today(one).reasons == {"risk": ("weapon", "nudity")}
    held = validation.of(run_id)
    load = bands.workload(held.probabilities, held.truth, held.classes, policy.today(one).limits)
    assert load.n == 400 and load.blocked.k > 0
    (remark,) = policy.remarks(one)
    assert remark.text == "“danger” is called “risk” today." and not remark.stops


def test_a_retired_class_is_told_and_still_blocked(judged: tuple[Dataset, str]) -> None:
    one = made_active(judged)
    classes.retire(judged[0].id, "risked", "tester")
    (remark,) = policy.remarks(one)
    assert "“risked” was retired" in remark.text and "Bring the class back" in remark.todo
    assert policy.sorter(*ids(judged))(answer(0.9))["band"] == "block"


def test_of_a_deleted_run_nothing_is_sorted_and_what_comes_waits(judged: tuple[Dataset, str]) -> None:
    one, other = made_active(judged), another_run(judged[1])
    shutil.rmtree(settings().runs / judged[1])
    (remark,) = policy.remarks(one)
    assert remark.stops and "what comes waits for a person" in remark.text
    assert kept(judged, answer(0.01), run_id=other) == {"waiting": 1}
    with pytest.raises(NotFound):
        policy.activate(one.id)
    policy.activate(one.id, "off")
    assert policy.active(judged[0].id) is None and kept(judged, answer(0.01, 1), run_id=other) == {"predicted": 1}


@pytest.mark.databases("sqlite", "postgresql")
def test_the_shadow_is_counted_beside_the_active_one_and_beside_what_people_said(judged: tuple[Dataset, str]) -> None:
    dataset, run_id = judged
    kept(judged, answer(0.5, 99))  # came before
    active = made_active(judged)
    other = another_run(run_id)
    loose = policy.write(dataset.id, other, "Loose", policy.Rules({"risked": Limits(0.6, None)}))
    policy.activate(loose.id, "shadow")
    shares = (0.05, 0.3, 0.5, 0.7, 0.9)
    kept(judged, *(answer(p, i) for i, p in enumerate(shares)))
    assert shadow.beside(loose, active).compared == 0 and shadow.beside(loose, active).came == 5
    kept(
        judged, *(answer(p, i) for i, p in enumerate(shares[:4])), run_id=other
    )  # what the shadow's run says of them; the fifth it never saw
    waiting = {s.image_id: s.id for s in reviewing.waiting(dataset.id)}
    asked = [waiting[answer(p, i).image_id] for i, p in enumerate(shares) if i in (1, 2)]
    for one, label in zip(asked, ("risked", "approved"), strict=True):
        queue.decide(one, queue.Act("Mo", "corrected", label, basket=True), None)
    found = shadow.beside(loose, active)
    counts = {at: len(ids) for at, ids in found.cells.items()}
    assert counts == {("pass", "pass"): 1, ("ask", "pass"): 2, ("ask", "ask"): 1} and (found.came, found.compared, found.decided) == (
        5,
        4,
        2,
    )
    assert found.wrongly_passed == {"shadow": (asked[0],), "active": ()} and found.wrongly_blocked == {"shadow": (), "active": ()}
    assert {at: len(ids) for at, ids in shadow.beside(loose, None).cells.items()} == {(None, "pass"): 3, (None, "ask"): 1}
    assert found.unasked == 1  # the fifth


def test_the_shadows_run_is_asked_about_the_rest_of_what_came_and_nothing_is_sorted_by_it(
    judged: tuple[Dataset, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, run_id = judged
    made_active(judged)
    other = another_run(run_id)
    loose = policy.write(dataset.id, other, "Loose", policy.Rules({"risked": Limits(0.6, None)}))
    policy.activate(loose.id, "shadow")
    kept(judged, *(answer(p, i) for i, p in enumerate((0.05, 0.5, 0.9))))
    kept(judged, answer(0.1, 0), run_id=other)
    asked: list[tuple[object, ...]] = []

    def start(*args: object) -> str:
        asked.append(args)
        return "a job"

    monkeypatch.setattr(batch, "start", start)
    assert shadow.ask_rest(loose, "Lea") == "a job"
    ((where, run_ids, source, by, _),) = asked
    assert (where, run_ids, by) == (dataset.id, [other], "Lea")
    rest = {answer(0.5, 1).image_id, answer(0.9, 2).image_id}
    assert isinstance(source, Source)
    found = {one.path.stem for one in sources.open_source(places.confined(source)).entries if one.path}
    assert found == rest
    before = queue.counts(dataset.id)
    kept(judged, answer(0.99, 1), answer(0.99, 2), run_id=other)
    assert queue.counts(dataset.id) == before and shadow.beside(loose, policy.active(dataset.id)).unasked == 0


def test_the_pace_is_the_median_of_timed_decisions(judged: tuple[Dataset, str]) -> None:
    assert policy.pace(judged[0].id) is None
    made_active(judged, replace(RULES, second=0.0))
    kept(judged, *(answer(0.5, i) for i in range(4)))
    for one, seconds in zip(reviewing.waiting(judged[0].id), (2.0, 4.0, 30.0, None), strict=True):
        review.decide(one.id, "rejected", None, "Mo", seconds=seconds)
    assert policy.pace(judged[0].id) == (4.0, 3)


def test_a_run_without_validation_predictions_or_labels_says_what_is_missing(judged: tuple[Dataset, str]) -> None:
    held = validation.of(judged[1])
    assert held.n == 400 and held.count("risked") == len(held.scores("risked")) == len(held.ids_of("risked")) == 400 - len(
        held.scores("risked", own=False)
    )
    for name in CLASSES:
        classes.retire(judged[0].id, name, "tester")
    with pytest.raises(Invalid, match="No validation image carries a label"):
        validation.of(judged[1])
    runs.write_predictions(runs.folder(judged[1]), CLASSES, [])
    with pytest.raises(Invalid, match="no predictions of validation images"):
        validation.of(judged[1])


def test_the_verb_writes_shows_activates_and_turns_off(judged: tuple[Dataset, str], command: Command) -> None:
    dataset, run_id = judged
    written = command(
        "policy", "write", run_id, "--name", "Strict", "--block", "risked=0.1,0.8", "--at-most", "risked=20", "--audit", "0.02"
    )
    assert written.returncode == 0, written.stderr
    made = json.loads(written.stdout)
    threshold = made["promises"]["risked"]["threshold"]
    assert made["limits"] == {"risked": {"lower": threshold, "upper": 0.8}} and made["is"] == "off" and "salt" not in made
    assert json.loads(command("policy", "activate", str(made["id"])).stdout)["is"] == "active"
    shown = json.loads(command("policy", "show", str(made["id"])).stdout)
    parts = shown["validation"]
    assert parts["n"] == 400 == sum(parts[name]["k"] for name in ("passed", "asked", "blocked")) and shown["audit"] == 0.02
    assert json.loads(command("policy", "off", str(made["id"])).stdout)["is"] == "off" and policy.active(dataset.id) is None
    listed = json.loads(command("policy", "list", dataset.name).stdout)
    assert [one["id"] for one in listed["policies"]] == [made["id"]] and [act["became"] for act in listed["history"]] == ["off", "active"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--block", "risked=high"), 2, "is not LOWER,UPPER"),
        (("--block", "risked=0.8,0.1"), 1, "is above the upper one"),
        (("--block", "risked=0.1", "--at-most", "approved=5"), 2, "which --block does not"),
        (("--block", "risked=0.1", "--at-most", "risked=0.1"), 1, "needs at least 999"),
        (("--block", "risked=0.1", "--audit", "0"), 1, "At least 1%"),
        (("--block", "horse=0.1"), 1, "no class “horse”"),
    ],
)
def test_the_verb_refuses_in_words_and_stores_nothing(
    judged: tuple[Dataset, str], command: Command, words: tuple[str, ...], code: int, said: str
) -> None:
    done = command("policy", "write", judged[1], "--name", "Odd", *words)
    assert done.returncode == code and said in done.stderr and policies.of(judged[0].id) == []
