"""Prints a line of a command's result, even if the reader has closed the pipe or terminal."""

from __future__ import annotations

import os
import sys

import click


def echo_line(text: str) -> None:
    """Print a line; a closed pipe or terminal does not make the command fail."""
    try:
        click.echo(text)
    except OSError:
        # the unwritten rest must not fail again when the interpreter exits
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
