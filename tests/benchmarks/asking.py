"""Predictions over the HTTP API beside core.ml.infer alone: python -m tests.benchmarks asking.

Single photographs of 640 x 480 pixels; CLIENTS threads of one other process ask a real server, one picture each. Beside it the same
pictures, one at a time and with nobody else, in a process of core.ml.infer. Both are measured in turns, ROUNDS times.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from PIL import Image as Pillow

from tests.benchmarks.rows import Row
from tests.browser.conftest import Server
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
ARCHITECTURE = "efficientnet_lite0"
CLIENTS, ROUNDS, PICTURES, SECONDS = 8, 5, 64, 10
ALONE = """
import json, sys, time
from core.ml import infer
folder, seconds, *files = sys.argv[1:]
for file in files[:8]:
    infer.predict(folder, [file])
start, before, done = time.perf_counter(), time.process_time(), 0
while time.perf_counter() - start < float(seconds):
    infer.predict(folder, [files[done % len(files)]])
    done += 1
print(json.dumps([done / (time.perf_counter() - start), (time.process_time() - before) / done]))
"""
CLIENT = """
import http.client, json, sys, threading, time
port, token, run, seconds, clients, *files = sys.argv[1:]
BOUNDARY = "loupe"
bodies = []
for file in files:
    head = f'--{BOUNDARY}\\r\\nContent-Disposition: form-data; name="files"; filename="a.jpg"\\r\\nContent-Type: image/jpeg\\r\\n\\r\\n'
    bodies.append(head.encode() + open(file, "rb").read() + f"\\r\\n--{BOUNDARY}--\\r\\n".encode())
headers = {"Authorization": f"Bearer {token}", "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
took, until = [], time.perf_counter() + float(seconds)
def ask(number):
    connection, n = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60), number
    while time.perf_counter() < until:
        start = time.perf_counter()
        connection.request("POST", f"/api/v1/runs/{run}/predictions", bodies[n % len(bodies)], headers)
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data
        took.append(time.perf_counter() - start)
        n += int(clients)
start = time.perf_counter()
threads = [threading.Thread(target=ask, args=(i,)) for i in range(int(clients))]
[t.start() for t in threads]
[t.join() for t in threads]
took.sort()
print(json.dumps([len(took) / (time.perf_counter() - start), took[len(took) // 2], took[int(len(took) * 0.95)]]))
"""


def photographs(folder: Path) -> list[str]:
    """JPEGs of the size and about the bytes of photographs, no two alike, in two classes."""
    random, found = np.random.default_rng(0), []
    for i in range(PICTURES):
        small = Pillow.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
        picture, out = small.resize((640, 480), Pillow.Resampling.BICUBIC), io.BytesIO()
        picture.save(out, "JPEG", quality=85)
        path = folder / f"class-{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(out.getvalue())
        found.append(str(path))
    return found


def python(code: str, *args: str, home: Path) -> list[float]:
    env = {**os.environ, "LOUPE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[float] = json.loads(done.stdout)
    return found


def core(home: Path, *args: str) -> dict[str, str]:
    env = {**os.environ, "LOUPE_HOME": str(home)}
    done = subprocess.run([sys.executable, "-m", "core", *args], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def used(processes: list[psutil.Process]) -> float:
    """Seconds of CPU so far."""
    return sum(sum(one.cpu_times()[:2]) for one in processes)


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        files = photographs(Path(folder) / "photographs")
        core(home, "import", str(Path(folder) / "photographs"), "--name", "photographs")
        run = core(home, "train", "--dataset", "photographs", "--architecture", ARCHITECTURE, "--set", "epochs=1", "--wait")["run"]
        token = core(home, "token", "add", "benchmark", "--role", "labeller", "--rate", "1000000/minute")["token"]
        server = Server(home, port := free_port())
        server.start()
        time.sleep(8)  # the model worker loads PyTorch
        alone, served = [], []
        try:
            python(CLIENT, str(port), token, run, "3", "1", *files, home=home)
            assert server.process is not None
            serving = psutil.Process(server.process.pid)
            processes = [serving, *serving.children(recursive=True)]
            for _ in range(ROUNDS):
                alone.append(python(ALONE, str(home / "runs" / run), str(SECONDS), *files, home=home))
                before = used(processes)
                rate, *took = python(CLIENT, str(port), token, run, str(SECONDS), str(CLIENTS), *files, home=home)
                served.append([rate, (used(processes) - before) / (rate * SECONDS), *took])
        finally:
            server.stop()
    (rates, costs), (theirs, paid, half, p95) = (list(map(list, zip(*one, strict=True))) for one in (alone, served))
    work, n = f"predictions over the HTTP API, {CLIENTS} clients", f"single photographs, {ARCHITECTURE}"
    yield Row(work, n, "0.8 × core.ml.infer", "images/s", {"Loupe": theirs, "core.ml.infer alone": rates})
    yield Row(f"{work}, of the processor for each", n, "", "s", {"Loupe": paid, "core.ml.infer alone": costs})
    yield Row(f"{work}, an answer", n, "", "s", {"Loupe": half})
    yield Row(f"{work}, p95 of the answers", n, "", "s", {"Loupe": p95})
