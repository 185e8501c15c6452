"""Tables as other tools export them: Label Studio's four ways, and COCO's."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from core.errors import Invalid
from tests.cases.pictures import folder_of, reasons, rows


def choice(question: str, *labels: str) -> dict[str, object]:
    return {"from_name": question, "to_name": "image", "type": "choices", "value": {"choices": list(labels)}}


def task(image: str, *results: dict[str, object]) -> dict[str, object]:
    return {"data": {"image": image}, "annotations": [{"was_cancelled": False, "result": list(results)}]}


def labels(folder: Path) -> dict[str, str | None]:
    return {name: label for name, (label, _) in rows(folder).items()}


# Label Studio: names


@pytest.mark.parametrize(
    ("original", "stored"),
    [
        ("my cat.jpg", "a1b2c3d0-my_cat.jpg"),
        ("photo (1).jpg", "a1b2c3d0-photo_1.jpg"),
        ("Über uns.jpg", "a1b2c3d0-Über_uns.jpg"),
        ("Über uns.jpg", "a1b2c3d0-Uber_uns.jpg"),  # from a Mac
        ("a+b & c.jpg", "a1b2c3d0-ab__c.jpg"),
        ("cat.jpg", "a1b2c3d0-cat_Xy12Zab.jpg"),  # there was one of that name
        ("deadbeef-cat.jpg", "deadbeef-cat.jpg"),
    ],
)
def test_an_upload_is_found_by_the_name_that_label_studio_made_of_it(tmp_path: Path, original: str, stored: str) -> None:
    folder_of(tmp_path, original, "other.jpg")
    (tmp_path / "project-1.json").write_text(json.dumps([task(f"/data/upload/1/{stored}", choice("choice", "cat"))]))
    assert labels(tmp_path) == {original: "cat"}


def test_two_files_of_which_label_studio_makes_one_name_are_said_and_not_mixed_up(tmp_path: Path) -> None:
    folder_of(tmp_path, "my cat.jpg", "my (cat).jpg", "dog.jpg")
    tasks = [task("/data/upload/1/a1b2c3d0-my_cat.jpg", choice("c", "cat")), task("dog.jpg", choice("c", "dog"))]
    (tmp_path / "p.json").write_text(json.dumps(tasks))
    assert labels(tmp_path) == {"dog.jpg": "dog"} and "2 files called" in reasons(tmp_path)["p.json, task 1"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat/1.jpg", "dog/1.jpg")
    given = [task("/data/local-files/?d=home/me/pets/cat/1.jpg", choice("c", "cat")), task("D:\\pets\\dog\\1.jpg", choice("c", "dog"))]
    (tmp_path / "p.json").write_text(json.dumps(given))
    assert labels(tmp_path) == {"cat/1.jpg": "cat", "dog/1.jpg": "dog"}


# Label Studio: CSV and JSON-MIN


def flat(name: str, label: object, **more: object) -> dict[str, object]:
    fixed = {"id": 1, "annotator": 1, "annotation_id": 1, "created_at": "2024-05-01T10:00:00Z", "updated_at": "2024-05-01T10:00:00Z"}
    return {"image": f"/data/upload/1/abcd0001-{name}", "label": label, "lead_time": 2.5, **fixed, **more}


def store(folder: Path, kind: str, records: list[dict[str, object]]) -> Path:
    if kind == "json":
        (folder / "project-1.json").write_text(json.dumps(records))
    else:
        with (folder / "project-1.csv").open("w", newline="") as f:
            writer = csv.DictWriter(f, list(dict.fromkeys(key for one in records for key in one)))
            writer.writeheader()
            writer.writerows([{k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in one.items()} for one in records])
    return folder


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_label_studios_flat_exports_are_read(tmp_path: Path, kind: str) -> None:
    folder_of(tmp_path, "my cat.jpg", "dog.jpg", "both.jpg", "box.jpg")
    several, box = {"choices": ["cat", "dog"]}, [{"x": 1, "rectanglelabels": ["cat"]}]
    made = store(tmp_path, kind, [flat("my_cat.jpg", "cat"), flat("dog.jpg", "dog"), flat("both.jpg", several), flat("box.jpg", box)])
    assert labels(made) == {"my cat.jpg": "cat", "dog.jpg": "dog", "both.jpg": None, "box.jpg": None}
    why = " ".join(reasons(made).values())
    assert "2 labels (cat, dog)" in why and "1 annotations: their answer is no choice" in why


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("question", ["choice", "Species of animal"])
def test_the_question_may_have_any_name(tmp_path: Path, kind: str, question: str) -> None:
    folder_of(tmp_path, "a.jpg", "b.jpg")
    records = [{question if key == "label" else key: value for key, value in flat(f"{n}.jpg", n).items()} for n in "ab"]
    assert labels(store(tmp_path, kind, records)) == {"a.jpg": "a", "b.jpg": "b"}


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_annotations_of_one_image_that_do_not_agree_are_said(tmp_path: Path, kind: str) -> None:
    folder_of(tmp_path, "a.jpg")
    made = store(tmp_path, kind, [flat("a.jpg", "cat"), flat("a.jpg", "dog"), flat("a.jpg", "dog")])
    assert labels(made) == {"a.jpg": "dog"} and [why for why in reasons(made).values() if "does not agree" in why]


# Label Studio: several questions


@pytest.mark.parametrize("kind", ["csv", "json", "tasks"])
def test_two_questions_are_refused_by_their_names_and_never_mixed(tmp_path: Path, kind: str) -> None:
    folder_of(tmp_path, "a.jpg", "b.jpg")
    if kind == "tasks":
        answers = [choice("species", "cat"), choice("quality", "sharp")]
        (tmp_path / "p.json").write_text(json.dumps([task("a.jpg", *answers), task("b.jpg", *answers[::-1])]))
    else:
        store(tmp_path, kind, [flat(f"{n}.jpg", None, species="cat", quality="sharp") for n in "ab"])
    with pytest.raises(Invalid, match="answers 2 questions about an image: “quality”, “species”"):
        rows(tmp_path)


@pytest.mark.parametrize("kind", ["csv", "json", "tasks"])
def test_of_several_questions_the_one_called_label_counts_and_the_others_are_said(tmp_path: Path, kind: str) -> None:
    folder_of(tmp_path, "a.jpg")
    if kind == "tasks":
        (tmp_path / "p.json").write_text(json.dumps([task("a.jpg", choice("quality", "sharp"), choice("label", "cat"))]))
    else:
        store(tmp_path, kind, [flat("a.jpg", "cat", quality="sharp")])
    assert labels(tmp_path) == {"a.jpg": "cat"} and any("left out are those to “quality”" in why for why in reasons(tmp_path).values())


# COCO


def coco(folder: Path, name: str, images: dict[str, list[str]], as_text: bool = False) -> None:
    categories = sorted({label for given in images.values() for label in given} | {"unused"})
    told: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    told["categories"] = [{"id": str(n) if as_text else n, "name": one} for n, one in enumerate(categories)]
    for n, (file, given) in enumerate(images.items(), 1):
        told["images"].append({"id": n, "file_name": file, "width": 8, "height": 6})
        for label in given:
            told["annotations"].append(
                {"id": len(told["annotations"]), "image_id": n, "category_id": categories.index(label), "bbox": [0, 0, 1, 1]}
            )
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told))


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("name", ["_annotations.coco.json", "instances_default.json"])
def test_coco_with_one_category_a_picture_gives_labels(tmp_path: Path, name: str, as_text: bool) -> None:
    folder_of(tmp_path, "images/1.png", "images/2.png", "images/3.png")
    coco(tmp_path, name, {"1.png": ["ok"], "2.png": ["rust", "rust"], "images/3.png": []}, as_text)
    assert labels(tmp_path) == {"images/1.png": "ok", "images/2.png": "rust", "images/3.png": None}
    assert "1 images: they have no annotation" in reasons(tmp_path)[name]


def test_several_categories_of_one_picture_are_said(tmp_path: Path) -> None:
    folder_of(tmp_path, "1.png", "2.png")
    coco(tmp_path, "a.json", {"1.png": ["ok"], "2.png": ["rust", "dent"], "gone.png": ["ok"]})
    assert labels(tmp_path) == {"1.png": "ok", "2.png": None}
    assert "2 categories (rust, dent)" in reasons(tmp_path)["2.png"] and "not there" in reasons(tmp_path)["a.json, image 3"]


@pytest.mark.parametrize("told", [{"images": [], "annotations": []}, {"images": 1, "annotations": [], "categories": []}, {}, [], "x"])
def test_json_that_is_no_table_is_none(tmp_path: Path, told: object) -> None:
    folder_of(tmp_path, "cat/1.png")
    (tmp_path / "a.json").write_text(json.dumps(told))
    assert labels(tmp_path) == {"cat/1.png": "cat"}


@pytest.mark.parametrize("odd", [{"id": [1]}, 7, None, {"id": None, "image_id": {}, "category_id": []}, {"file_name": 5}])
def test_odd_entries_of_coco_cost_only_themselves(tmp_path: Path, odd: object) -> None:
    folder_of(tmp_path, "1.png")
    coco(tmp_path, "a.json", {"1.png": ["ok"]})
    told = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({key: [*value, odd] for key, value in told.items()}))
    assert labels(tmp_path) == {"1.png": "ok"} and reasons(tmp_path)
