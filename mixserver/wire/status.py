"""The status of a running server: the question, the answer, and their bytes.

One MessagePack frame each way, on a socket of its own. The question is the same for all versions,
so that a server can answer one of another version with a `StatusRefused` that says so. An answer is
a snapshot: nothing can be changed through it. Knows no sockets. Decoding raises `ProtocolError` and
nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias, TypeVar

import msgspec

from mixserver.core.errors import ProtocolError
from mixserver.wire import Bytes
from mixserver.wire.text import clean
from mixserver.wire.worker import Role

STATUS_VERSION: Final = 1
"""Changes when a field is removed or means something else; fields may be added."""
MOST_QUESTION: Final = 256
"""Bytes of the longest question."""
MOST_ANSWER: Final = 1 << 20
"""Bytes of the longest answer."""
MOST_WORKERS: Final = 1000
"""Workers that an answer lists one by one; all are counted."""


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    """Common settings of all messages; unknown fields of a later server are passed over."""


class StatusQuery(_Message, frozen=True, tag="status?", forbid_unknown_fields=True):
    """Client to server: what is your status?"""

    version: int = STATUS_VERSION


class WorkerStatus(_Message, frozen=True):
    """One worker that has joined."""

    name: str
    role: Role
    host: str
    """The machine it runs on; "" if it did not say."""
    engine: str
    model: str
    dtype: str
    state: Literal["idle", "busy", "overdue", "silent"]
    busy_s: float | None
    """Seconds since its present job was assigned to it; None without one."""
    atoms: int | None
    """Atoms of its present job."""
    silent_s: float
    """Seconds since it last sent anything."""
    jobs: int
    """Jobs whose results counted."""
    mean_s: float | None
    """Mean seconds from assignment to result; None before the first."""


class RoleStatus(_Message, frozen=True):
    """One role: what can be expected of all its workers together."""

    role: Role
    state: Literal["ok", "degraded", "awaited", "starved"]
    """"ok": all workers are alive and on time. "degraded": some are not. "awaited": none has joined
    yet. "starved": none is alive and on time."""
    workers: int
    healthy: int
    """Workers that are alive and on time."""
    queue: int
    """Jobs that wait for a worker."""
    waiting_s: float | None
    """Seconds for which jobs have waited without any healthy worker."""
    fingerprint: str
    """Of the model that workers must have; "" while any may join."""
    last_loss: str
    """The worker lost last and why; "" if none was."""


class EvaluationStatus(_Message, frozen=True):
    """The evaluations of this server, and the latest of them."""

    total: int
    per_s: float | None
    """Of the latest ones (at most 64); None before the second."""
    last_age_s: float | None
    """Seconds since the latest was answered; None before the first."""
    ms_total: float | None = None
    """Of the latest: from request to reply."""
    ms_cheap: float | None = None
    ms_expensive: float | None = None
    ms_own: float | None = None
    """The server's own share."""
    core: int | None = None
    """Atoms of the latest region, as the other sizes."""
    blend: int | None = None
    buffer: int | None = None
    halo: int | None = None
    clusters: int | None = None
    mismatch_max: float | None = None
    """eV/Å, largest difference of the models' forces in the blend; None if not measured."""
    mismatch_rms: float | None = None
    core_mismatch_max: float | None = None
    """The same in the core."""
    core_mismatch_rms: float | None = None
    work: float | None = None
    """eV, lambda work."""


class IpiStatus(_Message, frozen=True):
    """The program that asks for forces."""

    state: Literal["awaited", "connected", "away"]
    """"awaited": it has not connected yet. "away": it left without EXIT and has not come back."""
    addresses: tuple[str, ...]
    silent_s: float | None
    """Seconds since it last sent anything; None before the first."""
    step: int | None = None
    """Steps made so far; None where i-PI was started by hand."""
    total_steps: int | None = None
    eta_s: float | None = None
    """Seconds until the last step at the present rate; None if unknown."""


class Status(_Message, frozen=True, tag="status"):
    """Server to client: a snapshot."""

    version: int
    """`STATUS_VERSION` of the server."""
    program: str
    """mixserver's own version."""
    time: float
    """Seconds since 1970 when the snapshot was made."""
    case: str
    """The case's mix.toml."""
    run: str
    """The run's folder."""
    host: str
    pid: int
    stage: str
    """"starting workers", "running", "serving", "stopped" or "done"."""
    up_s: float
    """Seconds since the server started to listen."""
    healthy: bool
    problems: tuple[str, ...]
    """Why it is not healthy; empty if it is."""
    workers_at: str
    """Where workers connect."""
    workers: tuple[WorkerStatus, ...]
    """At most `MOST_WORKERS` of them."""
    roles: tuple[RoleStatus, ...]
    counts: dict[str, int]
    """How often, since the start: workers joined, lost, rejected, dropped; jobs requeued, copied,
    disputed, failed."""
    evaluations: EvaluationStatus
    ipi: IpiStatus
    warnings: tuple[str, ...] = ()
    """What the run has warned of, oldest first; each cause once."""


class StatusRefused(_Message, frozen=True, tag="refused"):
    """Server to client: no answer, for this reason."""

    version: int
    reason: str


Answer: TypeAlias = Status | StatusRefused
_Any = TypeVar("_Any")

_STATUS: Final = "mixserver's status"
_QUESTION: Final = msgspec.msgpack.Decoder(StatusQuery)
_ANSWER: Final = msgspec.msgpack.Decoder(Status | StatusRefused)


class _Versioned(msgspec.Struct):
    version: int


_VERSIONED: Final = msgspec.msgpack.Decoder(_Versioned)


def encode(message: StatusQuery | Answer) -> bytes:
    """The frame of a message."""
    return msgspec.msgpack.encode(message)


def decode_query(frames: Sequence[Bytes]) -> StatusQuery:
    """The question in the frames of one message.

    Raises:
        ProtocolError: it is none.
    """
    return _decode(_QUESTION, frames, MOST_QUESTION, "status question")


def decode_answer(frames: Sequence[Bytes]) -> Answer:
    """The answer in the frames of one message.

    Raises:
        ProtocolError: it is none, or a server's of another version.
    """
    versioned: _Versioned = _decode(_VERSIONED, frames, MOST_ANSWER, _STATUS)
    if versioned.version != STATUS_VERSION:
        raise ProtocolError(
            f"the server speaks version {versioned.version} of the status, this program version "
            f"{STATUS_VERSION}; use the mixserver that the server runs"
        )
    answer: Answer = _decode(_ANSWER, frames, MOST_ANSWER, _STATUS)
    return answer


def _decode(
    decoder: msgspec.msgpack.Decoder[_Any], frames: Sequence[Bytes], most: int, what: str
) -> _Any:
    if len(frames) != 1 or len(frames[0]) > most:
        sizes = ", ".join(str(len(frame)) for frame in frames[:4])
        raise ProtocolError(
            f"a {what} is one frame of at most {most} bytes, got {len(frames)} frames of {sizes}"
        )
    try:
        return decoder.decode(frames[0])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"not a {what}: {clean(str(error))}") from error
