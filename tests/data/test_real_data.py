"""Real data sets of other people: imported whole, and learned."""

from __future__ import annotations

from pathlib import Path

from core.data import dataset, imports, sources, store
from core.evaluate import evaluate
from core.train import train
from tests.data.real import real


def test_cifar10_keeps_its_split_and_nothing_is_skipped(home: Path) -> None:
    archive = sources.at(real("cifar10-6k.zip"))
    report = imports.import_now("cifar", archive, "tester")
    assert (report.added, report.duplicates, report.skipped) == (6000, 0, [])
    found = store.find_dataset("cifar")
    assert found is not None and len(found.classes) == 10 and found.splits_given
    counts = dataset.counts(found.id)
    assert dict(counts.groupby("split")["images"].sum()) == {"train": 5000, "test": 1000}
    again = imports.import_now("cifar", archive, "tester")
    assert (again.added, again.duplicates) == (0, 6000)


def test_a_frozen_efficientnet_tells_cats_from_dogs(home: Path) -> None:
    report = imports.import_now("pets", sources.at(real("cats-dogs-600.zip")), "tester")
    assert (report.added, report.skipped) == (600, [])
    found = store.find_dataset("pets")
    assert found is not None
    run = train.start(found.id, {"architecture": "efficientnet_lite0", "epochs": 10}, "tester")
    assert train.wait(run.id).status == "succeeded"
    test = evaluate.evaluate(run.id, "test")
    # 97 % and more are usual; a wrong preprocessing or a wrong order of the weights costs far more than this bound
    assert test.accuracy is not None and test.n > 60 and test.accuracy.low > 0.85, test.accuracy
