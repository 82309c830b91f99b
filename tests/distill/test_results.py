"""Results come back from their file as they were, whatever is missing in them."""

from __future__ import annotations

import math

import made_results
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_files import read_result

from mixserver.analysis.bulk.properties import BulkProperties
from mixserver.distill.results import (
    Candidate,
    Curve,
    Errors,
    FrontPoint,
    Ghost,
    Parity,
    Result,
    StabilityTest,
    write_result,
)
from mixserver.wire.descriptor import SnapDescriptor

numbers = st.floats(allow_infinity=False)
"""NaN too."""
perhaps = st.none() | st.floats(allow_nan=False, allow_infinity=False)
lists = st.lists(numbers, max_size=3)
two = st.tuples(lists, lists)
three = st.tuples(numbers, numbers, numbers)
errors = st.builds(Errors, of=st.text(), energy=numbers, forces=numbers, virial=numbers)
ghosts = st.builds(Ghost, core=numbers, blend=numbers, largest=numbers, rms=numbers)
bulk_properties = st.builds(
    BulkProperties,
    energy=numbers,
    volume=numbers,
    lengths=three,
    angles=three,
    cell=st.lists(lists, max_size=3),
    positions=st.lists(lists, max_size=3),
    elastic=st.lists(lists, max_size=3),
    cubic=st.none() | three,
    bulk_modulus=numbers,
    phonons=st.dictionaries(st.text(), lists, max_size=2),
    curve=two,
    vacancy=perhaps,
    trouble=st.text(),
)
descriptors = st.builds(
    SnapDescriptor,
    twojmax=st.integers(1, 14),
    cutoff=st.floats(1.0, 20.0),
    elements=st.just(("W", "Be")),
    radii=st.tuples(st.floats(0.1, 1.0), st.floats(0.1, 1.0)),
    weights=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
    quadratic=st.booleans(),
)
candidates = st.builds(
    Candidate,
    label=st.text(),
    descriptor=st.none() | descriptors,
    pair_functions=st.integers(0, 99),
    pair_cutoff=numbers,
    coefficients=st.integers(0, 99),
    constraints=st.integers(0, 99),
    partition_weight=numbers,
    ridge=numbers,
    errors=st.lists(errors, max_size=2).map(tuple),
    ghosts=st.lists(ghosts, max_size=2).map(tuple),
    bulk=st.none() | bulk_properties,
    microseconds=perhaps,
    microseconds_error=numbers,
    spread=perhaps,
    inclusion=perhaps,
    trouble=st.text(),
)
fronts = st.builds(FrontPoint, weight=numbers, forces=numbers, ghost=numbers, chosen=st.booleans())
results = st.builds(
    Result,
    name=st.text(),
    elements=st.lists(st.text(), max_size=2).map(tuple),
    expensive=st.text(),
    fingerprint=st.text(),
    bulk=bulk_properties,
    ghost_free=st.booleans(),
    candidates=st.lists(candidates, max_size=2).map(tuple),
    front=st.lists(fronts, max_size=2).map(tuple),
    parity=st.lists(
        st.builds(Parity, of=st.text(), energy=two, forces=two, virial=two), max_size=1
    ).map(tuple),
    sweep=st.lists(candidates, max_size=1).map(tuple),
    trials=st.lists(
        st.builds(
            StabilityTest,
            temperature=numbers,
            ps=numbers,
            broke=st.lists(perhaps, max_size=3).map(tuple),
            frames=st.integers(0, 2**31),
        ),
        max_size=2,
    ).map(tuple),
    pinned=st.lists(st.text(), max_size=2).map(tuple),
    recommended=st.text(),
    seconds=st.dictionaries(st.text(), numbers, max_size=2),
    notes=st.lists(st.text(), max_size=2).map(tuple),
    trained=st.lists(
        st.builds(
            Curve,
            epoch=st.integers(0, 9999),
            stage=st.integers(1, 2),
            large=perhaps,
            small=perhaps,
            energies=perhaps,
            forces=perhaps,
        ),
        max_size=2,
    ).map(tuple),
)


@settings(max_examples=60)
@given(results)
def test_any_result_comes_back(result: Result) -> None:
    """`repr` tells NaN from None and -0.0 from 0.0, and does not say that NaN is unlike itself."""
    text = write_result(result)
    assert repr(read_result(text)) == repr(result)
    assert write_result(read_result(text)) == text


def test_every_field_is_tried() -> None:
    """A field that is added later must be in the strategies above."""
    for kind, strategy in (
        (Result, results),
        (Candidate, candidates),
        (BulkProperties, bulk_properties),
    ):
        assert strategy is not None
        given_ = set(strategy.wrapped_strategy.kwargs)  # type: ignore[attr-defined]
        assert given_ == set(kind.__struct_fields__)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_json_cannot_say_is_null_and_then_unknown(value: float) -> None:
    spoiled = Errors(of="hot 300 K", energy=value, forces=0.1, virial=0.2)
    one = made_results.candidate("it", errors=(spoiled,), spread=None)
    text = write_result(made_results.result(candidates=(one,), sweep=(), parity=()))
    raw = msgspec.json.decode(text)["candidates"][0]
    assert raw["errors"][0]["energy"] is None
    back = read_result(text).candidates[0]
    assert math.isnan(back.errors[0].energy)
    assert back.errors[0].forces == 0.1
    assert back.spread is None
