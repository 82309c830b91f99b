"""Seeds: as written, or found where the crystal is not one."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atom, Atoms
from ase.build import bulk

from mixserver.config.load import parse
from mixserver.core.errors import ConfigError
from mixserver.core.structures import as_frame
from mixserver.new_case.crystal import neighbour_shell
from mixserver.new_case.seeds import choose_seeds

LATTICES = [("Si", "diamond", 5.43, 4), ("W", "bcc", 3.18, 14), ("Cu", "fcc", 3.6, 12)]


def crystal(element: str, lattice: str, a: float, *, shaken: float = 0.0) -> Atoms:
    atoms = bulk(element, lattice, a=a, cubic=True) * (4, 4, 4)
    atoms.rattle(shaken, seed=3)
    return atoms


@pytest.mark.parametrize(("element", "lattice", "a", "neighbours"), LATTICES)
def test_the_shell_of_a_crystal(element: str, lattice: str, a: float, neighbours: int) -> None:
    shell = neighbour_shell(as_frame(crystal(element, lattice, a, shaken=0.05)))
    assert shell is not None
    assert shell.neighbours == neighbours
    assert len(shell.others) == 0


@pytest.mark.parametrize(("element", "lattice", "a", "neighbours"), LATTICES)
def test_the_neighbours_of_a_vacancy_are_found(
    element: str, lattice: str, a: float, neighbours: int
) -> None:
    atoms = crystal(element, lattice, a, shaken=0.05)
    gone = 77
    distance = atoms.get_distances(gone, range(len(atoms)), mic=True)
    near = sorted(np.argsort(distance)[1 : neighbours + 1].tolist())
    del atoms[gone]
    shell = neighbour_shell(as_frame(atoms))
    assert shell is not None
    assert shell.others.tolist() == sorted(i - (i > gone) for i in near)


def test_both_atoms_of_a_dumbbell_are_found() -> None:
    atoms = crystal("W", "bcc", 3.18)
    atoms.append(Atom("W", atoms.positions[50] + 0.4))
    atoms.positions[50] -= 0.4
    found = choose_seeds("auto", as_frame(atoms), None)
    assert "50," in found.lines[1]
    assert str(len(atoms) - 1) in found.lines[1]


def test_a_liquid_has_no_shell() -> None:
    rng = np.random.default_rng(1)
    atoms = Atoms("Ar200", positions=rng.random((200, 3)) * 20.0, cell=[20.0] * 3, pbc=True)
    assert neighbour_shell(as_frame(atoms)) is None
    with pytest.raises(ConfigError, match=r"no seeds were found.*--seeds"):
        choose_seeds("auto", as_frame(atoms), None)


def test_a_rare_element_is_the_seed() -> None:
    atoms = crystal("W", "bcc", 3.18)
    atoms.append(Atom("He", (1.0, 0.8, 0.0)))
    found = choose_seeds("auto", as_frame(atoms), None)
    assert found.kind == "species"
    assert found.lines[1] == 'elements = ["He"]'


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("atoms 0 5 7-9", ("indices = [0, 5, 7, 8, 9]",)),
        ("atoms 1,2", ("indices = [1, 2]",)),
        ("ids 10 12", ("indices = [0, 1]",)),
        ("species Si", ('elements = ["Si"]',)),
        ("sphere 1 2 3.5 4", ("centre = [1.0, 2.0, 3.5]", "radius = 4.0")),
        ("criterion coord/atom cutoff 2.8 high 3.6", ('compute = "coord/atom cutoff 2.8"',)),
    ],
)
def test_what_is_written_is_what_mix_toml_gets(text: str, lines: tuple[str, ...]) -> None:
    frame = as_frame(crystal("Si", "diamond", 5.43))
    found = choose_seeds(text, frame, [10, 12, *range(20, 18 + len(frame))])
    assert set(lines) <= set(found.lines)
    parse(
        'upstream.address = "unix:x"\nupstream.structure = "x"\n[models.cheap]\n'
        "[models.expensive]\n[region]\ncore_radius = 1\nblend_width = 1\n[region.seeds]\n"
        + "\n".join(found.lines)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("auto", "every atom has 4 neighbours"),
        ("coordination", "every atom has 4 neighbours"),
        ("atoms", "names no atom"),
        ("atoms 512", "names atom 512"),
        ("atoms one", "'one' is no number"),
        ("ids 3", "is not LAMMPS's"),
        ("species He", "has no He"),
        ("sphere 1 2 3", "give the centre and the radius"),
        ("criterion coord/atom cutoff 2.8", "and a bound"),
        ("nearby 3", "was not understood"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        choose_seeds(text, as_frame(crystal("Si", "diamond", 5.43)), None)


def test_coordination_chooses_again_as_the_run_goes() -> None:
    atoms = crystal("Si", "diamond", 5.43)
    del atoms[5]
    found = choose_seeds("coordination", as_frame(atoms), None)
    assert found.kind == "criterion"
    assert "high = 3.5" in found.lines


def test_a_surface_is_no_defect() -> None:
    atoms = crystal("Si", "diamond", 5.43)
    atoms.center(vacuum=8.0, axis=2)
    with pytest.raises(ConfigError, match="too many for a defect"):
        choose_seeds("auto", as_frame(atoms), None)
