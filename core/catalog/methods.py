"""Attribution methods as data, collected from their files: the forms, the model worker and the tests read them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import core.ml.methods
from core.catalog.params import checked_settings
from core.errors import Invalid
from core.types import Method, Param


def _records() -> list[Method]:
    """In the order of display. The files import torch inside functions only, so that it stays out of the server's process."""
    files = pkgutil.iter_modules(core.ml.methods.__path__, "core.ml.methods.")
    return sorted((importlib.import_module(file.name).METHOD for file in files), key=lambda m: m.order)


METHODS: dict[str, Method] = {m.name: m for m in _records()}


def method(name: str) -> Method:
    if name not in METHODS:
        raise Invalid(f"There is no method called “{name}”.", f"Choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


def method_settings(name: str, values: Mapping[str, Any], layers: Sequence[str] = ()) -> dict[str, Any]:
    """Checked settings of an attribution method from partial values; all problems are reported at once.

    layers: those of the network, its default first; without them the choice is not checked.
    """
    facts = method(name)
    checked = checked_settings(facts.title, [with_layers(p, layers) for p in facts.params], values)
    if problem := facts.problem(checked):
        raise Invalid(f"Please correct the settings: {problem}")
    return checked


def passes(name: str, settings: Mapping[str, Any], height: int, width: int) -> int:
    """How often one picture goes through the network, about, forward and in a gradient method backward."""
    return method(name).passes(settings, height, width)


def with_layers(param: Param, layers: Sequence[str]) -> Param:
    """A choice among the layers of a network; any other parameter as it is."""
    return replace(param, options=tuple(layers), default=layers[0]) if param.name == "layer" and layers else param
