"""The mixserver-worker command as a user meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mixserver_worker.cli import main
from mixserver_worker.cli.ase import keywords

from mixserver.core.errors import ConfigError

NO_SERVER = "tcp://127.0.0.1:1"


def call(*words: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, words, env=env)


@pytest.mark.parametrize("engine", ["toy", "lammps", "mace", "nequip", "metatomic", "ase"])
def test_every_engine_has_help_with_the_common_options(engine: str) -> None:
    shown = call(engine, "--help")
    assert shown.exit_code == 0
    for option in ("--server", "--role", "--name", "--wait-s"):
        assert option in shown.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from mixserver_worker.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'lammps', 'ase', 'mace', 'scipy', 'mpi4py', 'zmq'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_server_is_required_and_may_come_from_the_environment() -> None:
    assert "--server" in call("toy").output
    result = call("toy", "--wait-s", "0", env={"MIXSERVER_SERVER": NO_SERVER})
    assert NO_SERVER in result.output


def test_a_missing_server_is_one_line_and_status_1() -> None:
    result = call("toy", "--server", NO_SERVER, "--wait-s", "0.1")
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error:")]
    assert "Is it running" in line
    assert "Traceback" not in result.output


def test_traceback_shows_the_rest() -> None:
    result = call("--traceback", "toy", "--server", NO_SERVER, "--wait-s", "0.1")
    assert result.exit_code == 1
    assert "Traceback" in result.output


def test_bad_settings_of_an_engine_are_one_line() -> None:
    result = call("toy", "--sigma", "-1", "--server", NO_SERVER)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "sigma" in result.output


def test_a_missing_commands_file_is_named(tmp_path: Path) -> None:
    result = call("lammps", str(tmp_path / "si.in"), "--server", NO_SERVER)
    assert result.exit_code == 2
    assert "si.in" in result.output


def test_an_unknown_role_is_refused() -> None:
    result = call("toy", "--role", "middling", "--server", NO_SERVER)
    assert result.exit_code == 2
    assert "cheap" in result.output


def test_settings_of_a_calculator_are_toml() -> None:
    words = ("cutoff=5.5", 'path="x.pth"', "fast = true", "sizes=[1, 2]", "deep={a=1}")
    assert keywords(words) == {
        "cutoff": 5.5,
        "path": "x.pth",
        "fast": True,
        "sizes": [1, 2],
        "deep": {"a": 1},
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cutoff",), "KEY=VALUE"),
        (("=5",), "KEY=VALUE"),
        (("path=x.pth",), "quotes"),
        (("a=1", "a=2"), "twice"),
        (("a b=1",), "KEY=VALUE"),
        (("a=1\nb=2",), "TOML"),
    ],
)
def test_settings_that_are_none_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        keywords(words)
