"""What a browser gets first: a picture of the page, the files it will need by name, and those from memory."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from core.api import first, gate


@pytest.fixture
def client() -> TestClient:
    return TestClient(first.First(PlainTextResponse("the app"), ["", "dataset", "label"]), headers={"Accept-Encoding": "gzip"})


def test_the_index_has_a_picture_of_the_page_and_runs_only_the_script_that_the_policy_allows(client: TestClient) -> None:
    text = client.get("/dataset?dataset=digits").text
    assert "<title>Dataset · Loupe</title>" in text
    assert 'data-page="dataset"' in text and 'data-title="Dataset"' in text
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in gate.POLICY
    assert '<div id="root"></div>' in text and not re.findall(r'(?:src|href)="(?:https?:)?//', text)


def test_a_view_has_its_own_picture_and_what_nobody_knows_goes_on_to_the_app(client: TestClient) -> None:
    assert 'data-page="label Map"' in client.get("/label?view=Map").text
    assert 'data-page="label"' in client.get("/label?view=<script>alert(1)</script>").text
    assert 'data-title="Home"' in client.get("/").text
    assert {client.get(path).text for path in ("/nothing", "/static/js/nothing.js", "/label/x")} == {"the app"}
    assert client.post("/dataset").text == "the app" == client.get("/dataset", headers={"Accept-Encoding": "br"}).text


def test_all_that_is_named_exists_and_each_page_has_its_streamlit_parts(client: TestClient) -> None:
    for names in (first.EVERYWHERE, *first.NEEDED.values()):
        found = first.preloaded(names)
        for name in names:
            assert any(path.startswith(f"/static/js/{name}.") or path == f"/assets/{name}.js" for path in found), name
        assert all(path in first.FILES or (first.ASSETS.parent / path[1:]).is_file() for path in found)
    assert "/assets/common/dom.js" in first.preloaded(["grid/grid"])
    (later,) = re.findall(r'<meta name="later" data-page="/evaluate" data-script="(.*?)">', client.get("/").text)
    assert later in first.FILES and "Plotly" in later


def test_a_file_of_streamlit_is_packed_once_and_kept_by_the_browser(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(p for p in sorted(first.FILES) if p.startswith("/static/js/Selectbox."))
    answer = client.get(path)
    assert answer.content == (first.STATIC / path[1:]).read_bytes() and int(answer.headers["content-length"]) < len(answer.content)
    assert "immutable" in answer.headers["cache-control"] and answer.headers["content-type"].startswith("text/javascript")
    monkeypatch.setattr(first, "file", None)
    assert client.get(path).content == answer.content
    monkeypatch.undo()
    font = next(p for p in first.FILES if p.endswith(".woff2"))
    assert client.get(font).headers.get("content-encoding") is None
