"""Who may ask: the page of this very server, and whoever has the token. Other sites that a browser has open may not,
and nothing that is asked may be large.
"""

from hmac import compare_digest
from http.cookies import CookieError, SimpleCookie
from socket import gethostname
from urllib.parse import parse_qs

import attrs
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynamo.contracts.shown import brief

#: The most bytes of a request; and of one that is read to its end, so that a browser hears that it is too large.
LARGEST, DROPPED = 4 * 2**20, 64 * 2**20

#: Names of this machine that a request may be addressed to where the server listens on the loopback.
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


@attrs.frozen(eq=False)
class Guard:
    """Stands before the application.

    Attributes:
        app: the application.
        host: the address that the server listens on.
        port: its port.
        token: what must be known; empty where nothing must.
    """

    app: ASGIApp
    host: str
    port: int
    token: str

    __repr__ = brief

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        answer = self._refusal(scope, headers) or self._entry(scope, headers)
        if answer is not None:
            await answer(scope, receive, _with_headers(send))
            return
        body = await _body(receive)
        if body is None:
            await _refused(413, _too_large())(scope, receive, _with_headers(send))
            return
        await self.app(scope, _replay(body, receive), _with_headers(send))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """What is wrong with where a request comes from, and what it carries."""
        address = headers.get("host", "")
        if not self._is_ours(address, scope):
            return _refused(421, "this server answers to its own address only")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and origin != f"http://{address}":
            return _refused(403, "requests from other sites are refused")
        came_by_link = scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        if site not in (None, "same-origin", "none") and not came_by_link:
            return _refused(403, "requests from other sites are refused")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            return _refused(415, "send JSON, with the content type application/json")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > DROPPED:
            return _refused(413, _too_large())
        return None

    def _is_ours(self, address: str, scope: Scope) -> bool:
        name, _, port = address.rpartition(":") if address.rpartition(":")[2].isdecimal() else (address, "", "80")
        known = {self.host, *LOOPBACK} if self.host in LOOPBACK else {self.host, *LOOPBACK, gethostname()}
        server = scope.get("server")
        if server is not None and self.host not in LOOPBACK:
            known.add(server[0])
        return name.strip("[]").lower() in {one.lower() for one in known} and port == str(self.port)

    def _entry(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """None where the token is known or not needed; a page that is opened with it gets a cookie instead."""
        if not self.token:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self._is_token(given):
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(self._cookie, self.token, httponly=True, samesite="strict", path="/")
            return answer
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        try:
            kept = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            kept = None
        if self._is_token(bearer) or (kept is not None and self._is_token(kept.value)):
            return None
        return _refused(401, "the token is missing or wrong: open the address that `dynamo serve` has printed")

    @property
    def _cookie(self) -> str:
        return f"dynamo-{self.port}"  # browsers do not tell ports apart

    def _is_token(self, given: str) -> bool:
        return compare_digest(given.encode(), self.token.encode())


def _too_large() -> str:
    return f"the request is too large: {LARGEST:,} bytes are the most"


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)


async def _body(receive: Receive) -> bytes | None:
    """A request's content; None where it is too large, whatever its headers say. Nothing too large is kept."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        part = message.get("body", b"")
        size += len(part)
        if size <= LARGEST:
            parts.append(part)
        else:
            parts.clear()
        if size > DROPPED:
            return None
        if not message.get("more_body", False):
            return b"".join(parts) if size <= LARGEST else None


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *own]}
        await send(message)

    return sending
