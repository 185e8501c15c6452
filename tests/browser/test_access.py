"""axe-core looks at every page, in the light and in the dark: what it finds that is ours is a fault."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import ROOT, Server

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PAGES = (
    "",
    "dataset",
    "dataset?view=Classes",
    "dataset?view=History",
    "label",
    "label?view=One+at+a+time",
    "train",
    "evaluate",
    "explain",
    "predict",
    "review",
)
# Streamlit's own: its navigation puts headings into a list, its uploader is both for show and named.
STREAMLIT = ('[data-testid="stSidebarNav"]', '[data-testid="stFileUploaderDropzone"]')
LOOK = """async ([script, left_out]) => {
  if (!window.axe) (0, eval)(script);
  const found = await axe.run({ exclude: left_out.map((one) => [one]) }, { resultTypes: ["violations"] });
  return found.violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 160)} ${v.id === "color-contrast" ? n.failureSummary : ""}`));
}"""


@pytest.fixture(scope="module")
def trained(server: Server) -> Server:
    server.core("train", "--dataset", "digits", "--architecture", "linear", "--set", "epochs=2", "--wait")
    return server


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out_of_a_page(trained: Server, browser: Browser, scheme: Any) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not there: npm ci")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    found = {}
    for address in PAGES:
        page.goto(f"{trained.url}/{address}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
        if problems := page.evaluate(LOOK, [AXE.read_text(encoding="utf-8"), STREAMLIT]):
            found[address] = problems
    context.close()
    assert not found, "\n".join(f"{address}: {one}" for address, problems in found.items() for one in problems)
