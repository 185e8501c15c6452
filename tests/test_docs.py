"""The pages for people: every link leads somewhere, every command line works as it stands, and the drawing is that of today's imports."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import runpy
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from PIL import Image as Pillow

from core.__main__ import main, parser
from core.runs import runs
from core.settings import settings
from tests.conftest import ROOT, copy_home, forget, move_in

if TYPE_CHECKING:
    from tests.conftest import Trained

PAGES = {
    str(p.relative_to(ROOT)): p.read_text(encoding="utf-8")
    for p in sorted(
        [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")), *(ROOT / "docs").rglob("*.md")]
    )
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(<?([^)>\s]+)>?\)")
INLINE = re.compile(r"`([^`\n]+)`")

# What is shown and not run here, by its first words, and why. Verbs among them are parsed; scripts, modules and folders of tests must exist.
NOT_RUN = {
    "apt-get install": "installs packages of the system",
    "python3 -m venv": "makes an environment for what pip installs",
    "pip install": "needs the network; .ci/run does it",
    "npm ci": "needs the network; .ci/run does it",
    "python -m pytest": "is what runs this test",
    "python -m ruff": "test_checks.py runs it",
    "python -m mypy": "test_checks.py runs it",
    "python docs/draw_architecture.py": "writes the committed drawing; a test below compares what it draws",
    "python docs/draw_growth.py": "writes the committed drawing and its table; a test below compares both",
    "python docs/write_roles.py": "writes the committed page of roles; test_roles.py compares what it writes",
    "python -m tests.reliability": "tries for minutes; tests/reliability/test_reliability.py runs a part",
    "python -m tests.benchmarks": "measures for minutes, on a quiet machine",
    "python -m core.ml.worker": "trains in a folder that `train` makes; the command of that verb starts it",
    "python -m core move-database": "needs a PostgreSQL; tests/data/test_moving.py has one",
    "python -m core restore": "needs an empty LOUPE_HOME; tests/data/test_backup.py has one",
    "python -m core storage": "needs a bucket; tests/test_storage.py has one",
    "python -m core check": "its exit code is the folder's; tests/data/test_check.py runs it on whole and damaged ones",
    "python -m core start": "serves until it is ended",
    "python -m core train --dataset NAME": "trains with what a recipe adds; test_adding.py does it in a copy that has it",
    "python -m core reproduce": "trains for minutes on data sets of 60,000 images",
}
# What is shown and run with something smaller in its place, which takes the same way in less time.
SMALLER = {"efficientnet_lite0": "linear", "epochs=20": "epochs=1", "VERB": "train"}


# Links --------------------------------------------------------------------------------------------


def prose(text: str) -> str:
    return INLINE.sub("", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings: lower case, blanks to hyphens, punctuation gone."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_or_a_heading_that_is_there(page: str) -> None:
    lost = []
    for target in LINK.findall(prose(PAGES[page])):
        if "://" in target:
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            lost.append(target)
    assert lost == []


def test_links_and_headings_are_seen_where_they_are_and_not_in_code() -> None:
    text = "# A & b: c-d\n[x](y.md#z) `[no](code)` ![p](<q.png>)\n```sh\n# no heading\n[no](fence)\n```\n"
    assert LINK.findall(prose(text)) == ["y.md#z", "q.png"] and anchors(text) == {"a--b-c-d"}


def test_readme_leads_to_every_page_and_says_what_loupe_does_in_40_lines() -> None:
    linked = {unquote(t).split("#")[0] for t in LINK.findall(prose(PAGES["README.md"]))}
    assert set(PAGES) - {"README.md", "CHANGELOG.md"} <= linked
    part = PAGES["README.md"].partition("## What it does\n")[2].partition("\n## ")[0]
    assert 10 < len(part.splitlines()) <= 40


def test_the_page_on_data_names_every_module_of_the_largest_folder() -> None:
    named = {
        Path(unquote(target)).stem for target in LINK.findall(PAGES["docs/data.md"]) if "core/data/" in target and target.endswith(".py")
    }
    assert named == {path.stem for path in (ROOT / "core" / "data").glob("*.py")} - {"__init__"}


# The drawing --------------------------------------------------------------------------------------


def test_the_drawing_is_the_one_that_todays_imports_make_and_the_map_names_its_folders() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))
    found = script["read"]()
    assert script["OUT"].read_text(encoding="utf-8") == script["draw"](*found), "run python docs/draw_architecture.py"
    named = {a.rstrip("/") for a in re.findall(r"^\| \[([^\]]+)\]", PAGES["docs/architecture.md"].replace("\\_", "_"), re.MULTILINE)}
    assert {a.removesuffix("/*.py") for a in found[0]} <= named


def test_the_drawing_of_growth_and_its_table_are_those_of_the_figures_that_were_measured() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "draw_growth.py"))
    found, page = script["read"](), PAGES["docs/scale.md"]
    assert script["OUT"].read_text(encoding="utf-8") == script["draw"](found), "run python docs/draw_growth.py"
    assert page == script["written"](page, found), "run python docs/draw_growth.py"


# Command lines ------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command line: of the sh blocks line by line, cut at &&, and of inline code that begins as one."""
    for language, block in FENCE.findall(text):
        if language == "sh":
            for line in block.splitlines():
                yield from (words(part) for part in line.split("&&"))
    for code in INLINE.findall(FENCE.sub("", text)):
        if re.match(r"([A-Z_]+=\S+ )*(\.venv/bin/)?(python3?|npm) \S", code):
            yield words(code)


def words(command: str) -> list[str]:
    found = shlex.split(command)
    while found and (found[0] == "sudo" or re.match("[A-Z_]+=", found[0])):
        found.pop(0)
    return [found[0].removeprefix(".venv/bin/"), *found[1:]]


SHOWN = {page: [c for c in commands(text)] for page, text in PAGES.items()}


def reason(command: list[str]) -> str | None:
    """Why it is not run here; None if it is."""
    return next((why for first, why in NOT_RUN.items() if " ".join(command).startswith(first)), None)


def test_a_command_is_found_in_a_block_and_in_a_sentence() -> None:
    text = "Press `A=1 .venv/bin/python -m x y`, not `python` or `core/x.py`.\n```sh\nsudo a b && c 'd e'\n```\n```\nno\n```\n"
    assert list(commands(text)) == [["a", "b"], ["c", "d e"], ["python", "-m", "x", "y"]]


def test_every_command_is_a_verb_or_has_a_reason_not_to_be_run() -> None:
    every = [c for found in SHOWN.values() for c in found]
    assert [c for c in every if c[:3] != ["python", "-m", "core"] and not reason(c)] == []
    assert {first for first in NOT_RUN if not any(" ".join(c).startswith(first) for c in every)} == set()


def test_what_is_not_run_can_be_found_and_parsed() -> None:
    for command in (c for found in SHOWN.values() for c in found if reason(c)):
        if command[:3] == ["python", "-m", "core"]:
            assert callable(parser().parse_args(command[3:]).verb)
        elif command[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(command[2]), command
        for word in command[1:]:
            if re.match("(tests|docs)/", word) or word.startswith("requirements"):
                assert (ROOT / word).exists(), command


def test_every_verb_is_shown_in_a_command_line() -> None:
    (verbs,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    public = {a.dest for a in verbs._choices_actions if a.help != argparse.SUPPRESS}
    assert len(public) > 10 and public <= {c[3] for found in SHOWN.values() for c in found if c[:3] == ["python", "-m", "core"]}


@pytest.fixture(scope="module")
def stand_ins(trained_once: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What the pages' names stand for: a dataset “pets”, pictures and zips by their names, and the two runs that RUN means."""
    home, here = tmp_path_factory.mktemp("docs") / "home", tmp_path_factory.mktemp("here")
    copy_home(trained_once.home, home)
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, home)
        patch.chdir(here)
        rows = runs.snapshot_rows(runs.folder(trained_once.run_id))
        with zipfile.ZipFile("photos.zip", "w") as photos:
            for label in "012":
                for row in [r for r in rows if r.label == label][:10]:
                    photos.write(settings().images / row.path, f"{label}/{Path(row.path).name}")
        for name, row in zip(("picture.jpg", "one.jpg", "two.jpg"), rows, strict=False):
            Pillow.open(settings().images / row.path).convert("RGB").save(name)
        assert main(["import", "photos.zip", "--name", "pets"]) == 0
        twin = settings().runs / "20260101-000000-0000"
        shutil.copytree(settings().runs / trained_once.run_id, twin)
        config = runs.read_json(twin / "config.json")
        earlier = f"2026-01-01{config['created_at'][10:]}"  # a run of the same second, images and settings would be the same run
        runs.write_json(twin / "config.json", config | {"id": twin.name, "name": "The twin", "created_at": earlier})
        yield [trained_once.run_id, twin.name]
        forget()


@pytest.mark.timeout(600)  # six processes load torch, one after another, and the first test waits for the run that all tests share
@pytest.mark.parametrize("page", [page for page, found in SHOWN.items() if any(not reason(c) for c in found)])
def test_the_verbs_of_a_page_work_as_they_stand(page: str, stand_ins: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    for command in SHOWN[page]:
        if reason(command):
            continue
        these = iter(stand_ins)
        argv = [next(these) if word == "RUN" else SMALLER.get(word, word) for word in command[3:]]
        if argv[0] == "import-run":  # a run comes back where it is not yet: on another machine, or here once it is deleted
            shutil.rmtree(settings().runs / stand_ins[0])
        capfd.readouterr()
        if "--help" in argv:
            with pytest.raises(SystemExit) as ended:
                main(argv)
            assert ended.value.code == 0 and "usage: python -m core" in capfd.readouterr().out
            continue
        code = main(argv)
        out, err = capfd.readouterr()
        assert code == 0, (command, err)
        assert json.loads(out), command
        if "--out" in argv:
            assert Path(argv[argv.index("--out") + 1]).stat().st_size > 0
