"""A run goes out as a zip, is deleted, comes back from the zip and answers; a wrong file is refused in words."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.browser.pictures import digit_png

SLOW = 180_000  # ms: torch, its exporter and ONNX Runtime are loaded on a machine that is busy


def test_a_run_is_exported_deleted_imported_and_asked(server: Server, page: Page, tmp_path: Path) -> None:
    server.core("train", "--dataset", "digits", "--architecture", "linear", "--set", "epochs=2", "--wait")
    run = max((server.home / "runs").iterdir()).name

    # Out: the zip is made in the background, downloaded, and says how well ONNX and PyTorch agree
    page.goto(f"{server.url}/train?dataset=digits&runs={run}")
    panel = page.locator(".st-key-run-panel")
    name = panel.get_by_role("heading").first.inner_text()
    panel.get_by_role("button", name="Export").click()
    page.get_by_role("button", name="Make the zip").click()
    link = page.get_by_role("link", name="Download")
    expect(link).to_be_visible(timeout=SLOW)
    expect(page.get_by_text(re.compile("name the same class for all 20 pictures"))).to_be_visible()
    answer = page.request.get(f"{server.url}{link.get_attribute('href')}")
    assert answer.ok and f"{run}.zip" in answer.headers["content-disposition"]
    made = tmp_path / "run.zip"
    made.write_bytes(answer.body())
    with zipfile.ZipFile(made) as opened:
        assert {"MODEL_CARD.md", "model.safetensors", "model.onnx", "preprocess.py"} <= set(opened.namelist())
    page.keyboard.press("Escape")

    # Deleted
    page.get_by_role("button", name=f"Delete {name}").click()
    expect(page.get_by_text("The run was moved to the bin.")).to_be_visible()
    assert not (server.home / "runs" / run).exists()

    # In: a wrong file says what is missing, the zip names its dataset, and the run is in view
    page.get_by_text("Import a run").click()
    photos = tmp_path / "photos.zip"
    with zipfile.ZipFile(photos, "w") as opened:
        opened.writestr("cat/1.jpg", b"1")
    page.locator("input.input").set_input_files(photos)
    expect(page.get_by_text(re.compile("photos.zip is no run that Loupe exported: config.json"))).to_be_visible()
    page.locator("input.input").set_input_files(made)
    chosen = page.get_by_role("combobox", name="Dataset it belongs to")
    expect(chosen).to_have_value(re.compile("digits  ·  1,797 of the run's 1,797 images"), timeout=SLOW)
    page.get_by_role("button", name="Import the run").click()
    expect(panel.get_by_role("heading").first).to_have_text(name, timeout=SLOW)
    expect(panel.get_by_role("button", name="Export")).to_be_visible()

    # And it answers
    panel.get_by_role("button", name="Try it on a picture").click()
    expect(page.get_by_role("heading", name="Predict", level=1)).to_be_visible()
    picture = {"name": "mine.png", "mimeType": "image/png", "buffer": digit_png(3)}
    page.locator("input[type=file]").set_input_files(picture)  # type: ignore[arg-type]
    expect(page.get_by_role("button", name="Send all 1 to review")).to_be_visible(timeout=SLOW)
