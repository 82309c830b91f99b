"""Force mixing as plain functions of arrays."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from mixserver.arrays import Scalars, Vectors

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
    mixed = cheap.copy()
    seen = np.flatnonzero(weight > 0.0)
    if not len(seen):
        return mixed
    share = weight[seen, None]
    mixed[seen] = share * expensive[seen] + (1.0 - share) * cheap[seen]
    if zero_net == "blended":
        mixed[seen] -= share * (net_force(cheap, expensive, weight) / share.sum())
    elif zero_net == "all":
        mixed -= mixed.mean(axis=0)
    return mixed


def net_force(cheap: Vectors, expensive: Vectors, weight: Scalars) -> Vectors:
    r"""Net force that blending creates: :math:`\sum_i \lambda_i (F_i^e - F_i^c)`, (3,) eV/Å."""
    seen = np.flatnonzero(weight > 0.0)
    net: Vectors = weight[seen] @ (expensive[seen] - cheap[seen])
    return net
