"""A run as a zip: what is in it, that others can use it, that it comes back whole, and that a hostile one leaves nothing behind."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file

from core.__main__ import main
from core.catalog import params
from core.data import audit, classes, images, imports, labels, store
from core.errors import Conflict, Invalid, NotFound, Stopped
from core.evaluate import evaluate
from core.metrics import TOO_FEW
from core.ml import archive as in_torch
from core.ml.data import Normalise
from core.ml.model import build, describe, load, save
from core.review import predict
from core.runs import jobs, launch, runs
from core.runs.remote import Function
from core.settings import settings
from core.share import archive, card, unpack
from core.train import train
from core.types import SPLITS, Dataset, Preprocess, Run, Snapshot, SnapshotRow
from tests.conftest import ROOT, copied, forget, move_in, stored_dataset

if TYPE_CHECKING:
    from tests.conftest import Trained

pytestmark = pytest.mark.usefixtures("quick_exports")
SCRIPT = in_torch._script(str(archive.CODE))


@pytest.fixture(scope="module")
def zipped(trained_once: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The shared run as a zip."""
    out = tmp_path_factory.mktemp("zip") / "run.zip"
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, trained_once.home)
        archive.export_now(trained_once.run_id, out)
    yield out


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


def held_out(run_id: str) -> list[Path]:
    return [settings().images / r.path for r in runs.snapshot_rows(runs.folder(run_id)) if r.split == "validation"]


def answers(run_id: str, files: list[Path]) -> np.ndarray:
    found = predict.predict(run_id, files)
    assert not any(isinstance(a, predict.Failure) for a in found)
    return np.array([a.probabilities for a in found if not isinstance(a, predict.Failure)])


# Out


def test_the_zip_holds_every_file_once_and_in_order_and_two_exports_are_the_same_bytes(
    trained: Trained, zipped: Path, tmp_path: Path
) -> None:
    files = entries(zipped)
    assert list(files) == ["MODEL_CARD.md", *(name for name in card.FILES if name != "notes.json")]
    archive.export_now(trained.run_id, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == zipped.read_bytes()
    assert not list(settings().archives.glob("*"))


def test_nothing_in_the_zip_is_a_pickle_or_tells_of_this_machine(trained: Trained, zipped: Path) -> None:
    for name, data in entries(zipped).items():
        assert not zipfile.is_zipfile(io.BytesIO(data)) and b"data.pkl" not in data, name
        for word in ("site-packages", str(ROOT), str(trained.home)):
            assert word.encode() not in data, (name, word)


def test_the_weights_are_those_of_the_run(trained: Trained, zipped: Path, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(entries(zipped)["model.safetensors"])
    kept = load(runs.folder(trained.run_id)).model.state_dict()
    found = load_file(tmp_path / "w")
    assert found.keys() == kept.keys() and all(torch.equal(found[n], kept[n]) for n in kept)


def test_the_onnx_file_answers_any_number_of_pictures_as_the_run_does_through_the_zips_own_code(trained: Trained, zipped: Path) -> None:
    files, inside = held_out(trained.run_id), entries(zipped)
    session = onnxruntime.InferenceSession(inside["model.onnx"])
    ((name, shape),) = [(i.name, i.shape) for i in session.get_inputs()]
    assert (name, shape[1:], [o.name for o in session.get_outputs()]) == ("images", [1, 8, 8], ["logits"]) and not isinstance(shape[0], int)
    how, expected = json.loads(inside["preprocessing.json"]), answers(trained.run_id, files)
    for part in (files[:1], files[:7], files):
        logits = session.run(["logits"], {"images": SCRIPT.images(part, how)})[0]
        assert np.abs(SCRIPT.softmax(logits) - expected[: len(part)]).max() < 1e-5
    assert inside["labels.txt"].decode().split("\n")[:-1] == list(runs.load(runs.folder(trained.run_id)).classes)


def test_the_script_in_the_zip_prints_the_five_likeliest_classes(trained: Trained, zipped: Path, tmp_path: Path) -> None:
    for name, data in entries(zipped).items():
        (tmp_path / name).write_bytes(data)
    picture = held_out(trained.run_id)[0]
    done = subprocess.run([sys.executable, "preprocess.py", str(picture)], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = predict.predict(trained.run_id, [picture])[0]
    assert not isinstance(found, predict.Failure)
    first, *lines = done.stdout.splitlines()
    printed = [(float(p.strip(" %")) / 100, label) for p, label in (line.split("%  ") for line in lines)]
    assert first == str(picture)
    assert [label for _, label in printed] == [label for label, _ in found.top(5)]
    assert [p for p, _ in printed] == pytest.approx([p for _, p in found.top(5)], abs=1e-4)


def test_the_metrics_and_the_card_say_what_the_run_was_worth_with_n_and_interval(trained: Trained, zipped: Path) -> None:
    inside = entries(zipped)
    metrics, text = json.loads(inside["metrics.json"]), inside["MODEL_CARD.md"].decode()
    assert metrics.keys() == {"validation", "test"}
    for split, found in metrics.items():
        e = evaluate.recorded(trained.run_id, split)
        assert (found["n"], found["accuracy"]["value"], found["accuracy"]["low"]) == (
            e.n,
            e.accuracy and e.accuracy.value,
            e.accuracy and e.accuracy.low,
        )
        assert e.accuracy is not None and f"{e.accuracy.value:.1%} of {e.n:,} right (95% interval {e.accuracy.low:.1%}" in text
    run = runs.load(runs.folder(trained.run_id))
    assert f"| **all** | {run.counts['train']} | {run.counts['validation']} | {run.counts['test']} |" in text
    assert "Licence of the weights: not stated yet" in text and "must not be used for" in text
    parity = json.loads(inside["parity.json"])
    assert parity["passed"] and parity["same_answer"] == parity["images"] > 0
    assert f"Passed: ONNX Runtime and PyTorch name the same class for all {parity['images']} {parity['of']}." in text


@pytest.mark.parametrize("address", ["http://a.b", "https://a.b", "ftp://a.b", "FTP://a.b", "www.a.b", "ann@a.b"])
def test_no_address_in_a_name_becomes_a_link_in_the_card(address: str) -> None:
    shown = card.plain(f"see {address}")
    assert shown.replace("\u2060", "") == f"see {address}" and len(shown) == len(address) + 5


def test_a_class_with_few_pictures_is_counted_in_the_card_and_not_called_a_share(trained: Trained, zipped: Path) -> None:
    e = evaluate.recorded(trained.run_id, "validation")
    assert all(c.n < TOO_FEW for c in e.per_class)
    text = entries(zipped)["MODEL_CARD.md"].decode()
    hit, n = int(e.confusion[0, 0]), e.per_class[0].n
    row = next(line for line in text.partition("### Each class, validation")[2].splitlines() if line.startswith("| 0 |"))
    assert f"{hit} of {n} (" in row and not re.search(r"\| [0-9.]+% \(", row)


def test_the_data_is_named_by_the_hashes_of_its_files(trained: Trained, zipped: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(entries(zipped)["dataset.csv"].decode())))
    assert [(r["image_id"], r["path"], r["label"], r["split"]) for r in rows] == [
        (r.image_id, r.path, r.label, r.split) for r in runs.snapshot_rows(runs.folder(trained.run_id))
    ]
    assert all(r["sha256"].startswith(r["image_id"]) and len(r["sha256"]) == 64 for r in rows)


def test_twenty_validation_pictures_are_compared_and_the_difference_is_told(zipped: Path) -> None:
    found = json.loads(entries(zipped)["parity.json"])
    assert (found["images"], found["same_answer"], found["passed"]) == (20, 20, True)
    assert 0 <= found["largest_difference_of_probabilities"] < 1e-5
    assert re.search(r"differ by at most [0-9.]+ × 10⁻[⁰¹²³⁴⁵⁶⁷⁸⁹]+ \(allowed: 1.0 × 10⁻⁴\)", card.parity_words(found, ""))


def test_a_network_that_answers_differently_as_onnx_is_not_hidden(trained: Trained, zipped: Path, tmp_path: Path) -> None:
    inside = entries(zipped)
    how = json.loads(inside["preprocessing.json"])
    (tmp_path / "model.onnx").write_bytes(inside["model.onnx"])
    (tmp_path / "preprocessing.json").write_text(json.dumps({**how, "mean": [how["mean"][0] + 0.2]}))
    files = [str(f) for f in held_out(trained.run_id)[:5]]
    found = in_torch.parity(str(runs.folder(trained.run_id)), str(tmp_path), files, str(archive.CODE))
    assert found["images"] == 5 and not found["passed"] and found["largest_difference_of_probabilities"] > 1e-4
    assert card.parity_words(found, "").startswith("FAILED")


def test_without_its_pictures_a_run_is_compared_on_noise_and_says_so(trained_copy: Trained, tmp_path: Path) -> None:
    shutil.rmtree(settings().images)
    done = archive.export_now(trained_copy.run_id, tmp_path / "a.zip")
    assert done.parity is not None and done.parity["passed"] and done.parity["images"] == in_torch.NOISE and "noise" in done.words
    rows = list(csv.DictReader(io.StringIO(entries(tmp_path / "a.zip")["dataset.csv"].decode())))
    assert {r["sha256"] for r in rows} == {""}


def test_a_network_without_onnx_is_exported_without_it_and_says_why(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("aten::odd is not implemented\nlong trace")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    why = in_torch.onnx(str(runs.folder(trained.run_id)), str(tmp_path / "model.onnx"))
    assert why == "PyTorch's exporter cannot write this network as ONNX (RuntimeError: aten::odd is not implemented)."
    assert not (tmp_path / "model.onnx").exists()

    def here(function: Function, *args: object) -> Future[object]:
        done: Future[object] = Future()
        done.set_result(getattr(in_torch, function.name)(*args))
        return done

    monkeypatch.setattr(launch, "submit", here)
    done = archive.export_now(trained.run_id, tmp_path / "a.zip")
    inside = entries(tmp_path / "a.zip")
    assert done.parity is None and why in done.words and not {"model.onnx", "parity.json"} & inside.keys()
    assert "There is no model.onnx" in inside["MODEL_CARD.md"].decode() and "- model.onnx:" not in inside["MODEL_CARD.md"].decode()


def test_a_run_that_goes_on_or_has_no_weights_is_not_exported(trained_copy: Trained, tmp_path: Path) -> None:
    folder, out = runs.folder(trained_copy.run_id), tmp_path / "a.zip"
    kept = (folder / "events.jsonl").read_bytes()
    launch.launcher.start(folder, [sys.executable, "-c", "import time; time.sleep(60)"])
    (folder / "events.jsonl").write_bytes(b"".join(kept.splitlines(keepends=True)[:-1]))
    with pytest.raises(Conflict, match="still going on"):
        archive.export_now(trained_copy.run_id, out)
    launch.launcher.kill(folder)
    (folder / "events.jsonl").write_bytes(kept)
    with pytest.raises(Invalid, match="does not exist"):
        archive.export_now(trained_copy.run_id, tmp_path / "nowhere" / "a.zip")
    runs.checkpoint(folder).unlink()
    with pytest.raises(NotFound, match="no trained weights"):
        archive.export_now(trained_copy.run_id, out)
    assert not out.exists()


# The zip's own preprocessing


def oddities(folder: Path) -> list[Path]:
    """Pictures of every kind that Loupe opens in a way of its own."""
    random = np.random.default_rng(3)

    def noise(*shape: int) -> np.ndarray:
        return random.integers(0, 256, shape, dtype=np.uint8)

    exif = Pillow.Exif()
    exif[0x0112] = 6
    palette = Pillow.fromarray(noise(30, 20, 3)).quantize(16)
    made: dict[str, tuple[Pillow.Image, dict[str, Any]]] = {
        "grey.png": (Pillow.fromarray(noise(37, 53)), {}),
        "colour.png": (Pillow.fromarray(noise(64, 48, 3)), {}),
        "turned.jpg": (Pillow.fromarray(noise(40, 60, 3)), {"exif": exif}),
        "cmyk.jpg": (Pillow.fromarray(noise(20, 30, 4), "CMYK"), {}),
        "alpha.png": (Pillow.fromarray(noise(33, 21, 4)), {}),
        "grey-alpha.png": (Pillow.fromarray(noise(20, 20, 2), "LA"), {}),
        "palette.png": (palette, {}),
        "palette-hole.png": (palette, {"transparency": 3}),
        "grey-hole.png": (Pillow.fromarray(noise(12, 18)), {"transparency": 7}),
        "bits.png": (Pillow.fromarray(noise(25, 35)).convert("1"), {}),
        "sixteen.png": (Pillow.fromarray(random.integers(0, 65536, (20, 28)).astype(np.uint16)), {}),
        "float.tif": (Pillow.fromarray(random.normal(size=(18, 22)).astype(np.float32)), {}),
        "wide.webp": (Pillow.fromarray(noise(3, 300, 3)), {}),
        "one.bmp": (Pillow.fromarray(noise(1, 1, 3)), {}),
    }
    for name, (picture, options) in made.items():
        picture.save(folder / name, **options)
    return [folder / name for name in made]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("resize", "crop", "rectangles"), [(8, 8, False), (36, 32, False), (64, 64, True)])
def test_the_code_in_the_zip_makes_the_very_pixels_of_loupe(
    tmp_path: Path, channels: int, resize: int, crop: int, rectangles: bool
) -> None:
    how = Preprocess(channels, resize, crop, (0.41, 0.5, 0.6)[:channels], (0.2, 0.25, 0.31)[:channels], rectangles)
    told = json.loads(json.dumps({**asdict(how), "shapes": images.shapes(how)}))
    for file in oddities(tmp_path):
        ours = images.pixels(images.open_picture(file), how)
        theirs = SCRIPT.pixels(SCRIPT.upright(file, told), told)
        assert ours.shape == theirs.shape and (ours == theirs).all(), file.name
        normal = Normalise(how, torch.device("cpu"))(torch.from_numpy(ours.copy())[None]).numpy()
        assert np.abs(normal - SCRIPT.images([file], told)).max() <= 1e-6, file.name


# Every kind of network


def untrained(settled: dict[str, Any], classes: int = 3, channels: int = 3, side: int = 32) -> Path:
    """A run's folder with random weights: enough for what concerns files only."""
    config = params.run_config(settled)
    names = tuple("abcdefgh"[:classes])
    how = Preprocess(channels, side, side, (0.5,) * channels, (0.25,) * channels, config.rectangles)
    run = Run(
        "20260101-000000-0000", "One", 1, "letters", config, names, "0" * 16, dict.fromkeys(SPLITS, 1), "2026-01-01T00:00:00", "me", "x"
    )
    folder = settings().runs / run.id
    rows = tuple(SnapshotRow(f"{i:016x}", f"00/{i:016x}.png", names[i % classes], split) for i, split in enumerate(SPLITS))
    runs.create(folder, run, Snapshot(run.snapshot_id, names, rows))
    torch.manual_seed(0)
    model = build(config, classes, how, load_weights=False)
    for name, values in model.named_buffers():
        if name == "means":
            values.uniform_()
    save(runs.checkpoint(folder), model, describe(config, names, how, 1))
    return folder


NETWORKS: dict[str, dict[str, Any]] = {
    "linear": {"architecture": "linear"},
    "cnn3": {"architecture": "cnn3"},
    "own": {
        "architecture": "own",
        "layers": [
            {"kind": "convolution", "size": 4},
            {"kind": "normalisation"},
            {"kind": "activation", "function": "gelu"},
            {"kind": "pooling", "window": 2, "stride": 2},
            {"kind": "dropout"},
            {"kind": "dense", "size": 8},
        ],
    },
    "similarity": {"architecture": "similarity_l2"},
    "one output": {"architecture": "own", "output": "sigmoid", "layers": [{"kind": "dense", "size": 8}]},
    "rectangles": {"architecture": "timm:resnet10t", "pretrained": False, "freeze": False, "image_size": 64, "rectangles": True},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_goes_out_as_onnx_and_comes_back_from_safetensors(home: Path, tmp_path: Path, name: str) -> None:
    classes = 2 if name == "one output" else 3
    folder = untrained(NETWORKS[name], classes, side=NETWORKS[name].get("image_size", 32))
    kept = load(folder)
    told = in_torch.weights(str(folder), str(tmp_path / "model.safetensors"))
    assert in_torch.onnx(str(folder), str(tmp_path / "model.onnx")) == ""
    (tmp_path / "preprocessing.json").write_text(json.dumps({**asdict(told["preprocess"]), "shapes": told["shapes"]}))
    pictures = oddities(tmp_path)
    found = in_torch.parity(str(folder), str(tmp_path), [str(p) for p in pictures], str(archive.CODE))
    assert found["images"] == len(pictures) and found["passed"], found
    runs.checkpoint(folder).unlink()
    in_torch.restore(str(folder), str(tmp_path / "model.safetensors"), told["preprocess"], told["epoch"])
    again = load(folder)
    assert (again.preprocess, again.classes, again.epoch) == (kept.preprocess, kept.classes, kept.epoch)
    one, two = kept.model.state_dict(), again.model.state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


# In


def test_a_deleted_run_comes_back_from_its_zip_as_it_was(trained_copy: Trained, zipped: Path, tmp_path: Path) -> None:
    folder = runs.folder(trained_copy.run_id)
    files = held_out(trained_copy.run_id)
    before, state = answers(trained_copy.run_id, files), train.state(trained_copy.run_id)
    shutil.move(folder, tmp_path / "gone")
    done = archive.import_now(zipped)
    assert (done.run_id, done.dataset_name, done.images, done.here) == (trained_copy.run_id, "digits-small", 300, 300)
    for name in ("config.json", "dataset.csv", "events.jsonl", "predictions.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "gone" / name).read_bytes(), name
    assert np.abs(answers(done.run_id, files) - before).max() <= 1e-6
    assert replace(train.state(done.run_id), message="") == replace(state, message="")
    assert (evaluate.evaluate(done.run_id, "test").confusion == evaluate.recorded(done.run_id, "test").confusion).all()
    with pytest.raises(Conflict, match="here already"):
        archive.import_now(zipped)
    archive.export_now(done.run_id, tmp_path / "again.zip")
    assert entries(tmp_path / "again.zip")["model.safetensors"] == entries(zipped)["model.safetensors"]


def test_note_and_tags_travel_with_the_run(trained_copy: Trained, tmp_path: Path) -> None:
    train.annotate(trained_copy.run_id, "first\nof all", ["tag", "täg 2"])
    archive.export_now(trained_copy.run_id, tmp_path / "a.zip")
    shutil.rmtree(runs.folder(trained_copy.run_id))
    state = train.state(archive.import_now(tmp_path / "a.zip").run_id)
    assert (state.note, state.tags) == ("first\nof all", ("tag", "täg 2"))
    brought, taken, noted = audit.search(audit.Which(), 1, 3)[0]
    assert [one.kind for one in (noted, taken, brought)] == ["run.describe", "run.export", "run.import"]
    assert all(one.on["run"] == trained_copy.run_id for one in (noted, taken, brought))


def test_a_damaged_run_beside_it_does_not_keep_one_out(trained_copy: Trained, zipped: Path) -> None:
    (runs.folder(trained_copy.run_id) / "config.json").write_text("{")
    assert train.state(archive.import_now(zipped, trained_copy.dataset.name).run_id).status == "succeeded"


def test_a_run_whose_original_is_in_the_bin_gets_an_id_of_its_own_so_that_both_can_stay(trained_copy: Trained, zipped: Path) -> None:
    train.delete(trained_copy.run_id)
    done = archive.import_now(zipped)
    assert done.run_id != trained_copy.run_id and runs.ID.fullmatch(done.run_id)
    train.restore(trained_copy.run_id)
    assert {s.run.id for s in train.list_runs(trained_copy.dataset.id)} == {done.run_id, trained_copy.run_id}


def test_without_its_images_a_run_needs_a_dataset_that_is_named_and_predicts_all_the_same(
    trained: Trained, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "one.png"
    picture.write_bytes(held_out(trained.run_id)[0].read_bytes())
    expected, recorded = answers(trained.run_id, [picture]), evaluate.recorded(trained.run_id, "validation")
    move_in(monkeypatch, tmp_path / "elsewhere")
    with pytest.raises(Invalid, match="0 of 300 were found"):
        archive.import_now(zipped)
    assert store.list_datasets() == []
    done = archive.import_now(zipped, "brought")
    assert (done.here, done.images, done.dataset_name) == (0, 300, "brought")
    (made,) = store.list_datasets()
    assert (made.name, made.classes) == ("brought", tuple("0123456789"))
    assert [s.run.id for s in train.usable(made.id)] == [trained.run_id] and archive.images_here(done.run_id) == (0, 300)
    assert np.abs(answers(done.run_id, [picture]) - expected).max() <= 1e-6
    now = evaluate.recorded(done.run_id, "validation")
    assert (now.n, now.accuracy) == (recorded.n, recorded.accuracy)


def test_it_belongs_to_the_dataset_that_has_most_of_its_images_unless_another_is_named(
    trained_copy: Trained, zipped: Path, squares: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    stored_dataset("digits", squares(tmp_path / "squares", 8))
    shutil.rmtree(runs.folder(trained_copy.run_id))
    looked = archive.look(zipped)
    assert looked.match is not None and (looked.match.name, [n for _, n in looked.here]) == ("digits-small", [300])
    assert archive.import_now(zipped, "digits").dataset_name == "digits"
    assert [s.run.dataset_name for s in train.list_runs(store.find_dataset("digits").id)] == ["digits"]  # type: ignore[union-attr]


def test_a_run_that_had_not_ended_comes_back_as_stopped(trained_copy: Trained, tmp_path: Path) -> None:
    folder = runs.folder(trained_copy.run_id)
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(lines[:-1]))
    (folder / "handle.json").unlink()  # the process that trained it may be on its way out still
    archive.export_now(trained_copy.run_id, tmp_path / "a.zip")
    shutil.rmtree(folder)
    state = train.state(archive.import_now(tmp_path / "a.zip").run_id)
    assert state.status == "stopped" and "had not ended" in state.message and state.best_epoch in (1, 2, 3)
    with pytest.raises(Invalid, match="not what it needs to go on"):
        train.resume(state.run.id)


def test_a_run_that_came_a_moment_ago_is_not_written_over(
    trained: Trained, zipped: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_free_id", lambda run_id: run_id)
    (settings().runs / trained.run_id).mkdir(parents=True)
    (settings().runs / trained.run_id / "config.json").write_text("theirs")  # another import of the same run is just done
    monkeypatch.setattr(archive, "_runs_here", lambda: iter(()))
    with pytest.raises(Conflict, match="here already"):
        archive.import_now(zipped, "digits")
    assert (settings().runs / trained.run_id / "config.json").read_text() == "theirs"


def test_a_zip_that_somebody_unpacked_and_packed_again_in_a_folder_is_read(trained_copy: Trained, zipped: Path, tmp_path: Path) -> None:
    shutil.rmtree(runs.folder(trained_copy.run_id))
    wrapped = packed(tmp_path / "w.zip", {f"my run/{name}": data for name, data in entries(zipped).items()})
    assert archive.import_now(wrapped).run_id == trained_copy.run_id


ODD = ("a,b", 'quo"te', "ünï ☃ 字", "=1+1", "true", "| pipe *bold*", " split ")


def test_classes_with_odd_names_survive_the_way_out_and_in(home: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    found = store.create_dataset("odd")
    rows = []
    for i in range(8 * len(ODD)):
        file = tmp_path / f"{i}.png"
        Pillow.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(file)
        rows.append(replace(imports.add_upload(found, file, file.name), label=ODD[i % len(ODD)]))
    classes.ensure(found.id, ODD)
    labels.add_images(found.id, rows, "tester", "import")
    run = train.start(found.id, {"architecture": "linear", "epochs": 1}, "tester")
    assert train.wait(run.id).status == "succeeded"
    archive.export_now(run.id, tmp_path / "a.zip")
    before = runs.predictions_path(runs.folder(run.id)).read_bytes()
    shutil.rmtree(runs.folder(run.id))
    done = archive.import_now(tmp_path / "a.zip")
    assert runs.load(runs.folder(done.run_id)).classes == run.classes and set(run.classes) == set(ODD)
    assert runs.predictions_path(runs.folder(done.run_id)).read_bytes() == before
    inside = entries(tmp_path / "a.zip")
    for name in ("dataset.csv", "predictions.csv"):
        cells = [one for row in csv.reader(io.StringIO(inside[name].decode())) for one in row]
        assert "'=1+1" in cells and not any(one.startswith(tuple("=+-@\t\r")) for one in cells), "a spreadsheet computes no class name"
    text = inside["MODEL_CARD.md"].decode()
    assert r"\| pipe \*bold\*" in text and all(line.count("|") - line.count(r"\|") in (0, 5, 6) for line in text.splitlines())


def test_a_pretrained_network_travels_too(small: Dataset, tmp_path: Path) -> None:
    run = train.start(small.id, {"architecture": "efficientnet_lite0", "image_size": 64, "epochs": 1}, "tester")
    assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
    done = archive.export_now(run.id, tmp_path / "a.zip")
    assert done.parity is not None and done.parity["passed"], done.words
    before = answers(run.id, held_out(run.id))
    shutil.rmtree(runs.folder(run.id))
    assert np.abs(answers(archive.import_now(tmp_path / "a.zip").run_id, held_out(run.id)) - before).max() <= 1e-6


# Hostile zips


def changed_json(name: str, /, **values: Any) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files[name] = json.dumps({**json.loads(files[name]), **values}).encode()

    return change


def changed_config(**values: Any) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        whole = json.loads(files["config.json"])
        files["config.json"] = json.dumps({**whole, "config": {**whole["config"], **values}}).encode()

    return change


def replaced(name: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        assert old in files[name]
        files[name] = files[name].replace(old, new, 1)

    return change


def content(name: str, data: bytes | None) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files.pop(name)
        if data is not None:
            files[name] = data

    return change


def tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[dict[str, bytes]], None]:
    def apply(files: dict[str, bytes]) -> None:
        from safetensors.torch import load as parse
        from safetensors.torch import save as written

        found = parse(files["model.safetensors"])
        change(found)
        files["model.safetensors"] = written(found)

    return apply


HOSTILE: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "no weights": (content("model.safetensors", None), "is no run that Loupe exported: model.safetensors is missing"),
    "no settings": (content("config.json", None), "config.json is missing"),
    "no json": (content("config.json", b"{'a': 1}"), "config.json .* not JSON"),
    "deep json": (content("config.json", b"[" * 200_000), "config.json .* not JSON"),
    "no object": (content("preprocessing.json", b"[]"), "preprocessing.json .* not a JSON object"),
    "no text": (content("labels.txt", b"\xff\xfe\x00"), "labels.txt .* not UTF-8"),
    "other labels": (content("labels.txt", b"a\nb\n"), "labels.txt .* does not name the classes"),
    "id is a path": (changed_json("config.json", id="../../evil"), "is not the id of a run"),
    "id is a number": (changed_json("config.json", id=7), "its “id” is “7”"),
    "field unknown": (changed_json("config.json", owner="me"), "“owner” is unknown to this version"),
    "class with a line break": (changed_json("config.json", classes=["a\nb", *"123456789"]), "must not hold line breaks"),
    "class twice": (changed_json("config.json", classes=["1", *"123456789"]), "each once"),
    "one class": (changed_json("config.json", classes=["1"]), "two classes or more"),
    "classes in other words": (changed_json("config.json", classes=3), "its “classes” is “3”"),
    "name with controls": (changed_json("config.json", name="a\x1b[2J"), "control characters"),
    "date": (changed_json("config.json", created_at="yesterday"), "config.json .*yesterday"),
    "unknown network": (changed_config(architecture="skynet"), "skynet"),
    "unknown setting": (changed_config(backdoor=True), "backdoor"),
    "many epochs": (changed_config(epochs="many"), "epochs"),
    "settings no object": (changed_json("config.json", config=[]), "holds no settings"),
    "other counts": (changed_json("config.json", counts={"train": 10**12}), "does not hold the pictures"),
    "path traversal": (replaced("dataset.csv", b"/", b"/../../"), "row 2 does not name a picture by its id"),
    "columns": (replaced("dataset.csv", b"image_id", b"image"), "its columns are not"),
    "short row": (replaced("dataset.csv", b"train", b"train,x"), "has not as many columns"),
    "split": (replaced("dataset.csv", b"train", b"holdout"), "the split in row"),
    "event unknown": (replaced("events.jsonl", b"EpochEnd", b"Explode"), "no event that this version"),
    "event odd": (replaced("events.jsonl", b'"epoch": 1', b'"epoch": "one"'), "its “epoch” is “one”"),
    "event NaN": (replaced("events.jsonl", b'"seconds": ', b'"seconds": NaN, "x": '), "events.jsonl .* not JSON"),
    "remedy unknown": (replaced("events.jsonl", b'"remedy": {}', b'"remedy": {"colour": 1}'), "“colour” is not a setting"),
    "remedy odd": (replaced("events.jsonl", b'"remedy": {}', b'"remedy": {"layers": []}'), "that is no setting"),
    "prediction": (replaced("predictions.csv", b"validation", b"elsewhere"), "is not about a picture"),
    "probability": (
        lambda files: files.update({"predictions.csv": re.sub(rb"(\n.*),[^,]+\r\n", rb"\1,nan\r\n", files["predictions.csv"], count=1)}),
        "no probability",
    ),
    "huge picture": (changed_json("preprocessing.json", crop=10**9), "not those of a picture"),
    "std of nothing": (changed_json("preprocessing.json", std=[0]), "not those of a picture"),
    "two channels": (changed_json("preprocessing.json", channels=2), "not those of a picture"),
    "other size": (changed_json("preprocessing.json", crop=16, resize=16), "does not fit the network"),
    "weights no tensors": (content("model.safetensors", b"\x80\x04pickle" * 10), "model.safetensors is damaged"),
    "weights cut off": (
        lambda files: files.update({"model.safetensors": files["model.safetensors"][:-100]}),
        "model.safetensors is damaged",
    ),
    "tensor missing": (tensors(lambda t: t.pop("conv1.weight")), "1 tensors are missing, such as conv1.weight"),  # type: ignore[arg-type,return-value]
    "tensor too many": (tensors(lambda t: t.update(extra=torch.zeros(1))), "belong to no layer, such as extra"),
    "tensor of another shape": (tensors(lambda t: t.update({"head.bias": torch.zeros(3)})), "head.bias should be 10 .* and is 3"),
    "tensor of another type": (tensors(lambda t: t.update({"head.bias": torch.zeros(10).half()})), "head.bias should be 10 .*float16"),
    "bomb": (content("labels.txt", b"0" * 50_000_000), "grows more than 200-fold"),
    "long note": (lambda files: files.update({"notes.json": json.dumps({"note": "x" * 5000, "tags": []}).encode()}), "notes.json"),
}


@pytest.fixture(scope="module")
def without_run_once(trained_once: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the run's images, and no run: one for all zips that leave nothing behind."""
    with copied(trained_once, tmp_path_factory.mktemp("without") / "home") as copy:
        shutil.rmtree(runs.folder(copy.run_id))
    return copy.home


@pytest.fixture
def without_run(without_run_once: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    move_in(monkeypatch, without_run_once)
    yield without_run_once
    forget()


@pytest.mark.parametrize("case", HOSTILE)
def test_a_zip_with_something_wrong_names_it_and_leaves_nothing_behind(without_run: Path, zipped: Path, tmp_path: Path, case: str) -> None:
    change, words = HOSTILE[case]
    files = entries(zipped)
    change(files)
    files.pop("SHA256SUMS")  # who packs a zip to do harm writes none, or those that fit
    before = {p for p in without_run.rglob("*") if p.is_file()}
    with pytest.raises(Invalid, match=words) as refused:
        archive.import_now(packed(tmp_path / "odd name.zip", files), "a new one")
    assert "odd name.zip" in refused.value.message and refused.value.hint
    left = {p for p in without_run.rglob("*") if p.is_file()} - before
    assert left <= set(without_run.glob("loupe.db-*"))  # SQLite's own
    assert not list(settings().runs.glob("*")) and not list(settings().archives.glob("*"))
    assert [d.name for d in store.list_datasets()] == ["digits-small"]


def test_what_is_no_zip_or_cut_off_or_holds_a_file_twice_is_refused(home: Path, zipped: Path, tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "half.zip").write_bytes(zipped.read_bytes()[:-2000])
    packed(tmp_path / "photos.zip", {"cat/1.jpg": b"1", "dog/2.jpg": b"2"})
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as out, pytest.warns(UserWarning, match="Duplicate"):
        for name, data in [*entries(zipped).items(), ("labels.txt", b"x")]:
            out.writestr(name, data)
    packed(tmp_path / "outside.zip", {f"../{name}": data for name, data in entries(zipped).items()})
    for name, words in (
        ("text.zip", "text.zip cannot be read"),
        ("half.zip", "half.zip cannot be read"),
        ("photos.zip", "photos.zip is no run .* config.json, dataset.csv"),
        ("twice.zip", "labels.txt twice"),
        ("outside.zip", "are missing"),
        ("none.zip", "does not exist"),
    ):
        with pytest.raises(Invalid, match=words):
            archive.look(tmp_path / name)


def test_a_value_fits_its_field_only_if_it_is_of_its_type() -> None:
    good = [
        (1, int),
        (1, float),
        (1.5, float | None),
        (None, float | None),
        ("a", str),
        (["a"], tuple[str, ...]),
        ({"a": 1}, dict[str, int]),
    ]
    bad = [
        (True, int),
        ("1", int),
        (1.5, int),
        (10**400, float),
        (None, str),
        ([1], tuple[str, ...]),
        ("ab", tuple[str, ...]),
        ({"a": []}, dict[str, int]),
    ]
    assert all(unpack.fits(value, hint) for value, hint in good) and not any(unpack.fits(value, hint) for value, hint in bad)


# In the background


def ended(job_id: str) -> jobs.State:
    deadline = time.monotonic() + 120
    while (state := archive.state(job_id)).status == "running" or launch.launcher.alive(settings().archives / job_id):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return state


def test_an_export_runs_in_the_background_and_its_zip_goes_after_a_day(trained_copy: Trained, zipped: Path) -> None:
    job = archive.start_export(trained_copy.run_id, "tester")
    assert archive.latest_export(trained_copy.run_id) is not None
    state = ended(job)
    done = archive.exported(state)
    assert state.status == "done" and done is not None and done.parity is not None, state
    path, name = archive.download(job, "run.zip")
    assert path.read_bytes() == zipped.read_bytes() and name == f"Two-layer-ConvNet-1-{trained_copy.run_id}.zip"
    for odd in ("other.zip", "../run.zip"):
        with pytest.raises(NotFound):
            archive.download(job, odd)
    os.utime(path.parent, (time.time() - archive.KEEP - 60,) * 2)
    other = archive.start_export(trained_copy.run_id, "tester")
    with pytest.raises(NotFound):
        archive.state(job)
    archive.stop(other)
    state = ended(other)
    assert (
        state.status == "stopped"
        and not list((settings().archives / other).glob("*.zip"))
        and archive.latest_export(trained_copy.run_id) is None
    )


def test_an_uploaded_zip_is_imported_in_the_background_and_one_from_elsewhere_is_not(trained_copy: Trained, zipped: Path) -> None:
    shutil.rmtree(runs.folder(trained_copy.run_id))
    with pytest.raises(Invalid, match="not uploaded"):
        archive.start_import(zipped, "run.zip", "digits-small", "tester")
    upload = settings().uploads / "batches" / "a" / "1.file"
    upload.parent.mkdir(parents=True)
    shutil.copyfile(zipped, upload)
    state = ended(archive.start_import(upload, "run.zip", "digits-small", "tester"))
    assert archive.imported(state) == archive.Imported(trained_copy.run_id, "Two-layer ConvNet 1", "digits-small", 300, 300), state
    assert not upload.parent.exists()  # it goes with its import
    upload.parent.mkdir(parents=True)
    shutil.copyfile(zipped, upload)
    again = ended(archive.start_import(upload, "run.zip", "digits-small", "tester"))
    assert again.status == "failed" and "here already" in again.message


def test_the_command_line_exports_and_imports(trained_copy: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "a.zip")
    assert main(["export-run", trained_copy.run_id, "--out", out]) == 0
    told, said = capsys.readouterr()
    assert json.loads(told)["parity"]["passed"] and "name the same class for all 20 pictures" in said
    shutil.rmtree(runs.folder(trained_copy.run_id))
    assert main(["import-run", out]) == 0
    found = {"run": trained_copy.run_id, "name": "Two-layer ConvNet 1", "dataset": "digits-small", "images": 300, "here": 300}
    assert json.loads(capsys.readouterr().out) == found
    assert main(["import-run", out]) == 1
    told, said = capsys.readouterr()
    assert told == "" and "here already" in said


def test_a_stopped_export_says_so_and_keeps_nothing(trained: Trained, tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        archive.export_now(trained.run_id, tmp_path / "a.zip", stop)
    assert not list(tmp_path.glob("*.zip")) and not list(settings().archives.glob("*"))
