"""What msgspec says is put into our words; what is not understood is passed on as it is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.config.messages import explain_error
from mixserver.config.schema import Config

PLACES = st.sampled_from(
    ["", "$.region", "$.local[0].command", "$.a.b[...]", "$[", "$.region.seeds", "$.upstream[3].x"]
)
HEADS = st.sampled_from(
    [
        "Object contains unknown field `core`",
        "Object missing required field `address`",
        "Expected `float | null`, got `str`",
        "Expected `array`, got `int`",
        "Invalid enum value 'x'",
        "Invalid value 'x'",
        "something that no version says today",
    ]
)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"regoin": {}}, "regoin is not a setting; did you mean region?"),
        ({}, "upstream is missing"),
        ({"upstream": {"address": 3, "structure": "x"}}, "upstream.address: expected"),
        ({"upstream": 4}, "upstream: expected a table, got 4"),
        (
            {"upstream": {"address": "unix:x", "structure": "x"}, "mixing": {"kind": "nrg"}},
            "'energy', 'force'",
        ),
    ],
)
def test_the_messages_of_this_msgspec_are_understood(values: dict[str, object], words: str) -> None:
    """Fails if an upgrade of msgspec words them differently."""
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert(values, Config)
    assert words in explain_error(str(error.value), Config, values)


@given(HEADS | st.text(min_size=1), PLACES, st.dictionaries(st.text(), st.integers() | st.text()))
def test_no_message_is_too_odd(head: str, place: str, values: dict[str, object]) -> None:
    message = f"{head} - at `{place}`" if place else head
    assert explain_error(message, Config, values)


@given(st.text(min_size=1))
def test_what_is_not_understood_is_passed_on(message: str) -> None:
    odd = f"New words: {message}"
    assert explain_error(odd, Config) == odd or " - at `" in message
