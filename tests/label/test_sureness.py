"""Likely wrong labels, near duplicates and clusters say how they were found, of how many, and how sure that is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.data import alike, removed, store
from core.label import embed, orders, teach
from core.ml import embed as made
from core.types import Dataset


def written(folder: Path, places: np.ndarray) -> str:
    ids = np.array([f"{i:016x}" for i in range(len(places))])
    np.savez(folder / "embedding.npz", ids=ids, reduced=places.astype(np.float32), xy=places[:, :2].astype(np.float32))
    return str(folder)


@pytest.mark.parametrize("method", ["k-means", "hdbscan"])
def test_clusters_that_lie_apart_are_surer_than_a_cloud_that_was_cut(tmp_path: Path, method: str) -> None:
    noise, truth = np.random.default_rng(0).normal(size=(90, 4)), np.repeat([0, 1, 2], 30)
    apart = made.sureness(written(tmp_path, noise + 20 * np.eye(4)[truth]), method, truth)
    assert apart["n"] == 90 and apart["silhouette"] > 0.8 and apart["agreement"] == (1.0 if method == "k-means" else None)
    cut = made.sureness(written(tmp_path, noise), method, truth)
    assert cut["silhouette"] < 0.1 and (method == "hdbscan" or cut["agreement"] < 0.5)
    one = np.where(truth == 0, 0, -1)
    assert made.sureness(str(tmp_path), method, one) == {"n": 30, "silhouette": None, "agreement": None}


def test_the_sentence_of_clusters_follows_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "embedding.npz").touch()
    facts: dict[str, float | None] = {"n": 3, "silhouette": 0.6, "agreement": 0.9}
    monkeypatch.setattr(embed, "clusters", lambda *_: np.array([0, 0, 1, -1]))
    monkeypatch.setattr(embed, "needed", lambda _: tmp_path / "embedding.npz")
    monkeypatch.setattr(embed, "_sureness", lambda *_: facts)
    monkeypatch.setattr(embed, "_embedding", lambda *_: None)
    monkeypatch.setattr(embed, "still_here", lambda *_: np.array([True] * 4))
    said = embed.sureness(1, "k-means", 2)
    assert "3 of 4 images in 2 clusters. They are clearly apart: silhouette 0.60" in said and "n = 3" in said and "agree by 0.90" in said
    facts |= {"silhouette": 0.1, "agreement": None}
    assert "They run into one another" in embed.sureness(1, "hdbscan", 2) and "agree" not in embed.sureness(1, "hdbscan", 2)
    facts["silhouette"] = None
    assert "cannot be said" in embed.sureness(1, "k-means", 2)
    monkeypatch.setattr(embed, "still_here", lambda *_: np.array([True, False, False, True]))  # two were removed since
    assert "1 of 2 images in 1 cluster." in embed.sureness(1, "k-means", 2)


def test_likely_wrong_labels_say_how_many_were_judged_and_how_good_the_judge_is(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    some = store.browse(small.id, store.Filter(label="red"), 0, 4)
    rows = pd.DataFrame(
        {"image_id": [i.id for i in some], "label": ["red", "red", "blue", None], "own": [0.1, 0.9, 0.1, None], "issue": [True, False, True, False]}
    )  # fmt: skip
    lesson = teach.Lesson("", "", 3, 50, 40, "cross-validation", 2, 0, 0)
    monkeypatch.setattr(teach, "answers", lambda _: rows)
    monkeypatch.setattr(teach, "lessons", lambda _: [lesson])
    said = orders.sureness(small.id, "likely-wrong")
    assert "1 of 3 labels" in said  # of the two named, one was corrected since
    assert "right on 80% of 50 labelled images, by cross-validation (67% to 89%)" in said
    monkeypatch.setattr(teach, "answers", lambda _: None)
    assert orders.sureness(small.id, "likely-wrong") == orders.sureness(small.id, "added") == ""


def test_near_duplicates_say_both_ways_in_which_they_were_found(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.array([i.id for i in store.browse(small.id, store.Filter(), 0, 6)])
    flat = np.zeros(6, np.float32)
    group = np.array([0, 0, 1, 1, 1, -1], np.int32)
    monkeypatch.setattr(embed, "latest", lambda _: embed.Embedding("e", ids, np.zeros((6, 2)), flat, flat, flat, group, frozenset()))
    monkeypatch.setattr(alike, "groups", lambda _: {ids[0]: "b", ids[5]: "b"})
    said = orders.sureness(small.id, "near-duplicates")
    assert "cosine above 0.8" in said and "0.9 or more" in said and "5 of 6 images in 2 groups" in said and "found 2 in 1" in said
    removed.remove(small.id, ids[[0, 5]].tolist(), "me", "out")
    said = orders.sureness(small.id, "near-duplicates")
    assert "3 of 4 images in 1 group." in said and "found 0 in 0" in said
