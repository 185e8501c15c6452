"""The scripts beside this repository that make inputs after public reports: each is run, and read as its table says."""

from __future__ import annotations

import os
import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest

from core.data import alike, images
from core.data.tables import Refused
from tests.data.opened import found

FOLDER = Path(os.environ.get("LOUPE_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data").parent / "cases"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="The scripts lie beside the repository, in shared/cases, and are not there.")

Counts = dict[tuple[str | None, str | None], int]  # how many images of which label and split
CATS: Counts = {("cat", None): 4, ("dog", None): 4}
SPLITS: Counts = {("cats", "train"): 4, ("dogs", "train"): 4, ("cats", "test"): 4, ("dogs", "test"): 4}
INATURALIST = (
    "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris",
    "07039_Plantae_Tracheophyta_Magnoliopsida_Asterales_Asteraceae_Taraxacum_officinale",
)
# Of each script, with the end of its output's name and its further argument.
RIGHT: dict[tuple[str, str, str], Counts] = {
    ("c01", ".zip", ""): {(name, split): 6 for name in ("glioma", "notumor") for split in ("train", "test")},
    ("c02", ".zip", ""): CATS,
    ("c03", "", ""): CATS,
    ("c05", ".zip", ""): {("Käfer", None): 4, ("Biene", None): 4},
    ("c06", ".zip", ""): {("cat", None): 10, ("dog", None): 5},
    ("c07", "", ""): {("cat", None): 2, ("dog", None): 2},
    ("c08", ".zip", ""): CATS,
    ("c09", ".zip", ""): {("T-shirt/top", None): 3, ("Trouser", None): 3, ("N/A", None): 3},
    ("c10", ".zip", ""): {("ok", None): 3, ("rust", None): 3},
    ("c11", ".zip", ""): {("猫", None): 3, ("犬", None): 3},
    ("c11", ".zip", "up"): {("猫", None): 3, ("犬", None): 3},
    ("c12", "", ""): {("dim", None): 12, ("bright", None): 12},
    ("c14", "", ""): {("garden", None): 2},
    ("c16", ".zip", ""): {(name, split): 4 for name in ("cat", "dog") for split in ("train", "test")},
    ("c18", ".zip", "later.zip"): {(None, None): 8},
    ("c19", "", "csv"): {("cat", None): 3, ("dog", None): 3},
    ("c19", "", "min"): {("cat", None): 3, ("dog", None): 3},
    ("c20", ".zip", ""): SPLITS,
    ("c20", ".zip", "plain"): SPLITS,
    ("c22", ".zip", ""): {("cat", "train"): 9, ("dog", "train"): 8, ("cat", "validation"): 2, ("dog", "validation"): 2},
    ("c24", "", ""): {("a", "train"): 60, ("b", "train"): 60, ("a", "test"): 12, ("b", "test"): 12},
    ("c28", "", ""): {},  # refused
    ("c29", ".zip", ""): {(name, None): 3 for name in INATURALIST},
    ("c32", ".gif", ""): {(None, None): 1},
}


@pytest.fixture(autouse=True)
def beside_pics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The scripts import their pictures from beside them, and write nothing there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def made(case: str, end: str = "", further: str = "") -> Path:
    (script,) = FOLDER.glob(f"{case}_*.py")
    before = sys.argv
    sys.argv = [str(script), f"made{end}", *([further] if further else [])]
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv = before
        sys.modules.pop("pics", None)
    return Path(f"made{end}").resolve()


def counted(source: Path) -> Counter[tuple[str | None, str | None]]:
    return Counter((e.label, e.split) for e in found(source)[1])


def test_every_script_is_run() -> None:
    assert {path.name[:3] for path in FOLDER.glob("c[0-9]*.py")} == {case for case, _, _ in RIGHT}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:Duplicate name:UserWarning")  # of the scripts
@pytest.mark.parametrize(("case", "end", "further"), RIGHT)
def test_a_script_of_real_cases_is_read_as_its_table_says(home: Path, case: str, end: str, further: str) -> None:
    source = made(case, end, further)
    if case == "c28":
        with pytest.raises(Refused, match="“quality”, “species”"):
            found(source)
        return
    opened, entries = found(source)
    assert counted(source) == RIGHT[case, end, further] and opened.skipped == []
    paths = {e.name: e.path for e in entries if e.path}
    match case:
        case "c05" | "c11" | "c20":
            assert bool(opened.guessed) == (further != "up")
        case "c14":
            photo = images.examine(paths["garden/IMG_50MP.jpg"].read_bytes())
            assert (photo.width, photo.height) == (8160, 6144)
        case "c18":
            assert counted(source.with_name(further)) == CATS
        case "c24":
            training = [e for e in entries if e.split == "train" and e.path]
            greys = [images.examine(e.path.read_bytes()).grey for e in training if e.path]
            alike.Alike(1).add({f"{n:016x}": grey for n, grey in enumerate(greys)})
            assert sorted(Counter(alike.groups(1).values()).values()) == [5] * 24
        case "c32":
            assert len(list(images.frames(source.read_bytes()))) == 10
