"""A network drawn as blocks above the table of its layers; assets/network/network.js draws it, and builds one of one's own row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from core.train.anatomy import Block
from pages.shared import component

_DRAWING = component.component("network")


def drawing(picture: Mapping[str, int], blocks: Sequence[Block], rows: Sequence[Mapping[str, Any]], facts: str, *, key: str) -> None:
    """picture: channels and side; rows: {name, kind, detail, shape, parameters}; facts: one line under the drawing."""
    _DRAWING(
        key=key, data={"picture": dict(picture), "blocks": [asdict(b) for b in blocks], "rows": [dict(r) for r in rows], "facts": facts}
    )


def builder(
    picture: Mapping[str, int],
    blocks: Sequence[Block],
    rows: Sequence[Mapping[str, Any]],
    facts: str,
    layers: Sequence[Mapping[str, Any]],
    examples: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    key: str,
) -> list[dict[str, Any]] | None:
    """The layers as a person has changed them, None before any change; rows: {number, kind, title, shape, parameters, formula, problem}.

    layers are drawn at first, and say later what the rows belong to: what was typed since then waits for the next answer.
    """
    result = _DRAWING(
        key=key,
        data={
            "picture": dict(picture),
            "blocks": [asdict(b) for b in blocks],
            "rows": [dict(r) for r in rows],
            "facts": facts,
            "layers": [dict(one) for one in layers],
            "examples": {name: [dict(one) for one in some] for name, some in examples.items()},
        },
        on_layers_change=lambda: None,
    )
    return list(result.layers) if result.layers is not None else None
