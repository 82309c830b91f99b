"""`mixserver watch`: a page in the browser to watch a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mixserver.core.key_options import key_options

if TYPE_CHECKING:
    from mixserver.wire.status import Status

_USUAL_PORT: Final = 8765
_TIMEOUT_S: Final = 3.0


@click.command()
@click.argument("target", default=".", envvar="MIXSERVER_STATUS")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    metavar="PORT",
    help=f"Port on 127.0.0.1. Default: {_USUAL_PORT}, or any if it is taken.",
)
@click.option("--text", is_flag=True, help="No page: as mixserver status --watch.")
@key_options("A key of the server's list, for an address on another machine")
def watch(
    target: str,
    port: int | None,
    text: bool,
    key: Path | None,
    server_key: Path | None,
) -> None:
    """Watch a run on a page in the browser, until Ctrl-C.

    TARGET is a case, a run's folder, a folder of runs, or an address (ipc://PATH, tcp://HOST:PORT);
    by default the folder you are in, or MIXSERVER_STATUS. The page shows steps and time left,
    speed, workers, temperature and energy, the region, warnings, and the stored frames in 3D
    coloured by lambda; also of a run that is over. It changes nothing, and the run does not wait
    for it.

    Only this machine reaches the page, and only with the token in its address. From elsewhere:
    ssh -L 8765:127.0.0.1:8765 HOST. Needs the extra "watch"; without it, the status is shown here.

    \b
    Examples:
      mixserver watch inputs/minimal
      mixserver watch --text tcp://127.0.0.1:5556
    """
    from mixserver.cli.asking import asker
    from mixserver.core.errors import MissingPackage

    asked = asker(target, _TIMEOUT_S, key, server_key)
    if not text:
        try:
            import starlette  # noqa: F401
            import uvicorn  # noqa: F401
        except ImportError:
            missing = MissingPackage("starlette with uvicorn", "server,watch")
            click.echo(f"No page: {missing}. The status follows as text.", err=True)
            text = True
    if text:
        from mixserver.cli.status import watch_text

        watch_text(asked)
        return
    _serve_page(target, asked, port)


def _serve_page(target: str, asked: Callable[[], Status], port: int | None) -> None:
    import secrets
    import socket

    from mixserver.core.errors import Unreachable
    from mixserver.server.status.place import run_of
    from mixserver.watch.app import watch_app
    from mixserver.watch.live_run import LiveRun
    from mixserver.watch.serve import HOST, bind, serve

    if "://" in target:
        asked()  # a wrong address is told here
    else:
        try:
            run_of(Path(target))
        except Unreachable as error:  # it may come
            click.echo(f"Nothing runs yet: {error}", err=True)
    listening = bind(port, _USUAL_PORT)
    found = listening.getsockname()[1]
    token = secrets.token_urlsafe(24)
    address = f"http://{HOST}:{found}/?token={token}"
    click.echo(address)
    click.echo(
        f"From another machine: ssh -L {found}:{HOST}:{found} {socket.gethostname()}, then the "
        "same address there. Ctrl-C ends the page, not the run.",
        err=True,
    )
    serve(watch_app(LiveRun(target, asked), token), listening)
