"""An explorer that runs in a thread of the tests, and how to ask it over a real socket."""

import json
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import attrs

from dynamo.serve.app import App
from dynamo.serve.explorer import Explorer
from dynamo.serve.served_page import served_page
from dynamo.serve.server import listen


@attrs.frozen
class Served:
    """A server that runs."""

    address: object
    explorer: Explorer
    app: App

    @property
    def url(self):
        return f"http://127.0.0.1:{self.address.port}"

    def ask(self, path, table=None, method=None, content=None, **headers):
        """The status and the content of an answer; names of headers have ``_`` for ``-``."""
        body = content if content is not None else None if table is None else json.dumps(table).encode()
        own = {"content-type": "application/json"} if body is not None else {}
        own.update({name.replace("_", "-"): value for name, value in headers.items()})
        request = urllib.request.Request(self.url + path, data=body, headers=own, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, read(answer)
        except urllib.error.HTTPError as error:
            return error.code, read(error)

    def wait(self, job, seconds=120):
        """A job that has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            _, table = self.ask(f"/api/jobs/{job}")
            if table["state"] not in ("waiting", "running"):
                return table
            time.sleep(0.1)
        raise TimeoutError(table)


def read(answer):
    content = answer.read()
    if answer.headers.get("content-type", "").startswith("application/json"):
        return json.loads(content)
    return content


@contextmanager
def serving(run, *, token="", uploads=None):
    """The explorer of a run folder, at a free port."""
    import uvicorn

    explorer = Explorer.open(run)
    page, policy = served_page(explorer, uploads=uploads is not None)
    app, address = App(explorer, page, policy, uploads), listen(port=0, token=token)
    config = uvicorn.Config(
        app.guarded(address.host, address.port, address.token),
        log_level="error",
        ws="none",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [address.socket]}, daemon=True)
    thread.start()
    try:
        yield Served(address, explorer, app)
    finally:
        app.jobs.close()
        server.should_exit = True
        thread.join(10)
        address.socket.close()
