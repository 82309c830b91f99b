"""What i-PI will do, in words, and how long that takes."""

from __future__ import annotations

from mixserver.analysis.checks.cost import in_time
from mixserver.analysis.checks.findings import Finding
from mixserver.analysis.report.words import dynamics_in_words
from mixserver.config import Case
from mixserver.core.errors import ConfigError
from mixserver.ipi.dynamics import Dynamics, read_dynamics
from mixserver.ipi.input import IpiInput


def plan_findings(ipi: IpiInput) -> list[Finding]:
    """What i-PI's input asks for: ensemble, temperature, time step, length."""
    try:
        dynamics = read_dynamics(ipi.file)
    except ConfigError as error:
        return [Finding("error", "run", str(error))]
    words = f"{dynamics_in_words(dynamics) or 'no motion'}; {_length(ipi, dynamics)}"
    return [Finding("ok", "run", words, ipi.total_steps)]


def duration_findings(case: Case, ipi: IpiInput, evaluation_s: float) -> list[Finding]:
    """How long all steps take, with so many seconds for an evaluation."""
    try:
        dynamics = read_dynamics(ipi.file)
    except ConfigError:
        return []  # reported with the plan
    steps = max(0, ipi.total_steps - ipi.step)
    roles = [local.role for local in case.config.local for _ in range(local.count)]
    each = dynamics.beads * dynamics.systems
    together = min(each, *(roles.count(role) for role in roles)) if roles else 1
    seconds = steps * -(-each // together) * evaluation_s
    if len(case.channels) > 1:  # several parts of the potential, each as often as i-PI likes
        about = "very roughly"
    else:
        about = "about" if dynamics.steps_evaluated_once or each > 1 else "at least"
    words = f"{steps} steps take {about} {in_time(seconds)} on this machine as loaded as it is now"
    if each > 1:
        words += f", with {each} evaluations a step, {together} at a time"
    return [Finding("ok", "duration", words, seconds / 3600.0)]


def _length(ipi: IpiInput, dynamics: Dynamics) -> str:
    steps = max(0, ipi.total_steps - ipi.step)
    words = f"{steps} steps"
    if not dynamics.timestep_fs:
        return f"at most {words}"
    femtoseconds = steps * dynamics.timestep_fs
    for unit, size in (("ns", 1e6), ("ps", 1e3)):
        if femtoseconds >= 0.1 * size:
            return f"{words}, {femtoseconds / size:.4g} {unit}"
    return f"{words}, {femtoseconds:.4g} fs"
