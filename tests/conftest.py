"""What the tests share: a home of their own, small true pictures, and one finished run that is trained once."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch: two workers of pytest on two cores; more threads only wait for each other
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process compiles all of core anew, and each pytest all tests: 20 s of a core

import numpy as np
import pytest
import sqlalchemy as sa
from loky import ProcessPoolExecutor
from PIL import Image as Pillow
from sqlalchemy.util import LRUCache

from core import roles, storage
from core.__main__ import main
from core.data import classes, decoders, imports, labels, schema, sources, store
from core.runs import jobs, launch
from core.train import train
from core.types import Dataset
from tests import disks, exporting, ports
from tests.forking import ADDRESS, ForkedWorker, ForkLauncher, server
from tests.postgres import Cluster
from tests.squares import squares as drawn

ROOT = Path(__file__).parent.parent
sys.dont_write_bytecode = False
gc.set_threshold(50_000, 10, 10)  # not 700: to parse all of core takes a third of the time


# The files that take longest, longest first: a worker that came to one of them last would keep the other waiting.
HEAVY = (
    "test_checks.py",
    "browser/test_walk.py",
    "browser/test_label.py",
    "browser/test_evaluate.py",
    "browser/test_one.py",
    "browser/test_watch.py",
    "browser/test_access.py",
    "label/test_embed.py",
    "runs/test_cluster.py",
    "catalog/test_networks.py",
    "test_storage.py",
    "api/test_servers.py",
    "share/test_archive.py",
    "test_adding.py",
    "explain/test_patterns.py",
    "data/test_real_data.py",
    "train/test_train.py",
    "ml/test_ml.py",
    "api/test_api.py",
)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many as there are cores: two browsers on one core keep each other waiting; what has no browser waits for a third of its time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + cores // 2 if config.option.markexpr == "not browser" else max(2, cores)


def pytest_xdist_setupnodes() -> None:
    """All test processes have their pythons forked from one process, which takes 7 s of a core to import what they need."""
    os.environ[ADDRESS] = server()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {ROOT / "tests" / name: i for i, name in enumerate(HEAVY)}
    items.sort(key=lambda item: place.get(item.path, len(HEAVY)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Who leaves out what drives a browser does not import it either: 2 s of a core in each process."""
    return True if config.option.markexpr == "not browser" and collection_path == ROOT / "tests" / "browser" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is loaded stays, and is not looked through for what could go: 0.3 s of a core each time, after every run of a page by Streamlit."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test whose file, or who itself, is marked with databases has a home on each of them."""
    mark = metafunc.definition.get_closest_marker("databases")
    if mark is not None and "home" in metafunc.fixturenames:
        metafunc.parametrize("home", mark.args, indirect=True)


CACHES: dict[ModuleType, tuple[int, list[functools._lru_cache_wrapper[Any]]]] = {}  # and of how many names they were found


def caches(module: ModuleType) -> list[functools._lru_cache_wrapper[Any]]:
    """Those of a module, looked for once: 10,000 names thrice for each test are 15 s of a core."""
    names, found = CACHES.get(module, (-1, []))
    if names != len(vars(module)):
        found = [one for one in vars(module).values() if isinstance(one, functools._lru_cache_wrapper)]
        CACHES[module] = len(vars(module)), found
    return found


@functools.lru_cache(maxsize=1)
def remembering(_modules: int) -> list[ModuleType]:
    """Those of core and pages, looked for anew when another module has come: 6,000 names thrice for each test are 15 s of a core, too."""
    ours = ("core.", "pages.")
    return [module for name, module in list(sys.modules.items()) if name.startswith(ours) and not name.startswith("core.catalog.")]


def forget() -> None:
    """Drops what the process remembers of the last LOUPE_HOME: every cache of core and pages, but what the catalog reads of its own files.

    And but for the client of the bucket (tests/buckets.py), which takes half a second to make.
    """
    if schema.engine.cache_info().currsize:
        schema.engine().dispose()
    for module in remembering(len(sys.modules)):
        for cached in caches(module):
            if cached is not storage._opened:
                cached.cache_clear()
    roles._found.clear()
    if "pages" in sys.modules:  # without a page there is nothing in Streamlit's cache, which says that it has no server
        sys.modules["streamlit"].cache_data.clear()


def move_in(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("LOUPE_HOME", str(home))
    for name in ("LOUPE_DATABASE_URL", "LOUPE_ROOTS", "LOUPE_ALLOWED_HOSTS", "LOUPE_MAX_UPLOAD_MB"):
        monkeypatch.delenv(name, raising=False)
    forget()  # last: a thread that an earlier test left may ask for the settings at any moment, and what it finds is remembered


class SharedDecoders(decoders.Decoders):
    """One pool of decoder processes for all imports of a test process: starting one takes longer than most imports of a test."""

    pool: ClassVar[ProcessPoolExecutor | None] = None

    def __init__(self) -> None:
        self._pool = SharedDecoders.pool

    def __exit__(self, *_: object) -> None:
        SharedDecoders.pool = self._pool


def share_exports(home: Path, factory: pytest.TempPathFactory) -> None:
    """The homes of all test processes have one folder of networks as ONNX: to export EfficientNet-Lite0 takes 13 s."""
    shared = factory.getbasetemp().parent / "onnx"
    shared.mkdir(exist_ok=True)
    (home / "cache").mkdir(exist_ok=True)
    (home / "cache" / "onnx").symlink_to(shared)


DIALECTS: dict[ModuleType, sa.Dialect] = {}  # one of each that has seen its database
COMPILED: LRUCache[Any, Any] = LRUCache(2000)
CONNECTED = schema.connected
UNSYNCED = disks.unsynced(CONNECTED)


def connected(url: sa.URL) -> sa.Engine:
    """Engines share what they have compiled: each test has one of its own, and a fifth of its time went into the same statements."""
    made = UNSYNCED(url)
    used = made.dialect.dbapi
    if isinstance(used, ModuleType):  # none that a test has put there
        made.dialect = DIALECTS.get(used, made.dialect)  # by which it is kept
        made._compiled_cache = COMPILED
        sa.event.listen(made, "connect", lambda *_: DIALECTS.setdefault(used, made.dialect))
    return made


@pytest.fixture(scope="session", autouse=True)
def nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A test that asks for no home must not write into the data folder of the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("nobody")
        share_exports(home, tmp_path_factory)
        patch.setenv("LOUPE_HOME", str(home))
        patch.setattr(launch, "launcher", ForkLauncher())
        patch.setattr(launch, "expect_run", lambda: None)  # tests have a process that forks already
        patch.setattr(launch, "_start_worker", ForkedWorker)
        patch.setattr(imports, "Decoders", SharedDecoders)
        patch.setattr(schema, "connected", connected)
        patch.setattr(os, "fsync", disks.no_fsync)
        yield home


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database as the app opens it: for what is claimed about a loss of power."""
    monkeypatch.setattr(schema, "connected", CONNECTED)


@pytest.fixture(autouse=True)
def nothing_is_left_in_it(nobodys_home: Path) -> Iterator[None]:
    """What a test without a home stores, another of the same process would find."""
    yield
    if stored := [path for name in ("images", "runs") for path in (nobodys_home / name).rglob("*")]:
        for name in ("images", "runs"):
            shutil.rmtree(nobodys_home / name, ignore_errors=True)
        beside = [thread.name for thread in threading.enumerate()]
        pytest.fail(f"this test, or what it began, stored {stored[:9]} in nobody's home; threads: {beside}")


@pytest.fixture(scope="session")
def quick_exports() -> None:
    """For files whose tests export networks as ONNX in this process."""
    exporting.prepare()


START_WORKER = launch._start_worker


@pytest.fixture
def real_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Model workers as the app has them: for what is claimed about these processes themselves."""
    launch.close()
    monkeypatch.setattr(launch, "_start_worker", START_WORKER)
    yield
    launch.close()


@pytest.fixture(scope="session")
def no_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with today's tables and no row: to copy one takes a hundredth of the time that making it takes."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("template")
        move_in(patch, home)
        schema.engine()
        forget()
    return home / "loupe.db"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL of this test process; skips where it is not installed."""
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture(scope="session")
def provider() -> Iterator[str]:
    """The address of a provider of OpenID Connect, at which anybody is whoever they say."""
    import oidc_provider_mock

    with oidc_provider_mock.run_server_in_thread() as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
def home(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, no_rows: Path
) -> Iterator[Path]:
    """A LOUPE_HOME with nothing in it, on SQLite, or on the database that pytest.mark.databases names."""
    move_in(monkeypatch, tmp_path / "home")
    (tmp_path / "home").mkdir(exist_ok=True)  # a line of a log may have asked for the settings, which make it
    share_exports(tmp_path / "home", tmp_path_factory)
    if getattr(request, "param", "sqlite") == "sqlite":
        shutil.copy(no_rows, tmp_path / "home" / "loupe.db")
        yield tmp_path / "home"
        forget()
    else:
        cluster: Cluster = request.getfixturevalue("postgresql")
        monkeypatch.setenv("LOUPE_DATABASE_URL", cluster.empty())
        yield tmp_path / "home"
        forget()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 1 MB; skips where this account may not mount one."""
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(disks.small(tmp_path / "disk"))
        except PermissionError as e:
            pytest.skip(str(e))
        yield disk


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A background import is over when it has been started."""

    class Here:
        def start(self, folder: Path, command: list[str]) -> None:
            assert command[1:] == ["-m", "core", "job", str(folder)]
            jobs.run(folder, imports.IMPORT)

        def alive(self, folder: Path) -> bool:
            return False

        def kill(self, folder: Path) -> None: ...

    monkeypatch.setattr(launch, "launcher", Here())


@pytest.fixture
def squares() -> Callable[[Path, int], Path]:
    """Writes 12 x 12 pictures, a folder for each colour."""
    return drawn


def stored_dataset(name: str, folder: Path) -> Dataset:
    """The folder's classes as a dataset; decoded here, so that no pool of processes has to start."""
    found = store.create_dataset(name)
    rows = [replace(imports.add_upload(found, p, p.name), label=p.parent.name) for p in sorted(folder.glob("*/*.png"))]
    classes.ensure(found.id, sorted({r.label for r in rows if r.label}))
    labels.add_images(found.id, rows, "tester", "import")
    return store.get_dataset(found.id)


@dataclass(frozen=True)
class Trained:
    home: Path
    dataset: Dataset
    run_id: str


class Files:
    """The folders and files of a folder, held in memory: written so, many small ones take a quarter of the time that copying takes."""

    def __init__(self, folder: Path) -> None:
        found = sorted(folder.rglob("*"))
        self._folders = [path.relative_to(folder) for path in found if path.is_dir()]
        self._files = [(path.relative_to(folder), path.read_bytes(), path.stat()) for path in found if path.is_file()]

    def write(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for name in self._folders:
            os.makedirs(folder / name, exist_ok=True)
        for name, data, stat in self._files:
            file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, stat.st_mode)
            os.write(file, data)
            os.close(file)
            os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture(scope="session")
def small_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Files]:
    """What “small” is made of, and a home that holds it: both are written sooner than made."""
    made = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, made / "home")
        stored_dataset("squares", drawn(made / "squares", 8))
        forget()
    return Files(made / "squares"), Files(made / "home")


@pytest.fixture
def small(home: Path, tmp_path: Path, small_once: tuple[Files, Files]) -> Dataset:
    """24 coloured squares of three classes."""
    squares, whole_home = small_once
    squares.write(tmp_path / "squares")
    if os.environ.get("LOUPE_DATABASE_URL") or schema.engine.cache_info().currsize:
        return stored_dataset("squares", tmp_path / "squares")
    whole_home.write(home)
    found = store.find_dataset("squares")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """The dataset “digits-small” of 300 real digits, imported from a folder, and a ConvNet that learned them."""
    from sklearn.datasets import load_digits

    folder, home = tmp_path_factory.mktemp("digits"), tmp_path_factory.mktemp("trained")
    share_exports(home, tmp_path_factory)
    digits = load_digits()
    for i, (pixels, number) in enumerate(zip(digits.images[:300], digits.target[:300], strict=True)):
        (folder / str(number)).mkdir(exist_ok=True)
        Pillow.fromarray((pixels * (255 / 16)).round().astype(np.uint8)).save(folder / str(number) / f"{i:03d}.png")
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, home)
        report = imports.import_now("digits-small", sources.at(folder), "tester")
        assert report.added == 300, report
        found = store.find_dataset("digits-small")
        assert found is not None
        run = train.start(found.id, {"architecture": "convnet", "epochs": 3, "batch_size": 20}, "tester")
        state = train.wait(run.id)
        assert state.status == "succeeded", (state.message, train.log_tail(run.id))
        forget()
    with whole(home):
        yield Trained(home, found, run.id)


@pytest.fixture
def trained(trained_once: Trained, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trained]:
    """The finished run that all tests share: read it, change nothing."""
    move_in(monkeypatch, trained_once.home)
    yield trained_once
    forget()


def copy_home(made: Path, home: Path, without: str = "") -> None:
    """A home as that one, whose originals are the same files: nothing of Loupe writes into one, and to copy them takes five times as long."""

    def copy(source: str, target: str) -> None:
        (os.link if f"{os.sep}images{os.sep}" in source else shutil.copy2)(source, target)

    shutil.copytree(made, home, symlinks=True, dirs_exist_ok=True, copy_function=copy, ignore=shutil.ignore_patterns(without))


@contextlib.contextmanager
def whole(home: Path) -> Iterator[None]:
    """No test of those that share its originals writes into one."""

    def sign() -> str:
        found = hashlib.sha256()
        for path in sorted((home / "images").rglob("*.*")):
            found.update(path.name.encode() + path.read_bytes())
        return found.hexdigest()

    before = sign()
    yield
    assert sign() == before, f"a test wrote into an original of a copy of {home}"


@contextlib.contextmanager
def copied(trained: Trained, home: Path) -> Iterator[Trained]:
    """The same in a home that may be changed, but for the bytes of an original."""
    copy_home(trained.home, home)
    (home / "runs" / trained.run_id / "looks.jsonl").unlink(missing_ok=True)  # another test may have looked
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, home)
        yield replace(trained, home=home)
        forget()


@pytest.fixture
def trained_copy(trained_once: Trained, tmp_path: Path) -> Iterator[Trained]:
    """The finished run in a home that the test may change."""
    with copied(trained_once, tmp_path / "copy") as copy:
        yield copy


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs python with the arguments from the repository root, in the test's LOUPE_HOME."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *args], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=120)

    return run


def run_command(*args: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of the command line in this process: what it prints, says and ends with, without 4 s of imports."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(args))
        except SystemExit as e:  # argparse
            code = int(e.code or 0)
    return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    return run_command


@pytest.fixture
def free_port() -> int:
    return ports.free_port()
