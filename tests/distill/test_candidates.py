"""From labels and rows in files to a fit and what is told of it; no model is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from argon import crystal, order_in
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import portrait
from numpy.typing import NDArray
from tolerance import EXACT

from mixserver.arrays import Scalars
from mixserver.distill.candidates import Source, described, design_of, pair_basis, parity
from mixserver.distill.dealing import splits
from mixserver.distill.descriptor import Descriptor
from mixserver.distill.fit import chosen
from mixserver.distill.hard import PERFECT, as_structure, names, strained
from mixserver.distill.labelled import Labelled, Structure, less, rows_of
from mixserver.distill.material import Material
from mixserver.distill.pair import PairBasis, pair_rows
from mixserver.distill.partition import one_hot
from mixserver.distill.recipe import Hard
from mixserver.distill.rows import RowFiles
from mixserver.wire.worker import ModelCard

Block = NDArray[np.float64]
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
    hard = [as_structure(PERFECT, one)]
    hard += [as_structure(name, strained(one, kind, s * 0.002)) for name, kind, s in names()]
    return soft, hard, one_hot(one, REACH)


def answered(s: Structure, values: Block) -> Labelled:
    virial = np.zeros((s.groups, 3, 3))
    i, j = VOIGT
    virial[:, i, j] = values[:, -6:]
    virial[:, j, i] = values[:, -6:]
    forces = values[:, 1:-6].reshape(s.groups, len(s), 3)
    return Labelled(s, values[:, 0].copy(), forces.copy(), virial)


def source_in(folder: Path, truth: Scalars, *, more: str = "", reference: bool = False) -> Source:
    """Labels that some coefficients make, perhaps on a reference, and rows, all in files."""
    order = order_in(folder, more=f"[pair]\nfunctions = 8\ncutoff = 5.0\n{more}")
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
    material = Material(
        card=ModelCard(engine="toy", name="made up", fingerprint="0" * 64),
        portrait=portrait(),
        crystal=crystal(1),
        soft=tuple(s.name for s in soft),
        hard=tuple(s.name for s in hard),
        partition=partition.name,
        files=files,
        reach=REACH,
        nearest=NEAREST,
        seconds={},
    )
    laid = RowFiles(folder / "reference") if reference else None
    pairs = pair_basis(order, material)
    assert pairs == basis
    return Source(order, material, RowFiles(folder / "rows"), laid, pairs, {})


TRUTH = np.random.default_rng(7).normal(size=14) * 0.1


@pytest.mark.parametrize("reference", [False, True])
def test_what_made_the_labels_is_found_again(reference: bool, tmp_path: Path) -> None:
    source = source_in(tmp_path, TRUTH, more="[fit]\nsmooth = 0\n", reference=reference)
    recipe = source.order.recipe
    design = design_of(source)
    made = chosen(design, recipe.fit, recipe.hard, recipe.partition)
    told = described("it", design, made.solution, made.coefficients, source)
    assert {errors.of for errors in told.errors} == {"hot 30 K", "strained 30 K", "vacancy 30 K"}
    for errors in told.errors:
        assert max(errors.energy, errors.forces, errors.virial) < 1e-7
    assert max(ghost.largest for ghost in told.ghosts) < 1e-7
    assert told.constraints == made.solution.rank >= 3


def test_a_model_that_is_the_reference_leaves_nothing_to_fit(tmp_path: Path) -> None:
    source = source_in(tmp_path, np.zeros(14), reference=True)
    recipe = source.order.recipe
    design = design_of(source)
    for hard in (recipe.hard, Hard(lattice=False, elastic=False)):
        made = chosen(design, recipe.fit, hard, recipe.partition)
        np.testing.assert_allclose(made.coefficients, 0.0, atol=EXACT)


@settings(max_examples=25)
@given(seed=st.integers(0, 9999), groups=st.integers(1, 3))
def test_labels_less_a_reference_and_the_reference_are_the_labels(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    some = structures()[0][0]
    s = replace(some, group=(np.arange(len(some)) % groups).astype(np.int32))
    values, fixed = rng.normal(size=(2, groups, 1 + 3 * len(s) + 6))
    left = less(answered(s, values), fixed)
    np.testing.assert_allclose(rows_of(left) + fixed, values, atol=EXACT)
    np.testing.assert_array_equal(left.virial, left.virial.transpose(0, 2, 1))
    np.testing.assert_array_equal(rows_of(answered(s, values)), values)


def test_a_design_has_what_the_recipe_asks_for(tmp_path: Path) -> None:
    source = source_in(tmp_path, TRUTH)
    design = design_of(source)
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
    free = replace(source.material, partition="", files=dict(source.material.files))
    order = order_in(
        tmp_path, more="[pair]\nfunctions = 0\n[hard]\nlattice = false\nelastic = false\n"
    )
    none = pair_basis(order, free)
    bare = design_of(Source(order, free, source.rows, None, none, {}))
    assert (bare.columns, bare.constraints, bare.ghosts, bare.roughness) == (6, [], None, None)


def test_what_is_told_is_of_the_test_set_alone(tmp_path: Path) -> None:
    source = source_in(tmp_path, TRUTH)
    before = described("it", design_of(source), None, TRUTH + 0.01, source)
    dealt = splits(source.material.soft, source.order.recipe.fit.validation)
    for name, use in dealt.items():
        if use != "test":
            labelled = source.material.labels(name)
            replace(labelled, energy=labelled.energy + 1.0).save(source.material.files[name])
    after = described("it", design_of(source), None, TRUTH + 0.01, source)
    assert before.errors == after.errors
    assert before.errors[0].forces > 1e-3


@pytest.mark.parametrize("reference", [False, True])
def test_parity_is_of_whole_energies_and_agrees_with_the_errors(
    reference: bool, tmp_path: Path
) -> None:
    source = source_in(tmp_path, TRUTH, reference=reference)
    guess = TRUTH + 0.02
    told = {one.of: one for one in parity(source, source.rows, guess)}
    errors = {one.of: one for one in described("it", design_of(source), None, guess, source).errors}
    assert set(told) == set(errors)
    dealt = splits(source.material.soft, source.order.recipe.fit.validation)
    hot = [name for name, use in dealt.items() if use == "test" and name.startswith("30K")]
    labels = [source.material.labels(name) for name in hot]
    expected = [one.energy.sum() / len(one.structure) for one in labels]
    np.testing.assert_allclose(told["hot 30 K"].energy[0], expected, atol=EXACT)
    for of, one in told.items():
        for pair, rms in ((one.energy, errors[of].energy), (one.virial, errors[of].virial)):
            apart = np.subtract(*pair)
            assert np.sqrt(np.mean(apart**2)) == pytest.approx(rms, rel=1e-6)
        assert len(one.forces[0]) == len(one.forces[1]) > 0


def test_a_candidate_that_was_not_fitted_has_no_coefficients(tmp_path: Path) -> None:
    source = source_in(tmp_path, TRUTH)
    design = design_of(source)
    snap = Descriptor(twojmax=2, cutoff=4.6, elements=("Ar",), radii=(0.5,), weights=(1.0,))
    ours = described("ours", design, None, TRUTH, source, descriptor=snap, weight=3.0)
    theirs = described("theirs", design, None, TRUTH, source)
    assert (ours.coefficients, ours.pair_functions, ours.pair_cutoff) == (14, 8, 5.0)
    assert ours.partition_weight == 3.0
    assert (theirs.coefficients, theirs.pair_functions, theirs.pair_cutoff) == (0, 0, 0.0)
    assert ours.errors == theirs.errors


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source_in(tmp_path_factory.mktemp("source"), TRUTH)


@settings(max_examples=25)
@given(nearest=st.floats(0.3, 12.0))
def test_pair_functions_begin_below_what_was_sampled(nearest: float, kept: Source) -> None:
    basis = pair_basis(kept.order, replace(kept.material, nearest=nearest))
    assert 0.0 < basis.inner < nearest
    assert basis.inner <= 0.5 * basis.cutoff
    assert pair_basis(kept.order, kept.material, functions=0).columns == 0
