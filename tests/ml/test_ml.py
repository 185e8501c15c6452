"""core.ml: networks, caches, the loop, a real worker process, answers and attribution maps."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import datasets

from core.catalog import methods, networks, params
from core.data import images
from core.errors import AppError, Invalid, NotFound, Stopped
from core.ml import attribute, data, devices, download, features, fit, infer, model, prepare, scratch, trainer, turns, worker
from core.runs import runs
from core.settings import settings
from core.types import Answers, Ended, EpochEnd, Event, Preparing, Preprocess, Queued, SnapshotRow, Split, Started, Step
from tests.forking import Forked, fork
from tests.ml.made import ended, files_of, make_run, squares

CPU = torch.device("cpu")
SCRATCH = [a.name for a in networks.ARCHITECTURES.values() if a.factory.startswith("scratch:")]


def digits(count: int = 300) -> tuple[SnapshotRow, ...]:
    from sklearn.datasets import load_digits

    bunch, rows = load_digits(), []
    for i in range(count):
        png = images.png((bunch.images[i] * (255 / 16)).round().astype(np.uint8))
        name = images.image_id(png)
        images.store_original(settings().images, f"{name[:2]}/{name}.png", png)
        rows.append(SnapshotRow(name, f"{name[:2]}/{name}.png", str(bunch.target[i]), ("train", "train", "validation", "test")[i % 4]))
    return tuple(rows)


def start(folder: Path) -> Forked:
    return fork(["-m", "core.ml.worker", str(folder)], folder / "worker.log")


def wait_for(folder: Path, kind: type[Event], seconds: float = 120) -> None:  # type: ignore[valid-type]
    until = time.monotonic() + seconds
    while not any(isinstance(e, kind) for e in runs.events(folder)):  # type: ignore[arg-type]
        assert time.monotonic() < until, f"no {kind} came: {runs.events(folder)}"
        time.sleep(0.05)


def epochs(folder: Path) -> list[EpochEnd]:
    return [e for e in runs.events(folder) if isinstance(e, EpochEnd)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders of small trained runs by architecture, made once."""
    before = os.environ.get("LOUPE_HOME")
    os.environ["LOUPE_HOME"] = str(tmp_path_factory.mktemp("trained"))
    settings.cache_clear()
    rows = squares(20)
    folders = {}
    for name in SCRATCH:
        folders[name] = make_run(rows, name, architecture=name, epochs=3, batch_size=8, image_size=16)
        worker.main(folders[name])
        assert ended(folders[name]).outcome == "succeeded", ended(folders[name])
    folders["efficientnet_lite0"] = make_run(squares(7, 40, seed=1), "lite", architecture="efficientnet_lite0", epochs=30, image_size=64)
    worker.main(folders["efficientnet_lite0"])
    assert ended(folders["efficientnet_lite0"]).outcome == "succeeded", ended(folders["efficientnet_lite0"])
    yield folders
    if before is None:
        del os.environ["LOUPE_HOME"]
    else:
        os.environ["LOUPE_HOME"] = before
    settings.cache_clear()


# Networks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", networks.ARCHITECTURES)
def test_every_architecture_of_the_catalogue_builds_and_has_its_head_and_layer(name: str) -> None:
    arch = networks.ARCHITECTURES[name]
    config = params.run_config({"architecture": name})
    how = networks.preprocess_for(config, [(28, 28, 1)])
    with torch.device("meta"):  # shapes are enough, and 129 million random numbers take long
        net = model.build(config, 5, how, load_weights=False).eval()
        logits = net(torch.empty(2, how.channels, how.crop, how.crop))
    assert logits.shape == (2, 5)
    assert model.head_of(net, arch).out_features == 5
    assert not arch.cam_layer or isinstance(net.get_submodule(arch.cam_layer), nn.Module)
    assert not any(getattr(m, "inplace", False) for m in net.modules())
    learns = sum(p.requires_grad for p in net.parameters())
    assert learns == 2 if config.freeze else learns == len(list(net.parameters()))


@pytest.mark.parametrize("name", SCRATCH)
@pytest.mark.parametrize("side", [8, 9, 28, 100, 200])
@pytest.mark.parametrize("channels", [1, 3])
def test_scratch_networks_take_any_size_and_grey_or_colour(name: str, side: int, channels: int) -> None:
    net = model.create(networks.ARCHITECTURES[name], 4, Preprocess(channels, side, side, (0.0,) * channels, (1.0,) * channels))
    assert net(torch.rand(2, channels, side, side)).shape == (2, 4)
    assert sum(p.numel() for p in net.parameters()) < 20_000_000


def test_the_preprocessing_follows_the_network_and_the_dataset() -> None:
    def how(name: str, sizes: list[tuple[int, int, int]], **values: Any) -> tuple[int, int, int]:
        found = networks.preprocess_for(params.run_config({"architecture": name, **values}), sizes)
        return found.channels, found.resize, found.crop

    assert how("convnet", [(28, 28, 1)] * 3) == (1, 28, 28)
    assert how("convnet", [(28, 28, 1), (28, 28, 3)]) == (3, 28, 28)
    assert how("convnet", [(640, 480, 3)]) == (3, 64, 64)
    assert how("cnn3", [(640, 480, 3)]) == (3, 100, 100)
    assert how("linear", [(4, 4, 1)]) == (1, 8, 8)
    assert how("linear", [(640, 480, 3)], image_size=32) == (3, 32, 32)
    assert how("efficientnet_lite0", [(28, 28, 1)]) == (3, 256, 224)
    assert how("efficientnet_lite0", [], image_size=112) == (3, 128, 112)


def test_missing_weights_name_the_file_the_folder_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: Any, **rest: Any) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    config = params.run_config({"architecture": "resnet18"})
    with pytest.raises(AppError) as e:
        model.build(config, 2, networks.preprocess_for(config, []))
    assert "resnet18-f37072fd.pth" in e.value.hint and str(tmp_path) in e.value.hint and "EfficientNet-Lite0" in e.value.hint


def test_a_damaged_or_missing_checkpoint_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        model.load(tmp_path)
    (tmp_path / "best.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(AppError, match="damaged"):
        model.load(tmp_path)


# Caches and tensors -------------------------------------------------------------------------------


def test_a_row_cache_computes_only_what_is_missing(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def compute(missing: list[str]) -> Any:
        asked.append(missing)
        yield missing, np.array([[int(i)] * 3 for i in missing], np.uint8)

    cache = data.RowCache(tmp_path, "c", (3,), "uint8")
    rows, index = cache.fetch(["1", "2"], compute)
    rows, index = cache.fetch(["3", "1", "3"], compute)
    assert asked == [["1", "2"], ["3"]]
    assert rows[index].tolist() == [[3] * 3, [1] * 3, [3] * 3]


@pytest.mark.parametrize(("rows_cut", "ids_cut"), [(1, 0), (0, 5), (4, 0), (3, 7)])
def test_a_torn_tail_of_a_row_cache_is_ignored_and_cut_off(tmp_path: Path, rows_cut: int, ids_cut: int) -> None:
    cache = data.RowCache(tmp_path, "c", (3,), "uint8")
    cache.append(["1", "2", "3"], np.array([[1] * 3, [2] * 3, [3] * 3], np.uint8))
    os.truncate(cache.rows, 9 - rows_cut)
    os.truncate(cache.ids, 48 - ids_cut)
    whole = 1 if rows_cut > 3 else 2
    assert len(cache) == whole
    rows, index = cache.fetch([str(i) for i in (1, 2, 3, 4)], lambda ids: [(ids, np.array([[int(i)] * 3 for i in ids], np.uint8))])
    assert rows[index].tolist() == [[i] * 3 for i in (1, 2, 3, 4)]
    assert cache.rows.stat().st_size == 12


def test_an_image_that_cannot_be_read_is_named_and_left_out(home: Path) -> None:
    rows = squares(3)
    (settings().images / rows[4].path).write_bytes(b"broken")
    shutil.copy(settings().images / rows[0].path, settings().images / rows[5].path)  # swapped
    how = Preprocess(3, 12, 12, (0.0,) * 3, (1.0,) * 3)
    for _ in range(2):  # decoded, then from the cache
        pixels = data.pixel_rows(settings().cache, 1, how, rows, lambda done, total: None)
        assert [s.name for s in pixels.skipped] == [Path(rows[n].path).name for n in (4, 5)]
        assert "not the file that was imported" in pixels.skipped[1].reason
        assert [r.image_id for r in pixels.rows] == [r.image_id for r in rows if r not in rows[4:6]]
    first = images.pixels(images.open_picture(settings().images / rows[0].path), how)
    assert np.array_equal(pixels.sources[0][pixels.index[0]], first)
    with pytest.raises(Invalid, match="None of the 1 images"):
        data.pixel_rows(settings().cache, 2, how, rows[4:5], lambda done, total: None)


def test_mean_and_std_are_measured_per_channel_and_never_zero() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), np.uint8)
    pixels[:, 2] = 51
    index = np.arange(10, 40)
    mean, std = data.measure(pixels, index)
    values = pixels[index].transpose(1, 0, 2, 3).reshape(3, -1) / 255
    assert mean == pytest.approx(values.mean(1))
    assert std[:2] == pytest.approx(values.std(1)[:2]) and std[2] == 1e-3


def test_normalising_is_x_minus_mean_over_std() -> None:
    how = Preprocess(3, 8, 8, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    x = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    mean, std = torch.tensor(how.mean)[:, None, None], torch.tensor(how.std)[:, None, None]
    torch.testing.assert_close(data.Normalise(how, CPU)(x), (x / 255 - mean) / std)


def test_rows_that_do_not_fit_in_memory_are_gathered_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    source = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), np.uint8)
    index, labels = np.arange(19, 4, -1), torch.arange(15)
    how = data.Normalise(Preprocess(1, 8, 8, (0.5,), (0.5,)), CPU)
    resident = data.Tensors([source], index, labels, how)
    monkeypatch.setattr(data, "free_memory", lambda device: 100)
    gathered = data.Tensors([source], index, labels, how)
    assert resident.resident and not gathered.resident
    chosen = torch.tensor([3, 0, 14])
    for a, b in zip(resident.take(chosen), gathered.take(chosen), strict=True):
        assert torch.equal(a, b)


# The worker process -------------------------------------------------------------------------------


def test_two_epochs_in_a_process_of_their_own_leave_events_weights_and_predictions(home: Path) -> None:
    rows = digits()
    folder = make_run(rows, architecture="convnet", epochs=2, batch_size=16, patience=0)
    assert start(folder).wait(240) == 0
    history = runs.events(folder)
    assert [type(e) for e in history if not isinstance(e, Preparing | Step | Answers)] == [Started, EpochEnd, EpochEnd, Ended]
    assert isinstance(history[0], Preparing) and history[0].what == "Reading images"
    assert ended(folder).outcome == "succeeded" and ended(folder).best_epoch == epochs(folder)[-1].best_epoch
    table = pd.read_csv(runs.predictions_path(folder), dtype={"true": str, "predicted": str})
    assert sorted(table["image_id"]) == sorted(r.image_id for r in rows if r.split != "train")
    validation = table[table["split"] == "validation"]
    best = epochs(folder)[ended(folder).best_epoch - 1]  # type: ignore[operator]
    assert (validation["true"] == validation["predicted"]).mean() == pytest.approx(best.val_accuracy)
    answered = infer.predict(str(folder), [str(settings().images / f"{i[:2]}/{i}.png") for i in table["image_id"]])
    np.testing.assert_allclose([a["probabilities"] for a in answered], table[[str(n) for n in range(10)]], atol=1e-4)


@pytest.mark.parametrize("how", ["stop file", "SIGTERM"])
def test_a_stopped_run_keeps_its_best_weights_and_predictions(home: Path, how: str) -> None:
    folder = make_run(squares(20), architecture="linear", epochs=1000, patience=0, batch_size=1)
    process = start(folder)
    wait_for(folder, EpochEnd)
    if how == "SIGTERM":
        os.kill(process.pid, signal.SIGTERM)
    else:
        runs.request_stop(folder)
    assert process.wait(60) == 0
    assert ended(folder).outcome == "stopped" and len(epochs(folder)) < 1000
    assert model.load(folder).epoch == ended(folder).best_epoch
    assert runs.predictions_path(folder).exists()


def test_a_stop_within_the_first_epoch_keeps_the_weights_so_far(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.ml.fit.STEP_EVENT_SECONDS", 0.0)
    folder = make_run(squares(10), architecture="linear", epochs=3, batch_size=2)
    stops = iter([False] * 3 + [True] * 99)  # asked by the reports of reading, then after each step
    monkeypatch.setattr(runs, "stop_requested", lambda _: any(isinstance(e, Step) for e in runs.events(folder)) and next(stops))
    worker.main(folder)
    assert ended(folder).outcome == "stopped" and ended(folder).best_epoch is None and not epochs(folder)
    assert model.load(folder).classes == ("blue", "green", "red")


def test_a_stop_before_training_ends_the_run_without_weights(home: Path) -> None:
    folder = make_run(squares(4), architecture="linear")
    runs.request_stop(folder)
    worker.main(folder)
    assert ended(folder).outcome == "stopped" and not runs.checkpoint(folder).exists()


def test_a_run_waits_for_its_device_and_can_be_stopped_while_it_waits(home: Path) -> None:
    folder = make_run(squares(4), architecture="linear")
    with turns.slot_lock("cpu"):
        process = start(folder)
        wait_for(folder, Queued)
        runs.request_stop(folder)
        assert process.wait(60) == 0
    assert [type(e) for e in runs.events(folder)] == [Queued, Ended] and ended(folder).outcome == "stopped"


def test_a_learning_rate_far_too_high_ends_with_a_sentence(home: Path) -> None:
    folder = make_run(squares(20), architecture="cnn3", learning_rate=10.0, optimizer="sgd", epochs=5, batch_size=4)
    worker.main(folder)
    assert ended(folder).outcome == "failed" and "Lower the learning rate" in ended(folder).message, ended(folder)
    assert not any("nan" in line.lower() for line in (folder / "events.jsonl").read_text().splitlines() if '"Ended"' not in line)


def test_a_run_that_fails_after_its_best_epoch_still_writes_predictions(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(squares(8), architecture="linear", epochs=3)
    whole = fit.fit

    def broken(*args: Any) -> Iterator[Any]:
        for event in whole(*args):
            yield event
            if isinstance(event, EpochEnd):
                raise Invalid("The loss became NaN in epoch 2, step 1.")

    monkeypatch.setattr(trainer, "fit", broken)
    worker.main(folder)
    assert ended(folder).outcome == "failed" and "NaN" in ended(folder).message and ended(folder).best_epoch == 1
    assert runs.checkpoint(folder).exists() and len(list(runs.read_predictions(folder))) > 0


def test_a_batch_that_does_not_fit_into_memory_names_one_that_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scratch.Linear.forward

    def small_device(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 8 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, x)  # type: ignore[arg-type]

    monkeypatch.setattr(scratch.Linear, "forward", small_device)
    folder = make_run(squares(20), architecture="linear", epochs=2, batch_size=32)
    worker.main(folder)
    assert ended(folder).outcome == "failed" and ended(folder).remedy == {"batch_size": 8}, ended(folder)
    assert "too small for batches of 32 images. A batch of 8 fits." in ended(folder).message
    run = runs.load(folder)
    runs.write_json(folder / "config.json", asdict(replace(run, config=replace(run.config, batch_size=8))))
    worker.main(folder)
    assert ended(folder).outcome == "succeeded", ended(folder)


def test_a_loss_that_is_no_number_offers_a_smaller_learning_rate(home: Path) -> None:
    folder = make_run(squares(20), architecture="cnn3", learning_rate=10.0, optimizer="sgd", epochs=5, batch_size=4)
    worker.main(folder)
    assert ended(folder).remedy == {"learning_rate": 1.0}


def test_progressive_resizing_trains_on_small_images_first_and_judges_at_full_size() -> None:
    how = Preprocess(3, 256, 224, (0.0,) * 3, (1.0,) * 3)
    cfg = params.run_config({"architecture": "resnet18", "pretrained": False, "freeze": False, "progressive": True, "epochs": 9})
    assert prepare.sizes(cfg, 0, how) == [(3, 128), (6, 160), (9, 224)]
    assert prepare.sizes(cfg, 6, how) == [(7, 128), (8, 160), (9, 224)]
    assert prepare.sizes(replace(cfg, epochs=1), 0, how)[-1] == (1, 224)
    assert prepare.sizes(replace(cfg, progressive=False), 0, how) == [(9, 224)]


def test_whole_pictures_keep_their_shape_from_training_to_prediction(home: Path, tmp_path: Path) -> None:
    rows = []
    noise = np.random.default_rng(0)
    for i in range(24):
        size = ((60, 40), (40, 60), (50, 50))[i % 3]
        pixels = noise.integers(0, 100, (size[1], size[0], 3)).astype(np.uint8)
        pixels[..., i % 2] += 120
        image_id = images.image_id(images.png(pixels))
        images.store_original(settings().images, f"{image_id[:2]}/{image_id}.png", images.png(pixels))
        split: Split = "validation" if i >= 18 else "train"
        rows.append(SnapshotRow(image_id, f"{image_id[:2]}/{image_id}.png", ("red", "green")[i % 2], split))
    values: dict[str, Any] = {
        "pretrained": False,
        "freeze": False,
        "rectangles": True,
        "image_size": 128,
        "batch_size": 4,
        "progressive": True,
    }
    folder = make_run(tuple(rows), architecture="timm:resnet10t", epochs=3, **values)
    worker.main(folder)
    assert ended(folder).outcome == "succeeded", ended(folder)
    how = model.load(folder).preprocess
    assert how.rectangles and sorted(images.shapes(how))[0] == (96, 160)
    files = [settings().images / r.path for r in rows[18:]]
    assert {infer.read(str(f), how).shape[1:] for f in files} == {(128, 128), (96, 160), (160, 96)}
    stored = {r.image_id: r.probabilities for r in runs.read_predictions(folder)}
    for row, answer in zip(rows[18:], infer.predict(str(folder), [str(f) for f in files]), strict=True):
        np.testing.assert_allclose(answer["probabilities"], stored[row.image_id], atol=1e-4)


@pytest.mark.parametrize("size", [(1, 4000), (20_000, 3), (3, 20_000)])
def test_a_very_long_picture_costs_no_more_memory_than_its_square(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (10, 200, 30))
    how = Preprocess(3, 256, 224, (0.0,) * 3, (1.0,) * 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = images.pixels(picture, how)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB; the whole would be hundreds of MB
    assert found.shape == (3, 224, 224) and (found.reshape(3, -1).T == (10, 200, 30)).all()


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (333, 1000), (100, 37), (224, 224), (256, 300)])
def test_the_square_is_what_resizing_the_whole_and_cropping_gives(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    scale = 256 / min(size)
    whole = picture.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BILINEAR)
    left, top = (whole.width - 224) // 2, (whole.height - 224) // 2
    wanted = np.asarray(whole.crop((left, top, left + 224, top + 224))).astype(int)
    got = images.pixels(picture, Preprocess(3, 256, 224, (0.0,) * 3, (1.0,) * 3)).transpose(1, 2, 0)
    assert np.abs(got - wanted).max() <= 1


def test_a_crash_ends_with_a_sentence_and_keeps_the_traceback(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(squares(4), architecture="linear")
    monkeypatch.setattr(data, "pixel_rows", lambda *_: 1 / 0)
    worker.main(folder)
    assert ended(folder).outcome == "failed" and "ZeroDivisionError" in ended(folder).detail and "Traceback" not in ended(folder).message


def test_a_full_disk_ends_the_run_with_a_sentence_and_it_goes_on_once_there_is_room(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [model.write]

    def full(path: Path, values: Any) -> None:
        if not whole:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        whole.pop()(path, values)

    folder = make_run(squares(4), architecture="linear", epochs=3)
    monkeypatch.setattr(trainer.Checkpoints, "due", lambda _self, event: isinstance(event, EpochEnd))
    with monkeypatch.context() as during:
        during.setattr(trainer, "write", full)
        worker.main(folder)
    assert ended(folder).outcome == "paused" and ended(folder).message.startswith("The disk is full: ")
    assert "last.pt in LOUPE_HOME could not be written. Make room" in ended(folder).message and not list(folder.glob(".*.tmp"))
    worker.main(folder)
    assert ended(folder).outcome == "succeeded" and [e.epoch for e in epochs(folder)] == [1, 2, 3]


def test_a_checkpoint_that_does_not_fit_on_the_disk_leaves_the_one_before(tiny_disk: Path) -> None:
    model.write(tiny_disk / "last.pt", {"a": torch.zeros(1000)})
    before = (tiny_disk / "last.pt").read_bytes()
    with pytest.raises(OSError, match="No space left"):
        model.write(tiny_disk / "last.pt", {"a": torch.zeros(1_000_000)})
    assert (tiny_disk / "last.pt").read_bytes() == before and sorted(p.name for p in tiny_disk.iterdir()) == ["hashes.json", "last.pt"]


def test_memory_that_runs_out_names_the_remedy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    folder = make_run(squares(4), architecture="linear")
    monkeypatch.setattr(prepare, "build", full)
    worker.main(folder)
    assert "smaller batch" in ended(folder).message


def test_an_absent_device_is_refused_with_those_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Invalid, match="no cuda device") as e:
        devices.pick_device("cuda")
    assert "cpu" in e.value.hint and devices.pick_device("cpu") == CPU


def test_a_frozen_network_runs_its_backbone_once_and_trains_only_the_head(trained: dict[str, Path]) -> None:
    folder = trained["efficientnet_lite0"]
    started = next(e for e in runs.events(folder) if isinstance(e, Started))
    assert started.trained == 3 * 1281 < started.parameters
    assert any(isinstance(e, Preparing) and e.what == "Running the backbone once" for e in runs.events(folder))
    assert max(e.val_accuracy or 0 for e in epochs(folder)) == 1
    found = model.load(folder)
    untouched = model.build(params.run_config({"architecture": "efficientnet_lite0"}), 3, found.preprocess)
    differing = [k for k, v in untouched.state_dict().items() if not torch.equal(v, found.model.state_dict()[k])]
    assert differing == ["classifier.weight", "classifier.bias"]
    again = make_run(tuple(runs.snapshot_rows(folder)), "lite-again", architecture="efficientnet_lite0", epochs=1, image_size=64)
    worker.main(again)
    assert not any(isinstance(e, Preparing) for e in runs.events(again))  # pixels and features came from the cache


def test_stored_features_are_the_input_of_the_head(home: Path) -> None:
    rows = squares(2, 40)
    cfg = params.run_config({"architecture": "efficientnet_lite0", "image_size": 64})
    how = networks.preprocess_for(cfg, [])
    net, arch = model.build(cfg, 3, how), networks.ARCHITECTURES["efficientnet_lite0"]
    pixels = data.pixel_rows(settings().cache, 1, how, rows, lambda *_: None)
    source, index = features.run_once(net, arch, how, pixels, settings().cache, 1, CPU, lambda *_: None)
    x = infer.normalised(list(pixels.sources[0][pixels.index]), how)
    with torch.inference_mode():
        head = model.head_of(net, arch)
        torch.testing.assert_close(head(torch.from_numpy(source[index])), net.eval()(x), rtol=1e-4, atol=1e-4)


# Answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SCRATCH, "efficientnet_lite0"])
def test_predicting_a_file_agrees_with_the_predictions_of_the_run(trained: dict[str, Path], name: str) -> None:
    folder = trained[name]
    table = pd.read_csv(runs.predictions_path(folder))
    answered = infer.predict(str(folder), [str(settings().images / f"{i[:2]}/{i}.png") for i in table["image_id"]])
    classes = list(runs.load(folder).classes)
    np.testing.assert_allclose([a["probabilities"] for a in answered], table[classes], atol=1e-4)
    assert len(table)


def test_a_file_that_cannot_be_read_does_not_spoil_the_others(trained: dict[str, Path], tmp_path: Path) -> None:
    folder = trained["linear"]
    (tmp_path / "broken.png").write_bytes(b"nothing")
    good = files_of(folder)[0]
    rows = infer.predict(str(folder), [good, str(tmp_path / "broken.png"), str(tmp_path / "absent.png"), good])
    assert [("error" in r) for r in rows] == [False, True, True, False]
    assert sum(rows[3]["probabilities"]) == pytest.approx(1) and rows[1]["hint"]


def test_a_grey_picture_is_answered_by_a_network_of_colour(trained: dict[str, Path], tmp_path: Path) -> None:
    Image.new("L", (30, 20), 99).save(tmp_path / "grey.png")
    for folder in trained.values():
        assert "probabilities" in infer.predict(str(folder), [str(tmp_path / "grey.png")])[0]


def test_what_the_network_receives_is_told_in_pixels_and_numbers(trained: dict[str, Path]) -> None:
    folder = trained["convnet"]
    got = infer.received(str(folder), files_of(folder)[0])
    assert got["image"].shape == (16, 16, 3) and got["image"].dtype == np.uint8 and got["shape"] == (1, 3, 16, 16)
    assert got["low"] < 0 < got["high"]
    assert infer.facts(files_of(folder)[0])["width"] == 12
    assert infer.ready().startswith("cpu")


def test_a_new_checkpoint_is_noticed(trained: dict[str, Path]) -> None:
    folder = str(trained["linear"])
    before = infer.loaded(folder)
    assert infer.loaded(folder) is before
    os.utime(runs.checkpoint(trained["linear"]), ns=(1, 1))
    assert infer.loaded(folder) is not before


# Attribution --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SCRATCH, "efficientnet_lite0"])
@pytest.mark.parametrize("method", methods.METHODS)
def test_every_method_gives_a_finite_map_and_leaves_nothing_behind(trained: dict[str, Path], name: str, method: str) -> None:
    folder = trained[name]
    file = files_of(folder)[0]
    if methods.METHODS[method].chooses_layer and not networks.architecture(name).cam_layer:
        with pytest.raises(Invalid, match="needs a convolution"):
            attribute.attribute(str(folder), file, method, None)
        return
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index,union-attr]
    answer = attribute.attribute(str(folder), file, method, 1)
    assert torch.equal(states[0], torch.get_rng_state()) and states[2] == random.getstate()
    assert states[1] == np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    assert answer["map"].shape == answer["image"].shape[:2] and answer["map"].dtype == np.float32
    assert np.isfinite(answer["map"]).all()
    assert answer["map"].any() != any("empty" in note for note in answer["notes"]) and (answer["map"].any() or method == "guided_grad_cam")
    assert answer["target"] == 1 and answer["probability"] == answer["probabilities"][1]
    assert (answer["delta"] is not None) == (answer["change"] is not None) == (methods.METHODS[method].sums_to is not None)
    again = attribute.attribute(str(folder), file, method, 1)
    np.testing.assert_allclose(again["map"], answer["map"], rtol=1e-4, atol=1e-6)
    net = infer.loaded(str(folder)).model
    for module in net.modules():
        assert not module._forward_hooks and not module._backward_hooks and not module._forward_pre_hooks
        assert not module._backward_pre_hooks
    assert all(p.grad is None for p in net.parameters())


def test_integrated_gradients_add_up_to_the_change_in_score(trained: dict[str, Path]) -> None:
    folder = trained["linear"]
    answer = attribute.attribute(str(folder), files_of(folder)[0], "integrated_gradients", 0)
    assert abs(answer["delta"]) < 1e-4


def test_an_unknown_class_is_refused(trained: dict[str, Path]) -> None:
    with pytest.raises(Invalid, match="no class number 3"):
        attribute.attribute(str(trained["linear"]), files_of(trained["linear"])[0], "saliency", 3)


# Downloads ----------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder served as the mirror of two made-up files."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    resources = []
    for name in ("a.gz", "b.gz"):
        (mirror / name).write_bytes(name.encode() * 300_000)
        resources.append((name, hashlib.md5((mirror / name).read_bytes()).hexdigest()))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"file://{tmp_path}/gone/", f"file://{mirror}/"])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    return mirror


def test_a_download_tries_its_mirrors_checks_its_files_and_fetches_none_twice(tmp_path: Path, server: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    folder = download.download("MNIST", tmp_path / "in", lambda *report: seen.append(report))
    assert sorted(p.name for p in folder.iterdir()) == ["a.gz", "b.gz"]
    assert [s for s in seen if s[0] == s[1]] == [(1_200_000, 1_200_000, "a.gz"), (1_200_000, 1_200_000, "b.gz")]
    (folder / "b.gz").write_bytes(b"damaged")
    seen.clear()
    download.download("MNIST", tmp_path / "in", lambda *report: seen.append(report))
    assert {s[2] for s in seen} == {"b.gz"} and (folder / "b.gz").read_bytes() == (server / "b.gz").read_bytes()


def test_without_the_network_the_files_and_their_folder_are_named(tmp_path: Path, server: Path) -> None:
    (server / "b.gz").unlink()
    with pytest.raises(AppError) as e:
        download.download("MNIST", tmp_path / "in", lambda *_: None)
    assert str(tmp_path / "in" / "MNIST") in e.value.hint and "a.gz, b.gz" in e.value.hint
    with pytest.raises(Invalid, match="ImageNet"):
        download.download("ImageNet", tmp_path, lambda *_: None)


def test_a_damaged_download_is_not_kept(tmp_path: Path, server: Path) -> None:
    (server / "a.gz").write_bytes(b"other bytes")
    with pytest.raises(AppError, match="damaged"):
        download.download("MNIST", tmp_path / "in", lambda *_: None)
    assert list((tmp_path / "in" / "MNIST").iterdir()) == []


def test_a_download_can_be_stopped(tmp_path: Path, server: Path) -> None:
    seen: list[Any] = []

    def stop(*report: Any) -> None:
        seen.append(report)
        if len(seen) > 1:
            raise Stopped

    with pytest.raises(Stopped):
        download.download("MNIST", tmp_path / "in", stop)
    assert len(seen) == 2 and list((tmp_path / "in" / "MNIST").iterdir()) == []


def test_cifar_files_that_are_missing_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(AppError, match="missing or damaged"):
        next(download.cifar10_arrays(tmp_path))


def test_core_ml_imports_neither_store_nor_launch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in [name for name in sys.modules if name.partition('.')[0] == 'core']: del sys.modules[name]\n"
        "import core.ml.worker, core.ml.infer, core.ml.attribute, core.ml.download\n"
        "print([m for m in ('core.ml.worker', 'core.data.store', 'core.runs.launch') if m in sys.modules])"
    )
    said = tmp_path / "said"
    said.touch()
    assert fork(["-c", code], said).wait(60) == 0, said.read_text()  # one that has PyTorch already: to import it takes 4 s
    assert said.read_text().strip() == "['core.ml.worker']"


def test_a_missing_network_is_said_without_an_error_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(AppError, match="want of a network") as e:
        download.download("MNIST", tmp_path, lambda *_: None)
    assert "Errno" not in str(e.value)
