"""Imports, exports, archives written and taken in, embeddings, predictions, looks for patterns and reports killed half-way, and started again."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.data import imports, queue, schema, sources, store, uploads
from core.explain import patterns
from core.label import embed
from core.review import batch
from core.runs import jobs, launch, runs
from core.settings import settings
from core.share import archive, export, report
from core.train import train
from tests.reliability import homes
from tests.reliability.row import Row
from tests.squares import squares

EACH = 24  # pictures of a colour
VALUES = {
    "architecture": "linear",
    "epochs": 1,
    "image_size": 32,
    "learning_rate": 1e-6,
}  # a run that learns nothing has mistakes to report


def entries(path: Path) -> list[tuple[str, int, int]]:
    with zipfile.ZipFile(path) as found:
        return [(i.filename, i.file_size, i.CRC) for i in found.infolist()]


class Work:
    """One kind of job on this data folder: how it is started, and what it has made, to be compared."""

    def __init__(self, folder: Path, dataset: int, run_id: str) -> None:
        self.folder, self.dataset, self.run_id, self.imported, self.zip = folder, dataset, run_id, 0, b""

    def kinds(self) -> dict[str, tuple[Path, jobs.Kind, Callable[[], str], Callable[[], Any], Callable[[], None]]]:
        """Name: where its jobs lie, its kind, start, what it has made, and what takes that away."""
        s = settings()
        return {
            "import": (s.imports, imports.IMPORT, self.bring, self.brought, self.take_out),
            "export": (s.exports, export.EXPORT, lambda: export.start(self.dataset, "folders", "tester"), self.zips, self.no_zips),
            "archive": (s.archives, archive.EXPORT, lambda: archive.start_export(self.run_id, "tester"), self.zips, self.no_zips),
            "embedding": (
                embed.home(self.dataset), embed.EMBED, lambda: embed.start(self.dataset, "tester", False), self.embedded, self.no_map,
            ),
            "prediction": (
                s.answers, batch.PREDICT, lambda: batch.start(self.dataset, [self.run_id], sources.at(self.folder), "tester", "folder"),
                self.answered, self.no_answers,
            ),
            "patterns": (
                runs.patterns_folder(runs.folder(self.run_id)), patterns.PATTERNS,
                lambda: patterns.start(self.run_id, "tester", split="train", each=8), self.looked, self.no_look,
            ),
            "report": (
                runs.reports_folder(runs.folder(self.run_id)), report.REPORT, lambda: report.start(self.run_id, False, "tester"), self.reported,
                self.no_report,
            ),
            "taking in": (s.archives, archive.IMPORT, self.take_in, self.taken_in, self.give_away),  # the last: it takes the run away
        }  # fmt: skip

    def bring(self) -> str:
        return imports.start(sources.at(self.folder), f"k{self.imported}", "tester")

    def brought(self) -> Any:
        found = store.find_dataset(f"k{self.imported}")
        rows = [] if found is None else [(i.id, i.label, i.split, i.source) for i in store.all_images(found.id)]
        return sorted(rows), [(settings().images / i.path).stat().st_size for i in store.all_images(found.id)] if found else []

    def take_out(self) -> None:
        """The next import makes another dataset, and finds no picture of the last."""
        self.imported += 1
        shutil.rmtree(settings().images)
        settings().images.mkdir()

    def zips(self) -> Any:
        found = self.newest()
        return None if found is None else entries(found)

    def newest(self) -> Path | None:
        """Of the zips: one killed at its very end has left another."""
        found = [p for parent in (settings().exports, settings().archives) for p in parent.glob("*/*.zip")]
        return max(found, key=lambda p: p.stat().st_mtime_ns, default=None)

    def no_zips(self) -> None:
        for parent in (settings().exports, settings().archives):
            shutil.rmtree(parent, ignore_errors=True)

    def take_in(self) -> str:
        """A run's zip that was uploaded."""
        path, name = uploads.put("run.zip", self.zip)
        return archive.start_import(path, name, "taken in", "tester")

    def taken_in(self) -> Any:
        return [(one.run.name, one.status, len(runs.snapshot_rows(runs.folder(one.run.id)))) for one in self.every_run()]

    def every_run(self) -> list[train.RunState]:
        return [one for found in store.list_datasets() for one in train.list_runs(found.id)]

    def give_away(self) -> None:
        """The run, of which there is a zip: what is here cannot be taken in."""
        if not self.zip:
            found = self.newest()
            assert found is not None
            self.zip = found.read_bytes()
        for one in self.every_run():
            train.delete(one.run.id)

    def embedded(self) -> Any:
        found = embed.latest(self.dataset)
        return None if found is None else (sorted(found.ids.tolist()), len(found.ids))

    def no_map(self) -> None:
        shutil.rmtree(embed.home(self.dataset), ignore_errors=True)

    def answered(self) -> Any:
        """Each picture once, and its file."""
        found = queue.browse(self.dataset, queue.Which(), limit=10 * EACH)
        return sorted((one.name, one.image_id, one.predicted) for one in found), len(list(uploads.pictures().rglob("*.*")))

    def no_answers(self) -> None:
        with schema.writing() as c:
            for table in (schema.answers, schema.submissions):
                c.execute(table.delete())
        shutil.rmtree(uploads.pictures(), ignore_errors=True)

    def looked(self) -> Any:
        """What was found, but for who looked and when."""
        found = patterns.latest(self.run_id)
        return found and [(one.name, one.ids, one.picture, one.attention.tobytes(), one.border, one.untested) for one in found.classes]

    def no_look(self) -> None:
        shutil.rmtree(runs.patterns_folder(runs.folder(self.run_id)), ignore_errors=True)

    def reported(self) -> Any:
        """Its words and pictures, but for the minute it was made in; drawings bear numbers by chance."""
        state = report.state(self.run_id)
        if state is None or state.status != "done":
            return None
        page = report.page(self.run_id, state.id).decode()
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d|data:image/svg[^\"]+", "", page)

    def no_report(self) -> None:
        """Nor its maps, which are kept."""
        for name in ("reports", "maps"):
            shutil.rmtree(runs.folder(self.run_id) / name, ignore_errors=True)


def finished(folder: Path, kind: jobs.Kind) -> str:
    homes.until(lambda: jobs.state(folder, kind).status != "running", 120)
    return jobs.state(folder, kind).status


def trial(home: Path, n: int) -> Row:
    """n kills of each kind."""
    row, chance = Row(control="killed and not started again"), random.Random(2)
    folder = squares(home.parent / "pictures", EACH, 64)
    with homes.moved_in(home):
        os.environ["LOUPE_ROOTS"] = str(folder)
        settings.cache_clear()
        imports.import_now("squares", sources.at(folder), "tester")
        found = store.find_dataset("squares")
        assert found is not None
        run = train.start(found.id, VALUES, "tester")
        assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
        shutil.copytree(settings().images, kept := home.parent / "kept")
        work = Work(folder, found.id, run.id)
        for name, (parent, kind, start, made, undo) in work.kinds().items():
            if name != "import":
                shutil.copytree(kept, settings().images, dirs_exist_ok=True)
            undo()
            began = time.monotonic()
            assert finished(parent / start(), kind) == "done", name
            seconds, whole = time.monotonic() - began, made()
            for kill in range(n):
                undo()
                job = parent / start()
                time.sleep(chance.random() * seconds)
                pid = runs.read_json(job / "handle.json")["pid"]
                bodies = homes.family(pid)
                if bodies:
                    os.kill(pid, signal.SIGKILL)
                homes.until(lambda job=job: not launch.launcher.alive(job))  # type: ignore[misc]
                row.check(homes.until(lambda bodies=bodies: homes.gone(bodies), 10), f"{name} {kill}: processes live on")  # type: ignore[misc]
                there = made() == whole  # it was killed at its very end: to take in the same run twice is refused
                row.control_check(there)
                again = finished(parent / start(), kind)
                row.check((again == "done" or there) and made() == whole, f"{name} {kill}: {again}, and not as without the kill")
                row.check(not (left := homes.litter(home)), f"{name} {kill} left behind: {left[:3]}")
    row.figures = "the second try makes what an undisturbed one does, nothing is left behind"
    return row


if __name__ == "__main__":
    print(trial(Path(sys.argv[1]), int(sys.argv[2])))
