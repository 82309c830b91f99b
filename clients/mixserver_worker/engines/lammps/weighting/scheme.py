"""Find out whether and how the site energies of a LAMMPS potential can be weighted.

`split_styles` divides the potential into terms that can be weighted. A check at start-up, on a few
atoms, compares their sum with the unweighted potential and the forces with the gradient of the
weighted energy. A potential that fails the check is not weighted at all.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Final

import numpy as np

from mixserver.core.arrays import Scalars, Vectors
from mixserver.core.errors import BadInput
from mixserver_worker.engines.lammps.instance import LammpsInstance
from mixserver_worker.engines.lammps.library import LammpsError, LammpsLibrary
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.counted_files import UnknownFormat
from mixserver_worker.engines.lammps.weighting.eam_tables import embed_pairs
from mixserver_worker.engines.lammps.weighting.many_body import CountedPotential
from mixserver_worker.engines.lammps.weighting.site_weights import (
    WeightedPotential,
    WeightingScheme,
)
from mixserver_worker.engines.lammps.weighting.snap import SnapMethod
from mixserver_worker.engines.lammps.weighting.split_styles import NotWeightable, split_potential
from mixserver_worker.engines.lammps.weighting.tables import inconsistent_tables
from mixserver_worker.engines.lammps.weighting.weighted_instance import site_energies_of

_SAME: Final = 1e-8
"""eV/Å and eV, between the sum of the terms and the unweighted potential."""
_SLOPE: Final = 1e-3
"""Relative. Splines of tables reach this; a potential that is not pairwise is far off."""
_STEP: Final = 1e-3


def find_scheme(setup: PotentialSetup, cutoff: float | None) -> WeightingScheme:
    """Find a scheme to weight the site energies of a potential and check it, on one rank.

    Raises:
        NotWeightable: there is none; the message is the reason.
    """
    if not setup.site_energies:
        raise NotWeightable("LAMMPS has no site energies for it")
    if cutoff is None:
        raise NotWeightable("LAMMPS does not report its cutoff")
    with closing(LammpsLibrary(["-log", "none", *setup.arguments])) as library:
        terms = split_potential(
            setup.after_box, len(setup.numbers), lambda word: library.has_style("pair", word)
        )
    reasons: list[str] = []
    methods: tuple[SnapMethod, ...] = ("scale", "coefficients") if terms.snaps else ("scale",)
    for method in methods:
        try:
            curves = inconsistent_tables(setup, terms.pairwise or (), cutoff)
            many_body = tuple(CountedPotential(setup, one, cutoff) for one in terms.many_body)
            scheme = WeightingScheme(setup, terms, cutoff, method, curves, many_body=many_body)
            scheme = _with_site_energies(scheme)
            check(scheme)
            return _with_eam_tables(scheme)
        except UnknownFormat as error:
            reasons.append(f"a file of its many-body potential cannot be read: {error}")
        except LammpsError as error:
            reasons.append(f"LAMMPS reports: {error}")
        except (BadInput, NotWeightable) as error:
            reasons.append(str(error))
    raise NotWeightable(reasons[0])


def _with_site_energies(scheme: WeightingScheme) -> WeightingScheme:
    """The same scheme, in which many-body terms know if LAMMPS's site energies are theirs."""
    if not scheme.many_body:
        return scheme
    job = _few_atoms(scheme)
    with closing(LammpsInstance(scheme.setup, job, Ranks())) as plain:
        e = site_energies_of(plain.evaluate(job))
    half = replace(job, weight=np.full(len(e), 0.5))
    with closing(WeightedPotential(scheme, half, Ranks())) as weighted:
        central = site_energies_of(weighted.evaluate(half))
    same = float(np.abs(central - e).max()) <= _SAME * max(1.0, float(np.abs(e).max()))
    many_body = tuple(replace(one, as_lammps=same) for one in scheme.many_body)
    return replace(scheme, many_body=many_body)


def _with_eam_tables(scheme: WeightingScheme) -> WeightingScheme:
    """The same scheme with EAM tables of its pairwise remainder, if they are exact."""
    tables = embed_pairs(scheme.setup, scheme.terms.pairwise or (), scheme.cutoff)
    embedded = replace(scheme, eam_tables=tables)
    try:
        check(embedded)
    except (LammpsError, BadInput, NotWeightable):
        return scheme
    return embedded


def check(scheme: WeightingScheme) -> None:
    """Compare the weighted potential with the unweighted one on a few atoms.

    Raises:
        NotWeightable: they differ.
        LammpsError: LAMMPS refused.
    """
    job = _few_atoms(scheme)
    with closing(LammpsInstance(scheme.setup, job, Ranks())) as plain:
        expected = plain.evaluate(job)
        n = len(job.positions)
        dice = np.random.default_rng(4)
        mixed = dice.random(n)
        mixed[::4], mixed[1::4] = 0.0, 1.0
        scale = max(1.0, float(np.abs(expected.forces).max()))
        half = np.full(n, 0.5)
        with closing(WeightedPotential(scheme, replace(job, weight=mixed), Ranks())) as weighted:
            ones = weighted.evaluate(replace(job, weight=np.ones(n)))
            some = weighted.evaluate(replace(job, weight=mixed))

            def site_energies(positions: Vectors) -> Scalars:
                """LAMMPS's own, or those of single sites if it divides the energy otherwise."""
                moved = replace(job, positions=positions)
                if scheme.as_lammps:
                    return site_energies_of(plain.evaluate(moved))
                return site_energies_of(weighted.evaluate(replace(moved, weight=half)))

            e = site_energies(job.positions)
            slopes = []
            for atom in range(3):
                along = np.zeros_like(job.positions)
                along[atom, atom] = _STEP
                ends = [site_energies(job.positions + sign * along) for sign in (1.0, -1.0)]
                slopes.append(float(mixed @ (ends[0] - ends[1])) / (2.0 * _STEP))
        compared: list[tuple[str, object, object]] = [
            ("energy", ones.energy, expected.energy),
            ("sum of site energies", float(e.sum()), expected.energy),
            ("site energies", ones.energies, e),
            ("weighted energy", some.energy, float(mixed @ e)),
        ]
        if not scheme.curves:
            compared.append(("forces", ones.forces, expected.forces))
            compared.append(("virial", ones.virial, expected.virial))
        for what, got, exact in compared:
            error = float(np.abs(np.asarray(got) - np.asarray(exact)).max())
            if not error <= _SAME * scale * n:
                raise NotWeightable(
                    f"the {what} of its terms differ from its own by {error:.2g} (eV, Å): apart "
                    "from SNAP and the many-body styles that can be weighted it is not pairwise, "
                    "or this build of LAMMPS does not support site weights"
                )
        for atom, slope in enumerate(slopes):
            error = abs(float(some.forces[atom, atom]) + slope)
            if not error <= _SLOPE * scale:
                raise NotWeightable(
                    f"forces would not be the gradient of weighted site energies, by {error:.2g} "
                    "eV/Å: apart from SNAP and the many-body styles that can be weighted it is "
                    "not pairwise"
                )


def _few_atoms(scheme: WeightingScheme) -> RankJob:
    """A cluster of all elements, in which each atom has several neighbours."""
    numbers = scheme.setup.numbers
    n = 12 * len(numbers)
    spacing = min(2.7, 0.6 * scheme.cutoff)
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 2, np.arange(float(n)), indexing="ij"), -1)
    sites = grid.transpose(2, 0, 1, 3).reshape(-1, 3)[:n]
    dice = np.random.default_rng(3)
    return RankJob(
        stream=0,
        positions=spacing * (sites + dice.uniform(-0.06, 0.06, sites.shape)),
        numbers=dice.permutation(np.resize(np.array(numbers, np.int32), n)),
        cell=np.eye(3) * (40.0 + spacing * n),
        pbc=(True, True, True),
        energies=True,
    )
