"""Embedding: the map, near duplicates, quality, clusters, "Teach me", and the orders made of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageEnhance
from sklearn.datasets import load_digits, load_sample_images
from torch import nn

from core import space
from core.catalog import networks, params
from core.catalog.networks import preprocess_for
from core.data import alike, classes, imports, labels, store
from core.data.store import Filter
from core.errors import AppError, Invalid, Stopped, Unavailable
from core.label import embed, orders, teach
from core.label.orders import ORDERS
from core.ml import embed as ml
from core.ml import features, turns
from core.ml import teach as head
from core.ml.data import RowCache, save_arrays
from core.ml.model import build, set_module
from core.runs import cluster, jobs, launch, runs
from core.settings import settings
from core.types import Dataset, Preprocess, Split, silent
from pages.shared.figures import learning_curve
from pages.shared.teach import _said
from tests.conftest import copy_home, forget, move_in, share_exports, whole
from tests.pages.app import opened
from tests.ray_clusters import answered_here

pytestmark = pytest.mark.usefixtures("quick_exports")
CPU = torch.device("cpu")


def embedded(dataset_id: int) -> Path:
    """What a background embedding does, in this process: no import of torch is waited for."""
    folder = settings().embeddings / str(dataset_id) / f"20260101-{time.time_ns() % 10**6:06d}-{time.time_ns() % 16**6:06x}"
    folder.mkdir(parents=True)
    runs.write_json(folder / "job.json", {"dataset_id": dataset_id, "at": f"{time.time_ns()}", "by": "me"})
    jobs.run(folder, embed.EMBED)
    return folder


def filled(name: str, pictures: dict[str, Pillow.Image], where: Path, splits: tuple[Split, ...] = ()) -> tuple[Dataset, dict[str, str]]:
    """An unlabelled dataset of the pictures, in the splits in turn if some are given, and the id of each."""
    made, ids = store.create_dataset(name), {}
    where.mkdir(exist_ok=True)
    found = []
    for n, (stem, picture) in enumerate(pictures.items()):
        picture.save(where / f"{stem}.png")
        image = imports.add_upload(made, where / f"{stem}.png", f"{stem}.png")
        found.append(replace(image, split=splits[n % len(splits)]) if splits else image)
        ids[stem] = image.id
    labels.add_images(made.id, found, "me", "import")
    return made, ids


def give(made: Dataset, wanted: dict[str, str], source: str = "manual") -> None:
    """Labels by image id, over whatever they carry."""
    store_seqs = store.carried(made.id)
    for name in sorted(set(wanted.values())):
        seen = {i: store_seqs[i].seq for i, label in wanted.items() if label == name}
        assert not labels.apply(made.id, seen, name, "me", source=source).refused


@dataclass(frozen=True)
class Digits:
    home: Path
    dataset: Dataset
    truth: dict[str, str]  # of every image, of which none is labelled


@pytest.fixture(scope="module")
def digits_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Digits]:
    home, files = tmp_path_factory.mktemp("digits"), tmp_path_factory.mktemp("files")
    share_exports(home, tmp_path_factory)
    source = load_digits()
    arrays = (source.images[:500] * (255 / 16)).round().astype(np.uint8)
    pictures = {f"{i:03d}": Pillow.fromarray(array) for i, array in enumerate(arrays)}
    with pytest.MonkeyPatch.context() as patch:
        move_in(patch, home)
        made, ids = filled("digits", pictures, files, ("train", "train", "train", "train", "validation", "test"))
        classes.ensure(made.id, [str(n) for n in range(10)])
        embedded(made.id)
        forget()
    with whole(home):
        yield Digits(home, made, {ids[stem]: str(source.target[int(stem)]) for stem in pictures})
    launch.close()


@pytest.fixture
def digits(digits_once: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Digits]:
    """500 embedded digits without labels, for the test to change."""
    copy_home(digits_once.home, tmp_path / "copy", without="*-srgb-*")  # the pixels
    move_in(monkeypatch, tmp_path / "copy")
    yield digits_once
    forget()


def labelled(digits: Digits, count: int, splits: tuple[str, ...] = ("train",)) -> dict[str, str]:
    """Gives `count` images of the splits their true labels."""
    carried = store.carried(digits.dataset.id)
    chosen = {i: digits.truth[i] for i in sorted(digits.truth) if carried[i].split in splits}
    some = dict(list(chosen.items())[:count])
    give(digits.dataset, some)
    return some


def photos(count: int) -> dict[str, Pillow.Image]:
    """Different pieces of two real photographs, of 106 × 106 pixels; no two overlap."""
    places = [(n, top, left) for top in range(0, 420, 106) for left in range(0, 630, 106) for n in (0, 1)]
    whole = load_sample_images().images
    return {f"piece-{i}": Pillow.fromarray(whole[n][top : top + 106, left : left + 106]) for i, (n, top, left) in enumerate(places[:count])}


# Features


def backbone(side: int) -> tuple[nn.Module, Preprocess]:
    config = params.run_config({"architecture": "efficientnet_lite0", "image_size": side})
    preprocess = preprocess_for(config, [])
    network = build(config, 2, preprocess)
    set_module(network, networks.architecture("efficientnet_lite0").head, nn.Identity())
    return network.eval(), preprocess


def test_onnx_runtime_gives_the_features_that_pytorch_gives() -> None:
    network, preprocess = backbone(ml.TINY_INPUT)  # whose export the map of digits needs anyway
    x = torch.randn(5, 3, preprocess.crop, preprocess.crop, generator=torch.Generator().manual_seed(0))
    quick = features.by_onnx(network, preprocess)
    assert features.fastest(network, preprocess, CPU, features.EXPORT_PAYS)(x).shape == (5, 1280)
    plain = features.by_torch(network)(x)
    for some in (x, x[:1]):
        assert np.abs(quick(some) - plain[: len(some)]).max() < 1e-3 * np.abs(plain).max()


def test_a_network_is_exported_once_and_again_where_its_weights_changed_or_the_file_is_damaged(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "cache" / "onnx").unlink()  # all tests' exports
    exports = []
    export = torch.onnx.export

    def counted(*args: Any, **how: Any) -> Any:
        exports.append(args)
        return export(*args, **how)

    monkeypatch.setattr(torch.onnx, "export", counted)
    torch.manual_seed(0)
    preprocess, layer = Preprocess(3, 8, 8, (0.0,) * 3, (1.0,) * 3), nn.Linear(192, 4)
    network = nn.Sequential(nn.Flatten(), layer).eval()
    x = torch.rand(5, 3, 8, 8)

    def answers() -> int:
        given, wanted = features.by_onnx(network, preprocess)(x), network(x).detach().numpy()
        assert np.allclose(given, wanted, rtol=1e-4, atol=1e-5)
        return len(exports)

    assert [answers(), answers()] == [1, 1]
    (file,) = (home / "cache" / "onnx").glob("*.onnx")
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    assert [answers(), answers()] == [2, 2]
    with torch.no_grad():
        layer.weight += 1
    assert [answers(), answers()] == [3, 3]
    (another,) = set((home / "cache" / "onnx").glob("*.onnx")) - {file}
    another.write_bytes(whole)  # a whole network that answers otherwise
    assert [answers(), answers()] == [4, 4]
    monkeypatch.setattr(features, "KEPT", 1)
    with torch.no_grad():
        layer.weight += 1
    assert answers() == 5
    assert len(list((home / "cache" / "onnx").glob("*.onnx"))) == 1


def test_who_needs_an_export_that_another_is_making_waits_for_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "cache" / "onnx").unlink()
    preprocess, network = Preprocess(3, 8, 8, (0.0,) * 3, (1.0,) * 3), nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()
    exports = []
    export = torch.onnx.export

    def slowly(*args: Any, **how: Any) -> Any:
        exports.append(args)
        time.sleep(0.3)
        return export(*args, **how)

    monkeypatch.setattr(torch.onnx, "export", slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: features.by_onnx(network, preprocess), range(2))
    x = torch.rand(5, 3, 8, 8)
    assert (first(x) == second(x)).all() and len(exports) == 1


def test_a_network_that_cannot_be_exported_runs_through_pytorch() -> None:
    class Wayward(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1)

    preprocess = Preprocess(3, 8, 8, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(Exception, match=r"."):
        features.by_onnx(Wayward(), preprocess)
    x = -torch.rand(2, 3, 8, 8)
    assert (features.fastest(Wayward(), preprocess, CPU, 10_000)(x) == -x.flatten(1).numpy()).all()


# The map


def test_images_of_one_colour_lie_together_and_every_measure_has_a_row_for_each(small: Dataset) -> None:
    folder = embedded(small.id)
    found = embed.latest(small.id)
    state = embed.state(small.id)
    assert state is not None and (state.status, state.done, state.message, state.id) == ("done", 24, "", folder.name)
    assert found is not None and found.id == folder.name and set(found.ids) == store.carried(small.id).keys()
    assert found.xy.shape == (24, 2) and found.xy.min() == 0 and found.xy.max() == 1 and found.xy.dtype == np.float32
    for array in (found.brightness, found.sharpness, found.oddness, found.group):
        assert array.shape == (24,) and np.isfinite(array).all()
    assert (found.oddness == 0).all() and (found.group == -1).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "ask", lambda *_: pytest.fail("what the map opens with is there"))
        for method in embed.CLUSTERINGS:
            embed.sureness(small.id, method, embed.usual_size(small.id, method, 24))
    labels = store.current_labels(small.id)
    colours = np.array([labels[i] for i in found.ids.tolist()])
    three = embed.clusters(small.id, "k-means", 3)
    assert len({(c, int(k)) for c, k in zip(colours, three, strict=True)}) == 3
    assert embed.missing(small.id) == 0 and embed.running() == [] and embed.crossing(small.id) == 0
    said = embed.sureness(small.id, "k-means", 3)
    forget()  # as a start of the server does
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "ask", lambda *_: pytest.fail("the worker was asked again"))
        assert (embed.clusters(small.id, "k-means", 3) == three).all() and embed.sureness(small.id, "k-means", 3) == said


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_dataset_of_a_few_images_has_a_map_too(home: Path, tmp_path: Path, count: int) -> None:
    made, _ = filled("few", photos(count), tmp_path / "files")
    embedded(made.id)
    found = embed.latest(made.id)
    assert found is not None and found.xy.shape == (count, 2) and np.isfinite(found.xy).all() and (found.group == -1).all()
    assert len(np.unique(found.xy, axis=0)) == count
    assert set(ml.clusters(str(embed.home(made.id) / found.id), "k-means", 4)) == set(range(min(4, count)))
    assert len(ml.clusters(str(embed.home(made.id) / found.id), "hdbscan", 3)) == count


def test_an_embedding_that_was_stopped_goes_on_where_it_was(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BATCH", 8)
    folder = tmp_path / "job"
    folder.mkdir()
    embed.write_list(folder, small.id)
    looked: list[int] = []

    def progress(done: int, total: int, what: str) -> None:
        if what == "Looking at images":
            looked.append(done)

    def stop(done: int, total: int, what: str) -> None:
        if looked[-1:] == [8]:
            raise Stopped
        progress(done, total, what)

    with pytest.raises(Stopped):
        ml.embed(folder, small.id, stop)
    (stored,) = settings().cache.glob("*-features-*.rows")
    half = stored.read_bytes()
    assert len(half) == 16 * 1280 * 4 and not (folder / "embedding.npz").exists()
    looked.clear()
    assert ml.embed(folder, small.id, progress) == (24, 0)
    assert looked == [0, 8] and stored.read_bytes()[: len(half)] == half  # 0 and 8 of the 8 that were missing
    assert len(RowCache(settings().cache, stored.stem, (1280,), "float32")) == 24


def test_what_nodes_have_looked_at_is_not_read_again_and_is_what_this_machine_sees(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = store.all_images(small.id)[3]
    (settings().images / damaged.path).write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    here = embedded(small.id) / "embedding.npz"
    shutil.rmtree(settings().cache)
    asked: list[int] = []
    ml._awake.cache_clear()
    monkeypatch.setenv("LOUPE_RAY_ADDRESS", "http://127.0.0.1:1")
    settings.cache_clear()

    def takes(pictures: int) -> bool:
        asked.append(pictures)
        return True

    monkeypatch.setattr(cluster, "takes", takes)
    monkeypatch.setattr(cluster, "answers", answered_here)
    there = embedded(small.id) / "embedding.npz"
    assert asked == [24] and not list(settings().cache.glob("*-srgb-*.rows"))  # no pixels: nothing that can be read was read here
    with np.load(here) as a, np.load(there) as b:
        assert a["ids"].tolist() == b["ids"].tolist() and a["unreadable"].tolist() == b["unreadable"].tolist() == [damaged.id]
        for name in ("brightness", "sharpness", "oddness", "group"):
            assert np.allclose(a[name], b[name], atol=1e-5), name
        assert np.allclose(a["reduced"] @ a["reduced"].T, b["reduced"] @ b["reduced"].T, atol=1e-4)
    embedded(small.id)
    assert asked == [24, 1]  # the one that cannot be read
    ml._awake.cache_clear()


def test_a_job_that_a_cluster_leaves_alone_says_so_and_what_to_do(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise Unavailable("The Ray cluster does not answer.")

    monkeypatch.setenv("LOUPE_RAY_ADDRESS", "http://127.0.0.1:1")
    settings.cache_clear()
    monkeypatch.setattr(cluster, "takes", lambda pictures: True)
    monkeypatch.setattr(cluster, "answers", away)
    embedded(small.id)
    state = embed.state(small.id)
    assert (
        state is not None
        and (state.status, state.message) == ("failed", "The Ray cluster does not answer.")
        and "start it again to go on" in state.hint
    )


def test_a_damaged_image_is_left_out_counted_and_not_asked_for_again(small: Dataset) -> None:
    damaged = store.all_images(small.id)[3]
    (settings().images / damaged.path).write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert embed.missing(small.id) == 24
    embedded(small.id)
    state, found = embed.state(small.id), embed.latest(small.id)
    assert state is not None and state.status == "done" and "1 image could not be read" in state.message
    assert found is not None and len(found.ids) == 23 and damaged.id not in found.ids and found.unreadable == {damaged.id}
    assert embed.missing(small.id) == 0
    assert orders.order(small.id, "darkest", Filter()).ids[-1] == damaged.id


def test_an_empty_or_deleted_dataset_is_refused_in_words(home: Path, small: Dataset) -> None:
    with pytest.raises(Invalid, match="holds no images"):
        embed.start(store.create_dataset("empty").id, "me")
    for asked in (lambda: embed.clusters(small.id, "k-means", 3), lambda: orders.order(small.id, "darkest", Filter())):
        with pytest.raises(Invalid, match="not looked at the images"):
            asked()
    with pytest.raises(Invalid, match="not looked at the images"):
        teach.teach(small.id, "me")
    assert embed.latest(small.id) is None and embed.state(small.id) is None and teach.answers(small.id) is None
    assert teach.lessons(small.id) == [] and teach.suggest(small.id, 0.5) == {}
    store.set_deleted(small.id, True)
    with pytest.raises(AppError, match="was deleted"):
        embed.start(small.id, "me")


def test_who_has_not_asked_for_the_map_does_not_wait_for_it(home: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [i.id for i in store.all_images(small.id)]
    features = np.random.default_rng(0).normal(size=(len(ids), 8)).astype(np.float32)
    measured = np.random.default_rng(1).normal(size=(len(ids), 2 + alike.GREY_SIDE**2)).astype(np.float32)
    monkeypatch.setattr(ml, "look", lambda *_: (ids, features / np.linalg.norm(features, axis=1, keepdims=True), measured))
    maps: list[int] = []

    def flat_map(reduced: np.ndarray, ids: list[str]) -> np.ndarray:
        maps.append(len(ids))
        return np.zeros((len(ids), 2), np.float32)

    monkeypatch.setattr(ml, "flat_map", flat_map)
    for name, arranged in (("20260101-000000-aaaaaa", False), ("20260101-000001-bbbbbb", True)):
        folder = embed.home(small.id) / name
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps({"dataset_id": small.id, "by": "me", "at": "2026-01-01T00:00:00.000+00:00"}))
        embed.write_list(folder, small.id)
        ml.embed(folder, small.id, silent, arranged)
        found = embed.latest(small.id)
        assert found is not None and found.id == name and found.arranged is arranged and found.xy.shape == (len(ids), 2)
        assert ((found.xy >= 0) & (found.xy <= 1)).all() and maps == [len(ids)] * arranged
        if not arranged:
            with pytest.raises(Invalid, match="not arranged yet"):
                embed.clusters(small.id, "hdbscan", 5)


def test_what_t_sne_does_not_arrange_lies_beside_its_likes(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(embed.needed(digits.dataset.id)) as stored:
        ids, reduced = stored["ids"].tolist(), stored["reduced"]
    monkeypatch.setattr(ml, "MAP_FITTED", 300)
    xy = ml.flat_map(reduced, ids)
    others = np.argsort(ids)[300:]
    near = [np.argsort(((xy - xy[i]) ** 2).sum(1))[1:6] for i in others]
    same = np.mean([[digits.truth[ids[n]] == digits.truth[ids[i]] for n in some] for i, some in zip(others, near, strict=True)])
    assert same > 0.5, same  # by chance 0.1
    assert (ml.flat_map(reduced, ids) == xy).all()


# Near duplicates and quality


def test_planted_near_duplicates_are_found_and_those_across_splits_counted(home: Path, tmp_path: Path) -> None:
    pictures = photos(40)
    first = list(pictures.values())
    first[1].save(tmp_path / "again.jpg", quality=40)
    copies = {
        "smaller": first[0].resize((95, 95)),
        "jpeg": Pillow.open(tmp_path / "again.jpg"),
        "cropped": first[2].crop((2, 2, 104, 104)),
        "brighter": ImageEnhance.Brightness(first[3]).enhance(1.1),
        "brighter-yet": ImageEnhance.Brightness(first[3]).enhance(1.12),
    }
    made, ids = filled("photos", pictures | copies, tmp_path / "files")
    embedded(made.id)
    found = embed.latest(made.id)
    assert found is not None
    groups: dict[int, set[str]] = {}
    stem = {i: name for name, i in ids.items()}
    for i, g in zip(found.ids.tolist(), found.group.tolist(), strict=True):
        groups.setdefault(g, set()).add(stem[i])
    del groups[-1]
    assert sorted(map(sorted, groups.values())) == [
        ["brighter", "brighter-yet", "piece-3"],
        ["cropped", "piece-2"],
        ["jpeg", "piece-1"],
        ["piece-0", "smaller"],
    ]
    split = {i: one.split for i, one in store.carried(made.id).items()}
    across = [g for g, names in groups.items() if len({split[ids[n]] for n in names}) > 1]
    assert embed.crossing(made.id) == len(across)
    ordered = orders.order(made.id, "near-duplicates", Filter())
    numbers = [next(g for g, names in groups.items() if stem[i] in names) for i in ordered.ids]
    assert numbers == sorted(numbers) and len(ordered.ids) == 9
    for i, g in zip(ordered.ids, numbers, strict=True):
        assert ordered.notes[i].startswith(f"group {g + 1}") and (" and " in ordered.notes[i]) == (g in across)


def test_different_digits_are_not_taken_for_duplicates(digits: Digits) -> None:
    found = embed.latest(digits.dataset.id)
    assert found is not None and (found.group >= 0).sum() <= 10


def test_dark_bright_blurred_and_odd_sized_images_come_first_in_their_orders(home: Path, tmp_path: Path) -> None:
    pictures = photos(12)
    some = list(pictures.values())
    pictures |= {
        "dark": ImageEnhance.Brightness(some[0]).enhance(0.02),
        "bright": Pillow.new("RGB", (106, 106), "white"),
        "blurred": some[2].resize((8, 8)).resize((106, 106), Pillow.Resampling.BICUBIC),
        "wide": some[3].resize((424, 106)),
    }
    made, ids = filled("quality", pictures, tmp_path / "files")
    embedded(made.id)
    for name, first in {"darkest": "dark", "brightest": "bright", "odd-sized": "wide"}.items():
        assert orders.order(made.id, name, Filter()).ids[0] == ids[first], name
    assert ids["blurred"] in orders.order(made.id, "blurred", Filter()).ids[:3]  # the black and the white one have no detail either
    assert orders.order(made.id, "odd-sized", Filter()).notes[ids["wide"]] == "a side 4.0 × off the usual"
    came = list(store.carried(made.id))
    assert orders.order(made.id, "added", Filter()).ids == came
    begun = orders.order(made.id, "added", Filter(), most=2)
    assert (begun.ids, begun.total) == (came[:2], len(came))


# Clusters


def test_clusters_are_the_same_every_time_and_numbered_by_size(digits: Digits) -> None:
    folder = str(embed.needed(digits.dataset.id).parent)
    for method, size in (("k-means", 10), ("hdbscan", 10)):
        found = embed.clusters(digits.dataset.id, method, size)
        assert (ml.clusters(folder, method, size) == found).all() and len(found) == 500
        sizes = np.bincount(found[found >= 0])
        assert (np.diff(sizes) <= 0).all() and len(sizes) > 2
        with np.load(Path(folder) / "embedding.npz") as stored:
            truth = np.array([digits.truth[i] for i in stored["ids"].tolist()])
        pure = sum(np.unique(truth[found == k], return_counts=True)[1].max() for k in range(len(sizes))) / sizes.sum()
        assert pure > 0.4, (method, pure)  # by chance 0.15
    assert set(embed.clusters(digits.dataset.id, "hdbscan", 400)) == {-1} or len(sizes) < 500
    with pytest.raises(Invalid, match="not a way to cluster"):
        embed.clusters(digits.dataset.id, "magic", 10)
    with pytest.raises(Invalid, match="from 2 to 1000"):
        embed.clusters(digits.dataset.id, "k-means", 1)


# Teach me


def test_more_labels_teach_more_and_every_lesson_is_kept(digits: Digits) -> None:
    d = digits.dataset.id
    shares = []
    for count in (20, 80, 300):
        labelled(digits, count)
        lesson = teach.teach(d, "ann")
        assert (lesson.labels, lesson.by, lesson.how) == (count, "ann", "cross-validation")
        assert lesson.accuracy is not None and lesson.n <= count
        answers = teach.answers(d)
        assert answers is not None and len(answers) == 500
        open_ = answers[answers["own"].isna()]
        assert len(open_) >= 500 - count
        shares.append(float((open_["predicted"] == open_["image_id"].map(digits.truth)).mean()))
        sure = {i for ids in teach.suggest(d, teach.SURE).values() for i in ids}
        assert len(sure) == lesson.sure and not any(store.current_labels(d)[i] for i in sure)
        assert {store.carried(d)[i].split for i in sure} <= {"train", "validation"}
    assert shares[0] < shares[1] < shares[2] and shares[2] > 0.75, shares
    kept = teach.lessons(d)
    assert [one.labels for one in kept] == [20, 80, 300] and kept[0].changed == 0 < kept[1].changed
    estimate = kept[2].accuracy
    assert estimate is not None and estimate.low - 0.05 < shares[2] < estimate.high + 0.05
    embedded(d)
    assert teach.lessons(d) == kept and teach.answers(d) is not None


def test_enough_labelled_validation_images_judge_and_are_not_learned_from(digits: Digits) -> None:
    d = digits.dataset.id
    labelled(digits, 100)
    judges = labelled(digits, 40, ("validation",))
    lesson = teach.teach(d, "me")
    assert (lesson.how, lesson.n, lesson.labels) == ("validation", 40, 140) and len(judges) == 40
    before = teach.answers(d)
    give(digits.dataset, {i: str((int(label) + 1) % 10) for i, label in judges.items()})  # wrong ones judge, and teach nothing
    after_lesson, after = teach.teach(d, "me"), teach.answers(d)
    assert before is not None and after is not None
    assert (before["confidence"] == after["confidence"]).all() and after_lesson.changed == 0
    assert after_lesson.correct < 15 < lesson.correct


def test_two_lessons_at_once_come_one_after_the_other(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled(digits, 60)
    busy: list[int] = []
    most: list[int] = []

    def ask(function: object, *args: object) -> object:
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.1)
        facts = head.teach(*args)  # type: ignore[arg-type]
        busy.pop()
        return facts

    monkeypatch.setattr(launch, "ask", ask)
    both = at_once(*(lambda: teach.teach(digits.dataset.id, "me"),) * 2)
    assert most == [1, 1] and sorted(map(str, both)) == sorted(map(str, teach.lessons(digits.dataset.id)))


def test_a_lesson_speaks_of_classes_by_their_names_of_today(digits: Digits) -> None:
    d = digits.dataset.id
    given = labelled(digits, 300)
    give(digits.dataset, {i: str((int(given[i]) + 5) % 10) for i in list(given)[::20]})
    teach.teach(d, "me")
    before, wrong = teach.answers(d), orders.order(d, "likely-wrong", Filter())
    offered = teach.suggest(d, 0.5)
    classes.rename(d, "3", "drei", "me")
    classes.rename(d, "5", "3", "me")  # a name that was another class's
    called = {"3": "drei", "5": "3"}
    after = teach.answers(d)
    assert before is not None and after is not None and {"3", "5"} <= offered.keys()
    assert (after["predicted"] == before["predicted"].replace(called)).all()
    mine = after.dropna(subset="label")
    assert (mine["label"] == mine["image_id"].map(store.current_labels(d))).all() and len(mine) == 300
    assert teach.suggest(d, 0.5) == {called.get(name, name): ids for name, ids in offered.items()}
    assert teach.suggest(d, 0.5, "drei") == {"drei": offered["3"]}
    again = orders.order(d, "likely-wrong", Filter())
    assert again.ids == wrong.ids and any("drei" in note for note in again.notes.values())
    assert teach.teach(d, "me").changed <= 2  # numbers are added in another order
    classes.retire(d, "drei", "me")
    assert "drei" not in teach.suggest(d, 0.5) and teach.suggest(d, 0.5, "drei") == {}


def test_answers_that_were_accepted_teach_but_do_not_judge(digits: Digits) -> None:
    d = digits.dataset.id
    labelled(digits, 60)
    alone = teach.teach(d, "me")
    accepted = {i: name for name, ids in teach.suggest(d, 0.5).items() for i in ids}
    give(digits.dataset, accepted, "model")
    assert len(accepted) > 50 and set(labels.sources(d).values()) == {"manual", "model"}
    some = [i for i in accepted][:5]
    labels.flag(d, {i: store.carried(d)[i].seq for i in some}, True, "me")  # looks again, and labels nothing
    lesson = teach.teach(d, "me")
    assert lesson.labels == lesson.learned == 60 + len(accepted) and alone.n <= lesson.n <= 60
    people = labelled(digits, 19, ("validation",))
    assert teach.teach(d, "me").how == "cross-validation"
    more = labelled(digits, 25, ("validation",))
    judged = teach.teach(d, "me")
    assert (judged.how, judged.n) == ("validation", 25) and people.keys() < more.keys()
    give(digits.dataset, {i: one.label for i, one in store.carried(d).items() if one.label}, "model")
    nobody = teach.teach(d, "me")
    assert (nobody.n, nobody.accuracy) == (0, None) and "Nothing judges it yet" in _said([nobody])
    assert len(learning_curve([nobody]).data) == 0 and len(learning_curve([lesson, nobody]).data) == 1


def test_what_is_said_of_a_lesson_is_no_more_than_is_known(digits: Digits) -> None:
    d = digits.dataset.id
    labelled(digits, 100)
    crossed = teach.teach(d, "me")
    labelled(digits, 40, ("validation",))
    held = teach.teach(d, "me")
    assert (crossed.learned, held.learned, held.labels) == (100, 100, 140)
    assert "Learned from **100 labels**" in _said([crossed]) and "Learned from **100 of 140 labels**" in _said([crossed, held])
    for said in (_said([crossed]), _said([held])):
        assert "it had not seen" in said and "the images labelled so far, not the whole dataset" in said
    assert f"of {crossed.n:,} labelled images it had not seen" in _said([crossed])
    figure = learning_curve([crossed, held, replace(crossed, labels=180), replace(held, labels=200)])
    assert [(one.name, list(one.x)) for one in figure.data] == [("cross-validation", [100, 180]), ("validation images", [140, 200])]
    path = embed.home(d) / "events.jsonl"
    old = [{k: v for k, v in json.loads(line).items() if k != "learned"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert [one.labels for one in teach.lessons(d)] == [100, 140] and "Learned from **140 labels**" in _said(teach.lessons(d))


def test_the_surest_answers_are_looked_for_when_asked_and_accepted_class_by_class(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    d = digits.dataset.id
    labelled(digits, 200)
    teach.teach(d, "me")
    asked: list[float] = []
    suggest = teach.suggest

    def counted(dataset_id: int, least: float, label: str | None = None) -> dict[str, list[str]]:
        asked.append(least)
        return suggest(dataset_id, least, label)

    monkeypatch.setattr(teach, "suggest", counted)
    app = opened("label", dataset="digits")

    def button(key: str) -> Any:
        return next(b for b in app.button if b.key == key)

    def offered() -> dict[str, int]:
        return {b.key.rpartition("-")[2]: int(b.label.split(" ")[0]) for b in app.button if b.key and b.key.startswith("accept-")}

    app.run()
    assert not app.exception and asked == [] and offered() == {}
    app.slider(key="least").set_value(0.8).run()
    button("find-answers").click().run()
    found = suggest(d, 0.8)
    assert asked == [0.8] and offered() == {name: len(ids) for name, ids in found.items()} and len(found) > 3
    app.run()
    assert asked == [0.8] and len(offered()) == len(found)
    first, second = list(found)[:2]
    button(f"accept-{d}-{first}").click().run()
    assert {labels.sources(d)[i] for i in found[first]} == {"model"} and offered().keys() == found.keys() - {first}
    last = app.session_state["last-all"]
    give(digits.dataset, {i: digits.truth[i] for i in found[second]})  # somebody else was quicker
    button(f"accept-{d}-{second}").click().run()
    assert app.session_state["last-all"] == last and offered().keys() == found.keys() - {first, second} and asked == [0.8]
    app.slider(key="least").set_value(0.9).run()
    assert offered() == {} and not app.exception


def test_labels_of_the_test_split_are_never_used(digits: Digits) -> None:
    d = digits.dataset.id
    tested = labelled(digits, 30, ("test",))
    with pytest.raises(Invalid, match="too little to learn from"):
        teach.teach(d, "me")
    labelled(digits, 60)
    assert teach.teach(d, "me").labels == 60
    before = teach.answers(d)
    give(digits.dataset, dict.fromkeys(tested, "0"))
    teach.teach(d, "me")
    after = teach.answers(d)
    assert before is not None and after is not None
    assert before.drop(columns="label").equals(after.drop(columns="label"))
    mine = after[after["image_id"].isin(tested)]
    assert mine["own"].isna().all() and not mine["issue"].any()


def test_too_few_labels_are_refused_with_what_to_do(digits: Digits) -> None:
    by_class: dict[str, list[str]] = {}
    carried = store.carried(digits.dataset.id)
    for i in sorted(digits.truth):
        if carried[i].split == "train":
            by_class.setdefault(digits.truth[i], []).append(i)
    for given in ({}, dict.fromkeys(by_class["1"][:9], "1")):
        give(digits.dataset, given)
        with pytest.raises(Invalid, match=r"too little.*at least 4 images of at least two classes"):
            teach.teach(digits.dataset.id, "me")
    give(digits.dataset, {by_class["2"][0]: "2"})  # a class of one label alone does not stop anything
    lesson = teach.teach(digits.dataset.id, "me")
    assert (lesson.labels, lesson.n, lesson.classes) == (10, 9, 2) and teach.lessons(digits.dataset.id) == [lesson]


def test_wrong_labels_are_found_among_the_first_and_leave_the_list_when_corrected(digits: Digits) -> None:
    d = digits.dataset.id
    given = labelled(digits, 300)
    wrong = {i: str((int(given[i]) + 5) % 10) for i in list(given)[::20]}
    give(digits.dataset, wrong)
    teach.teach(d, "me")
    ordered = orders.order(d, "likely-wrong", Filter())
    first = ordered.ids[: len(wrong)]
    found = [i for i in first if i in wrong]
    assert len(found) > 0.5 * len(wrong), (len(found), len(wrong))  # by chance 0.05
    assert all(ordered.notes[i].startswith("model: ") and f"label {store.current_labels(d)[i]}, " in ordered.notes[i] for i in ordered.ids)
    give(digits.dataset, {found[0]: digits.truth[found[0]]})
    assert found[0] not in orders.order(d, "likely-wrong", Filter()).ids


def test_the_first_images_of_an_uncertain_order_are_uncertain(digits: Digits) -> None:
    d = digits.dataset.id
    with pytest.raises(Invalid, match="learned nothing"):
        orders.order(d, "entropy", Filter())
    labelled(digits, 60)
    teach.teach(d, "me")
    answers = teach.answers(d)
    assert answers is not None
    rows = answers.set_index("image_id")
    want = Filter(labelled=False)
    for name, column, rising in (("entropy", "entropy", False), ("margin", "margin", True), ("least-confidence", "confidence", True)):
        ordered = orders.order(d, name, want)
        assert len(ordered.ids) == 440 and not any(store.current_labels(d)[i] for i in ordered.ids)
        values = rows.loc[ordered.ids, column]
        assert values.is_monotonic_increasing if rising else values.is_monotonic_decreasing, name
    surest = orders.order(d, "surest", want)
    top = surest.ids[0]
    assert rows.loc[top, "confidence"] == rows.loc[list(want_ids(d, want)), "confidence"].max()
    predicted, confidence = rows["predicted"][top], float(rows["confidence"][top])
    assert surest.notes[top] == f"model: {predicted}, {confidence:.0%}"
    only = teach.suggest(d, 0.5, "3")
    assert set(only) == {"3"} and only["3"] == teach.suggest(d, 0.5)["3"]


def want_ids(dataset_id: int, want: Filter) -> list[str]:
    return [image.id for image in store.browse(dataset_id, want, 0, 10_000)]


@pytest.mark.parametrize("name", ORDERS)
def test_every_order_keeps_to_the_filter_also_where_only_its_first_images_are_asked_for(
    digits: Digits, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    d = digits.dataset.id
    given = labelled(digits, 60)
    teach.teach(d, "me")
    labels.flag(d, {i: store.carried(d)[i].seq for i in list(given)[:5]}, True, "me")
    for want in (Filter(), Filter(label="1"), Filter(split="test"), Filter(labelled=True), Filter(text="01"), Filter(flagged=True)):
        ordered = orders.order(d, name, want)
        expected = want_ids(d, want)
        assert len(set(ordered.ids)) == len(ordered.ids) and set(ordered.ids) <= set(expected)
        if name not in ("likely-wrong", "near-duplicates"):
            assert len(ordered.ids) == len(expected)
        assert ordered.notes.keys() <= set(ordered.ids)
        with monkeypatch.context() as patch:  # as where there are many
            patch.setattr(orders, "AT_ONCE", 90)
            patch.setattr(orders, "FEW", 0)
            first = orders.order(d, name, want, most=7)
            assert (first.ids, first.total) == (ordered.ids[:7], ordered.total)
            assert all(ordered.notes.get(i) == first.notes.get(i) for i in first.ids)
    with pytest.raises(Invalid, match="not an order"):
        orders.order(d, "magic", Filter())


@pytest.mark.parametrize("labels", ["aab b", "aaab", "aaaaabc", "abcd", "aabbc", "ab" * 30 + "c"])
def test_no_mixture_of_classes_breaks_the_lesson(tmp_path: Path, labels: str) -> None:
    drawn = np.random.default_rng(1)
    ids = [f"{n:016x}" for n in range(70)]
    x = drawn.normal(size=(70, 5)).astype(np.float32)
    given = {i: label for i, label in zip(ids, labels, strict=False) if label != " "}
    facts = learned(tmp_path, ids, x, given, ("a", "b", "c", "d", "never"))
    alone = sum(labels.count(c) == 1 for c in set(given.values()))
    assert facts["n"] == len(given) - alone and facts["classes"] == len(set(given.values()))
    with np.load(tmp_path / "out.npz") as stored:
        assert np.isfinite(stored["confidence"]).all() and np.isfinite(stored["entropy"]).all()
        assert np.isnan(stored["own"]).sum() == 70 - len(given) + alone and (stored["predicted"] < 4).all()
        single = [n for n, c in enumerate(labels) if labels.count(c) == 1 and c != " "]  # nothing else says what its class looks like
        assert len(single) == alone and np.allclose(stored["confidence"][single], 0.2) and (stored["margin"][single] == 0).all()


def learned(folder: Path, ids: list[str], x: np.ndarray, given: dict[str, str], classes: tuple[str, ...], group: object = -1) -> dict:
    """What the head says of a lesson on these features."""
    groups = np.broadcast_to(np.array(group, np.int32), len(ids))
    save_arrays(folder / "embedding.npz", {"ids": np.array(ids), "reduced": x.astype(np.float32), "group": groups})
    return head.teach(str(folder), str(folder / "out.npz"), given, classes, [], [], "2026")


def test_near_duplicates_do_not_judge_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(3)
    ids = [f"{n:016x}" for n in range(200)]
    x = np.repeat(drawn.normal(size=(100, 60)), 2, axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    given = dict(zip(ids, np.repeat(drawn.choice(["a", "b"], 100), 2).tolist(), strict=True))  # there is nothing to learn
    pairs = np.repeat(np.arange(100), 2)
    by_heart = learned(tmp_path, ids, x, given, ("a", "b"))
    honest = learned(tmp_path, ids, x, given, ("a", "b"), pairs)
    assert by_heart["correct"] > 150 and honest["n"] == 200 and honest["correct"] < 130
    monkeypatch.setattr(head, "MOST", 100)  # what is not learned from has a near duplicate that is
    honest = learned(tmp_path, ids, x, given, ("a", "b"), pairs)
    assert (honest["learned"], honest["labels"]) == (100, 200) and honest["correct"] < 130
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["at"] == "2026"
    mixed = {i: "abcd"[n % 4] if n < 8 else "a" for n, i in enumerate(ids[:20])}  # classes that lie in groups with others
    for size in (2, 3, 5, 20):
        facts = learned(tmp_path, ids, x, mixed, ("a", "b", "c", "d"), np.arange(200) // size)
        with np.load(tmp_path / "out.npz") as stored:
            assert np.isfinite(stored["confidence"]).all() and facts["n"] == np.isfinite(stored["own"]).sum() <= 20


def test_many_labels_are_drawn_evenly_and_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "MOST", 60)
    ids = np.array([f"{n * 7919 % 1009:016x}" for n in range(1000)])
    y = np.array([0] * 900 + [1] * 90 + [2] * 10)
    chosen = head.balanced(ids, y, np.ones(1000, bool))
    assert np.bincount(y[chosen]).tolist() == [25, 25, 10] and (head.balanced(ids, y, np.ones(1000, bool)) == chosen).all()
    other = np.random.default_rng(0).permutation(1000)
    assert set(ids[other][head.balanced(ids[other], y[other], np.ones(1000, bool))]) == set(ids[chosen])


# The command line, and photographs


Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_command_line_embeds_and_teaches(small: Dataset, command: Command) -> None:
    wrong = command("teach", "squares")
    assert (wrong.returncode, wrong.stdout) == (1, "") and "Make the map first" in wrong.stderr
    assert command("embed", "nothing").returncode == 2
    done = command("embed", "squares")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said == {"dataset": "squares", "status": "done", "images": 24, "near_duplicate_groups": 0, "crossing_splits": 0}
    taught = command("teach", "squares")
    assert taught.returncode == 0, taught.stderr
    lesson = json.loads(taught.stdout)
    assert lesson["n"] == lesson["correct"] > 10 and lesson["accuracy"]["low"] < lesson["accuracy"]["value"] == 1
    assert [one.n for one in teach.lessons(small.id)] == [lesson["n"]]


def test_what_was_looked_at_is_not_evicted_for_what_is_measured_of_it(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0)
    pictures = {f"{i}": Pillow.fromarray(noise.integers(0, 256, (16, 16, 3), np.uint8)) for i in range(6)}
    made, _ = filled("noise", pictures, tmp_path / "files")
    measure = ml.Eye.measure

    def in_need(*asked: Any) -> None:
        space.evict(lambda: False)  # the cache is full: whatever nobody uses goes
        measure(*asked)

    monkeypatch.setattr(ml.Eye, "measure", in_need)
    embedded(made.id)
    found = embed.latest(made.id)
    assert found is not None and len(found.ids) == 6


def test_an_embedding_in_the_background_is_started_once_and_can_be_stopped(small: Dataset) -> None:
    first = embed.start(small.id, "me")
    assert embed.start(small.id, "me") == first
    assert [one.id for one in embed.running()] == [first]
    embed.stop(small.id)
    deadline = time.monotonic() + 120
    while (state := embed.state(small.id)) is not None and state.status == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert state is not None and state.status == "stopped" and "start it again" in state.hint and embed.latest(small.id) is None
    while launch.launcher.alive(settings().embeddings / str(small.id) / first):  # it says so a moment before it ends
        time.sleep(0.05)
    embedded(small.id)
    assert embed.latest(small.id) is not None and embed.missing(small.id) == 0


@dataclass
class Slow:
    """A launcher for which a process takes a while to begin, and whose processes end when they are told to."""

    going: set[Path]
    started: int = 0

    def start(self, folder: Path, command: list[str]) -> None:
        (folder / "worker.log").touch()
        self.started += 1
        time.sleep(0.05)
        runs.write_json(folder / "handle.json", {})
        self.going.add(folder)

    def alive(self, folder: Path) -> bool:
        return folder in self.going

    def kill(self, folder: Path) -> None:
        self.going.discard(folder)


def at_once(*acts: Callable[[], object]) -> list[object]:
    """What each act returned or raised; all begin at the same moment."""
    found: list[object] = [None] * len(acts)
    gate = threading.Barrier(len(acts))

    def do(n: int) -> None:
        gate.wait()
        try:
            found[n] = acts[n]()
        except Exception as e:
            found[n] = e

    threads = [threading.Thread(target=do, args=(n,)) for n in range(len(acts))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return found


def test_two_people_who_start_at_once_start_one_embedding(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(set())
    monkeypatch.setattr(launch, "launcher", slow)

    def seen() -> set[str]:
        states = []
        for _ in range(20):
            states.append(embed.state(small.id))
            time.sleep(0.005)
        return {one.status for one in states if one is not None}

    for trial in range(1, 9):
        first, second, status = at_once(lambda: embed.start(small.id, "ann"), lambda: embed.start(small.id, "bob"), seen)
        assert isinstance(first, str) and first == second and slow.started == trial
        assert isinstance(status, set) and ("lost" not in status or trial > 1)  # the one before was
        assert [one.id for one in embed.running()] == [first]
        slow.going.clear()
        ended = embed.state(small.id)
        assert ended is not None and ended.status == "lost" and embed.running() == []


def test_what_runs_is_asked_of_processes_and_not_of_the_files_of_those_that_ended(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = embedded(small.id)
    runs.write_json(folder / "handle.json", {"pid": 2**22 - 1, "started": 0})
    monkeypatch.setattr(runs, "read_lines", lambda *_: pytest.fail("events were read"))
    assert embed.running() == []


def test_a_map_is_made_on_the_cpu_while_a_run_has_the_gpu(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ml, "pick_device", lambda asked: torch.device("cuda"))
    monkeypatch.setattr(ml, "slots", lambda kind: ["cuda:0"])
    lock = turns.slot_lock("cuda:0")
    with ml.spare_device() as device, pytest.raises(filelock.Timeout):
        assert device.type == "cuda"
        lock.acquire(timeout=0)
    with lock, ml.spare_device() as device:
        assert device.type == "cpu"
    lock.acquire(timeout=0)
    lock.release()
