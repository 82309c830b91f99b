"""The bytes of a frame, read as the page reads them."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from watched_folder import frame, region

from mixserver.core.cell import minimum_image
from mixserver.region.region import Region
from mixserver.watch.packed_frame import Packer
from mixserver.watch.stored_frames import ShownFrame


def unpacked(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    (size,) = struct.unpack_from("<I", content)
    about = json.loads(content[4 : 4 + size])
    n, at = about["drawn"], 4 + size
    assert at % 4 == 0
    found = {}
    for name, kind, width in (
        *(("xyz", "<f4", 3), ("index", "<u4", 1), ("number", "u1", 1)),
        *(("lambda", "u1", 1), ("seed", "u1", 1)),
    ):
        found[name] = np.frombuffer(content, kind, n * width, at)
        at += found[name].nbytes
    assert at == len(content)
    return about, found


@given(number=st.integers(0, 1000), label=st.text(max_size=20))
def test_all_of_a_small_frame(number: int, label: str) -> None:
    one = frame(number)
    about, found = unpacked(Packer().pack(ShownFrame(label, one, region())))
    assert about["label"] == label
    assert about["atoms"] == about["drawn"] == 5
    # the least lambda above 0 is still one
    assert found["lambda"].tolist() == [255, 128, 1, 0, 0]
    assert found["seed"].tolist() == [1, 0, 0, 0, 0]
    assert found["number"].tolist() == [18] * 5
    places = found["xyz"].reshape(-1, 3)
    apart = (places - places[0] - one.positions + one.positions[0]) / 9.0
    np.testing.assert_allclose(minimum_image(apart, (True,) * 3), 0.0, atol=1e-6)
    assert np.abs(places).max() <= 4.5 + 1e-5


@given(number=st.integers(0, 1000))
def test_of_a_large_system_the_region_and_its_surroundings(number: int) -> None:
    one = frame(number, atoms=400)
    lambda_ = np.zeros(400)
    lambda_[[7, 300]] = 1.0
    shown = ShownFrame("f", one, Region(lambda_, np.array([7])))
    about, found = unpacked(Packer().pack(shown, most=50))
    assert (about["atoms"], about["drawn"]) == (400, 50)
    assert {7, 300} <= set(found["index"].tolist())
    _, whole = unpacked(Packer().pack(shown))
    places = whole["xyz"].reshape(-1, 3)
    np.testing.assert_array_equal(found["xyz"].reshape(-1, 3), places[found["index"]])
    from_seed = np.linalg.norm(places - places[7], axis=1)
    nearest = np.setdiff1d(np.argsort(from_seed), [7, 300], assume_unique=True)[:48]
    assert set(found["index"].tolist()) == {7, 300, *nearest.tolist()}


def test_the_picture_stays_where_it_is_while_the_region_moves_a_little() -> None:
    packer, one = Packer(), frame(3)
    first = unpacked(packer.pack(ShownFrame("a", one, region())))[1]["xyz"]
    moved = one.topology.frame(one.positions + np.array([0.3, 0.0, 0.0]), one.cell)
    second = unpacked(packer.pack(ShownFrame("b", moved, region())))[1]["xyz"]
    np.testing.assert_allclose((second - first).reshape(-1, 3) % 9.0, [[0.3, 0, 0]] * 5, atol=1e-5)


def test_without_lambda_it_says_so() -> None:
    about, found = unpacked(Packer().pack(ShownFrame("f", frame(0), None, "why not")))
    assert about["lambda"] is False
    assert about["words"] == "why not"
    assert not found["lambda"].any()
