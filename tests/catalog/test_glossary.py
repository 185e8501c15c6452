"""The terms: complete, in one sentence each, connected, and enough for every word on the training form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from core.api import routes
from core.catalog import glossary, params
from core.catalog.glossary import TERMS
from core.errors import AppError
from core.metrics import wilson
from core.types import Param
from tests.conftest import ROOT
from tests.pages.app import PAGES, opened

ASKED = """
    image, class, label, split, training set, validation, test set, epoch, batch, step, loss, cross-entropy, softmax, logits, probability,
    confidence, gradient, gradient descent, learning rate, schedule, warm-up, one-cycle, cosine, optimiser, SGD, momentum, Adam, AdamW,
    weight decay, overfitting, early stopping, patience, generalisation, accuracy, interval, confusion matrix, precision, recall,
    convolution, filter, kernel, stride, padding, pooling, activation, ReLU, dense layer, dropout, normalisation, batch norm, parameters,
    weights, backbone, head, pretrained, freezing, fine-tuning, transfer learning, augmentation, mixup, CutMix, label smoothing, EMA, seed,
    checkpoint, embedding, features, near duplicate, attribution, saliency, Grad-CAM
"""
# Words of the form that need no explanation.
PLAIN = {*re.findall(r"\w+", "after best by colour every factor first from keep of output rectangles restarts start the")}
# Words that do, wherever they stand.
TECHNICAL = {
    *re.findall(
        r"[\w-]+",
        "adam adamw alpha backbone batch bfloat16 cosine cuda cutmix ema epoch epochs gpu gradient imagenet loss mixup momentum norm one-cycle "
        "randaugment seed sgd sigmoid softmax validation weights",
    )
}


def names() -> dict[str, str]:
    """Every name of a term in small letters, with its slug."""
    return {name.lower(): slug for slug, term in TERMS.items() for name in (term.word, *term.also)}


def sentences(text: str) -> int:
    return len(re.findall(r"[.?!](?=\s+[A-Z0-9“]|$)", text))


@pytest.mark.parametrize("word", [word.strip() for word in ASKED.replace("\n", " ").split(",")])
def test_every_word_that_was_asked_for_is_found(word: str) -> None:
    assert word.lower() in names()


@pytest.mark.parametrize("slug", TERMS)
def test_a_term_says_what_it_means_and_why_it_matters_in_a_sentence_each(slug: str) -> None:
    term = TERMS[slug]
    for text in (term.sentence, term.matters):
        assert text.endswith(".") and sentences(text) == 1 and 20 < len(text) < 200, text
    assert term.related and slug not in term.related and set(term.related) <= TERMS.keys()
    assert re.fullmatch(r"[a-z0-9-]+", slug)


def test_no_name_stands_for_two_terms() -> None:
    given = [name.lower() for term in TERMS.values() for name in (term.word, *term.also)]
    assert len(TERMS) == sum(len(terms) for terms in glossary.GROUPS.values())
    assert sorted(given) == sorted(set(given))


def test_the_drawings_of_the_terms_are_those_that_exist() -> None:
    source = (ROOT / "assets" / "glossary" / "drawings.js").read_text(encoding="utf-8")
    table = source.split("export const DRAWINGS = {")[1]
    drawn = dict(re.findall(r'^  (\w+): \{ term: "([a-z-]+)"', table, re.MULTILINE))
    assert drawn.keys() == {term.drawing for term in TERMS.values()} - {""}
    assert {name: TERMS[slug].drawing for name, slug in drawn.items()} == {name: name for name in drawn}


def test_the_interval_it_quotes_is_the_one_the_app_computes() -> None:
    found = wilson(27, 30)
    assert found is not None
    assert f"27 of 30 right is {found.value:.0%}, but the interval runs from {found.low:.0%} to {found.high:.0%}" in TERMS[
        "interval"
    ].matters.replace(" %", "%")


def test_the_batches_it_counts_are_right() -> None:
    images, size, steps = (int(n.replace(",", "")) for n in re.findall(r"[\d,]+\d", TERMS["step"].matters))
    assert images == size * steps


@pytest.mark.parametrize("param", params.TRAIN_PARAMS, ids=lambda p: p.name)
def test_a_setting_is_explained_in_one_sentence_whose_words_are_plain_or_terms(param: Param) -> None:
    assert param.help.endswith(".") and sentences(param.help) == 1, param.help
    options = " ".join(params.OPTION_TITLES.get(option, "") for option in param.options)
    used = set(re.findall(r"[a-z0-9-]*[a-z0-9]", f"{param.help} {options}".lower()))
    assert (used & TECHNICAL) <= names().keys()
    rest = f" {param.title.lower()} ".replace("'", " ' ").replace("’", " ' ")
    for name in sorted(names(), key=len, reverse=True):
        rest = rest.replace(f" {name} ", "  ")
    assert set(re.findall(r"[a-z]{2,}", rest)) <= PLAIN, param.title


def test_the_technical_words_of_this_test_are_all_in_use() -> None:
    texts = " ".join(f"{p.title} {p.help} {' '.join(params.OPTION_TITLES.get(o, '') for o in p.options)}" for p in params.TRAIN_PARAMS)
    assert set(re.findall(r"[a-z0-9-]*[a-z0-9]", texts.lower())) >= TECHNICAL
    assert names().keys() >= TECHNICAL


@pytest.fixture
def client(home: Path) -> TestClient:
    return TestClient(Starlette(routes=routes.ROUTES, exception_handlers={AppError: routes.app_error, HTTPException: routes.http_error}))


def test_the_terms_and_their_scripts_are_served_and_nothing_else_of_the_folder(client: TestClient) -> None:
    groups = client.get("/api/terms").json()
    assert [t["slug"] for group in groups for t in group["terms"]] == list(TERMS)
    for name, kind in (
        ("glossary/glossary.js", "text/javascript"),
        ("glossary/drawings.js", "text/javascript"),
        ("glossary/glossary.css", "text/css"),
    ):
        answer = client.get(f"/assets/{name}")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
        assert client.get(f"/assets/{name}", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    for name in ("style.css", "common/style.svg", "logo.svg", "..%2Fapp.py", "%2e%2e/app.py", "common/..%2F..%2Fapp.py", ""):
        assert client.get(f"/assets/{name}").status_code == 404


@pytest.mark.parametrize("name", PAGES)
def test_the_button_is_on_every_page(home: Path, name: str) -> None:
    found = [component.proto.component_name for component in opened(name).get("bidi_component")]
    assert found.count("loupe_terms") == 1, found
