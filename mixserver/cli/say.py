"""Last words of a command, for a reader who may have gone."""

from __future__ import annotations

import os
import sys

import click


def say(text: str) -> None:
    """Print a line; a closed pipe or terminal makes no run a failure."""
    try:
        click.echo(text)
    except OSError:
        # what was not taken must not fail again when the interpreter ends
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
