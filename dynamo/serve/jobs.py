"""Heavy work beside the server: each job in a process of its own, so that it can be stopped at any time and slows no
answer down.
"""

import secrets
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any, Literal

import attrs

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.serve.work import Work, work

State = Literal["waiting", "running", "done", "failed", "cancelled"]

#: Jobs that run at a time, that may wait, and that are remembered when they have ended.
RUNNING, WAITING, KEPT = 1, 8, 32

_ENDED = ("done", "failed", "cancelled")


@attrs.define(eq=False)
class Job:
    """A piece of heavy work.

    Attributes:
        key: by which it is asked for.
        work: what is to be done.
        state: how far it is.
        done, total: steps; total is 0 where it is not known.
        note: what there is to say: what is being done, or why it failed.
        parts: what there was to show before the end, plain values for JSON.
        result: what came out, the same.
    """

    key: str
    work: Work
    state: State = "waiting"
    done: int = 0
    total: int = 0
    note: str = ""
    parts: list[Mapping[str, Any]] = attrs.field(factory=list)
    result: Mapping[str, Any] | None = None
    process: Any = attrs.field(default=None, repr=False)

    __repr__ = brief

    def answer(self) -> dict[str, Any]:
        """For the browser."""
        return {
            "job": self.key,
            "kind": self.work.kind,
            **{name: getattr(self, name) for name in ("state", "done", "total", "note", "parts", "result")},
        }


class Jobs:
    """The jobs of a server. Browsers share them."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = Lock()

    def start(self, asked: Work) -> Job:
        """Begin a piece of work, or let it wait for its turn.

        Raises:
            DynamoError: too many wait already.
        """
        with self._lock:
            if sum(job.state == "waiting" for job in self._jobs.values()) >= WAITING:
                raise DynamoError(f"{WAITING} jobs wait already: cancel one, or try again later")
            job = Job(secrets.token_hex(8), asked)
            self._jobs[job.key] = job
            ended = [key for key, other in self._jobs.items() if other.state in _ENDED]
            for key in ended[: max(0, len(ended) - KEPT)]:
                del self._jobs[key]
        self._next()
        return job

    def get(self, key: str) -> Job:
        """A job.

        Raises:
            DynamoError: there is none of that key.
        """
        with self._lock:
            if key not in self._jobs:
                raise DynamoError("there is no such job, or it ended long ago")
            return self._jobs[key]

    def all(self) -> list[Job]:
        """Those that are remembered, the oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def cancel(self, key: str) -> Job:
        """Stop a job. One that has ended stays as it is.

        Raises:
            DynamoError: there is none of that key.
        """
        job = self.get(key)
        with self._lock:
            if job.state not in _ENDED:
                job.state, job.note = "cancelled", ""
            if job.process is not None:
                job.process.terminate()
        self._next()
        return job

    def close(self) -> None:
        """Stop all."""
        for job in self.all():
            self.cancel(job.key)

    def _next(self) -> None:
        """Start what waits, while there is room."""
        with self._lock:
            running = sum(job.state == "running" for job in self._jobs.values())
            waiting = [job for job in self._jobs.values() if job.state == "waiting"]
            for job in waiting[: max(0, RUNNING - running)]:
                job.state, job.note = "running", "starting"
                Thread(target=self._follow, args=(job,), daemon=True).start()

    def _follow(self, job: Job) -> None:
        """Run a job's process and hear what it tells, until it ends."""
        context = get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        try:
            with self._lock:
                if job.state != "running":
                    return
                job.process = context.Process(target=work, args=(job.work, theirs), daemon=True)
                job.process.start()
            theirs.close()
            self._hear(job, ours)
            job.process.join()
        except Exception as error:  # nothing that goes wrong here may leave a job running for ever
            with self._lock:
                if job.state == "running":
                    job.state, job.note = "failed", f"the job could not be run: {error}"
        finally:
            ours.close()
            with self._lock:
                job.process = None
            self._next()

    def _hear(self, job: Job, told: Connection) -> None:
        ended = False
        while not ended:
            try:
                kind, *rest = told.recv()
            except (EOFError, OSError):
                kind, rest, ended = "failed", ["its process ended without a result; the memory may be full"], True
            with self._lock:
                if job.state != "running":
                    return
                if kind == "progress":
                    job.done, job.total, job.note = rest
                elif kind == "part":
                    job.parts.append(rest[0])
                elif kind == "done":
                    job.state, job.result, job.note, ended = "done", rest[0], "", True
                else:
                    job.state, job.note, ended = "failed", rest[0], True
