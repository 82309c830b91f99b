"""Carving: who is sent, who is a site, whose forces are kept."""

from __future__ import annotations

import numpy as np
import pytest
from cells import brute_distances, frame_of, frames, silicon
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.frame import Frame
from mixserver.mixing.clusters import Carver, Cluster, Streams, gather, whole_system_stream
from mixserver.region import Region


def _region(frame: Frame, active: list[int]) -> Region:
    expensive = np.zeros(len(frame))
    expensive[active] = 1.0
    return Region(expensive, np.array(active))


@given(frames(), st.integers(1, 6), st.floats(0.0, 4.0), st.floats(0.0, 4.0))
def test_sites_surround_active_atoms_and_halos_surround_sites(
    frame: Frame, share: int, buffer: float, halo: float
) -> None:
    active = list(range(0, len(frame), share))
    clusters = Carver(buffer, halo).carve(frame, _region(frame, active))
    distances = brute_distances(frame, frame.positions, max(buffer, halo))
    for cluster in clusters:
        kept = cluster.atoms[cluster.keep]
        sites = distances[:, kept].min(axis=1) <= buffer
        sites[kept] = True  # rounding of an atom's distance to itself
        wanted = sites | (distances[:, sites].min(axis=1) <= halo)
        np.testing.assert_array_equal(cluster.atoms[cluster.sites > 0.0], np.flatnonzero(sites))
        if wanted.mean() <= 0.9:
            np.testing.assert_array_equal(cluster.atoms, np.flatnonzero(wanted))
        else:
            np.testing.assert_array_equal(cluster.atoms, np.arange(len(frame)))
        assert cluster.halo == len(cluster.atoms) - sites.sum()


@given(frames(), st.integers(1, 6), st.floats(0.0, 4.0))
def test_every_active_atom_belongs_to_one_cluster_and_no_site_to_two(
    frame: Frame, share: int, buffer: float
) -> None:
    active = list(range(0, len(frame), share))
    clusters = Carver(buffer, 1.0).carve(frame, _region(frame, active))
    kept = np.concatenate([c.atoms[c.keep] for c in clusters])
    sites = np.concatenate([c.atoms[c.sites > 0.0] for c in clusters])
    np.testing.assert_array_equal(np.sort(kept), active)
    assert len(np.unique(sites)) == len(sites)


def test_nothing_expensive_is_no_cluster() -> None:
    frame = silicon(2)
    assert Carver(5.0, 5.0).carve(frame, _region(frame, [])) == ()


def test_everything_expensive_is_one_cluster_in_order() -> None:
    frame = silicon(2)
    (cluster,) = Carver(5.0, 5.0).carve(frame, _region(frame, list(range(64))))
    np.testing.assert_array_equal(cluster.atoms, np.arange(64))
    np.testing.assert_array_equal(cluster.keep, np.arange(64))
    assert (cluster.sites == 1.0).all()


def test_distant_regions_are_separate_clusters_and_merge_when_their_buffers_meet() -> None:
    frame = silicon(6)
    far = int(np.argmin(((frame.positions - frame.cell.sum(axis=0) / 2) ** 2).sum(axis=1)))
    region = _region(frame, [0, far])
    assert len(Carver(6.0, 4.0).carve(frame, region)) == 2
    assert len(Carver(15.0, 4.0).carve(frame, region)) == 1


def test_gather_keeps_only_what_is_used_in_ascending_order() -> None:
    clusters = (
        Cluster(np.array([0, 2, 4]), np.array([1.0, 1.0, 0.0]), np.array([1]), 1),
        Cluster(np.array([1, 2, 3]), np.array([0.0, 1.0, 1.0]), np.array([0, 2]), 2),
    )
    forces = [np.full((3, 3), 1.0), np.arange(9.0).reshape(3, 3)]
    atoms, kept = gather(clusters, forces)
    np.testing.assert_array_equal(atoms, [1, 2, 3])
    np.testing.assert_array_equal(kept, [[0, 1, 2], [1, 1, 1], [6, 7, 8]])


def test_gather_wants_one_answer_per_cluster() -> None:
    cluster = Cluster(np.array([0]), np.ones(1), np.array([0]), 1)
    with pytest.raises(ValueError, match="shorter"):
        gather([cluster], [])


def _groups(*groups: list[int]) -> list[np.ndarray]:
    return [np.array(group) for group in groups]


def test_a_cluster_keeps_its_stream_whatever_happens_to_the_others() -> None:
    streams = Streams()
    assert streams.number(0, _groups([1, 2], [8, 9]), 12) == [1, 2]
    assert streams.number(0, _groups([2, 3], [8, 9, 10]), 12) == [1, 2]
    assert streams.number(0, _groups([9, 10]), 12) == [2]
    assert streams.number(0, _groups([0, 1], [9, 10]), 12) == [1, 2]
    assert streams.number(0, _groups([0], [1], [9]), 12) == [1, 3, 2]  # one split in two
    assert streams.number(0, _groups([0, 1, 9]), 12)[0] in (1, 2, 3)  # and all joined
    assert streams.number(0, [], 12) == []


def test_beads_and_the_whole_system_have_their_own_streams() -> None:
    streams = Streams()
    numbers = [n for bead in range(4) for n in streams.number(bead, _groups([1], [5]), 8)]
    numbers += [whole_system_stream(bead) for bead in range(4)]
    assert len(set(numbers)) == 12


def test_the_stream_survives_a_cluster_drifting_through_the_cell() -> None:
    streams, atoms = Streams(), np.arange(400).reshape(40, 10)
    seen = set()
    for start in range(38):
        (number,) = streams.number(1, [atoms[start : start + 3].ravel()], 400)
        seen.add(number)
    assert len(seen) == 1


def test_a_region_across_the_boundary_is_one_cluster() -> None:
    frame = frame_of(np.array([[0.2, 5, 5], [19.8, 5, 5], [10, 5, 5.0]]), np.eye(3) * 20.0)
    (cluster,) = Carver(1.0, 1.0).carve(frame, _region(frame, [0, 1]))
    np.testing.assert_array_equal(cluster.atoms, [0, 1])
