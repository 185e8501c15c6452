"""The recipes for an export format and for a page, followed to the letter in a copy of the tree."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from core.data import store
from core.types import Dataset
from tests.adding import copied, follow, python

OPENED = """
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("pages/main.py", default_timeout=60)
app.query_params["dataset"] = "squares"
app.run()
app.switch_page("counts.py").run()
assert not app.exception and not app.error, (app.exception, app.error)
print(app.title[0].value, int(app.dataframe[0].value["images"].sum()))
"""


def test_a_format_by_the_recipe_leaves_and_comes_back_from_the_command_line(small: Dataset, tmp_path: Path) -> None:
    tree = copied(tmp_path / "tree")
    assert follow("An export format", tree) == ["core/data/formats/tsv.py", "core/data/formats/known.py", "docs/data.md"]
    out = tmp_path / "out.zip"
    said = json.loads(python(tree, "-m", "core", "export-dataset", "squares", "--format", "tsv", "--out", str(out)))
    assert (said["format"], said["images"], said["skipped"]) == ("tsv", 24, [])
    with zipfile.ZipFile(out) as archive:
        assert len(archive.read("labels.tsv").decode().splitlines()) == 25
    done = json.loads(python(tree, "-m", "core", "import", str(out), "--name", "again"))
    assert (done["added"], done["skipped"]) == (24, [])
    before, after = (
        {i.id: (i.label, i.split, i.source) for i in store.all_images(made.id)}
        for made in store.list_datasets()
        if made.name in ("squares", "again")
    )
    assert before == after and len(before) == 24


def test_the_tests_of_all_formats_find_the_one_by_the_recipe_and_it_passes(tmp_path: Path) -> None:
    tree = copied(tmp_path / "tree")
    follow("An export format", tree)
    chosen = "(whole and tsv) or documentation_says"
    said = python(
        tree, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "tests/share/test_export.py", "tests/data/test_formats.py", "-k", chosen
    )
    assert "3 passed" in said, said


def test_a_page_by_the_recipe_opens_and_is_looked_at_by_the_tests_of_all_pages(small: Dataset, tmp_path: Path) -> None:
    tree = copied(tmp_path / "tree")
    assert follow("A page", tree) == ["pages/counts.py", "pages/main.py"]
    assert python(tree, "-c", OPENED).splitlines()[-1] == "Counts 24"
    chosen = "every_page and (navigation or counts) and not trained_run"
    said = python(tree, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "tests/pages/test_pages.py", "-k", chosen)
    assert "3 passed" in said, said
