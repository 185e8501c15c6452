"""Every page as wide as a phone and a screen, in light and dark, by axe-core and by keys alone: what is ours is a fault."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

import pytest
from PIL import Image
from playwright.sync_api import CDPSession, FilePayload, Page, expect

from tests.browser.conftest import ROOT, Server, in_scheme, schemes, settled, widths
from tests.pages.app import PAGES

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
WALKED = (
    *("" if name == "home" else name for name in PAGES),
    *(f"dataset?view={view}" for view in ("Classes", "History", "Add+images")),
    *(f"label?view={view}" for view in ("One+at+a+time", "Map")),
    "evaluate?view=thresholds",
    "explain?part=erase",
)
# More views of these: looked at in the dark, and not walked by keys, which takes a second a view.
VIEWS = (
    *(f"evaluate?view={view}" for view in ("classes", "hardest", "calibration", "slices")),
    *(f"explain?{view}" for view in ("view=many", "part=trust", "part=inside")),
    *(f"predict?view={view}" for view in ("many", "all")),
    *(f"review?view={view}" for view in ("grid", "decisions", "policy", "figures", "basket")),
)
# Streamlit's own: its navigation puts headings into a list, its uploader is both for show and named, its toast names none of its parts.
STREAMLIT = ('[data-testid="stSidebarNav"]', '[data-testid="stFileUploaderDropzone"]', '[data-testid="stToast"]')
LOOK = """async ([script, left_out, rules]) => {
  if (!window.axe) (0, eval)(script);
  const found = await axe.run({ exclude: left_out.map((one) => [one]) }, { resultTypes: ["violations"], ...(rules && { runOnly: rules }) });
  return found.violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 160)} ${v.id === "color-contrast" ? n.failureSummary : ""}`));
}"""
# What stands on the page to be pressed, without what the arrow keys choose within a group, or has a second way to it (tabindex -1);
# where the focus is; and what has it without looking otherwise than before. A table draws the frame of its cell itself.
KEYS = """() => {
  const known = new Map();
  const numbered = (one) => known.get(one) ?? (known.set(one, known.size), known.size - 1);
  const looks = (one) => {
    const all = [];
    for (let at = one, up = 0; at && up < 8; at = at.parentElement ?? at.getRootNode().host, up++) {
      const { outlineStyle, outlineWidth, boxShadow, borderColor, textDecorationLine } = getComputedStyle(at);
      all.push(outlineStyle, outlineWidth, boxShadow, borderColor, textDecorationLine);
    }
    return all.join();
  };
  const pressable = (root) =>
    [...root.querySelectorAll("*")].flatMap((one) => {
      const inner = one.shadowRoot ? pressable(one.shadowRoot) : [];
      const pressed = one.matches("button, a[href], input, select, textarea, summary, canvas[tabindex], [role=button], [role=tab], [role=slider]");
      const grouped = one.disabled || one.tabIndex < 0 || one.matches("[role=radio], [type=radio]");
      const hidden = !one.checkVisibility({ visibilityProperty: true }) || one.closest("[aria-hidden=true], [inert]") || one.getBoundingClientRect().width < 2;
      return pressed && !grouped && !hidden ? [one, ...inner] : inner;
    });
  document.activeElement?.blur(); // where a walk before this one ended
  const before = new Map(pressable(document).map((one) => [one, looks(one)]));
  window.keys = {
    pressable: () => pressable(document).map((one) => [numbered(one), one.outerHTML.slice(0, 160)]),
    focused: async (drawn) => {
      let one = document.activeElement;
      while (one?.shadowRoot?.activeElement) one = one.shadowRoot.activeElement;
      if (!one || one === document.body) return [-1, ""];
      if (before.get(one) !== looks(one) || one.matches("canvas")) return [numbered(one), ""];
      if (drawn) return [numbered(one), one.outerHTML.slice(0, 160)];
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done))); // some are marked by a script
      return keys.focused(true);
    },
  };
}"""
TAB = {"type": "rawKeyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
MOST_STOPS = 300


def walked(page: Page, tools: CDPSession) -> list[str]:
    """What Tab does not reach, and where its focus is not seen; within a table it goes from cell to cell."""
    page.add_style_tag(content="* { transition: none !important }")  # a border that fades in is not seen yet
    page.evaluate(KEYS)
    reached, problems = set[int](), []
    first: int | None = None
    for _ in range(MOST_STOPS):
        tools.send("Input.dispatchKeyEvent", TAB)  # in half the time of page.keyboard, which lets go of the key, too
        at, unseen = page.evaluate("keys.focused()")
        if unseen:
            problems.append(f"focus not seen: {unseen}")
        if at == first:
            break
        if at >= 0:  # -1: at the end of the page, or what had the focus was drawn anew
            first = at if first is None else first
            reached.add(at)
    return problems + [f"not reached by keys: {html}" for number, html in page.evaluate("keys.pressable()") if number not in reached]


@pytest.fixture(scope="module")
def trained(server: Server) -> Server:
    server.core("user", "add", "Ann", "--role", "labeller")
    server.core("train", "--dataset", "digits", "--architecture", "linear", "--set", "epochs=2", "--wait")
    return server


def opened(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    settled(page)


def opened_drawer(page: Page) -> None:
    page.locator(".cell").first.dblclick()
    expect(page.get_by_role("dialog").get_by_text("What the network receives")).to_be_visible()


def asked_about_a_picture(page: Page) -> None:
    picture = io.BytesIO()
    Image.new("L", (8, 8), 90).save(picture, "PNG")
    page.locator("input[type=file]").set_input_files(FilePayload(name="grey.png", mimeType="image/png", buffer=picture.getvalue()))
    page.get_by_role("button", name="Send all 1 to review").click()  # Review has something to show then
    expect(page.get_by_text("1 to review").first).to_be_visible()


def opened_person(page: Page) -> None:
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_role("button", name="New one-time link")).to_be_visible()


def fits(page: Page, name: str) -> None:
    if name in ("dataset", "label", "train", "evaluate", "explain", "predict", "review"):
        expect(page.locator("p.who")).to_have_text("digits  ·  tester")  # the sidebar is closed
        if name != "review":  # it goes to the picture that waits
            expect(page.locator("p.who")).to_be_in_viewport()
    for _ in widths(page, name):
        if name == "dataset":
            expect(page.locator(".cell").first).to_be_in_viewport()


ACTS: dict[str, Callable[[Page], None]] = {"dataset": opened_drawer, "predict": asked_about_a_picture, "people": opened_person}


@pytest.mark.timeout(600)
def test_every_page_fits_shows_no_error_and_keeps_nobody_out(trained: Server, page: Page) -> None:
    axe = AXE.read_text(encoding="utf-8") if AXE.exists() else None
    tools = page.context.new_cdp_session(page)
    tools.send("Page.setBypassCSP", {"enabled": True})  # axe-core comes as text
    found: dict[str, list[str]] = {}

    def looked_at(name: str, themes: Iterable[str]) -> None:
        settled(page)
        for theme, rules in zip(themes, (None, ["color-contrast"]), strict=False):  # the others ask for no colour
            if axe is not None:
                found[f"{name} in {theme}"] = page.evaluate(LOOK, [axe, STREAMLIT, rules])

    for address in WALKED:
        page.set_viewport_size({"width": 390, "height": 900})
        opened(page, f"{trained.url}/{address}")
        if "?" not in address:
            fits(page, address)
        page.set_viewport_size({"width": 1440, "height": 900})
        looked_at(address, schemes(page))
        found[f"{address} by keys"] = walked(page, tools)  # in one theme alone: what has the focus is marked by the same rules in both
        if address in ACTS:
            ACTS[address](page)
            looked_at(f"{address}, {ACTS[address].__name__}", schemes(page))
    in_scheme(page, "dark")
    for address in VIEWS:
        opened(page, f"{trained.url}/{address}")
        looked_at(address, ["dark"])
    tools.detach()
    problems = [f"{name}: {one}" for name, all_of_it in found.items() for one in all_of_it]
    assert not problems, "\n".join(problems)
    if axe is None:
        pytest.skip("axe-core is not there: npm ci")
