"""The records of a run as values and as arrays, alone or joined with the runs that it continues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from mixserver.analysis.run_properties import LOST, read_properties, steps_before
from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.server.records.recorder import REPORTS
from mixserver.server.records.report import Report
from mixserver.server.runs import run_chain


@dataclass(frozen=True, slots=True)
class RunRecords(Mapping[str, Scalars]):
    """What a run recorded about its evaluations, as arrays by name.

    A mapping from each numeric field of `Report` to its (n,) values in the units given there
    (`energy` eV, `ms_total` ms, `core` atoms, ...), NaN where nothing was measured.
    """

    folder: Path
    """The newest run's folder."""
    reports: tuple[Report, ...] = field(repr=False)
    """One per evaluation, oldest first."""

    def __getitem__(self, name: str) -> Scalars:
        if name not in NUMERIC:
            raise KeyError(f"{name!r} is not recorded as a number; there are {', '.join(NUMERIC)}")
        return column(self.reports, name)

    def __iter__(self) -> Iterator[str]:
        return iter(NUMERIC)

    def __len__(self) -> int:
        return len(NUMERIC)

    def of_channel(self, channel: str) -> RunRecords:
        """The records of one channel alone: "mixed", "cheap" or "correction"."""
        return RunRecords(self.folder, tuple(r for r in self.reports if r.channel == channel))

    def of_bead(self, bead: int) -> RunRecords:
        """The records of one bead (replica index) alone."""
        return RunRecords(self.folder, tuple(r for r in self.reports if r.bead == bead))


NUMERIC: Final = tuple(
    info.name for info in msgspec.structs.fields(Report) if "str" not in str(info.type)
)
"""Fields of `Report` that are numbers."""


def column(reports: Sequence[Report], name: str) -> Scalars:
    """The values (n,) of one numeric field, NaN where it was not measured."""
    values = (getattr(report, name) for report in reports)
    return np.array([np.nan if value is None else float(value) for value in values])


def read_run(folder: str | Path, *, joined: bool = True) -> RunRecords:
    """Read the records of a run, for example `runs/latest`; needs no server.

    If `joined`, with the runs that it continues, their evaluations counted through.

    Raises:
        ConfigError: there are no records, or they cannot be read.
    """
    folder = Path(folder)
    return RunRecords(folder, tuple(joined_reports(run_chain(folder) if joined else [folder])))


def read_reports(folder: Path) -> list[Report]:
    """All reports of a run; a last line cut short by a crash is passed over.

    Raises:
        ConfigError: there are none.
    """
    file = folder / REPORTS
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror}); is this a run?") from error
    decoder = msgspec.json.Decoder(Report)
    reports = []
    for number, line in enumerate(lines, 1):
        try:
            reports.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            if number < len(lines):
                raise ConfigError(f"{file}:{number} is not a report: {error}") from error
    if not reports:
        raise ConfigError(f"{file} holds no reports yet")
    return reports


@dataclass(frozen=True, slots=True)
class JoinedPart:
    """The records of one run among several that go on from each other."""

    reports: tuple[Report, ...]
    """Evaluations are counted through; those that the next run makes again are left out."""
    first: int
    """The number of its first evaluation."""
    made: int
    """Evaluations that count."""
    one_per_step: bool
    """Whether each step was one evaluation, as far as i-PI's output shows."""


def joined_reports(runs: Sequence[Path]) -> list[Report]:
    """All reports of runs that go on from each other, oldest first, evaluations counted through.

    Where each step is one evaluation, what a run did beyond the step that the next one goes on from
    is left out.

    Raises:
        ConfigError: the last has none, or one cannot be read.
    """
    return [report for part in joined_parts(runs) for report in part.reports]


def joined_parts(runs: Sequence[Path], *, earlier: bool = False) -> list[JoinedPart]:
    """The same as `joined_reports`, one part for each run; `earlier`: for each but the last.

    Raises:
        ConfigError: as `joined_reports`.
    """
    parts: list[JoinedPart] = []
    first = 0
    begun = [steps_before(run) for run in runs]
    for at, run in enumerate(runs):
        last = at + 1 == len(runs)
        if last and earlier:
            break
        reports = read_reports(run) if last or (run / REPORTS).exists() else []
        made = 1 + max((report.evaluation for report in reports), default=-1)
        once = _one_per_step(run, begun[at], made)
        if not last and once:
            made = begun[at + 1] - begun[at]  # the next run evaluates that step again
        kept = tuple(
            msgspec.structs.replace(report, evaluation=first + report.evaluation)
            for report in reports
            if report.evaluation < made
        )
        parts.append(JoinedPart(kept, first, made, once))
        first += made
    return parts


def _one_per_step(run: Path, begun: int, evaluations: int) -> bool:
    """Whether each of a run's steps was one evaluation, as far as i-PI's output shows."""
    try:
        steps = read_properties([run], ("step",)).step - begun
    except ConfigError:
        return False
    if len(steps) < 2:
        return False
    unprinted = float(np.diff(steps).max()) + 1.0
    return abs(evaluations - 1 - float(steps[-1])) <= unprinted + LOST
