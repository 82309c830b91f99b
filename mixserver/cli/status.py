"""`mixserver status`: what a running server is doing, from wherever it can be reached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mixserver.core.key_options import key_options

if TYPE_CHECKING:
    from mixserver.wire.status import Status

NOT_REACHABLE: Final = 2
"""Exit status if no server could be asked."""
_EVERY_S: Final = 1.0


@click.command()
@click.argument("target", default=".", envvar="MIXSERVER_STATUS")
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="The status as JSON on stdout.")
@click.option("--check", is_flag=True, help="One line and an exit status, for health checks.")
@click.option(
    "--max-age",
    "max_age_s",
    type=click.FloatRange(min=0.0, min_open=True),
    metavar="S",
    help="With --check: unhealthy, too, if no evaluation was answered for S seconds.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.0, min_open=True),
    default=3.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait for the server.",
)
@key_options("A key of the server's list, for an address on another machine")
def status(
    target: str,
    watch: bool,
    as_json: bool,
    check: bool,
    max_age_s: float | None,
    timeout_s: float,
    key: Path | None,
    server_key: Path | None,
) -> None:
    """Show workers, speed, steps and problems of a running server.

    TARGET is a case, a run's folder, a folder of runs, or an address (ipc://PATH, tcp://HOST:PORT);
    by default the folder you are in, or MIXSERVER_STATUS. Asking changes nothing.

    Exit status 2 if no server could be asked. With --check 1 if it is not healthy: no worker of a
    role is alive and on time, i-PI left without EXIT, or the run is ending for an error.

    \b
    Examples:
      mixserver status inputs/minimal --watch
      mixserver status --check --max-age 600 tcp://127.0.0.1:5556
    """
    from mixserver.cli.asking import asker
    from mixserver.cli.echo import echo_line
    from mixserver.core.errors import MixserverError
    from mixserver.server.status.health import too_old

    if watch and (as_json or check):
        raise click.UsageError("--watch shows the status to people: leave --json and --check out")
    if max_age_s is not None and not check:
        raise click.UsageError("--max-age belongs to --check")

    asked = asker(target, timeout_s, key, server_key)
    try:
        if watch:
            watch_text(asked)
            return
        answer = asked()
    except MixserverError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(NOT_REACHABLE) from None
    problems = list(answer.problems)
    if max_age_s is not None and (old := too_old(answer, max_age_s)):
        problems.append(old)
    if as_json:
        echo_line(_json(answer))
    elif check:
        echo_line(f"unhealthy: {'; '.join(problems)}" if problems else _healthy(answer))
    else:
        from mixserver.cli.status_text import as_text

        echo_line(as_text(answer))
    if check and problems:
        raise SystemExit(1)


def _json(answer: Status) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(answer)).decode()


def _healthy(answer: Status) -> str:
    evaluations = answer.evaluations
    age = "" if evaluations.last_age_s is None else f", the last {evaluations.last_age_s:.1f} s ago"
    return f"healthy: {answer.stage}, {evaluations.total} evaluations{age}"


def watch_text(asked: Callable[[], Status]) -> None:
    """Show the status every second until Ctrl-C, or until no server can be asked any more."""
    import time

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from mixserver.cli.status_text import as_text

    def shown() -> Text:
        return Text(as_text(asked()), no_wrap=True)

    console = Console(highlight=False)
    try:
        first = shown()
        if not console.is_terminal:
            console.print(first, soft_wrap=True)
            while True:
                time.sleep(_EVERY_S)
                console.print(Text("\n") + shown(), soft_wrap=True)
        with Live(first, console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_EVERY_S)
                live.update(shown(), refresh=True)
    except KeyboardInterrupt:
        return
