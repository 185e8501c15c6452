"""One training on several processes, its ranks, each with a share of every batch; torchrun starts them."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
PATIENCE = timedelta(days=30)  # a rank waits for the others while the first one waits for its device; a death is noticed by the connection


@dataclass(frozen=True, eq=False)
class Ranks:
    """Who trains together; the first writes, and says what all do."""

    number: int = 0
    count: int = 1
    fast: dist.ProcessGroup | None = None  # NCCL, on GPUs; what the ranks agree on goes through gloo, without waiting for a GPU

    def on(self, device: torch.device) -> Ranks:
        """The same, with gradients going from GPU to GPU where they train on GPUs."""
        if self.count == 1 or device.type != "cuda":
            return self
        torch.cuda.set_device(device)
        return replace(self, fast=dist.new_group(backend="nccl", timeout=PATIENCE))

    @property
    def first(self) -> bool:
        return self.number == 0

    def agree(self, value: T) -> T:
        """What the first rank says; a point where all meet."""
        if self.count == 1:
            return value
        if isinstance(value, bool):  # asked at every step: an object goes as two messages, and pickled
            yes = torch.tensor([value])
            dist.broadcast(yes, src=0)
            return bool(yes)  # type: ignore[return-value]
        said = [value]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in their order."""
        if self.count == 1:
            return [value]
        found: list[T | None] = [None] * self.count
        dist.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    def total(self, values: Tensor) -> Tensor:
        """The sum over the ranks, on the CPU; of a rank alone, the values as they are."""
        if self.count == 1:
            return values
        values = values.cpu()
        dist.all_reduce(values)
        return values

    def share(self, batch: Tensor) -> Tensor:
        """This rank's part of (B, …) rows; sizes differ by one at most."""
        return batch if self.count == 1 else batch.tensor_split(self.count)[self.number]

    def joined(self, share: Tensor, count: int) -> Tensor:
        """(count, width) of every rank's (N, width) share, in the order that share() divided them by; on the CPU."""
        if self.count == 1:
            return share
        sizes = [len(part) for part in torch.empty(count, 0).tensor_split(self.count)]
        mine = torch.zeros(max(sizes), share.shape[1], dtype=share.dtype)  # gloo gathers what is equally large
        mine[: len(share)] = share
        parts = [torch.empty_like(mine) for _ in sizes]
        dist.all_gather(parts, mine)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def wrap(self, learner: nn.Module, device: torch.device) -> nn.Module:
        """The network with its gradients averaged over the ranks at every backward pass."""
        if self.count == 1 or not any(p.requires_grad for p in learner.parameters()):
            return learner
        devices = [device] if self.fast else None
        return nn.parallel.DistributedDataParallel(learner, devices, process_group=self.fast, gradient_as_bucket_view=True)

    def same_buffers(self, module: nn.Module) -> None:
        """Gives every rank the first one's statistics of batch normalisation: each has seen other images."""
        if self.count > 1:
            for buffer in module.buffers():
                held = buffer.cpu()
                dist.broadcast(held, src=0)
                buffer.copy_(held)

    def after_first(self, work: Callable[[], T]) -> T:
        """The first rank's work, then the others', who find on the disk what it has left there; it may fail, and then all leave."""
        if self.count == 1:
            return work()
        if not self.first:
            if not self.agree(True):
                raise SystemExit  # the first rank says why
            return work()
        try:
            found = work()
        except BaseException:
            self.agree(False)
            raise
        self.agree(True)
        return found

    def wait_for_first(self) -> None:
        """Until the first rank has ended: were another gone before it, torchrun would end them all."""
        with suppress(RuntimeError):
            dist.barrier()


ALONE = Ranks()


def join() -> Ranks:
    """Meets the others that torchrun has started."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"] and "GLOO_SOCKET_IFNAME" not in os.environ and (local := loopback()):
        os.environ["GLOO_SOCKET_IFNAME"] = local  # else by the host's name, which need not lead to itself
    dist.init_process_group("gloo", timeout=PATIENCE)
    return Ranks(dist.get_rank(), dist.get_world_size())


def loopback() -> str:
    """The name of the network interface that leads to this host itself; "" where there is none."""
    found = (
        name for name, held in psutil.net_if_addrs().items() if any(a.family == socket.AF_INET and a.address == "127.0.0.1" for a in held)
    )
    return next(found, "")


def gone(e: BaseException) -> bool:
    """Whether the error says that another rank has died."""
    return isinstance(e, dist.DistError | pickle.UnpicklingError) or (isinstance(e, RuntimeError) and "gloo" in str(e))
