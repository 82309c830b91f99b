"""Candidates: errors, ghost forces and parity plots of coefficients, computed from rows alone.

Nothing is evaluated; `validation.benchmark` runs the potentials.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from mixserver.core.arrays import Block, Scalars
from mixserver.distill.data.labels import label_rows
from mixserver.distill.fitting.design_matrix import Design
from mixserver.distill.fitting.inputs import FitInputs
from mixserver.distill.fitting.solve import Solution
from mixserver.distill.results import Candidate, Errors, Parity
from mixserver.wire.descriptor import SnapDescriptor

_SHOWN: Final = 400
"""Force components in a parity plot, per kind of structure."""


def describe_candidate(
    label: str,
    design: Design,
    inputs: FitInputs,
    coefficients: Scalars,
    *,
    solution: Solution | None = None,
    weight: float = 0.0,
    descriptor: SnapDescriptor | None = None,
) -> Candidate:
    """Errors and ghost forces of coefficients (p,) in the design that was built from these inputs.

    The descriptor is None for a potential that was not fitted here; otherwise `solution` says how
    the coefficients were found, and `weight` is that of ghost forces in the fit.
    """
    fitted = descriptor is not None
    data, regions = inputs.data, design.ghosts.reported if design.ghosts else ()
    return Candidate(
        label=label,
        descriptor=descriptor,
        pair_functions=inputs.pairs.functions if fitted else 0,
        pair_cutoff=inputs.pairs.cutoff if fitted and inputs.pairs.functions else 0.0,
        coefficients=len(coefficients) if fitted else 0,
        constraints=solution.rank if solution else 0,
        partition_weight=weight,
        ridge=solution.ridge if solution else 0.0,
        errors=tuple(_errors(design, coefficients, of) for of in design.kinds("test")),
        ghosts=tuple(one.measured(coefficients, data.crystal, data.reach) for one in regions),
    )


def _errors(design: Design, coefficients: Scalars, of: str) -> Errors:
    return Errors(
        of=of,
        energy=design.error(coefficients, "energy", "test", of),
        forces=design.error(coefficients, "forces", "test", of),
        virial=design.error(coefficients, "virial", "test", of),
        structures=design.training.structures["test", of],
    )


def parity(inputs: FitInputs, coefficients: Scalars) -> tuple[Parity, ...]:
    """Expensive and cheap values of the test set, by kind of structure."""
    pairs: list[tuple[str, Block, Block]] = []
    for name, split in inputs.splits().items():
        if split != "test":
            continue
        structure = inputs.data.labels(name).structure
        expensive = label_rows(inputs.data.labels(name)).sum(axis=0)
        fixed = expensive - label_rows(inputs.labels(name)).sum(axis=0)
        cheap = inputs.all_rows(name).sum(axis=0) @ coefficients + fixed
        pairs.append((structure.family, expensive, cheap))
    return compare_rows(pairs)


def compare_rows(pairs: Iterable[tuple[str, Block, Block]]) -> tuple[Parity, ...]:
    """Parity plots by kind of (kind, expensive, cheap) rows (1 + 3N + 6,) of structures."""
    found: dict[str, list[tuple[Block, Block]]] = {}
    for of, *both in pairs:
        expensive, cheap = (_per_atom(values) for values in both)
        found.setdefault(of, []).append((expensive, cheap))
    return tuple(_parity(of, listed) for of, listed in sorted(found.items()))


def errors_of_rows(pairs: Iterable[tuple[str, Block, Block]]) -> tuple[Errors, ...]:
    """Root mean square errors by kind of (kind, expensive, cheap) rows (1 + 3N + 6,)."""
    found: dict[str, list[Block]] = {}
    for of, expensive, cheap in pairs:
        found.setdefault(of, []).append(_per_atom(cheap) - _per_atom(expensive))
    return tuple(
        Errors(
            of=of,
            energy=_rms([one[:1] for one in listed]),
            forces=_rms([one[1:-6] for one in listed]),
            virial=_rms([one[-6:] for one in listed]),
            structures=len(listed),
        )
        for of, listed in sorted(found.items())
    )


def _per_atom(values: Block) -> Block:
    """Rows (1 + 3N + 6,) with energy and virial per atom."""
    made = values.copy()
    atoms = (len(values) - 7) // 3
    made[0] /= atoms
    made[-6:] /= atoms
    return made


def _rms(parts: list[Block]) -> float:
    return float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))


def _parity(of: str, pairs: list[tuple[Block, Block]]) -> Parity:
    every = max(1, sum(len(rows) - 7 for rows, _ in pairs) // _SHOWN)

    def both(part: slice, step: int = 1) -> tuple[list[float], list[float]]:
        sides = (np.concatenate([rows[part] for rows in side]) for side in zip(*pairs, strict=True))
        expensive, cheap = (values[::step].tolist() for values in sides)
        return expensive, cheap

    return Parity(
        of=of,
        energy=both(slice(1)),
        forces=both(slice(1, -6), every),
        virial=both(slice(-6, None)),
    )
