"""From labels and rows in files to a fit and what is told of it; no model is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from argon import crystal, project_in
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import silicon_bulk
from tolerance import EXACT

from mixserver.core.arrays import Block, Scalars
from mixserver.distill.config.schema import Hard
from mixserver.distill.data.energy_partition import one_hot
from mixserver.distill.data.labels import (
    LabelledStructure,
    Structure,
    label_rows,
    subtract_potential,
)
from mixserver.distill.data.reference_data import ReferenceData
from mixserver.distill.data.splits import split_structures
from mixserver.distill.data.strain_set import PERFECT, names, strained_cell
from mixserver.distill.fitting.candidates import (
    describe_candidate,
    parity,
)
from mixserver.distill.fitting.descriptor_rows import RowFiles
from mixserver.distill.fitting.inputs import FitInputs, build_design, pair_basis
from mixserver.distill.fitting.pair_basis import PairBasis, pair_rows
from mixserver.distill.fitting.selection import select_fit
from mixserver.wire.descriptor import SnapDescriptor
from mixserver.wire.worker import ModelCard

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
REACH = 5.0
NEAREST = 2.9
DESCRIPTOR = PairBasis(functions=6, inner=2.0, cutoff=4.6, elements=("Ar",))
"""Stands for a SNAP: rows of a potential of six coefficients, as they come from files."""
FIXED = PairBasis(functions=6, inner=2.0, cutoff=5.0, elements=("Ar",))
"""Stands for the reference."""
CORE = np.array([5.0, 2.0, -0.5, 0.3, 0.1, 0.0])


def structures() -> tuple[list[Structure], list[Structure], Structure]:
    """Soft, hard and partition structures of argon, as a distillation has them."""
    perfect, rng = crystal(2), np.random.default_rng(0)
    soft = []
    for kind, count in (("hot", 14), ("strained", 7), ("vacancy", 2)):
        for at in range(count):
            left = len(perfect) - (kind == "vacancy")
            stretch = np.eye(3) + (rng.normal(0.0, 0.01, (3, 3)) if kind == "strained" else 0.0)
            moved = perfect.positions + rng.normal(0.0, 0.15, (len(perfect), 3))
            soft.append(
                Structure(
                    f"{'30K' if kind == 'hot' else kind}-{at:03d}",
                    kind,
                    perfect.topology.numbers[:left],
                    moved[:left] @ stretch,
                    perfect.cell @ stretch,
                    rng.permutation(np.arange(left) % 2).astype(np.int32),
                    30.0,
                )
            )
    one = crystal(1)
    hard = [Structure.of(one, PERFECT, "hard")]
    hard += [
        Structure.of(strained_cell(one, kind, s * 0.002), name, "hard") for name, kind, s in names()
    ]
    return soft, hard, one_hot(one, REACH)


def answered(s: Structure, values: Block) -> LabelledStructure:
    virial = np.zeros((s.groups, 3, 3))
    i, j = VOIGT
    virial[:, i, j] = values[:, -6:]
    virial[:, j, i] = values[:, -6:]
    forces = values[:, 1:-6].reshape(s.groups, len(s), 3)
    return LabelledStructure(s, values[:, 0].copy(), forces.copy(), virial)


def source_in(
    folder: Path, truth: Scalars, *, more: str = "", reference: bool = False
) -> FitInputs:
    """Labels that some coefficients make, perhaps on a reference, and rows, all in files."""
    project = project_in(folder, more=f"[pair]\nfunctions = 8\ncutoff = 5.0\n{more}")
    soft, hard, partition = structures()
    basis = PairBasis(functions=8, inner=2.46, cutoff=5.0, elements=("Ar",))
    files = {}
    for place in ("labels", "rows", "reference"):
        (folder / place).mkdir()
    for s in (*soft, *hard, partition):
        rows = pair_rows(s, DESCRIPTOR)
        fixed = pair_rows(s, FIXED) @ CORE
        both = np.concatenate([rows, pair_rows(s, basis)], axis=2)
        files[s.name] = folder / "labels" / f"{s.name}.npz"
        answered(s, both @ truth + (fixed if reference else 0.0)).save(files[s.name])
        np.save(folder / "rows" / f"{s.name}.npy", rows)
        np.save(folder / "reference" / f"{s.name}.npy", fixed[:, :, None])
    data = ReferenceData(
        card=ModelCard(engine="toy", name="made up", fingerprint="0" * 64),
        bulk=silicon_bulk(),
        crystal=crystal(1),
        training=tuple(s.name for s in soft),
        strain_set=tuple(s.name for s in hard),
        partition=partition.name,
        files=files,
        reach=REACH,
        nearest=NEAREST,
    )
    fixed = RowFiles(folder / "reference") if reference else None
    pairs = pair_basis(project, data)
    assert pairs == basis
    return FitInputs(project, data, RowFiles(folder / "rows"), fixed, pairs, {})


TRUTH = np.random.default_rng(7).normal(size=14) * 0.1


@pytest.mark.parametrize("reference", [False, True])
def test_what_made_the_labels_is_found_again(reference: bool, tmp_path: Path) -> None:
    source = source_in(tmp_path, TRUTH, more="[fit]\nsmooth = 0\n", reference=reference)
    recipe = source.project.recipe
    design = build_design(source)
    made = select_fit(design, recipe)
    told = describe_candidate("it", design, source, made.coefficients, solution=made.solution)
    assert {errors.of for errors in told.errors} == {"hot 30 K", "strained 30 K", "vacancy 30 K"}
    for errors in told.errors:
        assert max(errors.energy, errors.forces, errors.virial) < 1e-7
    assert max(ghost.largest for ghost in told.ghosts) < 1e-7
    assert told.constraints == made.solution.rank >= 3


def test_a_model_that_is_the_reference_leaves_nothing_to_fit(tmp_path: Path) -> None:
    source = source_in(tmp_path, np.zeros(14), reference=True)
    recipe = source.project.recipe
    design = build_design(source)
    for hard in (recipe.hard, Hard(lattice=False, elastic=False)):
        made = select_fit(design, msgspec.structs.replace(recipe, hard=hard))
        np.testing.assert_allclose(made.coefficients, 0.0, atol=EXACT)


@settings(max_examples=25)
@given(seed=st.integers(0, 9999), groups=st.integers(1, 3))
def test_labels_less_a_reference_and_the_reference_are_the_labels(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    some = structures()[0][0]
    s = replace(some, group=(np.arange(len(some)) % groups).astype(np.int32))
    values, fixed = rng.normal(size=(2, groups, 1 + 3 * len(s) + 6))
    left = subtract_potential(answered(s, values), fixed)
    np.testing.assert_allclose(label_rows(left) + fixed, values, atol=EXACT)
    np.testing.assert_array_equal(left.virial, left.virial.transpose(0, 2, 1))
    np.testing.assert_array_equal(label_rows(answered(s, values)), values)


def test_a_design_has_what_the_recipe_asks_for(tmp_path: Path) -> None:
    source = source_in(tmp_path, TRUTH)
    design = build_design(source)
    assert design.columns == 14
    assert design.ghosts is not None
    assert design.constraints
    assert design.roughness is not None
    # only pair functions have a curve to be smooth
    assert design.roughness.residual(np.r_[np.ones(6), np.zeros(8)]) == 0.0
    straight = np.r_[np.zeros(6), np.arange(8.0, 0.0, -1.0)]  # to nothing at the cutoff
    assert design.roughness.residual(straight) == pytest.approx(1.0)  # where it ends
    bent = np.r_[np.zeros(6), np.arange(8.0, 0.0, -1.0) ** 2]
    assert design.roughness.residual(bent) > 10.0
    free = replace(source.data, partition="", files=dict(source.data.files))
    project = project_in(
        tmp_path, more="[pair]\nfunctions = 0\n[hard]\nlattice = false\nelastic = false\n"
    )
    none = pair_basis(project, free)
    bare = build_design(FitInputs(project, free, source.rows, None, none, {}))
    assert (bare.columns, bare.constraints, bare.ghosts, bare.roughness) == (6, (), None, None)


def test_what_is_told_is_of_the_test_set_alone(tmp_path: Path) -> None:
    source = source_in(tmp_path, TRUTH)
    before = describe_candidate("it", build_design(source), source, TRUTH + 0.01)
    assigned = split_structures(source.data.training, source.project.recipe.fit.validation)
    for name, use in assigned.items():
        if use != "test":
            labelled = source.data.labels(name)
            replace(labelled, energy=labelled.energy + 1.0).save(source.data.files[name])
    after = describe_candidate("it", build_design(source), source, TRUTH + 0.01)
    assert before.errors == after.errors
    assert before.errors[0].forces > 1e-3


@pytest.mark.parametrize("reference", [False, True])
def test_parity_is_of_whole_energies_and_agrees_with_the_errors(
    reference: bool, tmp_path: Path
) -> None:
    source = source_in(tmp_path, TRUTH, reference=reference)
    guess = TRUTH + 0.02
    told = {one.of: one for one in parity(source, guess)}
    errors = {
        one.of: one for one in describe_candidate("it", build_design(source), source, guess).errors
    }
    assert set(told) == set(errors)
    assigned = split_structures(source.data.training, source.project.recipe.fit.validation)
    hot = [name for name, use in assigned.items() if use == "test" and name.startswith("30K")]
    labels = [source.data.labels(name) for name in hot]
    expected = [one.energy.sum() / len(one.structure) for one in labels]
    np.testing.assert_allclose(told["hot 30 K"].energy[0], expected, atol=EXACT)
    for of, one in told.items():
        for pair, rms in ((one.energy, errors[of].energy), (one.virial, errors[of].virial)):
            apart = np.subtract(*pair)
            assert np.sqrt(np.mean(apart**2)) == pytest.approx(rms, rel=1e-6)
        assert len(one.forces[0]) == len(one.forces[1]) > 0


def test_a_candidate_that_was_not_fitted_has_no_coefficients(tmp_path: Path) -> None:
    source = source_in(tmp_path, TRUTH)
    design = build_design(source)
    snap = SnapDescriptor(twojmax=2, cutoff=4.6, elements=("Ar",), radii=(0.5,), weights=(1.0,))
    ours = describe_candidate("ours", design, source, TRUTH, descriptor=snap, weight=3.0)
    theirs = describe_candidate("theirs", design, source, TRUTH)
    assert (ours.coefficients, ours.pair_functions, ours.pair_cutoff) == (14, 8, 5.0)
    assert ours.partition_weight == 3.0
    assert (theirs.coefficients, theirs.pair_functions, theirs.pair_cutoff) == (0, 0, 0.0)
    assert ours.errors == theirs.errors


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> FitInputs:
    return source_in(tmp_path_factory.mktemp("source"), TRUTH)


@settings(max_examples=25)
@given(nearest=st.floats(0.3, 12.0))
def test_pair_functions_begin_below_what_was_sampled(nearest: float, kept: FitInputs) -> None:
    basis = pair_basis(kept.project, replace(kept.data, nearest=nearest))
    assert 0.0 < basis.inner < nearest
    assert basis.inner <= 0.5 * basis.cutoff
    assert pair_basis(kept.project, kept.data, functions=0).columns == 0
