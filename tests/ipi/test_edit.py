"""Setting <total_steps>: where i-PI reads it and nowhere else, every other byte as it was."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.errors import ConfigError
from mixserver.ipi.edit import with_total_steps

SET = b"<total_steps> 99 </total_steps>"


def _parsed(text: bytes) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - made here


def _edited(folder: Path, text: str) -> bytes:
    file = folder / "input.xml"
    file.write_text(text, encoding="utf-8")
    return with_total_steps(file, 99)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<simulation>@</simulation>", "<total_steps>5</total_steps>"),
        ("<simulation a='1>2'>@<x/></simulation>", "<total_steps/>"),
        (
            "<simulation>\n <x>é</x>@</simulation>",
            "<total_steps b='>'>\n5<!-- > --></total_steps >",
        ),
        ("<!-- <simulation> -->\n<simulation>@<output/></simulation>", ""),
        ("<simulation>@</simulation>", ""),
        (
            "<simulation><!-- <total_steps>1</total_steps> --><x><total_steps>7</total_steps></x>"
            "@</simulation>",
            "<total_steps> 5 </total_steps>",
        ),
        ("<simulation><!-- <total_steps>1</total_steps> -->@<x/></simulation>", ""),
        ("<simulation><![CDATA[<total_steps>1</total_steps>]]>@<x/></simulation>", ""),
    ],
)
def test_only_what_ipi_reads_is_set(tmp_path: Path, before: str, after: str) -> None:
    found = _edited(tmp_path, before.replace("@", after))
    assert found == before.encode().replace(b"@", SET)


def test_all_of_several_are_set(tmp_path: Path) -> None:
    text = "<simulation><total_steps>1</total_steps> <total_steps>2</total_steps></simulation>"
    assert _edited(tmp_path, text) == b"<simulation>" + SET + b" " + SET + b"</simulation>"


@pytest.mark.parametrize(
    ("text", "said"),
    [("<simulation/>", "end tag"), ("<input></input>", "<simulation>"), ("<simulation>", "XML")],
)
def test_what_is_no_input_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _edited(tmp_path, text)


_NODES = st.recursive(
    st.sampled_from(["<a/>", "<!-- <total_steps>3</total_steps> -->", "text ö", "<total_steps/>"]),
    lambda inner: st.builds(
        lambda name, parts: f"<{name} b='&lt;>'>{''.join(parts)}</{name}>",
        st.sampled_from(["x", "total_steps", "simulation"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)


@given(parts=st.lists(_NODES, max_size=4))
def test_the_root_has_the_steps_and_the_rest_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    text = f"<simulation verbosity='low'>{''.join(parts)}</simulation>"
    found = _parsed(_edited(tmp_path_factory.getbasetemp(), text))
    steps = [child for child in found if child.tag == "total_steps"]
    assert steps
    assert {child.text for child in steps} == {" 99 "}

    def others(root: ET.Element) -> list[bytes]:
        for child in root:
            child.tail = None
        return [ET.tostring(child) for child in root if child.tag != "total_steps"]

    assert others(found) == others(_parsed(text.encode()))
