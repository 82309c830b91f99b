"""What peers say, on one line and without power over a terminal."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.errors import ProtocolError
from mixserver.wire.text import clean, is_name, quoted
from mixserver.wire.worker_frames import decode


@given(st.text(), st.integers(10, 300))
def test_any_text_becomes_one_short_printable_line(text: str, longest: int) -> None:
    line = clean(text, longest)
    assert line.isprintable()
    assert len(line) <= longest
    assert clean(line, longest) == line


@given(st.text(st.characters(categories=["L", "N", "P"]), max_size=200))
def test_an_ordinary_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\n  lines\t", "two lines"),
        ("bell\x07", "bell\\x07"),
        ("from right\u202eto left", "from right\\u202eto left"),
        ("\ud800", "\\ud800"),
        ("a" * 300, "a" * 197 + "..."),
    ],
)
def test_what_becomes_of(text: str, line: str) -> None:
    assert clean(text) == line


def test_names() -> None:
    assert is_name("gpu-3 (Größe 2)")
    for text in ("", " ", " a", "a\n", "\x1b", "a" * 201):
        assert not is_name(text)


def test_large_values_are_not_even_formatted() -> None:
    assert len(quoted([list(range(100_000))] * 1000)) < 200


@given(
    st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_is_wrong_with_a_header_is_said_in_a_short_printable_line(value: object) -> None:
    header = msgspec.msgpack.encode(
        {"type": "result", "job": 1, "energy": 0.0, "forces": value, "virial": value}
    )
    with pytest.raises(ProtocolError) as refused:
        decode([header])
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400
