"""Exports as the libraries read them that their users would use."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torchvision.datasets import ImageFolder

from core.data import images, labels, schema, sources, store
from core.share import export
from core.types import Dataset
from tests.conftest import Trained

SPLITS = ("train", "validation", "test")


@pytest.fixture
def mixed(small: Dataset) -> Dataset:
    """The squares in all three splits: one flagged, one relabelled, both in training."""
    found = sorted(store.all_images(small.id), key=lambda i: i.source)
    with schema.writing() as c:
        for n, image in enumerate(found):
            c.execute(schema.images.update().where(schema.images.c.id == image.id).values(split=SPLITS[n % 3]))
    labels.flag(small.id, {found[0].id: found[0].label_seq}, True, "Ann")
    labels.apply(small.id, {found[3].id: found[3].label_seq}, "green", "Ann")
    return store.get_dataset(small.id)


def unpacked(made: Dataset, format: str, path: Path) -> Path:
    export.export_now(made.id, format, path / "out.zip")
    with zipfile.ZipFile(path / "out.zip") as z:
        z.extractall(path / format)
    return path / format


def expected(made: Dataset, split: str) -> dict[str, str | None]:
    return {Path(i.source).name: i.label for i in store.all_images(made.id) if i.split == split}


def test_pandas_reads_a_table_for_each_split_with_flags_that_are_true_or_false(mixed: Dataset, tmp_path: Path) -> None:
    flagged = 0
    for format in ("csv", "jsonl"):
        out = unpacked(mixed, format, tmp_path)
        for split in SPLITS:
            path = out / split / f"metadata.{format}"
            table = pd.read_csv(path) if format == "csv" else pd.read_json(path, lines=True)
            assert dict(zip(table.file_name, table.label, strict=True)) == expected(mixed, split) and set(table.split) == {split}
            assert table.flagged.dtype == bool and all((out / split / name).exists() for name in table.file_name)
            flagged += int(table.flagged.sum())
    assert flagged == 2  # one in each format


def test_torchvision_reads_class_folders_of_each_split(mixed: Dataset, tmp_path: Path) -> None:
    out = unpacked(mixed, "folders", tmp_path)
    for split in SPLITS:
        found = ImageFolder(str(out / split))
        assert {Path(path).name: found.classes[n] for path, n in found.samples} == expected(mixed, split)


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_hugging_faces_image_folder_finds_the_splits(mixed: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    for name, value in (("HF_HUB_OFFLINE", "1"), ("HF_DATASETS_OFFLINE", "1"), ("HF_HOME", str(tmp_path / "cache"))):
        monkeypatch.setenv(name, value)
    import datasets  # two seconds, and it reads these settings once

    out = unpacked(mixed, format, tmp_path)
    found = datasets.load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"))
    assert set(found) == set(SPLITS)
    for split in SPLITS:
        assert sorted(found[split]["label"]) == sorted(label or "" for label in expected(mixed, split).values())
        assert set(found[split]["flagged"]) <= {True, False} and all(found[split]["image"])
    assert sum(sum(found[split]["flagged"]) for split in SPLITS) == 1


def test_label_studio_takes_every_task_under_the_interface_that_comes_with_it(trained: Trained, tmp_path: Path) -> None:
    why = "pip install --no-deps -r requirements-label-studio.txt"
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason=why).LabelInterface
    export.export_now(trained.dataset.id, "label-studio", tmp_path / "out.zip", run_id=trained.run_id)
    with zipfile.ZipFile(tmp_path / "out.zip") as z:
        judge, tasks = interface(z.read("config.xml").decode()), json.loads(z.read("tasks.json"))
    judge.validate()
    assert len(tasks) == len(store.all_images(trained.dataset.id)) and any(task["predictions"] for task in tasks)
    for task in tasks:
        assert judge.validate_task({"data": task["data"]}) and all(map(judge.validate_prediction, task["predictions"]))
        (annotation,) = task["annotations"]
        assert judge.validate_annotation(annotation)
    annotation["result"][0]["value"]["choices"] = ["no class of ours"]
    assert not judge.validate_annotation(annotation)


def test_exports_of_before_with_all_images_in_one_folder_are_read(home: Path, tmp_path: Path) -> None:
    events = [{"label": "cat", "source": "manual", "by": "Ann", "at": "2026-01-02T03:04:05.678+00:00", "note": "", "previous": None}]
    line = {
        "file_name": "images/1.png",
        "label": "cat",
        "split": "test",
        "flagged": True,
        "source": "1.png",
        "history": events,
        "predictions": [],
    }
    for table, text in (
        ("metadata.csv", "file_name,label,split,flagged,source\nimages/1.png,cat,test,yes,1.png\n"),
        ("metadata.jsonl", json.dumps(line)),
    ):
        with zipfile.ZipFile(tmp_path / "old.zip", "w") as z:
            z.writestr("images/1.png", images.png(np.zeros((4, 4), np.uint8)))
            z.writestr(table, text)
        (entry,) = sources.open_source(sources.at(tmp_path / "old.zip")).entries
        assert (entry.label, entry.split, entry.flagged, entry.name) == ("cat", "test", True, "1.png")
        assert len(entry.past) == (1 if table.endswith("jsonl") else 0)
