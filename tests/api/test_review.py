"""The routes of Review: what a page is dealt, what it may take back, and what it is not told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from core import roles
from core.api import review, routes, signing
from core.data import dataset, images, queue, schema, store, uploads
from core.errors import AppError
from core.review import why
from core.types import Dataset
from tests import reviewing

RUN = "20260101-000000-cafe"  # was deleted


@pytest.fixture
def client(home: object) -> Iterator[TestClient]:
    handlers: dict[Any, Any] = {AppError: routes.app_error, HTTPException: routes.http_error}
    with TestClient(Starlette(routes=routes.ROUTES, exception_handlers=handlers)) as client:
        yield client


@pytest.fixture
def waiting(small: Dataset) -> Callable[..., int]:
    """Puts one more picture, taken for a class, into the queue; its id."""

    def add(name: str, predicted: str = "blue", **values: object) -> int:
        pixels = np.random.default_rng(sum(map(ord, name))).integers(0, 256, (12, 12, 3), np.uint8)
        kept = uploads.keep(name, images.png(pixels))
        row = {"dataset_id": small.id, "run_id": RUN, "image_id": kept.id, "ext": "png", "name": name, "by": "Lea", "source": "zip"}
        assert queue.add([{**row, "predicted": predicted, "probability": 0.9, "probabilities": {predicted: 0.9}, **values}]) == ["new"]
        (one,) = queue.browse(small.id, queue.Which(text=name))
        return one.id

    return add


def ask(client: TestClient, small: Dataset, path: str, user: str = "Ann", status: int = 200, **body: object) -> dict[str, Any]:
    said = {"dataset_id": small.id, "session": f"{user}'s page", **body}
    answer = client.post(f"/api/review/{path}", json=said, headers={"X-Loupe-Token": signing.token(user)})
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def test_an_undo_that_is_sent_again_takes_nothing_more_back(client: TestClient, small: Dataset, waiting: Callable[..., int]) -> None:
    first, second = waiting("a.png"), waiting("b.png")
    for one, operation in ((first, "one"), (second, "two")):
        ask(client, small, "decide", id=one, verdict="accepted", operation=operation)
    for _ in range(2):
        assert ask(client, small, "undo", operation="two")["item"]["id"] == second
    assert [s.name for s in reviewing.decided(small.id)] == ["a.png"] and dataset.totals(small.id) == (25, 25)
    assert second in queue.held(small.id, "Ann's page")
    assert "not stored" in ask(client, small, "undo", status=409, operation="never")["error"]["message"]


def test_a_lead_takes_back_a_decision_of_somebody_else_and_others_may_not(
    client: TestClient, small: Dataset, waiting: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seq = ask(client, small, "decide", "Bo", id=waiting("a.png"), verdict="accepted", operation="one")["seq"]
    monkeypatch.setattr(roles, "current", lambda fresh=False: roles.Person("Ann", "moderator"))
    ask(client, small, "undo", status=403, seq=seq)
    (shown,) = ask(client, small, "last")["decisions"]
    assert (shown["by"], shown["mine"], shown["may"]) == ("Bo", False, False)
    monkeypatch.setattr(roles, "current", lambda fresh=False: roles.Person("Ann", "trainer"))
    assert ask(client, small, "last")["decisions"][0]["may"]
    ask(client, small, "undo", seq=seq)
    assert ask(client, small, "last")["decisions"] == [] and dataset.totals(small.id) == (24, 24)


def test_what_is_still_to_be_judged_by_another_does_not_show_what_the_first_one_said(
    client: TestClient, small: Dataset, waiting: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    escalated, known = waiting("a.png"), waiting("k.png", state="known", known="red")
    ask(client, small, "decide", "Bo", id=escalated, verdict="escalated", note="hard", operation="one")
    ask(client, small, "decide", "Bo", id=known, verdict="corrected", label="green", operation="two")
    for name, role, seen in (("Ann", "moderator", 0), ("Bo", "moderator", 2), ("Lea", "trainer", 2)):
        monkeypatch.setattr(roles, "current", lambda fresh=False, name=name, role=role: roles.Person(name, role))
        assert len(ask(client, small, "last", name)["decisions"]) == seen


def test_a_skipped_picture_is_brought_back_and_held_unless_it_was_decided(
    client: TestClient, small: Dataset, waiting: Callable[..., int]
) -> None:
    one = waiting("a.png")
    ask(client, small, "claims", act="skip", id=one)
    assert ask(client, small, "deal")["items"] == [] and ask(client, small, "deal")["skipped"] == 1
    assert ask(client, small, "claims", act="unskip", id=one)["skipped"] == 0
    assert one in queue.held(small.id, "Ann's page")
    ask(client, small, "claims", act="skip", id=one)
    ask(client, small, "decide", "Bo", id=one, verdict="accepted", operation="one")
    said = ask(client, small, "claims", status=409, act="claim", id=one)["error"]["message"]
    assert said == "a.png was decided meanwhile by Bo: blue."


def test_of_a_picture_of_another_dataset_nothing_is_told_and_nothing_done(
    client: TestClient, small: Dataset, waiting: Callable[..., int]
) -> None:
    one, other = waiting("a.png"), store.create_dataset("other")
    ask(client, small, "decide", id=waiting("b.png"), verdict="rejected", operation="b")
    for act in ("claim", "skip", "hold", "hand", "unskip"):
        for number in (one, one + 1, 4711):  # waiting, decided, nowhere
            said = ask(client, other, "claims", status=404, act=act, id=number, to="Ann")["error"]["message"]
            assert said == "This prediction is not in the queue."
    assert queue.skipped(small.id, "Ann") == 0 and queue.held_by_others(small.id, "nobody") == 0


def test_pictures_of_classes_that_a_person_wants_to_be_spared_are_not_kept_by_the_browser(
    client: TestClient, small: Dataset, waiting: Callable[..., int]
) -> None:
    blue, red = waiting("a.png"), waiting("r.png", "red")
    blind = waiting("s.png", "red", state="second")
    urls = {one["id"]: one["url"] for one in ask(client, small, "deal", unstored=["blue"])["items"]}
    kept = {one: client.get(url).headers["cache-control"] for one, url in urls.items()}
    assert kept[blue] == kept[blind] == "no-store" and "max-age" in kept[red]  # of a blind one the address must not tell
    assert client.get(urls[blue].replace("/unstored", "")).status_code == 403
    assert not [one for one in ask(client, small, "deal", "Bo", without=["blue"])["items"] if one["id"] == blue]


def test_a_picture_decided_blind_comes_without_an_answer_and_one_of_a_deleted_run_says_so(
    client: TestClient, small: Dataset, waiting: Callable[..., int]
) -> None:
    waiting("a.png"), waiting("s.png", state="second")
    blind, shown = ask(client, small, "deal")["items"]
    assert (blind["blind"], blind["predicted"], blind["top"], blind["stage"]) == (True, None, [], "waiting")
    assert (blind["name"], blind["by"], blind["at"], blind["source"]) == (queue.get(blind["id"]).image_id[:8], "", "", "")
    assert (shown["predicted"], shown["run"], shown["by"], shown["source"]) == ("blue", "a deleted run", "Lea", "zip")
    assert "would tell it" in ask(client, small, "why", status=422, id=blind["id"])["error"]["hint"]
    assert ask(client, small, "why", status=404, id=shown["id"])["error"]["message"]


@pytest.mark.parametrize("draw", [0.0, 0.99])
def test_a_filter_by_class_does_not_tell_the_answer_of_what_is_decided_blind(
    client: TestClient, small: Dataset, waiting: Callable[..., int], monkeypatch: pytest.MonkeyPatch, draw: float
) -> None:
    monkeypatch.setattr("core.data.queue.random.random", lambda: draw)
    seconds = {waiting("s.png", "green", state="second"), waiting("t.png", "red", state="second")}
    blind_green, _blind_red = waiting("b.png", "green", blind=True), waiting("c.png", "red", blind=True)
    reds, _green = {waiting("r.png", "red"), waiting("q.png", "red")}, waiting("g.png", "green")
    dealt = {one["id"] for one in ask(client, small, "deal", predicted="red", count=5)["items"]}
    # Of those that wait, one in ten is blind, and which one that is does not depend on its answer; without the draw, none comes
    assert dealt == seconds | reds | ({blind_green} if draw == 0 else set())


def test_what_is_left_to_others_is_never_dealt_to_one_blind_or_not_and_nothing_says_so(
    client: TestClient, small: Dataset, waiting: Callable[..., int]
) -> None:
    spared = {waiting("a.png", "red"), waiting("b.png", "red", blind=True), waiting("s.png", "red", state="second")}
    other = waiting("c.png", "green", blind=True)
    found = ask(client, small, "deal", without=["red"])
    assert [one["id"] for one in found["items"]] == [other] and found["waiting"] == 4
    assert {one["id"] for one in ask(client, small, "deal", "Bo")["items"]} == spared


def test_a_known_answer_bears_no_name_that_gives_it_away_in_the_queue_or_among_ones_decisions(
    client: TestClient, small: Dataset, waiting: Callable[..., int]
) -> None:
    one = waiting("red-7.png", "red", state="known", known="red")
    ask(client, small, "decide", id=one, verdict="corrected", label="red", operation="one", hint=False)
    assert [row["name"] for row in ask(client, small, "last")["decisions"]] == [queue.get(one).image_id[:8]]


def test_a_known_answer_is_not_told_by_being_dealt_alone_or_by_the_counts(
    client: TestClient, small: Dataset, waiting: Callable[..., int]
) -> None:
    waiting("k.png", state="known", known="red")
    want = queue.Deal("page", "Ann", known=1)
    assert queue.deal(small.id, want, 4) == []
    waiting("a.png")
    dealt = queue.deal(small.id, want, 4)
    assert {one.state for one in dealt} == {"known", "waiting"}
    assert ask(client, small, "claims", session="page", act="renew", ids=[one.id for one in dealt])["waiting"] == 2


def test_a_known_answer_is_not_dealt_beside_known_ones_alone_and_a_page_of_them_is_counted_at_once(
    small: Dataset, waiting: Callable[..., int]
) -> None:
    first, *_ = [waiting(f"k{i}.png", state="known", known="red") for i in range(4)]
    queue.claim(first, "page", "Ann")
    want = queue.Deal("page", "Ann", known=1)
    assert queue.deal(small.id, want, 3, [first]) == [] and queue.held_known(small.id, "page") == 1
    waits = waiting("a.png")
    queue.claim(waits, "page", "Ann")
    assert len(queue.deal(small.id, want, 3, [first, waits])) == 3
    asked: list[str] = []
    sa.event.listen(schema.engine(), "before_cursor_execute", lambda _c, _cursor, statement, *_: asked.append(statement))
    assert review._counts(small.id, "page", "Ann")["waiting"] == 5
    assert len(asked) <= 6


def test_people_who_wait_for_a_map_do_not_keep_others_from_deciding(
    small: Dataset, waiting: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, made = waiting("a.png"), threading.Event()
    monkeypatch.setattr(why, "why", lambda _: made.wait(30) and why.Why(b"", ""))
    app = Starlette(routes=routes.ROUTES)
    said = {"dataset_id": small.id, "session": "page", "id": one, "verdict": "accepted", "operation": "one"}

    async def many() -> int:
        transport, headers = httpx.ASGITransport(app), {"X-Loupe-Token": signing.token("Ann")}
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://loupe", headers=headers) as people,
            anyio.create_task_group() as group,
        ):
            for _ in range(60):  # more than there are threads
                group.start_soon(partial(people.post, "/api/review/why", json=said))
            await anyio.wait_all_tasks_blocked()
            try:
                with anyio.fail_after(20):
                    answer = await people.post("/api/review/decide", json=said)
            finally:
                made.set()
        return answer.status_code

    assert anyio.run(many) == 200


@pytest.mark.parametrize("count", [1, 3])
def test_a_small_deal_holds_known_answers_at_their_share(
    small: Dataset, waiting: Callable[..., int], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    for i in range(5):
        waiting(f"{i}.png")
        waiting(f"k{i}.png", state="known", known="red")
    draws = iter(np.linspace(0, 1, 20, endpoint=False))
    monkeypatch.setattr("core.data.queue.random.random", lambda: next(draws))
    want = queue.Deal("page", "Ann", known=10)
    dealt = [one.state for _ in range(20) for one in queue.deal(small.id, want, count)]
    assert dealt.count("known") == pytest.approx(0.1 * len(dealt), rel=0.05)
