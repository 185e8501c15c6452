"""Follows a recipe of docs/adding.md in a copy of the tree: exactly the blocks that the document shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.conftest import ROOT

PARTS = ("app.py", "pyproject.toml", "README.md", ".streamlit", "core", "pages", "assets", "docs", "tests")
STEP = re.compile(r"^ *`(?P<path>[\w./]+)`$|^(?P<indent> *)```(?P<language>\w+)\n(?P<block>.*?)^ *```$", re.MULTILINE | re.DOTALL)


def copied(to: Path) -> Path:
    """A copy of the tree without its pictures."""
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "pictures"))
        else:
            to.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    return to


def follow(recipe: str, tree: Path) -> list[str]:
    """Applies the blocks of the recipe of that title; the files it touched."""
    text = (tree / "docs" / "adding.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {re.escape(recipe)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    touched: list[str] = []
    for step in STEP.finditer(section):
        if step["path"]:
            touched.append(step["path"])
            continue
        path, block = tree / touched[-1], textwrap.dedent(step["block"]) if step["language"] != "diff" else step["block"]
        if step["language"] == "diff":
            lines = [line.removeprefix(step["indent"]) for line in block.splitlines()]
            old, new = ("".join(f"{line[1:]}\n" for line in lines if line[:1] != sign) for sign in "+-")
            before = path.read_text(encoding="utf-8")
            assert before.count(old) == 1, f"{touched[-1]} has to hold these lines once:\n{old}"
            path.write_text(before.replace(old, new), encoding="utf-8")
        else:
            assert not path.exists(), f"{touched[-1]} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block, encoding="utf-8")
    return touched


def python(tree: Path, *args: str) -> str:
    """What python printed in the copy, which had to end well."""
    env = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run([sys.executable, *args], cwd=tree, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
