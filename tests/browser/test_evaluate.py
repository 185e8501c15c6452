"""Cell, image, class: three clicks, and the matrix is right afterwards, by a count that shares no line with the app."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from sklearn.datasets import load_digits

from tests.browser.conftest import ROOT, Server, settled, widths

DATA = ROOT.parent / "shared" / "data"
SAID = re.compile(r"^actual (.+), predicted (.+): (\d[\d,]*) of ")


@dataclass(frozen=True)
class Judged:
    """A dataset and a run that has judged it, counted with plain Python from predictions.csv and the events of the labels."""

    server: Server
    dataset: str
    run: str

    @property
    def url(self) -> str:
        return f"{self.server.url}/evaluate?dataset={self.dataset}&run={self.run}"

    @property
    def folder(self) -> Path:
        return self.server.home / "runs" / self.run

    def answers(self, split: str = "validation") -> dict[str, tuple[str, str]]:
        """(label at training, answer) by image id."""
        with open(self.folder / "predictions.csv", newline="", encoding="utf-8") as f:
            return {row["image_id"]: (row["true"], row["predicted"]) for row in csv.DictReader(f) if row["split"] == split}

    def labels(self) -> dict[str, str | None]:
        """Today's label by image id: the last event's."""
        with sqlite3.connect(f"file:{self.server.home / 'loupe.db'}?mode=ro", uri=True) as c:
            dataset_id = json.loads((self.folder / "config.json").read_text())["dataset_id"]
            return dict(c.execute("SELECT image_id, label FROM label_events WHERE dataset_id = ? ORDER BY seq", (dataset_id,)).fetchall())

    def images(self, actual: str, predicted: str) -> set[str]:
        now = self.labels()
        return {i for i, (_, answer) in self.answers().items() if (now.get(i), answer) == (actual, predicted)}

    def counts(self, today: bool = True) -> Counter[tuple[str, str]]:
        now = self.labels()
        found = ((now.get(i) if today else was, answer) for i, (was, answer) in self.answers().items())
        return Counter((label, answer) for label, answer in found if label is not None)


def trained(server: Server, name: str, source: Path, *settings: str) -> Judged:
    server.core("import", str(source), "--name", name)
    server.core("train", "--dataset", name, "--architecture", "linear", "--wait", *(x for s in settings for x in ("--set", s)))
    return Judged(server, name, max(p.name for p in (server.home / "runs").iterdir()))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    found = load_digits()
    for i, (pixels, label) in enumerate(zip(found.images[:500], found.target[:500], strict=True)):
        if label < 6:
            (folder / str(label)).mkdir(exist_ok=True)
            Image.fromarray((pixels * 15.9).astype("uint8")).resize((16, 16)).save(folder / str(label) / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def digits(server: Server, scans: Path) -> Judged:
    return trained(server, "scans", scans, "epochs=1", "learning_rate=0.0005")


@pytest.fixture
def relabelled(server: Server, scans: Path) -> Judged:
    """For one test that changes labels: run again after a failure, it begins from the first labels."""
    return trained(server, f"relabelled-{uuid4().hex[:8]}", scans, "epochs=1", "learning_rate=0.0005")


def visit(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator(".matrix .top[data-cell]")).to_be_visible()
    settled(page)


def click_cell(page: Page, classes: list[str], actual: str | None, predicted: str | None) -> None:
    """A cell, or with None the name of a class beside its row or over its column."""
    top = page.locator(".matrix .top[data-cell]")
    top.scroll_into_view_if_needed()
    box, lies = top.bounding_box(), top.evaluate("e => ({ ...e.dataset })")
    assert box is not None
    left, head, side = (float(lies[name]) for name in ("left", "top", "cell"))
    x = left - 12 if predicted is None else left + (classes.index(predicted) + 0.5) * side
    y = head - 12 if actual is None else head + (classes.index(actual) + 0.5) * side
    page.mouse.click(box["x"] + x, box["y"] + y)


def read(page: Page, size: int) -> Counter[tuple[str, str]]:
    """The whole matrix, walked by keys and heard by what a screen reader hears."""
    page.locator(".matrix .top").focus()
    found: Counter[tuple[str, str]] = Counter()
    for _ in range(size + 1):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    for row in range(size):
        page.keyboard.press("ArrowDown" if row else "ArrowRight")
        if row == 0:
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Home")
        for _ in range(size):
            page.keyboard.press("ArrowRight")
            if said := SAID.match(page.locator(".matrix .spoken").inner_text()):
                found[said[1], said[2]] += int(said[3].replace(",", ""))
    return +found


def heading(page: Page, n: int, what: str) -> None:
    expect(page.get_by_role("heading", name=re.compile(rf"^{n:,} images?: {re.escape(what)}$"))).to_be_visible()


def shown(page: Page) -> set[str]:
    return {str(i) for i in page.locator(".cell").evaluate_all("cells => cells.map((cell) => cell.dataset.id)")}


def three_clicks(page: Page, judged: Judged) -> tuple[str, str, int]:
    """Cell, image, class; returns the cell and how many images it held before."""
    before = judged.counts()
    classes = sorted({name for cell in before for name in cell})
    (actual, predicted), n = max(((cell, n) for cell, n in before.items() if cell[0] != cell[1]), key=lambda one: one[1])
    visit(page, judged.url)
    click_cell(page, classes, actual, predicted)  # one
    heading(page, n, f"actual {actual}, predicted {predicted}")
    expect(page.locator(".cell")).to_have_count(min(n, 60))
    if n <= 60:
        assert shown(page) == judged.images(actual, predicted)
    page.locator(".cell").first.click()  # two
    page.locator(".bar .class").filter(has_text=predicted).first.click()  # three
    heading(page, n - 1, f"actual {actual}, predicted {predicted}")
    expect(page.get_by_text("1 label changed since training")).to_be_visible()
    after = judged.counts()
    assert after - before == Counter({(predicted, predicted): 1}) and before - after == Counter({(actual, predicted): 1})
    return actual, predicted, n


def test_cell_image_class_in_three_clicks_and_the_matrix_is_right_afterwards(page: Page, relabelled: Judged) -> None:
    start = relabelled.counts()
    classes = sorted({name for cell in start for name in cell})
    actual, predicted, n = three_clicks(page, relabelled)
    settled(page)
    assert read(page, len(classes)) == relabelled.counts() != start
    expect(page.locator(".cell")).to_have_count(n)  # what was relabelled does not vanish from under the hand
    expect(page.get_by_text("1 of those shown is counted elsewhere now.")).to_be_visible()

    page.get_by_role("radio", name="Labels it was trained with").click()
    heading(page, n, f"actual {actual}, predicted {predicted}")
    settled(page)
    assert read(page, len(classes)) == relabelled.counts(today=False) == start
    page.get_by_role("radio", name="Labels of today").click()
    heading(page, n - 1, f"actual {actual}, predicted {predicted}")

    # Excluded, an image is counted nowhere; both acts are undone, and all is as it was
    total, right = sum(start.values()), sum(k for (a, p), k in start.items() if a == p)
    page.locator(".cell").first.click()
    page.get_by_role("button", name="Remove label").click()
    expect(page.get_by_text("1 left out: no label of this run's classes")).to_be_visible()
    expect(page.get_by_text(re.compile(rf"n = {total - 1} validation images$")).first).to_be_visible()
    page.get_by_role("button", name="Undo", exact=True).click()
    expect(page.get_by_text(re.compile(rf"n = {total} validation images$")).first).to_be_visible()
    page.get_by_role("button", name="Undo", exact=True).click()
    expect(page.get_by_role("button", name=f"{right} right")).to_be_visible()
    expect(page.get_by_text("changed since training")).to_have_count(0)
    assert relabelled.counts() == start


def test_names_of_classes_numbers_and_keys_lead_to_images_too(page: Page, digits: Judged) -> None:
    counts = digits.counts()
    classes = sorted({name for cell in counts for name in cell})
    row = sum(n for (actual, _), n in counts.items() if actual == "3")
    column = sum(n for (_, predicted), n in counts.items() if predicted == "3")
    visit(page, digits.url)
    click_cell(page, classes, "3", None)
    heading(page, row, "actual 3")
    settled(page)
    click_cell(page, classes, None, "3")
    heading(page, column, "predicted 3")
    settled(page)
    wrong = sum(n for (a, p), n in counts.items() if a != p)
    page.get_by_role("button", name=f"{wrong} wrong").click()
    heading(page, wrong, "mistakes")
    settled(page)

    page.locator(".matrix .top").focus()
    page.keyboard.press("ArrowDown")
    place = page.locator(".matrix .spoken").inner_text()
    said = SAID.match(place)
    assert said is not None, place
    page.keyboard.press("Enter")
    heading(page, counts[said[1], said[2]], f"actual {said[1]}, predicted {said[2]}")
    expect(page).to_have_url(re.compile(rf"actual={said[1]}&predicted={said[2]}"))
    page.reload()  # what was chosen is in the URL
    heading(page, counts[said[1], said[2]], f"actual {said[1]}, predicted {said[2]}")

    # A filter and another order
    page.get_by_role("button", name=f"{wrong} wrong").click()
    heading(page, wrong, "mistakes")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("textbox", name="File name contains").fill("no such name")
    page.get_by_role("textbox", name="File name contains").press("Enter")
    expect(page.get_by_text("No image passes the filter.")).to_be_visible()
    expect(page.get_by_text(f"0 of {wrong} pass")).to_be_visible()


def test_sorted_by_similarity_the_classes_most_often_confused_stand_together(page: Page, digits: Judged) -> None:
    counts = digits.counts()
    rows = Counter[str]()
    for (actual, _), n in counts.items():
        rows[actual] += n
    joins = Counter[frozenset[str]]()
    for (a, p), n in counts.items():
        if a != p:
            joins[frozenset((a, p))] += n / rows[a]  # type: ignore[assignment]
    closest = max(joins, key=lambda pair: joins[pair])
    visit(page, digits.url)
    page.get_by_role("combobox", name="Order of the classes").select_option("similarity")
    page.locator(".matrix .top").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Home")
    order = []
    for _ in range(len(rows)):
        page.keyboard.press("ArrowRight")
        said = SAID.match(page.locator(".matrix .spoken").inner_text())
        assert said is not None
        order.append(said[2])
    assert sorted(order) == sorted(rows)
    places = sorted(order.index(name) for name in closest)
    assert places[1] - places[0] == 1, (order, closest)


def test_test_images_are_shown_only_when_asked_for_and_each_look_is_counted(page: Page, digits: Judged) -> None:
    looks = digits.folder / "looks.jsonl"
    visit(page, digits.url)
    expect(page.get_by_text("test set opened")).to_have_count(0)
    page.get_by_role("radio", name="test", exact=True).click()
    expect(page.get_by_text("This run's test set was opened 0 times, this dataset's 0 times.")).to_be_visible()
    expect(page.locator(".matrix")).to_have_count(0)
    assert not looks.exists()
    page.get_by_role("button", name="Open the test set").click()
    expect(page.get_by_text("test set opened once")).to_be_visible()
    expect(page.get_by_text(re.compile(rf"n = {len(digits.answers('test'))} test images$")).first).to_be_visible()
    for split in ("validation", "test"):  # the same opening
        page.get_by_role("radio", name=split, exact=True).click()
        expect(page.get_by_text(re.compile(rf"n = \d+ {split} images$")).first).to_be_visible()
    assert [json.loads(line)["by"] for line in looks.read_text().splitlines()] == ["tester"]
    digits.server.core("evaluate", digits.run, "--split", "test")
    visit(page, digits.url)  # another session
    expect(page.get_by_text("test set opened 2 times")).to_be_visible()
    page.get_by_role("radio", name="test", exact=True).click()
    expect(page.get_by_text("This run's test set was opened 2 times, this dataset's 2 times.")).to_be_visible()


def test_the_page_fits_with_pictures_shown(page: Page, digits: Judged) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(f"{digits.url}&view=matrix&actual=3")
    views = ("matrix", "classes", "hardest", "thresholds", "calibration", "slices")
    for view, title in zip(views, ("Confusion matrix", "Classes", "Hardest images", "Thresholds", "Calibration", "Slices"), strict=True):
        page.get_by_role("radio", name=title, exact=True).check()
        expect(page).to_have_url(re.compile(f"view={view}"))
        settled(page)
        if view == "matrix":
            expect(page.locator(".cell").first).to_be_visible()
        for width in widths(page, view):
            if view == "matrix":  # wide enough for numbers
                assert float(page.locator(".matrix .top[data-cell]").get_attribute("data-cell") or 0) >= 15, width
        page.set_viewport_size({"width": 390, "height": 900})


@pytest.mark.parametrize(("name", "share"), [("cifar10-6k", 4), ("cats-dogs-600", 1)])
def test_three_clicks_on_real_photographs(page: Page, server: Server, tmp_path: Path, name: str, share: int) -> None:
    file = DATA / f"{name}.zip"
    if not file.exists():
        pytest.skip(f"{file.name} is not in {DATA}")
    with zipfile.ZipFile(file) as given, zipfile.ZipFile(tmp_path / file.name, "w") as some:
        for picture in given.namelist()[::share]:  # 1,500 of the 6,000 fill the cells of ten classes
            some.writestr(picture, given.read(picture))
    judged = trained(server, name, tmp_path / file.name, "epochs=1", "image_size=32")
    three_clicks(page, judged)
    settled(page)
    counts = judged.counts()
    assert read(page, len({a for a, _ in counts})) == counts


def test_a_report_is_stopped_and_made_by_a_double_click_and_opens_by_itself(page: Page, digits: Judged, tmp_path: Path) -> None:
    visit(page, digits.url)
    page.get_by_role("button", name="Report").click()
    page.get_by_role("button", name="Make the report").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("It was stopped; nothing was made.")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Make it again").dblclick()
    with page.expect_download(timeout=120_000) as download:
        page.get_by_role("button", name="Download").click(timeout=120_000)
    file = tmp_path / "report.html"
    download.value.save_as(file)
    right = sum(n for (actual, predicted), n in digits.counts().items() if actual == predicted)
    alone = page.context.new_page()
    alone.goto(f"file://{file}")
    expect(alone.get_by_text(f"{right / digits.counts().total():.1%} of {digits.counts().total()} right")).to_be_visible()
    assert alone.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    alone.close()
