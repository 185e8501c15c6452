"""Two servers, as of two machines, on one PostgreSQL and one folder: what one does counts at the other, and nothing is done twice."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from core import processes, roles, servers
from core.api import operations, signing
from core.catalog import params
from core.data import audit, deliveries, leases, leftovers, store, tokens
from core.people import accounts, sessions
from core.runs import jobs, launch, runs
from core.settings import settings
from core.share import export
from core.train import train
from core.types import Ended, Resumed, Snapshot, Step, now
from tests import proxies, two_servers
from tests.ports import free_port
from tests.postgres import Cluster
from tests.two_servers import PASSWORD, Server, Two
from tests.waiting import until

SECRET = "a secret that is long enough"


class Receiver(HTTPServer):
    """Another system: what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.got.append({"id": self.headers["webhook-id"], **json.loads(self.rfile.read(int(self.headers["content-length"])))})
        time.sleep(0.3)  # long enough for the other server to look for what is due
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture(scope="module")
def two(postgresql: Cluster, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    home = tmp_path_factory.mktemp("two") / "home"
    address = f"shop=http://127.0.0.1:{receiver.server_port}/"
    hooks = {"LOUPE_WEBHOOKS": address, "LOUPE_WEBHOOK_SECRET": SECRET, "no_proxy": "127.0.0.1"}
    with two_servers.two(home, postgresql.create("two"), **hooks) as found:
        yield found
        for one in (found.a, found.b):
            assert "Traceback" not in one.log.read_text(), one.log.read_text()[-5000:]
    postgresql.drop("two")


@pytest.fixture(scope="module", autouse=True)
def ended(two: Two) -> tuple[str, float]:
    """A run that ends before the first test, and when: both servers have looked at it when its own test comes."""
    with two.on("a"):
        nothing = Snapshot("s", (), ())
        run = runs.new("a run", store.get_dataset(two.dataset), params.run_config({"architecture": "linear"}), nothing, "Ann")
        runs.create(settings().runs / run.id, run, nothing)
        runs.append(settings().runs / run.id, Ended("stopped", None, "", 1.0, now()))
    return run.id, time.monotonic()


def signed_in(two: Two, name: str, role: str) -> httpx.Cookies:
    """What the browser of a new person holds after signing in at a."""
    with two.on("a"):
        link = accounts.add(name, role)
    with two.a.client() as web:
        answer = web.post(f"/welcome/{link}", data={"password": PASSWORD, "again": PASSWORD})
        assert answer.status_code == 303, answer.text
        return answer.cookies


def of_page(two: Two, cookies: httpx.Cookies) -> tuple[str, str, dict[str, Any]]:
    """What a page of a hands out: the token, the address of a picture, and a label to send."""
    with two.on("a"):
        person = sessions.who(sessions.named(cookies["loupe_session"]))
        assert person is not None
        with roles.acting(person):
            one = store.browse(two.dataset, store.Filter(), 0, 1)[0]
            body = {"operation": f"o-{time.time_ns()}", "dataset_id": two.dataset, "label": "green", "seen": {one.id: one.label_seq}}
            return signing.token(person.name), signing.picture_url(one), body


def ask(two: Two, at: Server, method: str, path: str, **more: Any) -> httpx.Response:
    with two.api(at) as program:
        return program.request(method, path, **more)


def test_who_signed_in_at_one_is_known_at_the_other_with_all_that_a_page_handed_out(two: Two) -> None:
    cookies = signed_in(two, "Bob", "labeller")
    token, picture, body = of_page(two, cookies)
    with two.b.client(cookies) as web:
        assert web.get("/account").status_code == 200 and "Bob: labeller" in web.get("/account").text
        assert web.get(picture).status_code == 200
        assert web.post("/api/label", json=body, headers={"X-Loupe-Token": token}).status_code == 200
    with two.a.client(cookies) as web:
        assert web.post("/sign-out").status_code == 303
    with two.b.client(cookies) as web:  # an act at once, a picture within a second
        assert web.post("/api/label", json=body, headers={"X-Loupe-Token": token}).status_code == 401


def test_a_role_taken_away_counts_at_the_other_at_the_next_act_and_within_a_second_for_looking(two: Two) -> None:
    cookies = signed_in(two, "Carl", "labeller")
    token, picture, body = of_page(two, cookies)
    with two.b.client(cookies, **{"X-Loupe-Token": token}) as web:
        assert web.post("/api/label", json=body).status_code == 200 and web.get(picture).status_code == 200
        with two.on("a"):
            accounts.set_role("Carl", "viewer")
        assert web.post("/api/label", json=body).status_code == 403
        with two.on("a"):
            accounts.set_role("Carl", None)
        assert web.post("/api/label", json=body).status_code == 404
        until(lambda: web.get(picture).status_code == 404, "that the picture is closed", 10)


def test_wrong_passwords_are_counted_together(two: Two) -> None:
    for i in range(accounts.FREE + 1):
        with (two.a, two.b)[i % 2].client() as web:
            answer = web.post("/sign-in", data={"name": "nobody", "password": "wrong"})
    assert answer.status_code == 403 and "There were too many wrong passwords for this name." in answer.text


def test_what_a_token_asks_of_either_is_counted_together(two: Two) -> None:
    with two.on("a"):
        secret = tokens.add("seldom", "viewer", rate="3/day")[1]
    asked = [
        httpx.get(f"{one.url}/api/v1/datasets", headers={"Authorization": f"Bearer {secret}"}, trust_env=False)
        for one in (two.a, two.b) * 2
    ]
    assert [one.status_code for one in asked] == [200, 200, 200, 429]


def test_the_chain_of_the_audit_holds_while_both_write(two: Two) -> None:
    with two.on("a"):
        before, images = audit.head(), store.browse(two.dataset, store.Filter(), 0, 20)
    assert before is not None

    def label(i: int) -> int:
        address = f"/datasets/{two.dataset}/images/{images[i].id}/label"
        return ask(two, (two.a, two.b)[i % 2], "PUT", address, json={"label": "blue", "seen": images[i].label_seq}).status_code

    with ThreadPoolExecutor(6) as people:
        assert set(people.map(label, range(20))) == {200}
    with two.on("b"):
        verdict = audit.verify()
        assert not verdict.problem and verdict.entries == before.seq + 20


def test_a_request_that_one_works_on_is_not_done_by_the_other_until_that_one_is_gone(two: Two) -> None:
    with two.on("a"):
        names = {one.host: one.name for one in servers.living()}
        image = store.browse(two.dataset, store.Filter(), 0, 1)[0]
        mine = tokens.find(two.token)
    assert mine is not None and names.keys() == {"a", "b"}
    body = {"label": "red", "seen": {image.id: image.label_seq}}
    address, key = f"/datasets/{two.dataset}/labels", {"Idempotency-Key": "k"}
    first = ask(two, two.a, "POST", address, json=body, headers=key)
    replayed = ask(two, two.b, "POST", address, json=body, headers=key)
    assert replayed.json() == first.json() and replayed.headers["idempotency-replayed"] == "true"
    with two.on("a"):  # as if a had stored no answer yet
        tokens._change(mine.id, "k", process=names["a"], status=None, answer=None)
    assert ask(two, two.b, "POST", address, json=body, headers=key).status_code == 409
    with two.on("a"):
        tokens._change(mine.id, "k", process=names["a"].replace("-", "-9", 1))  # the number of a process that is no more
    assert ask(two, two.b, "POST", address, json=body, headers=key).json() == first.json()


def test_what_one_is_writing_is_not_swept_away_by_the_other(two: Two) -> None:
    with two.on("a"):
        mine = processes.temporary(settings().exports / "x" / "export.zip")
        mine.parent.mkdir(parents=True)
        mine.write_text("half")
        dead = mine.with_name(mine.name.replace(f".{os.getpid()}.", ".4194301."))
        dead.write_text("half")
        old = time.time() - 2 * jobs.DAY
        os.utime(dead, (old, old))
        os.utime(mine, (old, old))
    with two.on("b"):
        leftovers.remove()
        assert mine.exists() and dead.exists()  # the server a lives, and knows better
        assert {one.host for one in servers.others()} == {"a"}
    with two.on("c"):
        assert {one.host for one in servers.others()} == {"a", "b"}
    with two.on("a"):
        os.utime(mine)
        leftovers.remove()
        assert mine.exists() and not dead.exists()
        mine.unlink()


def test_a_job_begun_at_one_is_shown_and_stopped_at_the_other_and_once_lost_begun_again_there(two: Two) -> None:
    with two.on("a"):
        image = store.browse(two.dataset, store.Filter(), 0, 1)[0]
        path = settings().images / image.path
    whole = path.read_bytes()
    path.unlink()
    os.mkfifo(path)  # an export waits here for ever
    begin = {"format": "csv", "originals": True}
    first = ask(two, two.a, "POST", f"/datasets/{two.dataset}/exports", json=begin).json()["id"]
    folder = two.home / "exports" / first

    def status(at: Server, job: str) -> str:
        return str(ask(two, at, "GET", f"/exports/{job}").json()["status"])

    try:
        assert status(two.b, first) == "running"
        two_servers.silent(folder)
        until(lambda: status(two.b, first) == "running", "that the job shows itself", 2 * processes.BEAT + 10)
        with two.on("b"):
            assert launch.elsewhere(folder) == "a"
            export.stop(first)
        assert (folder / "stop").exists()
        os.kill(json.loads((folder / "handle.json").read_text())["pid"], signal.SIGKILL)
        until(lambda: status(two.a, first) == "lost", "the loss at a")
        assert status(two.b, first) == "running"  # it may be slow to show itself
        two_servers.silent(folder)
        found = ask(two, two.b, "GET", f"/exports/{first}").json()
        assert found["status"] == "lost" and "nothing is heard of it on a" in found["message"]
    finally:
        path.unlink()
        path.write_bytes(whole)
    second = ask(two, two.b, "POST", f"/datasets/{two.dataset}/exports", json=begin).json()["id"]
    until(lambda: status(two.a, second) == "done", "the export at b")
    assert ask(two, two.a, "GET", f"/exports/{second}/zip").content[:2] == b"PK"


def test_a_run_of_a_machine_that_is_gone_goes_on_at_the_other_and_ends_there_when_it_comes_back(two: Two) -> None:
    asked = {"settings": {"architecture": "convnet", "epochs": 1000, "batch_size": 2, "image_size": 64}}
    begun = ask(two, two.a, "POST", f"/datasets/{two.dataset}/runs", json=asked)
    assert begun.status_code == 201, begun.text
    run_id = begun.json()["id"]
    folder = two.home / "runs" / run_id

    def status(at: Server) -> str:
        return str(ask(two, at, "GET", f"/runs/{run_id}").json()["status"])

    until(lambda: runs.last_checkpoint(folder).exists() and any(isinstance(one, Step) for one in runs.events(folder)), "a checkpoint")
    first = psutil.Process(json.loads((folder / "handle.json").read_text())["pid"])
    two_servers.silent(folder)
    until(lambda: status(two.b) == "running", "that the run shows itself", 2 * processes.BEAT + 40)
    first.suspend()  # as of a machine that is cut off
    two_servers.silent(folder)
    assert status(two.b) == "lost" and status(two.a) == "running"
    with two.on("b"):
        state = train.state(run_id)
        assert state.host == "a" and state.message.startswith("Nothing is heard of the training process on a")
        train.resume(run_id)
    until(lambda: any(isinstance(one, Resumed) for one in runs.events(folder)), "its going on at b")
    first.resume()
    until(lambda: not first.is_running() or first.status() == psutil.STATUS_ZOMBIE, "the end of the one that was taken for dead", 20)
    assert "Another process works at" in (folder / "worker.log").read_text()
    assert status(two.a) == status(two.b) == "running"
    assert ask(two, two.a, "POST", f"/runs/{run_id}/stop").status_code == 202
    until(lambda: status(two.b) == status(two.a) == "stopped", "the stop that a asked for")


def test_other_systems_are_told_everything_once(two: Two, receiver: Receiver, ended: tuple[str, float]) -> None:
    run_id, since = ended
    until(lambda: any(one["data"].get("run") == run_id for one in receiver.got), "that the run has ended")
    time.sleep(max(0.0, since + 12 - time.monotonic()))  # a look of each server at the runs, and some at what is due
    with two.on("a"):
        until(lambda: deliveries.standing()["shop"].waiting == 0, "that nothing waits")
    assert set(Counter(one["id"] for one in receiver.got).values()) == {1}
    told = Counter((one["type"], one["data"].get("run")) for one in receiver.got)
    assert told["hello", None] == 1 and told["run.ended", run_id] == 1


@pytest.mark.parametrize("proxy", [proxies.nginx_before_two, proxies.caddy_before_two])
def test_a_proxy_keeps_everybody_at_one_server_and_deals_people_out_to_both(two: Two, proxy: Callable[..., Any], tmp_path: Path) -> None:
    def answered(at: Server) -> float:
        text = httpx.get(f"{at.url}/metrics", trust_env=False).text
        return sum(float(n) for n in re.findall(r'^loupe_requests_total\{[^}]*route="/sign-in"[^}]*\} (\S+)$', text, re.MULTILINE))

    with proxy((two.a.port, two.b.port), port := free_port(), tmp_path):
        found = set()
        for _ in range(40):  # all of them come to one of two by chance once in 10^12
            before = answered(two.a), answered(two.b)
            with httpx.Client(base_url=f"http://localhost:{port}", trust_env=False) as web:
                for _ in range(3):
                    assert web.get("/sign-in").status_code == 200
            more = answered(two.a) - before[0], answered(two.b) - before[1]
            assert more in ((3, 0), (0, 3))
            found.add(more)
            if len(found) == 2:
                return
    raise AssertionError(found)


def test_what_is_done_daily_is_one_servers(two: Two) -> None:
    with two.on("a"):
        until(lambda: len(leases.held("daily")) == 1 and len(audit.heads()) == 1, "that one of them does it")
        (holder,) = leases.held("daily").values()
        assert holder in {one.name for one in servers.living()}
        assert not leases.take("daily", operations.HOUR + operations.SPARE)
        assert len(audit.heads()) == 1


def test_a_server_that_is_killed_is_seen_to_be_gone_and_people_go_on_at_the_other(two: Two) -> None:
    cookies = signed_in(two, "Dora", "labeller")
    two.a.kill()
    with two.on("a"):
        until(lambda: {one.host for one in servers.living()} == {"b"}, "that its own machine sees it", 5)
        gone = next(path for path in servers.folder().iterdir() if path.name.startswith(f"{processes.mark()}-"))
    with two.on("b"):
        assert {one.host for one in servers.living()} == {"a", "b"}  # it may be slow to show itself
        os.utime(gone, (0, 0))
        assert {one.host for one in servers.living()} == {"b"}
    with two.b.client(cookies) as web:
        assert "Dora: labeller" in web.get("/account").text
    two.a.start()
    two.a.ready()
    with two.on("b"):
        assert {one.host for one in servers.living()} == {"a", "b"}
