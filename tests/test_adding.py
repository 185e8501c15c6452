"""The recipes of docs/adding.md, applied as they stand there to a copy of the tree, and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

BLOCK = re.compile(r"^`([\w/.]+)`, (?:at the end|before `([^\n]+)`):\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    text = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def follow(title: str, tree: Path) -> list[str]:
    """Puts the recipe's code where it says, indented as the line it stands before, and returns the files it has changed."""
    changed = []
    for name, before, code in BLOCK.findall(section(title)):
        lines = (tree / name).read_text(encoding="utf-8").splitlines(keepends=True)
        places = [i for i, line in enumerate(lines) if line.strip() == before] if before else [len(lines)]
        assert len(places) == 1, f"{name} has {len(places)} lines “{before}”"
        indent = re.match(" *", lines[places[0]] if before else "")
        assert indent is not None
        lines.insert(places[0], textwrap.indent(code, indent[0]))
        (tree / name).write_text("".join(lines), encoding="utf-8")
        changed.append(name)
    return changed


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the program, without its tests."""
    for name in ("core", "pages", "assets"):
        shutil.copytree(ROOT / name, tmp_path / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", tmp_path / "tree")
    return tmp_path / "tree"


@pytest.fixture
def core(tree: Path, home: Path) -> Callable[..., Any]:
    """What the copy's `python -m core …` prints, parsed."""

    def run(*args: object) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        done = subprocess.run(
            [sys.executable, "-m", "core", *map(str, args)], cwd=tree, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_the_recipes_for_a_network_and_a_setting_work_as_they_stand(
    tree: Path, home: Path, tmp_path: Path, squares: Callable[[Path, int], Path], core: Callable[..., Any]
) -> None:
    assert follow("A network of your own", tree) == ["core/ml/scratch.py", "core/catalog/networks.py"]
    assert follow("A training setting", tree) == ["core/types.py", "core/ml/augment.py"]
    check = f"""
import torch
from core.catalog import networks, params
from core.ml import augment, model
from core.types import Preprocess
assert {str(tree)!r} in networks.__file__, networks.__file__
assert networks.search("all-conv")[0][0].name == "allconv"
arch, how = networks.architecture("allconv"), Preprocess(3, 20, 20, (0.0,) * 3, (1.0,) * 3)
net = model.create(arch, 7, how)
assert networks.parameters(arch, 3, 20, 7) == sum(p.numel() for p in net.parameters())
assert net.get_submodule(arch.cam_layer)(torch.rand(1, 32, 8, 8)).ndim == 4
config = params.run_config({{"architecture": "allconv", "noise": 0.5}})
assert params.augmented(config) and not params.augmented(params.run_config({{}}))
x = torch.full((2, 3, 20, 20), 128, dtype=torch.uint8)
assert augment.Augment(config, how, 7, torch.device("cpu")).changed(x).std() > 20
"""
    checked = subprocess.run(
        [sys.executable, "-c", check], cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr

    pictures = squares(tmp_path / "squares", 8)
    core("import", pictures, "--name", "squares")
    settings = ("--set", "epochs=1", "--set", "noise=0.1", "--set", "device=cpu")
    done = core("train", "--dataset", "squares", "--architecture", "allconv", *settings, "--wait")
    assert done["status"] == "succeeded" and done["best_epoch"] == 1
    config = json.loads((home / "runs" / done["run"] / "config.json").read_text(encoding="utf-8"))["config"]
    assert (config["architecture"], config["noise"]) == ("allconv", 0.1)
    found = core("evaluate", done["run"])
    assert found["n"] == sum(map(sum, found["confusion"]["counts"])) > 0
    (answer,) = core("predict", done["run"], pictures / "red" / "red-0.png")
    assert {one["label"] for one in answer["top"]} == {"red", "green", "blue"}
