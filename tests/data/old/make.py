"""Made main.zip and main.json, run from a checkout of the last state before the folders (d1ddf79) with LOUPE_HOME in a new folder."""

import importlib.util
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from core import dataset, evaluate, export, label, launch, predict, review, sources, store, train, uploads
from core.settings import settings

HERE = Path(__file__).parent
COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 50, 210), "grey": (120, 120, 120)}


def square(path: Path, colour: tuple[int, int, int], noise: np.random.Generator) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(np.array(colour) + noise.integers(-25, 26, (12, 12, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def main() -> None:
    noise = np.random.default_rng(7)
    folder = settings().home / "inbox" / "squares"
    for name, colour in COLOURS.items():
        for i in range(2 if name == "grey" else 8):
            square(folder / name / f"{name}-{i}.png", colour, noise)
    dataset.import_now("squares", sources.at(folder), "ann")
    found = dataset.find("squares")
    assert found is not None
    images = {i.source.rpartition("/")[2]: i for i in dataset.browse(found.id, dataset.Filter(), 1, 100)[0]}

    def seen(*names: str) -> dict[str, int]:
        return {one.id: one.label_seq for one in dataset.images_of(found.id, [images[n].id for n in names])}

    label.apply(found.id, seen("red-0.png"), "green", "bob", "one")
    label.apply(found.id, seen("red-1.png", "red-2.png"), None, "bob", "two")
    label.flag(found.id, seen("green-0.png", "red-1.png"), True, "cat", "three")
    label.rename_class(found.id, "blue", "navy", "ann")
    label.describe_class(found.id, "navy", "As dark as the sea.")
    label.set_example(found.id, "navy", images["blue-0.png"].id, True)
    label.retire_class(found.id, "grey", "ann", "four")
    label.undo(found.id, label.Which(operation="one"), "bob", "five")
    store.add_predictions(
        found.id, [(images["red-1.png"].id, "elsewhere", "red", 0.75), (images["red-2.png"].id, "elsewhere", "green", None)]
    )
    label.deal(found.id, "a page", [images["red-2.png"].id], 1)

    run = train.start(found.id, {"architecture": "linear", "image_size": 12, "epochs": 2, "batch_size": 8}, "ann")
    state = train.wait(run.id)
    assert state.status == "succeeded", (state.message, train.log_tail(run.id))
    for name in ("red", "green"):
        path = square(settings().home / "inbox" / f"new-{name}.png", COLOURS[name], noise)
        kept = uploads.keep(path.name, path.read_bytes())
        (answer,) = predict.predict(run.id, [kept.path], [kept.name])
        review.submit(found.id, run.id, answer, "dan")
    review.decide(review.queue(found.id)[0].id, "corrected", "red", "ann")
    job = export.start_export(found.id, "jsonl", "ann", run_id=run.id)
    while export.export_state(job).status == "running":
        time.sleep(0.1)

    spec = importlib.util.spec_from_file_location("values", HERE / "values.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    recorded = module.values(dataset, label, store, train, evaluate, review, export)
    (HERE / "main.json").write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    launch.close()
    shutil.rmtree(settings().home / "inbox")
    for name in ("cache", "downloads"):
        shutil.rmtree(settings().home / name, ignore_errors=True)
    shutil.make_archive(str(HERE / "main"), "zip", settings().home)


if __name__ == "__main__":
    sys.exit(main())
