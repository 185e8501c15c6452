"""Hostile models: as zips of runs, and in the folder of a run that is here; nothing in them is ever run, and bytes changed anywhere are told."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from core.data import images
from core.errors import AppError
from core.ml import model, trainer
from core.runs import runs
from core.share import archive, unpack
from core.train import train
from tests.reliability import homes, zips
from tests.reliability.row import Row
from tests.squares import imported

SLOW = 30.0  # s
GROWN = 200.0  # MB
VALUES = {"architecture": "linear", "epochs": 1}
Files = dict[str, bytes]


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


def exported(home: Path) -> tuple[str, Path]:
    """A run of this home and its zip, without the time that ONNX takes."""
    run = train.start(imported(home.parent, 12).id, VALUES, "tester")
    assert train.wait(run.id).status == "succeeded", train.log_tail(run.id)
    archive.export_now(run.id, out := home.parent / "run.zip")
    return run.id, out


def files_of(path: Path) -> Files:
    with zipfile.ZipFile(path) as found:
        return {info.filename: found.read(info) for info in found.infolist()}


def packed(path: Path, files: Files, how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


def tensors(entries: dict[str, Any], data: bytes) -> bytes:
    """A safetensors file with this header."""
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + data


def changed(files: Files, name: str, **values: Any) -> Files:
    return {**files, name: json.dumps({**json.loads(files[name]), **values}).encode()}


def hostile(files: Files, canary: Path) -> dict[str, Files]:
    """By what is wrong with it; SHA256SUMS is left out, as by one who packs a zip to do harm."""
    bare = {name: data for name, data in files.items() if name != "SHA256SUMS"}
    pickled = pickle.dumps(Payload(canary))
    saved = io.BytesIO()
    torch.save({"state": Payload(canary)}, saved)
    size = struct.unpack("<Q", bare["model.safetensors"][:8])[0]
    header, data = json.loads(bare["model.safetensors"][8 : 8 + size]), bare["model.safetensors"][8 + size :]
    first = next(name for name in header if name != "__metadata__")
    huge = {**header[first], "shape": [50_000, 50_000], "data_offsets": [0, 10_000_000_000]}

    def weights(value: bytes) -> Files:
        return {**bare, "model.safetensors": value}

    config = json.loads(bare["config.json"])
    how = json.loads(bare["preprocessing.json"])
    return {
        "a pickle as weights": weights(pickled),
        "PyTorch's own file as weights": weights(saved.getvalue()),
        "no weights": {name: data for name, data in bare.items() if name != "model.safetensors"},
        "weights cut off": weights(bare["model.safetensors"][:-40]),
        "a header of 10 GB": weights(struct.pack("<Q", 10_000_000_000) + b"{}"),
        "a tensor of 10 GB": weights(tensors({**header, first: huge}, data)),
        "offsets outside": weights(tensors({**header, first: {**header[first], "data_offsets": [-4, 2**40]}}, data)),
        "overlapping tensors": weights(tensors({**header, "more": header[first]}, data)),
        "another shape": weights(tensors({**header, first: {**header[first], "shape": [*header[first]["shape"], 1]}}, data)),
        "another type": weights(tensors({**header, first: {**header[first], "dtype": "I32"}}, data)),
        "a tensor too many": weights(tensors({**header, "x": {"dtype": "F32", "shape": [0], "data_offsets": [len(data)] * 2}}, data)),
        "a tensor too few": weights(tensors({n: v for n, v in header.items() if n != first}, data)),
        "no header": weights(b"\0" * 8), "text": weights(b"hello" * 20), "nothing": weights(b""),
        "another network": changed(bare, "config.json", config={**config["config"], "architecture": "convnet"}),
        "an unknown network": changed(bare, "config.json", config={**config["config"], "architecture": "os:system"}),
        "an unknown key": changed(bare, "config.json", backdoor=True),
        "an unknown setting": changed(bare, "config.json", config={**config["config"], "hook": "os.system"}),
        "an id that is a path": changed(bare, "config.json", id="../../evil"),
        "a class too many": changed(bare, "config.json", classes=[*config["classes"], "more"]),
        "a picture outside": {**bare, "dataset.csv": bare["dataset.csv"].replace(b"/", b"/../../", 1)},
        "pictures of 8,192 pixels": changed(bare, "preprocessing.json", resize=8192, crop=4096),
        "enlarged a thousandfold": changed(bare, "preprocessing.json", resize=how["crop"] * 1000),
        "code as a number": changed(bare, "preprocessing.json", crop="__import__('os')"),
        "negative pixels": changed(bare, "preprocessing.json", crop=-1),
        "a bit of the weights": {**files, "model.safetensors": flipped(files["model.safetensors"], -3)},
        "a bit of the answers": {**files, "predictions.csv": files["predictions.csv"].replace(b"0.", b"0.1", 1)},
        "another hash": {**files, "SHA256SUMS": files["SHA256SUMS"].replace(b"a", b"b")},
        "deep JSON": {**bare, "config.json": b"[" * 500_000},
        "a bomb as config": {**bare, "config.json": bytes(50_000_000)},
    }  # fmt: skip


def flipped(data: bytes, at: int) -> bytes:
    odd = bytearray(data)
    odd[at] ^= 1
    return bytes(odd)


def refuses(act: Callable[[], object]) -> str:
    began = time.monotonic()
    try:
        act()
    except AppError:
        seconds = time.monotonic() - began
        return "" if seconds < SLOW else f"took {seconds:.0f} s"
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    return "was taken"


def tampered(folder: Path, canary: Path, hashes: bool) -> dict[str, bytes]:
    """What may be put in place of a run's weights."""
    whole = runs.checkpoint(folder).read_bytes()
    saved = io.BytesIO()
    torch.save({"state": Payload(canary), "architecture": "linear"}, saved)
    found = {
        "a pickle": pickle.dumps(Payload(canary)),
        "PyTorch's file with code": saved.getvalue(),
        "cut off": whole[: len(whole) // 2],
        "empty": b"",
    }
    if hashes:
        chance = random.Random(3)
        found |= {f"bit {i}": flipped(whole, chance.randrange(len(whole))) for i in range(40)}
    return found


def misfits(folder: Path) -> dict[str, bytes]:
    """Weights in PyTorch's own file, without a hash as before there were any: nothing in them but data, of another form than the run's."""
    good = torch.load(runs.checkpoint(folder), weights_only=True)
    state, how = good["state"], good["preprocess"]
    first = next(iter(state))
    odd: dict[str, Any] = {
        "another shape": {**good, "state": {**state, first: state[first][..., None]}},
        "another type": {**good, "state": {**state, first: state[first].to(torch.complex64)}},
        "another network's weights": {**good, "architecture": "convnet"},
        "a claim of 10 GB": {**good, "state": {**state, first: torch.zeros(1).expand(50_000, 50_000)}},
        "a tensor too many": {**good, "state": {**state, "backdoor": torch.zeros(1)}},
        "a tensor too few": {**good, "state": {n: t for n, t in state.items() if n != first}},
        "a class too many": {**good, "classes": [*good["classes"], "more"]},
        "an unknown network": {**good, "architecture": "os:system"},
        "a network that is no name": {**good, "architecture": ["os", "system"]},
        "an unknown key": {**good, "preprocess": {**how, "hook": "os.system"}},
        "code as a number": {**good, "preprocess": {**how, "crop": "__import__('os')"}},
        "negative pixels": {**good, "preprocess": {**how, "crop": -1}},
        "pictures of 8,192 pixels": {**good, "preprocess": {**how, "resize": 8192, "crop": 8192}},
        "code as layers": {**good, "architecture": "own", "layers": [{"kind": "__import__('os')"}]},
        "no state": {**good, "state": None},
        "a list": [good],
        "a tensor": state[first],
    }
    found = {}
    for name, value in odd.items():
        torch.save(value, out := io.BytesIO())
        found[name] = out.getvalue()
    return found


def trial(home: Path, _size: int) -> Row:
    row = Row(control="weights read without their hash, and settings that nobody looks at")
    canary = home.parent / "canary"
    with homes.moved_in(home):
        run_id, path = exported(home)
        folder, odd = runs.folder(run_id), home.parent / "odd.zip"
        files, before = files_of(path), set(home.rglob("*"))
        for name, some in hostile(files, canary).items():
            problem = refuses(lambda some=some: archive.import_now(packed(odd, some), "taken in"))  # type: ignore[misc]
            row.check(not problem and not canary.exists(), f"zip with {name}: {problem}")
        bomb = {name: data for name, data in files.items() if name != "SHA256SUMS"} | {"config.json": bytes(50_000_000)}
        for how in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            most = homes.peak_mb()
            odd.write_bytes(zips.lying(packed(odd, {"config.json": bomb["config.json"], **bomb}, how).read_bytes(), 1000))
            problem = refuses(lambda: archive.import_now(odd, "taken in"))
            row.check(not problem and homes.peak_mb() - most < GROWN, f"zip with a bomb as config, whose size lies, {how}: {problem}")
        left = {p for p in set(home.rglob("*")) - before if not p.name.startswith("loupe.db")}
        row.check(not left, f"left by refused zips: {sorted(map(str, left))[:3]}")
        lines = files["events.jsonl"] + b"".join(files["events.jsonl"].splitlines(keepends=True)[1:2] * 300_000)
        began = time.process_time()  # on a busy machine the clock measures the others
        many = {name: data for name, data in {**files, "events.jsonl": lines}.items() if name != "SHA256SUMS"}
        unpack.read(packed(odd, many, zipfile.ZIP_STORED), "many.zip")  # packed, equal lines would be taken for a bomb
        row.check((seconds := time.process_time() - began) < SLOW, f"300,000 lines of events take {seconds:.0f} s")
        whole, kept = runs.checkpoint(folder).read_bytes(), runs.hashes_path(folder).read_bytes()
        for hashes in (True, False):
            if not hashes:
                runs.hashes_path(folder).unlink()
            for name, data in tampered(folder, canary, hashes).items():
                runs.checkpoint(folder).write_bytes(data)
                problem = refuses(lambda: model.load(folder))
                row.check(not problem and not canary.exists(), f"best.pt, {name}: {problem}")
                runs.checkpoint(folder).write_bytes(whole)
        for name, data in misfits(folder).items():
            runs.checkpoint(folder).write_bytes(data)
            problem = refuses(lambda: model.load(folder))
            row.check(not problem, f"best.pt with {name}: {problem}")
        chance = random.Random(3)
        for _ in range(40):
            runs.checkpoint(folder).write_bytes(flipped(whole, chance.randrange(len(whole))))
            row.control_check(refuses(lambda: model.load(folder)) == "", "without their hash")
        too_large = hostile(files, canary)["pictures of 8,192 pixels"]
        with homes.replaced(images, "possible", lambda how: True):
            row.control_check(not refuses(lambda: unpack.read(packed(odd, too_large), "odd.zip")), "nobody looks")
        runs.checkpoint(folder).write_bytes(whole)
        runs.hashes_path(folder).write_bytes(kept)
        model.load(folder)
        last = runs.last_checkpoint(folder)
        runs.write_hashed(last, lambda tmp: torch.save({"state": {}}, tmp))
        whole = last.read_bytes()
        going: Any = SimpleNamespace(stages=[SimpleNamespace(train=SimpleNamespace(device="cpu"))])
        for name, data in {
            **tampered(folder, canary, False),
            **{f"bit {i}": flipped(whole, chance.randrange(len(whole))) for i in range(20)},
        }.items():
            last.write_bytes(data)
            problem = refuses(lambda: trainer.resume(folder, going))
            row.check(not problem and not canary.exists(), f"last.pt, {name}: {problem}")
        shutil.rmtree(folder)
    row.figures = f"no code ran; 300,000 lines of events in {seconds:.0f} s"
    return row
