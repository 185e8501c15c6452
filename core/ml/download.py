"""The public data sets that torchvision knows: its own files, fetched with progress, stop and a check of their md5."""

from __future__ import annotations

import hashlib
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from torchvision import datasets

from core.errors import AppError, Invalid
from core.types import Split

BLOCK = 1 << 18  # bytes
TIMEOUT = 30  # seconds without an answer

Progress = Callable[[int, int], None]  # (bytes so far, bytes in all) of the file that is coming in

IDX = {"MNIST": datasets.MNIST, "FashionMNIST": datasets.FashionMNIST}


def files(name: str) -> list[tuple[list[str], str]]:
    """(addresses to try in turn, md5) of each file of a data set."""
    if name == "CIFAR10":
        return [([datasets.CIFAR10.url], datasets.CIFAR10.tgz_md5)]
    if name not in IDX:
        raise Invalid(f"“{name}” is not a data set that can be downloaded.", f"Choose one of: {', '.join((*IDX, 'CIFAR10'))}.")
    return [([mirror + file for mirror in IDX[name].mirrors], md5) for file, md5 in IDX[name].resources]


def download(name: str, folder: Path, progress: Progress, stopped: Callable[[], bool]) -> Path:
    """Fetches what is not there yet into folder and returns it; a stop leaves a .part file.

    Raises AppError, without the network, naming the files to put there by hand.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = files(name)
    for addresses, md5 in wanted:
        target = folder / addresses[0].rpartition("/")[2]
        if target.exists() and md5_of(target) == md5:
            continue
        problems = [problem for address in addresses if not stopped() and (problem := fetch(address, target, md5, progress, stopped))]
        if stopped():
            return folder
        if not target.exists() or len(problems) == len(addresses):
            names = ", ".join(a[0].rpartition("/")[2] for a, _ in wanted)
            raise AppError(
                f"{name} could not be downloaded: {problems[-1]}.",
                f"Without the network, put these files into {folder}: {names}. They come from {addresses[0].rpartition('/')[0]}/.",
            )
    return folder
