import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cells import silicon
from limits import HANG_S
from mixserver_worker.engines.lammps.descriptor_rows import Job, work
from mixserver_worker.engines.lammps.descriptors import snap_rows
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.loading import bundled_potentials
from numpy.typing import NDArray
from tolerance import EXACT
from weighted_row import weighted_row

from mixserver.core.arrays import Matrix, Numbers, Vectors
from mixserver.core.errors import ConfigError
from mixserver.wire.descriptor import SnapDescriptor

ZBL = (
    "labelmap atom 1 W 2 Be\npair_style zbl 4 4.8\n"
    "pair_coeff 1 1 74 74\npair_coeff 1 2 74 4\npair_coeff 2 2 4 4\n"
)


def stock(name: str) -> tuple[SnapDescriptor, Vectors]:
    """A SNAP of the lammps package, read here by plain means."""
    folder = bundled_potentials()[0]

    def words(file: Path) -> list[list[str]]:
        lines = [line.split("#")[0].split() for line in file.read_text().splitlines()]
        return [line for line in lines if line]

    param = {line[0]: line[1] for line in words(folder / f"{name}.snapparam")}
    (count, per), *rest = words(folder / f"{name}.snapcoeff")
    blocks = [rest[at * (int(per) + 1) :][: int(per) + 1] for at in range(int(count))]
    settings = SnapDescriptor(
        twojmax=int(param["twojmax"]),
        cutoff=float(param["rcutfac"]),
        elements=tuple(block[0][0] for block in blocks),
        radii=tuple(float(block[0][1]) for block in blocks),
        weights=tuple(float(block[0][2]) for block in blocks),
        rfac0=float(param["rfac0"]),
        rmin0=float(param["rmin0"]),
        quadratic=param["quadraticflag"] == "1",
        bzero=param["bzeroflag"] == "1",
    )
    return settings, np.array([float(line[0]) for block in blocks for line in block[1:]])


def triclinic() -> tuple[Numbers, Vectors, Matrix]:
    frame = silicon(1, seed=4)
    deformation = np.eye(3) + np.array([[0, 0.1, 0.04], [-0.03, 0.02, -0.1], [0.05, 0, 0]])
    moved = frame.positions @ deformation
    moved[3] -= 2 * (frame.cell @ deformation)[1]
    return frame.topology.numbers, moved, frame.cell @ deformation


def one_atom() -> tuple[Numbers, Vectors, Matrix]:
    """A bcc cell of one atom, sheared: it meets nothing but its own images."""
    cell = 2.4 * np.array([[-1.0, 1.0, 1.0], [1.0, -1.05, 1.0], [1.0, 1.0, -0.9]])
    return np.full(1, 14, np.int32), np.array([[0.3, 9.0, -4.0]]), cell


@pytest.mark.parametrize("name", ["Si_Zuo_JPCA2020", "Si_Zuo_JPCA2020.quadratic"])
@pytest.mark.parametrize("make", [triclinic, one_atom])
def test_a_stock_potential_is_its_rows_times_its_coefficients(
    name: str, make: Callable[[], tuple[Numbers, Vectors, Matrix]], tmp_path: Path
) -> None:
    settings, coefficients = stock(name)
    numbers, positions, cell = make()
    commands = tmp_path / "stock.in"
    commands.write_text(f"include {name}.snap\n")
    engine = LammpsEngine(commands)
    group = (np.arange(len(numbers)) % 3).astype(np.int32)
    rows = snap_rows(settings, numbers, positions, cell, group)
    for which in range(rows.shape[0]):
        mask = (group == which).astype(np.float64)
        expected = weighted_row(engine, numbers, positions, cell, mask)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(rows[which] @ coefficients, expected, rtol=0, atol=EXACT)


def alloy() -> tuple[Numbers, Vectors, Matrix, NDArray[np.int32]]:
    rng = np.random.default_rng(1)
    corner = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 1, 3)
    positions = (corner + np.array([[0, 0, 0], [0.5, 0.5, 0.5]])).reshape(-1, 3) * 3.1
    positions += rng.normal(0.0, 0.15, positions.shape)
    numbers = np.where(np.arange(16) % 4, 74, 4).astype(np.int32)
    shear = np.eye(3) + np.array([[0, 0, 0], [0.1, 0, 0], [0, -0.1, 0]])
    return numbers, positions @ shear, 6.2 * shear, rng.integers(0, 2, 16).astype(np.int32)


def test_two_elements_on_a_fixed_reference(tmp_path: Path) -> None:
    settings, coefficients = stock("WBe_Wood_PRB2019")
    numbers, positions, cell, group = alloy()
    source = tmp_path / "alloy.npz"
    np.savez(source, numbers=numbers, positions=positions, cell=cell, group=group)
    zbl, whole = tmp_path / "zbl.in", tmp_path / "whole.in"
    zbl.write_text(ZBL)
    whole.write_text("include WBe_Wood_PRB2019.snap\n")
    for out, what in (("rows", {"settings": settings}), ("zbl", {"commands": str(zbl)})):
        items = ({"source": str(source), "out": str(tmp_path / f"{out}.npy")},)
        text = json.dumps({"items": items} | {k: msgspec.to_builtins(v) for k, v in what.items()})
        work(msgspec.json.decode(text, type=Job))
    total = np.load(tmp_path / "rows.npy") @ coefficients + np.load(tmp_path / "zbl.npy")[:, :, 0]
    engine = LammpsEngine(whole)
    for which in range(2):
        mask = (group == which).astype(np.float64)
        expected = weighted_row(engine, numbers, positions, cell, mask)
        np.testing.assert_allclose(
            total[which], expected, rtol=0, atol=EXACT * np.abs(expected).max()
        )


@pytest.mark.parametrize(
    ("array", "value", "words"),
    [
        ("cell", np.ones((3, 3)), "0 Å³ for 8 atoms"),
        ("cell", 0.01 * np.eye(3), "Å³ for 8 atoms"),
        ("numbers", np.ones((8, 2), int), "numbers is not a list of integers"),
        ("numbers", np.array(14), "numbers is not a list of integers"),
        ("group", np.full(8, np.nan), "group is not a list of integers"),
        ("positions", np.full((8, 3), np.inf), "not finite"),
    ],
)
def test_invalid_structures_are_reported(
    array: str, value: Vectors, words: str, tmp_path: Path
) -> None:
    frame = silicon(1)
    arrays = {
        "numbers": frame.topology.numbers,
        "positions": frame.positions,
        "cell": frame.cell,
        "group": np.zeros(8, np.int32),
        array: value,
    }
    source, out = tmp_path / "s.npz", tmp_path / "s.npy"
    with source.open("wb") as stream:
        np.savez(stream, **arrays)
    settings, _ = stock("Si_Zuo_JPCA2020")
    items = ({"source": str(source), "out": str(out)},)
    text = json.dumps({"items": items, "settings": msgspec.to_builtins(settings)})
    job = msgspec.json.decode(text, type=Job)
    with pytest.raises(ConfigError, match=words) as caught:
        work(job)
    assert str(source) in str(caught.value)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("radii", [], "radii has 0 values"),
        ("weights", [1.0, 1.0], "weights has 2 values"),
        ("elements", ["Si", "Si"], "each once"),
        ("elements", [], "each once"),
        ("twojmax", 0, "twojmax is 0"),
        ("cutoff", -1.0, "cutoff is -1.0"),
    ],
)
def test_invalid_settings_are_reported_in_one_line(
    key: str, value: object, words: str, tmp_path: Path
) -> None:
    settings = {**msgspec.to_builtins(stock("Si_Zuo_JPCA2020")[0]), key: value}
    file = tmp_path / "job.json"
    file.write_text(json.dumps({"items": [], "settings": settings}))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mixserver_worker.engines.lammps.descriptor_rows", str(file)],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
