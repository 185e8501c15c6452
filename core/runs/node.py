"""Begins a run on a node of a Ray cluster: python -m core.runs.node FOLDER HASH COMMAND; it refuses, in a sentence, what cannot work."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from core import processes
from core.runs import cluster, runs


def refusal(folder: Path, code: str) -> str:
    """Why the run cannot train here; "" nothing is in its way."""
    host = socket.gethostname()
    if not folder.is_dir():
        return (
            f"The node {host} does not see the folder {folder}. LOUPE_HOME must lie on storage that every node of the cluster has at the "
            "same path."
        )
    if not os.access(folder, os.W_OK):
        return f"The node {host} may not write to {folder}. Run Ray as the account that owns LOUPE_HOME."
    if processes.code_hash() != code:
        return f"The node {host} has another version of Loupe's code in {cluster.ROOT} than the server. Bring both to the same one."
    return ""


def refuse(why: str) -> NoReturn:
    """Ends the job with a sentence that Loupe shows."""
    print(f"{cluster.SAYS}{why}", flush=True)
    sys.exit(cluster.REFUSED)


def main(folder: Path, code: str, command: list[str]) -> None:
    """Becomes the command, unless the run belongs to another job by now."""
    if why := refusal(folder, code):
        refuse(why)
    if not runs.works_at(folder, os.environ["LOUPE_RAY_JOB"]):
        sys.exit(0)  # it was stopped while it waited, or another has taken its place
    if not {cluster.RANKS, cluster.ANSWERS} & set(command):  # these tell Ray why they ended
        log = os.open(folder / "worker.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
