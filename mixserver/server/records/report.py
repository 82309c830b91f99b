"""What is known about one evaluation, as one flat value."""

from __future__ import annotations

import math

import msgspec

from mixserver.mixing.mixer import Diagnostics
from mixserver.region.region import Region


class Report(Diagnostics, frozen=True, kw_only=True):
    """One evaluation in scalars: a line of the JSON-lines file, a line of the column file.

    None is for what was not requested or not measured: null in JSON, nan in columns and in i-PI's
    own files. A model that was not asked took no time, not 0 ms.
    """

    evaluation: int
    """Counts the evaluations of this server from 0 (not i-PI's steps)."""
    channel: str = "mixed"
    """Which part of the potential was requested: "mixed" is all, or "cheap", "correction"."""
    bead: int = 0
    time_s: float = 0.0
    """Seconds since the server started."""
    energy: float = 0.0
    """eV, as sent to i-PI; `energy_is` names its potential."""
    work: float = 0.0
    """eV, lambda work: all changes of the energy by updates of lambda; energy - work is conserved.
    """
    ms_total: float = 0.0
    """From i-PI's request to the reply being ready."""
    ms_cheap: float | None = None
    """From handing the slowest cheap job out to its result."""
    ms_expensive: float | None = None
    """The same for the slowest cluster."""
    ms_waiting: float = 0.0
    """Waiting for workers: queued and evaluated, cheap and expensive overlapping."""
    ms_own: float = 0.0
    """The server's own share: total - waiting."""
    kelvin_core: float | None = None
    """K, kinetic temperature of the core, from how far its atoms moved since the evaluation before;
    None where that was not measured."""
    kelvin_blend: float | None = None
    kelvin_bulk: float | None = None
    cheap_worker: str = ""
    """The slowest."""
    expensive_workers: tuple[str, ...] = ()


COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("evaluation", "", "counts the server's evaluations, not i-PI's steps"),
    ("bead", "", "replica index"),
    ("time_s", "second", "since the server started"),
    ("energy", "electronvolt", "as sent to i-PI"),
    ("work", "electronvolt", "all changes of it by updates of lambda"),
    ("seeds", "", "seed atoms"),
    ("core", "", "atoms with lambda = 1"),
    ("blend", "", "atoms with 0 < lambda < 1"),
    ("buffer", "", "further atoms with expensive site energies"),
    ("halo", "", "further atoms sent along"),
    ("clusters", "", "expensive jobs"),
    ("ms_total", "millisecond", "request to reply"),
    ("ms_cheap", "millisecond", "cheap job"),
    ("ms_expensive", "millisecond", "slowest expensive job"),
    ("ms_waiting", "millisecond", "waiting for workers"),
    ("ms_own", "millisecond", "the server's own share"),
    ("mismatch_max", "ev/ang", "largest |F_expensive - F_cheap| in the blend"),
    ("mismatch_rms", "ev/ang", "rms of the same"),
    ("core_mismatch_max", "ev/ang", "largest |F_expensive - F_cheap| in the core"),
    ("core_mismatch_rms", "ev/ang", "rms of the same"),
    ("gap_max", "electronvolt", "largest |e - d - c| in the blend, where lambda moves"),
    ("gap_rms", "electronvolt", "rms of the same"),
    ("pull_max", "ev/ang", "largest grad-lambda force"),
    ("net_force", "ev/ang", "|sum of forces| before the momentum correction"),
    ("kelvin_core", "kelvin", "kinetic temperature of the core"),
    ("kelvin_blend", "kelvin", "of the blend"),
    ("kelvin_bulk", "kelvin", "of all other atoms"),
)
"""Columns of the column file: field of `Report`, i-PI's word for its unit, what it is."""

SCALARS = (
    "work",
    "seeds",
    "core",
    "blend",
    "buffer",
    "clusters",
    "mismatch_max",
    "mismatch_rms",
    "core_mismatch_max",
    "core_mismatch_rms",
    "gap_max",
    "gap_rms",
    "pull_max",
    "net_force",
    "ms_cheap",
    "ms_expensive",
    "ms_own",
)
"""Fields that go to i-PI as extras, always all of them: i-PI wants a constant set of keys. What was
not measured is null, which i-PI writes as nan."""


MISMATCH = (
    "mismatch_max",
    "mismatch_rms",
    "core_mismatch_max",
    "core_mismatch_rms",
    "gap_max",
    "gap_rms",
)
"""Fields that go beside each frame of lambda: how far apart the models were there."""


def header() -> str:
    """The commented header of the column file, in i-PI's style."""
    lines = [
        f"# column {at:>3}     --> {name}{f'{{{unit}}}' if unit else ''} : {what}\n"
        for at, (name, unit, what) in enumerate(COLUMNS, 1)
    ]
    return "".join(lines)


def line(report: Report) -> str:
    """One line of the column file."""
    values = (getattr(report, name) for name, _, _ in COLUMNS)
    return " ".join(f"{math.nan if v is None else v:16.8e}" for v in values) + "\n"


def extras(report: Report, region: Region | None = None) -> str:
    """The JSON object i-PI is sent: `SCALARS` and what its energy is, well under 1 kB.

    Args:
        report: where they come from.
        region: given, its lambda is sent too: `lambda_atoms` and `lambda_values`.
    """
    fields: dict[str, object] = {name: getattr(report, name) for name in SCALARS}
    fields["energy_is"] = report.energy_is
    if region is not None:
        fields["lambda_atoms"] = region.active.tolist()
        fields["lambda_values"] = region.lambda_.take(region.active).tolist()
    return msgspec.json.encode(fields).decode()
