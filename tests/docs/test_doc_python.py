"""Python on the pages runs; the tutorial's files and quick commands do what the page says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs_pages import ROOT, blocks

from mixserver.config import load_case
from mixserver.config.load import parse

TUTORIAL = ROOT / "docs" / "tutorial.md"
ENGINE = ROOT / "docs" / "howto" / "write-an-engine.md"
MODEL = ROOT / "inputs" / "silicon_vacancy" / "model" / "si_mace.model"
BIN = Path(sys.executable).parent


def block(language: str, beginning: str) -> str:
    """The one block of the tutorial that begins with a text."""
    (found,) = (
        b.text for b in blocks(TUTORIAL) if b.language == language and b.text.startswith(beginning)
    )
    return found


def call(line: str, folder: Path) -> str:
    """Run a line of the tutorial as its shell would, with the installation that is tested."""
    program, *words = shlex.split(line)
    done = subprocess.run(
        [str(BIN / program), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """The tutorial's case as its first commands make it."""
    shutil.copy(MODEL, tmp_path / "my.model")
    (tmp_path / "make_poscar.py").write_text(block("python", "from ase.build"))
    for line in commands()[:2]:
        call(line, tmp_path)
    made = tmp_path / "my_case"
    (made / "distill.toml").write_text(block("text", "name = "))
    return made


def commands() -> list[str]:
    """The tutorial's command lines that need its case, in their order."""
    lines = [
        line.strip()[2:]
        for b in blocks(TUTORIAL)
        if b.language == "console"
        for line in b.text.splitlines()
        if line.strip().startswith("$ ")
    ]
    return [line for line in lines if line.split()[0] in {"python", "mixserver"}]


@pytest.mark.lammps
def test_the_quick_part_of_the_tutorial(case: Path) -> None:
    (quick,) = (line for line in commands() if "--quick" in line)
    assert "errors 0, warnings 0" in call(quick, case)
    shown = block("toml", "[upstream]")
    assert load_case(case).config == parse(shown)
    said = (case / "README.md").read_text()
    for line in block("text", "structure: POSCAR").splitlines():
        assert line.removesuffix(" ...") in said


@pytest.mark.physics
@pytest.mark.mace
@pytest.mark.lammps
def test_the_whole_tutorial(case: Path) -> None:
    said = {}
    for line in commands()[2:]:
        short = line.replace("--steps 200000", "--steps 300")
        said[line] = call(short, case)
        if line == "mixserver distill .":
            settings = (case / "mix.toml").read_text()
            assert '"cheap.in"' in settings
            (case / "mix.toml").write_text(settings.replace("cheap.in", "distilled/si.in"))
    assert "warnings 0" in said["mixserver check ."]
    assert (case / "runs" / "0002" / "mixserver.jsonl").exists()


def test_the_engine_of_the_page_conforms() -> None:
    names: dict[str, object] = {}
    for part in blocks(ENGINE):
        if part.language == "python":
            exec(compile(part.text, str(ENGINE), "exec"), names)  # noqa: S102 - our own page
    assert callable(names["main"])


def test_the_readme_runs_its_case(tmp_path: Path) -> None:
    (line,) = re.findall(r"`(mixserver run inputs/minimal)`", (ROOT / "README.md").read_text())
    call(f"{line} --quiet --steps 5 --runs {shlex.quote(str(tmp_path))}", ROOT)
    assert (tmp_path / "0001" / "mixserver.jsonl").exists()
