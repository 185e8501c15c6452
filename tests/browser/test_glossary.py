"""The panel of terms over a page, and its drawings: every number they show is one that PyTorch or numpy gives too."""

from __future__ import annotations

import re
import urllib.parse
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect
from torch.nn import functional as F

from core.catalog import glossary, params
from core.ml import fit
from tests.browser.conftest import Server

FOCUSED = "() => document.activeElement?.shadowRoot?.activeElement?.className"
LAZY = re.compile(r"/assets/glossary/(glossary|drawings|arithmetic)\.(js|css)|/api/terms")


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def grid(page: Page, selector: str) -> np.ndarray:
    """The square of numbers that a drawing shows."""
    texts = page.locator(f"{selector} .cell").all_inner_texts()
    side = round(len(texts) ** 0.5)
    return np.array([number(text) for text in texts]).reshape(side, side)


def ask(page: Page, expression: str, *args: Any) -> Any:
    """What a pure function of the drawings answers."""
    modules = "{ ...(await import('/assets/glossary/arithmetic.js')), ...(await import('/assets/glossary/drawings.js')) }"
    return page.evaluate(f"async (args) => {{ const d = {modules}; return {expression}; }}", list(args))


def slide(page: Page, name: str, value: float) -> None:
    page.locator(f"input[name={name}]").fill(str(value))


def open_at(page: Page, server: Server, slug: str) -> None:
    page.goto(f"{server.url}/?term={slug}")
    page.locator(".term h2").wait_for()
    expect(page.locator(".term h2")).to_have_text(glossary.TERMS[slug].word, ignore_case=True)


def show(page: Page, slug: str) -> None:
    page.locator(f".found a[data-term='{slug}']").click()
    expect(page.locator(".term h2")).to_have_text(glossary.TERMS[slug].word, ignore_case=True)


def test_terms_open_over_the_page_and_leave_it_as_it_was(server: Server, page: Page) -> None:
    sent: list[str] = []
    labelled: list[str] = []
    asked: list[str] = []
    page.on("websocket", lambda ws: ws.on("framesent", lambda data: sent.append(str(data))))
    page.on("request", lambda r: labelled.append(r.url) if r.url.endswith("/api/label") else None)
    page.on("request", lambda r: asked.append(r.url) if LAZY.search(r.url) else None)
    page.goto(f"{server.url}/label?dataset=digits&view=One at a time")
    page.get_by_role("combobox", name="Show").click()
    page.get_by_role("option", name="All", exact=True).click()
    page.locator(".stage[data-state=ready]").wait_for()
    page.wait_for_timeout(500)
    assert asked == []  # the page did not wait for any of it
    before, address = len(sent), page.url

    button = page.get_by_role("button", name="Terms", exact=True)
    with page.expect_response(re.compile("/api/terms")):  # while the hand is still on its way
        button.hover()
    button.click()
    expect(page.get_by_role("dialog", name="Terms")).to_be_visible()
    expect(page.locator(".tile")).to_have_count(8)
    search = page.get_by_role("searchbox", name="Find a term")
    expect(search).to_be_focused()
    search.fill("kernel")
    expect(page.locator(".found li:visible")).to_have_text(["Filter"])
    search.fill("qqq")
    expect(page.get_by_text("No term matches “qqq”")).to_be_visible()
    search.fill("")
    search.type("weight d")
    search.press("Enter")
    expect(page.locator(".term h2")).to_have_text("Weight decay")
    expect(page.locator(".term .sentence")).to_have_text(glossary.TERMS["weight-decay"].sentence)
    assert "term=weight-decay" in page.url and "dataset=digits" in page.url
    page.locator(".related").get_by_role("link", name="Overfitting").click()
    expect(page.locator(".term h2")).to_have_text("Overfitting")
    expect(page.locator(".term h2")).to_be_focused()

    page.locator(".matters").click()  # nothing that takes the focus: the keys are still not the page's
    for key in "123a":
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    expect(page.locator("dialog.glossary")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("term="))
    assert urllib.parse.unquote_plus(page.url) == urllib.parse.unquote_plus(address)
    assert page.evaluate(FOCUSED) == "terms"
    assert len(sent) == before and labelled == []

    page.keyboard.press("Enter")
    expect(page.locator(".term h2")).to_have_text("Overfitting")  # where one was
    page.keyboard.press("Escape")

    open_at(page, server, "transfer-learning")
    page.goto(f"{server.url}/?term=teleport")
    page.get_by_text("No term matches “teleport”").wait_for()


def test_on_a_phone_the_list_comes_first_and_back_leads_to_it(server: Server, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(server.url)
    page.get_by_role("button", name="Terms", exact=True).click()
    expect(page.locator(".list")).to_be_visible()
    expect(page.locator(".term")).to_be_hidden()
    for slug, term in glossary.TERMS.items():
        if not term.drawing:
            continue
        show(page, slug)
        expect(page.locator(".list")).to_be_hidden()
        assert page.locator(".term").evaluate("node => node.scrollWidth - node.clientWidth") == 0, f"{slug} is wider than the phone"
        page.get_by_role("button", name="All terms").click()
        expect(page.locator(f".found a[data-term='{slug}']")).to_be_focused()


def test_the_convolution_shows_what_pytorch_computes(server: Server, page: Page) -> None:
    open_at(page, server, "convolution")
    digit = torch.tensor(grid(page, ".convolution .picture"))
    for title, stride, padding in (("Upright edges", 1, 0), ("Sharpen", 2, 1), ("Level edges", 3, 2), ("", 1, 1)):
        if title:
            page.get_by_role("radio", name=title, exact=True).check(force=True)
        else:
            fields = page.locator(".filter input")
            for i, weight in enumerate((2, 0, -1, 3, 1, 0, -2, 0.5, 4)):
                fields.nth(i).fill(str(weight))
            assert page.locator("[aria-label=Filter] input:checked").count() == 0  # it is none of the four any more
        page.locator("[aria-label=Stride]").get_by_role("radio", name=str(stride), exact=True).check(force=True)
        page.locator("[aria-label=Padding]").get_by_role("radio", name=str(padding), exact=True).check(force=True)
        weights = torch.tensor([float(field.input_value()) for field in page.locator(".filter input").all()]).double().view(3, 3)
        expected = F.conv2d(digit[None, None], weights[None, None], stride=stride, padding=padding)[0, 0]
        n = len(expected)
        assert f"= {(8 - 3 + 2 * padding) / stride + 1:.2f}".rstrip("0").rstrip(".") in page.locator(".convolution .formula").inner_text()
        slide(page, "place", 2)
        assert page.locator(".convolution .map .cell.empty").count() == n * n - 2  # it grows
        slide(page, "place", n * n)
        np.testing.assert_allclose(grid(page, ".convolution .map"), expected, atol=0.0501)
        slide(page, "place", n + 2)
        assert number(page.locator(".convolution .total").inner_text()) == pytest.approx(expected[1, 1].item())
        wide = F.pad(digit, (padding,) * 4)[stride : stride + 3, stride : stride + 3]
        patch, product = (page.locator(".sum .small").nth(i).locator(".cell").all_inner_texts() for i in (0, 1))
        assert [number(t) for t in patch] == wide.flatten().tolist()
        assert [number(t) for t in product] == pytest.approx((wide * weights).flatten().tolist())
    page.locator(".convolution .map .cell").last.click()
    assert page.locator("input[name=place]").input_value() == str(n * n)

    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=(9, 9)), rng.normal(size=(3, 3))
    for stride, padding in ((1, 0), (2, 0), (3, 2)):
        exact = F.conv2d(torch.tensor(image)[None, None], torch.tensor(kernel)[None, None], stride=stride, padding=padding)[0, 0]
        found = ask(page, "d.convolve(...args)", image.tolist(), kernel.tolist(), stride, padding)
        np.testing.assert_allclose(found, exact, atol=1e-12)


def test_pooling_descent_and_softmax_show_what_pytorch_computes(server: Server, page: Page) -> None:
    open_at(page, server, "pooling")
    page.get_by_role("button", name="Other numbers").click()
    image = torch.tensor(grid(page, ".pooling .picture"))[None]
    np.testing.assert_allclose(grid(page, ".pooling .map"), F.max_pool2d(image, 2)[0])
    page.get_by_role("radio", name="The average").check(force=True)
    np.testing.assert_allclose(grid(page, ".pooling .map"), F.avg_pool2d(image, 2)[0])

    show(page, "gradient-descent")
    for start, rate, momentum, said in (
        (1.6, 0.1, 0, "walks down steadily"), (-2, 0.02, 0, "crawls"), (1, 0.9, 0, "jumps across the valley"), (1.5, 1, 0, "never arrives"),
        (1, 1.1, 0, "flies apart"), (2, 0.5, 0, "very first step"), (1, 0.1, 0.9, "swings to rest"), (1, 1.1, 0.9, "swings to rest"),
    ):  # fmt: skip
        slide(page, "start", start)
        slide(page, "rate", rate)
        slide(page, "momentum", momentum)
        expect(page.locator(".descent .aside")).to_contain_text(said)
        x = torch.tensor([float(start)], requires_grad=True, dtype=torch.float64)
        sgd = torch.optim.SGD([x], lr=rate, momentum=momentum)
        way = []
        for _ in range(5):
            way.append(x.item())
            sgd.zero_grad()
            (x**2).backward()
            sgd.step()
        taken = 1 if "first" in said else 4  # it does not go on at the bottom
        for _ in range(4):
            page.get_by_role("button", name="Step", exact=True).click()
        rows = [[number(t) for t in row.locator("td").all_inner_texts()] for row in page.locator(".steps tbody tr").all()]
        assert [row[0] for row in rows] == list(range(taken + 1))
        np.testing.assert_allclose([row[1] for row in rows], way[: taken + 1], atol=0.00051)
        np.testing.assert_allclose([row[2] for row in rows], np.square(way[: taken + 1]), atol=0.00051)
        if abs(x.item()) > 0.01:
            assert number(page.locator(".descent .formula:visible").last.inner_text().split("= ")[-1]) == pytest.approx(
                x.item(), abs=0.00051
            )
    # The long run: the worst of the eigenvalues of one step.
    for rate, momentum in ((0.1, 0), (0.7, 0), (1.1, 0), (0.05, 0.8), (0.4, 0.95), (0.02, 0.3)):
        step = np.array([[1 - 2 * rate, -rate * momentum], [2, momentum]])
        assert ask(page, "d.shrink(...args)", rate, momentum) == pytest.approx(max(abs(np.linalg.eigvals(step))))

    show(page, "softmax")
    for logits, temperature in (((2, 1, 0.1, -1.5), 1), ((5, -5, 4.9, 0), 0.3), ((0, 0, 0, 0), 5), ((1.2, -0.7, 3.3, 2.1), 2.5)):
        for name, value in zip(("cat", "dog", "horse", "car"), logits, strict=True):
            slide(page, name, value)
        slide(page, "temperature", temperature)
        expected = torch.softmax(torch.tensor(logits, dtype=torch.float64) / temperature, 0)
        shares = [number(text) for text in page.locator(".softmax .share").all_inner_texts()]
        np.testing.assert_allclose(shares[:4], expected, atol=0.00051)
        assert shares[4] == 1
    before = page.locator(".softmax .share").all_inner_texts()
    raised = page.get_by_role("button", name="Add 1 to every score")
    raised.click()
    assert page.locator("input[name=cat]").input_value() == "2.2" and page.locator(".softmax .share").all_inner_texts() == before
    expect(raised).to_be_disabled()  # 3.3 has become 4.3, and 5 is the end of a slider


def test_loss_curves_schedules_and_functions_are_those_of_pytorch(server: Server, page: Page) -> None:
    open_at(page, server, "label-smoothing")
    for p, smoothing in ((0.6, 0.1), (0.05, 0.3), (0.9, 0), (0.995, 0.2)):
        slide(page, "p", p)
        slide(page, "smoothing", smoothing)
        logits = torch.tensor([[p] + [(1 - p) / 9] * 9], dtype=torch.float64).log()
        expected = F.cross_entropy(logits, torch.tensor([0]), label_smoothing=smoothing).item()
        assert number(page.locator(".cross-entropy .formula").inner_text().split("= ")[-1]) == pytest.approx(expected, abs=0.00051)
        assert ask(page, "d.crossEntropy(...args)", p, smoothing, 10) == pytest.approx(expected, abs=1e-12)

    show(page, "activation")
    x = torch.linspace(-4, 4, 33, dtype=torch.float64, requires_grad=True)
    for name, function in (("relu", torch.relu), ("gelu", F.gelu), ("tanh", torch.tanh), ("sigmoid", torch.sigmoid)):
        y = function(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        found = np.array(ask(page, "args[1].map(d.ACTIVATIONS[args[0]])", name, x.tolist()))
        np.testing.assert_allclose(found[:, 0], y.detach(), atol=1e-6)
        np.testing.assert_allclose(found[:, 1], slope, atol=1e-6)

    # As the training loop sets it, step by step.
    for kind, warm in (("constant", 0), ("constant", 3), ("step", 0), ("step", 2), ("cosine", 0), ("cosine", 4), ("one_cycle", 0)):
        config = params.run_config(
            {"schedule": kind, "warmup": warm, "epochs": 12, "step_every": 4, "step_factor": 0.3, "learning_rate": 0.1}
        )
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([{"params": [weight], "lr": 0.1, "top_lr": 0.1}], momentum=0.9)
        scheduler = fit.make_scheduler(optimizer, config, batches=5)
        rates = []
        for _ in range(60):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        plan = {"peak": 0.1, "total": 60, "warm": warm * 5, "every": 20, "factor": 0.3}
        found = ask(page, "Array.from({length: 60}, (_, i) => d.scheduled(args[0], i, args[1]))", kind, plan)
        np.testing.assert_allclose(found, rates, rtol=1e-6, atol=1e-9, err_msg=f"{kind} with warm-up {warm}")


def test_the_curve_that_memorises_is_the_least_squares_fit(server: Server, page: Page) -> None:
    open_at(page, server, "overfitting")
    points = ask(page, "d.POINTS")
    for n in (10, 40):
        page.get_by_role("radio", name=str(n), exact=True).check(force=True)
        train, validation = np.array(points["train"][:n]), np.array(points["validation"])
        errors = []
        for degree in range(10):
            curve = np.polynomial.Polynomial.fit(train[:, 0], train[:, 1], degree)
            errors.append([float(np.sqrt(np.mean((curve(some[:, 0]) - some[:, 1]) ** 2))) for some in (train, validation)])
            slide(page, "degree", degree)
            shown = re.findall(r"error (\d\.\d+) \(n = (\d+)\)", page.locator(".overfitting .formula").inner_text())
            assert [int(count) for _, count in shown] == [n, len(validation)]
            np.testing.assert_allclose([float(error) for error, _ in shown], errors[-1], atol=0.00051)
            if degree in (0, 3):
                expect(page.locator(".overfitting .aside")).to_contain_text("underfitting" if degree == 0 else "lowest validation error")
        if n == 10:
            assert errors[9][0] < 1e-6 < errors[3][1] < errors[9][1] / 2  # it meets every point, and is of no use
            expect(page.locator(".overfitting .aside")).to_contain_text("overfitting")
        else:
            expect(page.locator(".overfitting .aside")).to_contain_text("hold even a free curve")


def test_run_moves_on_by_itself_but_not_for_those_who_want_no_motion(server: Server, page: Page) -> None:
    open_at(page, server, "gradient-descent")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".steps tbody tr").last.locator("td").first).to_have_text(re.compile(r"^([3-9]|\d\d)$"))
    page.get_by_role("button", name="Pause", exact=True).click()
    page.emulate_media(reduced_motion="reduce")
    open_at(page, server, "gradient-descent")
    page.get_by_role("button", name="Run", exact=True).click()
    assert number(page.locator(".steps tbody tr").last.locator("td").first.inner_text()) > 20  # the end, at once
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()
