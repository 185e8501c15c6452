"""Seconds per attribution method and picture, beside plain calls of Captum with the same settings: python -m tests.benchmarks attribution.

    python -m tests.benchmarks.explaining [--network efficientnet_lite0] [--side 224]

Plain calls are those of tests/ml/plain.py: the network as it is built, Captum's defaults. Methods that only cover parts are asked for
two classes, which is what a page asks for first.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import torch

from core.catalog import methods
from core.ml import attribute, forward_passes
from core.ml.methods.occlusion import window
from core.ml.model import LoadedModel
from tests.benchmarks.rows import REPEATS, Row, in_turns, seconds
from tests.ml.plain import PLAIN, network, pictures, plain_call

# What the plain call gets wrong in a network of ReLU6, and so saves.
WRONG = {"deep_lift": ", whose parts do not sum", "guided_grad_cam": ", which passes over ReLU6"}


def compared(found: LoadedModel, as_built: LoadedModel, method: str, side: int, classes: int) -> Row:
    """The plain call is left out where it fails."""
    settings = methods.method_settings(method, {})
    if method == "occlusion":
        settings["window"], settings["stride"] = window(settings, side, side)
    if method == "integrated_gradients":
        settings["steps"] = 50  # Captum's own number: it cannot choose by itself
    turn = 0

    def asked(call: Callable[[torch.Tensor, int], object]) -> float:
        nonlocal turn
        turn += 1
        forward_passes._remembered.clear()
        x = pictures(1, side) + turn / 1000  # another picture, of which nothing is remembered
        return seconds(lambda: [call(x.clone(), target) for target in range(classes)])

    def loupe(x: torch.Tensor, target: int) -> object:
        return attribute.maps(found, x, method, [target], settings)

    def plain(x: torch.Tensor, target: int) -> object:
        return plain_call(as_built, x.requires_grad_(), method, target, settings)

    ways = {"Loupe": partial(asked, loupe)}
    with suppress(Exception):
        if method in PLAIN:
            plain(pictures(1, side), 0)  # each library has its own way to fail
            ways["plain Captum" + WRONG.get(method, "")] = partial(asked, plain)
    loupe(pictures(1, side), 0)
    passes = methods.passes(method, settings, side, side)
    n = f"{classes} class{'es' * (classes > 1)} of one picture at {side}, {passes} pass{'es' * (passes > 1)} each"
    return Row(methods.METHODS[method].title, n, "1.0 × plain Captum" if classes == 1 else "2 × plain Captum", "s", in_turns(ways, REPEATS))


def measure(name: str = "efficientnet_lite0", side: int = 224) -> Iterator[Row]:
    """Of two classes those methods that ask the same for both."""
    warnings.simplefilter("ignore")
    found, as_built = network(name, side), network(name, side)
    found.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # as core.ml.infer serves it
    for method in methods.METHODS:
        attribute.unsupported(found, method)  # which a run is asked before its first map
    for method, facts in methods.METHODS.items():
        if not attribute.unsupported(found, method):
            if facts.gradient:
                yield compared(found, as_built, method, side, 1)
            else:
                yield compared(found, as_built, method, side, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--side", type=int, default=224)
    args = parser.parse_args()
    print(f"{args.network} at {args.side} × {args.side}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for row in measure(args.network, args.side):
        print(f"{row.work}, {row.n}: {row.measured}", flush=True)


if __name__ == "__main__":
    main()
