"""What more images cost, each step in a process of its own, and two ranks beside one process: python -m tests.benchmarks.scaling.

--sizes N …: a table of pictures, imported, trained on and looked at, kept in docs/scale.json, from which docs/draw_growth.py draws;
--untrained: without the training, for sizes where it takes hours: three runs with answers drawn at random are evaluated; --rows N: a table of the database's answers, of rows alone;
--held N: memory of a run of N pictures of 64 × 64, or --side SIDE, that lie in the cache already;
--ranks: two CPU ranks beside one process with two threads, in turns; --ray: a run through a Ray cluster of this machine beside one
without, where Ray is installed. Without any of them: 1,000 and 10,000 pictures, 100,000 rows,
10,000 held, ranks. LOUPE_DATABASE_URL, where it is set, names the database of --rows, which has to be empty.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image as Pillow

from core.settings import settings
from core.types import Ended, EpochEnd, RunConfig, now
from tests.benchmarks.rows import seconds

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "scale.json"
SIDE = 32  # pixels, of the pictures: what is measured is what comes with their number
CLASSES = [f"class {i}" for i in range(10)]
ROUNDS = 5
STEPS = ("import", "epoch", "features", "frozen", "evaluate", "page")
TRAINED = STEPS[1:4]
RANKS = {"one process, two threads": 1, "two ranks, one thread each": 2}
BATCHES = (64, 128)  # the weights' gradients and their step are every rank's own work, whatever its share of a batch


# Pictures -------------------------------------------------------------------------------------------------------------------


def draw(folder: Path, count: int, seed: int = 0) -> None:
    """Distinct noise under a colour of its class, one folder for each class."""
    noise = np.random.default_rng(seed)
    colours = noise.integers(0, 160, (len(CLASSES), 3))
    for i, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for n in range(i, count, len(CLASSES)):
            picture = noise.integers(0, 96, (SIDE, SIDE, 3)) + colours[i]
            Pillow.fromarray(picture.astype(np.uint8)).save(folder / name / f"{n}.png", compress_level=1)


def step(name: str, folder: Path) -> float:
    """Seconds of one step, in this process, without those that its modules take to load; the steps before it have been done."""
    from core.data import dataset, imports, sources, store
    from core.data.store import Filter
    from core.evaluate import evaluate
    from core.train import train

    def page() -> None:
        dataset.counts(made)
        dataset.browse(made, Filter(), 1)

    def judge() -> None:
        for state in train.list_runs(made):
            evaluate.evaluate(state.run.id, "validation")

    if name == "import":
        return seconds(lambda: imports.import_now("made", sources.at(folder), "me"))
    if name == "held":
        return trained(settings().runs / "held")
    made = store.id_of("made") or 0
    if name in ("page", "evaluate"):
        import pandas  # noqa: F401 - which a server has loaded before anybody asks

        return seconds(page if name == "page" else judge)
    if name == "answers":
        for one in TRAINED:
            answered(new_run(one, made))
        return 0.0
    return trained(new_run(name, made))


def trained(run: Path) -> float:
    from core.ml import trainer
    from core.runs import runs

    took = seconds(lambda: trainer.run(run))
    last = runs.events(run)[-1]
    if not isinstance(last, Ended) or last.outcome != "succeeded":
        sys.exit(f"The run did not succeed: {last}")
    return took


def new_run(name: str, dataset_id: int, **more: Any) -> Path:
    """A run's folder; epoch: a small ConvNet on pixels; features and frozen: a head on EfficientNet-Lite0's features, new or kept."""
    from core.catalog import params
    from core.data import store
    from core.runs import runs
    from core.train import plan

    network = {"architecture": "convnet"} if name in ("epoch", "ranks") else {"architecture": "efficientnet_lite0", "image_size": SIDE}
    config: RunConfig = params.run_config({**network, "epochs": 1, "device": "cpu", **more})
    snapshot = plan.snapshot(dataset_id, config)
    run = runs.new(name, store.get_dataset(dataset_id), config, snapshot, "me", "")
    runs.create(settings().runs / run.id, run, snapshot)
    return settings().runs / run.id


def answered(folder: Path) -> None:
    """Ends the run untrained, with answers drawn at random."""
    from core.runs import runs

    names = runs.load(folder).classes
    rows = [row for row in runs.snapshot_rows(folder) if row.split == "validation"]
    shares = np.random.default_rng(0).dirichlet(np.ones(len(names)), len(rows))
    found = (
        runs.PredictionRow(row.image_id, row.split, row.label, names[int(p.argmax())], float(p.max()), tuple(p.tolist()))
        for row, p in zip(rows, shares, strict=True)
    )
    runs.write_predictions(folder, names, found)
    runs.checkpoint(folder).touch()
    runs.append(folder, Ended("succeeded", 1, "", 1.0, now()))


def watched(command: list[str]) -> tuple[float, float, float]:
    """Seconds, as the command prints them; and MB at most of the process with its children: of its own, and with what is mapped from
    files, which it can give back."""
    process, own, whole = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True), 0.0, 0.0
    while process.poll() is None:
        time.sleep(0.05)
        found = [memory(pid) for pid in family(process.pid)]
        own, whole = max(own, sum(a for a, _ in found)), max(whole, sum(b for _, b in found))
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    assert process.stdout is not None
    return float(process.stdout.read().split()[-1]), own, whole


def family(pid: int) -> list[int]:
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def memory(pid: int) -> tuple[float, float]:
    """MB: anonymous, and resident."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    found = {
        name: float(value.split()[0]) / 1000 for name, _, value in (line.partition(":") for line in lines) if name[:3] in ("Rss", "VmR")
    }
    return found.get("RssAnon", 0.0), found.get("VmRSS", 0.0)


def pictures(sizes: list[int], untrained: bool) -> Iterator[str]:
    """Measures each size, and keeps what it found beside the other sizes."""
    from tests.benchmarks.__main__ import commit, machine

    known: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    for count in sizes:
        steps, before = dict[str, list[float]](), os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as home:
            os.environ["LOUPE_HOME"] = f"{home}/home"
            draw(Path(home) / "made", count)
            for name in ("import", "answers", "evaluate", "page") if untrained else STEPS:
                took, own, whole = watched([sys.executable, "-m", "tests.benchmarks.scaling", "--step", name, f"{home}/made"])
                if name in STEPS:
                    steps[name] = [round(took, 3), round(own), round(whole)]
                    yield f"{count:,} pictures, {name}: {took:.2f} s, {own:,.0f} MB ({whole:,.0f})"
        facts = {"at": now()[:16], "commit": commit(), "machine": machine(), "load": [round(before, 1), round(os.getloadavg()[0], 1)]}
        known[str(count)] = {**facts, "steps": steps}
        KEPT.write_text(json.dumps(dict(sorted(known.items(), key=lambda one: int(one[0]))), indent=1) + "\n", encoding="utf-8")


def held(count: int, side: int = 64) -> Iterator[str]:
    """Of a run on rows of the cache alone: its pictures are numbers that were never a file."""
    from core.catalog import params
    from core.data import images
    from core.ml.data import RowCache
    from core.runs import runs
    from core.types import Run, Snapshot, SnapshotRow

    with tempfile.TemporaryDirectory() as home:
        os.environ["LOUPE_HOME"] = home
        settings.cache_clear()
        noise = np.random.default_rng(0)
        cache = RowCache(settings().cache, f"1-srgb-3x{side}x{side}", (3, side, side), "uint8")
        ids = [f"{n:016x}" for n in range(count)]
        for start in range(0, count, 5000):
            some = ids[start : start + 5000]
            cache.append(some, noise.integers(0, 256, (len(some), 3, side, side), np.uint8))
        for n in range(0, count, max(1, count // 1000)):  # those of which the size is looked up
            images.store_original(settings().images, f"{ids[n][:2]}/{ids[n]}.png", images.png(np.zeros((side, side, 3), np.uint8)))
        rows = tuple(
            SnapshotRow(one, f"{one[:2]}/{one}.png", CLASSES[n % 10], "validation" if n % 7 == 0 else "train") for n, one in enumerate(ids)
        )
        config = params.run_config({"architecture": "linear", "image_size": side, "epochs": 1, "device": "cpu"})
        run = Run("held", "held", 1, "held", config, tuple(CLASSES), "s", {}, now(), "me", "")
        runs.create(settings().runs / "held", run, Snapshot("s", run.classes, rows))
        took, own, whole = watched([sys.executable, "-m", "tests.benchmarks.scaling", "--step", "held", home])
        yield f"an epoch of softmax regression on {count:,} pictures of {side} × {side} in the cache: {took:.1f} s, {own:,.0f} MB ({whole:,.0f})"


# Rows -----------------------------------------------------------------------------------------------------------------------


def insert(count: int) -> int:
    """A dataset of rows and their label events, straight into the tables; every tenth has no label, every thousandth is flagged.

    Half of them came with one import, the others 5,000 at a time.
    """
    from core.data import classes, history, schema, store

    made, seq = store.create_dataset("rows").id, 0
    classes.ensure(made, CLASSES)
    for batch, start in enumerate(range(0, count, 5000)):
        at = f"2026-01-01T00:{batch // 60:02}:{batch % 60:02}.000+00:00"  # of a batch of an import, which has one time
        act: dict[str, Any] = {
            "source": "import",
            "by": "me",
            "at": at,
            "note": "",
            "operation": f"import-{max(0, batch - count // 10_000)}",
        }
        rows, events = [], []
        for n in range(start, min(start + 5000, count)):
            one = f"{(n * 0x9E3779B97F4A7C15 + 1) % 2**64:016x}"  # as a hash: in no order
            label, split = (None, "test") if n % 10 == 9 else (CLASSES[n % 9], "test" if n % 7 == 0 else "train")
            seq += label is not None
            facts = {"ext": "jpg", "width": 640, "height": 480, "channels": 3, "size_bytes": 90_000, "source": f"photos/{n:07d}.jpg"}
            place = {"thumb_offset": n * 4000, "thumb_size": 4000, "added_at": at, "split": split}
            carried = {"label": label, "label_seq": seq if label else 0, "given_seq": seq if label else 0, "flagged": n % 1000 == 0}
            rows.append({"dataset_id": made, "id": one, **facts, **place, **carried})
            if label:
                events.append({"seq": seq, "dataset_id": made, "image_id": one, "label": label, **act})
        line = {**act, "first": events[0]["seq"], "last": seq, "label": CLASSES[8], "mixed": True, "images": len(events)}
        with schema.writing() as c:
            c.execute(schema.images.insert(), rows)
            c.execute(schema.label_events.insert(), events)
            history.add(c, made, line)
    return made


def look(made: int, count: int) -> None:
    """An embedding and a lesson of those rows, of numbers drawn at random: what the orders of Label are made of."""
    from core.data import store
    from core.data.store import Filter
    from core.label import embed
    from core.ml.data import save_arrays
    from core.runs import runs

    drawn, ids = np.random.default_rng(0), np.array(store.ids(made, Filter()))
    several = {
        name: drawn.random(count, np.float32) for name in ("brightness", "sharpness", "oddness", "confidence", "entropy", "margin", "own")
    }
    folder = embed.home(made) / "20260101-000000-000000"
    folder.mkdir(parents=True)
    runs.write_json(folder / "job.json", {"dataset_id": made, "at": "2026"})
    group = np.full(count, -1, np.int32)
    group[: count // 100] = np.arange(count // 100) // 2
    facts = {"ids": ids, "xy": np.zeros((count, 2), np.float32), "group": group, "unreadable": np.array([], "<U16"), "arranged": True}
    save_arrays(folder / embed.RESULT, {**facts, **several})
    numbers = drawn.integers(0, len(CLASSES), count, np.int32)
    lesson = {
        "ids": ids,
        "classes": np.array(CLASSES),
        "label": numbers,
        "predicted": numbers,
        "issue": drawn.random(count) < 0.01,
        "at": "2026",
    }
    save_arrays(embed.home(made) / "answers.npz", {**lesson, **several})


def asked(made: int, count: int) -> dict[str, Callable[[], Any]]:
    """What the pages ask of the database."""
    from core.data import dataset, history, labels, listing, store
    from core.data.store import Filter
    from core.label import orders

    last = -(-count // 60)
    filters = {
        "a class": Filter(label=CLASSES[3]),
        "a split": Filter(split="test"),
        "not labelled": Filter(labelled=False),
        "labelled": Filter(labelled=True),
        "flagged": Filter(flagged=True),
        "a class in a split": Filter(label=CLASSES[3], split="test"),
        "a name": Filter(text=f"{count // 2:07d}"),
        "a name that none has": Filter(text="nowhere"),
    }
    return {
        "first page of the grid": lambda: dataset.browse(made, Filter(), 1),
        "page in the middle": lambda: dataset.browse(made, Filter(), last // 2),
        "last page": lambda: dataset.browse(made, Filter(), last),
        "counts of classes and splits": lambda: dataset.counts(made),
        "counts of flags": lambda: labels.flagged(made),
        **{f"filter by {name}, first page": partial(dataset.browse, made, want, 1) for name, want in filters.items()},
        "filter by a class, last page": lambda: dataset.browse(made, filters["a class"], last // 10),
        "what changed last": lambda: labels.changes(made, count - 20),
        "version": lambda: store.version(made),
        "API's page after one in the middle": lambda: listing.images_after(made, Filter(), ("2026-01-01T00:00:05", ""), 100),
        "history, first page": lambda: history.told(made),
        "order as they came, as Label asks": lambda: orders.order(made, "added", Filter(labelled=False), 10_060),
        **{
            f"order {name}{of}, as Label asks": partial(orders.order, made, name, want, 10_060)
            for name in ("entropy", "surest", "blurred", "likely-wrong", "near-duplicates")
            for of, want in (("", Filter()), (" of those not labelled", Filter(labelled=False)))
        },
        "order of all images": lambda: orders.order(made, "added", Filter()),
        "snapshot of a run": lambda: store.snapshot(made, 0),
    }


def rows(count: int) -> Iterator[str]:
    from core.data import schema

    with tempfile.TemporaryDirectory() as home:
        os.environ["LOUPE_HOME"] = home
        settings.cache_clear()
        schema.engine.cache_clear()
        began = time.perf_counter()
        made = insert(count)
        look(made, count)
        yield f"| {count:,} rows, {schema.engine().dialect.name} (written in {time.perf_counter() - began:.0f} s) | median | most |"
        yield "|---|---|---|"
        for name, ask in asked(made, count).items():
            found = [seconds(ask)]
            found += [seconds(ask) for _ in range(ROUNDS - 1)] if found[0] < 5 else []
            yield f"| {name} | {statistics.median(found):.3f} s | {max(found):.3f} s |"
        schema.engine().dispose()


# Ranks ----------------------------------------------------------------------------------------------------------------------


def ranks(count: int = 1000, rounds: int = 3) -> Iterator[str]:
    """Images per second of the last of three epochs, of the same network on the same images."""
    from core.data import imports, sources, store
    from core.runs import runs
    from core.train import train

    with tempfile.TemporaryDirectory() as home:
        os.environ["LOUPE_HOME"] = f"{home}/home"
        settings.cache_clear()
        draw(Path(home) / "made", count)
        imports.import_now("made", sources.at(Path(home) / "made"), "me")
        made = store.find_dataset("made")
        assert made is not None
        for size in BATCHES:
            found: dict[str, list[float]] = {name: [] for name in RANKS}
            for _ in range(rounds):
                for name, devices in RANKS.items():
                    folder = new_run("ranks", made.id, epochs=3, batch_size=size, devices=devices)
                    subprocess.run(train.command(folder), cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    found[name].append([e.images_per_s for e in runs.events(folder) if isinstance(e, EpochEnd)][-1])
            yield f"batches of {size}"
            for name, values in found.items():
                yield f"  {name}: {statistics.median(values):,.0f} images/s ({min(values):,.0f} to {max(values):,.0f})"
            first, second = (statistics.median(values) for values in found.values())
            pairs = [b / a for a, b in zip(*found.values(), strict=True)]
            yield f"  two ranks to one process: {second / first:.2f} (pair by pair {min(pairs):.2f} to {max(pairs):.2f}); wanted 0.90"


def asked_many(network: Path, home: Path, count: int) -> Iterator[str]:
    """Pictures per second of Ray Data on two nodes of one CPU, from its first answers on, beside the model worker with two threads."""
    from core.runs import cluster, launch
    from core.runs.remote import infer

    draw(home / "asked", count)
    files = [str(path) for path in sorted((home / "asked").rglob("*.png"))]
    launch.ask(infer.warm, str(network))
    begun = time.perf_counter()
    for start in range(0, count, 64):
        launch.ask(infer.predict, str(network), files[start : start + 64])
    alone = count / (time.perf_counter() - begun)
    begun, came = time.perf_counter(), list[tuple[float, int]]()
    for rows in cluster.answers(home / "spool", infer.predict, [str(network)], files):
        if rows:
            came.append((time.perf_counter() - begun, len(rows)))
    together = (count - came[0][1]) / (came[-1][0] - came[0][0])
    yield f"{count:,} pictures by EfficientNet-Lite0: the model worker {alone:.0f}/s; two nodes {together:.0f}/s from their first answers on,"
    yield f"which came after {came[0][0]:.1f} s: {together / alone:.2f}; wanted 0.90; load {os.getloadavg()[0]:.1f}"
    launch.close()


def through_ray(count: int = 200, rounds: int = 5, many: int = 1000) -> Iterator[str]:
    """From the click to the first event and to the end, of a run of one epoch, in turns; then predictions."""
    from core.data import imports, sources, store
    from core.runs import cluster, launch, runs
    from core.train import train
    from tests.ray_clusters import RayCluster

    ways = {"here, from nothing": launch.LocalLauncher(), "through Ray": launch.RayLauncher()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(LOUPE_HOME=home, LOUPE_RAY_CPUS="1", OMP_NUM_THREADS="1")
        draw(Path(home) / "in", count)
        two = RayCluster()
        try:
            os.environ["LOUPE_RAY_ADDRESS"] = two.address
            settings.cache_clear()
            imports.import_now("generated", sources.at(Path(home) / "in"), "benchmark")
            made = store.list_datasets()[0].id
            for turn in range(1 + rounds):
                for name, launch.launcher in ways.items():
                    begun = time.perf_counter()
                    values = {"architecture": "linear", "image_size": SIDE, "epochs": 1, "device": "cpu", "seed": turn}
                    run = train.start(made, values, "benchmark")
                    folder = runs.folder(run.id)
                    while not runs.events(folder):
                        time.sleep(0.02)
                    first = time.perf_counter() - begun
                    state = train.wait(run.id)
                    assert state.status == "succeeded", (state.message, train.log_tail(run.id))
                    if turn:  # the first of each meets files that nobody has read yet
                        found[name].append((first, time.perf_counter() - begun))
                    while launch.launcher.alive(folder):
                        time.sleep(0.1)
            launch.launcher = ways["here, from nothing"]
            run = train.start(made, {"architecture": "efficientnet_lite0", "epochs": 1, "device": "cpu"}, "benchmark")
            assert train.wait(run.id).status == "succeeded"
            yield from asked_many(runs.folder(run.id), Path(home), many)
        finally:
            cluster.forget()
            two.close()
    yield f"from the click to the first event, and to the end; {rounds} rounds, load {os.getloadavg()[0]:.1f}"
    for name, took in found.items():
        firsts, ends = zip(*took, strict=True)
        middle = f"{statistics.median(firsts):.1f} s ({min(firsts):.1f} to {max(firsts):.1f})"
        yield f"{name}: {middle}, {statistics.median(ends):.1f} s ({min(ends):.1f} to {max(ends):.1f})"


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    ask.add_argument("--sizes", type=int, nargs="*", default=[])
    ask.add_argument("--untrained", action="store_true")
    ask.add_argument("--rows", type=int)
    ask.add_argument("--held", type=int)
    ask.add_argument("--side", type=int, default=64)
    ask.add_argument("--ranks", action="store_true")
    ask.add_argument("--ray", action="store_true")
    ask.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.step:
        print(step(given.step[0], Path(given.step[1])))
        return
    everything = not (given.sizes or given.rows or given.held or given.ranks or given.ray)
    for lines in (
        pictures(given.sizes or [1_000, 10_000], given.untrained) if given.sizes or everything else (),
        rows(given.rows or 100_000) if given.rows or everything else (),
        held(given.held or 10_000, given.side) if given.held or everything else (),
        ranks() if given.ranks or everything else (),
        through_ray() if given.ray else (),
    ):
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
