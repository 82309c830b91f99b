"""The toy engine as a potential that i-PI evaluates itself, without any socket."""

import numpy as np
from ipi.pes.dummy import Dummy_driver
from mixserver_worker.engines.toy import ToyEngine

from mixserver.core.units import BOHR, ELECTRONVOLT, EV_PER_ANGSTROM
from mixserver.wire.worker import Evaluate

__DRIVER_NAME__ = "custom"
__DRIVER_CLASS__ = "Toy"


class Toy(Dummy_driver):
    def check_parameters(self):
        self.engine = ToyEngine(epsilon=self.kwargs["epsilon"], sigma=3.4, cutoff=5.0)

    def compute_structure(self, cell, pos):
        rows, places = cell.T * BOHR, pos.reshape(-1, 3) * BOHR
        answer = self.engine.evaluate(
            Evaluate(0, 0, places, np.full(len(places), 18, np.int32), rows, (True, True, True))
        )
        return (
            answer.energy * ELECTRONVOLT,
            (answer.forces * EV_PER_ANGSTROM).reshape(pos.shape),
            answer.virial * ELECTRONVOLT,
            "{}",
        )
