"""Evaluate blocks of eight atoms of one element: energies, forces, virial."""

from __future__ import annotations

import numpy as np
from numba import njit

from mixserver_worker.engines.lammps.compiled.lanes import LANES
from mixserver_worker.engines.lammps.compiled.products import (
    energy_and_slope,
    multiply_matrices,
    unfold,
)
from mixserver_worker.engines.lammps.compiled.wigner import (
    PLACE,
    gradient,
    matrices,
    place_neighbour,
)


@njit(nogil=True, cache=True)
def select_neighbours(points, elements, origin, atoms, start, neighbour, squares, near):
    """Neighbours of some atoms within the cutoff.

    Args:
        points: (m, 3) Å; the first n are the atoms.
        elements: (n,) number of each atom's element; -1 for atoms that the potential does not see.
        origin: (m,) atom of each point.
        atoms: (s,) which to select for.
        start: (n + 1,) candidates of each atom, in `neighbour`.
        neighbour: (p,) points.
        squares: (elements, elements) squared cutoffs, Å^2.
        near: (s, largest number of candidates) is written: points.

    Returns:
        (s,) number of neighbours.
    """
    counts = np.zeros(len(atoms), np.int64)
    for k in range(len(atoms)):
        i = atoms[k]
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        count = 0
        for c in range(start[i], start[i + 1]):
            j = neighbour[c]
            element = elements[origin[j]]
            if element < 0:
                continue
            dx, dy, dz = points[j, 0] - x, points[j, 1] - y, points[j, 2] - z
            if dx * dx + dy * dy + dz * dz < squares[elements[i], element]:
                near[k, count] = j
                count += 1
        counts[k] = count
    return counts


@njit(nogil=True, cache=True)
def evaluate_blocks(
    points,
    elements,
    origin,
    atoms,
    counts,
    near,
    blocks,
    weights,
    cutoffs,
    densities,
    angle_scale,
    switched,
    recursion,
    unfolding,
    products,
    self_term,
    derivative,
    orders,
    linear,
    quadratic,
    is_quadratic,
    energies,
    forces,
    virial,
):
    """Evaluate some blocks; the results of all blocks add up.

    Args:
        points, elements, origin: as of `select_neighbours`.
        atoms: (s,) in the order of the blocks.
        counts, near: of `select_neighbours`, in the same order.
        blocks: (b, 2) first atom of each block, in `atoms`, and their number, at most LANES; they
            are of one element.
        weights: (n,) site weights.
        cutoffs: (elements, elements) Å.
        densities: (elements,) w_j.
        angle_scale, switched: rfac0, and 1.0 with a switching function.
        recursion, unfolding, products, self_term, derivative, orders: of `couplings.Couplings`.
        linear, quadratic, is_quadratic: coefficients, one row an element.
        energies: (n,) eV, is added to.
        forces: (n, 3) eV/Å, is added to.
        virial: (3, 3) eV, is added to.
    """
    source_a, real_a, imag_a, source_b, real_b, imag_b = recursion
    first, second = products[1], products[2]
    size = 2 * len(self_term) * LANES
    most = 1
    for k in range(len(counts)):
        most = max(most, counts[k])
    at, u = np.empty(most * PLACE), np.empty(most * size)
    total, slope, back = np.empty(size), np.empty(size), np.empty(size)
    whole = np.empty(2 * len(unfolding[0]) * LANES)
    z = np.empty(2 * len(products[4]) * LANES)
    b, slope_b = np.empty(len(orders) * LANES), np.empty(len(orders) * LANES)
    vectors, force = np.empty(3 * LANES), np.empty(3 * LANES)
    inverse_range, density = np.empty(LANES), np.empty(LANES)
    weight, energy = np.empty(LANES), np.empty(LANES)
    for block in range(len(blocks)):
        begin, number = blocks[block]
        element = elements[atoms[begin]]
        slots = 0
        for lane in range(number):
            slots = max(slots, counts[begin + lane])
        for k in range(len(self_term)):
            for lane in range(LANES):
                total[2 * k * LANES + lane] = self_term[k]
                total[(2 * k + 1) * LANES + lane] = 0.0
        for slot in range(slots):
            for lane in range(LANES):
                if lane < number and slot < counts[begin + lane]:
                    i, j = atoms[begin + lane], near[begin + lane, slot]
                    other = elements[origin[j]]
                    for axis in range(3):
                        vectors[axis * LANES + lane] = points[j, axis] - points[i, axis]
                    inverse_range[lane] = 1.0 / cutoffs[element, other]
                    density[lane] = densities[other]
                else:  # no neighbour: any place, no density
                    vectors[lane] = vectors[LANES + lane] = 0.0
                    vectors[2 * LANES + lane] = 0.5 * cutoffs[element, element]
                    inverse_range[lane] = 1.0 / cutoffs[element, element]
                    density[lane] = 0.0
            place_neighbour(vectors, inverse_range, density, at, slot, angle_scale, switched)
            matrices(at, slot, source_a, real_a, imag_a, source_b, real_b, imag_b, u, total)
        unfold(total, unfolding[0], unfolding[1], unfolding[2], whole)
        multiply_matrices(whole, products[0], first, second, products[3], z)
        for lane in range(LANES):
            weight[lane] = weights[atoms[begin + lane]] if lane < number else 0.0
        energy_and_slope(
            total,
            z,
            products[4],
            products[5],
            products[6],
            products[7],
            orders,
            derivative,
            linear[element],
            quadratic[element],
            is_quadratic,
            weight,
            b,
            slope_b,
            energy,
            slope,
        )
        for lane in range(number):
            energies[atoms[begin + lane]] += energy[lane]
        for slot in range(slots):
            gradient(
                at, slot, source_a, real_a, imag_a, source_b, real_b, imag_b, u, slope, back, force
            )
            for lane in range(number):
                if slot < counts[begin + lane]:
                    i, j = atoms[begin + lane], origin[near[begin + lane, slot]]
                    for axis in range(3):
                        g = force[axis * LANES + lane]
                        forces[i, axis] += g
                        forces[j, axis] -= g
                        for component in range(3):
                            vector = at[slot * PLACE + component * LANES + lane]
                            virial[component, axis] -= vector * g
