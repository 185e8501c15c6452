"""Predictions over the HTTP API beside core.ml.infer alone: python tests/benchmarks/asking.py [--architecture NAME] [--seconds S].

Single photographs of 640 x 480 pixels; CLIENTS threads of one other process ask a real server, one picture each. Beside it the same
pictures, one at a time and with nobody else, in a process of core.ml.infer. Both are measured in turns, ROUNDS times.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image as Pillow

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import Server  # noqa: E402
from tests.ports import free_port  # noqa: E402

CLIENTS, ROUNDS, PICTURES = 8, 5, 64
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


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--architecture", default="efficientnet_lite0")
    asked.add_argument("--seconds", type=float, default=10)
    args = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        files = photographs(Path(folder) / "photographs")
        core(home, "import", str(Path(folder) / "photographs"), "--name", "photographs")
        run = core(home, "train", "--dataset", "photographs", "--architecture", args.architecture, "--set", "epochs=1", "--wait")["run"]
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
                alone.append(python(ALONE, str(home / "runs" / run), str(args.seconds), *files, home=home))
                before = used(processes)
                each, half, p95 = python(CLIENT, str(port), token, run, str(args.seconds), str(CLIENTS), *files, home=home)
                served.append([each, half, p95, (used(processes) - before) / (each * args.seconds)])
        finally:
            server.stop()
    rate, cost = (statistics.median(one) for one in zip(*alone, strict=True))
    each, half, p95, paid = (statistics.median(one) for one in zip(*served, strict=True))
    print(f"{args.architecture}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"core.ml.infer alone: {rate:.1f} images/s, {cost * 1000:.0f} ms of CPU for each")
    print(
        f"API, {CLIENTS} clients: {each:.1f} images/s, {paid * 1000:.0f} ms of CPU for each; a request takes {half * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms"
    )
    print(f"ratio: {each / rate:.2f} by the clock, {cost / paid:.2f} by CPU")


if __name__ == "__main__":
    main()
