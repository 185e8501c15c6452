"""Follows a recipe of docs/adding.md in a copy of the tree: exactly the blocks that the document shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.forking import fork

PARTS = ("app.py", "pyproject.toml", "README.md", ".streamlit", "core", "pages", "assets", "docs", "tests")
PLACE = r"^ *`(?P<path>[\w./]+)`(?:$|, (?:(?P<end>at the end)|before `(?P<before>[^\n]+)`):$)"
STEP = re.compile(PLACE + r"|^(?P<indent> *)```(?P<language>python|diff)\n(?P<block>.*?)^ *```$", re.MULTILINE | re.DOTALL)


def copied(to: Path) -> Path:
    """A copy of the tree without its pictures; what Python has compiled comes along, as each file keeps the time of its last change."""
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("*.pyc.*", "pictures"))  # *.pyc.*: being written
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
            place = step
            touched.append(step["path"])
            continue
        path, block = tree / touched[-1], step["block"]
        if step["language"] == "diff":
            lines = [line.removeprefix(step["indent"]) for line in block.splitlines()]
            old, new = ("".join(f"{line[1:]}\n" for line in lines if line[:1] != sign) for sign in "+-")
            replace_once(path, old, new)
        elif place["end"]:
            path.write_text(path.read_text(encoding="utf-8") + textwrap.dedent(block), encoding="utf-8")
        elif place["before"]:
            (line,) = [one for one in path.read_text(encoding="utf-8").splitlines() if one.strip() == place["before"]]
            indent = line.removesuffix(place["before"])
            replace_once(path, f"{line}\n", textwrap.indent(textwrap.dedent(block), indent) + f"{line}\n")
        else:
            assert not path.exists(), f"{touched[-1]} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(block), encoding="utf-8")
    return touched


def replace_once(path: Path, old: str, new: str) -> None:
    before = path.read_text(encoding="utf-8")
    assert before.count(old) == 1, f"{path.name} has to hold these lines once:\n{old}"
    path.write_text(before.replace(old, new), encoding="utf-8")


def fresh(tree: Path, *args: str) -> str:
    """What a python that starts from nothing printed in the copy; it had to end well."""
    env = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run([sys.executable, *args], cwd=tree, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(tree: Path, *args: str) -> str:
    """The same by a python that has imported PyTorch already, and nothing of ours."""
    out, errors = (Path(tempfile.mkstemp(dir=tree.parent)[1]) for _ in range(2))
    status = fork(list(args), out, errors, tree).wait(280)
    assert status == 0, out.read_text() + errors.read_text()
    return out.read_text()


VERBS = """
import contextlib, io, json, sys
from core.__main__ import main
from core.runs import launch
from tests.forking import ForkLauncher
launch.launcher = ForkLauncher()
said = []
for verb in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(verb) == 0, verb
    said.append(json.loads(out.getvalue()))
print(json.dumps(said))
"""


def core(tree: Path, *verbs: list[str]) -> list[Any]:
    """What `python -m core` answers to each of the verbs in the copy; one process for all, since each start costs seconds."""
    return list(json.loads(python(tree, "-c", VERBS, json.dumps(verbs)).splitlines()[-1]))
