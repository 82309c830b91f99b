from __future__ import annotations

import errno
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
import zmq
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
        "files": OSError(errno.EMFILE, "Too many open files"),
        "sockets": ExceptionGroup("tasks", [zmq.ZMQError(errno.EMFILE)]),
        "memory": MemoryError(),
        "library": ImportError("x.so: failed to map segment from shared object"),
        "threads": RuntimeError("can't start new thread"),
        "package": ModuleNotFoundError("No module named 'ase'", name="ase.io"),
        "module": ModuleNotFoundError("No module named 'mixserver.x'", name="mixserver.x"),
    }
    raise errors[kind]


@pytest.mark.parametrize("kind", ["alone", "group", "nested"])
def test_an_explained_error_is_one_line_and_status_1(kind: str) -> None:
    result = CliRunner().invoke(main, ["fail", kind])
    assert (result.exit_code, result.stderr) == (1, "Error: no such file\n")


def test_notes_of_an_error_follow_it() -> None:
    WRONG.add_note("what to do")
    try:
        result = CliRunner().invoke(main, ["fail", "nested"])
    finally:
        WRONG.__notes__.clear()
    assert result.stderr == "Error: no such file\nwhat to do\n"


def test_traceback_shows_where_it_arose() -> None:
    result = CliRunner().invoke(main, ["--traceback", "fail", "nested"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("Error: no such file\n")


@pytest.mark.parametrize(
    ("kind", "cure"),
    [
        ("files", "ulimit -n"),
        ("sockets", "ulimit -n"),
        ("memory", "ulimit -v"),
        ("library", "ulimit -v"),
        ("threads", "ulimit -u"),
    ],
)
def test_a_limit_of_the_system_is_one_line_with_its_cure(kind: str, cure: str) -> None:
    result = CliRunner().invoke(main, ["fail", kind])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert cure in result.stderr


def test_a_package_that_pip_has_not_installed_yet_is_one_line_with_its_cure() -> None:
    result = CliRunner().invoke(main, ["fail", "package"])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "package ase is not installed" in result.stderr
    assert "still installing, wait" in result.stderr
    assert 'pip install -c constraints.txt -e ".[server]"' in result.stderr
    ours = CliRunner().invoke(main, ["fail", "module"])
    assert isinstance(ours.exception, ModuleNotFoundError)


@pytest.mark.parametrize("program", ["mixserver", "mixserver-worker"])
def test_few_open_files_are_more_or_refused(program: str) -> None:
    """The soft limit is the program's own; a hard one is refused before libraries abort."""
    words = {"mixserver": ["keys", "list", "--keys", "none"], "mixserver-worker": ["toy"]}
    said = []
    for soft, hard in ((20, 200), (20, 20)):
        done = subprocess.run(
            [Path(sys.executable).with_name(program), *words[program]],
            preexec_fn=lambda soft=soft, hard=hard: resource.setrlimit(
                resource.RLIMIT_NOFILE, (soft, hard)
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        said.append(done.stderr)
    assert "files may be open" not in said[0]
    assert "only 20 files may be open at a time" in said[1]
    assert "ulimit -n" in said[1]


def test_a_bug_keeps_its_traceback() -> None:
    result = CliRunner().invoke(main, ["fail", "bug"])
    assert isinstance(result.exception, ZeroDivisionError)
