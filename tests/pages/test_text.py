"""Names and notes are text on every page, whatever they look like, and numbers have one format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.data import classes, store
from core.review import predict, review
from core.train import train
from core.types import Prediction
from pages.shared import frame
from tests.conftest import Trained, copied, forget, move_in
from tests.pages.app import opened, words

ODD = "t-shirt *3* [a] _b_ $c$ :red[d] <i>e~ www.f.de"
VIEWS = [
    ("home", {}),
    *[("dataset", {"view": view}) for view in ("Browse", "Classes", "History")],
    *[("label", {"view": view, "show": "all"}) for view in ("Grid", "One at a time", "Map")],
    ("train", {}),
    ("audit", {}),
    ("dataset", {"view": "Add images"}),
    *[("evaluate", {"view": view}) for view in ("matrix", "classes", "hardest", "thresholds", "calibration", "slices")],
    ("evaluate", {"actual": ODD}),
    ("explain", {"view": "many"}),
    *[("explain", {"view": "one", "part": part}) for part in ("maps", "trust", "erase", "inside")],
    *[("predict", {"view": view}) for view in ("ask", "many", "all")],
    *[("review", {"view": view}) for view in ("queue", "grid", "decisions", "policy", "figures", "basket")],
]
MARKDOWN = ("title", "header", "markdown", "caption", "error", "warning", "info", "success", "button", "checkbox", "toggle", "metric")


def texts(app: AppTest) -> Iterator[tuple[str, str]]:
    """(kind of element, a text that it shows)."""
    for kind in MARKDOWN:
        for element in app.get(kind):
            for text in (getattr(element, "value", None), getattr(element, "label", None)):
                if isinstance(text, str):
                    yield kind, text
    for kind in ("selectbox", "multiselect", "pills", "segmented_control", "button_group"):
        for element in app.get(kind):
            proto: Any = getattr(element, "proto", None)
            for option in getattr(proto, "options", ()):
                yield kind, option if isinstance(option, str) else option.content


@pytest.fixture(scope="module")
def odd_once(trained_once: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One class has a name that reads as Markdown, in the dataset and in the run that learned it."""
    with copied(trained_once, tmp_path_factory.mktemp("odd") / "home") as found:
        named_oddly(found)
    return found


@pytest.fixture
def odd(odd_once: Trained, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trained]:
    """To be looked at."""
    move_in(monkeypatch, odd_once.home)
    yield odd_once
    forget()


def named_oddly(found: Trained) -> None:
    classes.rename(found.dataset.id, "3", ODD, "tester")
    folder = found.home / "runs" / found.run_id
    config = json.loads((folder / "config.json").read_text())
    config["classes"] = [ODD if name == "3" else name for name in config["classes"]]
    (folder / "config.json").write_text(json.dumps(config))
    for file in ("dataset.csv", "predictions.csv"):
        lines = (folder / file).read_text().splitlines()
        text = "\n".join(re.sub(r"(?<=,)3(?=,|$)", ODD, line) for line in lines)
        (folder / file).write_text(f"{text}\n")
    (image, *_) = store.browse(found.dataset.id, store.Filter(split="test"), 0, 1)
    answers = predict.predict_data(found.run_id, [("a.png", (found.home / "images" / image.path).read_bytes())], keep=True)
    (answer,) = answers
    assert isinstance(answer, Prediction)
    review.keep(found.dataset.id, found.run_id, [answer], "tester", "upload")
    assert review.submit(found.dataset.id, found.run_id, answer, "tester")


@pytest.mark.parametrize(("name", "query"), VIEWS, ids=[f"{name}-{'-'.join(query.values())[:12]}" for name, query in VIEWS])
def test_an_odd_class_name_is_shown_as_it_is_called(odd: Trained, name: str, query: dict[str, str]) -> None:
    app = opened(name, dataset=odd.dataset.name, **query)
    assert not app.exception and not app.error, words(app)
    for kind, text in texts(app):
        if kind in ("selectbox", "multiselect"):  # they read no Markdown
            assert "t\\-shirt" not in text, (kind, text)
        else:
            assert "t-shirt" not in text.replace(frame.plain(ODD), ""), (kind, text)


def test_what_reads_as_markdown_or_as_an_address_is_escaped() -> None:
    assert frame.plain("a_b *c*\n[d](e)") == "a\\_b \\*c\\* \\[d\\]\\(e\\)"
    for text in ("see https://a.b/c", "HTTP://A.B", "www.a.b", "ann@a.b", "xhttps://www.a.b?c@d.e"):
        found = frame.plain(text)
        assert not re.search(r"https?\\:|www\\\.|@\w", found, re.IGNORECASE)
        assert re.sub(r"\\(.)", r"\1", found.replace(":small[]", "")) == text


def test_an_address_in_a_note_and_brackets_in_a_tag_are_text(trained_copy: Trained) -> None:
    train.annotate(trained_copy.run_id, "see https://example.com", ["[x]"])
    found = words(opened("train", dataset=trained_copy.dataset.name, run=trained_copy.run_id))
    assert "htt:small[]ps\\://example\\.com" in found and ":gray-badge[:material/sell: \\[x\\]]" in found


def test_thousands_are_parted_in_the_chips_as_everywhere(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "queue_length", lambda _: 2059)
    found = words(opened("home", dataset=trained.dataset.name))
    assert "2,059 to review" in found and "2059" not in found
