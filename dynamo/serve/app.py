"""The web application: which address answers what."""

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, TypeVar

import attrs
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from dynamo.contracts.errors import DynamoError, did_you_mean, printable
from dynamo.fit.exports import check_onnx
from dynamo.serve.asked import read_count, read_json, read_text
from dynamo.serve.explorer import Explorer, file_name
from dynamo.serve.guard import Guard
from dynamo.serve.jobs import Jobs
from dynamo.serve.work import KINDS, Work

Answer = TypeVar("Answer")

#: Requests that may wait for their turn; more are told to come again.
QUEUE = 512

#: The most labels that are learned from here.
LABELS = 10_000


@attrs.frozen(eq=False)
class App:
    """What is behind the addresses.

    Attributes:
        explorer: the run.
        page: what ``/`` shows.
        policy: what the page may do, for its header.
        uploads: the folder under which populations may be embedded; None for nowhere.
        jobs: heavy work.
    """

    explorer: Explorer
    page: str
    policy: str
    uploads: Path | None = None
    jobs: Jobs = attrs.field(factory=Jobs)
    _turn: Lock = attrs.field(factory=Lock, init=False)
    _queue: BoundedSemaphore = attrs.field(factory=lambda: BoundedSemaphore(QUEUE), init=False)

    def guarded(self, host: str, port: int, token: str) -> Guard:
        """The application, with its guard before it."""
        routes = [
            Route("/", self.show, methods=["GET"]),
            Route("/api/answer", self.answer, methods=["POST"]),
            Route("/api/points", self.points, methods=["GET"]),
            Route("/api/points", self.name, methods=["POST"]),
            Route("/api/points/{name:path}", self.forget, methods=["DELETE"]),
            Route("/api/points/{name:path}/file", self.export, methods=["GET"]),
            Route("/api/points/{name:path}/lines", self.lines, methods=["GET"]),
            Route("/api/jobs", self.all_jobs, methods=["GET"]),
            Route("/api/jobs", self.start, methods=["POST"]),
            Route("/api/jobs/{key}", self.job, methods=["GET"]),
            Route("/api/jobs/{key}", self.cancel, methods=["DELETE"]),
        ]
        handlers: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
            DynamoError: _told,
            404: _missing,
            405: _missing,
            Exception: _broken,
        }
        return Guard(Starlette(routes=routes, exception_handlers=handlers), host, port, token)

    async def show(self, request: Request) -> Response:
        """The page."""
        return HTMLResponse(self.page, headers={"content-security-policy": self.policy})

    async def answer(self, request: Request) -> Response:
        """POST /api/answer: what the network at a θ does on an input; see :meth:`Explorer.answer`."""
        table = read_json(await request.body())
        return JSONResponse(await self._in_turn(lambda: self.explorer.answer(table)))

    async def points(self, request: Request) -> Response:
        """GET /api/points: the named points."""
        found = await self._in_turn(self.explorer.points.all)
        return JSONResponse({"points": [attrs.asdict(point) for point in found]})

    async def name(self, request: Request) -> Response:
        """POST /api/points: name one; see :meth:`Explorer.name`."""
        table = read_json(await request.body())
        return JSONResponse(attrs.asdict(await self._in_turn(lambda: self.explorer.name(table))), status_code=201)

    async def forget(self, request: Request) -> Response:
        """DELETE /api/points/NAME."""
        name = request.path_params["name"]
        await self._in_turn(lambda: self.explorer.points.remove(name))
        return JSONResponse({})

    async def export(self, request: Request) -> Response:
        """GET /api/points/NAME/file: its network as a file of safetensors."""
        name = request.path_params["name"]
        content = await self._in_turn(lambda: self.explorer.exported(name))
        given = {"content-disposition": f'attachment; filename="{file_name(name)}"'}
        return Response(content, media_type="application/octet-stream", headers=given)

    async def lines(self, request: Request) -> Response:
        """GET /api/points/NAME/lines: the Python that loads that file."""
        name = request.path_params["name"]
        return JSONResponse({"lines": await self._in_turn(lambda: self.explorer.lines(name))})

    async def all_jobs(self, request: Request) -> Response:
        """GET /api/jobs: the jobs, without what came out."""
        return JSONResponse({"jobs": [{**job.answer(), "parts": [], "result": None} for job in self.jobs.all()]})

    async def start(self, request: Request) -> Response:
        """POST /api/jobs: begin ``fixed-points``, ``few-labels`` (with ``labels``) or ``onnx`` at a θ, or ``embed``
        with a ``folder`` under the uploads.
        """
        table = read_json(await request.body())
        job = await self._in_turn(lambda: self.jobs.start(self._work(table)))
        return JSONResponse(job.answer(), status_code=202)

    async def job(self, request: Request) -> Response:
        """GET /api/jobs/KEY: how far it is, and its result."""
        return JSONResponse(self.jobs.get(request.path_params["key"]).answer())

    async def cancel(self, request: Request) -> Response:
        """DELETE /api/jobs/KEY: stop it."""
        return JSONResponse(self.jobs.cancel(request.path_params["key"]).answer())

    def _work(self, table: Mapping[str, Any]) -> Work:
        """The work that is asked for.

        Raises:
            DynamoError: an unknown kind, or what it needs is missing or wrong.
        """
        kind, run = str(read_text(table, "kind")), self.explorer.folder
        if kind not in KINDS:
            raise DynamoError(f"there is no job of the kind {kind!r}: {did_you_mean(kind, KINDS)}")
        if kind == "embed":
            return Work(kind, run, population=self._upload(str(read_text(table, "folder"))))
        if kind == "onnx":
            check_onnx()
        labels = read_count(table, "labels", LABELS) if kind == "few-labels" else 0
        if labels and self.explorer.population is None:
            raise DynamoError("learning needs the base models' data, which are not at hand")
        held = read_text(table, "held", needed=False) or "zeros"
        if held not in ("zeros", "mean"):
            raise DynamoError("'held' must be zeros or mean: the constant input")
        theta, head = self.explorer.at(table)
        own = self.explorer.population.path if labels and self.explorer.population else None
        return Work(kind, run, tuple(self.explorer.theta_of(theta).tolist()), head, held, own, labels)

    def _upload(self, name: str) -> Path:
        """A folder under that of the uploads, also where it is a link.

        Raises:
            DynamoError: there are no uploads, it is outside, or it is no folder.
        """
        if self.uploads is None:
            raise DynamoError("new models are embedded from a folder that `dynamo serve --uploads FOLDER` names")
        try:
            root, path = Path(os.path.realpath(self.uploads)), Path(os.path.realpath(self.uploads / name))
        except (OSError, ValueError) as error:
            raise DynamoError(f"{printable(name)!r} names no folder: {error}") from None
        if not path.is_relative_to(root):
            raise DynamoError(f"{printable(name)!r} is outside of the folder that --uploads names")
        if not path.is_dir():
            raise DynamoError(f"there is no folder {printable(name)!r} under that of --uploads")
        return path

    async def _in_turn(self, ask: Callable[[], Answer]) -> Answer:
        """Ask something in a thread, one after the other: the processor's cores are few, and the server stays awake."""
        if not self._queue.acquire(blocking=False):
            raise DynamoError("too many requests at once: try again in a moment")
        try:
            return await run_in_threadpool(self._ask, ask)
        finally:
            self._queue.release()

    def _ask(self, ask: Callable[[], Answer]) -> Answer:
        with self._turn:
            return ask()


async def _told(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": printable(str(error))}, status_code=400)


async def _missing(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return JSONResponse({"error": "there is nothing at this address"}, status_code=status)


async def _broken(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"a fault of the explorer: {type(error).__name__}"}, status_code=500)
