"""Many pictures: a planted mark is named with its counts, its images and the map lead on; and inside the network for one picture."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server

SIDE = 16
SLOW = 90_000  # ms, for what runs in the background


@pytest.fixture(scope="module")
def stamped(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pictures of noise; only a small cross in the corner of one class tells them apart."""
    folder, noise = tmp_path_factory.mktemp("stamped"), np.random.default_rng(0)
    for name in ("plain", "stamped"):
        (folder / name).mkdir()
        for i in range(90):
            coarse = Image.fromarray(noise.integers(30, 170, (4, 4), dtype=np.uint8))
            pixels = np.array(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            if name == "stamped":
                pixels[12, 10:15] = pixels[10:15, 12] = 230
            Image.fromarray(pixels).save(folder / name / f"{name}-{i:02}.png")
    server.core("import", str(folder), "--name", "stamped")
    server.core("train", "--dataset", "stamped", "--architecture", "linear", "--set", "epochs=20", "--set", "patience=0", "--wait")
    server.core("embed", "stamped")
    return f"{server.url}/explain?dataset=stamped"


def test_a_mark_is_named_with_its_counts_and_leads_to_the_images(page: Page, stamped: str) -> None:
    page.goto(f"{stamped}&view=many")
    page.locator(".st-key-patterns-start button").click()
    warning = page.get_by_text(re.compile(r"This class may be read from the lower right corner"))
    expect(warning).to_be_visible(timeout=SLOW)
    text = warning.inner_text()
    counts = re.search(r"changes the answer of (\d+) of (\d+) pictures; filling as much elsewhere (\d+) of (\d+)", text)
    assert counts is not None, text
    here, among, there, tries = (int(n) for n in counts.groups())
    assert here / among > 0.3 > there / tries
    expect(page.get_by_text("This class may be read from")).to_have_count(1)  # the other class has none
    expect(page.locator(".st-key-pattern-0")).to_contain_text("stamped")
    page.locator(".st-key-patterns-images-0 button").click()
    expect(page.locator(".st-key-pattern-0 .cell").first).to_be_visible()

    legend = page.locator(".map .entry")
    expect(legend.first).to_be_visible(timeout=SLOW)
    assert {"right"} <= {one.split("\n")[0] for one in legend.all_inner_texts()}
    page.get_by_text("Predicted class", exact=True).click()
    expect(page.locator(".map .legend .title")).to_contain_text("Prediction")
    legend.filter(has_text="plain").click()
    expect(page.get_by_text(re.compile(r"^\d+ images? selected$"))).to_be_visible()


def test_inside_the_network_lie_neighbours_filters_and_the_reason_for_what_is_missing(page: Page, stamped: str) -> None:
    page.goto(f"{stamped}&part=inside")
    expect(page.get_by_text(re.compile(r"^\d of its 8 nearest training images"))).to_be_visible(timeout=SLOW)
    expect(page.locator(".st-key-inside-nearest .cell")).to_have_count(8)
    expect(page.locator(".st-key-inside-layers")).to_contain_text("No layer of this network keeps places")
    expect(page.locator(".st-key-inside-filters figure")).to_have_count(2)
    page.locator(".st-key-inside-nearest .cell").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("What the network receives")
