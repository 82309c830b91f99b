"""A potential for i-PI's stock python driver that minds everything a proxy could change.

Springs between all atoms and to the origin, stiffer along some axes: no periodic images, so
wrapping an atom changes it; not invariant under rotation, so turning the system changes it; a
virial sum_i r_i (x) f_i that is not symmetric. The cell enters with its orientation, too. Atomic
units; lattice vectors are the columns of the cell, as i-PI has them.
"""

import json

import numpy as np
from ipi.pes.dummy import Dummy_driver

__DRIVER_NAME__ = "custom"
__DRIVER_CLASS__ = "Lopsided"

STIFFNESS = np.array([0.010, 0.024, 0.007])
BOND, LENGTH, FIELD = 0.05, 2.0, 1e-5


class Lopsided(Dummy_driver):
    def compute_structure(self, cell, pos):
        apart = pos[:, None] - pos[None, :]
        distance = np.linalg.norm(apart, axis=2) + np.eye(len(pos))
        stretch = np.where(np.eye(len(pos)) > 0.0, 0.0, distance - LENGTH)
        energy = 0.5 * (STIFFNESS * pos**2).sum() + 0.25 * BOND * (stretch**2).sum()
        energy += FIELD * (STIFFNESS @ cell**2).sum()
        forces = -STIFFNESS * pos - BOND * (apart * (stretch / distance)[:, :, None]).sum(axis=1)
        virial = pos.T @ forces - 2.0 * FIELD * cell @ (STIFFNESS[:, None] * cell).T
        extras = {"dipole": pos.sum(axis=0).tolist(), "all_nine": virial.tolist()}
        return energy, forces, virial, json.dumps(extras)
