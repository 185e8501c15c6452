"""A real server on a free port and a real Chromium; skipped, with the reason, where there is no Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, Request, ViewportSize, expect, sync_playwright

from tests.conftest import copy_home, forget, move_in, run_command, share_exports, whole
from tests.forking import Forked, fork_app
from tests.ports import usual_port

expect.set_options(timeout=30_000)  # a busy machine is slower than Playwright's 5 s: with ten processes to a core a page takes 15 s

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# The shell without windows takes a third less of a core for each page.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",  # there is a camera, and a page may use it
    "--use-fake-device-for-media-stream",
]

# How far what is drawn has moved since the page was opened, from 0, in window.shift.
SHIFT = """() => { window.shift = 0; new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.shift += one.value;
}).observe({ type: "layout-shift", buffered: true }); }"""
WINDOW: ViewportSize = {"width": 1440, "height": 1000}


def settled(page: Page) -> None:
    """The server has run the page to its end, and the browser has drawn what came."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)


def in_scheme(page: Page, scheme: str) -> None:
    """The page that is there in light or dark, as when the system goes over to it; to load it anew costs ten times as much."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    expect(page.get_by_test_id("stApp")).to_have_css("color-scheme", scheme)


def schemes(page: Page) -> Iterator[str]:
    """The page that is there in light and in dark, from the one that it has: each step draws all of it anew."""
    now = page.evaluate("() => matchMedia('(prefers-color-scheme: dark)').matches")
    for scheme in ("dark", "light") if now else ("light", "dark"):
        in_scheme(page, scheme)
        yield scheme


def widths(page: Page, where: str) -> Iterator[int]:
    """The page that is there as wide as a phone, a tablet and a screen: in light and dark nothing overflows, and no error is shown."""
    for width in (390, 1024, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)  # what is drawn by scripts has its size
        for scheme in schemes(page):
            expect(page.get_by_text("Something went wrong")).to_have_count(0)
            assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth"), (where, width, scheme)
        yield width


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("browser")
            item.add_marker(pytest.mark.flaky(reruns=1))  # on a busy machine a page may be drawn anew under a click; reported as “rerun”


@dataclass
class Server:
    """The app on its own data folder; it can be stopped and started again."""

    home: Path
    port: int
    real: bool = False  # started from nothing, and so is what it starts, in 10 s of a core more
    process: subprocess.Popen[bytes] | Forked | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self) -> None:
        env = {**os.environ, "LOUPE_HOME": str(self.home), "LOUPE_ROOTS": "", "LOUPE_USER": "tester"}
        if self.real:
            command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(self.port)]
            with open(self.home / "server.log", "ab") as log:
                self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)
        else:
            self.process = fork_app(self.port, self.home / "server.log", env)
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://localhost:{self.port}/_stcore/health", timeout=1).read()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self.home / "server.log").read_text())

    def stop(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        except (subprocess.TimeoutExpired, TimeoutError):
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This process works on the same data folder, as another one beside the server's."""
        with pytest.MonkeyPatch.context() as patch:
            move_in(patch, self.home)
            patch.setenv("LOUPE_USER", "tester")
            yield
            forget()

    def core(self, *args: str) -> None:
        """One command of the command line on the same data folder."""
        with self.inside():
            done = run_command(*args)
        assert not done.returncode, done.stderr


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with the sample as “digits”, to be copied."""
    home = tmp_path_factory.mktemp("sample")
    share_exports(home, tmp_path_factory)
    Server(home, 0).core("import", "sample", "--name", "digits")
    with whole(home):
        yield home


@contextmanager
def serving(home: Path, sample: Path, real: bool = False) -> Iterator[Server]:
    """The app on a data folder of its own with the sample as “digits”; nothing it logs may be a traceback."""
    one = Server(home, usual_port(), real)
    copy_home(sample, home)
    one.start()
    yield one
    one.stop()
    log = (one.home / "server.log").read_text()
    assert "Traceback" not in log, log[-8000:]


@pytest.fixture(scope="module")  # what one file does to the data, no other sees, in whatever order they run
def server(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), sample) as one:
        yield one


@pytest.fixture(scope="package")  # it ends with the last browser test: its event loop would refuse every other in this thread
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as p:
        one = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield one
        one.close()


def new_tab(browser: Browser, size: ViewportSize = WINDOW) -> Page:
    """The tab of one of several people, in which transitions end at once: to draw each frame of one takes a core 5 ms."""
    one = browser.new_context(viewport=size).new_page()
    one.set_default_timeout(30_000)
    one.context.new_cdp_session(one).send("Animation.setPlaybackRate", {"playbackRate": 1000})
    return one


@pytest.fixture(scope="package")
def tab(browser: Browser) -> Iterator[Page]:
    """One tab for all tests: in a new one Chromium compiles Streamlit's scripts anew, which takes a core 2 s."""
    context = browser.new_context(viewport=WINDOW)
    one = context.new_page()
    one.set_default_timeout(30_000)
    yield one
    context.close()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """A visitor who was never here; any script error and any request to another host fails the test."""
    tab.set_viewport_size(WINDOW)
    tab.emulate_media(color_scheme="light", reduced_motion="no-preference")
    problems: list[str] = []

    def failed(error: Error) -> None:
        problems.append(f"script error: {error}")

    def asked(request: Request) -> None:
        if not request.url.startswith(("http://localhost", "data:", "blob:")):
            problems.append(f"request to {request.url}")

    tab.on("pageerror", failed)
    tab.on("request", asked)
    yield tab
    tab.remove_listener("pageerror", failed)
    tab.remove_listener("request", asked)
    left(tab)
    assert not problems, problems


def left(tab: Page) -> None:
    """The tab without a page, and without what the pages in it were given and have kept."""
    tab.unroute_all()
    if tab.url.startswith("http"):
        tab.evaluate("localStorage.clear(); sessionStorage.clear()")
    tab.goto("about:blank")
    tab.context.clear_cookies()
