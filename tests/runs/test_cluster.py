"""Runs on a Ray cluster: a real one of two nodes where Ray is installed, and what is said where there is none."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from core import processes
from core.data import check, queue, schema, sources, uploads
from core.errors import AppError, Conflict, Unavailable
from core.label import embed
from core.ml import worker
from core.review import batch, predict
from core.runs import cluster, jobs, launch, node, runs
from core.runs.cluster import Demand, Node
from core.runs.remote import infer
from core.settings import settings
from core.train import again, devices, train, watch
from core.types import Dataset, Ended, EpochEnd, Prediction, Resumed, Started
from tests.held_out import pictures
from tests.pages.app import elements, opened
from tests.ports import free_port
from tests.ray_clusters import RayCluster
from tests.waiting import until

if TYPE_CHECKING:
    from tests.conftest import Trained

LONG = {"architecture": "cnn3", "image_size": 32, "batch_size": 8, "epochs": 1000, "patience": 0, "device": "auto"}
QUICK = {"architecture": "linear", "epochs": 2, "device": "cpu"}
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install -r requirements-ray.txt")


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, home: Path) -> Callable[..., None]:
    """Lets runs go to the cluster at this address."""

    def to(address: str, cpus: int = 1) -> None:
        monkeypatch.setattr(launch, "launcher", launch.RayLauncher())
        monkeypatch.setenv("LOUPE_RAY_ADDRESS", address)
        monkeypatch.setenv("LOUPE_RAY_CPUS", str(cpus))
        settings.cache_clear()
        cluster.forget()

    return to


@pytest.fixture(scope="module")
def started() -> Iterator[RayCluster]:
    found = RayCluster()
    yield found
    found.close()


@pytest.fixture
def two_nodes(started: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    """Asked anew five times a second, as many pages would ask together."""
    monkeypatch.setattr(cluster, "FRESH", 0.2)
    return started


def epochs(run_id: str) -> int:
    return max((e.epoch for e in runs.events(runs.folder(run_id)) if isinstance(e, EpochEnd)), default=0)


def ends(run_id: str) -> list[str]:
    return [e.outcome for e in runs.events(runs.folder(run_id)) if isinstance(e, Ended)]


# What is said -------------------------------------------------------------------------------------

ONE_EACH = [Node(name, name, Demand(1, 0), Demand(0, 0), 0, 0) for name in "ab"]


@pytest.mark.parametrize(
    ("needs", "nodes", "words"),
    [
        (Demand(1, 0), ONE_EACH, "It needs 1 CPU; 0 are free."),
        (Demand(2, 2), [Node("a", "a", Demand(8, 4), Demand(3, 0), 0, 0)], "It needs 2 GPUs and 2 CPUs; 0 GPUs and 3 CPUs are free."),
        (Demand(2, 0), [Node(n, n, Demand(2, 0), Demand(1, 0), 0, 0) for n in "ab"], "It needs 2 CPUs; 2 are free, not on one node."),
        (Demand(1, 1), ONE_EACH, "It needs 1 GPU and 1 CPU, more than the Ray cluster has: the largest node has 1 CPU. It waits until"),
        (Demand(1, 0, 2), ONE_EACH, "It needs 2 times 1 CPU; 0 are free."),
        (Demand(1, 0, 3), ONE_EACH, "It needs 3 times 1 CPU, more than the Ray cluster has: the largest node has 1 CPU."),
        (Demand(1, 0), [], "It needs 1 CPU, more than the Ray cluster has: it has no node."),
    ],
)
def test_a_run_that_waits_says_what_it_needs_and_what_is_free(needs: Demand, nodes: list[Node], words: str) -> None:
    assert cluster.why_waits(needs, nodes).startswith(words)


def test_only_what_is_free_on_a_node_is_told(home: Path) -> None:
    def told(id: str, state: str) -> dict[str, object]:
        raylet = {"nodeId": id, "state": state, "resourcesTotal": {"CPU": 8.0, "GPU": 2.0, "memory": 9e9}}
        return {"hostname": f"h{id}", "ip": "10.0.0.1", "mem": [100, 40, 60.0, 60], "raylet": raylet}

    said = {"summary": [told("a", "ALIVE"), told("b", "DEAD")], "nodeLogicalResources": {"a": "3.0/8.0 CPU\n1.5/2.0 GPU\n0B/9GiB memory"}}
    assert cluster._nodes(said) == [Node("a", "ha (10.0.0.1)", Demand(8, 2), Demand(5, 0), 60, 100)]


def test_a_node_refuses_what_cannot_work_there(tmp_path: Path) -> None:
    assert "does not see the folder" in node.refusal(tmp_path / "elsewhere", processes.code_hash())
    assert node.refusal(tmp_path, processes.code_hash()) == ""
    assert "another version of Loupe's code" in node.refusal(tmp_path, "0" * 16)


def test_an_address_that_is_none_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_RAY_ADDRESS", "ray://head:10001")
    settings.cache_clear()
    with pytest.raises(AppError, match="LOUPE_RAY_ADDRESS is “ray://head:10001”"):
        settings()


# A cluster that is not there ----------------------------------------------------------------------


def test_a_run_waits_for_a_cluster_that_is_not_there_and_can_be_stopped_or_trained_here(small: Dataset, given: Callable[..., None]) -> None:
    given(f"http://127.0.0.1:{free_port()}")
    run = train.start(small.id, QUICK, "Ann")
    state = train.state(run.id)
    assert (state.status, state.place) == ("queued", None)
    assert "does not answer (Connection refused). The run waits, and begins when the cluster is there." in state.message
    assert watch.follow(run.id, 0, 10_000, False)["now"]["what"] == "Queued for the cluster"
    assert devices.devices() == ([], [])
    train.stop(run.id)
    assert train.state(run.id).status == "stopped" and ends(run.id) == ["stopped"]
    train.resume(run.id)
    assert train.state(run.id).status == "queued"
    page = opened("train", run=run.id)
    assert not page.exception
    page.button(key="here").click().run()
    assert not page.exception and not elements(page, "error")
    assert train.wait(run.id).status == "succeeded"
    with pytest.raises(Conflict):
        train.here(run.id)


class Dashboard(ThreadingHTTPServer):
    """As much of a cluster's dashboard as answers with given jobs and one node of one CPU, which is taken."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.token = self.elsewhere = ""
        self.told: list[str | None] = []  # with which token each question came
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Dashboard

    def do_GET(self) -> None:
        raylet = {"nodeId": "n", "state": "ALIVE", "resourcesTotal": {"CPU": 1.0}}
        node = {"hostname": "h", "ip": "10.0.0.1", "mem": [2, 1, 50.0, 1], "raylet": raylet}
        nodes = {"data": {"summary": [node], "nodeLogicalResources": {"n": "1.0/1.0 CPU"}}}
        self._say(list(self.server.jobs.values()) if self.path == "/api/jobs/" else nodes)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/jobs/":
            self.server.jobs[asked["submission_id"]] = {**asked, "status": "PENDING", "start_time": len(self.server.jobs)}
        elif self.path.endswith("/stop"):
            self.server.jobs[self.path.split("/")[-2]]["status"] = "STOPPED"
        self._say({})

    def _say(self, what: object) -> None:
        self.server.told.append(self.headers["Authorization"])
        if self.server.elsewhere:
            self.send_response(307)
            self.send_header("Location", self.server.elsewhere + self.path)
            self.end_headers()
            return
        wrong = self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}"
        self.send_response(401 if wrong else 200)
        self.end_headers()
        self.wfile.write(json.dumps(what).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    found = Dashboard()
    yield found
    found.shutdown()
    found.server_close()


def test_the_token_goes_to_the_address_that_was_set_and_no_further(
    home: Path, given: Callable[..., None], dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Dashboard()
    dashboard.elsewhere = other.address
    monkeypatch.setenv("LOUPE_RAY_TOKEN", "long enough to be a token of a cluster")
    given(dashboard.address)
    with pytest.raises(Unavailable, match=r"refused: .*\(307\)"):
        cluster.nodes()
    assert dashboard.told == ["Bearer long enough to be a token of a cluster"] and other.told == []
    other.shutdown()
    other.server_close()


def asked_anew(run_id: str) -> train.RunState:
    cluster.forget()
    return train.state(run_id)


def test_a_run_that_ray_gave_up_is_handed_in_again_and_a_cluster_that_is_away_ends_none(
    small: Dataset, given: Callable[..., None], dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(dashboard.address)
    monkeypatch.setenv("LOUPE_WEBHOOK_SECRET", "not to be told to anybody at all")
    run = train.start(small.id, {**QUICK, "restarts": 1}, "Ann")
    (first,) = dashboard.jobs.values()
    assert (first["entrypoint_num_cpus"], first["entrypoint_num_gpus"]) == (1, 0)
    assert not [word for word in ("Ann", "squares", "not to be told", "sqlite") if word in json.dumps(first)]
    assert asked_anew(run.id).message == "It needs 1 CPU; 0 are free."
    first.update(status="FAILED", error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT")
    assert asked_anew(run.id).status == "queued" and len(dashboard.jobs) == 1  # who only looks hands in nothing
    assert again.look() == []
    _, second = dashboard.jobs.values()
    second["status"] = "RUNNING"
    assert asked_anew(run.id).status == "pending"
    dashboard.token = "a token that Loupe has not got"
    away = asked_anew(run.id)
    assert away.status == "pending" and "wants a token (401). Set LOUPE_RAY_TOKEN" in away.message and "is not known" in away.message
    dashboard.token = ""
    second.update(status="FAILED", driver_exit_code=137)
    gone = asked_anew(run.id)
    assert (gone.status, gone.message) == ("lost", f"Its process on the Ray cluster ended with status 137. {train.TRAINED_NOTHING}")
    monkeypatch.setattr(again, "SETTLED", -1.0)
    assert again.look() == [run.id] and len(dashboard.jobs) == 3


def test_what_waited_for_its_cluster_is_handed_over_though_nobody_looks(
    small: Dataset, given: Callable[..., None], dashboard: Dashboard
) -> None:
    given(f"http://127.0.0.1:{free_port()}")
    run = train.start(small.id, QUICK, "Ann")
    given(dashboard.address)
    assert asked_anew(run.id).message == "It is being handed to the Ray cluster." and not dashboard.jobs
    again.look()
    assert len(dashboard.jobs) == 1 and asked_anew(run.id).place == 1


def test_a_command_line_that_waits_for_a_run_hands_it_over_without_a_server(
    small: Dataset, given: Callable[..., None], dashboard: Dashboard
) -> None:
    given(f"http://127.0.0.1:{free_port()}")
    run = train.start(small.id, QUICK, "Ann")
    given(dashboard.address)

    def tell(state: train.RunState) -> None:
        if dashboard.jobs:
            launch.launcher.kill(settings().runs / run.id)

    assert train.wait(run.id, tell).status == "lost" and len(dashboard.jobs) == 1


def test_an_answer_from_before_another_server_handed_a_run_in_does_not_end_it(
    small: Dataset, given: Callable[..., None], dashboard: Dashboard
) -> None:
    given(dashboard.address)
    before = cluster.jobs()
    run = train.start(small.id, QUICK, "Ann")
    known = f"{settings().ray_address} jobs"
    cluster._known[known] = time.monotonic() + 60, before  # as in the process of another server
    assert train.state(run.id).status == "queued" and launch.of_cluster(settings().runs / run.id)


def test_what_is_said_of_a_job_late_overwrites_nothing(
    small: Dataset, given: Callable[..., None], dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(dashboard.address)
    submit = cluster.submit

    def begins_at_once(job: str, folder: Path, command: list[str], needs: Demand) -> None:
        submit(job, folder, command, needs)
        dashboard.jobs[job]["status"] = "RUNNING"
        cluster.note(folder, job, placed=["n"])  # as its own process does on its node

    monkeypatch.setattr(cluster, "submit", begins_at_once)
    run = train.start(small.id, {**QUICK, "devices": 2}, "Ann")
    assert asked_anew(run.id).status == "pending" and cluster.placed(run.id) == ["n"]
    (job,) = dashboard.jobs
    cluster.note(settings().runs / run.id, job, ended=True, why="Because.")
    cluster.note(settings().runs / run.id, job, ended=False)
    assert train.state(run.id).message.startswith("Because.")


def test_without_the_address_a_run_of_the_cluster_can_go_on_here_but_its_folder_is_left_alone(
    small: Dataset, given: Callable[..., None], dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(dashboard.address)
    run = train.start(small.id, QUICK, "Ann")
    folder = settings().runs / run.id
    torn = b'{"kind": "St'
    (folder / "events.jsonl").write_bytes(torn + b"\n")
    monkeypatch.delenv("LOUPE_RAY_ADDRESS")
    settings.cache_clear()
    (line,) = (one for one in check.check(mend=True)["damage"] if one["where"].endswith("events.jsonl"))
    assert not line["mended"] and torn in (folder / "events.jsonl").read_bytes()
    assert train.state(run.id).status == "lost"
    with monkeypatch.context() as patch, pytest.raises(Conflict, match="Set LOUPE_RAY_ADDRESS"):
        patch.setattr(schema, "engine", gone)
        check.begin_anew()
    assert folder.exists()


def gone() -> None:
    raise AppError("The database is gone.", "")


def test_predictions_bear_a_cluster_that_misses_an_answer_and_ask_nothing_for_nothing(
    tmp_path: Path, given: Callable[..., None], dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(dashboard.address)
    monkeypatch.setattr(cluster, "FRESH", 0.0)
    monkeypatch.setattr(cluster, "AWAY", 0.0)
    assert list(cluster.answers(tmp_path / "spool", infer.predict, [], [])) == [] and not dashboard.jobs
    found = cluster.answers(tmp_path / "spool", infer.predict, [], ["a", "b", "c"])
    assert next(found) == []
    dashboard.token = "a token that Loupe has not got"
    runs.append_line(tmp_path / "spool", {"file": "a"})
    assert next(found) == [{"file": "a"}]
    assert next(found) == []
    dashboard.token = ""
    assert next(found) == []
    dashboard.token = "another"
    monkeypatch.setattr(cluster, "BORNE", 0.0)
    runs.append_line(tmp_path / "spool", {"file": "b"})
    assert next(found) == [{"file": "b"}] and next(found) == []
    with pytest.raises(Unavailable, match="wants a token"):
        next(found)
    assert not (tmp_path / "spool").exists()
    dashboard.token = ""
    stopped = cluster.answers(tmp_path / "spool", infer.predict, [], ["a"])
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]
    _, second = dashboard.jobs.values()
    assert second["status"] == "STOPPED" and not (tmp_path / "spool").exists()
    dashboard.token = "away"
    cluster.forget()
    assert not cluster.takes(cluster.MANY)
    dashboard.token = ""
    cluster.forget()
    assert cluster.takes(cluster.MANY) and not cluster.takes(cluster.MANY - 1)


class Left(BaseException):
    """In place of the end of this process."""


@pytest.mark.parametrize(("job", "mine"), [("", {"pid": 1}), ("a", {"job": "a"})])
def test_a_worker_leaves_its_run_to_another_job_and_only_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, mine: dict[str, object]
) -> None:
    def leave(status: int) -> None:
        raise Left

    handle = tmp_path / "handle.json"
    course: list[Callable[[], object]] = [
        lambda: runs.write_json(handle, mine),
        handle.unlink,  # a shared folder that is away
        lambda: handle.write_text("{"),
        lambda: runs.write_json(handle, {**mine, "sent": True}),
        lambda: runs.write_json(handle, {"job": "b"}),
    ]
    if not job:  # while it begins
        runs.write_json(handle, {"job": "before", "ended": True})
    else:
        course.pop(0)()
    monkeypatch.setattr(worker, "os", SimpleNamespace(_exit=leave))
    monkeypatch.setattr(worker, "time", SimpleNamespace(sleep=lambda _: course.pop(0)()))
    with pytest.raises(Left):
        worker.leave_to_another(tmp_path, job)
    assert not course


def test_beside_the_nodes_stands_what_trains_on_this_machine(
    small: Dataset, given: Callable[..., None], dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(dashboard.address)
    run = train.start(small.id, QUICK, "Ann")
    asked: list[object] = []

    def slots(function: object) -> Future[dict[str, object]]:
        asked.append(function)
        future: Future[dict[str, object]] = Future()
        future.set_result({"a": ("cpu", run.id, 1, 2), "b": ("cuda:0", "", 1, 2)})
        return future

    monkeypatch.setattr(launch, "submit", slots)
    listed = devices.devices()
    assert listed is not None and [one.name for one in listed[0]] == ["h (10.0.0.1), 1 CPU"] and not asked
    me = psutil.Process()
    runs.write_json(settings().runs / run.id / "handle.json", {"pid": me.pid, "started": me.create_time()})
    listed = devices.devices()
    assert listed is not None and [one.run for one in listed[0]] == ["", f"{run.name} ({small.name})"]


# A real one ---------------------------------------------------------------------------------------


def refusing(_: list[str]) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "rows")


@needs_ray
def test_an_actor_says_what_keeps_it_from_its_work(tmp_path: Path) -> None:
    from core.runs.on_ray.answers import Worker

    asked, batch = {"module": __name__, "name": "refusing", "given": []}, {"item": [json.dumps("a"), json.dumps("b")]}
    said = [Worker(tmp_path, code, asked)(batch)["row"].tolist() for code in ("0" * 16, processes.code_hash())]
    assert "has another version of Loupe's code" in said[0][0]
    assert said[1][0].startswith('{"refused": "The disk is full: rows could not be written.')


@needs_ray
@pytest.mark.timeout(400)
def test_a_demand_that_no_node_meets_is_said_and_stopped(small: Dataset, given: Callable[..., None], two_nodes: RayCluster) -> None:
    given(two_nodes.address, cpus=4)
    run = train.start(small.id, QUICK, "Ann")
    until(lambda: "more than" in train.state(run.id).message, "the sentence")
    state = train.state(run.id)
    assert (state.status, state.place) == ("queued", 1)
    assert state.message.startswith("It needs 4 CPUs, more than the Ray cluster has: the largest node has 1 CPU.")
    train.pause(run.id)
    assert train.state(run.id).status == "paused" and ends(run.id) == ["paused"]
    other = train.start(small.id, QUICK, "Ann").id
    until(lambda: train.state(other).place == 1, "the place, not behind the one that has gone")
    train.stop(other)
    given(two_nodes.address, cpus=1)
    train.resume(run.id)  # asks for less now
    assert train.wait(run.id).status == "succeeded"


@needs_ray
@pytest.mark.timeout(400)
def test_a_node_with_other_code_says_so_and_trains_nothing(
    small: Dataset, given: Callable[..., None], two_nodes: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(two_nodes.address)
    with monkeypatch.context() as patch:
        patch.setattr(processes, "code_hash", lambda: "0" * 16)
        run = train.start(small.id, QUICK, "Ann")
    until(lambda: not train.state(run.id).active, "the refusal")
    assert train.state(run.id).status == "lost" and not runs.events(runs.folder(run.id))
    assert "has another version of Loupe's code" in train.state(run.id).message
    shown = cluster._ask("/api/jobs/")
    assert not [one for one in shown if "DATABASE" in str(one) or "SECRET" in str(one) or small.name in str(one)]


@needs_ray
@pytest.mark.timeout(400)
def test_one_run_trains_on_both_nodes_and_is_lost_as_a_whole(small: Dataset, given: Callable[..., None], two_nodes: RayCluster) -> None:
    given(two_nodes.address)
    run_id = train.start(small.id, {**LONG, "devices": 2}, "Ann").id
    until(lambda: epochs(run_id) > 0, "an epoch", 120)
    started = next(e for e in runs.events(runs.folder(run_id)) if isinstance(e, Started))
    assert started.ranks == 2 and list(cluster.trained_on().values()) == [[run_id], [run_id]]
    listed = devices.devices()
    assert listed is not None and [one.run for one in listed[0]] == [f"{runs.load(runs.folder(run_id)).name} ({small.name})"] * 2
    waiting = train.start(small.id, {**LONG, "devices": 2, "seed": 1}, "Ann").id
    until(lambda: train.state(waiting).message == "It needs 2 times 1 CPU; 0 are free.", "the line")
    train.stop(waiting)
    assert train.state(waiting).status == "stopped"
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [])[-2:] == ["core.ml.worker", str(runs.folder(run_id))] and process.environ()["RANK"] == "1":
            process.kill()
    until(lambda: train.state(run_id).status == "lost", "the loss")
    assert "The process of rank 1 on" in train.state(run_id).message


@needs_ray
@pytest.mark.timeout(400)
def test_many_pictures_are_answered_by_the_nodes_as_by_this_machine(
    trained_copy: Trained, two_nodes: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOUPE_RAY_ADDRESS", two_nodes.address)
    monkeypatch.setenv("LOUPE_RAY_CPUS", "1")
    settings.cache_clear()
    cluster.forget()
    inbox = settings().roots[0] / "new"
    inbox.mkdir(parents=True)
    for i, file in enumerate(list(pictures(trained_copy).values())[:70]):
        shutil.copy(file, inbox / f"{i}.png")
    (inbox / "broken.png").write_bytes((inbox / "0.png").read_bytes()[:40])
    dataset_id, run_id = trained_copy.dataset.id, trained_copy.run_id
    monkeypatch.setattr(cluster, "MANY", 70)
    monkeypatch.setattr(launch.launcher, "start", lambda folder, command: None)
    folder = settings().answers / batch.start(dataset_id, [run_id], sources.at(inbox), "Ann", "folder")
    jobs.run(folder, batch.PREDICT)
    assert (end := jobs.state(folder, batch.PREDICT).end)["kind"] == "Done" and (end["done"], end["states"]) == (70, {"predicted": 70})
    assert [one.file for one in batch.refused(folder.name)] == ["broken.png"] and not (folder / run_id).exists()
    (job,) = (one for name, one in cluster.jobs().items() if name.startswith("loupe-answers-"))
    assert job["status"] in ("RUNNING", "SUCCEEDED")  # it was no other way that they were answered
    items = queue.browse(dataset_id, queue.Which(source="folder"), "name", limit=100)
    here = predict.predict(run_id, [uploads.find(one.image_id).path for one in items[:3]])
    for one, expected in zip(items[: len(here)], here, strict=True):
        assert isinstance(expected, Prediction)
        assert list(one.probabilities.values()) == pytest.approx(list(expected.probabilities), abs=1e-6)


@needs_ray
@pytest.mark.timeout(400)
def test_images_are_looked_at_by_the_nodes_and_kept_when_it_is_stopped(
    small: Dataset, given: Callable[..., None], two_nodes: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(two_nodes.address)
    monkeypatch.setattr(cluster, "MANY", 24)
    folder = embed.home(small.id) / "20260101-000000-000000"
    folder.mkdir(parents=True)
    runs.write_json(folder / "job.json", {"dataset_id": small.id, "at": "2026", "by": "Ann"})
    before, answers = set(cluster.jobs()), cluster.answers

    def stopped_by_the_first(
        spool: Path, function: Callable[..., list[dict[str, Any]]], asked: list[Any], items: list[Any]
    ) -> cluster.Rows:
        for rows in answers(spool, function, asked, items, each=2):
            if rows:
                runs.request_stop(folder)
            yield rows

    monkeypatch.setattr(cluster, "answers", stopped_by_the_first)
    jobs.run(folder, embed.EMBED)
    assert jobs.state(folder, embed.EMBED).status == "stopped" and not (folder / "nodes").exists()
    (job,) = cluster.jobs().keys() - before
    until(lambda: cluster.jobs()[job]["status"] not in cluster.GOING, "the end of its job")
    (features,), (measures,) = (list(settings().cache.glob(f"*-{what}-*.rows")) for what in ("features", "measures"))
    assert cluster.jobs()[job]["status"] == "STOPPED"
    kept = features.stat().st_size // (1280 * 4)
    assert 0 < measures.stat().st_size // ((2 + 16 * 16) * 4) <= kept < 24
    (folder / "stop").unlink()
    jobs.run(folder, embed.EMBED)  # the rest are too few for the nodes
    assert jobs.state(folder, embed.EMBED).end["images"] == 24 and cluster.jobs().keys() - before == {job}
    (read,) = settings().cache.glob("*-srgb-*.ids")
    assert 24 - kept <= read.stat().st_size // 16 < 24  # this machine has read no other


@needs_ray
@pytest.mark.timeout(400)
def test_a_run_whose_node_dies_goes_on_from_its_checkpoint_on_the_other(
    small: Dataset, given: Callable[..., None], two_nodes: RayCluster
) -> None:
    given(two_nodes.address)
    for name in ("a", "b"):  # another's jobs, one of which leaves the second node to the run
        cluster._ask("/api/jobs/", {"submission_id": name, "entrypoint": "sleep 300", "entrypoint_num_cpus": 1})
    until(lambda: len(cluster.trained_on()) == 2, "both jobs", 120)
    head = next(one["raylet"]["nodeId"] for one in cluster._ask("/nodes?view=summary")["data"]["summary"] if one["raylet"]["isHeadNode"])
    at = {name: cluster.jobs()[name]["driver_node_id"] for name in ("a", "b")}
    run_id = train.start(small.id, LONG, "Ann").id
    until(lambda: train.state(run_id).message == "It needs 1 CPU; 0 are free.", "the line")
    cluster.stop(next(name for name, where in at.items() if where != head))
    until(lambda: runs.last_checkpoint(runs.folder(run_id)).exists(), "a checkpoint", 120)
    two_nodes.lose_second()
    until(lambda: train.state(run_id).status == "lost", "the loss")
    assert "The node of the Ray cluster that trained it is gone" in train.state(run_id).message
    learned = epochs(run_id)
    cluster.stop(next(name for name, where in at.items() if where == head))
    train.resume(run_id)
    until(lambda: epochs(run_id) > learned, "an epoch on the other node", 120)
    resumed = [e for e in runs.events(runs.folder(run_id)) if isinstance(e, Resumed)]
    assert len(resumed) == 1 and resumed[0].epoch >= 1
    assert cluster.trained_on() == {head: [run_id]}
    train.stop(run_id)
    until(lambda: train.state(run_id).status == "stopped", "the stop", 90)
