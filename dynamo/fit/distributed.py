"""A fit by many processes, on one machine or several, through torch.distributed.

On one machine the processes are started here (torch.multiprocessing); on several by ``torchrun``, or by any launcher
that sets its environment variables. Collectives run on gloo between CPUs and on NCCL between GPUs.
"""

import logging
import os
import pickle
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from time import monotonic, sleep
from types import FrameType
from typing import Any, Literal

import attrs
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, start_processes

from dynamo.contracts.errors import DynamoError, Interrupted
from dynamo.fit.fit import Fit
from dynamo.fit.ranks import Ranks
from dynamo.fit.run_folder import save_fit
from dynamo.population.population import Population
from dynamo.system.interrupts import interrupts
from dynamo.system.process_group import ProcessGroup, SingleProcess
from dynamo.system.progress import Progress, silent
from dynamo.training.checkpoint import gather_emulator
from dynamo.training.options import FitOptions
from dynamo.training.trainer import Trainer

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
        with _contact(self.rank):
            dist.all_reduce(values)

    def any(self, flag: bool) -> bool:
        """An all-reduce of one number, between the CPUs."""
        flags = torch.tensor(float(flag or self._stop()))
        self.add(flags)
        return bool(flags)

    def gather(self, value: Any) -> list[Any]:
        """Pickled on the way; read by rank 0 of the same fit alone."""
        found: list[Any] = [None] * self.size
        with _contact(self.rank):
            dist.gather_object(value, found if self.rank == 0 else None)
        return found if self.rank == 0 else []


#: What torch says where a rank has gone; its own classes of errors do not cover gloo's.
_GONE = re.compile("gloo|connection|closed by peer|broken pipe|timed? ?out|socket|store", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


@contextmanager
def _memory(rank: int) -> Iterator[None]:
    """Say what to do where a rank has not memory enough."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, DynamoError) or not _is_out_of_memory(error):
            raise
        raise DynamoError(
            f"rank {rank} has run out of memory ({_line(error)}): lower batch_size, or keep recordings on disk "
            "(recording disk)"
        ) from None


@contextmanager
def _contact(rank: int) -> Iterator[None]:
    """Tell the loss of another rank from what goes wrong in this one."""
    try:
        yield
    except RuntimeError as error:
        is_lost = isinstance(error, dist.DistError) or _GONE.search(str(error))
        if _is_out_of_memory(error) or not is_lost:
            raise
        sleep(PATIENCE["lost"])  # whoever started the ranks ends this one sooner, and names the one that is gone
        raise LostContactError(
            f"rank {rank} has lost contact with another rank ({_line(error)}); go on from the last checkpoint with "
            "--resume"
        ) from None


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def fit(
    population: Population,
    options: FitOptions | None = None,
    ranks: Ranks | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    folder: Path | None = None,
    recorded: Progress = silent,
    progress: Progress = silent,
    out: Path | None = None,
) -> Fit:
    """Fit a meta-model with as many processes as are asked for. What comes out is that of one process but for rounding.

    Where :func:`fit` starts processes, the calling script must be one that can be imported (``if __name__ ==
    "__main__":`` around what it does), and its live models must be instances of classes that an import finds.

    Args:
        population: the base models.
        options: how to fit.
        ranks: the processes; one where it is None.
        checkpoint: where to save on the way and on Ctrl-C.
        resume: go on from the checkpoint; the number of processes may have changed.
        folder: for recordings on disk.
        recorded: called with (model, models) after recordings of rank 0.
        progress: called with (step, steps, loss), not necessarily after each step.
        out: the run folder to save the fit in, each process the V_n and θ_n of its own models, so that none needs room
            for all; nothing is saved where it is None.

    Returns:
        The fit. Where a launcher has started the processes, it is whole at rank 0 alone: the others have the V_n and
        θ_n of their own models.

    Raises:
        Interrupted: Ctrl-C; the message says where the checkpoint is.
        DynamoError: what :class:`~dynamo.training.trainer.Trainer` finds; processes that cannot share the fit, cannot
            be given the base models, cannot meet, or die.
    """
    ranks, job = ranks or Ranks(), _Job(population, options or FitOptions(), checkpoint, resume, folder, out)
    ranks.check(population, job.options)
    if ranks.size == 1:
        return job.run(SingleProcess(), ranks, recorded, progress)
    if ranks.rank is None:
        return _start(job, ranks, recorded, progress)
    try:
        with _memory(ranks.rank), _joined(ranks, "env://", ranks.device(job.options)) as processes:
            told = (silent, silent) if ranks.rank else (recorded, progress)
            fitted = job.run(processes, ranks, *told)
        return fitted if out is None or ranks.rank else Fit.load(out)
    except DynamoError:
        sleep(PATIENCE["failed"] if ranks.rank else 0)
        raise


@attrs.frozen(eq=False)
class _Job:
    """What every rank is told."""

    population: Population
    options: FitOptions
    checkpoint: Path | str | None
    resume: bool
    folder: Path | None
    out: Path | None

    def run(self, processes: ProcessGroup, ranks: Ranks, recorded: Progress, progress: Progress) -> Fit:
        """A rank's work."""
        options = attrs.evolve(self.options, device=ranks.device(self.options))
        trainer = Trainer(self.population, options, processes=processes)
        if self.resume and self.checkpoint is not None:
            trainer.resume(self.checkpoint)
        trainer.record(self.folder, recorded)
        trainer.run(self.checkpoint, progress)
        fitted = attrs.evolve(Fit.of(trainer), options=self.options)
        if self.out is None:
            return attrs.evolve(fitted, emulator=gather_emulator(trainer.emulator, processes))
        save_fit(fitted, self.out, processes)
        return attrs.evolve(fitted, folder=self.out)


@contextmanager
def _joined(
    ranks: Ranks, meeting: str, device: str, stop: Callable[[], bool] = lambda: False
) -> Iterator[ProcessGroup]:
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
        hint = "the port is in use: choose another" if "EADDRINUSE" in str(error) else _line(error)
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


@attrs.frozen
class _Advanced:
    """Rank 0 has come so far with a stage of the fit."""

    stage: Literal["recorded", "progress"]
    done: int
    total: int
    note: str | float


@attrs.frozen
class _Failed:
    """A rank ends with an error."""

    rank: int
    error: DynamoError


@attrs.frozen
class _Started:
    """What a process that is started here is told.

    Attributes:
        place: the folder with the job; the ranks meet there, and rank 0 leaves the fit there.
        ranks: all of them.
        threads: for each.
        messages: a queue of :class:`_Advanced` and :class:`_Failed`.
        stop: a shared truth value that asks all to stop.
    """

    place: str
    ranks: Ranks
    threads: int
    messages: Any
    stop: Any


def _start(job: _Job, ranks: Ranks, recorded: Progress, progress: Progress) -> Fit:
    """Start the ranks on this machine, watch over them, and read what they leave."""
    context = get_context("spawn")
    messages, stop = context.SimpleQueue(), context.RawValue("b", 0)
    listeners = {"recorded": recorded, "progress": progress}
    with _ending(), tempfile.TemporaryDirectory(prefix="dynamo-") as name, interrupts() as interrupted:
        place = Path(name)
        out = job.out or place / "fit"
        (place / "job").write_bytes(_pickled(attrs.evolve(job, out=out)))
        threads = max(1, torch.get_num_threads() // ranks.size)
        with _deaf():
            told = _Started(str(place), ranks, threads, messages, stop)
            started = start_processes(_rank, (told,), ranks.size, join=False)  # type: ignore[no-untyped-call]
        failures: dict[int, DynamoError] = {}

        def listen() -> None:
            while not messages.empty():
                message: _Advanced | _Failed = messages.get()
                if isinstance(message, _Failed):
                    failures[message.rank] = message.error
                else:
                    listeners[message.stage](message.done, message.total, message.note)

        try:
            while not started.join(timeout=0.1):
                stop.value = interrupted.is_set()
                listen()
            listen()
        except ProcessExitedException as error:
            listen()
            raise failures.get(error.error_index) or _death(error, job.checkpoint) from None
        finally:
            for process in started.processes:
                process.kill()
                process.join()
        found = Fit.load(out)
        if job.out is None:  # it is read while it is there
            return attrs.evolve(found, emulator=deepcopy(found.emulator), folder=None)
        return found


def _death(error: ProcessExitedException, checkpoint: Path | str | None) -> DynamoError:
    how = f"was killed by {error.signal_name}" if error.signal_name else f"ended with exit code {error.exit_code}"
    there = checkpoint is not None and Path(checkpoint).exists()
    last = f"go on from {checkpoint} with --resume" if there else "no checkpoint was saved yet"
    return DynamoError(f"rank {error.error_index} {how}, and the fit with it; {last}")


@contextmanager
def _ending() -> Iterator[None]:
    """A request to end, as batch systems and closed terminals send it, ends the ranks and takes away what is temporary
    first. Whoever has chosen what it does keeps that.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    chosen = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in chosen:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in chosen:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started here do not hear Ctrl-C until they listen for it; torch does not speak of those that
    it ends.
    """
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _pickled(job: _Job) -> bytes:
    try:
        return pickle.dumps(job)
    except Exception as error:
        for base in job.population:
            try:
                pickle.dumps(base.model)
            except Exception as fault:
                raise DynamoError(
                    f"model {base.name!r} cannot be given to other processes: {_line(fault)}; define its class at the "
                    "top level of a module, or save the population and load it"
                ) from None
        raise DynamoError(f"the population cannot be given to other processes: {_line(error)}") from None


def _rank(local: int, told: _Started) -> None:
    """What a started process does. It ends without Python's own ending, where a thread of a library that still waits
    for the interpreter would abort the process and, with it, a fit that is done (PyTorch's issue 38228).
    """
    code = _work(local, told)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _work(local: int, told: _Started) -> int:
    """A started rank's work, and its exit code."""
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel, told.place), daemon=True).start()
    torch.set_num_threads(told.threads)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    ranks, place, last = attrs.evolve(told.ranks, rank=local, local=local), Path(told.place), 0.0

    def recorded(done: int, total: int, note: str | float = "", /) -> None:
        if told.stop.value:
            raise Interrupted("stopped while base models were recorded; nothing was saved")
        if local == 0:
            told.messages.put(_Advanced("recorded", done, total, note))

    def progress(done: int, total: int, note: str | float = "", /) -> None:
        nonlocal last
        if local == 0 and (done == total or monotonic() - last > 0.1):
            told.messages.put(_Advanced("progress", done, total, note))
            last = monotonic()

    try:
        job, meeting = _unpickled(place / "job"), f"file://{place}/meeting"
        device = ranks.device(job.options)
        with _memory(local), _joined(ranks, meeting, device, lambda: bool(told.stop.value)) as processes:
            job.run(processes, ranks, recorded, progress)
    except LostContactError:
        return 1
    except DynamoError as error:
        told.messages.put(_Failed(local, error))
        return 2
    return 0


def _unpickled(path: Path) -> _Job:
    try:
        job: _Job = pickle.loads(path.read_bytes())
    except Exception as error:
        raise DynamoError(
            f"another process cannot rebuild the population: {_line(error)}; define its classes in a module that "
            "can be imported, or save the population and load it"
        ) from None
    return job


def _end_with(sentinel: int, place: str) -> None:
    """Never outlive the process that started this one, and leave nothing of it behind if it was killed."""
    connection.wait([sentinel])
    shutil.rmtree(place, ignore_errors=True)
    os._exit(1)
