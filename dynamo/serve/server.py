"""The explorer as a server on this machine."""

import secrets
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import attrs

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.shown import brief
from dynamo.system.progress import Stages, silent_stages

#: The port that is taken where none is asked for.
PORT = 8765

#: Ports after a taken one that are tried for advice.
_TRIED = 50


@attrs.frozen(eq=False)
class Address:
    """Where the server listens.

    Attributes:
        socket: open and bound.
        host: as it was asked for.
        port: its number.
        token: that opens the page; empty on the loopback without one.
    """

    socket: socket.socket
    host: str
    port: int
    token: str

    __repr__ = brief

    @property
    def url(self) -> str:
        """What to open in a browser."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)
        named = f"[{host}]" if ":" in host else host
        return f"http://{named}:{self.port}/" + (f"?token={self.token}" if self.token else "")


def check_installed() -> None:
    """Check that the web framework is there.

    Raises:
        DynamoError: it is not.
    """
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise DynamoError(
                f"the explorer needs {package}: pip install 'dynamo-embedding[serve]' (or pip install starlette "
                "uvicorn)"
            )


def listen(host: str = "127.0.0.1", port: int = PORT, token: str = "") -> Address:
    """Open the port.

    Args:
        host: the address to listen on. On another than the loopback a token is needed, and is made where none is given.
        port: 0 for any that is free.
        token: that opens the page.

    Raises:
        DynamoError: the port is taken, or the host is none of this machine.
    """
    if not token and not _is_loopback(host):
        token = secrets.token_urlsafe(24)
    try:
        bound = _bind(host, port)
    except OSError as error:
        free = next((other for other in range(port + 1, min(port + _TRIED, 65536)) if _is_free(host, other)), None)
        advice = f"; {free} is free: --port {free}" if free else ""
        raise DynamoError(f"cannot listen on {host}, port {port}: {error.strerror or error}{advice}") from None
    return Address(bound, host, bound.getsockname()[1], token)


def serve(
    run: Path | str,
    address: Address,
    *,
    population: Path | None = None,
    uploads: Path | None = None,
    colour_by: str | None = None,
    progress: Stages = silent_stages,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve the explorer of a run until it is interrupted.

    Args:
        run: the run folder.
        address: where; see :func:`listen`.
        population: the folder of the base models; the one that the run remembers where it is None.
        uploads: a folder whose populations may be put on the map.
        colour_by: the metadata that colours the map; one is chosen where it is None.
        progress: a stage for what takes time before the page is there.
        started: called when the server is about to listen.

    Raises:
        DynamoError: packages that are missing, a folder that is no run, or uploads that are no folder.
    """
    check_installed()
    import uvicorn

    from dynamo.serve.app import App
    from dynamo.serve.explorer import Explorer
    from dynamo.serve.served_page import served_page

    if uploads is not None and not uploads.is_dir():
        raise DynamoError(f"there is no folder {uploads}, whose populations should be embedded")
    folder = Path(run)
    explorer = Explorer.open(folder, population)
    page, policy = served_page(explorer, population, colour_by, uploads is not None, progress)
    app = App(explorer, page, policy, uploads)
    config = uvicorn.Config(
        app.guarded(address.host, address.port, address.token),
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
        timeout_graceful_shutdown=2,
    )
    started()
    try:
        uvicorn.Server(config).run(sockets=[address.socket])
    finally:
        app.jobs.close()
        address.socket.close()


def _is_loopback(host: str) -> bool:
    return host in ("127.0.0.1", "localhost", "::1")


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended keeps no port
        opened.bind((host, port))
        opened.listen(128)  # two servers cannot both listen, also where both could bind
    except BaseException:
        opened.close()
        raise
    return opened


def _is_free(host: str, port: int) -> bool:
    try:
        _bind(host, port).close()
    except OSError:
        return False
    return True
