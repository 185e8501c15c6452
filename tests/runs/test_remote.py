"""What is named for the model workers is there: mypy compares the calls with the functions, this test the names."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.runs import launch, remote
from core.runs.remote import Function, infer
from tests.conftest import ROOT


def named() -> Iterator[tuple[str, str, str]]:
    """(file, module of core.ml, function) of each attribute of what a file of core imports from core.runs.remote."""
    for path in sorted((ROOT / "core").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "core.runs" not in text or "remote" not in text:  # to parse all takes a second, in every process of the tests
            continue
        tree = ast.parse(text)
        from_remote = {
            alias.asname or alias.name: alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "core.runs.remote"
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                owner = node.value
                if isinstance(owner, ast.Name) and owner.id in from_remote:
                    yield path.name, from_remote[owner.id], node.attr
                elif isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "remote":
                    yield path.name, owner.attr, node.attr


FOUND = sorted(set(named()))


def test_the_walk_finds_what_is_asked_for() -> None:
    assert len(FOUND) > 20 and ("launch.py", "infer", "ready") in FOUND and ("teach.py", "teach", "teach") in FOUND


@pytest.mark.parametrize(("file", "module", "name"), FOUND)
def test_every_function_that_a_worker_is_asked_for_is_there(file: str, module: str, name: str) -> None:
    assert callable(getattr(importlib.import_module(f"core.ml.{module}"), name))


def test_naming_a_function_imports_nothing_and_calling_it_calls_the_real_one(tmp_path: Path) -> None:
    assert remote.__getattr__("no_such_module").anything == Function("core.ml.no_such_module", "anything")
    assert infer.ready == Function("core.ml.infer", "ready")
    assert Function("os.path", "basename")("a/b") == "b"
    assert launch.ask(Function("os.path", "join"), "a", "b") == "a/b"
