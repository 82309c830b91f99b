"""Results of distillations as they might be, made of formulas: no model is asked."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from mixserver.analysis.bulk.properties import BulkProperties
from mixserver.distill.results import (
    Candidate,
    Errors,
    FrontPoint,
    Ghost,
    Parity,
    Result,
    StabilityTest,
)
from mixserver.wire.descriptor import SnapDescriptor

KINDS = ("hot 300 K", "hot 600 K", "hot 1200 K", "strained 600 K", "vacancy 600 K")
CUBIC = (130.72, 71.83, 74.73)


def silicon_bulk(
    edge: float = 5.4569, cubic: tuple[float, float, float] | None = CUBIC, scale: float = 1.0
) -> BulkProperties:
    """Silicon in its primitive cell; with `cubic` None what is left of it is monoclinic."""
    c11, c12, c44 = cubic or CUBIC
    elastic = np.diag([c11] * 3 + [c44] * 3)
    elastic[:3, :3] += c12 - np.diag([c12] * 3)
    side = edge / math.sqrt(2.0)
    volume = edge**3 / 8.0
    strain = np.linspace(-0.06, 0.06, 13)
    frequencies = {"G": [0.0, 0.0, 0.0, 15.0, 15.0, 15.0], "X": [4.4, 4.4, 12.0, 12.0, 13.3, 13.3]}
    frequencies["L"] = [3.4, 3.4, 10.5, 11.7, 14.4, 14.4]
    return BulkProperties(
        energy=-5.41,
        volume=volume,
        lengths=(side, side, side if cubic else 1.1 * side),
        angles=(60.0, 60.0, 60.0),
        cell=(0.5 * edge * (1.0 - np.eye(3))).tolist(),
        positions=[[0.0, 0.0, 0.0], [0.25 * edge] * 3],
        elastic=elastic.tolist(),
        cubic=cubic,
        bulk_modulus=(c11 + 2.0 * c12) / 3.0,
        phonons={name: [scale * f for f in values] for name, values in frequencies.items()},
        curve=((volume * (1.0 + strain)).tolist(), (-5.41 + 5.0 * scale * strain**2).tolist()),
        vacancy=3.412,
    )


def candidate(label: str, *, worse: float = 1.0, **changes: object) -> Candidate:
    """Everything known; errors and ghost forces grow with `worse`."""
    made = Candidate(
        label=label,
        descriptor=SnapDescriptor(
            twojmax=4, cutoff=4.9, elements=("Si",), radii=(0.5,), weights=(1.0,)
        ),
        pair_functions=28,
        pair_cutoff=6.3,
        coefficients=43,
        constraints=6,
        partition_weight=30.0,
        ridge=1e-4,
        errors=tuple(
            Errors(
                of=of,
                energy=0.000521 * worse * (1 + at),
                forces=0.0347 * worse * (1.0 + 0.4 * at),
                virial=0.00873 * worse,
            )
            for at, of in enumerate(KINDS)
        ),
        ghosts=tuple(
            Ghost(core=6.0, blend=blend, largest=largest * worse, rms=0.4 * largest * worse)
            for blend, largest in ((0.0, 0.0217), (4.0, 0.00734), (8.0, 0.00446))
        ),
        bulk=silicon_bulk(cubic=(130.9, 71.7, 75.1), scale=1.0 + 0.02 * worse),
        microseconds=31.57,
        microseconds_error=0.42,
        spread=0.0117,
        inclusion=0.00213,
    )
    return msgspec.structs.replace(made, **changes)


def result(**changes: object) -> Result:
    """A whole one, as of silicon with a sweep."""
    listed = (
        candidate("constrained"),
        candidate("no partition rows", worse=0.93, partition_weight=0.0),
        candidate("unconstrained", worse=0.8, bulk=silicon_bulk(5.4517, (101.2, 75.4, 29.3))),
        candidate("stock", worse=3.0, descriptor=None, microseconds=253.1, inclusion=None),
    )
    made = Result(
        name="si",
        elements=("Si",),
        expensive="si_mace",
        fingerprint="84435612438839d3",
        bulk=silicon_bulk(),
        ghost_free=True,
        candidates=listed,
        trials=(
            StabilityTest(temperature=1440.0, ps=3.0, broke=(None, 0.43, 1.71, None), frames=13),
            StabilityTest(temperature=1440.0, ps=3.0, broke=(None, None, None, None)),
        ),
        front=tuple(
            FrontPoint(weight=w, forces=0.0486 + 3e-5 * w, ghost=0.0068 / (1 + w), chosen=w == 30.0)
            for w in (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
        ),
        parity=parities(),
        sweep=swept(),
        recommended="2J = 4, 4.5 Å",
        seconds={"crystal": 2.8, "hot": 97.03, "rows 2J=4 4.9 Å": 0.53, "fit": 8.21},
        notes=("6 independent constraints; 55 more say the same by symmetry",),
    )
    return msgspec.structs.replace(made, **changes)


def swept() -> tuple[Candidate, ...]:
    """Resolutions and cutoffs: longer ones are beaten."""
    return tuple(
        candidate(
            f"2J = {twojmax}, {cutoff} Å",
            worse=4.0 / twojmax * (1.0 + 0.2 * (cutoff - 4.5)),
            microseconds=0.5 * twojmax**3 * (cutoff / 4.5) ** 2 + 10.0,
            bulk=silicon_bulk(5.4569 + 1e-3 / twojmax, (130.72 + twojmax / 10, 71.83, 74.73)),
        )
        for twojmax in (2, 4, 6, 8)
        for cutoff in (4.5, 4.9, 5.5)
    )


def parities() -> tuple[Parity, ...]:
    """Normal deviations that grow with temperature."""
    rng = np.random.default_rng(7)
    made = []
    for at, of in enumerate(KINDS):
        energy = -5.4 + 0.03 * at + 0.004 * rng.normal(size=3)
        forces, virial = (0.4 + 0.2 * at) * rng.normal(size=400), 0.05 * rng.normal(size=18)
        pairs = [
            (x.tolist(), (x + size * rng.normal(size=len(x))).tolist())
            for x, size in ((energy, 5e-4), (forces, 0.04 + 0.02 * at), (virial, 0.008))
        ]
        made.append(Parity(of=of, energy=pairs[0], forces=pairs[1], virial=pairs[2]))
    return tuple(made)


def bare() -> Result:
    """Nothing is known but names."""
    nothing = float("nan")
    empty = msgspec.structs.replace(
        silicon_bulk(cubic=None),
        elastic=[[nothing] * 6] * 6,
        bulk_modulus=nothing,
        phonons={},
        curve=([], []),
        vacancy=None,
    )
    return Result(
        name="si",
        elements=("Si",),
        expensive="si_mace",
        fingerprint="",
        bulk=empty,
        ghost_free=False,
        candidates=(Candidate(label="constrained"),),
    )
