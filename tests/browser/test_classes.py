"""Classes and history as people use them: two of them, with second thoughts and double clicks."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from core.data import classes, labels, store
from tests.browser.conftest import Server, widths

numbers = itertools.count(1)
COLOURS = {"cat": (200, 120, 40), "dog": (60, 60, 160), "kitten": (230, 170, 110)}


@pytest.fixture
def pets(server: Server, tmp_path: Path) -> str:
    """A dataset of the test's own: four pictures of each class."""
    noise = np.random.default_rng(7)
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        for i in range(4):
            pixels = np.clip(np.array(colour) + noise.integers(-25, 26, (24, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{name}-{i}.png")
    name = f"pets {next(numbers)}"
    server.core("import", str(tmp_path), "--name", name)
    return name


def number(dataset: str) -> int:
    found = store.find_dataset(dataset)
    assert found is not None
    return found.id


def give(dataset: str, old: str, n: int, new: str, by: str) -> None:
    """So many images of a label get another."""
    some = store.browse(number(dataset), store.Filter(label=old), 0, n)
    assert len(labels.apply(number(dataset), {i.id: i.label_seq for i in some}, new, by).seqs) == n


def row(page: Page, name: str) -> Locator:
    return page.locator("[class*=st-key-row-class-]").filter(has=page.locator(".class-row b", has_text=re.compile(f"^{name}$")))


def act(page: Page, words: str) -> Locator:
    return page.locator("[class*=st-key-row-act-]").filter(has_text=words)


def names(page: Page) -> list[str]:
    return page.locator(".class-row b").all_inner_texts()


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


def settled(page: Page) -> None:
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible()
    expect(page.get_by_text("Something went wrong")).to_have_count(0)


def test_classes_are_added_renamed_described_ordered_merged_and_brought_back(server: Server, page: Page, pets: str) -> None:
    page.goto(f"{server.url}/dataset?dataset={pets}&view=Classes")
    expect(page.locator(".class-row")).to_have_count(3)
    page.get_by_role("textbox", name="New class").fill("lynx")
    page.keyboard.press("Enter")
    expect(row(page, "lynx")).to_contain_text("0 images")
    page.get_by_role("textbox", name="New class").fill("CAT")
    page.get_by_role("button", name="Add class").click()
    expect(page.get_by_text("There is a class “cat” already.")).to_be_visible()

    row(page, "lynx").get_by_role("button", name="Up").click()
    expect(page.locator(".class-row b").nth(2)).to_have_text("lynx")
    assert names(page) == ["cat", "dog", "lynx", "kitten"]

    # Rename by Enter; the editor stays open under the new name
    row(page, "dog").get_by_role("button", name="Edit").click()
    editor = page.locator(".st-key-class-editor")
    editor.get_by_role("textbox", name="Name").fill("hound")
    editor.get_by_role("textbox", name="Name").press("Enter")
    expect(row(page, "hound")).to_contain_text("4 images")
    editor.get_by_role("textbox", name="Guideline").fill("Dogs of any breed.\n<b>Not</b> wolves, *not* foxes.")
    editor.get_by_role("button", name="Save guideline").dblclick()
    expect(row(page, "hound").locator(".class-row p")).to_have_text("Dogs of any breed.\n<b>Not</b> wolves, *not* foxes.")
    row(page, "hound").get_by_role("button", name="Close").click()
    expect(editor).to_have_count(0)

    # Merge, asked first; a double click moves the images once
    row(page, "kitten").get_by_role("button", name="Edit").click()
    choose(page, "Merge into", "cat")
    page.get_by_role("button", name="Merge …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Move 4 images from “kitten” to “cat” and retire “kitten”? Can be undone in History.")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    expect(row(page, "kitten")).to_contain_text("4 images")
    page.get_by_role("button", name="Merge …").click()
    dialog.get_by_role("button", name="Merge", exact=True).dblclick()
    expect(dialog).to_have_count(0)
    expect(row(page, "cat")).to_contain_text("8 images")
    expect(row(page, "kitten")).to_have_count(0)

    # Bring back; all of it is there after a reload
    retired = page.locator("[class*=st-key-row-retired-]")
    expect(retired).to_contain_text("4 images get it back")
    retired.get_by_role("button", name="Bring back").dblclick()
    expect(row(page, "kitten")).to_contain_text("4 images")
    expect(retired).to_have_count(0)
    settled(page)
    page.reload()
    expect(page.locator(".class-row b")).to_have_text(["cat", "hound", "lynx", "kitten"])
    page.get_by_text("History", exact=True).first.click()
    expect(page).to_have_url(re.compile("view=History"))
    expect(act(page, "class kitten merged into cat")).to_contain_text("4 images → cat")
    expect(page.locator("[class*=st-key-row-act-]")).to_have_count(3)  # import, merge, brought back


def test_what_somebody_else_did_to_the_class_meanwhile_is_said_and_nothing_is_lost(server: Server, page: Page, pets: str) -> None:
    page.goto(f"{server.url}/dataset?dataset={pets}&view=Classes")
    row(page, "dog").get_by_role("button", name="Edit").click()
    editor = page.locator(".st-key-class-editor")
    editor.get_by_role("textbox", name="Guideline").fill("Mine")
    with server.inside():
        classes.describe(number(pets), "dog", "Theirs")
    editor.get_by_role("button", name="Save guideline").click()
    expect(editor).to_contain_text("Somebody has changed this guideline since.")
    expect(row(page, "dog").locator(".class-row p")).to_have_text("Theirs")
    expect(editor.get_by_role("textbox", name="Guideline")).to_have_value("Mine")
    editor.get_by_role("button", name="Save guideline").click()
    expect(row(page, "dog").locator(".class-row p")).to_have_text("Mine")
    editor.get_by_role("textbox", name="Guideline").fill("A long text")
    with server.inside():
        classes.rename(number(pets), "dog", "hound", "Bob")
    editor.get_by_role("button", name="Save guideline").click()
    expect(page.get_by_text("somebody has renamed, merged or retired it. Your guideline was not saved: A long text")).to_be_visible()
    settled(page)


def test_an_act_is_shown_and_taken_back_and_so_is_everything_of_a_person(server: Server, page: Page, pets: str) -> None:
    with server.inside():
        give(pets, "dog", 3, "cat", "ANN")
        give(pets, "kitten", 2, "dog", "ANN")
        give(pets, "dog", 1, "kitten", "Bob")
        give(pets, "kitten", 1, "cat", "ANN")
    page.goto(f"{server.url}/dataset?dataset={pets}&view=History")
    three = act(page, "3 images → cat")
    expect(three).to_contain_text(re.compile(r"by hand.*ANN, (just now|\d+ minutes? ago)", re.S))
    three.get_by_role("button", name="Show").click()
    expect(page.locator(".cell")).to_have_count(3)
    page.locator(".cell").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("History")
    page.keyboard.press("Escape")
    three.get_by_role("button", name="Hide").click()
    expect(page.locator(".cell")).to_have_count(0)
    three.get_by_role("button", name="Take back").dblclick()
    expect(page.get_by_text("3 images have what they had before.")).to_be_visible()
    expect(three).to_contain_text("all changed since")
    expect(three.get_by_role("button", name="Take back")).to_have_count(0)
    expect(page.locator("[class*=st-key-row-act-]")).to_have_count(6)

    choose(page, "Person", "ANN")
    expect(page.locator("[class*=st-key-row-act-]")).to_have_count(3)
    choose(page, "Period", "Last hour")
    page.get_by_role("button", name="Take back all of ANN").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Take back everything ANN did in the last hour?")
    said = re.search(r"(\d) images? goe?s? back .* (\d) images? stay", dialog.inner_text())
    assert said is not None, dialog.inner_text()
    go, stay = map(int, said.groups())
    assert go and stay >= 3 and go + stay in (5, 6)
    dialog.get_by_role("button", name=f"Take back {go} image").dblclick()
    expect(dialog).to_have_count(0)
    expect(page.get_by_text(f"{stay} changed since and stay")).to_be_visible()
    expect(page.get_by_role("combobox", name="Person")).to_have_value(re.compile("ANN"))
    for one in page.locator("[class*=st-key-row-act-]").all():
        expect(one.get_by_role("button", name="Take back")).to_have_count(0)

    # The taking back can be taken back
    choose(page, "Person", "Everybody")
    back = page.locator("[class*=st-key-row-act-]").first
    expect(back).to_contain_text("taken back")
    back.get_by_role("button", name="Take back").click()
    expect(back).to_contain_text(f"{go} image")
    expect(page.locator("[class*=st-key-row-act-]")).to_have_count(8)
    settled(page)


def test_an_image_goes_back_is_flagged_and_becomes_an_example_in_its_drawer(server: Server, page: Page, pets: str) -> None:
    with server.inside():
        give(pets, "dog", 1, "cat", "ANN")
    page.goto(f"{server.url}/dataset?dataset={pets}&view=History")
    act(page, "1 image → cat").get_by_role("button", name="Show").click()
    page.locator(".cell").first.click()
    drawer = page.get_by_role("dialog")
    places = [drawer.get_by_text(text, exact=True).bounding_box() for text in ("File", "History", "What the network receives")]
    assert [box["y"] for box in places if box] == sorted(box["y"] for box in places if box) and all(places)
    drawer.get_by_text("History", exact=True).click()
    event = drawer.locator("[class*=st-key-event-]").filter(has_text="dog → cat")
    expect(event).to_contain_text(re.compile(r"by hand.*ANN, (just now|.* ago)", re.S))
    event.get_by_role("button", name="Go back to before this").dblclick()
    expect(drawer.locator("[class*=st-key-event-]").first).to_contain_text("cat → dog")
    expect(drawer.locator("[class*=st-key-event-]").first).to_contain_text("taken back")
    expect(drawer.locator("[class*=st-key-event-]")).to_have_count(3)

    drawer.get_by_role("button", name="Flag", exact=True).click()
    expect(drawer.get_by_role("button", name="Remove the flag")).to_be_visible()
    expect(drawer.locator("[class*=st-key-event-]").first).to_contain_text("flagged")
    drawer.get_by_role("button", name="Example of").click()
    page.get_by_text("Only looks like it").click()
    expect(drawer.get_by_text("Example of what is not dog")).to_be_visible()

    # Somebody changes the image while the drawer is open
    with server.inside():
        give(pets, "dog", 4, "kitten", "Bob")
    event.get_by_role("button", name="Go back to before this").click()
    expect(drawer.get_by_text("Bob has changed this image since.")).to_be_visible()
    expect(drawer.locator("[class*=st-key-event-]").first).to_contain_text("dog → kitten")
    page.keyboard.press("Escape")

    page.get_by_text("Browse", exact=True).first.click()
    page.get_by_role("combobox", name="State").click()
    page.get_by_role("option", name="Flagged (1)").click()
    expect(page.locator(".cell")).to_have_count(1)
    page.get_by_text("Classes", exact=True).first.click()
    expect(row(page, "dog").locator(".no img")).to_have_count(1)
    expect(row(page, "kitten")).to_contain_text("8 images, 1 flagged")
    row(page, "dog").get_by_role("button", name="Edit").click()
    page.locator(".st-key-class-editor [class*=st-key-example-] button").click()
    expect(page.locator(".st-key-class-editor img")).to_have_count(0)
    settled(page)


@pytest.mark.parametrize("view", ["Classes", "History"])
def test_the_views_fit_wide_and_narrow_windows(server: Server, page: Page, pets: str, view: str) -> None:
    page.goto(f"{server.url}/dataset?dataset={pets}&view={view}")
    button = page.get_by_role("button", name="Edit" if view == "Classes" else "Show").first
    button.click()
    expect(page.locator(".st-key-class-editor" if view == "Classes" else ".cell").first).to_be_visible()
    settled(page)
    for _ in widths(page, view):
        pass
