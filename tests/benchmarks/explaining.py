"""Seconds per attribution method and picture, beside plain calls of Captum with the same settings, in one run.

    python -m tests.benchmarks.explaining [--network efficientnet_lite0] [--side 224] [--repeats 3]

Both take turns, and each keeps its best time, so that what else the machine does weighs little. Plain calls are those of
tests/ml/plain.py: the network as it is built, Captum's defaults. Two classes is what a page asks for first.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import torch

from core.catalog import methods
from core.ml import attribute, forward_passes
from core.ml.methods.occlusion import window
from core.ml.model import LoadedModel
from tests.ml.plain import PLAIN, network, pictures, plain_call


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compared(found: LoadedModel, as_built: LoadedModel, method: str, side: int, repeats: int) -> tuple[dict[str, float], str]:
    """The best seconds of each way, and why the plain call failed."""
    settings = methods.method_settings(method, {})
    if method == "occlusion":
        settings["window"], settings["stride"] = window(settings, side, side)
    best: dict[str, float] = {}
    problem = ""
    for turn in range(repeats):
        x = pictures(1, side) + turn / 1000  # another picture, of which nothing is remembered

        def plain(classes: int, x: torch.Tensor = x) -> None:
            for target in range(classes):
                plain_call(as_built, x.clone().requires_grad_(), method, target, settings)

        def loupe(classes: int, x: torch.Tensor = x) -> None:
            for target in range(classes):
                attribute.maps(found, x, method, [target], settings)

        for classes in (1, 2):
            forward_passes._remembered.clear()
            ways: list[tuple[str, Callable[[int], None]]] = [("loupe", loupe)]
            if not problem and method in PLAIN:
                ways.append(("plain", plain))
            for way, work in ways:
                try:
                    took = seconds(lambda work=work, classes=classes: work(classes))  # type: ignore[misc]
                except Exception as e:
                    problem = f"{type(e).__name__}"
                    continue
                best[f"{way}{classes}"] = min(took, best.get(f"{way}{classes}", took))
    return best, problem


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    found, as_built = network(args.network, args.side), network(args.network, args.side)
    found.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # as core.ml.infer serves it
    print(
        f"{args.network} at {args.side} × {args.side}, {torch.get_num_threads()} threads, torch {torch.__version__}, best of {args.repeats}"
    )
    print(f"{'method':22}{'passes':>7}{'plain':>9}{'Loupe':>9}{'ratio':>7}   two classes:{'plain':>9}{'Loupe':>9}{'ratio':>7}")
    for method in methods.METHODS:
        if why := attribute.unsupported(found, method):
            print(f"{method:22} {why}")
            continue
        best, problem = compared(found, as_built, method, args.side, args.repeats)
        count = methods.passes(method, methods.method_settings(method, {}), args.side, args.side)
        line = f"{method:22}{count:7}"
        for classes in (1, 2):
            ours, plain = best[f"loupe{classes}"], best.get(f"plain{classes}")
            line += " " * 15 * (classes == 2) + (f"{plain:8.3f}s" if plain else f"{'fails':>9}")
            line += f"{ours:8.3f}s" + (f"{plain / ours:6.1f}×" if plain else " " * 7)
        print(line + (f"   {problem}" if problem else ""), flush=True)


if __name__ == "__main__":
    main()
