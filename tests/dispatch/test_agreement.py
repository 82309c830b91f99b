"""Whether two results of one job agree: rounding does, everything else does not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.dispatch.agreement import disagreement
from mixserver.wire.worker import Result


def made(seed: int, n: int = 200) -> Result:
    rng = np.random.default_rng(seed)
    energies = rng.normal(-5.0, 0.5, n)
    pairs = rng.normal(0.0, 3.0, (3, 3))
    return Result(
        job=1,
        energy=float(energies.sum()),
        forces=rng.normal(0.0, 1.0, (n, 3)),
        virial=pairs + pairs.T,
        energies=energies,
    )


@pytest.mark.parametrize(("dtype", "kind"), [("float64", np.float64), ("float32", np.float32)])
@given(seed=st.integers(0, 10**6), n=st.integers(1, 400))
def test_sums_in_another_order_agree(dtype: str, kind: type, seed: int, n: int) -> None:
    """Each number is the sum of 60 terms of up to 30 eV: the same terms, added the other way."""
    rng = np.random.default_rng(seed)

    def summed(terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there, back = np.zeros(terms.shape[1:], kind), np.zeros(terms.shape[1:], kind)
        for term in terms.astype(kind):
            there += term
        for term in terms[::-1].astype(kind):
            back += term
        return there.astype(float), back.astype(float)

    forces = summed(rng.normal(0.0, 10.0, (60, n, 3)))
    energies = summed(rng.normal(-0.1, 10.0, (60, n)))
    virial = summed(rng.normal(0.0, 30.0, (60, 3, 3)))
    first, second = (
        Result(
            job=1,
            energy=float(energies[at].astype(kind).cumsum(dtype=kind)[-1]),
            forces=forces[at],
            virial=virial[at],
            energies=energies[at],
        )
        for at in (0, 1)
    )
    assert disagreement(first, second, dtype) == ""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("lie", "word"),
    [
        ({"forces": 1.01 * made(0).forces}, "forces by"),
        ({"forces": np.zeros((200, 3))}, "forces by"),
        ({"energy": made(0).energy + 1.0}, "energies by 1 eV"),
        ({"virial": made(0).virial.T * 1.1}, "virials by"),
        ({"energies": np.roll(made(0).energies, 1)}, "site energies by"),  # type: ignore[arg-type]
    ],
)
def test_lies_differ(dtype: str, lie: dict[str, object], word: str) -> None:
    assert word in disagreement(made(0), msgspec.structs.replace(made(0), **lie), dtype)


def test_what_rounds_in_single_precision_does_not_in_double() -> None:
    first = made(3)
    second = msgspec.structs.replace(first, forces=first.forces + 1e-5)
    assert disagreement(first, second, "float32") == ""
    assert (
        disagreement(first, second, "float64") == "forces by 1e-05 eV/Å (rounding explains 3.5e-08)"
    )


def test_no_atoms_agree() -> None:
    nothing = Result(job=1, energy=0.0, forces=np.zeros((0, 3)), virial=np.zeros((3, 3)))
    assert disagreement(nothing, nothing, "float64") == ""
