"""Potentials as files: what is written is what was fitted, and LAMMPS reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cells import silicon
from mixserver_worker.engines.lammps.descriptors import snap_rows
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.loading import bundled_potentials
from numpy.typing import NDArray
from snap_files import read_snap
from tolerance import EXACT, SAME
from weighted_row import weighted_row

from mixserver.core.arrays import Matrix, Numbers, Vectors
from mixserver.core.errors import ConfigError
from mixserver.distill.data.labels import Structure
from mixserver.distill.fitting.pair_basis import PairBasis, pair_rows
from mixserver.distill.potential.hybrid import pair_commands, read_pair_styles
from mixserver.distill.potential.writer import write_potential
from mixserver.wire.descriptor import SnapDescriptor

STOCK = [
    "Si_Zuo_JPCA2020",
    "Si_Zuo_JPCA2020.quadratic",
    "WBe_Wood_PRB2019",
    "Ta06A",
    "Mo_Chen_PRM2017",
]
ZBL = "pair_style zbl 4 4.8\npair_coeff 1 1 74 74\npair_coeff 1 2 74 4\npair_coeff 2 2 4 4"
TABLE = "one\nN 3 R 1.0 5.0\n\n1 1.0 4.0 1.0\n2 3.0 2.0 1.0\n3 5.0 0.0 1.0\n"


def pairs(elements: tuple[str, ...], functions: int = 0) -> PairBasis:
    return PairBasis(functions=functions, inner=2.0, cutoff=5.0, elements=elements)


def stock(name: str) -> tuple[SnapDescriptor, Vectors]:
    folder = bundled_potentials()[0]
    return read_snap(folder / f"{name}.snapcoeff", folder / f"{name}.snapparam")


def ask(
    commands: Path, numbers: Numbers, positions: Vectors, cell: Matrix, *weights: Vectors
) -> list[Vectors]:
    """A row for each set of site weights, by one engine: making it takes longest."""
    engine = LammpsEngine(commands)
    rows = [weighted_row(engine, numbers, positions, cell, weight) for weight in weights]
    engine.close()
    return rows


def tungsten(other: int, every: int = 4) -> tuple[Numbers, Vectors, Matrix, NDArray[np.int32]]:
    rng = np.random.default_rng(1)
    corner = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 1, 3)
    positions = (corner + np.array([[0, 0, 0], [0.5, 0.5, 0.5]])).reshape(-1, 3) * 3.2
    positions += rng.normal(0.0, 0.15, positions.shape)
    numbers = np.where(np.arange(16) % every, 74, other).astype(np.int32)
    return numbers, positions, 6.4 * np.eye(3), rng.integers(0, 2, 16).astype(np.int32)


@pytest.mark.parametrize("name", STOCK)
def test_stock_potentials_survive_reading_and_writing(name: str, tmp_path: Path) -> None:
    descriptor, coefficients = stock(name)
    assert coefficients.shape == (len(descriptor.elements) * descriptor.columns,)
    none = pairs(descriptor.elements)
    notes = ["from a test"]
    written = write_potential(tmp_path, "x", descriptor, none, coefficients, notes=notes)
    again, same = read_snap(tmp_path / "x.snapcoeff", tmp_path / "x.snapparam")
    assert again == descriptor
    np.testing.assert_allclose(same, coefficients, rtol=SAME)
    for file in (written, tmp_path / "x.snapcoeff", tmp_path / "x.snapparam"):
        assert file.read_text().startswith("# from a test\n")


def test_a_stock_potential_is_known() -> None:
    descriptor, coefficients = stock("Si_Zuo_JPCA2020")
    assert (descriptor.twojmax, descriptor.cutoff, descriptor.bzero) == (8, 4.9, False)
    assert descriptor.elements == ("Si",)
    assert coefficients[0] == -5.663990890722773


@pytest.mark.parametrize("functions", [0, 8])
@pytest.mark.parametrize("quadratic", [False, True])
def test_what_is_written_is_rows_times_coefficients(
    functions: int, quadratic: bool, tmp_path: Path
) -> None:
    """Two elements of different radii and weights, on a fixed reference, weighted sites."""
    numbers, positions, cell, group = tungsten(4)
    d = SnapDescriptor(
        twojmax=2,
        cutoff=4.7,
        elements=("W", "Be"),
        radii=(0.5, 0.42),
        weights=(1.0, 0.9),
        rfac0=0.98,
        rmin0=0.1,
        quadratic=quadratic,
    )
    basis = pairs(d.elements, functions)
    settings = SnapDescriptor(
        twojmax=2,
        cutoff=4.7,
        elements=d.elements,
        radii=d.radii,
        weights=d.weights,
        rfac0=0.98,
        rmin0=0.1,
        quadratic=quadratic,
        bzero=True,
    )
    rows = np.concatenate(
        [
            snap_rows(settings, numbers, positions, cell, group),
            pair_rows(Structure("s", "hot", numbers, positions, cell, group), basis),
        ],
        axis=2,
    )
    coefficients = np.random.default_rng(3).normal(size=rows.shape[2]) * 0.02
    zbl = tmp_path / "zbl.in"
    zbl.write_text(f"labelmap atom 1 W 2 Be\n{ZBL}\n")
    folder = tmp_path / "made"
    folder.mkdir()
    commands = write_potential(folder, "wbe", d, basis, coefficients, reference=zbl)
    masks = [(group == which).astype(np.float64) for which in range(2)]
    by_potential = ask(commands, numbers, positions, cell, *masks)
    by_reference = ask(zbl, numbers, positions, cell, *masks)
    for row, came, fixed in zip(rows, by_potential, by_reference, strict=True):
        expected = row @ coefficients + fixed
        # a pair table is interpolated, and weighted pairs by splines of their own
        tolerance = 1e-6 if functions else EXACT
        np.testing.assert_allclose(came, expected, rtol=0, atol=tolerance * np.abs(came).max())


@pytest.mark.parametrize("functions", [0, 6])
def test_a_reference_of_several_tables_comes_along(functions: int, tmp_path: Path) -> None:
    """Styles that are there several times are numbered anew; files beside the reference copied."""
    numbers, positions, cell, _ = tungsten(2)
    source = tmp_path / "given"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "mine.table").write_text(TABLE)
    reference = source / "r.in"
    reference.write_text(
        "labelmap atom 1 W 2 He\n"
        "pair_style hybrid/overlay zbl 4.0 4.8 table spline 10000 & # goes on\n"
        "  table linear 5000\n"
        "pair_coeff 1 1 zbl 74 74\n"
        "pair_coeff 2 2 table 1 He_He_JW2013.table HeHe\n"
        "pair_coeff 1 2 table 2 deep/mine.table one\n"
    )
    d = SnapDescriptor(
        twojmax=2, cutoff=4.0, elements=("W", "He"), radii=(0.5, 0.5), weights=(1.0, 1.0)
    )
    basis = pairs(d.elements, functions)
    folder = tmp_path / "made"
    folder.mkdir()
    nothing = np.zeros(2 * d.columns + basis.columns)
    commands = write_potential(folder, "p", d, basis, nothing, reference=reference)
    (source / "deep" / "mine.table").unlink()  # a potential stands on its own
    (came,) = ask(commands, numbers, positions, cell, np.ones(16))
    (source / "deep" / "mine.table").write_text(TABLE)
    (expected,) = ask(reference, numbers, positions, cell, np.ones(16))
    assert np.abs(expected).max() > 1.0
    np.testing.assert_allclose(came, expected, rtol=0, atol=EXACT * np.abs(expected).max())
    # once more over its own files
    write_potential(folder, "p", d, basis, nothing, reference=reference)
    assert (folder / "mine.table").read_text() == TABLE


def test_without_reference_or_pairs_it_is_a_plain_snap(tmp_path: Path) -> None:
    d, coefficients = stock("Si_Zuo_JPCA2020")
    commands = write_potential(tmp_path, "si", d, pairs(d.elements), coefficients)
    assert "hybrid" not in commands.read_text()
    frame = silicon(1)
    stock_file = tmp_path / "stock.in"
    stock_file.write_text("include Si_Zuo_JPCA2020.snap\n")
    arguments = (frame.topology.numbers, frame.positions, frame.cell, np.ones(8))
    np.testing.assert_allclose(ask(commands, *arguments), ask(stock_file, *arguments), rtol=SAME)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"labelmap atom 1 Be 2 W\n{ZBL}", "1 Be 2 W"),
        (f"labelmap atom 1 W 2 Be 3 He\n{ZBL}", "3 He"),
        (ZBL, "labelmap atom 1 W 2 Be"),
        ("labelmap atom 1 W 2 Be\nunits metal\n" + ZBL, "'units metal'"),
        ("labelmap atom 1 W 2 Be\npair_style zbl 4 4.8", "both"),
        ("labelmap atom 1 W 2 Be\npair_style hybrid zbl 4 4.8\npair_coeff * * zbl 4 4", "hybrid"),
        ("labelmap atom 1 W 2 Be\npair_style hybrid/overlay\npair_coeff 1 1 zbl 4 4", "a style"),
        (
            "labelmap atom 1 W 2 Be\npair_style hybrid/overlay table linear 9 table linear 9\n"
            "pair_coeff 1 1 table x.table one",
            "number",
        ),
    ],
)
def test_references_that_cannot_be_laid_over(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_pair_styles(text.splitlines(), ("W", "Be"))


def test_references_that_cannot_be_read_or_copied(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_pair_styles(tmp_path / "none.in", ("Si",))
    reference = tmp_path / "r.in"
    reference.write_text("pair_style table linear 9\npair_coeff 1 1 si.table one\n")
    (tmp_path / "si.table").write_text(TABLE)
    d, coefficients = stock("Si_Zuo_JPCA2020")
    with pytest.raises(ConfigError, match="rename it"):
        write_potential(tmp_path, "si", d, pairs(d.elements), coefficients, reference=reference)
    assert (tmp_path / "si.table").read_text() == TABLE
    assert not (tmp_path / "si.in").exists()


def test_the_number_of_coefficients_must_fit(tmp_path: Path) -> None:
    d, coefficients = stock("Si_Zuo_JPCA2020")
    with pytest.raises(ValueError, match="55 coefficients, expected 56"):
        write_potential(tmp_path, "si", d, pairs(d.elements), coefficients[1:])
    assert not list(tmp_path.iterdir())


def test_commands_name_styles_only_where_they_must() -> None:
    one = read_pair_styles(["pair_style zbl 3 4", "pair_coeff 1 1 14 14"], ("Si",)).parts
    assert pair_commands(one) == ["pair_style zbl 3 4", "pair_coeff 1 1 14 14"]
    two = pair_commands([*one, *one])
    assert two == [
        "pair_style hybrid/overlay zbl 3 4 zbl 3 4",
        "pair_coeff 1 1 zbl 1 14 14",
        "pair_coeff 1 1 zbl 2 14 14",
    ]
    assert read_pair_styles((), ("Si",)).parts == ()
