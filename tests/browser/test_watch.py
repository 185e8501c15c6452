"""A run watched while it trains: curves, answers, pause, resume and stop; and the way on after a failure."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import Server

PATIENCE = 60_000  # ms, for a machine that is busy


def newest_run(server: Server) -> Path:
    return max((server.home / "runs").iterdir())


def long_run(server: Server) -> Path:
    server.core("train", "--dataset", "digits", "--architecture", "linear", *setting("epochs=1000", "patience=0", "batch_size=1"))
    return newest_run(server)


def setting(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


def points(page: Page, chart: str) -> int:
    return int(page.evaluate(f"() => document.querySelector('.lp-{chart}')?.data?.[0]?.x?.length ?? 0"))


def grows(page: Page, chart: str, beyond: int) -> None:
    page.wait_for_function(f"() => (document.querySelector('.lp-{chart}')?.data?.[0]?.x?.length ?? 0) > {beyond}", timeout=PATIENCE)


def shown_epoch(page: Page) -> int:
    return int(re.sub(r"\D", "", page.locator(".lp-epoch").inner_text()))


def test_a_run_is_watched_paused_resumed_and_stopped(server: Server, page: Page) -> None:
    run = long_run(server)
    page.goto(f"{server.url}/train?dataset=digits")
    for chart in ("loss", "accuracy", "rate", "speed"):
        grows(page, chart, 0)
    expect(page.get_by_text("early stopping patience 0")).to_be_visible()

    # The matrix holds every validation image, and the samples are real pictures
    cells = page.locator(".lp-matrix td[data-at]")
    expect(cells).to_have_count(100)
    page.get_by_role("button", name="One epoch back").click()  # it stands still now
    epoch = shown_epoch(page)
    counted = sum(int(text) for text in cells.all_inner_texts() if text)
    held = json.loads((run / "config.json").read_text())["counts"]["validation"]
    assert counted == held
    right = sum(int(text) for text in page.locator(".lp-matrix td.lp-right").all_inner_texts() if text)
    expect(page.locator(".lp-matrix .lp-sum")).to_contain_text(f"{right} of {held} images right")
    page.locator(".lp-matrix td.lp-right").nth(3).hover()
    expect(page.locator(".lp-readout")).to_contain_text("actual 3, predicted 3:")
    assert page.evaluate("() => [...document.querySelectorAll('.lp-sample img')].filter((i) => i.naturalWidth).length") == 12

    # A zoom and a chosen epoch stay while the run goes on
    page.evaluate("() => Plotly.relayout(document.querySelector('.lp-loss'), {'xaxis.range': [1, 3]})")
    grows(page, "loss", points(page, "loss"))
    assert page.evaluate("() => document.querySelector('.lp-loss')._fullLayout.xaxis.range") == [1, 3]
    assert shown_epoch(page) == epoch
    page.get_by_role("button", name="Newest", exact=True).click()
    page.wait_for_function(
        f"() => Number(document.querySelector('.lp-epoch').textContent.replace(/\\D/g, '')) > {epoch + 1}", timeout=PATIENCE
    )

    # Pause, note, reload, resume
    page.get_by_role("button", name="Pause", exact=True).dblclick()
    expect(page.locator(".lp-what")).to_contain_text("Paused after", timeout=PATIENCE)
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    page.get_by_role("button", name="Note and tags").click()
    page.get_by_role("textbox", name="Note").fill("A *first* try")
    page.get_by_role("textbox", name="Tags").fill("baseline, linear")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("A *first* try").first).to_be_visible()
    page.reload()
    expect(page.get_by_text("A *first* try").first).to_be_visible()
    expect(page.get_by_text("baseline").first).to_be_visible()
    expect(page.locator(".lp-what")).to_contain_text("Paused after")
    before = shown_epoch(page)
    page.get_by_role("button", name="Resume").dblclick()
    page.wait_for_function(
        f"() => Number(document.querySelector('.lp-epoch').textContent.replace(/\\D/g, '')) > {before}", timeout=PATIENCE
    )
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    kinds = [json.loads(line)["kind"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert kinds.count("Resumed") == 1

    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(".lp-what")).to_contain_text("Stopped after", timeout=PATIENCE)
    expect(page.get_by_role("button", name="See its mistakes")).to_be_visible()


def test_a_run_that_failed_says_why_and_starts_again_with_the_remedy(server: Server, page: Page) -> None:
    diverging = (
        "optimizer=sgd",
        "momentum=0",
        "learning_rate=10",
        "weight_decay=1",
        "epochs=3",
    )  # each step makes every weight 9 times as large
    server.core("train", "--dataset", "digits", "--architecture", "linear", *setting(*diverging))
    failed = newest_run(server)
    page.goto(f"{server.url}/train?dataset=digits&run={failed.name}")
    expect(page.get_by_text("Training failed.")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text(re.compile(r"The loss became \w+ in epoch 1, step \d+")).first).to_be_visible()
    runs = len(list(failed.parent.iterdir()))
    page.get_by_role("button", name="Start again with learning rate 1", exact=True).dblclick()
    expect(page).not_to_have_url(re.compile(failed.name))
    assert len(list(failed.parent.iterdir())) == runs + 1
    assert json.loads((newest_run(server) / "config.json").read_text())["config"]["learning_rate"] == 1
    expect(page.get_by_text(re.compile("SGD, learning rate 1,"))).to_be_visible()
    stop = page.get_by_role("button", name="Stop", exact=True)
    again = page.get_by_text("Training failed.").or_(page.locator(".lp-what", has_text="Finished"))
    expect(stop.or_(again).first).to_be_visible()
    expect(again.first).to_be_visible(timeout=PATIENCE)


def test_a_run_waits_behind_another_and_takes_its_turn_when_that_one_is_paused(server: Server, page: Page) -> None:
    first = long_run(server)
    page.goto(f"{server.url}/train?dataset=digits&run={first.name}")
    grows(page, "loss", 0)
    page.get_by_text("Train another network", exact=True).click()
    page.locator("label").filter(has_text=re.compile("^Linear softmax")).first.click()
    expect(page.locator(".st-key-what-will-happen")).to_contain_text("Linear softmax learns", timeout=PATIENCE)
    start = page.get_by_role("button", name="Start training")
    expect(start).to_be_enabled(timeout=PATIENCE)
    start.dblclick()
    what = page.locator(".lp-what")
    # The first run's panel may fade beside.
    expect(what.filter(has_text="Queued: next in line for the CPU")).to_be_visible(timeout=PATIENCE)
    second = newest_run(server)
    assert second != first and len([p for p in second.parent.iterdir() if p.name > first.name]) == 1

    page.goto(f"{server.url}/train?dataset=digits&run={first.name}")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(what).to_contain_text("Paused after", timeout=PATIENCE)
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible(timeout=PATIENCE)
    page.goto(f"{server.url}/train?dataset=digits&run={second.name}")
    expect(what).to_contain_text("Finished in", timeout=2 * PATIENCE)
    page.goto(f"{server.url}/train?dataset=digits&run={first.name}")
    grows(page, "loss", 0)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(what).to_contain_text("Stopped after", timeout=PATIENCE)
    assert [json.loads(line)["kind"] for line in (first / "events.jsonl").read_text().splitlines()].count("Resumed") == 1
