"""The addresses of the page: its files, and one for each question."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from outstride.studio.files import page_folder
from outstride.studio.replies import Reply, questions, refusal, reply
from outstride.studio.security import Guard

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

    asked = questions(start, more)
    begin = asked.pop("start")

    async def first(request: Request) -> Response:
        del request
        return _response(reply(begin, {}))

    routes = [
        Route("/", serve),
        Route("/start", first),
        *(Route(f"/{path}", _answering(answer), methods=["POST"]) for path, answer in asked.items()),
        Route("/{name}", serve),
    ]
    return Guard(Starlette(routes=routes), token, port)


def _response(made: Reply) -> Response:
    return Response(made.content, made.status, media_type=made.media_type)


def _answering(answer: Callable[[Mapping[str, Any]], Any]) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        try:
            question = json.loads(await request.body())
            if not isinstance(question, dict):
                raise ValueError("not an object")  # noqa: TRY004
        except (ValueError, RecursionError):
            return _response(refusal(400, "a question must be one JSON object"))
        return _response(await run_in_threadpool(reply, answer, question))

    return respond
