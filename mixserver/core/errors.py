"""Every exception that mixserver and its workers raise on purpose, sorted by who must act.

* `MixserverError`
    * `ConfigError`         the user can fix it in mix.toml, the structure or the command line
    * `ProtocolError`       a peer broke a wire protocol; its connection is dropped
        * `PeerGone`        a peer hung up; not a fault, the connection is made again
    * `EvaluationError`     a job could not be evaluated
        * `NoAnswer`        it took too long or was superseded: asking again may help
        * `BadInput`        the job is at fault: it is never tried again
        * `WorkerFault`     the worker is at fault: another worker tries
        * `NoWorkerError`   no worker is left for it
        * `Implausible`     beyond the bounds of [limits]: not sent to i-PI
        * `ResultsDiffer`   two workers disagree: one of them computes wrong results
    * `UpstreamError`       i-PI sent what cannot be answered, or died
        * `Unphysical`      its trajectory has blown up: starting again would not help
    * `Unreachable`         no running server gave its status
    * `MissingPackage`      an optional dependency is not installed
    * `InternalError`       mixserver itself is at fault

A message says what was expected, what came, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping


class MixserverError(Exception):
    """Any failure that mixserver can explain."""


class ConfigError(MixserverError):
    """The user can fix it in mix.toml, the structure file or the command line."""


class ProtocolError(MixserverError):
    """A peer sent bytes that its protocol does not allow; its connection is dropped."""


class PeerGone(ProtocolError):
    """A peer hung up. Not a fault by itself: connections are made again."""


class EvaluationError(MixserverError):
    """A job could not be evaluated."""


class NoAnswer(EvaluationError):
    """No answer in time, or another evaluation came in between: asking again may help."""


class BadInput(EvaluationError):
    """The job itself is at fault (an unknown element, a NaN position): never tried again."""


class WorkerFault(EvaluationError):
    """The worker or its engine is at fault: the job goes to another worker."""


class NoWorkerError(EvaluationError):
    """No worker is left that could evaluate the job."""


class Implausible(EvaluationError):
    """A structure or a result beyond the bounds of [limits].

    The structure is at fault, or a model far outside the structures it was made for; no worker is.
    """


class ResultsDiffer(EvaluationError):
    """Two workers of a role disagree on a job beyond rounding.

    Args:
        message: what differs.
        evidence: arrays, texts and numbers by name: the job and both results.
    """

    def __init__(self, message: str, evidence: Mapping[str, object]) -> None:
        super().__init__(message)
        self.evidence = evidence


class UpstreamError(MixserverError):
    """What i-PI sent cannot be answered, or i-PI died."""


class Unphysical(UpstreamError):
    """The trajectory is not physical any more: starting the run again would not help."""


class Unreachable(MixserverError):
    """No running server gave its status: none runs, it hangs, or it refused."""


class MissingPackage(MixserverError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is needed here but not installed. In mixserver's project folder, do: "
            f'pip install -e ".[{extra}]"'
        )


class InternalError(MixserverError):
    """mixserver itself is at fault: an unexpected exception."""

    @classmethod
    def of(cls, error: BaseException) -> InternalError:
        """Wrap an unexpected exception."""
        if isinstance(error, MemoryError):
            return cls(
                "there is no memory left: free some, or raise the limit (ulimit -v, --mem of Slurm)"
            )
        return cls(
            f"a fault of mixserver itself: {type(error).__name__}: {error}. Please report it; the "
            "traceback is in server.log"
        )


def first_error(error: BaseException) -> BaseException:
    """The first error in a group of groups; another one as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
