"""The queue of Review for several people: nothing is with two at once, decided twice, or lost."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from core import roles
from core.data import audit, dataset, decisions, deliveries, images, labels, policies, queue, removed, schema, store, uploads
from core.data.decisions import Said
from core.data.queue import Deal, Submission
from core.errors import Conflict, Forbidden, Invalid
from core.people import accounts
from core.review import bands, policy, review
from core.review import known as practice
from core.runs import runs
from core.settings import settings
from core.types import Dataset, Prediction
from tests import reviewing
from tests.conftest import forget

pytestmark = pytest.mark.databases("sqlite", "postgresql")

RUN = "20260101-000000-cafe"
CLASSES = ("blue", "green", "red")


@pytest.fixture
def answer(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Prediction]:
    """Keeps a new picture and gives a prediction with these probabilities of blue, green and red."""
    (settings().runs / RUN).mkdir(parents=True)
    run = SimpleNamespace(classes=CLASSES, dataset_id=small.id, dataset_name=small.name, name="ConvNet 1", created_at="2026-01-01")
    monkeypatch.setattr(runs, "load", lambda _folder: run)

    def make(seed: int, *probabilities: float) -> Prediction:
        pixels = np.random.default_rng(5000 + seed).integers(0, 256, (12, 12, 3), np.uint8)
        kept = uploads.keep(f"new-{seed}.png", images.png(pixels))
        return Prediction(kept.name, kept.id, CLASSES, probabilities or (0.9, 0.05, 0.05))

    return make


def send(small: Dataset, *answers: Prediction) -> list[Submission]:
    for one in answers:
        assert review.submit(small.id, RUN, one, "Ann")
    return reviewing.waiting(small.id)


def deal(small: Dataset, person: str, count: int = 10, keep: tuple[int, ...] = (), **want: object) -> list[int]:
    return [one.id for one in review.deal(small.id, replace(Deal(f"{person}'s page", person), **want), count, keep)]  # type: ignore[arg-type]


SALT = "of no picture here the audit's 1%"


def ruled(small: Dataset, **said: object) -> policy.Rules:
    """A policy that passes below 0.2 of red and blocks from 0.8 on, made active; without any draws unless they are given."""
    rules = policy.Rules({"red": bands.Limits(0.2, 0.8)}, **{"salt": SALT, "blind": 0.0, "second": 0.0, "known": 0.0, "benign": 0, **said})  # type: ignore[arg-type]
    made = policy.write(small.id, RUN, "Strict", rules)
    policy.activate(made.id)
    return policy.rules(made)


# Claims


def test_what_one_person_has_on_the_screen_nobody_else_is_dealt_or_can_decide(small: Dataset, answer: Callable[..., Prediction]) -> None:
    send(small, *(answer(i) for i in range(5)))
    anns = deal(small, "Ann", 3)
    bens = deal(small, "Ben", 3)
    assert len(anns) == 3 and len(bens) == 2 and not set(anns) & set(bens)
    with pytest.raises(Conflict, match=r"Ann has new-\d\.png on the screen"):
        review.decide(anns[0], "accepted", None, "Ben", session="Ben's page")
    review.decide(anns[0], "accepted", None, "Ann", session="Ann's page")
    with pytest.raises(Conflict, match="was decided already by Ann: blue"):
        review.decide(anns[0], "corrected", "red", "Ben", session="Ben's page")


def test_a_claim_runs_out_unless_it_is_renewed_or_held(
    small: Dataset, answer: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    send(small, *(answer(i) for i in range(3)))
    now = time.time()
    first, second, third = deal(small, "Ann", 3)
    monkeypatch.setattr(time, "time", lambda: now + 100)
    assert queue.renew(small.id, "Ann's page", [first]) == [first]
    assert queue.hold(second, "Ann's page") == queue.HOLD_SECONDS
    monkeypatch.setattr(time, "time", lambda: now + 130)
    assert deal(small, "Ben", 3) == [third]
    monkeypatch.setattr(time, "time", lambda: now + 300)
    assert queue.renew(small.id, "Ann's page", [first, second]) == [second]
    with pytest.raises(Conflict, match="time ran out"):
        queue.hold(first, "Ann's page")


@pytest.mark.parametrize("jump", [86_400, -86_400])
def test_a_clock_that_jumps_keeps_nothing_from_others_and_lets_nothing_be_decided_twice(
    small: Dataset, answer: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    send(small, *(answer(i) for i in range(2)))
    first, second = deal(small, "Ann", 2)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    assert sorted(deal(small, "Ben", 2)) == sorted([first, second])
    assert review.decide(first, "rejected", None, "Ben", session="Ben's page").state == "decided"
    for one, by in ((first, "was decided already by Ben"), (second, "Ben has new-")):
        with pytest.raises(Conflict, match=by):
            review.decide(one, "rejected", None, "Ann", session="Ann's page")
    assert [len(decisions.of_item(one)) for one in (first, second)] == [1, 0]


def test_what_is_held_waits_for_its_person_at_the_next_page_and_what_is_handed_over_for_another(
    small: Dataset, answer: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    send(small, *(answer(i) for i in range(4)))
    first, second, third, fourth = deal(small, "Ann", 4)
    queue.hold(third, "Ann's page")
    queue.hand(second, "Ann's page", "Ben")
    queue.release(small.id, "Ann's page")  # to look something up
    assert deal(small, "Cem", 4) == [first, fourth]
    assert [one.id for one in review.deal(small.id, Deal("Ann's other page", "Ann"), 4)] == [third]
    assert deal(small, "Ben", 0) == [] and deal(small, "Ben", 4) == [second]
    with pytest.raises(Conflict, match="not yours any more"):
        queue.hand(second, "Ann's page", "Cem")
    assert decisions.at_work(small.id, "2026") == ["Ann", "Ben", "Cem"]

    review.decide(second, "escalated", None, "Ben", session="Ben's page")
    review.decide(first, "rejected", None, "Cem", session="Cem's page")
    review.appeal(first, "Lea", "Look again.")
    assert deal(small, "Dora", 1, order="oldest") == [second]
    queue.release(small.id, "Dora's page")
    assert first in deal(small, "Dora", 4)
    with pytest.raises(Conflict, match="Cem cannot decide on this picture any more"):
        queue.hand(first, "Dora's page", "Cem")
    now = time.time()
    queue.hand(first, "Dora's page", "Ben")
    monkeypatch.setattr(time, "time", lambda: now + queue.HOLD_SECONDS + 1)
    assert first in deal(small, "Ann", 4), "Ben did not come"


def test_what_is_given_back_or_not_kept_is_dealt_to_others(small: Dataset, answer: Callable[..., Prediction]) -> None:
    send(small, *(answer(i) for i in range(3)))
    first, *_ = deal(small, "Ann", 3)
    assert deal(small, "Ann", 0, keep=(first,)) == [] and first not in deal(small, "Ben", 3)
    queue.release(small.id, "Ben's page")
    queue.release(small.id, "Ann's page")
    assert len(deal(small, "Cem", 3)) == 3


def test_twenty_people_at_once_decide_each_picture_exactly_once(small: Dataset, answer: Callable[..., Prediction]) -> None:
    send(small, *(answer(i) for i in range(40)))
    done, failed = list[int](), list[Exception]()

    def work(person: str) -> None:
        try:
            while mine := deal(small, person, 2):
                for one in mine:
                    review.decide(one, "rejected", None, person, session=f"{person}'s page", operation=f"{person} {one}")
                    done.append(one)
        except Exception as problem:  # reported below
            failed.append(problem)

    people = [threading.Thread(target=work, args=(f"P{i}",)) for i in range(20)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert failed == [] and len(done) == 40 and set(Counter(done).values()) == {1}
    assert queue.counts(small.id) == {"decided": 40} and len(decisions.made(small.id)) == 40


# Orders, skips


def test_orders_deal_the_least_certain_the_riskiest_or_the_oldest_first(small: Dataset, answer: Callable[..., Prediction]) -> None:
    ruled(small)
    sent = [answer(0, 0.5, 0.2, 0.3), answer(1, 0.4, 0.25, 0.35), answer(2, 0.75, 0.0, 0.25)]
    by_name = {one.name: one.id for one in send(small, *sent)}
    names = {number: name for name, number in by_name.items()}

    def order(which: str) -> list[str]:
        found = [names[i] for i in deal(small, which, order=which)]
        queue.release(small.id, f"{which}'s page")
        return found

    assert order("uncertain") == ["new-1.png", "new-0.png", "new-2.png"]
    assert order("risky") == ["new-1.png", "new-0.png", "new-2.png"]
    assert order("oldest") == ["new-0.png", "new-1.png", "new-2.png"]
    assert len(deal(small, "Ann", without=("blue",))) == 0


def test_harmless_pictures_are_mixed_in_and_overdue_ones_come_first(small: Dataset, answer: Callable[..., Prediction]) -> None:
    ruled(small, benign=3)
    rows = [(i, 0.3 + 0.01 * i, 0.2, 0.5 - 0.01 * i) for i in range(9)]
    send(small, *(answer(*row) for row in rows))
    dealt = review.deal(small.id, Deal("page", "Ann"), 6)
    least = sorted(store_risks(small))[:2]
    assert {one.risk for one in dealt[:2]} == set(least), "two of six are the least risky"
    queue.release(small.id, "page")
    old = dealt[-1].id
    with schema.writing() as c:
        c.execute(schema.submissions.update().where(schema.submissions.c.id == old).values(at="2026-01-01T00:00:00.000+00:00"))
    assert next(iter(review.deal(small.id, Deal("page", "Ann"), 6))).id == old


def store_risks(small: Dataset) -> list[float]:
    return [one.risk for one in reviewing.waiting(small.id)]


def test_who_skips_a_picture_does_not_get_it_again_and_others_do(small: Dataset, answer: Callable[..., Prediction]) -> None:
    send(small, *(answer(i) for i in range(2)))
    first, second = deal(small, "Ann", 2)
    queue.skip(first, "Ann's page", "Ann")
    queue.skip(first, "Ann's page", "Ann")
    queue.release(small.id, "Ann's page")
    assert deal(small, "Ann") == [second] and queue.skipped(small.id, "Ann") == 1
    assert deal(small, "Ben") == [first]
    assert queue.unskip(small.id, "Ann") == 1 and queue.skipped(small.id, "Ann") == 0


# Decisions


def test_the_same_act_sent_again_is_stored_once_and_answered_alike(small: Dataset, answer: Callable[..., Prediction]) -> None:
    (one,) = send(small, answer(0))
    first = review.decide(one.id, "corrected", "red", "Ann", operation="act 1")
    assert review.decide(one.id, "corrected", "red", "Ann", operation="act 1") == first
    assert len(decisions.of_item(one.id)) == 1 and dataset.totals(small.id) == (25, 25)


def test_a_picture_is_handed_to_who_decides_here_and_still_may(
    small: Dataset, answer: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    for one, name in zip(send(small, *map(answer, range(4))), ("Ann", "Ben", "Cem", roles.UNNAMED), strict=True):
        review.decide(one.id, "accepted", None, name)
    assert review.colleagues(small.id, "Ann") == ["Ben", "Cem"]
    monkeypatch.setenv("LOUPE_SIGN_IN", "accounts")
    forget()
    accounts.add("Ben", "moderator")
    accounts.add("Cem", "viewer")
    assert review.colleagues(small.id, "Ann") == ["Ben"]


def test_undo_takes_back_ones_own_last_decision_and_not_a_colleagues(small: Dataset, answer: Callable[..., Prediction]) -> None:
    a, b = send(small, answer(0), answer(1))
    review.decide(a.id, "accepted", None, "Ann")
    review.decide(b.id, "rejected", None, "Ben")
    assert review.undo(small.id, "Ann").id == a.id
    assert [one.id for one in reviewing.waiting(small.id)] == [a.id] and dataset.totals(small.id) == (24, 24)
    with pytest.raises(Conflict, match="decided nothing here"):
        review.undo(small.id, "Ann")
    (event,) = decisions.of_item(a.id)
    assert (event.verdict, event.by, event.undone_by) == ("accepted", "Ann", "Ann") and event.undone_at


def test_what_a_person_decided_waits_again_when_their_labels_are_taken_back(
    small: Dataset, answer: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = send(small, answer(0), answer(1))
    review.decide(a.id, "corrected", "red", "Ann")
    review.decide(b.id, "corrected", "red", "Ben")
    monkeypatch.setenv("LOUPE_WEBHOOKS", "shop=http://127.0.0.1:9/loupe")
    monkeypatch.setenv("LOUPE_WEBHOOK_SECRET", "long enough for a test of it")
    forget()
    anns, before = labels.Which(by="Ann"), dataset.totals(small.id)
    others: list[tuple[roles.Role, str, str]] = [("labeller", "Ann", "decide on what waits"), ("labeller", "Lea", "escalated")]
    for role, name, said in (*others, ("moderator", "Ben", "escalated")):
        with roles.acting(roles.Person(name, role)), pytest.raises(Forbidden, match=said):
            labels.undo(small.id, anns, name)
    assert dataset.totals(small.id) == before and decisions.of_item(a.id)[0].undone_at is None
    with roles.acting(roles.Person("Lea", "trainer")):
        assert labels.undo(small.id, anns, "Lea").images == 1
    assert [one.id for one in reviewing.waiting(small.id)] == [a.id] and [one.id for one in reviewing.decided(small.id)] == [b.id]
    (taken,) = decisions.of_item(a.id)
    assert (taken.by, taken.undone_by) == ("Ann", "Lea")
    (entry,) = audit.search(audit.Which(kind="review.undo"), 1, 9)[0]
    assert (entry.by, entry.on["submission"], entry.before["label"], entry.after) == ("Lea", a.id, "red", {"state": "waiting"})
    (told,) = [json.loads(one.body) for one in iter(lambda: deliveries.take("shop"), None)]
    assert (told["type"], told["data"]["decision"]) == ("decision.taken_back", a.id)
    with roles.acting(roles.Person("Ben", "moderator")):
        assert labels.undo(small.id, labels.Which(by="Ben"), "Ben").images == 1, "one's own"


def test_a_person_who_may_not_lead_cannot_take_back_what_others_decided(small: Dataset, answer: Callable[..., Prediction]) -> None:
    (one,) = send(small, answer(0))
    review.decide(one.id, "rejected", None, "Ann")
    with roles.acting(roles.Person("Ben", "moderator")), pytest.raises(Forbidden, match="Ben may not decide on what was escalated"):
        review.reopen(one.id, "Ben")
    with roles.acting(roles.Person("Cem", "labeller")), pytest.raises(Forbidden, match="Cem may not decide"):
        review.deal(small.id, Deal("page", "Cem"), 1)


def test_what_is_escalated_goes_to_a_lead_with_its_note(small: Dataset, answer: Callable[..., Prediction]) -> None:
    (one,) = send(small, answer(0))
    assert review.decide(one.id, "escalated", None, "Ann", note="Is this art?").state == "lead"
    with roles.acting(roles.Person("Ben", "moderator")):
        assert deal(small, "Ben") == []
        with pytest.raises(Forbidden):
            review.decide(one.id, "rejected", None, "Ben")
    assert deal(small, "Lea") == [one.id] and decisions.of_item(one.id)[0].note == "Is this art?"
    assert review.decide(one.id, "corrected", "red", "Lea", session="Lea's page").state == "decided"
    review.undo(small.id, "Lea")
    assert queue.get(one.id).state == "lead"


def test_a_second_opinion_is_asked_of_another_person_and_disagreement_goes_to_a_lead(
    small: Dataset, answer: Callable[..., Prediction]
) -> None:
    ruled(small, second=1.0)
    a, b = sorted(send(small, answer(0, 0.4, 0.3, 0.3), answer(1, 0.4, 0.3, 0.3)), key=lambda one: one.name)
    for one in (a, b):
        assert review.decide(one.id, "corrected", "green", "Ann").state == "second"
    assert deal(small, "Ann") == [] and set(deal(small, "Ben")) == {a.id, b.id}
    assert review.is_blind(queue.get(a.id)), "without the first answer, and without the network's"
    assert review.decide(a.id, "corrected", "green", "Ben", session="Ben's page").state == "decided"
    assert review.decide(b.id, "corrected", "red", "Ben", session="Ben's page").state == "lead"
    with pytest.raises(Conflict, match=r"You have decided on new-1\.png before"):
        review.decide(b.id, "rejected", None, "Ben")
    assert review.decide(b.id, "corrected", "red", "Lea").state == "decided"
    assert queue.get(b.id).label == "red" and len(decisions.of_item(b.id)) == 3


def test_an_appeal_goes_to_somebody_who_has_not_decided_and_what_was_decided_stands_until_then(
    small: Dataset, answer: Callable[..., Prediction]
) -> None:
    (one,) = send(small, answer(0))
    review.decide(one.id, "corrected", "red", "Ann")
    with pytest.raises(Invalid, match="needs a reason"):
        review.appeal(one.id, "Lea", " ")
    review.appeal(one.id, "Lea", "It is a painting.")
    assert queue.get(one.id).label == "red" and store.get_image(small.id, one.image_id).label == "red"
    assert deal(small, "Ann") == [] and deal(small, "Ben") == [one.id]
    review.decide(one.id, "rejected", None, "Ben", session="Ben's page")
    assert dataset.totals(small.id) == (24, 24), "overturned: it leaves the dataset again"
    review.undo(small.id, "Ben")
    today = queue.get(one.id)
    assert (today.state, today.verdict, today.label, today.decided_by) == ("appeal", "corrected", "red", "Ann")


# Policies, basket


def test_a_policy_passes_asks_and_blocks_what_its_run_predicted(small: Dataset, answer: Callable[..., Prediction]) -> None:
    made = [answer(0, 0.9, 0.0, 0.1), answer(1, 0.5, 0.1, 0.4), answer(2, 0.05, 0.05, 0.9)]
    assert review.keep(small.id, RUN, made[:1], "Ann", "zip") == {"predicted": 1}
    ruled(small)
    assert review.keep(small.id, RUN, made, "Ann", "zip") == {"passed": 1, "waiting": 1, "blocked": 1}
    assert review.keep(small.id, RUN, made, "Ann", "zip") == {"waits": 3}, "predicted again, nothing moves"
    assert {one.band: (one.state, one.risk) for one in queue.browse(small.id, queue.Which())} == {
        "pass": ("passed", 0.1),
        "ask": ("waiting", 0.4),
        "block": ("blocked", 0.9),
    }


def test_a_share_of_what_nobody_is_asked_about_is_audited_and_drawn_once(small: Dataset, answer: Callable[..., Prediction]) -> None:
    ruled(small, audit=0.5)
    made = [answer(i, 0.9, 0.05, 0.05) for i in range(30)]
    found = review.keep(small.id, RUN, made, "Ann", "zip")
    assert set(found) == {"passed", "audit"} and 5 < found["audit"] < 25
    drawn = {one.image_id for one in queue.browse(small.id, queue.Which(("audit",)), limit=100)}
    said, acting = policy.rules(policies.of(small.id)[0]), policies.of(small.id)[0]
    assert drawn == {one.image_id for one in made if policy.route(acting, said, one).state == "audit"}


def test_under_a_policy_a_decision_waits_in_the_basket_until_a_lead_lets_it_join(small: Dataset, answer: Callable[..., Prediction]) -> None:
    ruled(small)
    a, b, c = sorted(send(small, *(answer(i, 0.5, 0.2, 0.3) for i in range(3))), key=lambda one: one.name)
    review.decide(a.id, "corrected", "green", "Ann")
    review.decide(b.id, "accepted", None, "Ann")
    review.decide(c.id, "rejected", None, "Ann")
    waiting = queue.browse(small.id, queue.Which(basket="waiting"), "name")
    assert [one.id for one in waiting] == [a.id, b.id] and dataset.totals(small.id) == (24, 24)
    assert review.accept([a.id, a.id], "Lea").joined == 1
    assert store.get_image(small.id, a.image_id).label == "green" and labels.history(small.id, a.image_id)[0].by == "Lea"
    assert review.refuse([b.id]) == 1 and queue.get(b.id).basket == "refused" and dataset.totals(small.id) == (25, 25)


def test_blind_and_audited_decisions_never_enter_the_basket(small: Dataset, answer: Callable[..., Prediction]) -> None:
    ruled(small, audit=1.0)
    review.keep(small.id, RUN, [answer(0, 0.9, 0.05, 0.05)], "Ann", "zip")
    send(small, answer(1, 0.5, 0.2, 0.3))
    for one in reviewing.waiting(small.id):
        review.decide(one.id, "corrected", "green", "Ben", hint=one.state == "audit")
    assert queue.counts(small.id) == {"decided": 2} and queue.count(small.id, queue.Which(basket="waiting")) == 0


def test_a_decision_is_taken_back_from_the_removed_image_that_its_picture_was(
    small: Dataset, answer: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    red = next(i for i in store.browse(small.id, store.Filter(label="red"), 0, 9) if i.split == "train")
    monkeypatch.setattr(review, "_array_ids", lambda _: (red.id,))  # it came as pixels, and has another id than the picture
    (one,) = send(small, answer(1))
    review.decide(one.id, "corrected", "green", "Ann")
    assert store.get_image(small.id, red.id).label == "green"
    removed.remove(small.id, [red.id], "Ann", "out")
    review.undo(small.id, "Ann")
    assert [i.label for i in removed.get(small.id)] == ["red"]


@pytest.mark.parametrize("verdict", ["rejected", "corrected"])
def test_an_appeal_takes_its_label_from_the_removed_image_that_its_picture_was(
    small: Dataset, answer: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch, verdict: queue.Verdict
) -> None:
    red = next(i for i in store.browse(small.id, store.Filter(label="red"), 0, 9) if i.split == "train")
    monkeypatch.setattr(review, "_array_ids", lambda _: (red.id,))  # it came as pixels, and has another id than the picture
    (one,) = send(small, answer(1))
    review.decide(one.id, "corrected", "green", "Ann")
    removed.remove(small.id, [red.id], "Ann", "out")
    review.appeal(one.id, "Lea", "Look again.")
    review.decide(one.id, verdict, None if verdict == "rejected" else "red", "Ben")
    assert [i.label for i in removed.get(small.id)] == ["red"]


def test_known_answers_are_mixed_in_once_for_each_person_and_change_no_label(small: Dataset, answer: Callable[..., Prediction]) -> None:
    ruled(small, known=0.5)
    send(small, *(answer(i, 0.5, 0.2, 0.3) for i in range(4)))
    red = store.browse(small.id, store.Filter(label="red"), 0, 1)[0]
    row = {"dataset_id": small.id, "run_id": RUN, "image_id": red.id, "ext": "png", "name": "k.png", "by": "Lea", "predicted": "blue",
           "probability": 0.5, "probabilities": {"blue": 0.5}, "state": "known", "known": "red"}  # fmt: skip
    assert queue.add([row]) == ["new"]
    (known,) = queue.browse(small.id, queue.Which(("known",)))
    uploads.keep("k.png", (settings().images / red.path).read_bytes())
    for person in ("Ann", "Ben"):
        assert known.id in deal(small, person, 4)
        assert review.decide(known.id, "corrected", "blue", person, session=f"{person}'s page").state == "known"
        assert known.id not in deal(small, person, 4)
        queue.release(small.id, f"{person}'s page")
    assert store.get_image(small.id, red.id).label == "red" and len(decisions.of_item(known.id)) == 2
    assert practice.there(small.id) == 1 and practice.practice(small.id, "Cem") is not None
    removed.remove(small.id, [red.id], "Ann", "out")
    assert known.id not in deal(small, "Cem", 4)
    assert practice.there(small.id) == 0 and practice.practice(small.id, "Cem") is None


# What another run says


def test_another_runs_answer_stands_beside_and_the_picture_waits_once(small: Dataset, answer: Callable[..., Prediction]) -> None:
    other = "20260101-000000-f00d"
    (settings().runs / other).mkdir(parents=True)
    one = answer(0, 0.6, 0.2, 0.2)
    (sent,) = send(small, one)
    assert not review.submit(small.id, other, replace(one, probabilities=(0.1, 0.8, 0.1)), "Ann")
    assert len(reviewing.waiting(small.id)) == 1
    assert {(run, label) for run, label, _ in queue.answers_of([sent.id])[sent.id]} == {(RUN, "blue"), (other, "green")}


def test_a_picture_is_found_by_its_name_or_its_hash(small: Dataset, answer: Callable[..., Prediction]) -> None:
    send(small, answer(7), answer(8))
    for text in ("EW-7", queue.browse(small.id, queue.Which(text="new-7"))[0].image_id[:8]):
        assert [one.name for one in queue.browse(small.id, queue.Which(text=text))] == ["new-7.png"]


def test_every_act_of_review_leaves_one_entry_in_the_audit(small: Dataset, answer: Callable[..., Prediction]) -> None:
    made = policy.write(small.id, RUN, "Strict", policy.Rules({"red": bands.Limits(0.2, 0.8)}, blind=0, second=0))
    policy.activate(made.id)
    other = policy.write(small.id, RUN, "Mild", policy.Rules({"red": bands.Limits(0.2, 0.9)}, blind=0, second=0))
    policy.activate(other.id)
    assert [(one.kind, one.on["policy"]) for one in audit.search(audit.Which(), 1, 2)[0]] == [
        ("policy.active", other.id),
        ("policy.off", made.id),
    ]
    policy.activate(other.id, "off")
    (a,) = send(small, answer(0))
    review.decide(a.id, "corrected", "green", "Ann")
    review.undo(small.id, "Ann")
    review.decide(a.id, "rejected", None, "Ann")
    review.undo(small.id, "Ann")
    review.decide(a.id, "escalated", None, "Ann")
    found = [(one.kind, one.by) for one in audit.search(audit.Which(), 1, 11)[0]][::-1]
    lead = roles.current().name
    assert found == [
        ("policy.write", lead), ("policy.active", lead), ("policy.write", lead),
        ("policy.off", lead), ("policy.active", lead), ("policy.off", lead),
        ("review.decide", "Ann"), ("review.undo", "Ann"), ("review.decide", "Ann"), ("review.undo", "Ann"), ("review.decide", "Ann"),
    ]  # fmt: skip
    said = [(one.verdict, one.undone_by) for one, _ in review.decisions(small.id, Said())]
    assert said == [("escalated", None), ("rejected", "Ann"), ("corrected", "Ann")]  # what was taken back is still told


def test_an_appeal_that_is_taken_back_leaves_what_was_decided(small: Dataset, answer: Callable[..., Prediction]) -> None:
    (one,) = send(small, answer(0))
    review.decide(one.id, "corrected", "red", "Ann")
    review.appeal(one.id, "Lea", "It is a painting.")
    review.reopen(one.id, "Lea")
    today = queue.get(one.id)
    assert (today.state, today.verdict, today.label, today.decided_by) == ("decided", "corrected", "red", "Ann")
    assert store.get_image(small.id, one.image_id).label == "red"
