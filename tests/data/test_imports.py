"""Importing real files into a real database, at once and in the background."""

from __future__ import annotations

import errno
import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image as Pillow
from PIL import features

from core.data import dataset, decoders, images, imports, places, schema, sources, store
from core.data.imports import import_now
from core.data.sources import Entry, Source, at, named
from core.data.store import Filter
from core.errors import Invalid, NotFound, Stopped
from core.runs import launch, runs
from core.settings import settings
from core.types import Image, ImportReport


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LOUPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LOUPE_DATABASE_URL", raising=False)
    monkeypatch.setenv("LOUPE_ROOTS", str(tmp_path / "shared"))
    settings.cache_clear()
    schema.engine.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()
    schema.engine.cache_clear()


def noise(seed: int, size: tuple[int, int] = (24, 16), mode: str = "RGB") -> Pillow.Image:
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Pillow.fromarray(pixels).convert(mode)


def encoded(picture: Pillow.Image, fmt: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, fmt, **options)
    return out.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def folder_of(root: Path, n: int = 6) -> Path:
    for i in range(n):
        write(root / ("cat" if i % 2 else "dog") / f"{i}.png", encoded(noise(i)))
    return root


def all_images(name: str) -> list[Image]:
    found = store.find_dataset(name)
    assert found is not None
    return dataset.browse(found.id, Filter(), 1, 1000)[0]


# Pictures of all kinds


@pytest.mark.parametrize(
    ("fmt", "ext"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("BMP", "bmp"), ("GIF", "gif"), ("TIFF", "tif")]
)
def test_every_allowed_format_is_imported_untouched(tmp_path: Path, fmt: str, ext: str) -> None:
    assert fmt != "WEBP" or features.check("webp")
    data = encoded(noise(1), fmt)
    write(tmp_path / f"in/cat/a.{ext}", data)
    assert import_now("x", at(tmp_path / "in"), "me").added == 1
    (one,) = all_images("x")
    assert (one.ext, one.width, one.height, one.channels, one.label, one.size_bytes) == (ext, 24, 16, 3, "cat", len(data))
    assert (settings().images / one.path).read_bytes() == data


@pytest.mark.parametrize(
    ("mode", "fmt", "channels"),
    [("L", "PNG", 1), ("1", "PNG", 1), ("P", "GIF", 3), ("RGBA", "PNG", 3), ("LA", "PNG", 1), ("CMYK", "JPEG", 3)],
)
def test_every_colour_mode_is_imported(tmp_path: Path, mode: str, fmt: str, channels: int) -> None:
    write(tmp_path / f"in/a.{fmt.lower()}", encoded(noise(1, mode=mode), fmt))
    report = import_now("x", at(tmp_path / "in"), "me")
    assert (report.added, report.skipped) == (1, [])
    assert all_images("x")[0].channels == channels


def test_transparent_palette_pixels_become_white() -> None:
    picture = Pillow.new("P", (4, 4), 0)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    plain = images.open_picture(encoded(picture, "PNG", transparency=0))
    assert plain.mode == "RGB" and plain.getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.array([[0, 257 * 100, 65535]], np.uint16)
    plain = images.open_picture(encoded(Pillow.fromarray(values), "PNG"))
    assert plain.mode == "L" and np.asarray(plain).tolist() == [[0, 100, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photographs_are_upright(tmp_path: Path, orientation: int) -> None:
    upright = noise(5, (40, 20))
    t = Pillow.Transpose
    undo = {2: t.FLIP_LEFT_RIGHT, 3: t.ROTATE_180, 4: t.FLIP_TOP_BOTTOM, 5: t.TRANSPOSE, 6: t.ROTATE_90, 7: t.TRANSVERSE, 8: t.ROTATE_270}
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "PNG", exif=exif)
    write(tmp_path / "in/a.png", data)
    import_now("x", at(tmp_path / "in"), "me")
    (one,) = all_images("x")
    assert (one.width, one.height) == (40, 20)
    found = store.find_dataset("x")
    assert found is not None
    thumb = Pillow.open(io.BytesIO(images.ThumbPack(settings().thumbs, found.id).read(one.thumb_offset, one.thumb_size)))
    assert np.array_equal(np.asarray(thumb), np.asarray(upright)) and not thumb.getexif()


def bomb() -> bytes:
    """A PNG that says it has 120 million pixels."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 10_000, 12_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(bytes(1000))) + part(b"IEND", b"")


def test_bad_files_cost_only_themselves_and_are_named_with_the_reason(tmp_path: Path) -> None:
    whole = encoded(noise(1, (200, 200)), "JPEG")
    bad = {"short.jpg": whole[: len(whole) // 2], "empty.png": b"", "text.jpg": b"hello " * 99, "bomb.png": bomb()}
    for name, data in bad.items():
        write(tmp_path / "in/cat" / name, data)
    write(tmp_path / "in/cat/good.jpg", whole)
    report = import_now("x", at(tmp_path / "in"), "me")
    reasons = {s.name: s.reason for s in report.skipped}
    assert report.added == 1 and set(reasons) == {f"cat/{name}" for name in bad}
    assert "too early" in reasons["cat/short.jpg"] and "empty" in reasons["cat/empty.png"]
    assert "not an image" in reasons["cat/text.jpg"] and "10000 × 12000" in reasons["cat/bomb.png"]


def test_a_file_that_kills_its_decoder_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examine = images.examine

    def deadly(data: bytes) -> images.Examined:
        if b"KILLER" in data:
            os.kill(os.getpid(), signal.SIGKILL)
        return examine(data)

    monkeypatch.setattr(imports, "CHUNK", 8)
    monkeypatch.setattr(images, "examine", deadly)
    folder_of(tmp_path / "in", 20)
    for i in (3, 4):
        write(tmp_path / f"in/cat/killer{i}.png", encoded(noise(100 + i)) + b"KILLER")
    report = import_now("x", at(tmp_path / "in"), "me")
    assert report.added == 20 and {s.name for s in report.skipped} == {"cat/killer3.png", "cat/killer4.png"}
    assert "crashed" in report.skipped[0].reason


def test_a_file_that_never_ends_decoding_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examine = images.examine

    def slow(data: bytes) -> images.Examined:
        while b"ENDLESS" in data:
            pass
        return examine(data)

    monkeypatch.setattr(decoders, "SECONDS_PER_IMAGE", 1)
    monkeypatch.setattr(images, "examine", slow)
    folder_of(tmp_path / "in", 4)
    write(tmp_path / "in/cat/slow.png", encoded(noise(9)) + b"ENDLESS")
    report = import_now("x", at(tmp_path / "in"), "me")
    assert report.added == 4 and [s.name for s in report.skipped] == ["cat/slow.png"]


# Import


def test_the_sample_is_imported_and_importing_it_again_adds_nothing() -> None:
    first, second = (import_now("digits", named("sample"), "me") for _ in range(2))
    assert (first.added, first.duplicates, first.skipped) == (1797, 0, [])
    assert (second.added, second.duplicates, second.skipped) == (0, 1797, [])
    found = store.find_dataset("digits")
    assert found is not None and found.classes == tuple("0123456789") and not found.splits_given
    table = dataset.counts(found.id)
    assert list(table.columns) == ["split", "label", "images"] and table.images.sum() == 1797
    share = table[table.split == "test"].images.sum() / 1797
    assert 0.12 < share < 0.18 and set(table.split) == {"train", "test"}
    assert dataset.totals(found.id) == (1797, 1797) and dataset.sizes() == {"digits": 1797}


def test_a_picture_keeps_its_split_whatever_is_imported_with_it(tmp_path: Path) -> None:
    import_now("one", at(folder_of(tmp_path / "a", 30)), "me")
    import_now("two", at(folder_of(tmp_path / "b", 60)), "me")
    one, two = ({i.id: i.split for i in all_images(name)} for name in ("one", "two"))
    assert one.items() <= two.items() and set(two.values()) == {"train", "test"}


def test_a_given_split_is_kept_and_what_comes_later_joins_train(tmp_path: Path) -> None:
    for i in range(20):
        write(tmp_path / f"in/{'test' if i < 10 else 'train'}/cat/{i}.png", encoded(noise(i)))
    import_now("x", at(tmp_path / "in"), "me")
    found = store.find_dataset("x")
    assert found is not None and found.splits_given
    import_now("x", at(folder_of(tmp_path / "more", 40)), "me")
    assert dataset.browse(found.id, Filter(split="test"), 1)[1] == 10


def test_the_same_picture_with_another_label_keeps_its_label_and_is_named(tmp_path: Path) -> None:
    write(tmp_path / "in/cat/a.png", encoded(noise(1)))
    write(tmp_path / "in/dog/b.png", encoded(noise(1)))
    write(tmp_path / "in/dog/c.png", encoded(noise(2)))
    report = import_now("x", at(tmp_path / "in"), "me")
    assert (report.added, report.duplicates, len(report.skipped)) == (2, 0, 1)
    assert report.skipped[0].name == "dog/b.png"
    assert report.skipped[0].reason == "same picture as cat/a.png, which is labelled “cat”; kept that label"
    again = import_now("x", at(tmp_path / "in"), "me")
    assert (again.added, again.duplicates, [s.reason for s in again.skipped]) == (0, 2, [report.skipped[0].reason])


def test_an_import_that_fails_leaves_no_empty_dataset_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path / "in", 3)
    with monkeypatch.context() as broken:
        broken.setattr(images, "store_original", full_disk)
        with pytest.raises(Invalid, match="disk is full"):
            import_now("x", at(folder), "me")
        assert store.find_dataset("x") is None and store.list_datasets() == []
        store.create_dataset("was here")
        with pytest.raises(Invalid, match="disk is full"):
            import_now("was here", at(folder), "me")
    assert [d.name for d in store.list_datasets()] == ["was here"]
    assert import_now("x", at(folder), "me").added == 3


def test_originals_that_are_empty_swapped_or_gone_are_made_whole_by_importing_again(tmp_path: Path) -> None:
    assert store.list_datasets() == []  # the database is there before its images
    for n in range(4):
        write(tmp_path / f"in/cat/{n}.png", encoded(noise(n)))
    whole = {images.image_id(path.read_bytes()): path.read_bytes() for path in (tmp_path / "in").rglob("*.png")}
    paths = [settings().images / f"{i[:2]}/{i}.png" for i in whole]
    write(paths[0], b"")  # a crash left it, before it was first imported
    assert import_now("x", at(tmp_path / "in"), "me").added == 4 and paths[0].read_bytes() != b""
    write(paths[1], b"")
    write(paths[2], encoded(noise(9)))
    paths[3].unlink()
    report = import_now("x", at(tmp_path / "in"), "me")
    assert (report.added, report.duplicates) == (0, 4) and report.understood == [
        "3 originals that were damaged or missing are whole again."
    ]
    assert [path.read_bytes() for path in paths] == list(whole.values())
    assert import_now("x", at(tmp_path / "in"), "me").understood == []


def test_pictures_that_came_without_files_are_known_by_their_pixels_and_made_whole_too(tmp_path: Path) -> None:
    def come() -> ImportReport:
        return imports.add_sent("grey", [Entry(f"{n}", array=np.asarray(noise(n, mode="L"))) for n in range(2)], "me")

    assert come().added == 2
    one, two = store.all_images(store.list_datasets()[0].id)
    path, before = settings().images / one.path, (settings().images / one.path).read_bytes()
    path.write_bytes((settings().images / two.path).read_bytes())
    assert come().understood == ["1 original that was damaged or missing is whole again."]
    assert path.read_bytes() == before


def test_an_import_that_adds_nothing_leaves_no_dataset_behind(tmp_path: Path, in_this_process: None) -> None:
    for n in range(3):
        write(settings().home / f"inbox/in/cat/{n}.png", b"no picture %d" % n)
    folder = settings().home / "inbox/in"
    report = import_now("x", at(folder), "me")
    assert (report.added, [s.name for s in report.skipped]) == (0, [f"cat/{n}.png" for n in range(3)]) and store.list_datasets() == []
    state = imports.state(imports.start(at(folder), "x", "me"))
    assert state.status == "done" and state.end["dataset_id"] is None and imports.report(state) == report and store.list_datasets() == []
    store.create_dataset("was here")
    import_now("was here", at(folder), "me")
    assert [d.name for d in store.list_datasets()] == ["was here"]


@pytest.mark.parametrize("fails", [False, True])
def test_an_import_that_waits_for_one_that_adds_nothing_makes_the_dataset_itself(tmp_path: Path, fails: bool) -> None:
    write(tmp_path / "bad/cat/0.png", b"no picture")
    good = folder_of(tmp_path / "good", 3)
    begun, waits = threading.Event(), threading.Event()

    def hold(done: int, total: int, what: str) -> None:
        if what != "Reading images":  # it has not begun to write yet
            return
        begun.set()
        assert waits.wait(20)
        if fails:
            raise OSError("gone")

    def first() -> ImportReport | str:
        try:
            return import_now("x", at(tmp_path / "bad"), "me", hold)
        except OSError as e:
            return str(e)

    def told(done: int, total: int, what: str) -> None:
        if "another import" in what:
            waits.set()

    with ThreadPoolExecutor() as threads:
        one = threads.submit(first)
        assert begun.wait(20)
        two = threads.submit(import_now, "x", at(good), "me", told)
        assert two.result(60).added == 3
        assert one.result(60) == "gone" if fails else isinstance(one.result(60), ImportReport)
    found = store.find_dataset("x")
    assert found is not None and found.classes == ("cat", "dog") and dataset.totals(found.id) == (3, 3)


def test_an_import_that_is_stopped_while_it_waits_touches_nothing(tmp_path: Path) -> None:
    folder, begun, over = folder_of(tmp_path / "in", 3), threading.Event(), threading.Event()

    def hold(done: int, total: int, what: str) -> None:
        if what == "Reading images":
            begun.set()
            assert over.wait(20)

    with ThreadPoolExecutor() as threads:
        one = threads.submit(import_now, "x", at(folder), "me", hold)
        assert begun.wait(20)
        write(tmp_path / "more/owl/0.png", encoded(noise(50)))
        told: list[str] = []

        def stop(done: int, total: int, what: str) -> None:
            told.append(what)
            if what != "Reading the list of images":
                raise Stopped

        two = import_now("x", at(tmp_path / "more"), "me", stop)
        over.set()
        assert one.result(60).added == 3
    found = store.find_dataset("x")
    assert told == ["Reading the list of images", "Waiting for another import into this dataset"] and two == ImportReport()
    assert found is not None and found.classes == ("cat", "dog")


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_unlabelled_images_are_imported(tmp_path: Path) -> None:
    write(tmp_path / "in/a.png", encoded(noise(1)))
    import_now("x", at(tmp_path / "in"), "me")
    assert all_images("x")[0].label is None


def test_a_zip_and_its_folder_are_the_same_images(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 10)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        for file in folder.rglob("*.png"):
            z.write(file, file.relative_to(folder))
    assert import_now("x", at(tmp_path / "a.zip"), "me").added == 10
    assert import_now("x", at(folder), "me").duplicates == 10


def test_stopping_in_the_middle_keeps_what_is_committed_and_importing_again_adds_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "CHUNK", 10)
    folder = folder_of(tmp_path / "in", 60)

    def stop(done: int, total: int, what: str) -> None:
        if done > 20:
            raise Stopped

    first = import_now("x", at(folder), "me", stop)
    assert 0 < first.added < 60 and len(all_images("x")) == first.added
    second = import_now("x", at(folder), "me")
    assert first.added + second.added == 60 and second.duplicates == first.added


def test_a_bomb_in_the_middle_loses_nothing_that_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "CHUNK", 2)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for i in range(8):
            z.writestr(f"cat/{i}.png", encoded(noise(i)))
        for i in range(9):
            z.writestr(f"cat/zero{i}.png", bytes(990_000))
    with pytest.raises(Invalid, match="200-fold"):
        import_now("x", at(path), "me")
    assert len(all_images("x")) >= 4


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    import_now("x", at(folder_of(tmp_path / "in", 40)), "me", lambda done, total, what: seen.append((done, total)))
    assert seen[-1] == (40, 40) and seen == sorted(seen)


def test_a_source_that_cannot_be_read_leaves_no_empty_dataset(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        import_now("x", at(tmp_path), "me")
    assert store.list_datasets() == []


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a\\b", "a\nb", "x" * 81, "../x"])
def test_a_bad_dataset_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="name of a dataset"):
        import_now(name, named("sample"), "me")


def test_a_bad_class_name_skips_the_image_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "in/1.png", encoded(noise(1)))
    write(tmp_path / "in/2.png", encoded(noise(2)))
    (tmp_path / "in/labels.csv").write_text("image,label\n1.png,../x\n2.png,cat\n")
    report = import_now("x", at(tmp_path / "in"), "me")
    found = store.find_dataset("x")
    assert report.added == 1 and "class name" in report.skipped[0].reason and found is not None and found.classes == ("cat",)


# Background


def inbox(name: str = "set", n: int = 12) -> Path:
    return folder_of(settings().home / "inbox" / name, n)


def test_a_background_import_reports_its_progress_and_its_end(in_this_process: None) -> None:
    state = imports.state(imports.start(at(inbox()), "x", "me"))
    assert (state.status, state.job["dataset_name"], imports.title(state), state.job["by"]) == ("done", "x", "set", "me")
    report, found = imports.report(state), store.find_dataset("x")
    assert report is not None and report.added == 12 and (state.done, state.total, state.share) == (12, 12, 1)
    assert found is not None and state.end["dataset_id"] == found.id
    assert imports.running() == []


def test_a_background_import_that_fails_says_why(in_this_process: None) -> None:
    (settings().home / "inbox/none").mkdir(parents=True)
    state = imports.state(imports.start(Source("folder", (str(settings().home / "inbox/none"),)), "x", "me"))
    assert state.status == "failed" and "holds no images" in state.message and "<class>" in state.hint


def test_an_unexpected_error_is_told_without_a_traceback(in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "open_source", lambda *_: 1 / 0)
    state = imports.state(imports.start(named("sample"), "x", "me"))
    assert state.status == "failed" and "ZeroDivisionError" in state.message and "Traceback" not in state.message


def test_a_background_import_can_be_stopped(in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "CHUNK", 4)
    asked = iter([False] * 8)
    monkeypatch.setattr(runs, "stop_requested", lambda folder: next(asked, True))
    state = imports.state(imports.start(at(inbox(n=40)), "x", "me"))
    report = imports.report(state)
    assert state.status == "stopped" and report is not None and 0 < report.added < 40


def test_a_real_process_imports_and_a_killed_one_is_lost() -> None:
    import_id = imports.start(at(inbox(n=30)), "x", "me")
    deadline = time.monotonic() + 60
    while (state := imports.state(import_id)).status == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    report = imports.report(state)
    assert state.status == "done" and report is not None and report.added == 30, runs.log_tail(settings().imports / import_id, 3)

    second = imports.start(named("sample"), "y", "me")
    os.kill(runs.read_json(settings().imports / second / "handle.json")["pid"], signal.SIGKILL)
    while (state := imports.state(second)).status == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert state.status == "lost" and "import again" in state.hint
    lost = imports.lost("y")
    assert lost == state and imports.lost("x") is None
    third = imports.start(named("sample"), "y", "me")
    while (state := imports.state(third)).status == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert state.status == "done" and imports.lost("y") is None


KILLED = """
import sys, time, psutil
from core.data.decoders import Decoders
decoders = Decoders()
decoders.submit([]).result()
print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
time.sleep(60)
"""


def test_the_decoders_of_an_import_that_is_killed_end_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, cwd=launch.ROOT) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    assert pids
    deadline = time.monotonic() + 20
    while (left := [pid for pid in pids if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def test_only_allowed_folders_can_be_imported_from_the_browser(tmp_path: Path) -> None:
    outside = folder_of(tmp_path / "secret")
    (settings().home / "inbox").mkdir()
    (settings().home / "inbox/link").symlink_to(outside)
    inside = inbox()
    assert places.allowed_folder(str(inside)) == inside
    for text in (
        "",
        "/etc",
        str(outside),
        str(inside / "../../../secret"),
        str(settings().home / "inbox/link"),
        "a\0b",
        str(settings().home),
    ):
        with pytest.raises(Invalid, match="inbox"):
            places.allowed_folder(text)
    with pytest.raises(Invalid, match="not below"):
        imports.start(at(outside), "x", "me")
    assert places.folders_under_roots() == [inside, inside / "cat", inside / "dog"]


@pytest.mark.parametrize("import_id", ["", "..", "../../etc", "20260101-000000-abcdef"])
def test_an_unknown_import_is_not_found(import_id: str) -> None:
    with pytest.raises(NotFound):
        imports.state(import_id)


# One image at a time


def test_an_upload_becomes_an_image_without_touching_the_database(tmp_path: Path) -> None:
    made = store.create_dataset("x")
    data = encoded(noise(3))
    image = imports.add_upload(made, write(tmp_path / "up", data), "my cat.png")
    assert image.id == images.image_id(data) and image.source == "my cat.png" and image.split == imports.split_of(image.id)
    assert (settings().images / image.path).read_bytes() == data and dataset.totals(made.id) == (0, 0)
    assert len(images.ThumbPack(settings().thumbs, made.id).read(image.thumb_offset, image.thumb_size)) == image.thumb_size
    with pytest.raises(Invalid, match=r"bad\.png"):
        imports.add_upload(made, write(tmp_path / "bad", b"no"), "bad.png")


def test_neither_the_servers_side_nor_the_command_line_loads_torch_sklearn_or_pandas() -> None:
    import subprocess
    import sys

    heavy = ("torch", "sklearn", "scipy", "streamlit", "pandas")
    code = f"import sys, core.__main__; core.__main__.parser(); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(sources.__file__).parents[2])
    assert done.stdout.strip() == "[]", done.stderr
