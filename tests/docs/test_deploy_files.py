"""Job scripts and units: they parse, pass their linters, and call what exists with its options."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from docs_pages import ROOT
from mixserver_worker.cli import main as worker

from mixserver.cli import main as server

DEPLOY = ROOT / "docker" / "deploy"
SCRIPTS = sorted([*DEPLOY.glob("*.sh"), *(DEPLOY / "slurm").iterdir()])
UNITS = sorted((DEPLOY / "systemd").iterdir())


def test_they_pass_the_linters_that_are_installed() -> None:
    done = subprocess.run([DEPLOY / "check.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_for_containers_pass_their_check() -> None:
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    for tool in ("hadolint", "shellcheck", "docker-compose"):
        if shutil.which(tool, path=os.pathsep.join(folders)) is None:
            pytest.skip(f"{tool} is not installed")
    check = [ROOT / "docker" / "check.sh", "--lint"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no fault" in done.stdout


@pytest.mark.parametrize("file", [*SCRIPTS, *UNITS], ids=lambda file: file.name)
def test_options_of_our_commands_exist(file: Path) -> None:
    text = re.sub(r"^(\s*#|Description=).*$", "", file.read_text(), flags=re.MULTILINE)
    text = text.replace("\\\n", " ")
    for program, words in re.findall(r"\b(mixserver(?:-worker)?) ([a-z]+ .*)$", text, re.MULTILINE):
        group: click.Group = server if program == "mixserver" else worker
        command = group.commands[words.split()[0]]
        known = {name for parameter in command.params for name in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", words)) <= known


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_scripts_can_be_run(script: Path) -> None:
    assert script.stat().st_mode & 0o111


@pytest.mark.parametrize("unit", UNITS, ids=lambda file: file.name)
def test_units_restart_and_leave_time_to_stop(unit: Path) -> None:
    text = unit.read_text()
    assert re.search(r"^Restart=(always|on-failure)$", text, re.MULTILINE)
    assert re.search(r"^TimeoutStopSec=\d+min$", text, re.MULTILINE)
    assert "KillMode=mixed" in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_files_that_scripts_call_exist(script: Path) -> None:
    for name in re.findall(r"\$DEPLOY/([\w./-]+)", script.read_text()):
        assert (DEPLOY / name).is_file()
