"""Distances, neighbours and connected groups in any cell: triclinic, left-handed, partly periodic.

Knows atoms as points: no models, no regions.
"""

from mixserver.geometry.components import connected_components
from mixserver.geometry.deformation import Deformation
from mixserver.geometry.distances import (
    DistanceResult,
    distances_to_atoms,
    distances_to_cylinder,
    distances_to_points,
    distances_to_slab,
    distances_to_sphere,
    nearest_distances,
    within,
)
from mixserver.geometry.neighbours import neighbour_list, with_images
from mixserver.geometry.pairs import ShellPairs, shell_pairs
from mixserver.geometry.search_box import squared_lengths
from mixserver.geometry.spacing import image_distance, shortest_distance, spacing
from mixserver.geometry.verlet_list import DisplacementTracker, VerletList

__all__ = [
    "Deformation",
    "DisplacementTracker",
    "DistanceResult",
    "ShellPairs",
    "VerletList",
    "connected_components",
    "distances_to_atoms",
    "distances_to_cylinder",
    "distances_to_points",
    "distances_to_slab",
    "distances_to_sphere",
    "image_distance",
    "nearest_distances",
    "neighbour_list",
    "shell_pairs",
    "shortest_distance",
    "spacing",
    "squared_lengths",
    "with_images",
    "within",
]
