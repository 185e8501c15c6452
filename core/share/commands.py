"""The verbs of taking data and runs along on the command line."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.catalog import presets
from core.data.commands import find_dataset
from core.data.formats.known import FORMATS
from core.settings import settings
from core.share import archive, export, report, reproduce
from core.terminal import BadArgument, Verbs, progress, progress_ended, say, write

WITH_PREDICTIONS = " and ".join(name for name, one in FORMATS.items() if "predictions" in one.can)
JOBS = (export.EXPORT, archive.EXPORT, archive.IMPORT, report.REPORT)


def add(verbs: Verbs) -> None:
    p = verbs.add_parser("export-dataset", help="write a dataset into a zip that can be imported again")
    p.add_argument("name")
    p.add_argument("--format", choices=tuple(FORMATS), required=True)
    p.add_argument("--out", type=Path, required=True, help="the zip; one that is there is replaced")
    p.add_argument("--originals", action="store_true", help="the untouched files, with their EXIF")
    p.add_argument("--run", help=f"add this run's predictions ({WITH_PREDICTIONS})")
    p.set_defaults(verb=export_)

    p = verbs.add_parser("export-run", help="write a run into a zip: weights, ONNX, labels, preprocessing, metrics, model card")
    p.add_argument("run")
    p.add_argument("--out", type=Path, required=True, metavar="FILE.zip", help="the zip; one that is there is replaced")
    p.set_defaults(verb=export_run)

    p = verbs.add_parser("import-run", help="bring in a run from the zip that export-run made")
    p.add_argument("file", type=Path, metavar="FILE.zip")
    p.add_argument("--dataset", metavar="NAME", help="the dataset it belongs to; default: the one that has its images")
    p.set_defaults(verb=import_run)

    p = verbs.add_parser("report", help="a run in one HTML file: data, settings, curves, metrics, matrix, worst mistakes with maps")
    p.add_argument("run")
    p.add_argument("--test", action="store_true", help="with its test images; this counts as opening the test set")
    p.add_argument("--out", type=Path, required=True, metavar="FILE.html")
    p.set_defaults(verb=report_)

    p = verbs.add_parser("reproduce", help="train every preset and put its figure beside the published one")
    p.add_argument("--mnist", type=Path, metavar="DIR", help="IDX files; default: LOUPE_TEST_DATA/mnist, else a download")
    p.add_argument("--fashion", type=Path, metavar="DIR", help="the same for Fashion-MNIST")
    p.add_argument("--only", nargs="+", default=[], metavar="PRESET", help=", ".join(presets.PRESETS))
    p.set_defaults(verb=reproduce_)


def export_(args: argparse.Namespace) -> dict[str, Any]:
    if args.run and "predictions" not in FORMATS[args.format].can:
        raise BadArgument(f"--run adds predictions to --format {WITH_PREDICTIONS} only.")
    done = export.export_now(find_dataset(args.name), args.format, args.out, progress, args.originals, args.run)
    progress_ended()
    for skipped in done.skipped:
        say(f"{skipped.name} is left out: {skipped.reason}")
    return {"dataset": args.name, "format": args.format, "out": str(args.out), **asdict(done)}


def export_run(args: argparse.Namespace) -> dict[str, Any]:
    done = archive.export_now(args.run, args.out, progress)
    progress_ended()
    say(done.words)
    return {"run": args.run, "out": str(args.out), **asdict(done)}


def import_run(args: argparse.Namespace) -> dict[str, Any]:
    done = archive.import_now(args.file, args.dataset, progress=progress)
    progress_ended()
    if done.here < done.images:
        say(f"{done.here:,} of its {done.images:,} pictures are in “{done.dataset_name}”. {archive.WITHOUT_PICTURES}")
    return {"run": done.run_id, "name": done.name, "dataset": done.dataset_name, "images": done.images, "here": done.here}


def report_(args: argparse.Namespace) -> dict[str, Any]:
    splits = ("validation", "test") if args.test else ("validation",)
    page = report.make(args.run, splits, settings().user, progress)
    progress_ended()
    write(args.out, page.encode())
    return {"run": args.run, "out": str(args.out), "bytes": len(page.encode())}


def reproduce_(args: argparse.Namespace) -> list[dict[str, Any]]:
    if unknown := [name for name in args.only if name not in presets.PRESETS]:
        raise BadArgument(f"There is no preset called “{unknown[0]}”. Presets are: {', '.join(presets.PRESETS)}.")
    folders = {"MNIST": args.mnist, "Fashion-MNIST": args.fashion}
    rows = reproduce.reproduce({name: path for name, path in folders.items() if path}, args.only, settings().user, progress)
    progress_ended()
    return rows
