"""What a worker's command is found to be before it is started, as JSON."""

from __future__ import annotations

import msgspec

from mixserver.core.errors import ProtocolError
from mixserver.wire.worker import ModelCard


class WorkerValidation(msgspec.Struct, frozen=True):
    """The result of `mixserver-worker validate`."""

    problem: str = ""
    """Why the command cannot run; "" if nothing was found."""
    not_installed: bool = False
    """Whether it lacks only a package, which another machine may have."""
    model: ModelCard | None = None
    """The model, where it could be read without evaluating anything."""


def to_json(found: WorkerValidation) -> bytes:
    """The result as JSON."""
    return msgspec.json.encode(found)


def from_json(data: bytes) -> WorkerValidation:
    """The result that `to_json` wrote.

    Raises:
        ProtocolError: it is something else.
    """
    try:
        return msgspec.json.decode(data, type=WorkerValidation)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"this is not the validation of a worker: {error}") from error
