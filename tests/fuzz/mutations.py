"""Structure-aware mutations: valid messages, with something wrong in them."""

from __future__ import annotations

import random
import struct
from typing import Any, Final

import msgspec

NUMBERS: Final = (
    *(0, 1, -1, 2, 3, 7, 255, 256, 4096, 1 << 16, 1 << 24, (1 << 24) + 1),
    *((1 << 31) - 1, -(1 << 31), (1 << 32) - 1, 1 << 32, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1),
)
_FLOATS: Final = (0.0, -0.0, 1e300, -1e300, 5e-324, float("inf"), float("-inf"), float("nan"), 1.5)
_TEXTS: Final = (
    "",
    " ",
    "\0",
    "\x1b[31m",
    "é",
    "\U0001f600",
    "a" * 300,
    "../..",
    "{}",
    "\n\n",
    "%s",
)
_BINARY: Final = (b"", b"\0", b"\xff" * 9, bytes(300))
_DEEP: Final[Any] = [[[[[[[[[[[[]]]]]]]]]]]]
_BOMB: Final = b"\x91" * 3000 + b"\xc0"
_HEADS: Final = (
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xdc\xff\xff"),
    *(b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\0", b"\xc1", b"\xd9\xff", b"\x82\xc0"),
)
"""Of MessagePack: arrays, maps, texts, binaries and extensions of absurd lengths, and nonsense."""


def scalar(rng: random.Random) -> Any:
    """A value that no field expects."""
    return rng.choice(
        (
            rng.choice(NUMBERS),
            rng.choice(_FLOATS),
            rng.choice(_TEXTS),
            rng.choice(_BINARY),
            rng.choice((None, True, False)),
            rng.choice(([], {}, [None] * 20, _DEEP, {"": {}})),
        )
    )


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The same bytes, with a few changed, lost, repeated or put in."""
    piece = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(piece) + 1)
        match rng.randrange(8):
            case 0 if piece:
                piece[at % len(piece)] ^= 1 << rng.randrange(8)
            case 1 if piece:
                piece[at % len(piece)] = rng.choice((0, 1, 0x7F, 0x80, 0xC0, 0xFF))
            case 2:
                del piece[at:]
            case 3:
                del piece[at : at + rng.randrange(1, 9)]
            case 4:
                piece[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 5:
                piece[at : at + 4] = struct.pack("<q", rng.choice(NUMBERS[:-1]))[:4]
            case 6:
                piece[at:at] = rng.choice(_HEADS)
            case _:
                piece[at:at] = piece[: rng.randrange(1, 40)]
    return bytes(piece)


def _altered(rng: random.Random, tree: Any) -> Any:
    """The same tree with one node changed; dicts and lists are new where that is."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree))
        copy = dict(tree)
        match rng.randrange(6):
            case 0:
                del copy[key]
            case 1:
                copy[str(scalar(rng))[:20]] = copy[key]
            case 2:
                copy[key] = copy[rng.choice(list(tree))]
            case _:
                copy[key] = _altered(rng, copy[key])
        return copy
    if isinstance(tree, list | tuple) and tree and rng.random() < 0.9:
        items = list(tree)
        at = rng.randrange(len(items))
        match rng.randrange(6):
            case 0:
                del items[at]
            case 1:
                items.insert(at, scalar(rng))
            case _:
                items[at] = _altered(rng, items[at])
        return items
    return scalar(rng)


def header(rng: random.Random, valid: bytes) -> bytes:
    """A MessagePack message of which something is wrong."""
    kind = rng.randrange(12)
    if kind == 0:
        return rng.choice((b"", _BOMB, rng.randbytes(rng.randrange(80)), rng.choice(_HEADS)))
    if kind <= 3:
        return damaged(rng, valid)
    tree = msgspec.msgpack.decode(valid)
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = _altered(rng, tree)
    try:
        return msgspec.msgpack.encode(tree)
    except (OverflowError, ValueError, TypeError, UnicodeEncodeError):
        return damaged(rng, valid)


def frames(rng: random.Random, valid: list[bytes]) -> list[bytes]:
    """The frames of a message, of which something is wrong; now and then nothing."""
    made = list(valid)
    match rng.randrange(10):
        case 0:
            return made
        case 1 if len(made) > 1:
            del made[rng.randrange(1, len(made))]
        case 2:
            made.insert(rng.randrange(len(made) + 1), rng.choice(made))
        case 3:
            rng.shuffle(made)
        case 4:
            at = rng.randrange(len(made))
            made[at] = damaged(rng, made[at])
        case 5:
            return [rng.choice(_BINARY) for _ in range(rng.choice((0, 1, 2, 16, 17)))]
        case 6 if len(made) > 1:
            at = rng.randrange(1, len(made))
            count = len(made[at]) // 8
            made[at] = struct.pack(f"<{count}d", *(rng.choice(_FLOATS) for _ in range(count)))
        case _:
            made[0] = header(rng, made[0])
    return made


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """The same stream in pieces."""
    if rng.random() < 0.5:
        return [data]
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 6)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]
