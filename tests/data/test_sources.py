"""What a source holds, and what of it is refused."""

from __future__ import annotations

import gzip
import importlib
import json
import struct
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from core.data import sources, trees, unpacker
from core.data.sources import Source, at, named, open_source
from core.errors import Invalid, Stopped
from core.settings import settings
from core.types import Progress
from tests.data.opened import folder_of, found, picture, reasons, rows, zip_of

# Layouts


def test_folders_are_classes_and_their_subfolders_are_not(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat/1.jpg", "cat/deep/er/2.JPG", "dog/3.png")
    assert rows(tmp_path) == {"cat/1.jpg": ("cat", None), "cat/deep/er/2.JPG": ("cat", None), "dog/3.png": ("dog", None)}
    assert found(tmp_path)[0].splits_given is False


@pytest.mark.parametrize(("folder", "split"), [("Train", "train"), ("VAL", "validation"), ("valid", "validation"), ("Test", "test")])
def test_split_folders_give_the_split_in_any_case(tmp_path: Path, folder: str, split: str) -> None:
    folder_of(tmp_path, f"{folder}/cat/1.jpg", "test/dog/2.jpg", "train/3.jpg")
    got = rows(tmp_path)
    assert got[f"{folder}/cat/1.jpg"] == ("cat", split) and got["train/3.jpg"] == (None, "train")
    assert found(tmp_path)[0].splits_given


def test_a_class_called_test_beside_another_class_is_a_class(tmp_path: Path) -> None:
    assert rows(folder_of(tmp_path, "test/1.jpg", "cat/2.jpg")) == {"test/1.jpg": ("test", None), "cat/2.jpg": ("cat", None)}


def test_one_wrapping_folder_is_stripped(tmp_path: Path) -> None:
    made = zip_of(tmp_path / "a.zip", "pets/train/cat/1.jpg", "pets/test/dog/2.jpg", "pets/readme.txt")
    assert rows(made) == {"pets/train/cat/1.jpg": ("cat", "train"), "pets/test/dog/2.jpg": ("dog", "test")}


def test_a_single_class_folder_is_not_a_wrapper(tmp_path: Path) -> None:
    assert rows(folder_of(tmp_path, "cat/1.jpg", "cat/more/2.jpg")) == {"cat/1.jpg": ("cat", None), "cat/more/2.jpg": ("cat", None)}


def test_images_at_the_top_have_no_label(tmp_path: Path) -> None:
    assert rows(folder_of(tmp_path, "1.jpg", "cat/2.jpg"))["1.jpg"] == (None, None)


def test_system_files_are_ignored_and_other_files_are_named(tmp_path: Path) -> None:
    folder_of(
        tmp_path, "cat/1.jpg", "cat/.DS_Store", "cat/Thumbs.db", "__MACOSX/cat/._1.jpg", ".git/x.png", "cat/desktop.ini", "cat/notes.txt"
    )
    opened, entries = found(tmp_path)
    assert [e.name for e in entries] == ["cat/1.jpg"] and [s.name for s in opened.skipped] == ["cat/notes.txt"]


def test_linked_folders_are_followed_once_and_circles_end(tmp_path: Path) -> None:
    folder_of(tmp_path / "elsewhere", "1.jpg")
    folder_of(tmp_path / "set", "dog/2.jpg")
    (tmp_path / "set/cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/dog/up").symlink_to(tmp_path / "set")
    assert rows(tmp_path / "set") == {"cat/1.jpg": ("cat", None), "dog/2.jpg": ("dog", None)}


def test_a_link_out_of_the_allowed_folders_is_not_followed(tmp_path: Path) -> None:
    folder_of(tmp_path / "secret", "1.jpg")
    folder_of(tmp_path / "inbox", "dog/2.jpg")
    (tmp_path / "inbox/cat").symlink_to(tmp_path / "secret")
    (tmp_path / "inbox/dog/3.jpg").symlink_to(tmp_path / "secret/1.jpg")
    source = Source("folder", (str(tmp_path / "inbox"),), roots=(str(tmp_path / "inbox"),))
    assert set(rows(source)) == {"dog/2.jpg"} and set(reasons(source)) == {"cat", "dog/3.jpg"}


def test_classes_are_in_the_order_people_count(tmp_path: Path) -> None:
    assert found(folder_of(tmp_path, *(f"{n}/x.png" for n in (10, 2, 0, 1))))[0].classes == ("0", "1", "2", "10")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_an_empty_source_says_which_layouts_are_allowed(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "folder" else zip_of(tmp_path / "empty.zip")
    with pytest.raises(Invalid, match=r"holds no images.*<class>/image"):
        found(path)


def test_uploaded_files_keep_their_own_names(tmp_path: Path) -> None:
    folder_of(tmp_path, "8f", "9a")
    source = Source("uploads", (str(tmp_path / "8f"), str(tmp_path / "9a")), names=("C:\\me\\cat.png", "../dog.png"))
    assert set(rows(source)) == {"cat.png", "dog.png"}


def test_a_source_survives_json() -> None:
    source = Source("uploads", ("a", "b"), "two", ("x", "y"), ("/r",))
    assert Source.from_dict(json.loads(json.dumps(source.as_dict()))) == source


# Zips


def test_dangerous_names_in_a_zip_are_named_and_never_used(tmp_path: Path) -> None:
    bad = ["../up.png", "cat/../../up.png", "/abs.png", "C:/x.png"]
    made = zip_of(tmp_path / "a.zip", "cat/1.png", *bad)
    assert set(rows(made)) == {"cat/1.png"} and set(reasons(made)) == set(bad)
    assert list(tmp_path.rglob("*")) == [made]


def test_links_nested_zips_and_encrypted_entries_are_skipped_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("cat/1.png", picture(1))
        link = zipfile.ZipInfo("cat/link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        z.writestr(link, "/etc/passwd")
        z.writestr("more.zip", b"PK")
        z.writestr("cat/secret.png", picture(2))
        z.filelist[-1].flag_bits |= 1
    got = reasons(path)
    assert "link" in got["cat/link.png"] and "zip inside" in got["more.zip"] and "encrypted" in got["cat/secret.png"]
    assert set(rows(path)) == {"cat/1.png"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_both_read(tmp_path: Path) -> None:
    entries = found(zip_of(tmp_path / "a.zip", "cat/1.png", "cat/1.png"))[1]
    assert [e.data for e in entries] == [picture(0), picture(1)]


def test_a_name_in_utf8_without_the_flag_is_read_as_meant(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", "kaXXtzchen/1.png")
    path.write_bytes(path.read_bytes().replace(b"kaXXtzchen", "kätzchen".encode().ljust(10, b"_")))
    assert {label for label, _ in rows(path).values()} == {"kätzchen_"}


@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
def test_a_damaged_zip_is_named(tmp_path: Path, damage: str) -> None:
    path = zip_of(tmp_path / "holiday.zip", "cat/1.png", "cat/2.png")
    path.write_bytes({"text": b"hello" * 50, "truncated": path.read_bytes()[:-60], "empty": b""}[damage])
    with pytest.raises(Invalid, match=r"holiday\.zip cannot be read"):
        found(path)


def test_a_damaged_entry_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("cat/1.png", picture(1))
        z.writestr("cat/2.png", picture(2))
        z.filelist[0].file_size -= 9  # a header that lies
    assert set(rows(path)) == {"cat/2.png"} and "damaged" in reasons(path)["cat/1.png"]


def test_a_zip_bomb_stops_the_import(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("cat/1.png", bytes(20_000_000))
    with pytest.raises(Invalid, match=r"bomb\.zip is not imported.*200-fold"):
        found(path)


def test_many_small_bombs_are_counted_together(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for i in range(5):
            z.writestr(f"cat/{i}.png", bytes(900_000))
    with pytest.raises(Invalid, match="its entries grow"):
        found(path)


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "overlap.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("cat/1.png", picture(1))
        z.writestr("cat/2.png", picture(2))
        z.filelist[1].header_offset = z.filelist[0].header_offset
    with pytest.raises(Invalid, match="overlap"):
        found(path)


def test_a_zip_of_too_many_files_is_refused_before_it_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MAX_ENTRIES", 3)
    with pytest.raises(Invalid, match="more than 3 files"):
        found(zip_of(tmp_path / "a.zip", *(f"cat/{i}.png" for i in range(4))))


def test_files_that_only_a_zip64_record_counts_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual record says that the directory has one entry; zipfile reads by the other."""
    monkeypatch.setattr(trees, "MAX_ENTRIES", 3)
    path = zip_of(tmp_path / "a.zip", *(f"cat/{i}.png" for i in range(4)))
    data = path.read_bytes()
    at = data.rindex(b"PK\5\6")
    n, size, offset = struct.unpack("<HII", data[at + 10 : at + 20])
    record = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, n, n, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    path.write_bytes(data[:at] + record + locator + data[at : at + 8] + struct.pack("<HHIIH", 1, 1, 50, offset, 0))
    with zipfile.ZipFile(path) as read:
        assert len(read.infolist()) == 4
    with pytest.raises(Invalid, match="more than 3 files"):
        found(path)


def test_a_zip_of_two_zip64_records_of_which_pythons_differ_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", *(f"cat/{i}.png" for i in range(4)))
    data = path.read_bytes()
    at = data.rindex(b"PK\5\6")
    n, size, offset = struct.unpack("<HII", data[at + 10 : at + 20])
    far = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44 + 56, 45, 45, 0, 0, n, n, size, offset)
    near = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 0, 0, 0, offset)
    for said, refused in ((at, True), (at + 56, False), (1 << 63, False)):
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, said, 1)
        path.write_bytes(data[:at] + far + near + locator + data[at:])
        with pytest.raises(zipfile.BadZipFile) if refused else nullcontext(), open(path, "rb") as f:
            unpacker.count_entries(f)


def test_an_entry_that_is_too_large_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_ENTRY_BYTES", 1000)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("cat/1.png", picture(1))
        z.writestr("cat/big.png", np.random.default_rng(0).bytes(2000))
    assert set(rows(path)) == {"cat/1.png"} and "are allowed" in reasons(path)["cat/big.png"]


def test_a_zip64_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    assert len(rows(zip_of(tmp_path / "a.zip", "cat/1.png", "cat/2.png"))) == 2


# Tables


def manifest(tmp_path: Path, text: str, name: str = "metadata.csv") -> Path:
    folder_of(tmp_path, "pics/1.png", "pics/2.png", "3.png")
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_csv_in_the_folder_gives_labels_and_splits(tmp_path: Path) -> None:
    made = manifest(tmp_path, "file_name,label,split\npics/1.png,cat,train\npics/2.png,,test\n3.png,dog,\n")
    assert rows(made) == {"pics/1.png": ("cat", "train"), "pics/2.png": (None, "test"), "3.png": ("dog", None)}
    assert found(made)[0].splits_given


def test_excels_semicolons_and_byte_order_mark_are_read(tmp_path: Path) -> None:
    assert rows(manifest(tmp_path, "\ufeffImage;Label\r\npics/1.png;Kätzchen\r\n"))["pics/1.png"] == ("Kätzchen", None)


def test_a_jsonl_file_can_be_named_itself(tmp_path: Path) -> None:
    lines = [{"image": "pics/1.png", "label": 7}, {"image": "pics/2.png", "label": None}]
    made = manifest(tmp_path, "\n".join(json.dumps(line) for line in lines) + "\nnot json\n", "list.jsonl")
    assert rows(made / "list.jsonl") == {"pics/1.png": ("7", None), "pics/2.png": (None, None)}
    assert "JSON" in reasons(made)["list.jsonl, line 3"]


def test_rows_that_point_outside_or_nowhere_are_named(tmp_path: Path) -> None:
    folder_of(tmp_path, "secret.png")
    text = "image,label\n../secret.png,a\n/etc/passwd,a\nC:/x.png,a\npics\\1.png,a\ngone.png,a\n3.png,ok\n"
    made = manifest(tmp_path / "set", text)
    assert rows(made) == {"3.png": ("ok", None), "pics/1.png": ("a", None)}
    assert len([r for n, r in reasons(made).items() if "line" in n]) == 4


def test_a_table_in_a_zip_inside_one_wrapping_folder_is_found(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", "set/pics/1.png", "set/pics/2.png")
    with zipfile.ZipFile(path, "a") as z:
        z.writestr("set/labels.csv", "image,label\npics/1.png,cat\npics/2.png,dog\n")
    assert rows(path) == {"set/pics/1.png": ("cat", None), "set/pics/2.png": ("dog", None)}


def test_a_table_without_the_columns_says_which_it_has(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"metadata\.csv has not the columns.*breed, id"):
        found(manifest(tmp_path, "id,breed\n1,cat\n") / "metadata.csv")


# IDX


def idx(pixels: np.ndarray) -> bytes:
    magic = 2051 if pixels.ndim == 3 else 2049
    return struct.pack(f">I{pixels.ndim}I", magic, *pixels.shape) + pixels.astype(np.uint8).tobytes()


def idx_folder(root: Path, dot: str = "-", packed: bool = False) -> Path:
    root.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for stem, n in (("train", 6), ("t10k", 3)):
        for name, data in (
            (f"{stem}-images{dot}idx3-ubyte", idx(rng.integers(0, 256, (n, 28, 28)))),
            (f"{stem}-labels{dot}idx1-ubyte", idx(np.arange(n))),
        ):
            (root / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return root


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_raw_and_gzipped(tmp_path: Path, dot: str, packed: bool) -> None:
    opened, entries = found(idx_folder(tmp_path / "mnist", dot, packed))
    assert opened.total == len(entries) == 9 and opened.splits_given and opened.classes == ("0", "1", "2", "3", "4", "5")
    assert (entries[5].name, entries[5].label, entries[5].split) == ("train-00006.png", "5", "train")
    assert entries[8].split == "test" and entries[0].array is not None and entries[0].array.shape == (28, 28)


def test_idx_files_in_a_zip_and_as_uploads_are_read(tmp_path: Path) -> None:
    files = sorted(idx_folder(tmp_path / "set").iterdir())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        for file in files:
            z.write(file, f"wrapped/{file.name}")
    assert found(tmp_path / "a.zip")[0].total == 9
    assert found(Source("uploads", tuple(map(str, files))))[0].total == 9
    assert found(files[1] if "images" in files[1].name else files[0])[0].total == 9


def test_fashion_in_the_name_gives_the_names_of_the_clothes(tmp_path: Path) -> None:
    assert found(idx_folder(tmp_path / "fashion-mnist"))[0].classes[:2] == ("T-shirt", "Trouser")
    assert open_source(at(idx_folder(tmp_path / "x")), "My Fashion").classes[:2] == ("T-shirt", "Trouser")


@pytest.mark.parametrize("damage", ["magic", "short", "long", "count", "missing", "gz"])
def test_damaged_idx_files_are_named(tmp_path: Path, damage: str) -> None:
    folder = idx_folder(tmp_path / "set")
    pictures, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    if damage == "magic":
        pictures.write_bytes(b"\0\0\0\1" + pictures.read_bytes()[4:])
    elif damage == "short":
        pictures.write_bytes(pictures.read_bytes()[:-1])
    elif damage == "long":
        pictures.write_bytes(pictures.read_bytes() + b"x")
    elif damage == "count":
        labels.write_bytes(idx(np.arange(5)))
    elif damage == "gz":
        pictures.write_bytes(gzip.compress(pictures.read_bytes())[:-20])
    else:
        labels.unlink()
    with pytest.raises(Invalid, match="train-images-idx3-ubyte"):
        found(folder)


# Built in


def test_the_sample_has_1797_digits_of_8_by_8() -> None:
    opened, entries = found(named("sample"))
    assert opened.total == len(entries) == 1797 and not opened.splits_given and opened.classes == tuple("0123456789")
    assert entries[0].name == "digit-0001.png" and entries[0].array is not None and entries[0].array.max() == 239


def test_a_downloaded_set_is_read_from_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Downloads:
        @staticmethod
        def download(name: str, folder: Path, progress: Progress) -> Path:
            progress(1, 2, "a.gz")
            folder.parent.mkdir(parents=True, exist_ok=True)
            return idx_folder(folder, packed=True)

        @staticmethod
        def cifar10_arrays(folder: Path) -> list[tuple[str, np.ndarray, str, str]]:
            return [("a.png", np.zeros((32, 32, 3), np.uint8), "cat", "test")]

    monkeypatch.setenv("LOUPE_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    monkeypatch.setattr(importlib, "import_module", lambda name: Downloads)
    told: list[str] = []
    opened = open_source(named("fashion-mnist"), progress=lambda done, total, what: told.append(f"{what}: {done} of {total}"))
    assert opened.total == 9 and opened.classes[0] == "T-shirt" and told == ["Downloading Fashion-MNIST, bytes: 1 of 2"]

    def stop(done: int, total: int, what: str) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        open_source(Source("torchvision", ("MNIST",)), progress=stop)
    settings.cache_clear()


# Layouts that are nearly regular


def test_a_picture_right_in_the_wrapping_folder_carries_no_label(tmp_path: Path) -> None:
    for name in ("pets/cat/1.png", "pets/dog/1.png", "pets/cover.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    opened, entries = found(tmp_path / "in")
    assert {e.name: e.label for e in entries} == {"pets/cat/1.png": "cat", "pets/dog/1.png": "dog", "pets/cover.png": None}
    assert opened.classes == ("cat", "dog") and not opened.splits_given


@pytest.mark.parametrize("splits", [("train", "test"), ("Training", "val"), ("train",)])
def test_splits_are_recognised_beside_other_folders_which_are_named(tmp_path: Path, splits: tuple[str, ...]) -> None:
    for name in (*(f"{s}/cat/1.png" for s in splits), "extra/x.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    opened, entries = found(tmp_path / "in")
    assert opened.splits_given and {e.label for e in entries} == {"cat"} and len(entries) == len(splits)
    assert [(s.name, s.reason.startswith("it is in no split folder")) for s in opened.skipped] == [("extra/x.png", True)]


def test_uploaded_files_are_read_by_the_names_they_came_with(tmp_path: Path) -> None:
    archive = tmp_path / "0a.file"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("cat/1.png", b"x")
    source = sources.uploaded([(archive, "Pets.ZIP")])
    assert (source.kind, source.title) == ("zip", "Pets.ZIP")
    assert [e.label for e in open_source(source).entries] == ["cat"]
    (tmp_path / "1.file").write_bytes(b"x")
    (tmp_path / "2.file").write_text("image,label\nIMG (1).png,cat\n")
    both = sources.uploaded([(tmp_path / "1.file", "IMG (1).png"), (tmp_path / "2.file", "labels.csv")])
    assert [(e.name, e.label) for e in open_source(both).entries] == [("IMG (1).png", "cat")]
    with pytest.raises(Invalid, match=r"labels\.csv names no image.*is not there"):
        open_source(sources.uploaded([(tmp_path / "2.file", "labels.csv")]))


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"], "train-images"),
        (["emnist-letters-train-images-idx3-ubyte", "emnist-letters-train-labels-idx1-ubyte"], "emnist-letters"),
        (["kmnist-t10k-images-idx3-ubyte.gz", "kmnist-train-images-idx3-ubyte.gz"], "kmnist"),
        (["signs_images.idx3-ubyte"], "signs"),
        (["holiday.zip"], "holiday"),
        (["one.png", "two.png"], None),
    ],
)
def test_an_upload_says_the_name_of_its_dataset(tmp_path: Path, names: list[str], wanted: str | None) -> None:
    assert sources.named_after(sources.uploaded([(tmp_path / str(i), name) for i, name in enumerate(names)])) == wanted
