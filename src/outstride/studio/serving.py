"""Serve the page on this machine until somebody stops it."""

from __future__ import annotations

import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from outstride.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    import uvicorn

    from outstride.studio.learned import Learned
    from outstride.studio.networks import Network

LOOPBACK = "127.0.0.1"


class Studio:
    """A page that waits for its first visitor: ``link`` leads to it, ``run`` serves it."""

    def __init__(
        self, start: Mapping[str, Any], port: int = 0, model: Network | Learned | None = None
    ) -> None:
        """Take a port and make a token.

        Args:
            start: what the page is to show first: a layer's text and a size.
            port: 0 takes any that is free.
            model: whose picture, or whose kernels, the page is to show beside layers.

        Raises:
            ArgumentError: the port is taken, or not to be had.
            UnsupportedError: starlette or uvicorn is not installed.
        """
        try:
            import uvicorn

            from outstride.studio.application import application
        except ImportError as error:
            raise UnsupportedError(
                f"'studio' must have starlette and uvicorn: {error.name} is not installed; "
                "legal: pip install 'outstride[studio]'"
            ) from error
        self._socket = _bound(port)
        self.port: int = self._socket.getsockname()[1]
        self.token = secrets.token_urlsafe(18)
        self.link = f"http://{LOOPBACK}:{self.port}/{self.token}/"
        about = {**start, "model": "", **({} if model is None else model.start())}
        app = application(self.token, self.port, about, {} if model is None else model.answers())
        config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none", lifespan="off")
        self._server: uvicorn.Server = uvicorn.Server(config)

    def run(self, browser: bool = False, ready: Callable[[], object] | None = None) -> None:
        """Serve until interrupted.

        Args:
            browser: whether to open the link; where there is no browser nothing happens.
            ready: called when the link can be followed.
        """
        # The socket listens already: who comes before the server runs waits for a moment.
        threading.Thread(target=_warm, daemon=True).start()
        if ready is not None:
            ready()
        if browser:
            with suppress(webbrowser.Error):
                webbrowser.open(self.link)
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Let ``run`` return, from another thread."""
        self._server.should_exit = True


def _warm() -> None:
    """Load torch while the reader looks at the first picture, which needs none of it."""
    import_module("outstride.planning")
    import_module("outstride.artifacts")


def _bound(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((LOOPBACK, port))
        made.listen(128)
    except (OSError, OverflowError) as error:
        made.close()
        raise ArgumentError(
            f"'port' must be free on {LOOPBACK}: got {port} ({getattr(error, 'strerror', None) or error}); "
            "legal: 0, which takes any"
        ) from error
    return made
