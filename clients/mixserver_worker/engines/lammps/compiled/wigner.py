"""Wigner matrices of the neighbours of eight atoms, and from their derivatives to forces.

A neighbour at r is a point on the three-sphere, with Cayley-Klein parameters a and b (Thompson et
al., eqs. 3 to 6); `place_neighbour` finds them for one neighbour of each of eight atoms, with the
switching function. `matrices` follows the recursion up, `gradient` the same way down.
"""

from __future__ import annotations

from math import factorial
from typing import Final

import numpy as np
from numba import njit

from mixserver_worker.engines.lammps.compiled.lanes import (
    LANES,
    add,
    divide,
    load,
    multiply,
    root,
    spread,
    store,
    subtract,
)

X, Y, Z, INVERSE_R, A_REAL, A_IMAG, B_REAL, B_IMAG = (k * LANES for k in range(8))
INVERSE_R0, Z0, SLOPE_Z0, DENSITY, SLOPE_DENSITY = (k * LANES for k in range(8, 13))
PLACE: Final = 13 * LANES
"""Numbers that describe one neighbour of each of eight atoms: its vector, 1/r, a, b,
1/sqrt(r^2 + z0^2), z0, dz0/dr, w_j f(r) and its slope."""

_TERMS: Final = 14
_SINE: Final = np.array([(-1.0) ** k / factorial(2 * k + 1) for k in range(_TERMS)])
_COSINE: Final = np.array([(-1.0) ** k / factorial(2 * k) for k in range(_TERMS)])
_HALF_PI: Final = 0.5 * np.pi


@njit(nogil=True, cache=True, inline="always")
def _series(coefficients, square):
    """Sum of c_k s^k."""
    total = spread(coefficients[_TERMS - 1])
    for k in range(_TERMS - 2, -1, -1):
        total = add(multiply(total, square), spread(coefficients[k]))
    return total


@njit(nogil=True, cache=True)
def place_neighbour(vectors, inverse_range, weights, at, slot, angle_scale, switched):
    """Describe one neighbour of each of eight atoms.

    Args:
        vectors: (3 * LANES,) Å, x of all, y of all, z of all.
        inverse_range: (LANES,) 1 / cutoff, 1/Å.
        weights: (LANES,) w_j; 0 where there is no neighbour.
        at: (slots * PLACE,) is written.
        slot: which neighbour.
        angle_scale: rfac0.
        switched: 1.0 if the density goes to 0 at the cutoff, else 0.0.
    """
    o = slot * PLACE
    x, y, z = load(vectors, 0), load(vectors, LANES), load(vectors, 2 * LANES)
    square = add(add(multiply(x, x), multiply(y, y)), multiply(z, z))
    r = root(square)
    scale = multiply(load(inverse_range, 0), spread(np.pi))
    # sines and cosines from series around pi / 2: sin(t) = cos(s), cos(t) = -sin(s), s = t - pi / 2
    theta = multiply(multiply(r, scale), spread(angle_scale))
    s = subtract(theta, spread(_HALF_PI))
    s2 = multiply(s, s)
    sine = _series(_COSINE, s2)
    cosine = subtract(spread(0.0), multiply(s, _series(_SINE, s2)))
    z0 = divide(multiply(r, cosine), sine)
    inverse_r = divide(spread(1.0), r)
    sphere = add(square, multiply(z0, z0))
    rate = multiply(scale, spread(angle_scale))
    slope = subtract(multiply(z0, inverse_r), multiply(multiply(rate, sphere), inverse_r))
    inverse_r0 = divide(spread(1.0), root(sphere))
    s = subtract(multiply(r, scale), spread(_HALF_PI))
    s2 = multiply(s, s)
    half = spread(0.5 * switched)
    cosine = subtract(spread(0.0), multiply(s, _series(_SINE, s2)))
    fall = add(spread(1.0 - 0.5 * switched), multiply(half, cosine))
    fall_slope = multiply(multiply(half, scale), subtract(spread(0.0), _series(_COSINE, s2)))
    w = load(weights, 0)
    store(at, o + X, x)
    store(at, o + Y, y)
    store(at, o + Z, z)
    store(at, o + INVERSE_R, inverse_r)
    store(at, o + A_REAL, multiply(inverse_r0, z0))
    store(at, o + A_IMAG, subtract(spread(0.0), multiply(inverse_r0, z)))
    store(at, o + B_REAL, multiply(inverse_r0, y))
    store(at, o + B_IMAG, subtract(spread(0.0), multiply(inverse_r0, x)))
    store(at, o + INVERSE_R0, inverse_r0)
    store(at, o + Z0, z0)
    store(at, o + SLOPE_Z0, slope)
    store(at, o + DENSITY, multiply(w, fall))
    store(at, o + SLOPE_DENSITY, multiply(w, fall_slope))


@njit(nogil=True, cache=True)
def matrices(at, slot, source_a, real_a, imag_a, source_b, real_b, imag_b, u, total):
    """Half of the matrices of one neighbour, and add them to the total with its density.

    Args:
        at: (slots * PLACE,)
        slot: which neighbour.
        source_a, real_a, imag_a, source_b, real_b, imag_b: `couplings.Recursion`.
        u: (slots * 2H * LANES,) is written, real and imaginary parts in turn.
        total: (2H * LANES,) is added to.
    """
    o = slot * PLACE
    count = len(source_a)
    start = slot * 2 * count * LANES
    ar, ai = load(at, o + A_REAL), load(at, o + A_IMAG)
    br, bi = load(at, o + B_REAL), load(at, o + B_IMAG)
    density = load(at, o + DENSITY)
    store(u, start, spread(1.0))
    store(u, start + LANES, spread(0.0))
    store(total, 0, add(load(total, 0), density))
    for d in range(1, count):
        place = start + 2 * source_a[d] * LANES
        p = multiply(spread(real_a[d]), load(u, place))
        q = multiply(spread(imag_a[d]), load(u, place + LANES))
        real = add(multiply(ar, p), multiply(ai, q))
        imag = subtract(multiply(ar, q), multiply(ai, p))
        place = start + 2 * source_b[d] * LANES
        p = multiply(spread(real_b[d]), load(u, place))
        q = multiply(spread(imag_b[d]), load(u, place + LANES))
        real = add(real, add(multiply(br, p), multiply(bi, q)))
        imag = add(imag, subtract(multiply(br, q), multiply(bi, p)))
        place = 2 * d * LANES
        store(u, start + place, real)
        store(u, start + place + LANES, imag)
        store(total, place, add(load(total, place), multiply(density, real)))
        store(total, place + LANES, add(load(total, place + LANES), multiply(density, imag)))


@njit(nogil=True, cache=True)
def gradient(at, slot, source_a, real_a, imag_a, source_b, real_b, imag_b, u, slope, back, force):
    """Derivative of the energy of eight atoms by the vector to one neighbour of each.

    Args:
        at: (slots * PLACE,)
        slot: which neighbour.
        source_a, real_a, imag_a, source_b, real_b, imag_b: `couplings.Recursion`.
        u: (slots * 2H * LANES,) of `matrices`.
        slope: (2H * LANES,) eV, derivative by the real and imaginary parts of the total.
        back: (2H * LANES,) for intermediate results.
        force: (3 * LANES,) eV/Å, is written.
    """
    o = slot * PLACE
    count = len(source_a)
    start = slot * 2 * count * LANES
    ar, ai = load(at, o + A_REAL), load(at, o + A_IMAG)
    br, bi = load(at, o + B_REAL), load(at, o + B_IMAG)
    for k in range(2 * count):
        store(back, k * LANES, load(slope, k * LANES))
    slope_ar, slope_ai = spread(0.0), spread(0.0)
    slope_br, slope_bi = spread(0.0), spread(0.0)
    by_density = multiply(load(u, start), load(slope, 0))
    for k in range(1, count):
        d = count - k
        place = 2 * d * LANES
        real, imag = load(back, place), load(back, place + LANES)
        by_density = add(by_density, multiply(load(u, start + place), load(slope, place)))
        by_density = add(
            by_density, multiply(load(u, start + place + LANES), load(slope, place + LANES))
        )
        place = 2 * source_a[d] * LANES
        scale_p, scale_q = spread(real_a[d]), spread(imag_a[d])
        p = multiply(scale_p, load(u, start + place))
        q = multiply(scale_q, load(u, start + place + LANES))
        slope_ar = add(slope_ar, add(multiply(real, p), multiply(imag, q)))
        slope_ai = add(slope_ai, subtract(multiply(real, q), multiply(imag, p)))
        p = subtract(multiply(ar, real), multiply(ai, imag))
        q = add(multiply(ai, real), multiply(ar, imag))
        store(back, place, add(load(back, place), multiply(scale_p, p)))
        store(back, place + LANES, add(load(back, place + LANES), multiply(scale_q, q)))
        place = 2 * source_b[d] * LANES
        scale_p, scale_q = spread(real_b[d]), spread(imag_b[d])
        p = multiply(scale_p, load(u, start + place))
        q = multiply(scale_q, load(u, start + place + LANES))
        slope_br = add(slope_br, add(multiply(real, p), multiply(imag, q)))
        slope_bi = add(slope_bi, subtract(multiply(real, q), multiply(imag, p)))
        p = subtract(multiply(br, real), multiply(bi, imag))
        q = add(multiply(bi, real), multiply(br, imag))
        store(back, place, add(load(back, place), multiply(scale_p, p)))
        store(back, place + LANES, add(load(back, place + LANES), multiply(scale_q, q)))
    x, y, z = load(at, o + X), load(at, o + Y), load(at, o + Z)
    inverse_r, inverse_r0 = load(at, o + INVERSE_R), load(at, o + INVERSE_R0)
    z0, slope_z0 = load(at, o + Z0), load(at, o + SLOPE_Z0)
    density = load(at, o + DENSITY)
    # d(1/r0)/dr = -(r + z0 dz0/dr) / r0^3
    r = divide(spread(1.0), inverse_r)
    change = multiply(multiply(inverse_r0, inverse_r0), inverse_r0)
    change = subtract(spread(0.0), multiply(change, add(r, multiply(z0, slope_z0))))
    along = subtract(multiply(slope_ar, z0), multiply(slope_ai, z))
    along = add(along, subtract(multiply(slope_br, y), multiply(slope_bi, x)))
    radial = add(multiply(change, along), multiply(multiply(slope_ar, inverse_r0), slope_z0))
    radial = multiply(density, radial)
    radial = add(radial, multiply(load(at, o + SLOPE_DENSITY), by_density))
    radial = multiply(radial, inverse_r)
    across = multiply(density, inverse_r0)
    store(force, 0, subtract(multiply(radial, x), multiply(across, slope_bi)))
    store(force, LANES, add(multiply(radial, y), multiply(across, slope_br)))
    store(force, 2 * LANES, subtract(multiply(radial, z), multiply(across, slope_ai)))
