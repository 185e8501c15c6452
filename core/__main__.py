"""The command line: the same verbs as the pages, JSON on stdout, messages on stderr, exit 0, 1 (failed) or 2 (bad arguments)."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.catalog import methods, networks, params, presets
from core.data import images, imports, sources, store
from core.errors import AppError, Invalid, NotFound
from core.evaluate import compare, evaluate
from core.explain import explain, patterns, trust
from core.label import embed
from core.review import predict
from core.runs import jobs, launch, openings, runs
from core.settings import settings
from core.share import archive, export, report, reproduce
from core.train import finder, train
from core.types import RunConfig


class BadArgument(Exception):
    """What was typed cannot be meant; exit code 2."""


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        answer = args.verb(args)
    except BadArgument as e:
        print(e, file=sys.stderr)
        return 2
    except AppError as e:
        print(e, file=sys.stderr)
        return 1
    if answer is not None:
        json.dump(_finite(answer), sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
        print()
    return 1 if isinstance(answer, dict) and answer.get("status") in ("failed", "lost") else 0


def _finite(value: Any) -> Any:
    """The value with null for NaN and the infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("python -m core", description="Loupe from the command line; it shares LOUPE_HOME with the app.")
    verbs = top.add_subparsers(required=True, metavar="VERB")

    p = verbs.add_parser("start", help="start the app, with the sample dataset ready")
    p.add_argument("--port", type=int, default=8501)
    p.set_defaults(verb=start)

    p = verbs.add_parser("import", help="import a folder, a zip, IDX files, a manifest, or a set by name")
    p.add_argument("path", help=f"a path, or one of: {', '.join(sources.NAMED)}")
    p.add_argument("--name", required=True, help="the dataset; it is made if there is none of that name")
    p.set_defaults(verb=import_)

    p = verbs.add_parser("job", help=argparse.SUPPRESS)
    p.add_argument("folder", type=Path)
    p.set_defaults(verb=job)

    p = verbs.add_parser("export-dataset", help="write a dataset into a zip that can be imported again")
    p.add_argument("name")
    p.add_argument("--format", choices=tuple(export.KINDS), required=True)
    p.add_argument("--out", type=Path, required=True, help="the zip; one that is there is replaced")
    p.add_argument("--originals", action="store_true", help="the untouched files, with their EXIF")
    p.add_argument("--run", help="add this run's predictions (label-studio and jsonl)")
    p.set_defaults(verb=export_)

    p = verbs.add_parser("export-run", help="write a run into a zip: weights, ONNX, labels, preprocessing, metrics, model card")
    p.add_argument("run")
    p.add_argument("--out", type=Path, required=True, metavar="FILE.zip", help="the zip; one that is there is replaced")
    p.set_defaults(verb=export_run)

    p = verbs.add_parser("import-run", help="bring in a run from the zip that export-run made")
    p.add_argument("file", type=Path, metavar="FILE.zip")
    p.add_argument("--dataset", metavar="NAME", help="the dataset it belongs to; default: the one that has its images")
    p.set_defaults(verb=import_run)

    p = verbs.add_parser("embed", help="look at a dataset's images: the map, near duplicates, image quality")
    p.add_argument("name", help="the dataset")
    p.set_defaults(verb=embed_)

    p = verbs.add_parser("patterns", help="what a run looks for over many images, and whether it reads a class from a watermark or a frame")
    p.add_argument("run")
    p.add_argument("--split", default="validation", choices=("validation", "train"))
    p.add_argument("--each", type=int, default=patterns.EACH, help="images of a class")
    p.add_argument("--method", default="", help="an attribution method; default: a fast one that the network supports")
    p.set_defaults(verb=patterns_)

    p = verbs.add_parser("teach", help="learn from a dataset's labels so far, on what embed found")
    p.add_argument("name", help="the dataset")
    p.set_defaults(verb=teach_)

    p = verbs.add_parser("train", help="train a network on a dataset")
    p.add_argument("--dataset", required=True)
    p.add_argument("--architecture", required=True, help=", ".join(networks.ARCHITECTURES))
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=", ".join(x.name for x in params.TRAIN_PARAMS))
    p.add_argument("--wait", action="store_true", help="return when the run has ended")
    p.set_defaults(verb=train_)

    p = verbs.add_parser("finder", help="find a learning rate: a short trial in which it rises")
    p.add_argument("--dataset", required=True)
    p.add_argument("--architecture", required=True, help="as of train")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of train")
    p.set_defaults(verb=finder_)

    p = verbs.add_parser("runs", help="list the runs, newest first")
    p.add_argument("--dataset")
    p.set_defaults(verb=list_runs)

    p = verbs.add_parser("evaluate", help="metrics of a run, each with n and a 95 %% interval")
    p.add_argument("run")
    p.add_argument("--split", choices=("validation", "test"), default="validation")
    p.set_defaults(verb=evaluate_)

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

    p = verbs.add_parser("compare", help="two to six runs: what differs, metrics with intervals, and who is right on the same images")
    p.add_argument("runs", nargs="+", metavar="RUN")
    p.add_argument("--split", choices=("validation", "test"), default="validation")
    p.set_defaults(verb=compare_)

    p = verbs.add_parser("explain", help="an attribution map of one image")
    p.add_argument("run")
    p.add_argument("image", help="a file, or the id of an image of the run's dataset")
    p.add_argument("--method", required=True, help=", ".join(methods.METHODS))
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="the method's own settings, such as steps=64")
    p.add_argument("--target", help="the class to explain; default: the likeliest")
    p.add_argument("--trust", action="store_true", help="also check how far the map can be trusted, which takes longer")
    p.add_argument("--out", type=Path, required=True)
    p.set_defaults(verb=explain_)

    p = verbs.add_parser("predict", help="predict files with a run")
    p.add_argument("run")
    p.add_argument("files", nargs="+", type=Path)
    p.set_defaults(verb=predict_)
    return top


def start(args: argparse.Namespace) -> None:
    if not store.list_datasets():
        say("Preparing the sample dataset: 1,797 handwritten digits …")
        imports.import_now("digits", sources.named("sample"), settings().user)
    say(f"Loupe runs at http://localhost:{args.port} (Ctrl+C ends it)")
    launch.replace_process([sys.executable, "-m", "streamlit", "run", str(launch.ROOT / "app.py"), "--server.port", str(args.port)])


def job(args: argparse.Namespace) -> None:
    """What a background process does: the work that its job.json names."""
    kinds = (imports.IMPORT, export.EXPORT, archive.EXPORT, archive.IMPORT, embed.EMBED, patterns.PATTERNS, report.REPORT)
    name = runs.read_json(args.folder / "job.json")["job"]
    jobs.run(args.folder, next(kind for kind in kinds if kind.name == name))
    launch.close()  # a model worker may still be at what was stopped


def import_(args: argparse.Namespace) -> dict[str, Any]:
    source = sources.named(args.path) if args.path in sources.NAMED else sources.at(Path(args.path))
    done = imports.import_now(args.name, source, settings().user, progress)
    say("")
    return done.as_dict()


def progress(done: int, total: int, what: str) -> None:
    print(f"\r{what}: {done:,} of {total:,}", end="", file=sys.stderr)


def export_(args: argparse.Namespace) -> dict[str, Any]:
    if args.run and args.format not in ("label-studio", "jsonl"):
        raise BadArgument("--run adds predictions to --format label-studio and jsonl only.")
    done = export.export_now(find_dataset(args.name), args.format, args.out, progress, args.originals, args.run)
    say("")
    for skipped in done.skipped:
        say(f"{skipped.name} is left out: {skipped.reason}")
    return {"dataset": args.name, "format": args.format, "out": str(args.out), **asdict(done)}


def find_dataset(name: str) -> int:
    found = store.find_dataset(name)
    if found is None:
        raise BadArgument(
            f"There is no dataset called “{name}”. Datasets are: {', '.join(d.name for d in store.list_datasets()) or 'none yet'}."
        )
    return found.id


def export_run(args: argparse.Namespace) -> dict[str, Any]:
    done = archive.export_now(args.run, args.out, progress)
    say("")
    say(done.words)
    return {"run": args.run, "out": str(args.out), **asdict(done)}


def import_run(args: argparse.Namespace) -> dict[str, Any]:
    done = archive.import_now(args.file, args.dataset, progress=progress)
    say("")
    if done.here < done.images:
        say(f"{done.here:,} of its {done.images:,} pictures are in “{done.dataset_name}”. {archive.WITHOUT_PICTURES}")
    return {"run": done.run_id, "name": done.name, "dataset": done.dataset_name, "images": done.images, "here": done.here}


def embed_(args: argparse.Namespace) -> dict[str, Any]:
    dataset_id = find_dataset(args.name)
    embed.start(dataset_id, settings().user)
    said = None
    while (state := embed.state(dataset_id)) is not None and state.status == "running":
        if state.what and (state.what, state.done) != said:
            said = (state.what, state.done)
            progress(state.done, state.total, state.what)
        time.sleep(0.25)
    assert state is not None
    say("")
    if state.message:
        say(f"{state.message} {state.hint}")
    found = embed.latest(dataset_id)
    groups = 0 if found is None else int(found.group.max(initial=-1)) + 1
    facts = {"images": state.done, "near_duplicate_groups": groups, "crossing_splits": embed.crossing(dataset_id)}
    return {"dataset": args.name, "status": state.status, **(facts if state.status == "done" else {})}


def teach_(args: argparse.Namespace) -> dict[str, Any]:
    lesson = embed.teach(find_dataset(args.name), settings().user)
    accuracy = lesson.accuracy
    return {"dataset": args.name, **asdict(lesson), "accuracy": None if accuracy is None else asdict(accuracy)}


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The values of --architecture and --set, checked."""
    values: dict[str, Any] = {"architecture": args.architecture, **pairs(args.set)}
    try:
        params.run_config(values)
    except Invalid as e:
        raise BadArgument(str(e)) from None
    return values


def pairs(given: list[str]) -> dict[str, str]:
    """What --set names."""
    values = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadArgument(f"“{pair}” is not KEY=VALUE.")
        values[key] = value
    return values


def finder_(args: argparse.Namespace) -> dict[str, Any]:
    find_id = finder.start(find_dataset(args.dataset), settings_of(args), settings().user)
    while (found := finder.state(find_id)).active:
        progress(found.done, finder.steps(found.config), "Step")
        time.sleep(0.25)
    say("")
    if found.message:
        say(found.message)
    curve = {} if found.curve is None else asdict(found.curve)
    return {"dataset": args.dataset, "status": found.status, **curve}


def train_(args: argparse.Namespace) -> dict[str, Any]:
    run = train.start(find_dataset(args.dataset), settings_of(args), settings().user)
    state = train.wait(run.id) if args.wait else train.state(run.id)
    if state.message:
        say(state.message)
    return {"run": run.id, "status": state.status, "best_epoch": state.best_epoch, "seconds": state.seconds}


def list_runs(args: argparse.Namespace) -> list[dict[str, Any]]:
    def line(state: train.RunState) -> dict[str, Any]:
        config: RunConfig = state.run.config
        best = state.best
        return {
            "run": state.run.id,
            "name": state.run.name,
            "dataset": state.run.dataset_name,
            "architecture": config.architecture,
            "status": state.status,
            "best_epoch": state.best_epoch,
            "validation": None
            if best is None
            else {"n": state.run.counts["validation"], "loss": best.val_loss, "accuracy": best.val_accuracy},
            "seconds": state.seconds,
            "created_at": state.run.created_at,
        }

    return [line(s) for s in train.list_runs(find_dataset(args.dataset) if args.dataset else None)]


def evaluate_(args: argparse.Namespace) -> dict[str, Any]:
    found = evaluate.evaluate(args.run, args.split)
    if args.split == "test":
        openings.record(args.run, settings().user)
    return evaluate.as_json(found)


def report_(args: argparse.Namespace) -> dict[str, Any]:
    splits = ("validation", "test") if args.test else ("validation",)
    page = report.make(args.run, splits, settings().user, progress)
    say("")
    write(args.out, page.encode())
    return {"run": args.run, "out": str(args.out), "bytes": len(page.encode())}


def write(out: Path, data: bytes) -> None:
    try:
        out.write_bytes(data)
    except OSError as e:
        raise AppError(f"{out} cannot be written: {e.strerror}.", "Choose another place with --out.") from None


def patterns_(args: argparse.Namespace) -> dict[str, Any]:
    patterns.start(args.run, settings().user, split=args.split, each=args.each, method=args.method)
    while (state := patterns.state(args.run)) is not None and state.status == "running":
        progress(state.done, state.total, state.what)
        time.sleep(0.2)
    found = patterns.latest(args.run)
    if state is None or state.status != "done" or found is None:
        raise AppError(state.message if state else "The look ended without a word.", state.hint if state else "Start it again.")
    return patterns.as_json(found)


def reproduce_(args: argparse.Namespace) -> list[dict[str, Any]]:
    if unknown := [name for name in args.only if name not in presets.PRESETS]:
        raise BadArgument(f"There is no preset called “{unknown[0]}”. Presets are: {', '.join(presets.PRESETS)}.")
    folders = {"MNIST": args.mnist, "Fashion-MNIST": args.fashion}
    rows = reproduce.reproduce({name: path for name, path in folders.items() if path}, args.only, settings().user, progress)
    say("")
    return rows


def compare_(args: argparse.Namespace) -> dict[str, Any]:
    found = compare.chosen(args.runs)
    answer = compare.as_json(found, [evaluate.evaluate(run.id, args.split) for run in found])
    if args.split == "test":
        for run in found:
            openings.record(run.id, settings().user)
    for state in (train.state(run.id) for run in found):
        answer["runs"][state.run.id] |= {"best_epoch": state.best_epoch, "seconds": state.seconds}
    return answer


def explain_(args: argparse.Namespace) -> dict[str, Any]:
    if args.method not in methods.METHODS:
        raise BadArgument(f"There is no method called “{args.method}”. Methods are: {', '.join(methods.METHODS)}.")
    file = Path(args.image)
    if not file.exists():
        run = runs.load(runs.folder(args.run))
        try:
            file = settings().images / store.get_image(run.dataset_id, args.image).path
        except NotFound:
            raise NotFound(f"“{args.image}” is neither a file nor the id of an image of {run.dataset_name}.") from None
    try:
        chosen = explain.settings_of(args.run, args.method, pairs(args.set))
    except Invalid as e:
        raise BadArgument(str(e)) from None
    asked = explain.ask(args.run, file.resolve(), args.method, args.target, chosen)
    follow(asked, "Passes through the network")
    found = explain.answer(asked)
    write(args.out, explain.overlay_png(found))
    checks = {}
    if args.trust:
        asked = trust.ask(args.run, file.resolve(), args.method, found.target, chosen)
        follow(asked, "Checks (of 1,000 parts)")
        checks["trust"] = {f.name: {"mark": f.mark, "figure": f.figure, "words": f.words} for f in trust.findings(trust.answer(asked))}
    facts = {"target": found.target, "probability": found.probability, "delta": found.delta, "change": found.change, "notes": found.notes}
    return {"method": found.method, "settings": chosen, **facts, **checks, "out": str(args.out)}


def follow(asked: explain.Asked, what: str) -> None:
    while not asked.done:
        done, total = explain.progress(asked)
        if total:
            progress(done, total, what)
        time.sleep(0.25)
    say("")


def predict_(args: argparse.Namespace) -> list[dict[str, Any]]:
    answers = predict.predict(args.run, [f.resolve() for f in args.files], [str(f) for f in args.files])
    failures = [a for a in answers if isinstance(a, predict.Failure)]
    for failure in failures:
        say(f"{failure.file}: {failure.message} {failure.hint}")
    if len(failures) == len(answers):
        raise Invalid("None of the files could be predicted.", f"Allowed are {images.ALLOWED}.")
    return [
        {"file": a.file, "error": a.message}
        if isinstance(a, predict.Failure)
        else {"file": a.file, "top": [{"label": label, "probability": p} for label, p in a.top(5)]}
        for a in answers
    ]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
