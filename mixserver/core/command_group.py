"""The click group of both commands: errors that mixserver explains end in one line and status 1."""

from __future__ import annotations

import traceback
from typing import Any

import click

from mixserver.core.errors import MixserverError


class CommandGroup(click.Group):
    """Turns a `MixserverError`, alone or in exception groups, into one line on stderr.

    A `traceback` parameter of the group shows where it arose.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except* MixserverError as group:
            error = _first(group)
            if ctx.params.get("traceback"):
                traceback.print_exception(error)
            raise click.ClickException(str(error)) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
