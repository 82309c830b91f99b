"""One model and no region: i-PI's request goes out as it came, and the result comes back likewise.

Workers that need wrapped atoms or a cell in a standard orientation see to it themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mixserver.core.frame import Frame
from mixserver.mixing.jobs import JobKey, Plan
from mixserver.mixing.mixer import Diagnostics, MixedResult, Part, Results
from mixserver.region.region import Region
from mixserver.wire.worker import Evaluate, Role


@dataclass(frozen=True, slots=True)
class SingleModel:
    """A `Mixer` of one model: the region is ignored."""

    role: Role
    wrap: bool = False
    """Whether atoms are wrapped into the cell."""

    correction_needs_whole: ClassVar = True

    def plan(
        self, frame: Frame, region: Region, *, criterion: str = "", whole_known: bool = False
    ) -> Plan:
        """One job, with i-PI's own words; see `Mixer.plan`."""
        job = Evaluate(
            job=0,
            stream=frame.bead,
            positions=frame.wrapped if self.wrap else frame.positions,
            numbers=frame.topology.numbers,
            cell=frame.cell,
            pbc=frame.topology.pbc,
            parameters=frame.parameters,
            rid=frame.request_id,
        )
        return Plan(frame, region, (JobKey(self.role), job))

    def combine(self, plan: Plan, results: Results, part: Part = "mixed") -> MixedResult:
        """The model's result, unchanged."""
        result = results[JobKey(self.role)]
        diagnostics = Diagnostics(energy_is=self.role)
        return MixedResult(
            result.energy, result.forces, result.virial, diagnostics, extras=result.extras
        )
