"""Help is whole, and options that cannot be meant are refused before anything is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import mixserver_worker.cli
import pytest
from click.testing import CliRunner

from mixserver.cli import main
from mixserver.server.runs import new_run_folder, run_lock

MINIMAL = Path(__file__).parents[2] / "inputs/minimal"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bench", "overhead", "--atoms", "10,x"], "'x' is not a number of atoms"),
        (["bench", "overhead", "--atoms", ""], "'' is not a number of atoms"),
        (["bench", "overhead", "--atoms", "0"], "'0' is not a number of atoms"),
        (["bench", "mace", "--sites", "10,x"], "'x' is not a number of sites"),
        (["bench", "mace", "--engines", "torch,jax"], "'jax' is not one of torch, symmetrix"),
        (["bench", "mace", "--region", "6"], "'6' is not a core radius and a blend width"),
        (["bench", "mace", "--pairs", "2"], "2 is not in the range"),
        (["bench", "scaling", ".", "--core-radii", "2"], "'2' are not two or more lengths"),
        (["bench", "overhead", "--evaluations", "0"], "0 is not in the range"),
        (["region", str(MINIMAL), "--receptive-field", "-1"], "-1.0 is not in the range"),
        (["region", str(MINIMAL), "core=3:4"], "a range needs --scan before it"),
        (["region", str(MINIMAL), "-o", "nowhere/a.xyz"], "nowhere is not a folder"),
    ],
)
def test_a_wrong_option_is_reported(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "check",
        "serve",
        "region",
        "align",
        "plot",
        "drift",
        "report",
        "status",
        "bench speedup",
    ],
)
def test_a_misspelt_case_is_told_with_the_one_that_was_meant(command: str) -> None:
    case = MINIMAL.with_name("minmal")
    done = CliRunner().invoke(main, [*command.split(), str(case)])
    assert done.exit_code in (1, 2)
    assert f"did you mean {MINIMAL}?" in done.output


def test_a_run_is_not_run_as_a_case(tmp_path: Path) -> None:
    run, copied = tmp_path / "runs/0001", tmp_path / "0001"
    for folder in (tmp_path, run, copied):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mix.toml").write_bytes((MINIMAL / "mix.toml").read_bytes())
    for folder, said in (
        (run, f"is a run of {tmp_path}; to continue it: mixserver run {tmp_path} --restart"),
        (copied, "is a run of CASE; to continue it: mixserver run CASE --restart"),
    ):
        (folder / "run.json").write_text("{}")
        for case in (folder, folder / "mix.toml"):
            done = CliRunner().invoke(main, ["run", str(case)])
            assert done.exit_code == 1
            assert said in " ".join(done.output.split())
        assert not (folder / "runs").exists()


def test_a_second_run_at_the_same_address_is_refused(tmp_path: Path) -> None:
    case = shutil.copytree(MINIMAL, tmp_path / "case", ignore=shutil.ignore_patterns("runs"))
    for name, old, new in (
        ("mix.toml", "unix:minimal", "127.0.0.1:31415"),
        ("input.xml", "<address> minimal", "<port> 31415 </port><address> 127.0.0.1"),
        ("input.xml", "mode='unix'", "mode='inet'"),
    ):
        (case / name).write_text((case / name).read_text().replace(old, new))
    with run_lock(new_run_folder(case / "runs")):
        done = CliRunner().invoke(main, ["run", str(case)])
    assert done.exit_code == 1
    assert f"{case}/runs/0001 of this case is running" in done.output
    assert "the same 127.0.0.1:31415: end it first" in done.output
    assert not (case / "runs/0002").exists()


@pytest.mark.parametrize("group", [main, mixserver_worker.cli.main])
def test_the_list_of_commands_cuts_no_sentence(group: click.Group) -> None:
    said = CliRunner().invoke(group, ["--help"], terminal_width=80).output
    listed = said[said.index("Commands:") :].splitlines()[1:]
    assert [line.split()[0] for line in listed] == sorted(group.commands)
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


def every_command(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from every_command(inner, *words, name)


def _forget_help(command: click.Command, words: tuple[str, ...]) -> None:
    """Click keeps a command's help option as it was first asked for, perhaps without its group."""
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
        vars(command)["_help_option"] = None


@pytest.mark.parametrize("group", [main, mixserver_worker.cli.main])
def test_every_command_has_the_short_option_for_help(group: click.Group) -> None:
    wanted = list(every_command(group))
    assert len(wanted) > 5
    for words in wanted:
        _forget_help(group, words)
        short, long = (CliRunner().invoke(group, [*words, option]) for option in ("-h", "--help"))
        assert short.exit_code == 0, words
        assert short.output == long.output
        assert "-h, --help" in short.output


@pytest.mark.parametrize("program", ["mixserver", "mixserver-worker"])
def test_the_lines_of_the_docs_switch_completion_on(program: str) -> None:
    name = f"_{program.upper().replace('-', '_')}_COMPLETE"
    page = (Path(__file__).parents[2] / "docs/howto/install.md").read_text()
    assert all(f"{name}={shell}_source {program}" in page for shell in ("bash", "zsh", "fish"))
    binary = Path(sys.executable).with_name(program)
    ask = {name: "bash_complete", "COMP_WORDS": f"{program} --v", "COMP_CWORD": "1"}
    said = subprocess.check_output([binary], env={**os.environ, **ask}, text=True)
    assert "--version" in said
