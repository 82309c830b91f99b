"""Potentials that run side by side: what one cannot do keeps nobody from the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mixserver.distill.folder import open_folder
from mixserver.distill.material import material
from mixserver.distill.pool import workers
from mixserver.distill.reading import load_order
from mixserver.distill.results import Candidate
from mixserver.distill.side_by_side import Judged, judged

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
        listed.append(Judged(Candidate(label=name), folder / f"{name}.in"))
    order = load_order(folder)
    shown: list[tuple[str, int, int]] = []

    def show(*step: object) -> None:
        shown.append(step)  # type: ignore[arg-type]

    with open_folder(order.folder) as run:
        async with workers(order, order.folder / "workers") as dispatcher:
            known = await material(order, run, dispatcher, show, cheap_reach=6.3)
            good, bad, flat = await judged(
                listed, order, known, dispatcher, tmp_path, show, step="judge"
            )
    assert good.portrait is not None
    assert good.inclusion is not None
    assert good.microseconds is not None
    assert not good.trouble
    assert bad.portrait is None
    assert bad.microseconds is None
    assert "nonsense" in bad.trouble
    assert flat.portrait is None
    assert flat.trouble
    assert shown[-1] == ("judge", 12, 12)
    assert any(step == "judge, answers" and total == 0 for step, _, total in shown)
