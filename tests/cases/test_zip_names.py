"""Names in zips of systems that write no UTF-8: read as the zip says, or guessed from all of them and shown first."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.data import imports, zip_names
from core.data.sources import at, open_source
from tests.cases.packed import packed
from tests.data.opened import found, reasons, rows


def classes(path: Path) -> set[str | None]:
    return {label for label, _ in rows(path).values()}


CASES = [
    ("cp932", ("猫", "犬")),
    ("cp932", ("ねこ", "いぬ")),
    ("cp932", ("表", "能力")),  # their second byte is that of a backslash
    ("cp932", ("良品", "不良品")),
    ("cp1251", ("кошка", "собака")),
    ("cp1251", ("Её", "Моё")),
    ("cp866", ("трещина", "норма")),
    ("koi8-r", ("кошка", "собака")),
    ("cp1252", ("Kätzchen", "Hündchen")),
    ("cp1252", ("niño", "niña")),
    ("cp850", ("süß", "groß")),
    ("cp1250", ("žlutý", "červený")),
    ("gb18030", ("猫", "狗")),  # the first reads as one letter of UTF-8
    ("gb18030", ("合格", "不合格")),
    ("cp950", ("貓", "狗")),
    ("cp949", ("고양이", "개")),
    ("cp1253", ("γάτα", "σκύλος")),
]


@pytest.mark.parametrize(("encoding", "names"), CASES)
def test_names_that_do_not_say_their_encoding_are_guessed_from_all_together_and_said(
    tmp_path: Path, encoding: str, names: tuple[str, str]
) -> None:
    made = packed(tmp_path / "a.zip", *((f"{name}/{i}.png", encoding) for name in names for i in range(2)))
    assert classes(made) == set(names)
    (guessed,) = found(made)[0].guessed
    assert names[0] in guessed and ", ".join(names) in found(made)[0].readings.values()


@pytest.mark.parametrize("encoding", ["cp932", "cp437"])
def test_the_unicode_path_field_is_honoured_and_no_guess(tmp_path: Path, encoding: str) -> None:
    name = "猫" if encoding == "cp932" else "ü"
    made = packed(tmp_path / "a.zip", (f"{name}/1.png", encoding), ("dog/2.png", "ascii"), unicode_path="utf-8")
    assert classes(made) == {name, "dog"} and found(made)[0].guessed == []


def test_a_unicode_path_of_another_name_or_that_is_broken_is_not_believed(tmp_path: Path) -> None:
    other = packed(tmp_path / "a.zip", ("猫/1.png", "cp932"), ("犬/1.png", "cp932"), unicode_path="utf-8", crc_of="renamed")
    broken = packed(tmp_path / "b.zip", ("猫/1.png", "cp932"), ("犬/1.png", "cp932"), unicode_path="utf-16")
    assert classes(other) == classes(broken) == {"猫", "犬"} and len(found(broken)[0].guessed) == 1


def test_a_unicode_path_is_checked_as_every_name(tmp_path: Path) -> None:
    made = packed(tmp_path / "a.zip", ("cat/1.png", "ascii"), ("../é.png", "cp437"), unicode_path="utf-8")
    assert classes(made) == {"cat"} and reasons(made) == {"../é.png": "its name points outside the zip"}


@pytest.mark.parametrize(
    ("first", "second"),
    [("utf-8", "cp932"), ("utf-8", "cp1252"), ("cp932", "utf-8"), ("utf-8", "utf-8")],
)
def test_a_zip_with_names_of_two_kinds_reads_both(tmp_path: Path, first: str, second: str) -> None:
    names = ("グレー", "猫") if "cp932" in (first, second) else ("süß", "groß")
    made = packed(tmp_path / "a.zip", (f"{names[0]}/1.png", first), (f"{names[1]}/2.png", second))
    assert classes(made) == set(names)
    assert len(found(made)[0].guessed) == (0 if first == second else 1)


def test_names_that_say_utf_8_stay_what_they_are_beside_others(tmp_path: Path) -> None:
    made = packed(tmp_path / "a.zip", ("кошка/1.png", "cp866"), ("собака/2.png", "cp866"), ("Kätzchen/3.png", "said"))
    assert classes(made) == {"кошка", "собака", "Kätzchen"}


def test_the_encoding_may_be_chosen_and_is_still_shown(home: Path, in_this_process: None) -> None:
    (home / "inbox").mkdir()
    made = packed(home / "inbox" / "a.zip", ("猫/1.png", "cp932"), ("犬/2.png", "cp932"))
    import_id = imports.start(at(made), "pets", "Ann")
    seen = imports.first_sight(imports.state(import_id))
    assert seen is not None and next(iter(seen.readings)) == "cp932" and seen.readings["cp932"] == "猫, 犬"
    import_id = imports.go_on(import_id, "Ann", "gb18030")
    seen = imports.first_sight(imports.state(import_id))
    assert (
        seen is not None
        and next(iter(seen.readings)) == "gb18030"
        and {one.name for one in seen.classes} == set(seen.readings["gb18030"].split(", "))
    )
    import_id = imports.go_on(imports.go_on(import_id, "Ann", "cp932"), "Ann")
    report = imports.report(imports.state(import_id))
    assert report is not None and report.added == 2


def test_what_no_encoding_explains_is_read_as_dos_wrote_it(tmp_path: Path) -> None:
    made = packed(tmp_path / "a.zip", ("½/1.png", "cp437"), ("cat/2.png", "ascii"))
    assert open_source(at(made)).readings and classes(made) == {"½", "cat"}
    assert zip_names.read([]).all == []
