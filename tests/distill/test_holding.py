"""Whether crystals hold: real i-PI and LAMMPS, one potential that does and one that does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from argon import SOFT, crystal, order_in
from ase.io import read

from mixserver.crystal.portrait import Portrait
from mixserver.distill import nvt
from mixserver.distill.folder import open_folder
from mixserver.distill.holding import _Enough, _Run, farthest, temperature
from mixserver.distill.labelled import load_labelled
from mixserver.distill.material import Material
from mixserver.distill.mending import mended
from mixserver.distill.pool import workers
from mixserver.distill.reading import Order
from mixserver.distill.recipe import Hold, Soft
from mixserver.distill.stability import AWAY, nearest_distance
from mixserver.frame import Frame
from mixserver.wire.ipi import Request

GOOD = "pair_style lj/cut 5.2\npair_coeff 1 1 0.0104 3.4\n"
BAD = "pair_style lj/cut 5.2\npair_coeff 1 1 1.0 2.5\n"
"""Its wells are where argon has no atoms: the crystal tears."""
HOLD = "[hold]\nps = 0.6\ncopies = 2\nrounds = 2\n"


def _run(sites: Frame, steps: int = 1000) -> _Run:
    plan = nvt.Plan(40.0, 0, 1, 5.0, 100.0, steps, 0, 1)
    return _Run(plan, sites, None, Path(), 2.0)  # type: ignore[arg-type]


def _pulled(sites: Frame, by: float) -> Frame:
    positions = sites.positions.copy()
    positions[5, 1] += by
    return sites.topology.frame(positions, sites.cell)


def test_frames_from_before_and_after_an_atom_left_are_kept() -> None:
    sites = crystal(2)
    run = _run(sites)
    calm = np.zeros_like(sites.positions)
    for step in range(101):
        run._note(_pulled(sites, 0.01 * step), calm, step)
    assert run._broke is None
    assert [frame.positions[5, 1] for frame in run._before] == pytest.approx(
        [sites.positions[5, 1] + 0.01 * at for at in (80, 90, 100)]
    )
    for step in range(101, 130):
        run._note(_pulled(sites, 0.02 * step), calm, step)
    assert run._broke == 102  # the first look at more than 2 Å
    with pytest.raises(_Enough):
        run._note(_pulled(sites, 2.6), calm, 130)
    assert len(run._after) == 4


def test_a_torn_crystal_is_not_followed() -> None:
    sites = crystal(2)
    run = _run(sites)
    torn = np.zeros_like(sites.positions)
    torn[3, 0] = 60.0
    with pytest.raises(_Enough):
        run._note(sites, torn, 7)
    assert run._broke == 7
    assert len(run._after) == 1


async def test_atoms_that_fell_into_each_other_are_not_asked_about() -> None:
    """LAMMPS would end, again and again, and with it all workers."""
    sites = crystal(2)
    run = _run(sites)
    fallen = sites.positions.copy()
    fallen[1] = sites.positions[0] + [0.5, 0.0, 0.0]
    with pytest.raises(_Enough, match="fell into each other"):
        await run._ask(Request(fallen, sites.cell), 12)
    assert run._broke == 12


def test_atoms_may_go_as_far_as_those_of_the_expensive_model_and_more() -> None:
    sites = crystal(2)
    assert farthest([sites.positions], sites) == pytest.approx(AWAY * nearest_distance(sites))
    far = sites.positions.copy()
    far[0] += (0.0, 3.0, 0.0)
    drifted = far + 5.0
    assert farthest([sites.positions, drifted], sites) == pytest.approx(3.9)


def test_it_is_hotter_than_what_was_sampled() -> None:
    assert temperature(Hold(), Soft(temperatures=(300.0, 900.0))) == pytest.approx(1080.0)
    assert temperature(Hold(temperature=500.0), Soft()) == 500.0


def _known(order: Order, portrait: Portrait | None = None) -> Material:
    """A material of which nothing but the crystal matters here."""
    from mixserver.wire.worker import ModelCard

    card = ModelCard(engine="toy", name="toy", fingerprint="0", weights=True)
    frame = crystal(1)
    return Material(
        card=card,
        portrait=portrait,  # type: ignore[arg-type]
        crystal=frame,
        soft=(),
        hard=(),
        partition="",
        files={},
        reach=5.2,
        nearest=3.5,
        seconds={},
    )


@pytest.mark.lammps
async def test_what_breaks_is_labelled_and_tried_again(tmp_path: Path) -> None:
    order = order_in(tmp_path, soft=SOFT, more=HOLD)
    order.folder.mkdir()
    potentials = [BAD, GOOD]
    seen: list[int] = []

    async def fit(known: Material) -> Path:
        seen.append(len(known.soft))
        file = tmp_path / "ar.in"
        file.write_text(potentials[min(len(seen), 2) - 1])
        return file

    def show(step: str, done: int, total: int) -> None:
        del step, done, total

    with open_folder(order.folder) as run:
        crystal_step = run.step("crystal", {})
        crystal_step.finish()
        async with workers(order, order.folder / "workers") as dispatcher:
            known, trials = await mended(order, run, _known(order), dispatcher, fit, show)
    assert [trial.held for trial in trials] == [0, 2]
    assert trials[0].broke[0] is not None
    assert trials[0].temperature == pytest.approx(48.0)
    lost = read(order.folder / "hold-1/lost.xyz", index=":")
    assert trials[0].frames == len(known.soft) == seen[1] > 0
    assert len(known.soft) <= len(lost)
    labelled = load_labelled(known.files[known.soft[0]])
    assert labelled.structure.kind == "lost"
    assert labelled.structure.groups == 4
    np.testing.assert_allclose(labelled.structure.cell, lost[0].cell[:], atol=1e-6)
    assert not (order.folder / "hold-2/lost.xyz").exists()

    # a second start finds both trials
    seen.clear()
    made = (order.folder / "hold-1/trial.json").stat().st_mtime_ns
    with open_folder(order.folder) as run:
        run.step("crystal", {})
        async with workers(order, order.folder / "workers") as dispatcher:
            _, again = await mended(order, run, _known(order), dispatcher, fit, show)
    assert again == trials
    assert (order.folder / "hold-1/trial.json").stat().st_mtime_ns == made
