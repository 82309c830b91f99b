from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from mixserver.core.command_group import CommandGroup
from mixserver.core.errors import BadInput, ConfigError

WRONG = ConfigError("no such file")


@click.group(cls=CommandGroup)
@click.option("--traceback", is_flag=True)
def main(traceback: bool) -> None:
    """A command for tests."""


@main.command()
@click.argument("kind")
def fail(kind: str) -> None:
    """Fail in a certain way."""
    errors = {
        "alone": WRONG,
        "group": ExceptionGroup("tasks", [WRONG, BadInput("another")]),
        "nested": ExceptionGroup("tasks", [ExceptionGroup("inner", [WRONG])]),
        "bug": ZeroDivisionError("by zero"),
    }
    raise errors[kind]


@pytest.mark.parametrize("kind", ["alone", "group", "nested"])
def test_an_explained_error_is_one_line_and_status_1(kind: str) -> None:
    result = CliRunner().invoke(main, ["fail", kind])
    assert (result.exit_code, result.stderr) == (1, "Error: no such file\n")


def test_traceback_shows_where_it_arose() -> None:
    result = CliRunner().invoke(main, ["--traceback", "fail", "nested"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("Error: no such file\n")


def test_a_bug_keeps_its_traceback() -> None:
    result = CliRunner().invoke(main, ["fail", "bug"])
    assert isinstance(result.exception, ZeroDivisionError)
