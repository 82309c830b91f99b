"""The expensive model is asked everything once, and again only for what changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from argon import CONSTANT, crystal, distillation, project_in, reference_data
from structlog.testing import capture_logs
from tolerance import EXACT

from mixserver.core.errors import ConfigError
from mixserver.core.frame import Topology
from mixserver.core.structures import write_frame
from mixserver.distill.config.load import DistillationProject, load_project
from mixserver.distill.data.reference_data import collect_reference_data
from mixserver.distill.data.strain_set import PERFECT
from mixserver.distill.data.strained_partition import one_hot_names


@pytest.fixture
def copy(argon_asked: Path, tmp_path: Path) -> Path:
    shutil.copytree(argon_asked, tmp_path / "copy")
    return tmp_path / "copy"


def made(project: DistillationProject) -> dict[str, tuple[int, int]]:
    """Which files of the steps there are: inodes and times, by name."""
    files = [*project.folder.glob("*/**/*.np[yz]"), project.folder / "crystal/portrait.json"]
    return {
        str(file.relative_to(project.folder)): (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in files
    }


def changed(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> set[str]:
    """Steps of which a file is another one."""
    return {name.split("/")[0] for name, stat in after.items() if before.get(name) != stat}


async def test_what_was_asked_is_all_there_and_is_not_asked_again(copy: Path) -> None:
    project = load_project(copy)
    before = made(project)
    async with distillation(project) as run:
        known = await collect_reference_data(run, cheap_reach=6.3)
        seconds = run.run.seconds
    assert list(seconds) == ["crystal", "hot", "soft", "hard", "partition", "strains"]
    assert min(seconds.values()) > 0.0
    assert not changed(before, made(project))
    kinds = [name.split("-")[0] for name in known.training]
    assert kinds == [*("30K",) * 14, "strained", "strained", "vacancy"]
    assert len(known.strain_set) == 13
    assert known.partition == "partition"
    assert set(known.files) == {
        *known.training,
        *known.strain_set,
        known.partition,
        *one_hot_names(),
    }
    assert known.reach == 6.3


async def test_the_labels_are_of_the_crystal_that_was_found(copy: Path) -> None:
    known = await reference_data(load_project(copy))
    perfect = known.labels(PERFECT)
    assert perfect.energy.sum() == pytest.approx(4 * known.bulk.energy, abs=EXACT)
    np.testing.assert_allclose(perfect.forces, 0.0, atol=1e-6)
    np.testing.assert_allclose(perfect.virial / known.crystal.volume, 0.0, atol=1e-6)
    c11 = known.bulk.elastic[0][0]
    plus, minus = (known.labels(f"hard-xx{sign}").virial.sum(axis=0) for sign in ("+1", "-1"))
    slope = (minus - plus)[0, 0] / (2.0 * 0.002) / known.crystal.volume
    assert slope * 160.21766 == pytest.approx(c11, rel=1e-3)
    hot = known.labels(known.training[0]).structure
    apart = hot.positions[:, None] - hot.positions
    apart -= np.round(apart @ np.linalg.inv(hot.cell)) @ hot.cell
    nearest = np.linalg.norm(apart, axis=-1)[~np.eye(len(hot), dtype=bool)].min()
    assert known.nearest <= nearest + EXACT
    assert known.nearest > 0.7 * CONSTANT / np.sqrt(2.0)


@pytest.mark.parametrize(
    ("old", "new", "steps"),
    [
        ("strained = 2", "strained = 3", {"soft"}),
        ("[pair]", "[hard]\nstrain = 0.003\n[pair]", {"hard", "strains"}),
        ("groups = 2", "groups = 3", {"soft"}),
        ("[pair]", "[fit]\nvirial = 2.0\n[pair]", set()),
        ("temperatures = [30.0]", "temperatures = [25.0]", {"hot", "soft"}),
    ],
)
async def test_a_change_makes_anew_what_depends_on_it(
    old: str, new: str, steps: set[str], copy: Path
) -> None:
    file = copy / "distill.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    project = load_project(copy)
    before = made(project)
    known = await reference_data(project)
    assert changed(before, made(project)) == steps
    assert all(path.is_file() for path in known.files.values())


async def test_labels_that_were_lost_are_made_again_and_say_the_same(copy: Path) -> None:
    project = load_project(copy)
    first = await reference_data(project)
    lost = [first.training[3], first.strain_set[5], first.partition]
    before = {name: first.labels(name) for name in lost}
    times = {name: file.stat().st_mtime_ns for name, file in first.files.items()}
    for name in lost:
        first.files[name].unlink()
    again = await reference_data(project)
    anew = {name for name, file in again.files.items() if file.stat().st_mtime_ns > times[name]}
    # differences of two strains cancel noise only if all cells were relaxed alike
    assert anew == {*lost, *first.strain_set}
    for name in lost:
        one, other = before[name], again.labels(name)
        np.testing.assert_allclose(one.structure.positions, other.structure.positions, atol=1e-7)
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-6)


async def test_a_crystal_that_is_not_stable_is_refused(tmp_path: Path) -> None:
    project_in(tmp_path)
    cube = 3.6 * np.eye(3)
    topology = Topology(crystal(1).topology.numbers[:1])
    write_frame(tmp_path / "ar.xyz", topology.frame(np.zeros((1, 3)), cube))
    project = load_project(tmp_path)
    with pytest.raises(ConfigError, match=r"is not stable in the crystal .* THz"):
        await reference_data(project)
    assert not (project.folder / "hot").exists()


async def test_how_long_a_step_took_is_no_reason_to_stop(copy: Path) -> None:
    project = load_project(copy)
    (project.folder / "soft/seconds.json").write_text("")
    async with distillation(project) as run:
        await collect_reference_data(run, cheap_reach=6.3)
        assert run.run.seconds["soft"] == 0.0
        assert run.run.seconds["crystal"] > 0.0


async def test_damaged_properties_name_its_folder(copy: Path) -> None:
    project = load_project(copy)
    (project.folder / "crystal/portrait.json").write_text('{"energy": "low"}')
    with pytest.raises(ConfigError, match=r"portrait\.json .* delete the folder"):
        await reference_data(project)


async def test_a_given_frame_that_would_outweigh_all_others_is_left_out(copy: Path) -> None:
    """Atoms that no geometry betrays, and a model that pushes them apart with all its might."""
    usual = crystal(2)
    torn = usual.positions.copy()
    torn[1] = torn[0] + [1.5, 0.0, 0.0]
    write_frame(copy / "usual.xyz", usual)
    write_frame(copy / "torn.xyz", usual.topology.frame(torn, usual.cell))
    with (copy / "distill.toml").open("a") as file:
        file.write('[given]\nfiles = ["torn.xyz", "usual.xyz"]\n')
    with capture_logs() as logs:
        known = await reference_data(load_project(copy))
    given = [name for name in known.training if name.startswith("given")]
    assert given == ["given-001"]
    assert set(given) <= set(known.files)
    (note,) = known.notes
    assert f"frame 0 of {copy / 'torn.xyz'} was left out: a force of" in note
    assert note in [entry.get("reason") for entry in logs if entry["log_level"] == "warning"]
