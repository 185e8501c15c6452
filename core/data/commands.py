"""The verbs of datasets on the command line."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from core.data import audit, backup, brought, check, database, imports, moving, schema, sources, store, stored
from core.data.encodings import ENCODINGS
from core.settings import settings
from core.terminal import BadArgument, Verbs, progress, progress_ended, say

JOBS = (imports.IMPORT,)


def add(verbs: Verbs) -> None:
    p = verbs.add_parser("import", help="import a folder, a zip, IDX files, a manifest, or a set by name")
    p.add_argument("path", help=f"a path, or one of: {', '.join(sources.NAMED)}")
    p.add_argument("--name", required=True, help="the dataset; it is made if there is none of that name")
    p.add_argument("--look", action="store_true", help="only say what it would be taken for, and store nothing")
    p.add_argument(
        "--names-in",
        default="",
        metavar="ENCODING",
        choices=list(ENCODINGS),
        help=f"how the names in a zip are written that do not say it: {', '.join(ENCODINGS)}",
    )
    p.add_argument("--give-labels", action="store_true", help="give its labels to images that are there without one")
    p.set_defaults(verb=import_)

    p = verbs.add_parser("undo-import", help="take out of a dataset again what an import brought in; it can be brought back on its page")
    p.add_argument("name", help="the dataset")
    p.add_argument(
        "--import", dest="import_id", type=int, metavar="ID", help="as import printed it; without it the newest one that is left"
    )
    p.add_argument("--look", action="store_true", help="only say what would go and what would stay")
    p.set_defaults(verb=undo_import)

    p = verbs.add_parser("audit", help="who did what: look for changes in the chain of entries, or take it out")
    acts = p.add_subparsers(required=True, metavar="ACT")
    p = acts.add_parser("verify", help="read the whole chain and name the first entry that is not as it was written")
    p.set_defaults(verb=verify)
    p = acts.add_parser("export", help="write all entries as JSON lines, with the head as the last line")
    p.add_argument("file", type=Path, metavar="FILE.jsonl")
    p.set_defaults(verb=export_audit)

    p = verbs.add_parser("move-database", help="copy every row into an empty database, from SQLite into PostgreSQL or back")
    p.add_argument("url", metavar="URL", help="its address, such as postgresql://NAME@HOST:5432/DATABASE or sqlite:////FOLDER/loupe.db")
    p.set_defaults(verb=move_database)

    p = verbs.add_parser("backup", help="write all that cannot be made anew into one file, while Loupe runs or not")
    p.add_argument("file", type=Path, metavar="FILE.zip", help="one that is there is replaced")
    p.set_defaults(verb=write_backup)
    p = verbs.add_parser("restore", help="bring a backup back into an empty LOUPE_HOME, and compare it with what was written")
    p.add_argument("file", type=Path, metavar="FILE.zip")
    p.set_defaults(verb=restore)

    p = verbs.add_parser("storage", help="fetch the runs that only LOUPE_STORAGE has, and copy there what it lacks")
    p.set_defaults(verb=synchronise)

    p = verbs.add_parser("check", help="read all that is stored and name what is damaged, missing or left over")
    p.add_argument("--mend", action="store_true", help="make anew what can be made anew, and say what cannot")
    p.add_argument("--fetch", action="store_true", help="read, too, the originals and weights that only object storage has")
    p.add_argument(
        "--begin-anew", action="store_true", help="where the database is gone: lay aside all that is there, and begin with an empty one"
    )
    p.set_defaults(verb=check_)


def find_dataset(name: str) -> int:
    found = store.find_dataset(name)
    if found is None:
        raise BadArgument(
            f"There is no dataset called “{name}”. Datasets are: {', '.join(d.name for d in store.list_datasets()) or 'none yet'}."
        )
    return found.id


def guessed(sentences: list[str]) -> None:
    progress_ended()
    say("\n".join(f"Guessed: {one}." for one in sentences))


def import_(args: argparse.Namespace) -> dict[str, Any]:
    source = sources.named(args.path) if args.path in sources.NAMED else sources.at(Path(args.path))
    source = replace(source, names_in=args.names_in)
    if args.look:
        seen = imports.look(args.name, source, progress)
        progress_ended()
        return seen.as_dict()
    say(imports.heading(source.shown(), args.name))
    done = imports.import_now(args.name, source, settings().user, progress, guessed, args.give_labels)
    progress_ended()
    stored.imported()
    if done.offered > done.given:
        say(f"{done.offered - done.given:,} images that are there without a label have one here: --give-labels gives them.")
    return done.as_dict()


def undo_import(args: argparse.Namespace) -> dict[str, Any]:
    dataset_id = find_dataset(args.name)
    import_id = args.import_id if args.import_id is not None else brought.newest(dataset_id)
    done = brought.look(dataset_id, import_id) if args.look else brought.undo(dataset_id, import_id, settings().user, progress)
    progress_ended()
    say(f"{done.goes:,} images {'would go' if args.look else 'are out of the dataset'}; their files stay, and they can be brought back.")
    if done.changed:
        say(f"{done.changed:,} stay: somebody has labelled or flagged them since, or their class was merged or retired.")
    if done.used:
        say(f"{done.used:,} stay: runs have used them: {', '.join(done.runs)}.")
    return {"dataset": args.name, "import_id": import_id, **asdict(done)}


def verify(_args: argparse.Namespace) -> dict[str, Any]:
    found = audit.verify(progress)
    progress_ended()
    say(found.words)
    return {**asdict(found), "status": "failed" if found.problem else "whole"}


def export_audit(args: argparse.Namespace) -> dict[str, Any]:
    head = audit.export(args.file, progress)
    progress_ended()
    return {"out": str(args.file), "entries": head.seq if head else 0, "head": head.hash if head else ""}


def write_backup(args: argparse.Namespace) -> dict[str, Any]:
    done = backup.write(args.file, progress)
    progress_ended()
    for name in done["left_out"]:
        say(f"{name} is not in it: what storage has of it is not of the size that was put. Run python -m core check --fetch.")
    return done


def restore(args: argparse.Namespace) -> dict[str, Any]:
    done = backup.restore(args.file, progress)
    progress_ended()
    say(f"All is as it was on {done['made_at'][:16].replace('T', ' ')} UTC. {done['audit']}")
    return done


def synchronise(_args: argparse.Namespace) -> dict[str, Any]:
    done = stored.synchronise(progress)
    progress_ended()
    return {**done, "status": "failed" if done["behind"] else "whole"}


def check_(args: argparse.Namespace) -> dict[str, Any]:
    if args.begin_anew:
        done = check.begin_anew()
        say(f"Loupe begins anew. All that was there lies in {done['laid_aside']}.")
        return done
    done = check.check(args.mend, progress, args.fetch)
    progress_ended()
    for one in done["damage"]:
        say(f"{one['where']}: {one['problem']} {'Mended.' if one['mended'] else one['remedy']}")
    say("All is whole." if not done["found"] else f"Found {done['found']:,}, mended {done['mended']:,}, left {done['left']:,}.")
    return done


def move_database(args: argparse.Namespace) -> dict[str, Any]:
    moved = moving.move(args.url, progress)
    progress_ended()
    used = database.shown(schema.engine().url)
    say(f"In the new database: {moved.audit.words}")
    if moved.audit.problem:
        say("It is so in the old one, too. All rows were copied.")
    say(
        f"Set LOUPE_DATABASE_URL to that address and start Loupe. Images and runs stay in LOUPE_HOME; the database at {used} keeps all it held."
    )
    found = {"rows": moved.rows, "audit": asdict(moved.audit), "status": "failed" if moved.audit.problem else "whole"}
    return {"from": used, "to": database.shown(database.address(args.url)), **found}
