"""Who may ask: the page that was opened with the token, from this machine, and nobody else."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Bytes of a question, and of one that brings a photograph.
MOST_BYTES, MOST_BYTES_OF_PICTURES = 256 * 1024, 12 << 20
_WITH_PICTURES = "/ask/picture"
HOSTS = ("127.0.0.1", "localhost", "[::1]")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Lets through what comes from the page itself, below the token's path, and is short enough.

    The token is the first part of every path, so that relative addresses of the page carry it and no cookie
    is needed, which other servers on the machine would see.
    """

    def __init__(self, app: Any, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = {f"{host}:{port}" for host in HOSTS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or hand on with the token taken off the path."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused:
            await _answer(*refused)(scope, receive, _with_headers(send))
            return
        pictures = scope["path"] == f"/{self._token}{_WITH_PICTURES}"
        most = MOST_BYTES_OF_PICTURES if pictures else MOST_BYTES
        body = _Body(receive, most)
        if not await body.read():
            sentence = f"a question must be short: got more than {most} bytes"
            await _answer(413, sentence)(scope, receive, _with_headers(send))
            return
        path = scope["path"][len(self._token) + 1 :]
        inner = {**scope, "path": path or "/", "raw_path": path.encode(), "root_path": ""}
        await self._app(inner, body.again, _with_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host") not in self._hosts:
            return 403, "this page answers on this machine alone"
        origin = headers.get("origin")
        if origin is not None and origin.removeprefix("http://") not in self._hosts:
            return 403, "another origin gets nothing"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403, "another origin gets nothing"
        first = scope["path"].split("/")[1]
        if not secrets.compare_digest(first.encode(), self._token.encode()):
            return 403, "the link must hold the token that `outstride studio` printed"
        plain = headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        if scope["method"] == "POST" and not plain:
            return 415, "a question must be JSON"
        return None


class _Body:
    """What was sent, read once up to a limit, to be read again by whoever answers."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most = receive, most
        self._content, self._told = b"", False

    async def read(self) -> bool:
        """Whether all of it came within the limit."""
        more = True
        while more:
            message = await self._receive()
            self._content += message.get("body", b"")
            more = message.get("more_body", False)
            if len(self._content) > self._most:
                return False
        return True

    async def again(self) -> MutableMapping[str, Any]:
        """The body as one message, then whatever the connection says."""
        if self._told:
            return await self._receive()
        self._told = True
        return {"type": "http.request", "body": self._content, "more_body": False}


def _answer(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return sending
