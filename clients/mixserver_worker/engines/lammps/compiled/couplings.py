"""Tables of a SNAP: the recursion of Wigner's matrices, and their products.

u^j is the matrix of an atom's neighbours of order j = 0 ... 2J (in units of 1/2), with rows mb and
columns ma. Because u^j[j - mb, j - ma] = (-1)^(ma - mb) conj(u^j[mb, ma]), only the rows
mb <= j / 2 are evaluated ("half" below).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial, sqrt
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Scalars

_Elements: TypeAlias = dict[tuple[int, int, int], int]


class Recursion(NamedTuple):
    """How each half element follows from elements of the order below.

    u[d] = conj(a) (real_a Re u[source_a] + i imag_a Im u[source_a]) + the same with b
    """

    source_a: NDArray[np.int64]
    """(H,)"""
    real_a: Scalars
    imag_a: Scalars
    source_b: NDArray[np.int64]
    real_b: Scalars
    imag_b: Scalars


class Unfolding(NamedTuple):
    """All elements from half of them: u = real Re u[half] + i imag Im u[half]."""

    half: NDArray[np.int64]
    """(U,)"""
    real: Scalars
    imag: Scalars


class Products(NamedTuple):
    """z[k] = sum of factor u[first] u[second], and what follows from it."""

    start: NDArray[np.int64]
    """(Z + 1,) terms of each z."""
    first: NDArray[np.int64]
    """(T,) element of all u."""
    second: NDArray[np.int64]
    factor: Scalars
    half: NDArray[np.int64]
    """(Z,) half element to which z belongs: dB/du there is proportional to z."""
    descriptor: NDArray[np.int64]
    """(Z,) bispectrum component to whose derivative z contributes."""
    share: Scalars
    """(Z,) of that derivative."""
    of_descriptor: Scalars
    """(Z,) factor of Re(conj(z) u[half]) in the component itself; 0 if another z has it."""


@dataclass(frozen=True, slots=True)
class Couplings:
    """All tables for one 2J."""

    descriptors: int
    orders: Scalars
    """(descriptors,) j + 1 of each component: its value for an isolated atom."""
    self_term: Scalars
    """(H,) of the atom itself: 1 on diagonals."""
    derivative: Scalars
    """(H,) factor of Re(conj(y) u): 2, on a middle row 2 before the diagonal, 1 on it, else 0."""
    recursion: Recursion
    unfolding: Unfolding
    products: Products


def make_couplings(twojmax: int) -> Couplings:
    """The tables for one 2J."""
    half = _numbered(twojmax, lambda j: j // 2 + 1)
    whole = _numbered(twojmax, lambda j: j + 1)
    triples = [
        (j1, j2, j)
        for j1 in range(twojmax + 1)
        for j2 in range(j1 + 1)
        for j in range(j1 - j2, min(twojmax, j1 + j2) + 1, 2)
    ]
    components = {triple: at for at, triple in enumerate(t for t in triples if t[2] >= t[0])}
    return Couplings(
        descriptors=len(components),
        orders=np.array([j + 1.0 for _, _, j in components]),
        self_term=np.array([float(mb == ma) for _, mb, ma in half]),
        derivative=np.array([_derivative(*element) for element in half]),
        recursion=_recursion(half),
        unfolding=_unfolding(half, whole),
        products=_products(triples, components, half, whole),
    )


def _numbered(twojmax: int, rows: Callable[[int], int]) -> _Elements:
    """Elements (j, mb, ma) with so many rows of each order."""
    found: _Elements = {}
    for j in range(twojmax + 1):
        for mb in range(rows(j)):
            for ma in range(j + 1):
                found[j, mb, ma] = len(found)
    return found


def _folded(half: _Elements, element: tuple[int, int, int]) -> tuple[int, float, float]:
    """Half element, and factors of its real and imaginary part, that give an element."""
    if element in half:
        return half[element], 1.0, 1.0
    j, mb, ma = element
    sign = -1.0 if (ma - mb) % 2 else 1.0
    return half[j, j - mb, j - ma], sign, -sign


def _recursion(half: _Elements) -> Recursion:
    rows: list[tuple[int, float, float, int, float, float]] = []
    for j, mb, ma in half:
        of_a, of_b = (0, 0.0, 0.0), (0, 0.0, 0.0)
        if ma < j:
            source, real, imag = _folded(half, (j - 1, mb, ma))
            root = sqrt((j - ma) / (j - mb))
            of_a = source, root * real, root * imag
        if ma > 0:
            source, real, imag = _folded(half, (j - 1, mb, ma - 1))
            root = -sqrt(ma / (j - mb))
            of_b = source, root * real, root * imag
        rows.append((*of_a, *of_b))
    return Recursion(*(np.array(column) for column in zip(*rows, strict=True)))


def _unfolding(half: _Elements, whole: _Elements) -> Unfolding:
    rows = [_folded(half, element) for element in whole]
    return Unfolding(*(np.array(column) for column in zip(*rows, strict=True)))


def _products(
    triples: list[tuple[int, int, int]],
    components: _Elements,
    half: _Elements,
    whole: _Elements,
) -> Products:
    start, first, second, factor = [0], [], [], []
    at, descriptor, share, of_descriptor = [], [], [], []
    for j1, j2, j in triples:
        coupling = clebsch_gordan(j1, j2, j)
        component, part = _derivative_of(components, j1, j2, j)
        for mb in range(j // 2 + 1):
            for ma in range(j + 1):
                for (m1, m2), row in coupling[mb].items():
                    for (n1, n2), column in coupling[ma].items():
                        first.append(whole[j1, m1, n1])
                        second.append(whole[j2, m2, n2])
                        factor.append(row * column)
                start.append(len(first))
                at.append(half[j, mb, ma])
                descriptor.append(component)
                share.append(part)
                of_descriptor.append(_derivative(j, mb, ma) if j >= j1 else 0.0)
    return Products(
        np.array(start),
        np.array(first),
        np.array(second),
        np.array(factor),
        np.array(at),
        np.array(descriptor),
        np.array(share),
        np.array(of_descriptor),
    )


def _derivative_of(components: _Elements, j1: int, j2: int, j: int) -> tuple[int, float]:
    """The component to whose derivative by u^j the product of u^j1 and u^j2 contributes."""
    if j >= j1:
        same = 3.0 if j1 == j == j2 else 2.0 if j1 == j else 1.0
        return components[j1, j2, j], same
    scale = (j1 + 1.0) / (j + 1.0)
    if j >= j2:
        return components[j, j2, j1], (2.0 if j2 == j else 1.0) * scale
    return components[j2, j, j1], scale


def _derivative(j: int, mb: int, ma: int) -> float:
    if 2 * mb < j or ma < mb:
        return 2.0
    return 1.0 if ma == mb else 0.0


def clebsch_gordan(j1: int, j2: int, j: int) -> list[dict[tuple[int, int], float]]:
    """Coefficients of one coupling: for each m of j, those of all (m1, m2) with the same sum.

    Orders and indices are in units of 1/2: m counts 0 ... j from -j/2 to j/2.
    """
    rows: list[dict[tuple[int, int], float]] = [{} for _ in range(j + 1)]
    f = factorial
    triangle = f((j1 + j2 - j) // 2) * f((j1 - j2 + j) // 2) * f((j2 - j1 + j) // 2)
    norm = sqrt(triangle / f((j1 + j2 + j) // 2 + 1))
    for m1 in range(j1 + 1):
        for m2 in range(j2 + 1):
            a, b = 2 * m1 - j1, 2 * m2 - j2
            m = (a + b + j) // 2
            if not 0 <= m <= j:
                continue
            low = max(0, (j2 - j - a) // 2, (j1 - j + b) // 2)
            high = min((j1 + j2 - j) // 2, (j1 - a) // 2, (j2 + b) // 2)
            total = sum(
                (-1.0) ** z
                / (
                    f(z)
                    * f((j1 + j2 - j) // 2 - z)
                    * f((j1 - a) // 2 - z)
                    * f((j2 + b) // 2 - z)
                    * f((j - j2 + a) // 2 + z)
                    * f((j - j1 - b) // 2 + z)
                )
                for z in range(low, high + 1)
            )
            c = 2 * m - j
            spread = f((j1 + a) // 2) * f((j1 - a) // 2) * f((j2 + b) // 2) * f((j2 - b) // 2)
            spread *= f((j + c) // 2) * f((j - c) // 2) * (j + 1)
            rows[m][m1, m2] = total * norm * sqrt(spread)
    return rows
