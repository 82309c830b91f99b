"""What all LAMMPS instances of one potential have in common: commands, elements and switches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from mixserver.core.errors import WorkerFault
from mixserver_worker.engines.lammps.files import RecordedFile
from mixserver_worker.engines.lammps.text import split_switches

_DEVICE_COMMANDS: Final = ("package", "suffix")
_DEVICE_SWITCHES: Final = ("-k", "-kokkos", "-sf", "-suffix", "-pk", "-package")


@dataclass(frozen=True, slots=True)
class PotentialSetup:
    """How to set up a LAMMPS instance with the potential."""

    before_box: tuple[str, ...]
    after_box: tuple[str, ...]
    numbers: tuple[int, ...]
    """Atomic number of atom type 1, 2, ..."""
    arguments: tuple[str, ...]
    skin: float
    """Å."""
    site_energies: bool
    """Whether the potential has site energies that add up to its energy."""
    accelerated: bool
    """Whether switches or commands ask for a device: then each instance tests the fast loop."""
    files: tuple[RecordedFile, ...] = ()
    """The files that the fingerprint covers."""

    def on_host(self, after_box: Sequence[str], *, site_energies: bool) -> PotentialSetup:
        """The same with other commands, on the CPU and without accelerators."""
        return replace(
            self,
            before_box=tuple(t for t in self.before_box if t.split()[0] not in _DEVICE_COMMANDS),
            after_box=tuple(after_box),
            arguments=without_accelerators(self.arguments),
            accelerated=False,
            site_energies=site_energies,
        )

    def check_files(self) -> None:
        """Check that LAMMPS would still read what the fingerprint covers.

        Raises:
            WorkerFault: a file has changed.
        """
        for file in self.files:
            if change := file.change():
                raise WorkerFault(
                    f"{change} since this worker took the potential's fingerprint. Restore the "
                    "file, or end the run; workers that start now have a different model."
                )


def is_accelerated(arguments: Sequence[str], before_box: Sequence[str]) -> bool:
    """Whether command line switches or commands ask for a device or accelerated styles."""
    return any(word in _DEVICE_SWITCHES for word in arguments) or any(
        text.split()[0] in _DEVICE_COMMANDS for text in before_box
    )


def without_accelerators(arguments: Sequence[str]) -> tuple[str, ...]:
    """LAMMPS's command line switches without those for accelerators."""
    kept = [words for words in split_switches(arguments) if words[0] not in _DEVICE_SWITCHES]
    return tuple(word for words in kept for word in words)
