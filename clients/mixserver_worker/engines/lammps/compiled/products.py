"""From the matrices of eight atoms to their energies, and to the derivatives by the matrices.

The bispectrum components B are cubic in the matrices, and the energy linear or quadratic in B.
"""

from __future__ import annotations

from numba import njit

from mixserver_worker.engines.lammps.compiled.lanes import (
    LANES,
    add,
    load,
    multiply,
    spread,
    store,
    subtract,
)


@njit(nogil=True, cache=True)
def unfold(total, half, real, imag, whole):
    """All matrix elements (2U * LANES,) from half of them (2H * LANES,): `couplings.Unfolding`."""
    for k in range(len(half)):
        place = 2 * half[k] * LANES
        store(whole, 2 * k * LANES, multiply(spread(real[k]), load(total, place)))
        store(whole, (2 * k + 1) * LANES, multiply(spread(imag[k]), load(total, place + LANES)))


@njit(nogil=True, cache=True)
def multiply_matrices(whole, start, first, second, factor, z):
    """Z (2Z * LANES,) of `couplings.Products` from all matrix elements."""
    for k in range(len(start) - 1):
        real, imag = spread(0.0), spread(0.0)
        for t in range(start[k], start[k + 1]):
            one, other = 2 * first[t] * LANES, 2 * second[t] * LANES
            f = spread(factor[t])
            a, b = multiply(f, load(whole, one)), multiply(f, load(whole, one + LANES))
            c, d = load(whole, other), load(whole, other + LANES)
            real = add(real, subtract(multiply(a, c), multiply(b, d)))
            imag = add(imag, add(multiply(a, d), multiply(b, c)))
        store(z, 2 * k * LANES, real)
        store(z, (2 * k + 1) * LANES, imag)


@njit(nogil=True, cache=True)
def energy_and_slope(
    total,
    z,
    half,
    descriptor,
    share,
    of_descriptor,
    orders,
    derivative,
    linear,
    quadratic,
    is_quadratic,
    weights,
    b,
    slope_b,
    energy,
    slope,
):
    """Energies of eight atoms of one element, and the derivative of the weighted ones.

    Args:
        total: (2H * LANES,) half of the matrices.
        z: (2Z * LANES,) of `multiply_matrices`.
        half, descriptor, share, of_descriptor: `couplings.Products`.
        orders: (K,) subtracted from the components; zeros to subtract nothing.
        derivative: (H,) of `couplings.Couplings`.
        linear: (1 + K,) coefficients, eV.
        quadratic: (K * K,) coefficients, eV.
        is_quadratic: whether they count.
        weights: (LANES,) site weights.
        b, slope_b: (K * LANES,) for intermediate results.
        energy: (LANES,) eV, is written: without weights.
        slope: (2H * LANES,) eV, is written: derivative of weight times energy by the real and
            imaginary parts of the matrices.
    """
    count = len(orders)
    for k in range(count):
        store(b, k * LANES, spread(-orders[k]))
    for k in range(len(half)):
        if of_descriptor[k] != 0.0:
            place, at = 2 * half[k] * LANES, descriptor[k] * LANES
            one = multiply(load(total, place), load(z, 2 * k * LANES))
            one = add(one, multiply(load(total, place + LANES), load(z, (2 * k + 1) * LANES)))
            store(b, at, add(load(b, at), multiply(spread(of_descriptor[k]), one)))
    w = load(weights, 0)
    found = spread(linear[0])
    for k in range(count):
        slope_k = spread(linear[k + 1])
        half_slope = slope_k
        if is_quadratic:
            curvature = spread(0.0)
            for m in range(count):
                term = multiply(spread(quadratic[k * count + m]), load(b, m * LANES))
                curvature = add(curvature, term)
            half_slope = add(slope_k, multiply(spread(0.5), curvature))
            slope_k = add(slope_k, curvature)
        found = add(found, multiply(half_slope, load(b, k * LANES)))
        store(slope_b, k * LANES, multiply(w, slope_k))
    store(energy, 0, found)
    for k in range(2 * len(derivative)):
        store(slope, k * LANES, spread(0.0))
    for k in range(len(half)):
        place = 2 * half[k] * LANES
        factor = spread(share[k] * derivative[half[k]])
        by_b = multiply(factor, load(slope_b, descriptor[k] * LANES))
        one = multiply(by_b, load(z, 2 * k * LANES))
        store(slope, place, add(load(slope, place), one))
        one = multiply(by_b, load(z, (2 * k + 1) * LANES))
        store(slope, place + LANES, add(load(slope, place + LANES), one))
