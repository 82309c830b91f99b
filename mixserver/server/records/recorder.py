"""Writes the reports of a run to its files, on a thread of its own, off the critical path.

A full disk or a vanished folder never stops a run: it is logged once and writing ends.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import msgspec
import structlog

from mixserver.core.frame import Frame
from mixserver.region.region import Region
from mixserver.server.records.region_frames import append_region
from mixserver.server.records.report import MISMATCH, Report, header, line
from mixserver.server.records.statistics import EvaluationStatistics
from mixserver.server.records.thermometer import RegionThermometer

log = structlog.get_logger(__name__)

REPORTS: Final = "mixserver.jsonl"
COLUMN_FILE: Final = "mixserver.out"
REGIONS: Final = "regions.xyz"
LAST_REGION: Final = "last.xyz"
"""The last frame of a run with lambda, whatever `regions_every` is."""

_DELAY_S: Final = 0.05
"""Delay of writing, so that it seldom competes with an evaluation."""
_PAUSE_S: Final = 1e-4
"""Between two records, so that other threads get the interpreter."""
_Job = Callable[[], None]


class Recorder:
    """Writes one run's records into one folder.

    Args:
        folder: exists; gets `mixserver.jsonl`, `mixserver.out`, `last.xyz` at the end and, if
            asked, `regions.xyz`.
        every: evaluations between two reports. The channels are counted separately,
            so that a stride does not meet one channel only.
        regions_every: evaluations between two frames of lambda, likewise; 0 for none.
    """

    def __init__(self, folder: Path, *, every: int = 1, regions_every: int = 0) -> None:
        self.folder = folder
        self.latest: Report | None = None
        """The newest report, for a progress display; not of the channel without a region, if there
        is another."""
        self.observer: Callable[[Report, Region | None], None] | None = None
        """Called with each evaluation, on the event loop."""
        self.inspector: Callable[[Report], None] | None = None
        """Called with each report that is written, on the thread that writes."""
        self.thermometer: RegionThermometer | None = None
        """Measures temperatures by region; None where the time between frames is not known."""
        self.statistics = EvaluationStatistics()
        self._last: tuple[Frame, Region] | None = None
        self._every = every
        self._regions_every = regions_every
        self.counts: Counter[str] = Counter()
        """Evaluations of each channel."""
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        """Started with the first record, so that a run which fails to start leaves no thread."""
        self._broken = False
        self._files: list[IO[bytes]] = []
        self._reports = self._open(REPORTS)
        self._columns = self._open(COLUMN_FILE)
        self._columns.write(header().encode())

    def record(self, report: Report, frame: Frame, region: Region | None) -> None:
        """Record an evaluation; returns at once."""
        if self._thread is None and not self._broken:
            self._start()
        if self.observer is not None:
            self.observer(report, region)
        self.statistics.add(report)
        number = self.counts[report.channel]
        self.counts[report.channel] += 1
        if report.channel != "cheap" or self.latest is None or self.latest.channel == "cheap":
            self.latest = report
        moved: tuple[Frame, Frame, Region] | None = None
        if region is not None:
            self._last = frame, region
            before = None if self.thermometer is None else self.thermometer.follows(frame)
            moved = None if before is None else (before, frame, region)
        if number % self._every == 0:
            self._jobs.put(lambda: self._write_report(report, moved))
        every = self._regions_every
        if region is not None and every > 0 and number % every == 0:
            measured = {name: getattr(report, name) for name in MISMATCH}
            apart = {name: value for name, value in measured.items() if value is not None}
            self._jobs.put(lambda: append_region(self.folder / REGIONS, frame, region, apart))

    def close(self) -> None:
        """Write what is still waiting, and close the files; a full disk is logged, not raised."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._write_last()
        for file in self._files:
            try:
                file.close()
            except OSError as error:
                self._report_error(error)

    def _start(self) -> None:
        thread = threading.Thread(target=self._write, name="recorder")
        try:
            thread.start()
        except RuntimeError as error:  # a limit of memory or of threads
            self._report_error(error)
        else:
            self._thread = thread

    def _report_error(self, error: Exception) -> None:
        if not self._broken:
            self._broken = True
            log.warning(
                "records cannot be written any more", folder=str(self.folder), error=str(error)
            )

    def _open(self, name: str) -> IO[bytes]:
        file = (self.folder / name).open("ab")
        self._files.append(file)
        return file

    def _write(self) -> None:
        while (job := self._jobs.get()) is not None:
            # the reply this is about is still on its way out; more of them cost one wake-up
            time.sleep(_DELAY_S if self._jobs.empty() else _PAUSE_S)
            if self._broken:
                continue
            try:
                job()
                if self._jobs.empty():
                    for file in self._files:
                        file.flush()
            except Exception as error:
                self._report_error(error)

    def _write_last(self) -> None:
        """Write the last frame with lambda, for pictures."""
        if self._last is None or self._broken:
            return
        file = self.folder / LAST_REGION
        try:
            file.unlink(missing_ok=True)
            append_region(file, *self._last)
        except OSError as error:
            self._report_error(error)

    def _write_report(self, report: Report, moved: tuple[Frame, Frame, Region] | None) -> None:
        if moved is not None and self.thermometer is not None:
            core, blend, bulk = self.thermometer.measure(*moved)
            report = msgspec.structs.replace(
                report, kelvin_core=core, kelvin_blend=blend, kelvin_bulk=bulk
            )
        if self.inspector is not None:
            self.inspector(report)
        self._reports.write(msgspec.json.encode(report) + b"\n")
        self._columns.write(line(report).encode())
