"""Force mixing as plain functions of arrays."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from mixserver.arrays import Indices, Scalars, Vectors

ZeroNet: TypeAlias = Literal["blended", "all", "off"]


def blend(
    cheap: Vectors, expensive: Vectors, weight: Scalars, *, zero_net: ZeroNet = "blended"
) -> Vectors:
    r"""Blend cheap and expensive forces.

    .. math::
        F_i = \lambda_i F_i^\mathrm{expensive} + (1 - \lambda_i) F_i^\mathrm{cheap} - f_i

    ==========  ==============================================  ==============================
    `zero_net`  :math:`f_i`                                     takes away
    ==========  ==============================================  ==============================
    blended     :math:`\lambda_i / \sum_j \lambda_j` of net_force  what blending made, where it did
    all         :math:`\frac1N \sum_j F_j`                      the mean force, as ML-MIX does
    off         0                                               nothing
    ==========  ==============================================  ==============================

    The result is not the gradient of any energy. Where lambda is 0 everywhere, nothing is mixed and
    the cheap forces come back as they are.

    Args:
        cheap: (N, 3) eV/Å.
        expensive: (N, 3) eV/Å; rows of atoms with weight 0 are ignored and may be NaN.
        weight: (N,) expensive fraction lambda, in [0, 1].
        zero_net: over which atoms the net force is taken away, so that momentum is conserved.

    Returns:
        (N, 3) eV/Å.

    References:
        N. Bernstein, J. R. Kermode, G. Csányi, Rep. Prog. Phys. 72, 026501 (2009).
    """
    seen = np.flatnonzero(weight > 0.0)
    return blend_rows(cheap, seen, expensive[seen], weight[seen], zero_net=zero_net).forces


class Blended(NamedTuple):
    """Blended forces, and what came up on the way."""

    forces: Vectors
    """(N, 3) eV/Å."""
    net_force: Vectors
    """(3,) eV/Å; see `net_force`."""
    mismatch: Vectors
    """(n, 3) eV/Å, F_expensive - F_cheap of the atoms that are not all cheap."""


def blend_rows(
    cheap: Vectors,
    atoms: Indices,
    expensive: Vectors,
    weight: Scalars,
    *,
    zero_net: ZeroNet = "blended",
) -> Blended:
    """Do what `blend` does, given expensive forces where they matter only.

    Args:
        cheap: (N, 3) eV/Å.
        atoms: (n,) those with a weight above 0.
        expensive: (n, 3) eV/Å, theirs.
        weight: (n,) theirs.
        zero_net: see `blend`.
    """
    mixed = cheap.copy()
    before = cheap.take(atoms, axis=0)
    mismatch = expensive - before
    net: Vectors = weight @ mismatch
    if len(atoms):
        share = weight.repeat(3).reshape(-1, 3)
        rows = share * expensive + (1.0 - share) * before
        if zero_net == "blended":
            rows -= share * (net / weight.sum())
        mixed[atoms] = rows
        if zero_net == "all":
            mixed -= mixed.mean(axis=0)
    return Blended(mixed, net, mismatch)


def net_force(cheap: Vectors, expensive: Vectors, weight: Scalars) -> Vectors:
    r"""Net force that blending creates: :math:`\sum_i \lambda_i (F_i^e - F_i^c)`, (3,) eV/Å."""
    seen = np.flatnonzero(weight > 0.0)
    return blend_rows(cheap, seen, expensive[seen], weight[seen]).net_force
