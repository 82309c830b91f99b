"""Distances and groups in any periodic cell: triclinic, left-handed, partly periodic, tiny.

Knows atoms as points, nothing of models or regions.
"""

from mixserver.geometry.deformation import Deformation
from mixserver.geometry.distances import (
    Near,
    near_atoms,
    near_cylinder,
    near_points,
    near_slab,
    near_sphere,
    nearest,
    within,
)
from mixserver.geometry.groups import connected
from mixserver.geometry.nearby import Drift, Nearby
from mixserver.geometry.pairs import Shell, shell
from mixserver.geometry.window import heights

__all__ = [
    "Deformation",
    "Drift",
    "Near",
    "Nearby",
    "Shell",
    "connected",
    "heights",
    "near_atoms",
    "near_cylinder",
    "near_points",
    "near_slab",
    "near_sphere",
    "nearest",
    "shell",
    "within",
]
