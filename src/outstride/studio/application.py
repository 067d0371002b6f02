"""The addresses of the page: its files, and one for each question."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from outstride.errors import OutstrideError
from outstride.studio.answers import ANSWERS
from outstride.studio.files import page_folder
from outstride.studio.saving import Picture, picture
from outstride.studio.security import Guard

_LOG = logging.getLogger("outstride.studio")
_KINDS = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".jpg": "image/jpeg",
}  # fmt: skip


def application(
    token: str, port: int, start: Mapping[str, Any], more: Mapping[str, Callable[[Mapping[str, Any]], Any]]
) -> Guard:
    """The page behind its guard.

    Args:
        token: the first part of every address.
        port: where it is served; requests for another are refused.
        start: what the page is to show first, as plain values.
        more: answers besides those to what is asked of layers: to questions of a model.

    Returns:
        An ASGI application.
    """
    folder = page_folder()
    known = {path.name: path for path in folder.iterdir() if path.suffix in _KINDS}

    async def serve(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in known:
            return JSONResponse({"error": f"no such file: {name[:60]!r}"}, 404)
        return FileResponse(known[name], media_type=_KINDS[known[name].suffix])

    async def begin(request: Request) -> Response:
        del request
        return JSONResponse(dict(start))

    routes = [
        Route("/", serve),
        Route("/start", begin),
        *(
            Route(f"/ask/{name}", _answering(answer), methods=["POST"])
            for name, answer in {**ANSWERS, **more}.items()
        ),
        Route("/save", _answering(picture, _file), methods=["POST"]),
        Route("/{name}", serve),
    ]
    return Guard(Starlette(routes=routes), token, port)


def _file(made: Picture) -> Response:
    return Response(made.content, media_type=made.media_type)


def _answering(
    answer: Callable[[Mapping[str, Any]], Any], told: Callable[[Any], Response] = JSONResponse
) -> Callable[[Request], Awaitable[Response]]:
    """A question's address: whatever becomes of one request, the page lives on."""

    async def respond(request: Request) -> Response:
        try:
            question = json.loads(await request.body())
            if not isinstance(question, dict):
                raise ValueError("not an object")  # noqa: TRY004
        except (ValueError, RecursionError):
            return JSONResponse({"error": "a question must be one JSON object"}, 400)
        try:
            return told(await run_in_threadpool(answer, question))
        except OutstrideError as error:
            return JSONResponse({"error": str(error)}, 422)
        except MemoryError:
            return JSONResponse({"error": "this machine has not the memory for these sizes"}, 422)
        except Exception as error:  # noqa: BLE001
            _LOG.exception("a question could not be answered")
            sentence = f"this question could not be answered ({type(error).__name__}); the terminal says more"
            return JSONResponse({"error": sentence}, 500)

    return respond
