"""What the server says about lambda is taken as said or refused in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ipi.interfaces.utils import parse_extra

from mixserver.core.errors import ProtocolError
from mixserver.ipi.host.extras import parse_lambdas


def _extras(atoms: Any, values: Any) -> dict[str, Any]:
    """The extras as i-PI reads them."""
    text = json.dumps({"lambda_atoms": atoms, "lambda_values": values})
    extras: dict[str, Any] = parse_extra(text)
    return extras


def test_atoms_that_are_not_named_are_bulk() -> None:
    lambdas = parse_lambdas(_extras([4, 1], [0.1 + 0.2, 1.0]), 6)
    assert lambdas.tolist() == [0.0, 1.0, 0.0, 0.0, 0.1 + 0.2, 0.0]
    assert parse_lambdas(_extras([], []), 3).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("atoms", "values", "said"),
    [
        ([0, 1], [1.0], "the same length"),
        ([[0], [1]], [[1.0], [1.0]], "the same length"),
        ([[0], [1, 2]], [1.0, 1.0], "lists of numbers"),
        (["first"], [1.0], "lists of numbers"),
        ([0.5], [1.0], "indices from 0 to 2"),
        ([-1], [1.0], "indices from 0 to 2"),
        ([3], [1.0], "indices from 0 to 2"),
        ([0], [1.0001], "from 0 to 1"),
        ([0], [-0.1], "from 0 to 1"),
        ([0], [float("nan")], "from 0 to 1"),
        (None, [1.0], "the same length"),
    ],
)
def test_what_cannot_be_lambda_is_refused(atoms: Any, values: Any, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        parse_lambdas(_extras(atoms, values), 3)
