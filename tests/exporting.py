"""Exports to ONNX that do not prepare anew what stays the same."""

from __future__ import annotations

import functools
import importlib
from contextlib import suppress

# What PyTorch imports at the first export only: 2 s of a core, in each process that exports. Another version may have other names.
LATE = (
    "torch.export._trace",
    "torch.onnx._internal.exporter._compat",
    "onnxscript._framework_apis.torch_2_11",
    "onnxscript.function_libs.torch_lib.ops",
)


@functools.cache
def prepare() -> None:
    """From here on PyTorch reads the source of its 497 operators for ONNX once in this process, and not at each export: 0.6 s of a core."""
    for module in LATE:
        with suppress(ImportError):
            importlib.import_module(module)
    with suppress(ImportError, AttributeError):
        registry = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
        registry.from_torchlib = staticmethod(functools.cache(registry.from_torchlib))
