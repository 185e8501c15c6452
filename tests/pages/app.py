"""The app without a browser, through Streamlit's AppTest."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Block, Element

from tests.conftest import ROOT

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py") if path.stem != "main")


def opened(name: str, **query: str) -> AppTest:
    """The app with one of its pages open."""
    app = AppTest.from_file(str(ROOT / "pages" / "main.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    return app if name == "home" else app.switch_page(f"{name}.py").run()


def elements(app: AppTest, kind: str) -> list[Element]:
    found = app.get(kind)
    assert all(isinstance(e, Element) for e in found), f"{kind} is a kind of block"
    return [e for e in found if isinstance(e, Element)]


def words(app: AppTest | Block) -> str:
    kinds = ("title", "header", "markdown", "caption", "error", "warning", "info", "button", "metric")
    return "\n".join(str(getattr(e, "value", "")) + str(getattr(e, "label", "")) for kind in kinds for e in app.get(kind))
