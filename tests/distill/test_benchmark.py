"""Potentials that run side by side: what one cannot do keeps nobody from the others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from argon import distillation

from mixserver.distill.config.load import load_project
from mixserver.distill.data.reference_data import collect_reference_data
from mixserver.distill.recipe_workers import lammps_command
from mixserver.distill.results import Candidate
from mixserver.distill.validation.benchmark import WrittenCandidate, benchmark

GOOD = "pair_style lj/cut 6.0\npair_coeff * * 0.0104 3.4\n"


@pytest.mark.lammps
async def test_a_potential_that_cannot_be_looked_at_is_told_of(
    argon_asked: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(argon_asked, folder)
    files = {"good": GOOD, "bad": "pair_style nonsense\n"}
    files["flat"] = GOOD.replace("0.0104", "0.0")
    listed = []
    for name, text in files.items():
        (folder / f"{name}.in").write_text(text)
        command = lammps_command(load_project(folder), folder / f"{name}.in")
        listed.append(WrittenCandidate(Candidate(label=name), command))
    project = load_project(folder)
    shown: list[tuple[str, int, int]] = []

    def show(*step: object) -> None:
        shown.append(step)  # type: ignore[arg-type]

    async with distillation(project) as quiet:
        run = replace(quiet, progress=show)
        data = await collect_reference_data(run, cheap_reach=6.3)
        good, bad, flat = await benchmark(run, data, listed, tmp_path, step="judge")
    assert good.bulk is not None
    assert good.inclusion is not None
    assert good.microseconds is not None
    assert not good.trouble
    assert bad.bulk is None
    assert bad.microseconds is None
    assert "nonsense" in bad.trouble
    assert flat.bulk is None
    assert flat.trouble
    assert shown[-1] == ("judge", 12, 12)
    assert any(step == "judge, answers" and total == 0 for step, _, total in shown)
