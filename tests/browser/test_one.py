"""Labelling one picture at a time, on a server of its own: it takes the labels of its images away."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from core import data
from core.data import dataset, store
from core.types import Image
from tests.browser.conftest import Server, schemes, serving, widths


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("one"), sample) as one:
        yield one


def digits() -> tuple[int, list[Image]]:
    found = store.find_dataset("digits")
    assert found is not None
    return found.id, dataset.browse(found.id, store.Filter(), 1, 5000)[0]


def labels(server: Server) -> dict[str, str | None]:
    with server.inside():
        return {i.source: i.label for i in digits()[1]}


def label(images: list[Image], name: str | None, by: str) -> None:
    data.labels.apply(digits()[0], {i.id: i.label_seq for i in images}, name, by, uuid.uuid4().hex)


def by_anna(server: Server, picture: str) -> None:
    with server.inside():
        label([i for i in digits()[1] if i.source == picture], "7", "Anna")


def prepare(server: Server, unlabelled: int) -> None:
    """So many images without a label, none of them flagged, and none dealt out to anybody."""
    with server.inside():
        made, images = digits()
        for name, some in ((None, [i for i in images[:unlabelled] if i.label]), ("0", [i for i in images[unlabelled:] if not i.label])):
            if some:
                label(some, name, "test")
        if flagged := [i for i in images if i.flagged]:
            data.labels.flag(made, {i.id: i.label_seq for i in flagged}, False, "test", uuid.uuid4().hex)
    with sqlite3.connect(server.home / "loupe.db") as c:
        c.execute("delete from claims")


def visit(page: Page, server: Server, unlabelled: int = 60) -> None:
    """The page, with so many images to label."""
    prepare(server, unlabelled)
    page.goto(f"{server.url}/label?dataset=digits&view=One+at+a+time")
    expect(page.locator(".stage[data-state=ready]")).to_be_visible()
    expect(page.locator(".stage")).to_be_focused()


def name(page: Page) -> str:
    return page.locator(".name").inner_text()


def strip(page: Page) -> list[str]:
    return page.locator(".decision .text").all_inner_texts()


def saved(page: Page) -> None:
    page.wait_for_function("() => !Object.keys(sessionStorage).some((name) => name.startsWith('loupe.label.'))")  # what waits to be sent
    expect(page.locator(".badge.pending")).to_have_count(0)
    expect(page.locator(".unsaved")).to_have_text("")


def test_keys_label_and_advance_and_all_is_saved(own: Server, page: Page) -> None:
    visit(page, own)
    expect(page.locator(".place")).to_have_text("1 of 30 in this batch")
    given: dict[str, str] = {}
    for i in range(24):  # into the next batch, faster than anybody looks
        key = str(i % 10)
        before = name(page)
        assert before not in given
        given[before] = key
        page.keyboard.down(key)
        assert name(page) != before  # before the key is up
        page.keyboard.up(key)
        page.wait_for_timeout(60)
    assert strip(page) == [str(i % 10) for i in range(23, 13, -1)]
    expect(page.locator(".labelled")).to_have_text("1,761 of 1,797 labelled")
    saved(page)
    expect(page.locator(".place")).not_to_have_text("25 of 30 in this batch")  # further ones have come
    stored = labels(own)
    assert {n: stored[n] for n in given} == given
    page.wait_for_timeout(1500)  # a rerun of the page changes nothing in sight
    expect(page.locator(".labelled")).to_have_text("1,761 of 1,797 labelled")
    assert name(page) not in given


def test_a_held_key_labels_one_picture(own: Server, page: Page) -> None:
    visit(page, own)
    first = name(page)
    page.keyboard.down("3")
    second = name(page)
    for _ in range(8):
        page.keyboard.down("3")  # the browser repeats it
    page.keyboard.up("3")
    assert second != first and name(page) == second
    assert strip(page) == ["3"]


def test_undo_returns_to_the_picture_and_redo_goes_on(own: Server, page: Page) -> None:
    visit(page, own)
    first = name(page)
    page.keyboard.press("3")
    second = name(page)
    page.keyboard.press("4")
    third = name(page)
    page.keyboard.press("Control+z")
    assert name(page) == second and strip(page) == ["3"]
    expect(page.locator(".said")).to_have_text(f"Undone. {second}: no label")
    page.keyboard.press("Control+z")
    assert name(page) == first and strip(page) == []
    page.keyboard.press("Control+Shift+z")
    page.keyboard.press("Control+Shift+z")
    assert name(page) == third and strip(page) == ["4", "3"]
    page.keyboard.press("Space")
    assert name(page) not in (first, second, third)
    page.keyboard.press("Control+z")  # a skip, too
    assert name(page) == third
    page.keyboard.press("Backspace")  # it has no label: the last decision is taken back
    assert name(page) == second and strip(page) == ["3"]
    saved(page)
    stored = labels(own)
    assert (stored[first], stored[second]) == ("3", None)


def test_a_decision_is_changed_from_the_strip_and_the_work_goes_on_where_it_was(own: Server, page: Page) -> None:
    visit(page, own)
    names = []
    for key in "123":
        names.append(name(page))
        page.keyboard.press(key)
    here = name(page)
    page.locator(".decision").nth(2).click()
    assert name(page) == names[0]
    expect(page.locator(".class[aria-pressed=true]")).to_have_attribute("data-label", "1")
    page.keyboard.press("9")
    assert name(page) == here and strip(page) == ["9", "3", "2"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Backspace")
    assert name(page) == names[2] and strip(page) == ["9", "2"]
    page.locator(".class[data-label='5']").click()
    assert name(page) == here and strip(page) == ["5", "9", "2"]
    expect(page.locator(".stage")).to_be_focused()
    saved(page)
    stored = labels(own)
    assert [stored[n] for n in names] == ["9", "2", "5"]


def test_a_skipped_picture_comes_again_at_the_end_and_the_last_decisions_stay(own: Server, page: Page) -> None:
    visit(page, own, 4)
    skipped = name(page)
    page.keyboard.press("Space")
    for _ in range(3):
        assert name(page) != skipped
        page.keyboard.press("1")
    assert name(page) == skipped
    page.keyboard.press("Space")
    expect(page.locator(".said")).to_have_text("This is the only one left")
    page.keyboard.press("2")
    saved(page)
    assert labels(own)[skipped] == "2"
    expect(page.get_by_text("Nothing left to label")).to_be_visible()
    expect(page.locator(".over")).to_contain_text("That was the last one")
    page.locator(".decision").last.click()  # those made can be changed all the same
    page.keyboard.press("5")
    saved(page)
    assert strip(page) == ["5", "2", "1", "1"]
    expect(page.locator(".over")).to_be_visible()


def test_zoom_blur_flag_and_the_sheet_of_keys(own: Server, page: Page) -> None:
    visit(page, own)
    first = name(page)
    page.keyboard.press("z")
    expect(page.locator(".large img")).to_be_visible()
    page.keyboard.press("1")  # labelling goes on in full size
    assert name(page) != first
    expect(page.locator(".large img")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".large")).to_be_hidden()

    page.keyboard.press("b")
    assert "blur" in page.locator(".frame img").evaluate("e => getComputedStyle(e).filter")
    prepare(own, 60)  # a reload is another session
    page.reload()
    expect(page.locator(".one.blurred .stage[data-state=ready]")).to_be_visible()  # the browser remembers it
    page.keyboard.press("b")
    assert page.locator(".frame img").evaluate("e => getComputedStyle(e).filter") == "none"

    here = name(page)
    page.keyboard.press("f")
    expect(page.locator(".flagged")).to_be_visible()
    page.wait_for_timeout(1500)
    expect(page.locator(".flagged")).to_be_visible()
    assert name(page) == here

    page.keyboard.press("?")
    expect(page.locator(".sheet")).to_be_visible()
    page.keyboard.press("4")
    page.keyboard.press("Escape")
    expect(page.locator(".sheet")).to_be_hidden()
    assert name(page) == here


def test_keys_typed_into_a_field_are_not_labels(own: Server, page: Page) -> None:
    visit(page, own)
    here = name(page)
    page.get_by_role("button", name="tester").click()
    field = page.get_by_role("textbox", name="Your name")
    field.press("End")
    field.press_sequentially("1 2f")
    assert name(page) == here and strip(page) == []
    expect(page.locator(".flagged")).to_be_hidden()


def test_somebody_else_labels_the_picture_shown(own: Server, page: Page) -> None:
    visit(page, own)
    first = name(page)
    by_anna(own, first)
    expect(page.locator(".banner")).to_contain_text("Anna labelled this 7")
    assert name(page) == first
    page.locator(".banner .next").click()
    assert name(page) != first
    saved(page)
    assert labels(own)[first] == "7"


def test_a_refused_label_is_told_and_the_picture_comes_back(own: Server, page: Page) -> None:
    page.route("**/api/changes*", lambda route: route.abort())  # this browser hears nothing of others
    visit(page, own)
    first = name(page)
    by_anna(own, first)
    page.keyboard.press("1")
    second = name(page)
    expect(page.locator(".alert")).to_contain_text("Anna changed")
    assert name(page) == second  # nothing moves under one's eyes
    page.keyboard.press("2")
    assert name(page) == first
    expect(page.locator(".banner")).to_contain_text("Anna labelled this 7")
    page.keyboard.press("1")  # on purpose now
    saved(page)
    stored = labels(own)
    assert (stored[first], stored[second]) == ("1", "2")


def test_a_picture_that_cannot_be_shown_is_not_labelled(own: Server, page: Page) -> None:
    def refuse(route: Route) -> None:
        route.fulfill(status=404)

    prepare(own, 60)
    page.route("**/picture/**", refuse)
    page.route("**/thumb/**", refuse)
    page.goto(f"{own.url}/label?dataset=digits&view=One+at+a+time")
    expect(page.locator(".trouble[data-told=unseen]")).to_contain_text("This picture cannot be shown")
    first = name(page)
    page.keyboard.press("1")
    assert name(page) == first
    expect(page.locator(".said")).to_have_text("Not labelled: the picture cannot be seen")
    page.unroute("**/picture/**")
    page.locator(".again").click()
    expect(page.locator(".stage[data-state=ready]")).to_be_visible()
    page.keyboard.press("1")
    assert name(page) != first


def test_it_fits(own: Server, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    visit(page, own)
    for key in "12345":
        page.keyboard.press(key)
    saved(page)
    for width in widths(page, "one at a time"):
        for _ in schemes(page):
            boxes = [button.bounding_box() for button in page.locator(".class").all()]
            assert len(boxes) == 10 and all(box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
            if width == 390:  # in reach of the thumb, and large enough for it
                assert all(box is not None and box["height"] >= 36 for box in boxes)
                expect(page.locator(".class").last).to_be_in_viewport()
                expect(page.locator(".stage")).to_be_in_viewport(ratio=0.9)
