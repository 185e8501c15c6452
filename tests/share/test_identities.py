"""An export without metadata and its way back: the images stay the same images."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from core.catalog import params
from core.data import images, imports, originals, sources, store
from core.data.formats.known import FORMATS
from core.runs import runs
from core.share import archive, export, unpack
from core.types import Preprocess


def photo(seed: int, secret: bool) -> bytes:
    exif = Pillow.Exif()
    exif[0x010F] = "SecretCamera"
    exif[images.ORIENTATION] = 6 if seed % 2 else 1
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    Pillow.fromarray(pixels).save(out, "JPEG", **({"exif": exif} if secret else {}))
    return out.getvalue()


@pytest.fixture
def made(home: Path, tmp_path: Path) -> int:
    for i in range(6):
        path = tmp_path / f"in/{'cat' if i % 2 else 'dog'}/{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(i, secret=i < 4))
    imports.import_now("photos", sources.at(tmp_path / "in"), "me")
    found = store.find_dataset("photos")
    assert found is not None
    return found.id


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("format", list(FORMATS))
def test_an_export_imported_where_its_originals_are_adds_nothing_and_elsewhere_twice_the_same(
    made: int, tmp_path: Path, format: str, kept: bool
) -> None:
    ids = {one.id for one in store.all_images(made)}
    export.export_now(made, format, tmp_path / "a.zip", originals=kept)
    again = imports.import_now("photos", sources.at(tmp_path / "a.zip"), "me")
    assert (again.added, again.duplicates, again.skipped) == (0, 6, [])
    assert imports.import_now("copy", sources.at(tmp_path / "a.zip"), "me").added == 6
    copy = store.find_dataset("copy")
    assert copy is not None and set(originals.here(copy.id, list(ids))) == ids  # what a run's zip asks for
    export.export_now(copy.id, format, tmp_path / "b.zip")
    back = imports.import_now("photos", sources.at(tmp_path / "b.zip"), "me")
    assert (back.added, back.duplicates) == (0, 6)


def test_a_false_id_hides_no_picture_and_replaces_none(made: int, tmp_path: Path) -> None:
    export.export_now(made, "jsonl", tmp_path / "a.zip")
    victim = store.all_images(made)[0]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    about = json.loads(files["loupe.json"])
    assert len(about["ids"]) == 4  # only of those that had metadata
    name = next(iter(about["ids"]))
    files[name] = photo(77, secret=False)
    about["ids"] = {name: victim.id, "no such file": "0" * 16, "images/x.jpg": "../../x"}
    files["loupe.json"] = json.dumps(about).encode()
    with zipfile.ZipFile(tmp_path / "false.zip", "w") as out:
        for one, data in files.items():
            out.writestr(one, data)
    before = {i.id: i for i in store.all_images(made)}
    imports.import_now("photos", sources.at(tmp_path / "false.zip"), "me")
    after = {i.id: i for i in store.all_images(made)}
    assert images.image_id(files[name]) in after and all(after[i] == one for i, one in before.items())
    assert originals.here(made, [victim.id]) == {victim.id: victim.id}


def test_a_run_whose_zip_knows_the_originals_is_given_the_datasets_own_copies(made: int, tmp_path: Path) -> None:
    """Rows and predictions alike; where an original itself is there it stays."""
    export.export_now(made, "folders", tmp_path / "a.zip")
    imports.import_now("copy", sources.at(tmp_path / "a.zip"), "me")
    copy = store.find_dataset("copy")
    assert copy is not None
    before = store.snapshot(made, 0)
    told = tuple(runs.PredictionRow(r.image_id, r.split, r.label, r.label, 0.5, (0.5, 0.5)) for r in before.rows)
    run = runs.new("A", store.get_dataset(made), params.run_config({"architecture": "linear"}), before, "me")
    found = unpack.Found("a.zip", run, before.rows, (), told, Preprocess(3, 8, 8, (0.0,) * 3, (1.0,) * 3), None)
    here = {i.id: i.path for i in store.all_images(copy.id)}
    assert not {r.image_id for r in before.rows} <= here.keys()  # stripping has changed ids
    changed = archive._with_copies(found, copy.id)
    assert {r.image_id: r.path for r in changed.rows} == here
    assert changed.predictions is not None and [p.image_id for p in changed.predictions] == [r.image_id for r in changed.rows]
    assert [(r.label, r.split) for r in changed.rows] == [(r.label, r.split) for r in before.rows]
    assert archive._with_copies(found, made) is found
