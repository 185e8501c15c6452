"""The public data sets that torchvision knows: its own files, fetched with progress, stop and a check of their md5."""

from __future__ import annotations

import hashlib
import socket
import tarfile
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import numpy as np
from torchvision import datasets

from core import processes
from core.errors import AppError, Invalid
from core.types import Progress, Split

BLOCK = 1 << 18  # bytes
TIMEOUT = 30  # seconds without an answer

IDX = {"MNIST": datasets.MNIST, "FashionMNIST": datasets.FashionMNIST}


def files(name: str) -> list[tuple[list[str], str]]:
    """(addresses to try in turn, md5) of each file of a data set."""
    if name == "CIFAR10":
        return [([datasets.CIFAR10.url], datasets.CIFAR10.tgz_md5)]
    if name not in IDX:
        raise Invalid(f"“{name}” is not a data set that can be downloaded.", f"Choose one of: {', '.join((*IDX, 'CIFAR10'))}.")
    return [([mirror + file for mirror in IDX[name].mirrors], md5) for file, md5 in IDX[name].resources]


def download(name: str, folder: Path, progress: Progress) -> Path:
    """Fetches what is not there yet into folder/name and returns that.

    progress: of the bytes of the file that is coming in. Raises AppError, without the network, naming the files to put there by hand.
    """
    wanted = files(name)
    folder = folder / name  # a folder each: Fashion-MNIST's files are called like MNIST's
    folder.mkdir(parents=True, exist_ok=True)
    for addresses, md5 in wanted:
        target = folder / file_name(addresses)
        if target.exists() and md5_of(target) == md5:
            continue
        problem = ""
        for address in addresses:
            problem = fetch(address, target, md5, progress)
            if not problem:
                break
        else:
            raise AppError(
                f"{name} could not be downloaded: {problem}.",
                f"Without the network, put these files into {folder}: {', '.join(file_name(a) for a, _ in wanted)}. "
                f"They come from {addresses[0].rpartition('/')[0]}/.",
            )
    return folder


def file_name(addresses: list[str]) -> str:
    return addresses[0].rpartition("/")[2]


def fetch(address: str, target: Path, md5: str, progress: Progress) -> str:
    """Writes target, whole and right, or nothing; returns what went wrong, "" if nothing."""
    part = processes.temporary(target)
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, open(part, "wb") as out:
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while block := answer.read(BLOCK):
                out.write(block)
                done += len(block)
                progress(done, max(done, total), target.name)
        if md5_of(part) != md5:
            return f"{target.name} came in damaged"
        part.replace(target)
        return ""
    except (OSError, HTTPException) as e:  # URLError and timeouts are OSErrors
        reason = getattr(e, "reason", None) or e
        if isinstance(reason, socket.gaierror):
            return f"the server {urllib.parse.urlsplit(address).hostname} is not found, perhaps for want of a network"
        return f"{target.name}: {getattr(reason, 'strerror', None) or reason}"
    finally:
        part.unlink(missing_ok=True)


def md5_of(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "md5").hexdigest()


def cifar10_arrays(folder: Path) -> Iterator[tuple[str, np.ndarray, str, Split]]:
    """(name, (32, 32, 3) uint8, label, split) of the 60,000 images of a downloaded CIFAR-10.

    Raises AppError if its files are missing or damaged.
    """
    try:
        if not (folder / datasets.CIFAR10.base_folder).is_dir():
            with tarfile.open(folder / datasets.CIFAR10.filename) as archive:
                archive.extractall(folder, filter="data")  # md5 was checked; the filter refuses paths outside
        halves: list[tuple[Split, datasets.CIFAR10]] = [
            ("train", datasets.CIFAR10(folder, train=True)),
            ("test", datasets.CIFAR10(folder, train=False)),
        ]
    except (OSError, tarfile.TarError, RuntimeError, EOFError, zlib.error) as e:
        raise AppError("CIFAR-10 cannot be read: its files are missing or damaged.", f"Delete {folder} and download it again.") from e
    for split, half in halves:
        for i, (pixels, number) in enumerate(zip(half.data, half.targets, strict=True), 1):
            yield f"{split}-{i:05d}.png", pixels, half.classes[number], split
