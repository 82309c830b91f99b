import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cells import silicon
from limits import HANG_S
from mixserver_worker.engines.lammps.descriptors import snap_rows
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.loading import bundled_potentials
from tolerance import EXACT
from weighted_row import weighted_row

from mixserver.core.arrays import Matrix, Numbers, Vectors
from mixserver.core.errors import ConfigError
from mixserver.wire.descriptor import SnapDescriptor

DIAMOND = np.array(
    [[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]]
)


def settings(elements: tuple[str, ...] = ("Si",), **other: object) -> SnapDescriptor:
    values: dict[str, object] = {
        "twojmax": 4,
        "cutoff": 4.7,
        "elements": elements,
        "radii": (0.5,) * len(elements),
        "weights": (1.0,) * len(elements),
        "rfac0": 0.99363,
        "rmin0": 0.0,
        "quadratic": False,
        "bzero": True,
    }
    return SnapDescriptor(**{**values, **other})  # type: ignore[arg-type]


def potential(folder: Path, s: SnapDescriptor, coefficients: Vectors) -> Path:
    """The same SNAP as LAMMPS files."""
    per = len(coefficients) // len(s.elements)
    lines = [f"{len(s.elements)} {per}"]
    for at, symbol in enumerate(s.elements):
        lines.append(f"{symbol} {s.radii[at]:.17g} {s.weights[at]:.17g}")
        lines += [f"{value:.17g}" for value in coefficients[at * per : (at + 1) * per]]
    (folder / "x.snapcoeff").write_text("\n".join(lines) + "\n")
    (folder / "x.snapparam").write_text(
        f"rcutfac {s.cutoff:.17g}\ntwojmax {s.twojmax}\nrfac0 {s.rfac0:.17g}\n"
        f"rmin0 {s.rmin0:.17g}\nbzeroflag {s.bzero:d}\nquadraticflag {s.quadratic:d}\n"
    )
    names = " ".join(s.elements)
    labels = " ".join(f"{at + 1} {symbol}" for at, symbol in enumerate(s.elements))
    commands = folder / "x.in"
    commands.write_text(
        f"labelmap atom {labels}\npair_style snap\npair_coeff * * x.snapcoeff x.snapparam {names}\n"
    )
    return commands


def one_cell() -> tuple[Numbers, Vectors, Matrix]:
    """The primitive cell, far smaller than the cutoff; LAMMPS has to turn it."""
    cell = 2.73 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    positions = np.array([[0.02, 0.0, -0.03], [1.40, 1.31, 1.38]])
    return np.full(2, 14, np.int32), positions, cell


def left_handed() -> tuple[Numbers, Vectors, Matrix]:
    frame = silicon(1)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    shear = np.eye(3) + np.array([[0, 0.1, 0], [0, 0, -0.2], [0.05, 0, 0]])
    deformation = shear @ turn
    cell = (frame.cell @ deformation)[[1, 0, 2]]
    assert np.linalg.det(cell) * np.linalg.det(frame.cell @ deformation) < 0
    # some atoms several cells away
    moved = frame.positions @ deformation
    moved[0] += 3 * cell[0] - cell[2]
    return frame.topology.numbers, moved, cell


def orthogonal() -> tuple[Numbers, Vectors, Matrix]:
    frame = silicon(2)
    return frame.topology.numbers, frame.positions, frame.cell


@pytest.mark.parametrize("make", [one_cell, left_handed, orthogonal])
@pytest.mark.parametrize("quadratic", [False, True])
def test_rows_times_coefficients_are_the_weighted_potential(
    make: Callable[[], tuple[Numbers, Vectors, Matrix]], quadratic: bool, tmp_path: Path
) -> None:
    numbers, positions, cell = make()
    s = settings(quadratic=quadratic, twojmax=2 if quadratic else 4)
    rng = np.random.default_rng(8)
    group = rng.integers(0, 3, len(numbers)).astype(np.int32)
    group[0] = 2
    rows = snap_rows(s, numbers, positions, cell, group)
    coefficients = rng.normal(size=rows.shape[2]) * (0.01 if quadratic else 0.1)
    engine = LammpsEngine(potential(tmp_path, s, coefficients), elements=["Si"])
    assert rows.shape[:2] == (3, 1 + 3 * len(numbers) + 6)
    for which in range(3):
        mask = (group == which).astype(np.float64)
        expected = weighted_row(engine, numbers, positions, cell, mask)
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(rows[which] @ coefficients, expected, atol=EXACT * scale)


def test_elements_have_columns_of_their_own(tmp_path: Path) -> None:
    frame = silicon(1)
    numbers = frame.topology.numbers.copy()
    numbers[::3] = 6
    s = settings(("C", "Si"), radii=(0.4, 0.5), weights=(0.7, 1.0))
    group = (np.arange(8) % 2).astype(np.int32)
    rows = snap_rows(s, numbers, frame.positions, frame.cell, group)
    assert rows[0, 0, 0] == ((numbers == 6) & (group == 0)).sum()
    assert rows[1, 0, 15] == ((numbers == 14) & (group == 1)).sum()
    coefficients = np.random.default_rng(2).normal(size=30) * 0.1
    engine = LammpsEngine(potential(tmp_path, s, coefficients))
    for which in range(2):
        mask = (group == which).astype(np.float64)
        expected = weighted_row(engine, numbers, frame.positions, frame.cell, mask)
        np.testing.assert_allclose(
            rows[which] @ coefficients, expected, atol=10 * EXACT * np.abs(expected).max()
        )


def test_unknown_elements_are_refused() -> None:
    frame = silicon(1)
    group = np.zeros(8, np.int32)
    with pytest.raises(ConfigError, match=r"there are atoms of Si, but the potential is for"):
        snap_rows(settings(("C",)), frame.topology.numbers, frame.positions, frame.cell, group)
    with pytest.raises(ConfigError, match="no chemical elements Xy"):
        snap_rows(settings(("Xy",)), frame.topology.numbers, frame.positions, frame.cell, group)


def write(file: Path, seed: int = 0, cells: int = 1) -> None:
    frame = silicon(cells, seed=seed)
    n = len(frame)
    with file.open("wb") as stream:
        np.savez(
            stream,
            numbers=frame.topology.numbers,
            positions=frame.positions,
            cell=frame.cell,
            group=(np.arange(n) % 2).astype(np.int32),
            energy=np.zeros(2),
        )


def job(folder: Path, count: int, cells: int = 1, **other: object) -> Path:
    items = []
    for at in range(count):
        write(folder / f"s{at}.npz", at, cells)
        items.append({"source": str(folder / f"s{at}.npz"), "out": str(folder / f"s{at}.npy")})
    s = settings()
    values = {name: getattr(s, name) for name in s.__struct_fields__}
    file = folder / "job.json"
    file.write_text(json.dumps({"items": items, "settings": values, **other}))
    return file


def program(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "mixserver_worker.engines.lammps.descriptor_rows", str(file)],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


def test_the_program_writes_missing_files(tmp_path: Path) -> None:
    file = job(tmp_path, 3)
    np.save(tmp_path / "s1.npy", np.zeros(1))
    done = program(file)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / f"s{at}.npy") for at in range(3)]
    assert np.load(tmp_path / "s1.npy").shape == (1,)
    frame = silicon(1, seed=2)
    group = (np.arange(8) % 2).astype(np.int32)
    expected = snap_rows(settings(), frame.topology.numbers, frame.positions, frame.cell, group)
    np.testing.assert_array_equal(np.load(tmp_path / "s2.npy"), expected)


def test_a_potential_counts_as_one_descriptor(tmp_path: Path) -> None:
    folder = bundled_potentials()[0]
    commands = tmp_path / "zbl.in"
    commands.write_text("pair_style zbl 4.0 4.8\npair_coeff * * 14 14\n")
    assert folder.is_dir()
    file = job(tmp_path, 1, settings=None, commands=str(commands))
    done = program(file)
    assert done.returncode != 0
    assert "elements" in done.stderr  # a file without the elements of its atom types
    commands.write_text("labelmap atom 1 Si\npair_style zbl 4.0 4.8\npair_coeff * * 14 14\n")
    done = program(file)
    assert done.returncode == 0, done.stderr
    rows = np.load(tmp_path / "s0.npy")
    assert rows.shape == (2, 1 + 24 + 6, 1)
    frame = silicon(1, seed=0)
    engine = LammpsEngine(commands)
    whole = weighted_row(engine, frame.topology.numbers, frame.positions, frame.cell, np.ones(8))
    np.testing.assert_allclose(rows.sum(axis=0)[:, 0], whole, atol=EXACT * np.abs(whole).max())
    assert np.abs(whole[1:25]).max() > 1e-3


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "job.json").write_text("{"), "truncated|malformed"),
        (lambda f: (f / "job.json").write_text('{"items": [], "setings": 1}'), "setings"),
        (lambda f: (f / "job.json").write_text('{"items": []}'), "either settings or commands"),
        (lambda f: (f / "s0.npz").write_bytes(b"PK nonsense"), "s0.npz"),
        (lambda f: (f / "s0.npz").unlink(), "s0.npz"),
    ],
)
def test_damaged_files_are_reported_in_one_line(
    damage: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    file = job(tmp_path, 1)
    damage(tmp_path)
    done = program(file)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert any(word in done.stderr for word in words.split("|"))
    assert not (tmp_path / "s0.npy").exists()


def test_a_killed_program_leaves_whole_files(tmp_path: Path) -> None:
    file = job(tmp_path, 40, cells=2)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "mixserver_worker.engines.lammps.descriptor_rows", str(file)],
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        time.sleep(0.05)
        os.kill(running.pid, signal.SIGKILL)
    written = list(tmp_path.glob("s*.npy"))
    assert 0 < len(written) < 40
    for one in written:
        assert np.load(one).shape == (2, 1 + 3 * 64 + 6, 15)
    assert program(file).returncode == 0
    assert len(list(tmp_path.glob("s*.npy"))) == 40
