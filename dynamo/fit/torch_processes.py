"""The processes of a fit as torch.distributed has them: how they meet, what they tell one another, and what is said
where one of them is gone or has no memory left. Collectives run on gloo between CPUs and on NCCL between GPUs.
"""

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dynamo.contracts.errors import DynamoError
from dynamo.fit.ranks import Ranks
from dynamo.system.process_group import ProcessGroup

#: Seconds for which a rank that fails holds back: one that lost the others, so that these can say what happened, and
#: one beside rank 0, which speaks for all.
PATIENCE = {"lost": 20.0, "failed": 3.0}


class LostContactError(DynamoError):
    """Another rank is gone."""


class TorchProcesses(ProcessGroup):
    """The default process group of torch.distributed.

    Args:
        stop: asks all ranks to stop, beside what they are told themselves.
    """

    def __init__(self, stop: Callable[[], bool] = lambda: False) -> None:
        self.rank, self.size, self._stop = dist.get_rank(), dist.get_world_size(), stop

    def add(self, values: Tensor) -> None:
        """An all-reduce."""
        with contact(self.rank):
            dist.all_reduce(values)

    def any(self, flag: bool) -> bool:
        """An all-reduce of one number, between the CPUs."""
        flags = torch.tensor(float(flag or self._stop()))
        self.add(flags)
        return bool(flags)

    def gather(self, value: Any) -> list[Any]:
        """Pickled on the way; read by rank 0 of the same fit alone."""
        found: list[Any] = [None] * self.size
        with contact(self.rank):
            dist.gather_object(value, found if self.rank == 0 else None)
        return found if self.rank == 0 else []


#: What torch says where a rank has gone; its own classes of errors do not cover gloo's.
_GONE = re.compile("gloo|connection|closed by peer|broken pipe|timed? ?out|socket|store", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


@contextmanager
def memory(rank: int) -> Iterator[None]:
    """Say what to do where a rank has not memory enough."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, DynamoError) or not _is_out_of_memory(error):
            raise
        raise DynamoError(
            f"rank {rank} has run out of memory ({short_line(error)}): lower batch_size, or keep recordings on disk "
            "(recording disk)"
        ) from None


@contextmanager
def contact(rank: int) -> Iterator[None]:
    """Tell the loss of another rank from what goes wrong in this one."""
    try:
        yield
    except RuntimeError as error:
        is_lost = isinstance(error, dist.DistError) or _GONE.search(str(error))
        if _is_out_of_memory(error) or not is_lost:
            raise
        sleep(PATIENCE["lost"])  # whoever started the ranks ends this one sooner, and names the one that is gone
        raise LostContactError(
            f"rank {rank} has lost contact with another rank ({short_line(error)}); go on from the last checkpoint "
            "with --resume"
        ) from None


def short_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]


@contextmanager
def joined(ranks: Ranks, meeting: str, device: str, stop: Callable[[], bool] = lambda: False) -> Iterator[ProcessGroup]:
    """Meet the other ranks."""
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", init_method=meeting, rank=ranks.rank or 0, world_size=ranks.size
        )
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}" if meeting == "env://" else meeting
        hint = "the port is in use: choose another" if "EADDRINUSE" in str(error) else short_line(error)
        raise DynamoError(f"rank {ranks.rank} cannot meet the others at {where}: {hint}") from None
    try:
        if cuda:
            _check_devices(device)
        yield TorchProcesses(stop)
    finally:
        dist.destroy_process_group()


def _check_devices(device: str) -> None:
    """Check that no two ranks have the same GPU, which NCCL refuses in words of its own."""
    owned: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(owned, f"{socket.gethostname()} {torch.cuda.get_device_properties(device).uuid}")
    for rank, card in enumerate(owned):
        if owned.index(card) < rank:
            raise DynamoError(
                f"ranks {owned.index(card)} and {rank} have the same GPU: start as many processes on a machine as it "
                "has GPUs, each with one of its own"
            )
