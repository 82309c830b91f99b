"""Neighbour lists in every cell, and what pruning keeps of them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from mixserver_worker.conformance import System
from mixserver_worker.engines.torch.edges import EdgeList, find_edges
from mixserver_worker.engines.torch.graph import prune
from mixserver_worker.engines.torch.graph_cache import GraphCache, Structure
from odd_systems import CASES, system

REACH = 3.9
ROUNDING = 1e-12


def vectors(atoms: System, reach: float = REACH) -> set[tuple[int, int, float, float, float]]:
    """Every pair by who and where, through a plain sum over images."""
    spread = np.linalg.norm(atoms.positions[:, None] - atoms.positions, axis=2).max() + reach
    turns = [range(1)] * 3
    if any(atoms.pbc):
        heights = 1.0 / np.linalg.norm(np.linalg.pinv(atoms.cell[list(atoms.pbc)]), axis=0)
        most = iter(np.ceil(spread / heights).astype(int) + 1)
        turns = [range(-(n := next(most)), n + 1) if p else range(1) for p in atoms.pbc]
    found = set()
    for image in itertools.product(*turns):
        apart = atoms.positions[None] - atoms.positions[:, None] + np.array(image) @ atoms.cell
        near = np.linalg.norm(apart, axis=2) < reach
        if image == (0, 0, 0):
            np.fill_diagonal(near, val=False)
        for i, j in zip(*np.nonzero(near), strict=True):
            found.add((int(i), int(j), *np.round(apart[i, j], 6).tolist()))
    return found


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_every_pair_is_found_once(case: str, seed: int) -> None:
    atoms = system(case, seed)
    edges = find_edges(atoms.positions, atoms.cell, atoms.pbc, REACH)
    apart = edges.positions[edges.receiver] - edges.positions[edges.sender] + edges.shift
    got = [
        (int(i), int(j), *np.round(v, 6).tolist())
        for i, j, v in zip(edges.sender, edges.receiver, apart, strict=True)
    ]
    assert len(got) == len(set(got))
    assert {tuple(np.add(x, 0.0)) for x in got} == {tuple(np.add(x, 0.0)) for x in vectors(atoms)}
    assert got or case == "smaller than the cutoff"


@pytest.mark.parametrize("case", CASES)
def test_atoms_are_moved_by_lattice_vectors_only(case: str) -> None:
    atoms = system(case)
    edges = find_edges(atoms.positions, atoms.cell, atoms.pbc, REACH)
    if not any(atoms.pbc):
        np.testing.assert_array_equal(edges.positions, atoms.positions)
        return
    turns = (edges.positions - atoms.positions) @ np.linalg.inv(atoms.cell)
    np.testing.assert_allclose(turns, np.rint(turns), atol=ROUNDING)
    assert not np.rint(turns)[:, ~np.array(atoms.pbc)].any()


def test_a_cluster_across_the_boundary_is_unwrapped() -> None:
    cell = np.diag([40.0, 50.0, 60.0])
    places = np.array([[0.5, 49.0, 30.0], [39.0, 0.5, 31.0], [0.0, 0.0, 29.0]])
    edges = find_edges(places, cell, (True, True, True), 5.0)
    assert len(edges.sender) == 6
    assert not edges.shift.any()
    assert np.ptp(edges.positions, axis=0).max() < 5.0


def test_atoms_on_one_plane_stay_on_one_side_of_a_cut() -> None:
    cell = np.diag([100.0, 10.0, 10.0])
    # the same fraction up to rounding, in different images
    places = np.array([[0.3 + 100.0 * k, 5.0 + k, 5.0] for k in (-7, 0, 3, 11)])
    edges = find_edges(places, cell, (True, True, True), 4.0)
    assert np.ptp(edges.positions[:, 0]) < 1e-9


def test_far_apart_free_atoms_cost_nothing() -> None:
    places = np.array([[0.0, 0.0, 0.0], [1e6, 1e6, 1e6], [1.0, 0.0, 0.0]])
    edges = find_edges(places, np.zeros((3, 3)), (False,) * 3, 3.0)
    assert sorted(zip(edges.sender.tolist(), edges.receiver.tolist(), strict=True)) == [
        (0, 2),
        (2, 0),
    ]


def chain(n: int = 9) -> np.ndarray[Any, Any]:
    return np.arange(n)[:, None] * np.array([1.0, 0.0, 0.0])


def test_pruning_keeps_what_sites_depend_on() -> None:
    edges = find_edges(chain(), np.zeros((3, 3)), (False,) * 3, 1.5)
    active = np.zeros(9, dtype=bool)
    active[[4, 5]] = True
    graph = prune(edges, active, 2)
    assert graph.order.tolist() == [4, 5, 3, 6, 2, 7]
    assert graph.atoms == (2, 4, 6)
    assert graph.edges == (4, 8)  # of 4 and 5; and of 3 and 6 too
    receivers = graph.order[graph.receiver]
    assert receivers.tolist() == [4, 4, 5, 5, 3, 3, 6, 6]
    assert (np.diff(graph.receiver) >= 0).all()
    np.testing.assert_array_equal(np.abs(graph.order[graph.sender] - receivers), 1)


def test_with_all_weights_nothing_is_pruned() -> None:
    edges = find_edges(chain(), np.zeros((3, 3)), (False,) * 3, 1.5)
    graph = prune(edges, np.ones(9, dtype=bool), 2)
    assert graph.order.tolist() == list(range(9))
    assert graph.atoms == (9, 9, 9)
    assert graph.edges == (16, 16)


def get(
    cache: GraphCache, atoms: System, active: Any = None, stream: int = 0, **other: Any
) -> np.ndarray[Any, Any]:
    active = np.ones(len(atoms), dtype=bool) if active is None else active
    cached, places = cache.get([structure(atoms, stream, **other)], active)
    assert len(cached.edges.positions) == len(places)
    return places


def edges_of(cache: GraphCache, atoms: System, stream: int = 0, **other: Any) -> EdgeList:
    """The list in use, the same object while it is kept."""
    active = np.ones(len(atoms), dtype=bool)
    return cache.get([structure(atoms, stream, **other)], active)[0].edges


def structure(atoms: System, stream: int = 0, **other: Any) -> Structure:
    given = {"positions": atoms.positions, "numbers": atoms.numbers, "cell": atoms.cell} | other
    return Structure(stream, pbc=atoms.pbc, **given)


def test_lists_are_kept_until_an_atom_has_moved_half_the_skin() -> None:
    atoms = system("triclinic")
    cache = GraphCache(3.6, 2, 0.4)
    first = edges_of(cache, atoms)
    near, far = atoms.positions.copy(), atoms.positions.copy()
    near[3, 0] += 0.19
    far[3, 0] += 0.21
    assert edges_of(cache, atoms, positions=near) is first
    assert edges_of(cache, atoms, positions=far) is not first


def test_jumps_by_lattice_vectors_keep_the_list() -> None:
    atoms = system("triclinic")
    cache = GraphCache(3.6, 2, 0.4)
    first, edges = get(cache, atoms), edges_of(cache, atoms)
    jumps = np.random.default_rng(0).integers(-9, 10, (len(atoms), 3)) @ atoms.cell
    again = get(cache, atoms, positions=atoms.positions + jumps)
    assert edges_of(cache, atoms) is edges
    np.testing.assert_allclose(again, first, rtol=0, atol=ROUNDING)


def test_equal_positions_are_unwrapped_equally_to_the_last_bit() -> None:
    for case in CASES:
        atoms = system(case)
        cache = GraphCache(3.6, 2, 0.4)
        np.testing.assert_array_equal(get(cache, atoms), get(cache, atoms))
        assert edges_of(cache, atoms) is edges_of(cache, atoms)


@pytest.mark.parametrize("what", ["numbers", "cell"])
def test_lists_are_rebuilt_when_atoms_or_cell_change(what: str) -> None:
    atoms = system("triclinic")
    cache = GraphCache(3.6, 2, 0.4)
    first = edges_of(cache, atoms)
    changed = {"numbers": atoms.numbers[::-1].copy(), "cell": atoms.cell * 1.0001}[what]
    assert edges_of(cache, atoms, **{what: changed}) is not first


def test_other_sites_need_no_new_list() -> None:
    atoms = system("triclinic")
    cache = GraphCache(3.6, 2, 0.4)
    first = edges_of(cache, atoms)
    active = np.arange(len(atoms)) < 2
    get(cache, atoms, active)
    cached, _ = cache.get([structure(atoms)], active)
    assert cached.edges is first
    assert cached.graph.atoms[0] == 2


def test_the_least_recently_used_stream_is_dropped() -> None:
    atoms = system("free")
    cache = GraphCache(3.6, 2, 0.4, most=2)
    zero, one = edges_of(cache, atoms, 0), edges_of(cache, atoms, 1)
    assert edges_of(cache, atoms, 0) is zero
    edges_of(cache, atoms, 2)  # 1 is forgotten
    assert edges_of(cache, atoms, 0) is zero
    assert edges_of(cache, atoms, 1) is not one


def test_structures_of_one_job_are_parts_of_one_graph_that_do_not_touch() -> None:
    one, other = system("triclinic"), system("free")
    cache = GraphCache(3.6, 2, 0.4)
    active = np.arange(len(one) + len(other)) % 3 != 1
    both = [structure(one, 1), structure(other, 2)]
    cached, places = cache.get(both, active)
    first, _ = cache.get(both[:1], active[: len(one)])
    second, _ = cache.get(both[1:], active[len(one) :])
    assert cached.graph.edges[-1] == first.graph.edges[-1] + second.graph.edges[-1]
    assert len(places) == len(one) + len(other)
    ends = cached.graph.order[np.stack([cached.graph.sender, cached.graph.receiver])]
    assert ((ends[0] < len(one)) == (ends[1] < len(one))).all()
    moved = structure(other, 2, positions=other.positions + np.array([0.5, 0.0, 0.0]))
    again, _ = cache.get([both[0], moved], active)
    assert again.lists[0] is cached.lists[0]
    assert again.lists[1] is not cached.lists[1]  # only that of the structure that has moved
