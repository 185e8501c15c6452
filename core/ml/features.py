"""A frozen backbone is run once: its features are kept on disk, and epochs train a head in milliseconds."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor, nn

from core.ml.data import Normalise, Pixels, RowCache, Tick, ahead
from core.ml.model import head_of, set_module
from core.runs import runs
from core.settings import settings
from core.types import Architecture, Preprocess

BATCH = 32  # images; about 0.2 s of two CPU cores, so progress and stop stay lively
EXPORT_PAYS = 200  # images from which the export to ONNX, 7 to 13 s and only once, is soon earned back
KEPT = 16  # exported networks, the last used; at 224 pixels 13 MB (EfficientNet-Lite0) to 550 MB (VGG-16) each

Forward = Callable[[Tensor], np.ndarray]  # (B, C, S, S) float32 on the device -> (B, F) float32


def run_once(
    model: nn.Module,
    arch: Architecture,
    preprocess: Preprocess,
    pixels: Pixels,
    cache_folder: Path,
    dataset_id: int,
    device: torch.device,
    progress: Tick,
) -> tuple[np.ndarray, np.ndarray]:
    """The head's input for every image: all cached rows (M, F) float32, and the (N,) row of each image.

    Full precision: the same image gives the same answer later, through the whole network on another device.
    """
    head = head_of(model, arch)
    place = {row.image_id: (int(p), int(i)) for row, p, i in zip(pixels.rows, pixels.part, pixels.index, strict=True)}
    normalise = Normalise(preprocess, device)

    def compute(missing: list[str]) -> Iterator[tuple[list[str], np.ndarray]]:
        for number, source in enumerate(pixels.sources):
            of_one_shape = [i for i in missing if place[i][0] == number]
            batch = torch.empty(min(BATCH, len(of_one_shape)), *source.shape[1:], device=device)
            for start in range(0, len(of_one_shape), BATCH):
                some = of_one_shape[start : start + BATCH]
                ahead(source, np.array([place[i][1] for i in of_one_shape[start : start + 2 * BATCH]]))
                x = torch.from_numpy(source[[place[i][1] for i in some]]).to(device)
                yield some, forward(normalise(x, batch))

    cache = cache_of(model, arch, preprocess, cache_folder, dataset_id)
    set_module(model, arch.head, nn.Identity())
    try:
        model.eval().to(device)
        if count := len(place.keys() - cache.read()[1].keys()):
            forward = fastest(model, preprocess, device, count)
        return cache.fetch([row.image_id for row in pixels.rows], compute, progress)
    finally:
        set_module(model, arch.head, head.to(device))


def cache_of(model: nn.Module, arch: Architecture, preprocess: Preprocess, cache_folder: Path, dataset_id: int) -> RowCache:
    """Where the features are kept that the network, with its head, gives of a dataset's images."""
    weights = hashlib.sha256(repr((arch.factory, arch.weights, preprocess)).encode()).hexdigest()[:12]
    name = f"{dataset_id}-features-{arch.name.replace(':', '-')}-{weights}"
    return RowCache(cache_folder, name, (head_of(model, arch).in_features,), "float32")


def fastest(model: nn.Module, preprocess: Preprocess, device: torch.device, count: int) -> Forward:
    """The network as a function; ONNX Runtime where it is worth it.

    EfficientNet-Lite0 at 224 on two cores: 26 to 34 images/s with PyTorch, 150 to 190 with ONNX Runtime.
    """
    if device.type == "cpu" and count >= EXPORT_PAYS and not preprocess.rectangles:
        try:
            return by_onnx(model, preprocess)
        except Exception:  # whatever the exporter cannot do, PyTorch can: the same numbers, more slowly
            pass
    return by_torch(model)


def by_torch(model: nn.Module) -> Forward:
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(x: Tensor) -> np.ndarray:
        with torch.inference_mode():
            features: np.ndarray = model(x.contiguous(memory_format=torch.channels_last)).float().cpu().numpy()
        return features

    return forward


def by_onnx(model: nn.Module, preprocess: Preprocess) -> Forward:
    """The network, on the CPU and in evaluation mode, exported for any number of images once and kept on disk.

    EfficientNet-Lite0: 13 s to export, 0.2 s to read again.
    """
    example = torch.rand(2, preprocess.channels, preprocess.crop, preprocess.crop, generator=torch.Generator().manual_seed(0))
    path = settings().cache / "onnx" / f"{_sign(model, example)}.onnx"
    if (forward := _kept(path, model, example)) is not None:
        return forward
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.parent / "export.lock"):  # of all networks: on a few cores two exports at once take as long as one by one
        return _kept(path, model, example) or _export(path, model, example)


def _kept(path: Path, model: nn.Module, example: Tensor) -> Forward | None:
    """The export that lies there; None if there is none, or it is damaged, of another network, or answers otherwise: it is written anew."""
    with contextlib.suppress(Exception):
        forward = _session(path.read_bytes(), model, example)
        os.utime(path)
        return forward
    return None


def _export(path: Path, model: nn.Module, example: Tensor) -> Forward:
    any_number = ({0: torch.export.Dim("images", min=1)},)
    program = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=any_number, verbose=False)
    assert program is not None
    exported = program.model_proto.SerializeToString()
    forward = _session(exported, model, example)
    runs.write_atomically(path, lambda tmp: tmp.write_bytes(exported))
    for old in sorted(path.parent.glob("*.onnx"), key=lambda p: p.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    return forward


def is_exported(model: nn.Module, preprocess: Preprocess) -> bool:
    """Whether by_onnx has the network on disk."""
    example = torch.empty(2, preprocess.channels, preprocess.crop, preprocess.crop)
    return (settings().cache / "onnx" / f"{_sign(model, example)}.onnx").exists()


def _sign(model: nn.Module, example: Tensor) -> str:
    """Of what the exported network depends on: layers, weights, input, PyTorch."""
    sign = hashlib.sha256(repr((str(model), example.shape, torch.__version__)).encode())
    for name, value in model.state_dict().items():
        sign.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return sign.hexdigest()[:32]


def _session(exported: bytes, model: nn.Module, example: Tensor) -> Forward:
    """The exported network as a function; a ValueError if it does not answer the example as the network does."""
    import onnxruntime  # type: ignore[import-untyped]  # a quarter of a second that a network whose convolutions learn need not wait for

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait by spinning take the cores from the pages: on a busy machine 42 images/s without, 26 with it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def forward(x: Tensor) -> np.ndarray:
        features: np.ndarray = session.run(None, {name: x.numpy()})[0]
        return features

    with torch.inference_mode():
        expected = model(example).numpy()
    if not np.allclose(forward(example), expected, rtol=1e-3, atol=1e-3 * float(np.abs(expected).max())):
        raise ValueError("the exported network answers otherwise")  # any network of two libraries comes here
    return forward
