"""The page's ASGI app: a page, its files, and three answers that are read from a `LiveRun`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mixserver.core.errors import ConfigError
from mixserver.watch.access import Guard
from mixserver.watch.live_run import LiveRun

PAGE: Final = Path(__file__).parent / "page"
_FILES: Final = {
    "/": ("index.html", "text/html"),
    "/watch.css": ("watch.css", "text/css"),
    "/watch.js": ("watch.js", "text/javascript"),
    "/atoms.js": ("atoms.js", "text/javascript"),
    "/charts.js": ("charts.js", "text/javascript"),
    "/3Dmol-min.js": ("3Dmol-min.js", "text/javascript"),
    "/NOTICE": ("NOTICE", "text/plain"),
}
"""Path -> its file and media type: no other file is ever opened for a request."""


def watch_app(run: LiveRun, token: str) -> ASGIApp:
    """The app for a run, which answers only those who have the token."""

    # plain functions: Starlette calls them on threads, so that a slow disk stops no other request
    def state(_: Request) -> Response:
        return Response(run.state(), media_type="application/json")

    def curves(_: Request) -> Response:
        return Response(run.curves(), media_type="application/json")

    def frame(request: Request) -> Response:
        try:
            found = run.frame(request.path_params["at"])
        except IndexError:
            return PlainTextResponse("There is no such frame.\n", 404)
        except ConfigError as error:
            return PlainTextResponse(f"{error}\n", 500)
        return Response(found, media_type="application/octet-stream")

    routes = [
        Route("/api/state", state),
        Route("/api/curves", curves),
        Route("/api/frames/{at:int}", frame),
        *(Route(path, _file(*about)) for path, about in _FILES.items()),
    ]
    return Guard(Starlette(routes=routes), token)


def _file(name: str, media_type: str) -> Callable[[Request], Response]:
    content = (PAGE / name).read_bytes()

    def answer(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer
