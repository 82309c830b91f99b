"""From labels and descriptor rows to what can be fitted, and what rows alone say of a fit.

Nothing is asked of a model; `side_by_side` runs the potentials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Scalars
from mixserver.distill.dealing import splits
from mixserver.distill.descriptor import Descriptor
from mixserver.distill.design import (
    Design,
    Rows,
    soft,
    with_hard,
    with_pairs,
    with_partition,
)
from mixserver.distill.equations import Equations
from mixserver.distill.labelled import Labelled, less, rows_of
from mixserver.distill.material import Material
from mixserver.distill.pair import PairBasis
from mixserver.distill.partition_strain import one_hot_names, with_strains
from mixserver.distill.reading import Order
from mixserver.distill.results import Candidate, Errors, Ghost, Parity
from mixserver.distill.rows import RowFiles
from mixserver.distill.solve import Solution

Block = NDArray[np.float64]
Show = Callable[[str, int, int], None]

_NEARER: Final = 0.85
"""Of the least distance that was sampled: there pair functions begin. In between the curve goes on
smoothly (`fit.smooth`), and the corner where it turns straight is out of reach."""
_SHOWN: Final = 400
"""Force components in a parity plot, per kind of structure."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where a design comes from."""

    order: Order
    material: Material
    rows: RowFiles
    """Of the descriptors."""
    reference: RowFiles | None
    """Of the fixed reference potential, if there is one."""
    pairs: PairBasis
    pair_rows: dict[str, Block]
    """Of `pairs`, kept for the next descriptors."""

    def labels(self, name: str) -> Labelled:
        """What is to be fitted: labels less the reference."""
        labelled = self.material.labels(name)
        if self.reference is None:
            return labelled
        return less(labelled, self.reference(name)[:, :, 0])


def pair_basis(order: Order, material: Material, functions: int | None = None) -> PairBasis:
    """The pair functions of a recipe, from a little below the least distance that was sampled."""
    pair = order.recipe.pair
    return PairBasis(
        functions=pair.functions if functions is None else functions,
        inner=min(np.floor(100.0 * _NEARER * material.nearest) / 100.0, 0.5 * pair.cutoff),
        cutoff=pair.cutoff,
        elements=order.elements,
    )


def design_of(source: Source) -> Design:
    """Read all labels and rows once."""
    recipe, material = source.order.recipe, source.material
    labels = _Lazy(source.labels, list(material.files))
    rows: Rows = with_pairs(source.pairs, labels, source.rows, source.pair_rows)
    columns = rows(material.hard[0]).shape[2]
    dealt = splits(material.soft, recipe.fit.validation)
    design = soft((labels[name] for name in material.soft), rows, columns, dealt)
    hard = recipe.hard
    if hard.lattice or hard.elastic:
        with_hard(
            design,
            {name: labels[name] for name in material.hard},
            rows,
            size=hard.strain,
            volume=material.crystal.volume,
            lattice=hard.lattice,
            elastic=hard.elastic,
        )
    if material.partition:
        with_partition(
            design,
            labels[material.partition],
            rows(material.partition),
            material.crystal,
            reach=material.reach,
            count=recipe.partition.regions,
            seed=recipe.soft.seed,
        )
        if one_hot_names().keys() <= material.files.keys():
            with_strains(
                design,
                material.crystal,
                labels,
                rows,
                size=hard.strain,
                by=recipe.partition.strain,
                reach=material.reach,
                count=recipe.partition.regions,
                seed=recipe.soft.seed,
            )
    rough = source.pairs.roughness()
    if len(rough):
        snap = columns - source.pairs.columns
        design.roughness = Equations(columns)
        padded = np.concatenate([np.zeros((len(rough), snap)), rough], axis=1)
        design.roughness.add(padded, np.zeros(len(rough)))
    return design


class _Lazy(Mapping[str, Labelled]):
    """Labels by name, read when they are asked for."""

    def __init__(self, read: Callable[[str], Labelled], names: Sequence[str]) -> None:
        self._read, self._names = read, tuple(names)

    def __getitem__(self, name: str) -> Labelled:
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def described(
    label: str,
    design: Design,
    solution: Solution | None,
    coefficients: Scalars,
    source: Source,
    *,
    weight: float = 0.0,
    descriptor: Descriptor | None = None,
) -> Candidate:
    """What the rows alone say of some coefficients."""
    errors = tuple(
        Errors(
            of=of,
            energy=design.error(coefficients, "energy", "test", of),
            forces=design.error(coefficients, "forces", "test", of),
            virial=design.error(coefficients, "virial", "test", of),
            structures=design.structures["test", of],
        )
        for of in design.kinds("test")
    )
    seen = [
        region.measured(coefficients, source.material.crystal, source.material.reach)
        for region in design.regions
    ]
    return Candidate(
        label=label,
        descriptor=descriptor,
        pair_functions=source.pairs.functions if descriptor else 0,
        pair_cutoff=source.pairs.cutoff if descriptor and source.pairs.functions else 0.0,
        coefficients=len(coefficients) if descriptor else 0,
        constraints=solution.rank if solution else 0,
        partition_weight=weight,
        ridge=solution.ridge if solution else 0.0,
        errors=errors,
        ghosts=tuple(Ghost(core=g.core, blend=g.blend, largest=g.largest, rms=g.rms) for g in seen),
    )


def parity(source: Source, rows: Rows, coefficients: Scalars) -> tuple[Parity, ...]:
    """Expensive against cheap on the test set, kind by kind."""
    material = source.material
    dealt = splits(material.soft, source.order.recipe.fit.validation)
    labels = _Lazy(source.labels, material.soft)
    both = with_pairs(source.pairs, labels, rows, source.pair_rows)
    found: dict[str, list[tuple[Block, Block]]] = {}
    for name in material.soft:
        if dealt[name] != "test":
            continue
        labelled = labels[name]
        s = labelled.structure
        of = s.kind if s.temperature is None else f"{s.kind} {s.temperature:g} K"
        theirs = rows_of(material.labels(name)).sum(axis=0)
        fixed = theirs - rows_of(labelled).sum(axis=0)
        ours = both(name).sum(axis=0) @ coefficients + fixed
        for values in (theirs, ours):
            values[0] /= len(s)
            values[-6:] /= len(s)
        found.setdefault(of, []).append((theirs, ours))
    made = []
    for of, pairs in sorted(found.items()):
        force = [np.concatenate([pair[at][1:-6] for pair in pairs]) for at in (0, 1)]
        every = max(1, len(force[0]) // _SHOWN)
        made.append(
            Parity(
                of=of,
                energy=_two([[pair[at][0] for pair in pairs] for at in (0, 1)]),
                forces=_two([part[::every].tolist() for part in force]),
                virial=_two(
                    [np.concatenate([p[at][-6:] for p in pairs]).tolist() for at in (0, 1)]
                ),
            )
        )
    return tuple(made)


def _two(lists: list[list[float]]) -> tuple[list[float], list[float]]:
    first, second = ([float(value) for value in values] for values in lists)
    return first, second
