"""A Ray cluster, asked over the HTTP interface of its dashboard: jobs, nodes, and why a job waits.

It takes four requests; Ray itself would bring 240 MB and its own pins into the server, and its client must be of the cluster's version.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from core import processes
from core.errors import Unavailable
from core.runs import remote, runs
from core.settings import settings

R = TypeVar("R")

ROOT = Path(__file__).parents[2]
TIMEOUT = 5.0  # seconds
FRESH = 1.0  # seconds for which an answer is taken for the present: a page asks for every run
AWAY = 5.0  # seconds for which a cluster that has not answered is not asked again
BORNE = 60.0  # seconds without an answer after which a job that waits for it ends: a dashboard that is busy misses one now and then
MANY = 1000  # pictures: a cluster takes half a minute to begin
GOING = ("PENDING", "RUNNING")
HANDED = (  # everybody at the dashboard reads them
    *("LOUPE_HOME", "LOUPE_CACHE_GB", "LOUPE_MAX_MEGAPIXELS", "LOUPE_LEAST_FREE_MB", "LOUPE_STORAGE", "LOUPE_STORAGE_CACHE_GB"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"),
)
SAYS = "Loupe: "  # begins the sentence with which a node refuses a job
RANKS, ANSWERS = "core.runs.on_ray.ranks", "core.runs.on_ray.answers"
OURS = re.compile(f"loupe-({runs.ID.pattern})-[0-9a-f]{{6}}")  # the name of a job, with the id of its run
REFUSED = 3  # exit status of such a job


@dataclass(frozen=True)
class Demand:
    """What one process needs on its node, and how many processes there are, on one node or several."""

    cpus: int
    gpus: int
    times: int = 1

    @property
    def words(self) -> str:
        each = " and ".join(filter(None, [_count(self.gpus, "GPU"), _count(self.cpus, "CPU")]))
        return each if self.times == 1 else f"{self.times} times {each}"


@dataclass(frozen=True)
class Node:
    id: str
    name: str
    whole: Demand
    free: Demand
    used: int  # bytes of its memory
    memory: int  # bytes in all


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}" if n else ""


# Asking -------------------------------------------------------------------------------------------


def _ask(path: str, body: dict[str, Any] | None = None) -> Any:
    """The cluster's answer; Unavailable says why there is none."""
    address = settings().ray_address
    headers = {"Content-Type": "application/json", "User-Agent": "Loupe"}
    if settings().ray_token:
        headers["Authorization"] = f"Bearer {settings().ray_token}"
    request = urllib.request.Request(address + path, None if body is None else json.dumps(body).encode(), headers)
    try:
        with _opener().open(request, timeout=TIMEOUT) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as e:
        said = e.read(2000).decode(errors="replace").strip().splitlines()
        if e.code in (401, 403):
            raise Unavailable(f"The Ray cluster at {address} wants a token ({e.code}).", "Set LOUPE_RAY_TOKEN to the cluster's.") from None
        raise Unavailable(f"The Ray cluster at {address} refused: {said[-1] if said else e.reason} ({e.code}).") from None
    except (OSError, ValueError) as e:  # refused, timed out, no such host, no JSON
        why = getattr(e, "reason", e)
        raise Unavailable(f"The Ray cluster at {address} does not answer ({getattr(why, 'strerror', None) or why}).") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for the address that somebody has set, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


@cache
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)  # it is no address of the internet


_turn = threading.Lock()
_known: dict[str, tuple[float, Any]] = {}  # by what was asked: until when it holds, and the answer or why there is none


def _recent(what: str, ask: Callable[[], R]) -> R:
    """An answer that is not older than FRESH, so that a page with many runs asks once."""
    what = f"{settings().ray_address} {what}"
    with _turn:
        until, found = _known.get(what, (0.0, None))
        if time.monotonic() >= until:
            try:
                found, lasts = ask(), FRESH
            except Unavailable as e:
                found, lasts = e, AWAY
            except (KeyError, TypeError, ValueError, AttributeError):
                words = f"What answers at {settings().ray_address} is no Ray cluster that Loupe can read."
                found, lasts = Unavailable(words, "LOUPE_RAY_ADDRESS is the address of the dashboard of Ray 2.52 or newer."), AWAY
            _known[what] = time.monotonic() + lasts, found
    if isinstance(found, Unavailable):
        raise found
    answer: R = found
    return answer


def forget() -> None:
    """Lets the next question go to the cluster."""
    with _turn:
        _known.clear()


def jobs() -> dict[str, dict[str, Any]]:
    """What Ray says of each job that was submitted, by its id."""
    return _recent("jobs", lambda: {one["submission_id"]: one for one in _ask("/api/jobs/") if one.get("submission_id")})


def nodes() -> list[Node]:
    """The nodes that are alive."""
    return _recent("nodes", lambda: _nodes(_ask("/nodes?view=summary")["data"]))


def _nodes(said: dict[str, Any]) -> list[Node]:
    found = []
    for one in said["summary"]:
        raylet = one["raylet"]
        if raylet.get("state") != "ALIVE" or "mem" not in one:  # one that has just come says nothing of itself yet
            continue
        has = raylet["resourcesTotal"]
        whole = Demand(int(has.get("CPU", 0)), int(has.get("GPU", 0)))
        taken = dict.fromkeys(("CPU", "GPU"), 0.0)
        for used, noun in re.findall(r"([\d.]+)/[\d.]+ (CPU|GPU)\b", said.get("nodeLogicalResources", {}).get(raylet["nodeId"], "")):
            taken[noun] = float(used)
        free = Demand(int(whole.cpus - taken["CPU"]), int(whole.gpus - taken["GPU"]))
        memory, unused = one["mem"][:2]
        found.append(Node(raylet["nodeId"], f"{one['hostname']} ({one['ip']})", whole, free, memory - unused, memory))
    return found


# Jobs ---------------------------------------------------------------------------------------------


def demand(device: str, devices: int) -> Demand:
    """What a run of these settings asks for; auto takes GPUs where the cluster has any. Unavailable as jobs()."""
    on_gpus = device == "cuda" or (device == "auto" and any(node.whole.gpus for node in nodes()))
    return Demand(settings().ray_cpus, int(on_gpus), devices)


def submit(job: str, folder: Path, command: list[str], needs: Demand) -> None:
    """Gives the command to Ray; once, however often it is asked with the same name of a job."""
    python, code = shlex.quote(sys.executable), shlex.quote(str(ROOT))
    missing = shlex.quote(f"{SAYS}This node has no Loupe in {ROOT}, or no Python at {sys.executable}.")
    whole = processes.code_hash()
    if needs.times > 1:  # led by a process without a device of its own, which asks Ray for theirs
        command = [sys.executable, "-m", RANKS, *map(str, (folder, whole, needs.cpus, needs.gpus, needs.times))]
    entry = (
        f"[ -f {code}/core/runs/node.py ] && [ -x {python} ] || {{ echo {missing}; exit {REFUSED}; }}; "
        f"cd {code} && exec {python} -m core.runs.node {shlex.join([str(folder), whole, *command])}"
    )
    env = {name: os.environ[name] for name in HANDED if name in os.environ} | {
        "LOUPE_HOME": str(settings().home),
        "LOUPE_RAY_JOB": job,
        "OMP_NUM_THREADS": str(needs.cpus or settings().ray_cpus),
        "OMP_WAIT_POLICY": "PASSIVE",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if not needs.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ""
    asked = {"entrypoint_num_cpus": needs.cpus, "entrypoint_num_gpus": needs.gpus} if needs.times == 1 and needs.cpus else {}
    forget()
    try:
        _ask("/api/jobs/", {"submission_id": job, "entrypoint": entry, "runtime_env": {"env_vars": env}, **asked})
    except Unavailable:
        forget()
        if job not in jobs():  # its answer came too late, perhaps
            raise
    finally:
        forget()


def takes(pictures: int) -> bool:
    """Whether work on so many pictures goes to the cluster: there is one, and it answers."""
    if not settings().ray_address or pictures < MANY:
        return False
    with suppress(Unavailable):
        nodes()
        return True
    return False


Rows = Iterator[list[dict[str, Any]]]


def answers(spool: Path, function: Callable[..., list[dict[str, Any]]], given: list[Any], items: list[Any], each: int = 64) -> Rows:
    """What the function, named by core.runs.remote, answers on the nodes for (*given, some of the items): a row for each item.

    Some rows at a time, in no order; [] while it waits. Everything given and answered is JSON; each: items that a call takes at most.
    The spool is a folder of its own. Unavailable where the cluster stays away, and where the job ends early.
    """
    assert isinstance(function, remote.Function)
    if not items:
        return
    shutil.rmtree(spool, ignore_errors=True)  # of a process that was killed
    spool.mkdir()
    job = job_name("answers")
    runs.write_json(spool / processes.HANDLE, {"job": job})
    runs.write_json(spool / "asked.json", {**asdict(function), "given": given, "items": items, "each": each})
    command = [sys.executable, "-m", ANSWERS, str(spool), processes.code_hash(), str(settings().ray_cpus)]
    read, left, silent = 0, len(items), 0.0
    try:
        submit(job, spool, command, Demand(0, 0))  # its actors ask for what they need
        while left:
            over: Unavailable | None = None
            try:
                said, silent = jobs().get(job), 0.0  # asked first: what it wrote before it ended is then among the rows
                if said is None or said["status"] not in GOING:
                    over = Unavailable(why_ended(said) or "The Ray cluster has ended its job.")
            except Unavailable as e:
                silent = silent or time.monotonic()
                over = e if time.monotonic() - silent >= BORNE else None
            rows, read = runs.read_lines(spool, read)
            left -= len(rows)
            yield rows
            if left and not rows and over:
                raise over
            time.sleep(0 if rows else FRESH)
    finally:
        if left:
            with suppress(Unavailable):
                stop(job)
        shutil.rmtree(spool, ignore_errors=True)


def stop(job: str) -> None:
    """Asks Ray to end it; one that waits ends when its turn comes."""
    _ask(f"/api/jobs/{job}/stop", {})
    forget()


def started_too_late(said: dict[str, Any]) -> bool:
    """Whether Ray has given it up, as it does after 15 minutes of waiting."""
    return said.get("error_type") == "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"


def why_ended(said: dict[str, Any] | None) -> str:
    """A sentence for a job that is not going on, if it has ended before it was done."""
    if said is None:
        return "The Ray cluster does not know its job any more, as after a restart of the cluster."
    message = said.get("message") or ""
    refusal = re.search(rf"^{SAYS}(.+)$", message, re.MULTILINE)
    if refusal:
        return refusal[1]
    if said["status"] != "FAILED":
        return ""
    if said.get("error_type") == "JOB_SUPERVISOR_ACTOR_DIED":
        return "The node of the Ray cluster that trained it is gone."
    if (code := said.get("driver_exit_code")) is not None:
        return f"Its process on the Ray cluster ended with status {code}."
    return f"Its job on the Ray cluster failed: {message.partition(chr(10))[0][:300]}"


def job_name(of: str) -> str:
    """A new name for a job, of the run with this id as a rule."""
    return f"loupe-{of}-{secrets.token_hex(3)}"


def note(folder: Path, job: str, **facts: Any) -> None:
    """Adds to what the run's handle says of this job; nothing once the job has ended there, or another has the run.

    Of what is in the file now: the server and the job's own processes, on machines of their own, write it both.
    """
    handle = runs.read_json(folder / processes.HANDLE)
    if handle.get("job") == job and not handle.get("ended"):
        runs.write_json(folder / processes.HANDLE, {**handle, **facts})


def trained_on() -> dict[str, list[str]]:
    """The ids of the runs, or "" for a job that is not Loupe's, by the id of the node that does them."""
    found: dict[str, list[str]] = {}
    for name, one in jobs().items():
        if one["status"] == "RUNNING" and one.get("driver_node_id"):
            ours = OURS.fullmatch(name)
            for place in placed(ours[1]) if ours else [one["driver_node_id"]]:
                found.setdefault(place or one["driver_node_id"], []).append(ours[1] if ours else "")
    return found


def placed(run_id: str) -> list[str]:
    """The ids of the nodes that a run on several devices was given, [] before; [""] of any other."""
    try:
        handle = runs.read_json(settings().runs / run_id / processes.HANDLE)
        return list(handle.get("placed", [] if handle["needs"]["times"] > 1 else [""]))
    except (OSError, ValueError, KeyError):  # another Loupe's, or one that has gone
        return [""]


def place(job: str) -> int:
    """In line among the cluster's jobs that wait, as far as Ray keeps an order: a smaller one may be served first."""
    waiting: dict[str, int] = {name: one["start_time"] for name, one in jobs().items() if one["status"] == "PENDING" and not _left(name)}
    return 1 + sum(at < waiting.get(job, 0) for at in waiting.values())


def _left(job: str) -> bool:
    """Whether it is of a run of ours that was stopped while it waited: Ray ends such a job only when its turn comes."""
    ours = OURS.fullmatch(job)
    return ours is not None and not runs.works_at(settings().runs / ours[1], job)  # of another Loupe's, nothing is known


def why_waits(needs: Demand, among: list[Node]) -> str:
    """The sentence for a job whose turn has not come."""
    if room(needs, [one.whole for one in among]) < needs.times:  # Ray waits, too: a cluster that grows by itself may bring one
        most = max(among, key=lambda one: (one.whole.gpus, one.whole.cpus), default=None)
        largest = f"the largest node has {most.whole.words or 'none'}" if most else "it has no node"
        return (
            f"It needs {needs.words}, more than the Ray cluster has: {largest}. It waits until a node joins that makes it enough; "
            "stop it to ask for less (Devices in its settings; LOUPE_RAY_CPUS for each)."
        )
    if room(needs, [one.free for one in among]) >= needs.times:
        return f"It needs {needs.words}, which is free now: the Ray cluster is about to begin."
    cpus, gpus = sum(one.free.cpus for one in among), sum(one.free.gpus for one in among)
    told = f"{gpus} GPUs and {cpus} CPUs are" if needs.gpus else f"{cpus} {'is' if cpus == 1 else 'are'}"
    enough = cpus >= needs.cpus * needs.times and gpus >= needs.gpus * needs.times
    return f"It needs {needs.words}; {told} free{', not on one node' if enough else ''}."


def room(needs: Demand, there: list[Demand]) -> int:
    """For how many of its processes there is room."""
    return sum(min(one.cpus // needs.cpus, one.gpus // needs.gpus if needs.gpus else needs.times) for one in there)
