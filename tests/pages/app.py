"""The app without a browser, through Streamlit's AppTest."""

from __future__ import annotations

from functools import cache

from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Block, Element

from tests.conftest import ROOT

# Every AppTest looks through all installed packages for components of theirs: a quarter of a second of a core each time.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py") if path.stem != "main")


def opened(name: str, **query: str) -> AppTest:
    """The app as a browser shows it that has just loaded the address of one of its pages."""
    app = AppTest.from_file(str(ROOT / "pages" / "main.py"), default_timeout=60)
    if name != "home":
        app.switch_page(f"{name}.py")
    app.query_params.update(query)
    app.run()
    # Streamlit draws the first page in place of one that is not there, or not for this person; a page may lead on to another.
    first = AppTest.from_file(app._script_path).switch_page("home.py")._page_hash
    assert name == "home" or app._finished_page_script_hash != first, f"{name} is no page here"
    return app


def elements(app: AppTest, kind: str) -> list[Element]:
    found = app.get(kind)
    assert all(isinstance(e, Element) for e in found), f"{kind} is a kind of block"
    return [e for e in found if isinstance(e, Element)]


def words(app: AppTest | Block) -> str:
    kinds = ("title", "header", "markdown", "caption", "error", "warning", "info", "button", "metric")
    return "\n".join(str(getattr(e, "value", "")) + str(getattr(e, "label", "")) for kind in kinds for e in app.get(kind))
