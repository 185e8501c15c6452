"""The recipes of docs/adding.md, followed to the letter in a copy of the tree, and what they add used from end to end."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from core.data import store
from core.types import Dataset
from tests.adding import copied, core, follow, fresh, python

Squares = Callable[[Path, int], Path]

NETWORK = """
import torch
from core.catalog import networks, params
from core.ml import augment, model
from core.types import Preprocess
assert networks.search("all-conv")[0][0].name == "allconv"
arch, how = networks.architecture("allconv"), Preprocess(3, 20, 20, (0.0,) * 3, (1.0,) * 3)
net = model.create(arch, 7, how)
assert networks.parameters(arch, 3, 20, 7) == sum(p.numel() for p in net.parameters())
assert net.get_submodule(arch.cam_layer)(torch.rand(1, 32, 8, 8)).ndim == 4
config = params.run_config({"architecture": "allconv", "noise": 0.5})
assert params.augmented(config) and not params.augmented(params.run_config({}))
x = torch.full((2, 3, 20, 20), 128, dtype=torch.uint8)
assert augment.Augment(config, how, 7, torch.device("cpu")).changed(x).std() > 20
"""
METHODS = """
import json, sys
from core.catalog import methods
print(json.dumps([list(methods.METHODS)[-1], methods.method("rise").title, "torch" in sys.modules]))
"""
PAGE = """
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("pages/main.py", default_timeout=60)
app.query_params["dataset"] = "squares"
app.run()
app.switch_page("counts.py").run()
assert not app.exception and not app.error, (app.exception, app.error)
print(app.title[0].value, int(app.dataframe[0].value["images"].sum()))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copied(tmp_path / "tree")


def test_a_network_and_a_setting_by_the_recipes_train_evaluate_and_predict(
    tree: Path, home: Path, squares: Squares, tmp_path: Path
) -> None:
    assert follow("A network of your own", tree) == ["core/ml/scratch.py", "core/catalog/networks.py"]
    assert follow("A training setting", tree) == ["core/types.py", "core/ml/augment.py"]
    python(tree, "-c", NETWORK)
    pictures = squares(tmp_path / "squares", 8)
    settings = ["--set", "epochs=1", "--set", "noise=0.1", "--set", "device=cpu"]
    _, done = core(
        tree,
        ["import", str(pictures), "--name", "squares"],
        ["train", "--dataset", "squares", "--architecture", "allconv", *settings, "--wait"],
    )
    assert done["status"] == "succeeded" and done["best_epoch"] == 1
    config = json.loads((home / "runs" / done["run"] / "config.json").read_text(encoding="utf-8"))["config"]
    assert (config["architecture"], config["noise"]) == ("allconv", 0.1)
    found, (answer,) = core(tree, ["evaluate", done["run"]], ["predict", done["run"], str(pictures / "red" / "red-0.png")])
    assert found["n"] == sum(map(sum, found["confusion"]["counts"])) > 0
    assert {one["label"] for one in answer["top"]} == {"red", "green", "blue"}


def test_a_method_by_the_recipe_explains_a_picture(tree: Path, home: Path, squares: Squares, tmp_path: Path) -> None:
    pictures, out = squares(tmp_path / "squares", 8), tmp_path / "map.png"
    assert follow("An attribution method", tree) == ["core/ml/methods/rise.py"]
    assert json.loads(fresh(tree, "-c", METHODS)) == ["rise", "RISE", False]
    _, done = core(
        tree,
        ["import", str(pictures), "--name", "squares"],
        ["train", "--dataset", "squares", "--architecture", "linear", "--set", "epochs=2", "--set", "device=cpu", "--wait"],
    )
    explain = ["explain", done["run"], str(pictures / "red" / "red-0.png"), "--method", "rise", "--set", "samples=50", "--target", "red"]
    (said,) = core(tree, [*explain, "--out", str(out)])
    assert (said["method"], said["target"], said["delta"]) == ("rise", "red", None)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_format_by_the_recipe_leaves_and_comes_back(tree: Path, small: Dataset, tmp_path: Path) -> None:
    assert follow("An export format", tree) == ["core/data/formats/tsv.py", "core/data/formats/known.py", "docs/data.md"]
    out = tmp_path / "out.zip"
    said, done = core(tree, ["export-dataset", "squares", "--format", "tsv", "--out", str(out)], ["import", str(out), "--name", "again"])
    assert (said["format"], said["images"], said["skipped"]) == ("tsv", 24, [])
    with zipfile.ZipFile(out) as archive:
        assert len(archive.read("labels.tsv").decode().splitlines()) == 25
    assert (done["added"], done["skipped"]) == (24, [])
    before, after = (
        {i.id: (i.label, i.split, i.source) for i in store.all_images(made.id)}
        for made in store.list_datasets()
        if made.name in ("squares", "again")
    )
    assert before == after and len(before) == 24


def test_a_page_by_the_recipe_opens(tree: Path, small: Dataset) -> None:
    assert follow("A page", tree) == ["pages/counts.py", "pages/main.py"]
    assert python(tree, "-c", PAGE).splitlines()[-1] == "Counts 24"


# By the name of a recipe: what -k chooses of which files' tests of all methods, formats and pages, and how many they are.
FOUND = {
    "An attribution method": (
        "(rise] and not onnx) or records_have or calls_captum or files_of_methods or asks_the_network_nothing or answers_nan",
        ("tests/ml/test_attribute.py", "tests/test_architecture.py"),
        12,
    ),
    "An export format": ("(whole and tsv) or documentation_says", ("tests/share/test_export.py", "tests/data/test_formats.py"), 3),
    "A page": ("every_page and (navigation or counts) and not trained_run", ("tests/pages/test_pages.py",), 3),
}


def test_the_tests_of_all_methods_formats_and_pages_find_those_by_the_recipes_and_they_pass(tree: Path) -> None:
    for recipe in FOUND:
        follow(recipe, tree)
    chosen = " or ".join(f"({words})" for words, _, _ in FOUND.values())
    files = [file for _, files, _ in FOUND.values() for file in files]
    said = python(tree, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--basetemp", str(tree.parent / "inner"), *files, "-k", chosen)
    assert f"{sum(many for *_, many in FOUND.values())} passed" in said, said
