"""Review's queue in a real Chromium: two people by keys alone, with a restart in the middle, and what a person sees of it."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from core.data import images, queue, store, uploads
from core.review import bands, policy, review
from core.train import train
from core.types import Dataset, Prediction
from tests.browser.conftest import Server, new_tab, schemes
from tests.browser.pictures import digit_png
from tests.conftest import forget, move_in
from tests.waiting import until


@contextmanager
def inside(server: Server) -> Iterator[Dataset]:
    """The dataset “digits” for this process, beside the server."""
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, server.home)
        found = store.find_dataset("digits")
        assert found is not None
        yield found
        forget()


def fill(server: Server, first: int, n: int) -> None:
    """So many pictures more in the queue, and none of them dealt out to anybody."""
    with inside(server) as digits:
        rows = []
        for i in range(first, first + n):
            pixels = np.random.default_rng(i).integers(0, 256, (6, 8, 3), np.uint8).repeat(40, 0).repeat(40, 1)
            kept = uploads.keep(f"p{i}.png", images.png(pixels))
            said = {"predicted": str(i % 10), "probability": 0.5 + i / 1000, "probabilities": {str(i % 10): 0.5 + i / 1000}}
            told = {"image_id": kept.id, "ext": "png", "name": kept.name, "by": "Lea"}
            rows.append({"dataset_id": digits.id, "run_id": "deleted", **told, **said})
        assert queue.add(rows).count("new") == n
    with sqlite3.connect(server.home / "loupe.db") as c:
        c.execute("DELETE FROM review_claims")


def stored(server: Server, query: str) -> list[tuple]:
    with sqlite3.connect(f"file:{server.home / 'loupe.db'}?mode=ro", uri=True) as c:
        return c.execute(query).fetchall()


def opened(server: Server, browser: Browser, name: str) -> Page:
    page = new_tab(browser, {"width": 1200, "height": 900})
    page.context.add_cookies([{"name": "loupe_user", "value": name, "url": server.url}])
    page.goto(f"{server.url}/review?dataset=digits")
    seen(page)
    return page


def seen(page: Page) -> str:
    """The picture on the screen, long enough to be meant by a key."""
    expect(page.locator(".stage[data-state=ready]")).to_be_visible(timeout=60_000)  # the first one waits for the model worker
    page.wait_for_timeout(230)
    return page.locator(".one .name").inner_text()


@pytest.mark.timeout(400)
def test_two_people_decide_on_forty_pictures_by_keys_with_a_restart_in_between_none_lost_and_none_twice(
    server: Server, browser: Browser
) -> None:
    fill(server, 0, 40)
    pages = [opened(server, browser, name) for name in ("Ann", "Bo")]
    pressed = Counter[str]()
    for turn in range(20):
        for number, page in enumerate(pages):
            if page.locator(".empty").is_visible() or sum(pressed.values()) == 40:
                continue
            pressed[seen(page)] += 1
            page.keyboard.press(("a", "x", "7")[(turn + number) % 3])
        if turn == 7:
            server.stop()
        if turn == 8:
            expect(pages[0].locator(".unsaved")).to_contain_text("to be saved: the server does not answer")
            server.start()
    for page in pages:
        while page.locator(".stage[data-state=ready]").is_visible():  # the other one's are all decided
            pressed[seen(page)] += 1
            page.keyboard.press("a")
        expect(page.locator(".unsaved")).to_have_text("", timeout=30_000)
        assert page.locator(".notice").all_inner_texts() == []
    made = stored(server, "SELECT name, count(*) FROM decisions d JOIN submissions s ON s.id = d.submission_id GROUP BY name")
    assert len(made) == 40 and {n for _, n in made} == {1}
    assert pressed == Counter({name: 1 for name, _ in made})  # no picture was with both
    who = dict(stored(server, "SELECT by, count(*) FROM decisions GROUP BY by"))
    assert who.keys() == {"Ann", "Bo"} and min(who.values()) >= 10
    for page in pages:
        page.context.close()


def test_a_note_a_grid_and_care_for_oneself(server: Server, browser: Browser, page: Page) -> None:
    fill(server, 100, 18)
    page.goto(f"{server.url}/review?dataset=digits&order=uncertain")
    first = seen(page)
    told = page.locator(".yes").get_attribute("data-label")
    expect(page.locator(".yes .text")).to_have_text(f"Yes: {told}")
    expect(page.locator(f".class[data-label='{told}']")).to_be_hidden()  # one key for one answer
    page.keyboard.press("?")
    expect(page.get_by_role("dialog").get_by_text("none of these: it never joins the dataset")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.get_by_role("textbox", name="Note for the lead").press_sequentially("a x 1")
    page.keyboard.press("Control+Enter")
    assert seen(page) != first
    expect(page.locator(".past")).to_contain_text("escalated")
    page.keyboard.press("Space")
    expect(page.locator(".back")).to_have_text("Bring back what I skipped (1)")

    # Somebody gets the next one by name; one that was explained is there on the way back
    with inside(server) as digits:
        review.decide(queue.browse(digits.id, queue.Which(text="p117.png"))[0].id, "rejected", None, "Ann", session="hers")
    handed = seen(page)
    page.keyboard.press("o")
    page.get_by_role("combobox", name="To whom").select_option("Ann")
    page.keyboard.press("Enter")
    explained = seen(page)
    assert explained != handed
    expect(page.locator(".unsaved")).to_have_text("")
    query = "SELECT name FROM review_claims c JOIN submissions s ON s.id = c.submission_id WHERE c.session = 'for Ann'"
    assert (handed,) in stored(server, query)
    page.keyboard.press("Enter")
    expect(page.locator(".said .tip")).to_contain_text("There is no run")  # it was deleted
    dot = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='9' height='9'%3E%3Crect width='9' height='9'/%3E%3C/svg%3E"
    asked: list[Route] = []
    page.route("**/api/review/why", lambda route: asked.append(route))
    for picture in ("data:image/png;base64,AAAA", dot):
        asked.clear()
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")  # while it waits: it is asked once
        expect(page.locator(".said .tip")).to_contain_text("Looking")
        while not asked:
            page.wait_for_timeout(50)
        asked[0].fulfill(json={"picture": picture, "words": "Red speaks for “2”."})
        if picture != dot:
            expect(page.locator(".said .tip")).to_contain_text("The map cannot be shown")
    expect(page.locator(".map")).to_contain_text("Red speaks for “2”.")
    assert len(asked) == 1
    expect(page.locator(".frame img")).to_have_attribute("src", dot)
    page.keyboard.press("Enter")
    expect(page.locator(".map")).to_be_hidden()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="More on Explain").click()
    expect(page).to_have_url(re.compile("/explain"))
    dealt = "SELECT count(*) FROM review_claims WHERE session NOT LIKE 'for %'"
    until(lambda: stored(server, dealt) == [(0,)], "that what was dealt out is given back")
    page.goto(f"{server.url}/review?dataset=digits&order=oldest")
    assert seen(page) == explained

    # Keys work after a click on a toggle, and what one set for a class is kept by this browser alone
    page.get_by_role("button", name="Care", exact=True).click()
    page.get_by_role("checkbox", name="Blur 2", exact=True).check()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Grey", exact=True).click()
    before = seen(page)
    page.keyboard.press("x")
    assert seen(page) != before

    # The grid: choose two, decide with one key
    page.locator(".st-key-review-view").get_by_text("Grid").click()
    cells = page.locator(".cells .cell")
    expect(cells).to_have_count(12)
    assert "blur" in page.locator(".cell.care-blur img").first.evaluate("e => getComputedStyle(e).filter")
    cells.nth(2).click()
    cells.nth(4).click()
    expect(page.locator(".chosen")).to_have_text("2 pictures of 12 chosen")
    page.keyboard.press("5")
    expect(page.locator(".cell.done .what")).to_have_text(["5", "5"])
    expect(page.locator(".past .what").first).to_have_text("5")
    page.locator(".st-key-review-view").get_by_text("Decisions").click()
    expect(page.get_by_text(" decisions, newest first").first).to_be_visible()


# Of a text against what lies behind it, layer upon layer: WCAG's contrast ratio.
CONTRAST = """text => {
  const numbers = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number), layers = [];
  for (let e = text; e; e = e.parentElement) {
    const [r, g, b, a = 1] = numbers(getComputedStyle(e).backgroundColor);
    if (a > 0) layers.unshift([r, g, b, a]);
    if (a === 1) break;
  }
  const behind = layers.reduce((under, over) => under.map((v, i) => v * (1 - over[3]) + over[i] * over[3]), [255, 255, 255]);
  const light = (color) => color.slice(0, 3).map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const two = [light(numbers(getComputedStyle(text).color)), light(behind)].sort((a, b) => b - a);
  return (two[0] + 0.05) / (two[1] + 0.05);
}"""


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1024, 768), (390, 844)])
def test_it_fits_and_what_decides_is_in_sight(server: Server, page: Page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme="dark" if width == 1024 else "light")  # it begins in either, and follows the other
    fill(server, width * 100, 7)
    have = {"label": "7", "split": "train", "known": True}
    about: dict[str, object] = {"have": have, "answers": [], "earlier": [], "frames": None}
    page.route("**/api/review/about/*", lambda route: route.fulfill(json=about))
    page.goto(f"{server.url}/review?dataset=digits&order=oldest")
    seen(page)
    page.wait_for_timeout(500)
    whole = "img => img.getBoundingClientRect().bottom <= img.closest('.stage').getBoundingClientRect().bottom + 1"
    assert page.locator(".frame img").evaluate(whole)
    yes = page.locator(".yes")
    for _ in schemes(page):
        assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
        expect(yes).to_be_in_viewport(ratio=1)
    told = yes.get_attribute("data-label")  # yes keeps the label that the dataset has; to change it is a button of its own
    expect(page.locator(f".class[data-label='{told}'] .text")).to_have_text(f"{told}: change the label from 7")
    place = yes.bounding_box()
    page.locator(".would").evaluate("e => (e.textContent = 'The policy would let it pass.')")
    assert yes.bounding_box() == place  # no tap lands on what has just moved
    page.get_by_role("button", name="Hold", exact=True).click()  # on a phone below the keys
    expect(page.locator(".tip")).to_contain_text("kept for you for 30 minutes")
    for _ in schemes(page):
        expect(page.locator(".tip")).to_be_in_viewport(ratio=1)
    page.evaluate("scrollTo(0, 0)")
    page.locator(".queue").evaluate("e => innerWidth < 560 && e.scrollIntoView()")
    if width == 390:  # ten classes of long names: the whole picture and what decides, one above the other, without a finger's move
        page.locator(".class[data-label] .text").evaluate_all("all => all.forEach((e, i) => (e.textContent = `class number ${i} of ten`))")
        page.wait_for_timeout(300)
        for _ in schemes(page):
            header, stage, keys = (page.locator(one).bounding_box() for one in ("[data-testid=stHeader]", ".stage", ".decide"))
            assert header and stage and keys
            assert header["y"] + header["height"] <= stage["y"] and stage["y"] + stage["height"] <= keys["y"], (header, stage, keys)
            for one in page.locator(".decide button:visible").all():
                expect(one).to_be_in_viewport(ratio=1)
        page.route("**/api/review/decide", lambda route: route.fulfill(status=409, json={"error": {"message": "Bo has decided on it: 7."}}))
        page.keyboard.press("x")
        expect(page.locator(".notice")).to_contain_text("Bo has decided on it: 7.")
        said, picture = page.locator(".notices").bounding_box(), page.locator(".frame").bounding_box()
        assert said and picture and said["y"] + said["height"] <= picture["y"] and picture["height"] > 100  # it lies beside the picture
        page.get_by_role("button", name="Close this message").click()
        page.unroute("**/api/review/decide")
        page.locator(".st-key-review-view").get_by_text("Grid").click()
        cells = page.locator(".cells .cell")
        expect(cells.nth(5)).to_be_in_viewport(ratio=1)
        expect(page.locator(".bar .class").first).to_be_hidden()
        page.keyboard.press("a")
        expect(page.locator(".notice")).to_be_in_viewport(ratio=1)  # above the keys, where the eyes are
        page.get_by_role("button", name="Close this message").click()
        cells.nth(5).click()
        for _ in schemes(page):
            for one in page.locator(".bar button").all():
                expect(one).to_be_in_viewport(ratio=1)
            expect(cells.nth(5)).to_be_in_viewport(ratio=1)
            chosen, bar = cells.nth(5).bounding_box(), page.locator(".bar").bounding_box()
            assert chosen and bar and chosen["y"] + chosen["height"] <= bar["y"], (chosen, bar)
        page.set_viewport_size({"width": 667, "height": 375})  # the phone is turned: keys beside the pictures, in either view
        for one in page.locator(".bar button").all():
            expect(one).to_be_in_viewport(ratio=1)
        page.locator(".st-key-review-view").get_by_text("Queue").click()
        seen(page)
        for _ in schemes(page):
            header, stage, keys = (page.locator(one).bounding_box() for one in ("[data-testid=stHeader]", ".stage", ".decide"))
            assert header and stage and keys and stage["x"] + stage["width"] <= keys["x"]
            assert header["y"] + header["height"] <= stage["y"] and max(stage["y"] + stage["height"], keys["y"] + keys["height"]) <= 375
            assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
        return
    chip = page.locator(".st-key-chips").get_by_text("to review")
    for _ in schemes(page):
        assert chip.evaluate(CONTRAST) >= 4.5, chip.evaluate("e => getComputedStyle(e).color")


def test_what_a_lead_accepts_is_learned_and_a_policy_for_the_run_that_learned_it_is_made_active(server: Server, page: Page) -> None:
    server.core("train", "--dataset", "digits", "--architecture", "linear", "--set", "epochs=1", "--wait")
    with inside(server) as digits:
        (old,) = train.usable(digits.id)
        said = policy.Rules({"3": bands.Limits(0.2, 0.9)}, blind=0.0, second=0.0)
        policy.activate(policy.write(digits.id, old.run.id, "Strict on 3", said).id)
        for i in range(12):  # the digits 0 to 9, then 0 and 1: 3 is taken for 8
            kept = uploads.keep(f"new-{i}.png", digit_png(i))
            shares = (0.05, 0.05, 0.05, 0.5, 0.05, 0.05, 0.05, 0.05, 0.1, 0.05)
            assert review.submit(digits.id, old.run.id, Prediction(kept.name, kept.id, old.run.classes, shares), "Lea")
        for one in queue.browse(digits.id, queue.Which(("waiting",), text="new-")):
            review.decide(one.id, "corrected", str(int(one.name[4:-4]) % 10), "Ann")

    # What a camera takes is answered, on a laptop and on a phone
    page.goto(f"{server.url}/predict?dataset=digits")
    for width, height in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        page.get_by_role("button", name="Camera").click()
        if width == 390:
            page.get_by_role("button", name="Clear photo").click()
        page.wait_for_function("() => document.querySelector('video')?.readyState === 4")
        page.get_by_role("button", name="Take Photo").click()
        expect(page.get_by_role("button", name="Clear photo")).to_be_visible()
        expect(page.get_by_role("button", name="Send all 1 to review")).to_be_visible(timeout=60_000)
        page.keyboard.press("Escape")
    assert stored(server, "SELECT count(*) > 0 FROM submissions WHERE source = 'camera'") == [(1,)]

    # A lead lets them into the dataset, and trains as the run in use was trained
    page.goto(f"{server.url}/review?dataset=digits&view=basket")
    expect(page.get_by_role("heading", name="12 decisions wait")).to_be_visible()
    page.get_by_role("button", name="Accept all 12").click()
    page.get_by_role("dialog").get_by_role("button", name="Accept all").click()
    expect(page.get_by_text("12 decisions have joined the dataset.")).to_be_visible()
    page.get_by_role("button", name="Train with them").click()
    expect(page.get_by_text(f"The form holds the settings of {old.run.name}.")).to_be_visible()
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", name=old.run.name)).to_have_count(0)
    expect(page.locator(".lp-what").last).to_contain_text("Finished", timeout=60_000)
    with inside(server) as digits:
        new = next(one.run for one in train.usable(digits.id) if one.run.id != old.run.id)
    assert new.config == old.run.config

    # Old against new on the same frozen test images, with the flips both ways
    page.goto(f"{server.url}/review?dataset=digits&view=basket")
    expect(page.get_by_role("combobox", name="New run")).to_have_value(
        re.compile(f"{new.name}, learned from [1-9][0-9]? of the 12 accepted")
    )
    page.get_by_text("Test images", exact=True).click()
    for _ in range(2):
        page.get_by_role("button", name="Open the test set").first.click()
    for way in ("Right before, wrong now", "Wrong before, right now"):
        chosen = page.get_by_text(re.compile(f"{way}: [1-9]"))
        chosen.click()
        pictures = page.get_by_role("button", name=re.compile("labelled [0-9], A: [0-9] [0-9]+% · B: [0-9] [0-9]+%, test"))
        expect(pictures).to_have_count(min(24, int(chosen.inner_text().rpartition(" ")[2])))  # a page of them

    # Its thresholds are set anew, and the policy under the new run is made active
    page.get_by_role("button", name="Set its thresholds").click()
    page.get_by_role("textbox", name="Name of the version").fill("Stricter on 3")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Save as a version").click()
    newest = page.locator("[class*=st-key-row-policy-]").first
    expect(newest).to_contain_text("No. 2 · Stricter on 3")
    expect(newest).to_contain_text(f"for the run {new.name}")
    newest.get_by_role("button", name="Make active").click()
    page.get_by_role("dialog").get_by_role("button", name="Make it active").click()
    expect(newest).to_contain_text("active")
    expect(newest.get_by_role("button", name="Turn off")).to_be_visible()
    with inside(server) as digits:
        acting = policy.active(digits.id)
        assert acting is not None and acting.run_id == new.id and set(policy.rules(acting).limits) == {"3"}
