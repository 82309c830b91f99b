"""Options of the benchmarks, and how a benchmark is run and shown."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixserver.core.errors import ConfigError

if TYPE_CHECKING:
    from mixserver.analysis.bench.pairing import Board
    from mixserver.analysis.bench.report import Report, Row

Measure = Callable[["Board"], Awaitable[None]]
"""Measures a suite; its rows go to the board."""
RunSuite = Callable[[str, Measure], None]
"""Runs the suite of a name as the options say, and shows it."""


def suite_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every suite; the command gets them as one `run` function, and `quick`."""

    @click.option(
        "--pairs",
        type=click.IntRange(3, 10_000),
        default=7,
        show_default=True,
        help="Evaluations of each way that count; they are taken in turn.",
    )
    @click.option(
        "--limit-s",
        type=click.FloatRange(min=0.0),
        default=120.0,
        show_default=True,
        help="Fewer pairs, but three, where they take longer than this.",
    )
    @click.option(
        "--cores",
        type=click.IntRange(min=1),
        help="Cores that everything together may use; by default all.",
    )
    @click.option(
        "--output",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Write bench-SUITE.json and bench-SUITE.png there.",
    )
    @click.option("--json", "as_json", is_flag=True, help="The report as JSON on stdout.")
    @click.option("--quick", is_flag=True, help="Small sizes and few pairs, to see that it works.")
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        pairs: int,
        limit_s: float,
        cores: int | None,
        output: Path | None,
        as_json: bool,
        quick: bool,
        **options: Any,
    ) -> None:
        if cores is not None:
            _keep_to(cores)
        run = functools.partial(
            _run, 3 if quick else pairs, limit_s, output, as_json=as_json, quick=quick
        )
        if "cores" in inspect.signature(command).parameters:
            options["cores"] = cores
        command(*args, run=run, quick=quick, **options)

    return wrapped


def _keep_to(cores: int) -> None:
    """Let this process and all that it starts run on so many cores only."""
    if not hasattr(os, "sched_setaffinity"):
        raise ConfigError("--cores works on Linux only; leave it out")
    usable = sorted(os.sched_getaffinity(0))
    if cores > len(usable):
        raise ConfigError(f"--cores {cores}: only {len(usable)} cores can be used here")
    os.sched_setaffinity(0, usable[-cores:])


def _run(
    pairs: int,
    limit_s: float,
    output: Path | None,
    suite: str,
    measure: Measure,
    *,
    as_json: bool,
    quick: bool,
) -> None:
    import asyncio
    import time
    from datetime import UTC, datetime

    import msgspec

    from mixserver.analysis.bench.machine import describe_machine, load
    from mixserver.analysis.bench.pairing import Board, Effort
    from mixserver.analysis.bench.report import Report, closing_lines, write_report
    from mixserver.cli.bench.progress import SuiteProgress
    from mixserver.cli.logs import configure

    configure(None)
    began, load_start = time.monotonic(), load()
    date = datetime.now(UTC).isoformat(timespec="seconds")
    effort = Effort(pairs=pairs, warm_up=1 if quick else 2, limit_s=limit_s)
    with SuiteProgress() as progress:
        board = Board(effort, on_progress=progress.update)
        if not as_json:
            board.on_row = progress.above(lambda row: _row_text(board, row))
        asyncio.run(_measured(measure, board))
    report = Report(
        suite=suite,
        command=" ".join(["mixserver", *sys.argv[1:]]),
        date=date,
        seconds=time.monotonic() - began,
        machine=describe_machine(),
        load_start=load_start,
        load_end=load(),
        rows=tuple(board.rows),
        left_out=tuple(board.left_out),
    )
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        click.echo("\n" + table(report))
        click.echo("\n".join(closing_lines(report)))
    if output is not None:
        for file in write_report(report, output):
            click.echo(str(file), err=as_json)
    if not report.rows:
        raise ConfigError("nothing could be measured; the reasons are above")


async def _measured(measure: Measure, board: Board) -> None:
    await measure(board)


def _row_text(board: Board, row: Row) -> str:
    """A row for the terminal, after the command that repeats it, which is not repeated."""
    from mixserver.analysis.bench.report import detail_line, models, number

    low, high = row.ratio_quartiles
    lines = (
        [] if any(one.command == row.command for one in board.rows[:-1]) else [f"$ {row.command}"]
    )
    lines += [
        f"  {row.system}; {row.sites} of {row.atoms} sites; {models(row)}",
        f"  {row.fast.name}: {number(row.fast.ms)} ms; {row.slow.name}: {number(row.slow.ms)} ms; "
        f"ratio {number(row.ratio)} ({number(low)} to {number(high)}, {row.pairs} pairs)",
    ]
    if row.ratio_of_processor_time is not None:
        lines[-1] += f", of processor times {number(row.ratio_of_processor_time)}"
    if row.details:
        lines.append(f"  {detail_line(row)}")
    return "\n".join(lines)


def table(report: Report) -> str:
    """All rows as one table."""
    from mixserver.analysis.bench.report import HEAD, LEFT, cells
    from mixserver.cli.tables import text_table

    return text_table(HEAD, [cells(row) for row in report.rows], left=LEFT)


def untrained_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of an untrained MACE besides its irreps."""
    for option in (
        click.option("--r-max", default=6.0, show_default=True, help="Å, of an untrained model."),
        click.option("--layers", default=2, show_default=True, help="Of an untrained model."),
        click.option("--l-max", default=3, show_default=True, help="Of an untrained model."),
    ):
        command = option(command)
    return command


def size_options(*, sites: str, sites_help: str) -> Callable[..., Any]:
    """The sizes of crystals and the precisions of suites about MACE.

    Args:
        sites: default of --sites.
        sites_help: help of --sites.
    """
    precisions = ("float32", "float64")
    of_sites = click.option(
        "--sites",
        default=sites,
        show_default=True,
        callback=numbers("sites", "50,250"),
        help=sites_help,
    )
    of_dtypes = click.option(
        "--dtype",
        "dtypes",
        default=",".join(precisions),
        show_default=True,
        callback=choices(precisions),
        help="Precisions of MACE.",
    )
    return lambda command: of_sites(of_dtypes(command))


def numbers(what: str, example: str, *, or_none: bool = True) -> Callable[..., tuple[int, ...]]:
    """A callback that reads "50,250", or "none" if that is allowed."""

    def read(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
        if value == "none" and or_none:
            return ()
        words = [word.strip() for word in value.split(",")]
        bad = [word for word in words if not (word.isascii() and word.isdigit() and int(word) > 0)]
        if bad:
            raise click.BadParameter(
                f"{bad[0]!r} is not a number of {what}; expected e.g. {example}"
            )
        return tuple(int(word) for word in words)

    return read


def choices(known: tuple[str, ...]) -> Callable[..., tuple[str, ...]]:
    """A callback that reads several of some words, with commas between them."""

    def read(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
        words = tuple(word.strip() for word in value.split(","))
        bad = [word for word in words if word not in known]
        if bad:
            raise click.BadParameter(f"{bad[0]!r} is not one of {', '.join(known)}")
        return words

    return read


def radii(
    context: click.Context, parameter: click.Parameter, value: str
) -> tuple[tuple[float, float], ...]:
    """A callback that reads "6/4,10/4": core radius and blend width, or "none"."""
    if value == "none":
        return ()
    found = []
    for word in value.split(","):
        core, slash, blend = word.strip().partition("/")
        try:
            pair = float(core), float(blend)
        except ValueError:
            pair = (-1.0, -1.0)
        if not slash or not (0.0 <= pair[0] < 1e3 and 0.0 < pair[1] < 1e3):
            raise click.BadParameter(
                f"{word!r} is not a core radius and a blend width in Å; expected e.g. 6/4"
            )
        found.append(pair)
    return tuple(found)


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Other engines than a case has; the command gets them as `engines`."""

    @click.option("--kernels", default="", help="Of the case's MACE worker: torch, symmetrix.")
    @click.option("--dtype", default="", help="Of all MACE workers: float32 or float64.")
    @click.option("--device", default="", help="Of all MACE workers: cpu or cuda.")
    @click.option("--irreps", help='Takes an untrained model in place of the MACE: "128x0e".')
    @untrained_options
    @click.option("--lmp-args", default="", help="Switches for LAMMPS of the cheap workers.")
    @click.option(
        "--cheap-kernels",
        type=click.Choice(["", "auto", "compiled", "lammps"]),
        default="",
        show_default=False,
        help="Of the cheap LAMMPS workers: compiled code for SNAP, or LAMMPS's own.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        kernels: str,
        dtype: str,
        device: str,
        irreps: str | None,
        l_max: int,
        layers: int,
        r_max: float,
        lmp_args: str,
        cheap_kernels: str,
        **options: Any,
    ) -> None:
        from mixserver.analysis.bench.adaptation import EngineOptions
        from mixserver.analysis.bench.untrained import UntrainedMace

        untrained = None
        if irreps is not None:
            untrained = UntrainedMace(irreps=irreps, l_max=l_max, layers=layers, r_max=r_max)
        engines = EngineOptions(
            kernels=kernels,
            dtype=dtype,
            device=device,
            untrained=untrained,
            cheap_arguments=lmp_args,
            cheap_kernels=cheap_kernels,
        )
        command(*args, engines=engines, **options)

    return wrapped
