"""The modules of core.ml as others may name them: what they hold is called in a model worker (core.runs.launch), never where it is named.

`launch.ask(infer.picture, path)` is checked by mypy against the real function, its arguments and its answer; at run time
`infer.picture` is only a name, since this process must not import torch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.ml import anatomy as anatomy
    from core.ml import archive as archive
    from core.ml import attribute as attribute
    from core.ml import devices as devices
    from core.ml import embed as embed
    from core.ml import erase as erase
    from core.ml import infer as infer
    from core.ml import inside as inside
    from core.ml import patterns as patterns
    from core.ml import preview as preview
    from core.ml import teach as teach
    from core.ml import trust as trust


@dataclass(frozen=True)
class Function:
    """A function by its name: calling it, which only the worker does, imports its module."""

    module: str
    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(self.module), self.name)(*args, **kwargs)


@dataclass(frozen=True)
class Module:
    name: str

    def __getattr__(self, name: str) -> Function:
        if name.startswith("__"):
            raise AttributeError(name)
        return Function(self.name, name)


def __getattr__(name: str) -> Module:
    if name.startswith("__"):
        raise AttributeError(name)
    return Module(f"core.ml.{name}")
