"""The command line: the same verbs as the pages, JSON on stdout, messages on stderr, exit 0, 1 (failed) or 2 (bad arguments).

Each story has its verbs in a commands.py of its own: add(verbs), and JOBS, the kinds of background jobs that it starts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from core import space
from core.errors import AppError
from core.runs import launch
from core.terminal import BadArgument, say


def stories(verb: str = "") -> list[ModuleType]:
    """The one that adds the verb: loading all takes a second of CPU; all where none is found to."""
    found = sorted(Path(__file__).parent.glob("*/commands.py"))
    adds = f'verbs.add_parser("{verb}"'
    its = [path for path in found if any(adds in one.read_text(encoding="utf-8") for one in path.parent.glob("*commands.py"))]
    return [importlib.import_module(f"core.{path.parent.name}.commands") for path in its or found]


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = parser(*argv[:1]).parse_args(argv)
    try:
        with space.told():
            answer = args.verb(args)
    except BadArgument as e:
        print(e, file=sys.stderr)
        return 2
    except AppError as e:
        print(e, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
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


def parser(verb: str = "") -> argparse.ArgumentParser:
    """verb: only what this one needs."""
    top = argparse.ArgumentParser("python -m core", description="Loupe from the command line; it shares LOUPE_HOME with the app.")
    verbs = top.add_subparsers(required=True, metavar="VERB")

    p = verbs.add_parser("start", help="start the app, with the sample dataset")
    p.add_argument("--port", type=int, default=8501)
    p.set_defaults(verb=start)

    for story in () if verb in ("start", "job") else stories(verb):
        story.add(verbs)

    p = verbs.add_parser("job", help=argparse.SUPPRESS)
    p.add_argument("folder", type=Path)
    p.set_defaults(verb=job)
    return top


def start(args: argparse.Namespace) -> None:
    say(f"Loupe runs at http://localhost:{args.port} (Ctrl+C ends it)")
    command = [sys.executable, "-m", "streamlit", "run", str(launch.ROOT / "app.py"), "--server.port", str(args.port)]
    launch.replace_process([*command, "--", launch.SAMPLE])


def job(args: argparse.Namespace) -> None:
    """What a background process does: the work that its job.json names."""
    from core import processes
    from core.runs import jobs, runs

    processes.keep(args.folder)
    kinds = {kind.name: kind for story in stories() for kind in getattr(story, "JOBS", ())}
    jobs.run(args.folder, kinds[runs.read_json(args.folder / "job.json")["job"]])
    launch.close()  # a model worker may still be at what was stopped


if __name__ == "__main__":
    sys.exit(main())
