"""Real i-PI and real workers on what no material can be: refused, with the cause."""

from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from command_here import mixserver_here
from command_line import edit, minimal_case, mixserver

OFF = "[limits]\n" + "".join(
    f"{name} = inf\n" for name in ("energy_change", "force", "pressure", "density")
)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A copy of the minimal case, with few steps."""
    folder = minimal_case(tmp_path)
    edit(folder / "input.xml", "<total_steps> 100", "<total_steps> 4")
    return folder


def _too_long(case: Path) -> None:
    edit(case / "input.xml", "'femtosecond'> 5.0", "'femtosecond'> 500.0")


def test_a_time_step_that_is_too_long_is_stopped_and_named(case: Path) -> None:
    _too_long(case)
    done = mixserver("run", case, "--quiet")
    assert done.returncode == 1, done.stderr
    words = done.stderr
    for said in (
        "limits.energy_change",
        "closest atoms: Ar",
        "moved by",
        "time step",
        "failed.xyz",
    ):
        assert said in words
    assert "workers" not in words
    assert len(ase.io.read(case / "runs/0001/failed.xyz")) == 256
    energies = [float(row.split()[4]) for row in _rows(case / "runs/0001/simulation.out")]
    assert max(energies) < 256 * 100.0  # i-PI never saw the rest


def test_what_ends_in_nonsense_is_not_done(case: Path) -> None:
    _too_long(case)
    with (case / "mix.toml").open("a") as file:
        file.write(f"\n{OFF}shortest_pair = 0\n")
    done = mixserver("run", case, "--quiet")
    assert done.returncode == 1, done.stderr
    # who is first: the look at i-PI's properties, or an evaluation of what they lead to
    hot = "not physical" in done.stderr and "limits.temperature" in done.stderr
    assert hot or "positions have exploded" in done.stderr
    # i-PI was content; the run ends at its next row or two, as soon as one is seen
    assert 2 <= len(_rows(case / "runs/0001/simulation.out")) <= 5


def test_a_model_that_nobody_can_evaluate_ends_a_run_before_it_begins(case: Path) -> None:
    text = (case / "mix.toml").read_text()
    (case / "mix.toml").write_text(text[: text.rindex("[[local]]")])
    done = mixserver_here("run", case, "--quiet")
    assert done.returncode == 1
    assert "no worker can evaluate the expensive model" in done.stderr
    checked = mixserver_here("check", case, "--quick")
    assert checked.returncode == 1
    assert "no worker can evaluate the expensive model" in checked.stdout


def test_overlapping_atoms_are_refused_before_workers_see_them(case: Path) -> None:
    lines = (case / "init.xyz").read_text().splitlines()
    fields = lines[2].split()
    lines[3] = " ".join([*fields[:3], f"{float(fields[3]) + 0.05:.6f}"])
    (case / "init.xyz").write_text("\n".join(lines) + "\n")
    done = mixserver_here("run", case, "--quiet")
    assert done.returncode == 1
    for said in ("overlap", "Ar (atom 0) and Ar (atom 1)", "0.050 Å apart"):
        assert said in done.stderr


def _rows(file: Path) -> list[str]:
    return [row for row in file.read_text().splitlines() if not row.startswith("#")]
