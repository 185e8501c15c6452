"""The recipe for an attribution method, followed to the letter in a copy of the tree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adding import copied, follow, python

CATALOGUE = """
import json, sys
from core.catalog import methods
print(json.dumps([list(methods.METHODS)[-1], methods.method("rise").title, "torch" in sys.modules]))
"""
# The tests with rise as a parameter, and those that go through all records on their own.
CHOSEN = "(rise] and not onnx) or records_have or calls_captum or files_of_methods or asks_the_network_nothing or answers_nan"


@pytest.mark.timeout(900)  # many starts of Python, on a machine that may be busy
def test_a_method_by_the_recipe_explains_a_picture_from_the_command_line(
    home: Path, squares: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    tree, pictures, out = copied(tmp_path / "tree"), squares(tmp_path / "squares", 8), tmp_path / "map.png"
    assert follow("An attribution method", tree) == ["core/ml/methods/rise.py"]
    assert json.loads(python(tree, "-c", CATALOGUE)) == ["rise", "RISE", False]
    python(tree, "-m", "core", "import", str(pictures), "--name", "squares")
    train = ("train", "--dataset", "squares", "--architecture", "linear", "--set", "epochs=2", "--set", "device=cpu", "--wait")
    run = json.loads(python(tree, "-m", "core", *train))["run"]
    explain = ("explain", run, str(pictures / "red" / "red-0.png"), "--method", "rise", "--set", "samples=50", "--target", "red")
    said = json.loads(python(tree, "-m", "core", *explain, "--out", str(out)))
    assert (said["method"], said["target"], said["delta"]) == ("rise", "red", None)
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.timeout(900)
def test_the_tests_of_all_methods_find_the_one_by_the_recipe_and_it_passes(tmp_path: Path) -> None:
    tree = copied(tmp_path / "tree")
    follow("An attribution method", tree)
    files = ("tests/ml/test_attribute.py", "tests/test_architecture.py")
    said = python(
        tree,
        "-m",
        "pytest",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        *files,
        "-k",
        CHOSEN,
    )
    assert "12 passed" in said, said
