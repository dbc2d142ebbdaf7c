"""The processes of a fit that are started on this machine by torch.multiprocessing, and watched over until they end."""

import logging
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import attrs
import torch
from torch.multiprocessing.spawn import ProcessExitedException, start_processes

from dynamo.contracts.errors import DynamoError, Interrupted
from dynamo.fit.fit import Fit
from dynamo.fit.job import Job, Listeners, Stage
from dynamo.fit.ranks import Ranks
from dynamo.fit.torch_processes import LostContactError, joined, memory, short_line
from dynamo.system.interrupts import interrupts
from dynamo.system.progress import Progress


@attrs.frozen
class _Advanced:
    """Rank 0 has come so far with a stage of the fit."""

    stage: Stage
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


def start(job: Job, ranks: Ranks, listeners: Listeners) -> Fit:
    """Start the ranks on this machine, watch over them, and read what they leave."""
    context = get_context("spawn")
    messages, stop = context.SimpleQueue(), context.RawValue("b", 0)
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
                    getattr(listeners, message.stage)(message.done, message.total, message.note)

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


def _pickled(job: Job) -> bytes:
    try:
        return pickle.dumps(job)
    except Exception as error:
        for base in job.population:
            try:
                pickle.dumps(base.model)
            except Exception as fault:
                raise DynamoError(
                    f"model {base.name!r} cannot be given to other processes: {short_line(fault)}; define its "
                    "class at the top level of a module, or save the population and load it"
                ) from None
        raise DynamoError(f"the population cannot be given to other processes: {short_line(error)}") from None


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

    def listener(stage: Stage, stopped: BaseException | None = None) -> Progress:
        """Tells the process that started this one; raises ``stopped`` where all are asked to stop."""

        def tell(done: int, total: int, note: str | float = "", /) -> None:
            nonlocal last
            if stopped is not None and told.stop.value:
                raise stopped
            if local == 0 and (done == total or monotonic() - last > 0.1):
                told.messages.put(_Advanced(stage, done, total, note))
                last = monotonic()

        return tell

    listeners = Listeners(
        recorded=listener("recorded", Interrupted("stopped while base models were recorded; nothing was saved")),
        fitted=listener("fitted"),
        measured=listener("measured", KeyboardInterrupt()),
    )
    try:
        job, meeting = _unpickled(place / "job"), f"file://{place}/meeting"
        device = ranks.device(job.options)
        with memory(local), joined(ranks, meeting, device, lambda: bool(told.stop.value)) as processes:
            job.run(processes, ranks, listeners)
    except LostContactError:
        return 1
    except DynamoError as error:
        told.messages.put(_Failed(local, error))
        return 2
    return 0


def _unpickled(path: Path) -> Job:
    try:
        job: Job = pickle.loads(path.read_bytes())
    except Exception as error:
        raise DynamoError(
            f"another process cannot rebuild the population: {short_line(error)}; define its classes in a module that "
            "can be imported, or save the population and load it"
        ) from None
    return job


def _end_with(sentinel: int, place: str) -> None:
    """Never outlive the process that started this one, and leave nothing of it behind if it was killed."""
    connection.wait([sentinel])
    shutil.rmtree(place, ignore_errors=True)
    os._exit(1)
