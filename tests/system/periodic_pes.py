"""A potential for i-PI's stock python driver: wells in a periodic cell, a stiff cell, extras.

Depends on fractional coordinates, so wrapping atoms changes nothing; its virial has off-diagonal
parts. Atomic units, lattice vectors are the columns of the cell, as i-PI has them.
"""

import json

import numpy as np
from ipi.pes.dummy import Dummy_driver

__DRIVER_NAME__ = "custom"
__DRIVER_CLASS__ = "PeriodicWells"

DEPTH, SPRING, WAVES = 0.02, 1e-4, 2


class PeriodicWells(Dummy_driver):
    def compute_structure(self, cell, pos):
        wave = 2.0 * np.pi * WAVES
        inverse = np.linalg.inv(cell)
        place = pos @ inverse.T
        across = cell.sum(axis=1)
        energy = DEPTH * (1.0 - np.cos(wave * place)).sum() + SPRING * across @ across
        forces = -DEPTH * wave * np.sin(wave * place) @ inverse
        virial = -2.0 * SPRING * np.outer(across, across)
        dipole = np.sin(wave * place).sum(axis=0)
        extras = {
            "dipole": dipole.tolist(),
            "committee_pot": [energy, energy + 1e-3],
            "table": forces[:2].tolist(),
        }
        return energy, forces, virial, json.dumps(extras)
