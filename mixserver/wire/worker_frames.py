"""The bytes of the messages between the server and its workers.

On the wire a message is one MessagePack header frame followed by one raw frame per array, in the
order the header names them. Never pickle. Knows no sockets. `decode` raises `ProtocolError` and
nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixserver.core.errors import ProtocolError
from mixserver.wire import Bytes
from mixserver.wire.text import clean, quoted
from mixserver.wire.worker import VERSION, Message

_DTYPES: Final[dict[str, np.dtype[Any]]] = {"f8": np.dtype("<f8"), "i4": np.dtype("<i4")}
_CODES: Final = {dtype: code for code, dtype in _DTYPES.items()}
_MOST_FRAMES: Final = 16
_MOST_HEADER: Final = 1 << 16
"""Bytes. The longest header is a model card's; arrays are frames of their own."""


def encode(message: Message) -> list[Bytes]:
    """Turn a message into its frames: a header, then one frame per array, without copying arrays.

    Args:
        message: any message; its arrays must be float64 or int32.

    Returns:
        Frames for one multipart send. Arrays are views: do not change them before they are sent.

    Raises:
        ValueError: an array has a dtype the protocol does not carry.
    """
    arrays: list[Bytes] = []

    def hook(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            raise TypeError(f"a message cannot hold a {type(value).__name__}")
        code = _CODES.get(value.dtype)
        if code is None:
            raise ValueError(f"a message carries float64 or int32 arrays, not {value.dtype}")
        flat = np.ascontiguousarray(value)
        arrays.append(flat.data.cast("B") if flat.size else b"")
        return [len(arrays), code, list(value.shape)]

    header = msgspec.msgpack.Encoder(enc_hook=hook).encode(message)
    return [header, *arrays]


def decode(frames: Sequence[Bytes]) -> Message:
    """Turn the frames of a single message back into it; see `Decoder.decode`."""
    return Decoder().decode(frames)


class Decoder:
    """Turns frames back into messages. Keep one per connection or thread, not shared by threads:
    making it takes longer (20 us) than most messages.
    """  # noqa: D205 - one sentence

    def __init__(self) -> None:
        self._header = msgspec.msgpack.Decoder(Message, dec_hook=self._array)
        self._frames: Sequence[Bytes] = ()
        self._used: set[int] = set()

    def decode(self, frames: Sequence[Bytes]) -> Message:
        """Turn frames back into a message, checked. Arrays are read-only views of the frames.

        Raises:
            ProtocolError: the frames are not a message of this protocol version.
        """
        if not 1 <= len(frames) <= _MOST_FRAMES:
            raise ProtocolError(f"a message has 1 to {_MOST_FRAMES} frames, got {len(frames)}")
        if len(frames[0]) > _MOST_HEADER:
            raise ProtocolError(f"a header is at most {_MOST_HEADER} bytes, got {len(frames[0])}")
        self._frames = frames
        self._used.clear()
        try:
            message: Message = self._header.decode(frames[0])
        except (
            msgspec.MsgspecError,
            ValueError,
            TypeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise ProtocolError(
                f"not a message of worker protocol {VERSION}: {clean(str(error))}"
            ) from error
        finally:
            self._frames = ()
        if (used := len(self._used)) != len(frames) - 1:
            raise ProtocolError(
                f"message has {len(frames) - 1 - used} frames that its header does not name"
            )
        return message

    def _array(self, kind: type, value: Any) -> NDArray[Any]:
        index, code, shape = _described(value)
        frames, dtype = self._frames, _DTYPES.get(code)
        if dtype is None or not 1 <= index < len(frames) or index in self._used:
            raise ValueError(
                f"array {quoted(value)} is not among the {len(frames) - 1} frames sent"
            )
        self._used.add(index)
        expected = math.prod(shape) * dtype.itemsize
        if len(frames[index]) != expected:
            raise ValueError(
                f"array of shape {tuple(shape)} needs {expected} bytes, got {len(frames[index])}"
            )
        array = np.frombuffer(frames[index], dtype=dtype).reshape(shape)
        if not array.flags.aligned:  # compiled engines would trip over it
            array = array.copy()
        array.flags.writeable = False
        return array


def _described(value: Any) -> tuple[int, str, list[int]]:
    if type(value) is list and len(value) == 3:  # a pattern of `match` takes ten times as long
        index, code, shape = value
        if type(index) is int and type(code) is str and type(shape) is list and len(shape) <= 3:
            for n in shape:
                if type(n) is not int or not 0 <= n < 1 << 32:
                    break
            else:
                return index, code, shape
    raise ValueError(f"an array is described as [frame, dtype, shape], got {quoted(value)}")
