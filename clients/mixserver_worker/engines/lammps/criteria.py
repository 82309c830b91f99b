"""Criteria of a region as LAMMPS computes, defined once and reused."""

from __future__ import annotations

from typing import Final

from mixserver.core.errors import BadInput
from mixserver_worker.engines.lammps.library import LammpsAbort, LammpsError, LammpsLibrary

_MOST: Final = 8
"""Computes that are kept; the oldest is removed first."""


class CriterionComputes:
    """The criteria that were defined in one LAMMPS instance."""

    def __init__(self, library: LammpsLibrary) -> None:
        self._library = library
        self.names: dict[str, str] = {}
        self._defined = 0

    def define(self, criterion: str) -> tuple[str, bool]:
        """ID of the compute for a criterion, and whether this call defined it.

        Raises:
            BadInput: LAMMPS refuses the criterion.
        """
        if not criterion:
            return "", False
        if criterion in self.names:
            return self.names[criterion], False
        if len(self.names) == _MOST:
            self.remove(next(iter(self.names)))
        self._defined += 1
        name = f"mx_c{self._defined}"
        try:
            self._library.command(f"compute {name} all {criterion}")
        except LammpsAbort:
            raise
        except LammpsError as error:
            raise BadInput(f"LAMMPS refuses the criterion {criterion!r}: {error}") from error
        self.names[criterion] = name
        return name, True

    def remove(self, criterion: str) -> None:
        """Delete the compute of a criterion."""
        self._library.command(f"uncompute {self.names.pop(criterion)}")
