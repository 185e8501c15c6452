"""Made 0.1.0.zip, run from a checkout of 0.1.0 (4e670d9) with LOUPE_HOME in a new folder."""

import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from core import dataset, evaluate, export, label, launch, predict, review, sources, store, train, uploads
from core.settings import settings

HERE = Path(__file__).parent
COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40)}


def square(path: Path, colour: tuple[int, int, int], noise: np.random.Generator) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(colour) + noise.integers(-25, 26, (12, 12, 3)), 0, 255).astype(np.uint8)).save(path)
    return path


def main() -> None:
    noise = np.random.default_rng(1)
    folder = settings().home / "inbox" / "squares"
    for name, colour in COLOURS.items():
        for i in range(10):
            square(folder / name / f"{name}-{i}.png", colour, noise)
    dataset.import_now("squares", sources.at(folder), "ann")
    found = dataset.find("squares")
    assert found is not None
    first = dataset.browse(found.id, dataset.Filter(), 1, 100)[0][0]
    label.apply(found.id, {first.id: first.label_seq}, "green" if first.label == "red" else "red", "bob", "one")
    run = train.start(found.id, {"architecture": "linear", "image_size": 12, "epochs": 2, "batch_size": 8, "device": "cpu"}, "ann")
    state = train.wait(run.id)
    assert state.status == "succeeded", (state.message, train.log_tail(run.id))
    path = square(settings().home / "inbox" / "new.png", COLOURS["red"], noise)
    kept = uploads.keep(path.name, path.read_bytes())
    (answer,) = predict.predict(run.id, [kept.path], [kept.name])
    review.submit(found.id, run.id, answer, "dan")
    job = export.start_export(found.id, "csv", "ann")
    while export.export_state(job).status == "running":
        time.sleep(0.1)
    said = {
        "images": [asdict(one) for one in store.all_images(found.id)],
        "run": {"id": run.id, "name": run.name, "classes": list(run.classes), "status": train.state(run.id).status},
        "validation": evaluate.as_json(evaluate.evaluate(run.id, "validation")),
        "answer": {"file": kept.path.name, "probabilities": list(answer.probabilities)},
        "waiting": [asdict(one) for one in review.queue(found.id)],
    }
    (HERE / "0.1.0-folder.json").write_text(json.dumps(said, indent=1, default=str) + "\n", encoding="utf-8")
    launch.close()
    for name in ("cache", "downloads", "inbox"):
        shutil.rmtree(settings().home / name, ignore_errors=True)
    shutil.make_archive(str(HERE / "0.1.0"), "zip", settings().home)


if __name__ == "__main__":
    sys.exit(main())
