"""Bad pictures: none crashes or hangs what imports them, each is refused by name with a reason, or read with the right pixels."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from core.data import decoders, images, imports, sources, store
from tests.reliability import homes
from tests.reliability.corpus import Made, corpus, modes
from tests.reliability.row import Row

SLOW = 5.0  # s
ANY = images.Examined("", "", 0, 0, 3, b"")


def unbounded(data: bytes) -> images.Examined:
    """As one decodes a picture without a thought."""
    picture = Pillow.open(io.BytesIO(data)).convert("RGB")
    np.asarray(picture).astype(np.float64).sum()
    return images.Examined("", "", *picture.size, 3, b"")


def judged(one: Made, found: images.Examined | str, seconds: float) -> str:
    """What is wrong with the answer; "" if nothing."""
    if seconds > SLOW:
        return f"took {seconds:.1f} s"
    if isinstance(found, str):
        if "crashed" in found or "(" in found.partition("damaged")[2]:  # an error that nobody foresaw is named there
            return found
        return "" if one.must != "read" and len(found) > 10 else f"refused: {found}"
    if one.must == "refused":
        return "was taken for a picture"
    if one.pixels is None:
        return ""
    seen = np.asarray(images.open_picture(one.data), np.int16)
    expected = one.pixels.astype(np.int16)
    if seen.ndim != expected.ndim:
        seen = seen if seen.ndim == 3 else seen[..., None].repeat(3, 2)
        expected = expected if expected.ndim == 3 else expected[..., None].repeat(3, 2)
    return "" if seen.shape == expected.shape and np.abs(seen - expected).max() <= one.within else "other pixels"


def trial(home: Path, every: int) -> Row:
    """every: of so many pictures one is tried."""
    row = Row(control="a decoder without limits, and one that passes over profiles and turns")
    made = corpus()[::every]
    slowest = 0.0
    with homes.moved_in(home), decoders.Decoders() as pool:
        for one in made:
            began = time.monotonic()
            (found,) = pool.results(pool.submit([one.data]), [one.data])
            slowest = max(slowest, seconds := time.monotonic() - began) if one is not made[0] else 0.0  # the first starts the decoders
            row.check(not (problem := judged(one, found, seconds if slowest else 0.0)), f"{one.name}: {problem}")
        folder = home.parent / "pictures"
        folder.mkdir()
        for one in made:
            (folder / one.name).write_bytes(one.data)
        report = imports.import_now("bad", sources.at(folder), "tester")
        told = {skipped.name for skipped in report.skipped}
        for one in made:
            row.check(one.must != "refused" or one.name in told, f"{one.name} is refused without its name")
        dataset = store.find_dataset("bad")
        there = {one.source for one in store.all_images(dataset.id)} if dataset else set()
        copies = len(made) - len(told) - len(there)
        row.check(
            all(s.reason for s in report.skipped) and 0 <= copies <= report.duplicates, f"{copies} pictures are nowhere in the report"
        )
        for one in [m for m in made if m.must == "refused" and m.name.startswith(("giant", "bomb"))]:
            pool.submit([b""]).result()
            assert pool._pool is not None
            try:
                (found,) = pool._pool.submit(decoders._examine, unbounded, [one.data], 5).result()
            except Exception:
                found = "crashed"
                pool._close()
            row.control_check(not isinstance(found, str), "without limits")
    with homes.replaced(images, "_as_srgb", lambda picture, profile: picture):
        row.control_check(all(not judged(one, ANY, 0.0) for one in modes() if one.name.startswith("p3.")), "profiles")
    with homes.replaced(ImageOps, "exif_transpose", lambda picture, in_place=False: None if in_place else picture):
        row.control_check(all(not judged(one, ANY, 0.0) for one in modes() if one.name.startswith("turned-6")), "turns")
    row.figures = (
        f"slowest {slowest:.1f} s; a decoder may take {decoders.DECODER_BYTES >> 30} GB; {len(there)} read, {len(told)} refused by name"
    )
    return row
