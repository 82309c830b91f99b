"""Replies to i-PI: what i-PI can take, their bytes, and how a failure is reported to it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixserver.core.errors import (
    BadInput,
    EvaluationError,
    MixserverError,
    NoWorkerError,
    UpstreamError,
    WorkerFault,
)
from mixserver.core.units import ELECTRONVOLT, EV_PER_ANGSTROM
from mixserver.wire import Bytes
from mixserver.wire.ipi import FLOAT, FORCEREADY, HEADER, MOST_EXTRAS, Reply, header


def check_reply(reply: Reply, atoms: int) -> Reply:
    """Check for what would stop i-PI's polling thread (it then hangs) or spoil a trajectory.

    i-PI parses extras with Python's ``json.loads``. Text that is not JSON is harmless (it becomes
    ``{"raw": text}``), and so are "" and blanks. JSON must be an object without a key "raw".

    Args:
        reply: the reply, as it is about to be sent.
        atoms: number of atoms in the request.

    Returns:
        The same reply.

    Raises:
        EvaluationError: a wrong shape, a number that is not finite, extras that i-PI cannot take.
    """
    if reply.forces.shape != (atoms, 3):
        raise EvaluationError(
            f"forces for i-PI must be ({atoms}, 3), one row per atom of its request; got "
            f"{reply.forces.shape}"
        )
    if reply.virial.shape != (3, 3):
        raise EvaluationError(f"the virial for i-PI must be (3, 3), got {reply.virial.shape}")
    if not math.isfinite(reply.energy):
        raise EvaluationError(f"the energy for i-PI is not finite: {reply.energy}")
    if not np.isfinite(reply.forces).all():
        atom = int(np.flatnonzero(~np.isfinite(reply.forces).all(axis=1))[0])
        raise EvaluationError(f"forces for i-PI are not finite (atom {atom})")
    if not np.isfinite(reply.virial).all():
        raise EvaluationError(f"the virial for i-PI is not finite: {reply.virial.tolist()}")
    _check_extras(reply.extras)
    return reply


def _check_extras(text: str) -> None:
    if not text or text.isspace():
        return
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise EvaluationError(f"extras for i-PI cannot be written as UTF-8: {error}") from error
    if size > MOST_EXTRAS:
        raise EvaluationError(f"extras for i-PI have {size} bytes; at most {MOST_EXTRAS} are sent")
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):  # stricter than what i-PI uses, and quicker
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return
    if not isinstance(value, dict):
        raise EvaluationError(
            f"extras for i-PI must be a JSON object or not JSON at all, got {text[:60]!r}, which "
            "would stop i-PI's polling thread"
        )
    if "raw" in value:
        raise EvaluationError('extras for i-PI must not have the key "raw", which is i-PI\'s own')


_WORDS: Final[tuple[tuple[type[MixserverError], str], ...]] = (
    (NoWorkerError, "NOWORKER"),
    (BadInput, "BADINPUT"),
    (WorkerFault, "WORKER"),
    (EvaluationError, "EVALUATE"),
    (UpstreamError, "UPSTREAM"),
    (MixserverError, "MIXSERVR"),
)


def error_header(error: MixserverError) -> bytes:
    """A failure in 12 bytes: i-PI prints an unknown header and repeats the request."""
    return header("ERR:" + next(word for kind, word in _WORDS if isinstance(error, kind)))


def encode_replies(replies: Sequence[Reply], atoms: int) -> Bytes:
    """FORCEREADY and the replies to one request or batch, as one piece."""
    batch, n = len(replies), atoms
    tail = encode_extras(replies)
    forces = HEADER + 8 * batch + 4
    virials = forces + 24 * batch * n
    end = virials + 72 * batch
    data = np.empty(end + len(tail), np.uint8).data
    data[:HEADER] = FORCEREADY
    data[forces - 4 : forces] = n.to_bytes(4, "little")
    data[end:] = tail
    fill_replies(
        replies,
        np.frombuffer(data, FLOAT, batch, HEADER),
        np.frombuffer(data, FLOAT, 3 * batch * n, forces).reshape(batch, n, 3),
        np.frombuffer(data, FLOAT, 9 * batch, virials).reshape(batch, 3, 3),
    )
    return data


def encode_extras(replies: Sequence[Reply]) -> bytes:
    """The extras of all replies, each with its length."""
    extras = [reply.extras.encode("utf-8") for reply in replies]
    return b"".join(len(text).to_bytes(4, "little") + text for text in extras)


def fill_replies(
    replies: Sequence[Reply],
    energies: NDArray[np.float64],
    forces: NDArray[np.float64],
    virials: NDArray[np.float64],
) -> None:
    """Write replies in i-PI's units into arrays of a message, or of shared memory."""
    for slot, reply in enumerate(replies):
        energies[slot] = reply.energy * ELECTRONVOLT
        np.multiply(reply.forces, EV_PER_ANGSTROM, out=forces[slot])
        np.multiply(reply.virial.T, ELECTRONVOLT, out=virials[slot])


def reply_size(atoms: int) -> int:
    """Bytes of a whole reply without extras, which i-PI reads before it looks at the header."""
    return HEADER + 8 + 4 + 24 * atoms + 72 + 4
