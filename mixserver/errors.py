"""Every exception mixserver and its workers raise on purpose, sorted by who has to act.

* `MixserverError`
    * `ConfigError`         the user can cure it in mix.toml, the structure or the command line
    * `ProtocolError`       a peer broke a wire protocol; its connection is dropped
        * `PeerGone`        a peer hung up; not a fault, the connection is made again
    * `EvaluationError`     a job could not be evaluated
        * `NoAnswer`        it took too long; it goes on, so asking again may help
        * `BadInput`        the job is at fault: it is never tried again
        * `WorkerFault`     the worker is at fault: another worker tries
        * `NoWorkerError`   no worker is left to ask
        * `Implausible`     no structure and no pair of models can mean this: it is not sent
    * `UpstreamError`       i-PI sent what cannot be answered, or died
    * `MissingPackage`      an optional dependency is not installed
    * `InternalError`       mixserver itself is at fault

A message says what was expected, what came, where, and what to do.
"""

from __future__ import annotations


class MixserverError(Exception):
    """Anything that goes wrong in a way that mixserver knows how to explain."""


class ConfigError(MixserverError):
    """The user can cure it in mix.toml, the structure file or the command line."""


class ProtocolError(MixserverError):
    """A peer sent bytes that its protocol does not allow; its connection is dropped."""


class PeerGone(ProtocolError):
    """A peer hung up. Not a fault by itself: connections are made again."""


class EvaluationError(MixserverError):
    """A job could not be evaluated."""


class NoAnswer(EvaluationError):
    """No answer in time. The evaluation goes on, so asking again may help."""


class BadInput(EvaluationError):
    """The job itself is at fault (an unknown element, a NaN position): never tried again."""


class WorkerFault(EvaluationError):
    """The worker or its engine is at fault: the job goes to another worker."""


class NoWorkerError(EvaluationError):
    """No worker is left that could evaluate the job."""


class Implausible(EvaluationError):
    """A structure or an answer beyond the bounds of [limits]; the structure is at fault, or a
    model far outside of what it was made for, but no worker.
    """  # noqa: D205 - one sentence


class UpstreamError(MixserverError):
    """What i-PI sent cannot be answered, or i-PI died."""


class MissingPackage(MixserverError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is needed here but not installed; do: pip install 'mixserver[{extra}]'"
        )


class InternalError(MixserverError):
    """mixserver itself is at fault: an exception that nothing in it explains."""

    @classmethod
    def of(cls, error: BaseException) -> InternalError:
        """What to say of an exception that was not expected."""
        return cls(
            f"a fault of mixserver itself: {type(error).__name__}: {error}. Please report it; the "
            "traceback is in server.log"
        )
