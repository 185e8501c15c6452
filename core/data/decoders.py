"""Processes that decode strangers' files, and may die of them; they load no more than that needs, for an import waits for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from itertools import chain
from typing import Any

from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool

from core import processes
from core.data import alike, images
from core.errors import Invalid

SECONDS_PER_IMAGE = 20
DECODER_BYTES = 4 << 30  # address space of a decoder process


def _start_decoder(parent: int) -> None:
    processes.live_with(parent)  # an import that is killed would leave its decoders for as long as loky lets them wait: over a minute
    processes.confine(DECODER_BYTES)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _examine(examine: Callable[[bytes], images.Examined], batch: list[bytes], seconds: float) -> list[images.Examined | str]:
    found: list[images.Examined | str] = []
    for data in batch:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            examined = examine(data)
            found.append(replace(examined, grey=alike.small_grey(examined.thumb)))
        except Invalid as e:
            found.append(str(e))
        except Exception as e:  # a damaged file can raise anything; it must cost only itself
            found.append(f"The image cannot be read: its contents are damaged ({type(e).__name__}).")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return found


class Decoders:
    """A pool of decoder processes that is replaced when one of them dies; started only when the first file comes."""

    idle: int | None = None  # seconds without a file after which its processes end

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None

    def submit(self, batch: list[bytes]) -> Future[Any]:
        try:
            return self._submit(batch)
        except BrokenProcessPool:
            self._close()
            return self._submit(batch)

    def _submit(self, batch: list[bytes]) -> Future[Any]:
        if self._pool is None:
            # loky: the standard spawning pool would run the caller's main script again in every process
            self._pool = ProcessPoolExecutor(os.cpu_count() or 1, timeout=self.idle, initializer=_start_decoder, initargs=(os.getpid(),))
        future: Future[Any] = self._pool.submit(_examine, images.examine, batch, SECONDS_PER_IMAGE)
        return future

    def results(self, future: Future[Any], batch: list[bytes]) -> Iterable[images.Examined | str]:
        """What was found for each file; the file that kills its decoder is named, all others are tried again."""
        try:
            found: list[images.Examined | str] = future.result()
            return found
        except BrokenProcessPool:
            return list(chain.from_iterable(self._alone(data) for data in batch))

    def _alone(self, data: bytes) -> list[images.Examined | str]:
        try:
            found: list[images.Examined | str] = self.submit([data]).result()
            return found
        except BrokenProcessPool:
            return [f"Decoding it crashed, or took more than {SECONDS_PER_IMAGE} s or {DECODER_BYTES >> 30} GB of memory."]
