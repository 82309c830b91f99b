"""Errors that mixserver explains end in one line on stderr and exit status 1."""

from __future__ import annotations

import traceback
from typing import Any

import click

from mixserver.errors import MixserverError


class Group(click.Group):
    """A group whose commands turn `MixserverError` into one line; `--traceback` shows the rest."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except* MixserverError as group:
            errors = list(_leaves(group))
            if ctx.params.get("traceback"):
                traceback.print_exception(errors[0])
            raise click.ClickException(str(errors[0])) from None


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
