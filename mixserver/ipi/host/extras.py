"""Lambda of every atom, as the server sent it with the last forces.

The server sends it as two extras, `lambda_atoms` and `lambda_values`: the atoms with lambda > 0,
and their lambda. i-PI averages and interpolates extras over beads and components, and asking for
them where the positions have moved on would evaluate forces. So they are taken from where i-PI
keeps the last answer to each request, which works with lists of any length, with several force
components, and in the middle of a step.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from mixserver.core.arrays import Indices, Scalars
from mixserver.core.errors import ConfigError, ProtocolError

ATOMS: Final = "lambda_atoms"
VALUES: Final = "lambda_values"


class LambdaReader:
    """Reads lambda from a system of i-PI's with one bead."""

    def __init__(self, system: Any) -> None:
        self._system = system
        self._extras: dict[str, Any] | None = None
        self._values = np.zeros(0)

    def latest(self) -> Scalars:
        """Lambda of every atom (N,) at the last evaluation; the same array while nothing changes.

        Atoms that the server is not sent (<activelist>) have lambda = 0.

        A run that begins with the thermostat has no forces yet. Then they are evaluated, which
        costs nothing: the integrator needs the same ones next.

        Raises:
            ConfigError: there are forces, but no lambda came with them.
            ProtocolError: the extras cannot be lambda.
        """
        sent_extras = self._last_extras()
        if sent_extras is None:
            for level in self._system.forces.mts_forces:
                level.f  # noqa: B018 - i-PI evaluates what is looked at
            sent_extras = self._last_extras()
        if sent_extras is None:
            raise ConfigError(self._missing())
        extras, sent = sent_extras
        if extras is not self._extras:
            values = np.zeros(self._system.beads.natoms)
            values[sent] = parse_lambdas(extras, len(values[sent]))
            if not np.array_equal(values, self._values):
                self._values = values
            self._extras = extras
        return self._values

    def _replies(self) -> list[tuple[Any, dict[str, Any]]]:
        """(forcefield, extras of its last answer) of each component that has answered."""
        kept = [(part.ff, part._forces[0]._ufvx._value) for part in self._system.forces.mforces]
        return [(forcefield, answer[3]) for forcefield, answer in kept if answer is not None]

    def _last_extras(self) -> tuple[dict[str, Any], Indices | slice] | None:
        """The extras of the first component that sends lambda, and which atoms it is sent."""
        for forcefield, extras in self._replies():
            if ATOMS in extras and VALUES in extras:
                active = np.asarray(forcefield.active, dtype=np.intp)
                return extras, slice(None) if active[0] == -1 else active  # [-1] is all
        return None

    def _missing(self) -> str:
        came = "; ".join(
            f"{forcefield.name}: {', '.join(sorted(set(extras) - {'raw'})) or 'none'}"
            for forcefield, extras in self._replies()
        )
        return (
            f"a thermostat outside the core needs the extras {ATOMS!r} and {VALUES!r} with every "
            f"force, but no forcefield sent them (extras that came: {came}); the server sends them "
            "if its mix.toml has ipi.thermostat = 'cheap', to an <ffsocket> that stands alone"
        )


def parse_lambdas(extras: dict[str, Any], natoms: int) -> Scalars:
    """Turn the two lists into (N,) lambda.

    Raises:
        ProtocolError: lists of different lengths, no such atom, or no number from 0 to 1.
    """
    try:
        atoms = np.asarray(extras[ATOMS], dtype=np.float64)
        values = np.asarray(extras[VALUES], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ProtocolError(
            f"the extras {ATOMS!r} and {VALUES!r} must be lists of numbers: {error}"
        ) from error
    if atoms.ndim != 1 or atoms.shape != values.shape:
        raise ProtocolError(
            f"the extras {ATOMS!r} and {VALUES!r} must be lists of the same length, got shapes "
            f"{atoms.shape} and {values.shape}"
        )
    at = atoms.astype(np.intp)
    if not np.array_equal(at, atoms) or (at.size and not 0 <= at.min() <= at.max() < natoms):
        raise ProtocolError(
            f"the extra {ATOMS!r} must hold indices from 0 to {natoms - 1}, i-PI's atoms; the "
            "server and i-PI do not have the same structure"
        )
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise ProtocolError(f"the extra {VALUES!r} must hold numbers from 0 to 1")
    lambdas = np.zeros(natoms)
    lambdas[at] = values
    return lambdas
