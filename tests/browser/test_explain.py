"""The attribution board as a person uses it: a mistake, its maps, a setting, a stop, a method that does not fit, a picture of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server
from tests.browser.pictures import digit_png

CANVAS = (
    "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].filter((v, i) => i % 4 === 3 && v).length"
)


@pytest.fixture(scope="module")
def runs(server: Server) -> dict[str, Path]:
    """A ConvNet and a linear network that have seen the digits, by architecture."""
    for name in ("convnet", "linear"):
        server.core("train", "--dataset", "digits", "--architecture", name, "--set", "epochs=1", "--set", "patience=0", "--wait")
    found = {
        json.loads((folder / "config.json").read_text())["config"]["architecture"]: folder
        for folder in sorted((server.home / "runs").iterdir())
    }
    return {name: found[name] for name in ("convnet", "linear")}


def row(page: Page, title: str) -> Locator:
    return page.locator(f'.maps[aria-label="{title}"]')


def maps_of(row: Locator) -> Locator:
    return row.locator(".map .overlay")


def drawn(page: Page, columns: int) -> None:
    for title in ("Grad-CAM", "Integrated Gradients"):
        expect(maps_of(row(page, title))).to_have_count(columns, timeout=90_000)
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)


def set_field(page: Page, method: str, field: str, value: int) -> None:
    page.locator(f".st-key-maps-{method}-settings button").first.click()
    one = page.get_by_role("spinbutton", name=field, exact=True)
    one.fill(str(value))
    one.press("Enter")
    page.keyboard.press("Escape")


def stored(run: Path) -> set[str]:
    return {path.name for path in run.glob("maps/*/*.npz")}


def test_a_mistake_is_explained_row_by_row_and_only_what_changes_is_asked_again(server: Server, page: Page, runs: dict[str, Path]) -> None:
    sent: list[object] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    page.goto(f"{server.url}/explain?dataset=digits&run={runs['convnet'].name}")
    line = page.locator(".st-key-explain-answer")
    expect(line).to_contain_text("They disagree", timeout=60_000)  # the network may have to be loaded first
    expect(page).to_have_url(re.compile(r"[?&]image=[0-9a-f]{16}"))
    expect(row(page, "Grad-CAM").locator(".map").first).to_be_visible()
    columns = row(page, "Grad-CAM").locator(".map").count()
    assert columns in (2, 3)  # the two likeliest, and the label
    drawn(page, columns)
    expect(row(page, "Grad-CAM")).to_contain_text("the label")
    expect(row(page, "Integrated Gradients")).to_contain_text(re.compile(r"the change in score \([+−]"))

    # The sliders are the browser's work: nothing is sent, and exactly so many pixels are left
    first = maps_of(row(page, "Integrated Gradients")).first
    whole = first.evaluate(CANVAS)
    page.wait_for_timeout(700)
    before = len(sent)
    page.locator("input.top").fill("10")
    page.wait_for_function(f"([canvas, pixels]) => ({CANVAS})(canvas) === pixels", arg=[first.element_handle(), 6])  # of 64
    assert whole > 6
    page.locator("input.opacity").fill("30")
    assert first.evaluate("canvas => getComputedStyle(canvas).opacity") == "0.3"
    page.locator('[data-shown="map"]').first.click()
    assert first.evaluate("canvas => getComputedStyle(canvas).opacity") == "1"
    page.locator('[data-shown="both"]').first.click()
    page.wait_for_timeout(700)
    assert len(sent) == before

    # Enlarged by a click, downloaded as it is shown
    row(page, "Grad-CAM").locator("button.frame").first.click()
    expect(row(page, "Grad-CAM").locator(".map.large")).to_have_count(1)
    with page.expect_download() as download:
        row(page, "Grad-CAM").locator(".save").first.click()
    assert download.value.suggested_filename.endswith(".png") and Path(download.value.path()).read_bytes()[:4] == b"\x89PNG"

    # Another setting: its row alone is computed and drawn anew
    page.evaluate(
        "() => { for (const host of document.querySelectorAll('*')) for (const c of host.shadowRoot?.querySelectorAll('canvas') ?? []) c.old = true; }"
    )
    known = stored(runs["convnet"])
    set_field(page, "integrated_gradients", "Steps", 8)
    expect(page.locator(".st-key-maps-controls, .maps.controls").first).to_be_visible()
    page.wait_for_timeout(500)
    drawn(page, columns)
    assert len(stored(runs["convnet"]) - known) == columns
    assert maps_of(row(page, "Integrated Gradients")).first.evaluate("canvas => !canvas.old")
    assert maps_of(row(page, "Grad-CAM")).first.evaluate("canvas => canvas.old")

    # What lasts is stopped, twice clicked or not, and goes on when asked
    page.get_by_role("button", name="Methods").click()
    page.get_by_text("Kernel SHAP", exact=True).click()
    page.keyboard.press("Escape")
    expect(maps_of(row(page, "Kernel SHAP"))).to_have_count(columns, timeout=90_000)
    set_field(page, "kernel_shap", "Samples", 5000)
    page.locator(".st-key-maps-kernel_shap-stop button").dblclick()
    expect(row(page, "Kernel SHAP").get_by_text("Stopped").first).to_be_visible()
    expect(maps_of(row(page, "Grad-CAM"))).to_have_count(columns)
    page.locator(".st-key-maps-kernel_shap-again button").click()
    expect(maps_of(row(page, "Kernel SHAP"))).to_have_count(columns, timeout=90_000)

    # What is there is there at once after a walk to another page
    known = stored(runs["convnet"])
    page.get_by_role("link", name="Predict", exact=True).click()
    expect(page.get_by_role("heading", name="Predict", level=1)).to_be_visible()
    page.get_by_role("link", name="Explain", exact=True).click()
    drawn(page, columns)
    assert stored(runs["convnet"]) == known


def test_a_method_that_does_not_fit_says_why_and_a_picture_of_ones_own_is_explained(
    server: Server, page: Page, runs: dict[str, Path]
) -> None:
    page.goto(f"{server.url}/explain?dataset=digits&run={runs['linear'].name}&image=0000000000000000")
    expect(page.get_by_text("The picture of this link is not in the dataset digits.")).to_be_visible()
    page.get_by_text("My own picture", exact=True).click()
    files = page.locator("input[type=file]")
    files.set_input_files({"name": "broken.png", "mimeType": "image/png", "buffer": b"no image"})
    expect(page.get_by_text("broken.png: This is not an image that Loupe reads")).to_be_visible()
    files.set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": digit_png(3)})
    expect(page.locator(".st-key-explain-answer")).to_contain_text("mine.png has no label")
    expect(maps_of(row(page, "Integrated Gradients"))).to_have_count(2, timeout=90_000)
    expect(row(page, "Grad-CAM")).to_have_count(0)
    page.get_by_role("button", name="Methods").click()
    grad_cam = page.locator(".st-key-method-grad_cam")
    expect(grad_cam.locator("input")).to_be_disabled()
    expect(page.get_by_text(re.compile("^Not for this network: .*convolution")).first).to_be_visible()


def test_a_link_from_an_image_opened_anywhere_leads_to_its_maps(server: Server, page: Page, runs: dict[str, Path]) -> None:
    page.goto(f"{server.url}/dataset?dataset=digits")
    page.locator(".cell").nth(3).dblclick()
    drawer = page.get_by_role("dialog")
    name = drawer.locator("table").inner_text()
    drawer.get_by_role("button", name="Explain", exact=True).click()
    expect(page.get_by_role("heading", name="Explain", level=1)).to_be_visible()
    expect(page).to_have_url(re.compile(r"[?&]image=[0-9a-f]{16}"))
    image = re.search(r"[?&]image=([0-9a-f]{16})", page.url)
    assert image is not None and image[1] in name
    expect(page.locator(".maps .map .overlay").first).to_be_visible(timeout=90_000)

    # By name among all images
    page.get_by_text("Any image", exact=True).click()
    page.get_by_placeholder("name or id").fill("digit-0007")
    page.get_by_placeholder("name or id").press("Enter")
    expect(page.locator(".cell")).to_have_count(1)
    page.locator(".cell").first.click()
    expect(page.locator(".st-key-explain-answer")).to_contain_text("digit-0007.png is labelled")
