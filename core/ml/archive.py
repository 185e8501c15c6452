"""A run's network for other programs, and back: safetensors, ONNX, and the proof that both answer as the run does."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from core.data import images
from core.errors import Invalid
from core.ml import infer
from core.ml.model import build, describe, load, on_meta, save
from core.runs import runs
from core.types import Preprocess

NOISE = 4  # pictures of noise, for a run whose own pictures are not here
LIMIT = 1e-4  # largest difference between two probabilities for one and the same answer


def weights(run_folder: str, out: str) -> dict[str, Any]:
    """Writes the run's tensors as safetensors, which run no code; returns preprocess, epoch, number of parameters and shapes."""
    found = load(Path(run_folder))
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in found.model.state_dict().items()}
    save_file(tensors, out, {"format": "pt"})
    return {
        "preprocess": found.preprocess,
        "epoch": found.epoch,
        "parameters": sum(p.numel() for p in found.model.parameters()),
        "shapes": images.shapes(found.preprocess),
    }


def onnx(run_folder: str, out: str) -> str:
    """Writes the network as ONNX: images (N, C, H, W) float32 to logits (N, classes); returns "", or why it cannot be."""
    found = load(Path(run_folder))
    how = found.preprocess
    free: dict[int, Any] = {0: torch.export.Dim("n", min=1)}
    if how.rectangles:
        free |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    example = torch.zeros(2, how.channels, *images.shapes(how)[0])
    try:
        program = torch.onnx.export(
            found.model,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=(free,),
            verbose=False,
        )
        assert program is not None
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # the exporter's stack traces, with this machine's folders
        program.save(out)
    except Exception as e:  # the exporter raises whatever the layer it stumbles over makes it raise
        Path(out).unlink(missing_ok=True)
        reason = str(e).strip().partition("\n")[0][:200]
        return f"PyTorch's exporter cannot write this network as ONNX ({type(e).__name__}{': ' if reason else ''}{reason})."
    return ""


def parity(run_folder: str, archive: str, files: list[str], code: str) -> dict[str, Any]:
    """The archive's own code and ONNX file against the run's network in PyTorch, as Loupe asks it, picture by picture.

    archive: a folder with model.onnx and preprocessing.json; code: the file preprocess.py; no files: pictures of noise.
    """
    script = _script(code)
    found = infer.loaded(run_folder)
    how = json.loads((Path(archive) / "preprocessing.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(Path(archive) / "model.onnx", providers=["CPUExecutionProvider"])
    compared, logits, probabilities, agreed = 0, 0.0, 0.0, 0
    with tempfile.TemporaryDirectory() as made:
        for file in files or _noise(Path(made), found.preprocess):
            try:
                array = infer.read(file, found.preprocess)
            except Invalid:
                continue  # it was left out of the training too
            with torch.inference_mode():
                ours = found.model(infer.normalised([array], found.preprocess)).float().numpy()
            theirs = session.run(["logits"], {"images": script.images([file], how)})[0]
            expected = np.array(infer.probabilities(torch.from_numpy(ours)))
            logits = max(logits, float(np.abs(ours - theirs).max()))
            probabilities = max(probabilities, float(np.abs(expected - script.softmax(theirs)).max()))
            agreed += int(ours.argmax() == theirs.argmax())
            compared += 1
    return {
        "images": compared,
        "of": "pictures of the run" if files else "pictures of noise, for none of the run's is on this machine",
        "largest_difference_of_probabilities": probabilities,
        "largest_difference_of_logits": logits,
        "same_answer": agreed,
        "allowed_difference_of_probabilities": LIMIT,
        "passed": bool(compared) and probabilities <= LIMIT,  # NaN does not pass
        "pytorch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def _script(code: str) -> Any:
    spec = importlib.util.spec_from_file_location("preprocess", code)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def _noise(folder: Path, how: Preprocess) -> list[str]:
    random = np.random.default_rng(0)
    side = max(how.resize, how.crop)
    files = []
    for i in range(NOISE):
        (folder / f"{i}.png").write_bytes(images.png(random.integers(0, 256, (side, side, 3), dtype=np.uint8)))
        files.append(str(folder / f"{i}.png"))
    return files


def restore(run_folder: str, tensors: str, how: Preprocess, epoch: int | None) -> None:
    """Writes a run's checkpoint from safetensors; Invalid where they do not fit the network of its config.json."""
    folder = Path(run_folder)
    run = runs.load(folder)
    fits = f"model.safetensors does not fit the network of config.json ({run.config.architecture}, {len(run.classes)} classes)"
    try:
        state = load_file(tensors)
    except (SafetensorError, OSError, ValueError) as e:
        raise Invalid(f"model.safetensors is damaged: {str(e)[:200]}.", AGAIN) from None
    model = on_meta(lambda: build(run.config, len(run.classes), how, load_weights=False))  # no memory for what may be nonsense
    expected = model.state_dict()
    if problem := _difference({n: (t.dtype, t.shape) for n, t in expected.items()}, {n: (t.dtype, t.shape) for n, t in state.items()}):
        raise Invalid(f"{fits}: {problem}.", AGAIN)
    model.load_state_dict(state, assign=True)
    save(runs.checkpoint(folder), model, describe(run.config, run.classes, how, epoch))
    found = load(folder)
    try:
        with torch.inference_mode():
            answer = found.model(torch.zeros(1, how.channels, *images.shapes(how)[0]))
    except RuntimeError as e:
        raise Invalid(f"{fits}: {str(e).partition(chr(10))[0][:200]}.", AGAIN) from None
    if answer.shape != (1, len(run.classes)):
        raise Invalid(f"{fits}: it answers with {answer.shape[-1]} numbers.", AGAIN)


AGAIN = "Export the run again where it was trained."


def _difference(expected: dict[str, Any], given: dict[str, Any]) -> str:
    """The first thing in which two lists of tensors differ; "" if they are the same."""
    if missing := sorted(expected.keys() - given.keys()):
        return f"{len(missing)} tensors are missing, such as {missing[0]}"
    if surplus := sorted(given.keys() - expected.keys()):
        return f"{len(surplus)} tensors belong to no layer, such as {surplus[0][:80]}"
    for name, (dtype, shape) in expected.items():
        if given[name] != (dtype, shape):
            other = given[name]
            words = [f"{' × '.join(map(str, s)) or 'one number'} ({str(d).removeprefix('torch.')})" for d, s in ((dtype, shape), other)]
            return f"{name} should be {words[0]} and is {words[1]}"
    return ""
