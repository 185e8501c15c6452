"""The command that measures: its names lead to code, its rows become tables, and a turn that is long is taken once."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import rows
from tests.benchmarks.rows import Row


def test_every_file_of_benchmarks_has_a_name() -> None:
    modules = {*command.ROWS.values(), *command.PRINTED}
    there = {path.stem for path in Path(command.__file__).parent.glob("*.py")}
    assert there == modules | {"__main__", "rows"}
    assert all(importlib.util.find_spec(f"tests.benchmarks.{name}") for name in modules)
    docs = (command.ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert [name for name in (*command.ROWS, *command.PRINTED) if f"`{name}`" not in docs] == []


def test_a_row_says_median_least_most_and_how_many_times_better_loupe_is() -> None:
    took = Row("work", "n", "", "s", {"Loupe": [2.0, 1.0, 4.0], "another": [9.0]})
    assert took.measured == "Loupe 2.00 s (3 times: 1.00 to 4.00); another 9.00 s (once, 4.50 ×)"
    rate = Row("work", "n", "", "images/s", {"Loupe": [3000.0], "another": [1000.0]})
    assert rate.measured == "Loupe 3,000 images/s (once); another 1,000 images/s (once, 3.00 ×)"
    quick = Row("work", "n", "", "s", {"Loupe": [0.0021, 0.00054, 0.002, 0.001, 0.003]})
    assert quick.measured == "Loupe 0.002 s (0.00054 to 0.003)"  # as often as usual


def test_the_tables_of_the_docs_are_those_of_what_was_measured() -> None:
    found = command.kept()
    for page, lines in (("docs/speed.md", command.table(found)), ("README.md", command.short_table(found))):
        text = (command.ROOT / page).read_text(encoding="utf-8")
        assert text.partition(command.BEGIN)[2].partition(command.END)[0].strip().splitlines() == lines, page


def test_ways_take_turns_and_a_long_one_has_one_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    clock = iter(range(0, 10_000, 1))
    monkeypatch.setattr(rows.time, "perf_counter", lambda: float(next(clock)) + 100 * asked.count("long"))
    found = rows.in_turns({"quick": lambda: asked.append("quick") or 1.0, "long": lambda: asked.append("long") or 2.0}, 3)  # type: ignore[func-returns-value]
    assert asked == ["quick", "long", "quick", "quick"] and found == {"quick": [1.0] * 3, "long": [2.0]}


def test_names_measured_in_one_go_each_have_a_process_and_so_a_data_folder_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(command.subprocess, "run", lambda args, **_: begun.append(" ".join(args[1:])))
    monkeypatch.setattr(command, "measured", lambda name: pytest.fail("measured in this process"))
    monkeypatch.setattr(command.sys, "argv", ["benchmarks", "trust", "predictions"])
    command.main()
    assert begun == ["-m tests.benchmarks trust", "-m tests.benchmarks predictions"]


def test_the_tables_are_written_between_their_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "KEPT", tmp_path / "docs" / "speed.json")
    (tmp_path / "docs").mkdir()
    for page in (tmp_path / "docs" / "speed.md", tmp_path / "README.md"):
        page.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n", encoding="utf-8")
    row = {"work": "a visit", "n": "9 pictures", "wanted": "1 s", "unit": "s", "ways": {"Loupe": [0.5]}, "measured": "as it was"}
    race = {**row, "work": "a race", "n": "2 pictures", "ways": {"Loupe": [0.5], "another": [1.0]}}
    command.KEPT.write_text(
        command.json.dumps({"maps": {"rows": [row, race], "load": [0.1, 0.2]}, "writing": {"lines": [], "load": [0.1, 0.1]}}),
        encoding="utf-8",
    )
    for _ in range(2):
        command.write_docs()
    line = "| a visit | 1 s | Loupe 0.50 s (once) | 9 pictures | 0.1 to 0.2 | `python -m tests.benchmarks maps` |"
    text = (tmp_path / "docs" / "speed.md").read_text(encoding="utf-8")
    assert text.count(line) == 1 and "old" not in text and text.startswith("before\n") and text.endswith("\nafter\n")
    assert "| a race, 2 pictures | Loupe 0.50 s (once); another 1.00 s (once, 2.00 ×) |" in (
        text := (tmp_path / "README.md").read_text(encoding="utf-8")
    )
    assert "a visit" not in text  # nothing stands beside it
