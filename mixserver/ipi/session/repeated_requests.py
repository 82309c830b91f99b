"""Evaluations that outlive the connection which requested them, because i-PI repeats its requests.

After a timeout or a lost connection, i-PI sends the same request again. The evaluation that is
still running, or has finished meanwhile, answers it: each request is evaluated once, and regions
with memory advance once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import structlog

from mixserver.core.errors import EvaluationError, NoAnswer
from mixserver.ipi.session.connection import IpiConnection
from mixserver.ipi.session.evaluation import Deliver, Evaluation, Waiter, same_request
from mixserver.wire.ipi import Reply, Request

log = structlog.get_logger(__name__)

_MOST_WAITS: Final = 6
"""An evaluation fails after this many times the longest wait, however often it is requested."""
_KEPT_S: Final = 2.0
"""How long an evaluation continues after i-PI disconnected and stays silent."""
_KEPT_AFTER_TIMEOUT_S: Final = 15.0
"""The same after a timeout, i-PI's or ours: i-PI returns once its other requests let it."""

_IMPATIENT: Final = (
    "it ended, or its <timeout> is shorter than an evaluation: then it sends the same request "
    "again, which the running evaluation answers. Remove <timeout> from its <ffsocket> (none is "
    "the default), or set it well above the time of the slowest evaluation"
)
_WHAT_TO_DO: Final = (
    "Raise that if an evaluation may take so long, or look at what the workers are doing"
)


class PendingEvaluations:
    """Evaluations that are running, or have finished and could not be delivered.

    Args:
        answer: evaluates one request.
        connections: all connections to this i-PI.
        longest_s: how long one connection may wait for an evaluation.
    """

    def __init__(
        self,
        answer: Callable[[Request], Awaitable[Reply]],
        connections: Sequence[IpiConnection],
        longest_s: float,
    ) -> None:
        self._answer = answer
        self._connections = connections
        self._longest_s = longest_s
        self._evaluations: list[Evaluation] = []
        self._waiters: dict[IpiConnection, Waiter] = {}
        self._expiries: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Future[None]] = set()
        self._timeouts = 0
        """How often i-PI did not wait."""

    def submit(
        self, connection: IpiConnection, requests: Sequence[Request], deliver: Deliver
    ) -> None:
        """Start evaluating requests, or continue the evaluations that are running for them.

        Args:
            connection: which connection requests them. If they are new, evaluations left over
                from its own earlier requests are cancelled.
            requests: the requests of one batch.
            deliver: called on the event loop, unless the connection is lost: with the replies;
                with the error of one evaluation, the others then being cancelled; with `NoAnswer`
                after `longest_s`, while they continue; or with `EvaluationError` after several
                times as long in total.
        """
        found = [self._resume(request, connection) for request in requests]
        if not any(found):
            self._cancel(
                e for e in self._evaluations if e.left_at is not None and e.connection is connection
            )
        evaluations = [
            evaluation if evaluation is not None else self._start(request, connection)
            for evaluation, request in zip(found, requests, strict=True)
        ]
        left_s = _MOST_WAITS * self._longest_s - max(e.waited_s for e in evaluations)
        waiter = self._waiters[connection] = Waiter(connection, evaluations, deliver)
        waiter.timer = asyncio.get_running_loop().call_later(
            max(0.0, min(self._longest_s, left_s)), self._timed_out, waiter
        )
        self._deliver_if_complete(waiter)

    def connection_lost(self, connection: IpiConnection, *, impatient: bool) -> None:
        """Keep the evaluations of a lost connection for a while: i-PI may request them again.

        An `impatient` i-PI announced that it drops us, as it does after its <timeout>.
        """
        if impatient:
            self._timeouts += 1
            first = self._timeouts == 1
            (log.warning if first else log.info)(
                "i-PI did not wait for its forces",
                times=self._timeouts,
                **({"reason": _IMPATIENT} if first else {}),
            )
        waiter = self._waiters.pop(connection, None)
        if waiter is None:
            return
        waiter.end()
        left = [e for e in waiter.evaluations if not self._hand_over(e, waiter)]
        self._keep(left, _KEPT_AFTER_TIMEOUT_S if impatient else _KEPT_S)

    def connection_closed(self, connection: IpiConnection) -> None:
        """Cancel what a connection waits for: it has ended for good."""
        waiter = self._waiters.pop(connection, None)
        if waiter is not None:
            waiter.end()
            self._cancel(waiter.evaluations)

    async def close(self) -> None:
        """Cancel everything and wait until it has ended."""
        for connection in list(self._waiters):
            self.connection_closed(connection)
        self._cancel(list(self._evaluations))
        for expiry in self._expiries:
            expiry.cancel()
        await asyncio.gather(*self._expiries, *self._ending, return_exceptions=True)

    def _resume(self, request: Request, connection: IpiConnection) -> Evaluation | None:
        """The evaluation left over from an equal request, if there is one."""
        for evaluation in self._evaluations:
            if evaluation.left_at is not None and same_request(evaluation.request, request):
                log.info(
                    "i-PI repeats a request that is being evaluated",
                    since_s=round(time.monotonic() - evaluation.began, 1),
                    done=evaluation.outcome is not None,
                )
                evaluation.left_at, evaluation.connection = None, connection
                return evaluation
        return None

    def _start(self, request: Request, connection: IpiConnection) -> Evaluation:
        evaluation = Evaluation(request, connection)
        evaluation.task = asyncio.ensure_future(self._run(evaluation))
        self._evaluations.append(evaluation)
        return evaluation

    async def _run(self, evaluation: Evaluation) -> None:
        """Evaluate, and deliver at once: another turn of the event loop would take as long."""
        try:
            evaluation.outcome = await self._answer(evaluation.request)
        except Exception as error:
            evaluation.outcome = error  # kept, as i-PI may repeat the request
            if evaluation.left_at is not None:
                log.warning(
                    "an evaluation that i-PI no longer waits for has failed", error=str(error)
                )
                if isinstance(error, NoAnswer):  # then it is evaluated again
                    self._cancel([evaluation])
        except BaseException as error:
            evaluation.outcome = error
            raise
        try:
            waiter = self._waiters.get(evaluation.connection)
            if waiter is not None and any(evaluation is one for one in waiter.evaluations):
                self._deliver_if_complete(waiter)
        except Exception as error:
            asyncio.get_running_loop().call_soon(_raise, error)  # a bug; it ends the run

    def _deliver_if_complete(self, waiter: Waiter) -> None:
        """Deliver the replies of a batch once all are there, or its first error."""
        outcomes = [e.outcome for e in waiter.evaluations if e.outcome is not None]
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        replies = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        if not failed and len(replies) < len(waiter.evaluations):
            return
        self._stop_waiting(waiter)
        self._cancel(waiter.evaluations)
        if not failed:
            waiter.deliver(replies)
        elif not isinstance(failed[0], asyncio.CancelledError):
            waiter.deliver(failed[0])

    def _timed_out(self, waiter: Waiter) -> None:
        """A connection has waited for as long as it may."""
        self._stop_waiting(waiter)
        waited_s = max(e.waited_s for e in waiter.evaluations)
        if waited_s < _MOST_WAITS * self._longest_s:
            self._keep(waiter.evaluations, _KEPT_AFTER_TIMEOUT_S)
            waiter.deliver(
                NoAnswer(
                    f"no answer after {self._longest_s:g} s (upstream.force_timeout_s). "
                    f"{_WHAT_TO_DO}"
                )
            )
            return
        self._cancel(waiter.evaluations)
        waiter.deliver(
            EvaluationError(
                f"no answer after {waited_s:.4g} s in all, though i-PI repeated its request: "
                f"{_MOST_WAITS} times upstream.force_timeout_s = {self._longest_s:g} s. "
                f"{_WHAT_TO_DO}"
            )
        )

    def _stop_waiting(self, waiter: Waiter) -> None:
        waiter.end()
        if self._waiters.get(waiter.connection) is waiter:
            del self._waiters[waiter.connection]

    def _hand_over(self, evaluation: Evaluation, lost: Waiter) -> bool:
        """Whether another connection waits for the same request as a lost one.

        i-PI gave it the request before, or two beads have the same positions. The evaluation that
        is further continues there: if it were cancelled, beads with a short <timeout> would be
        started again and again.
        """
        for waiter in list(self._waiters.values()):
            for at, twin in enumerate(waiter.evaluations):
                if not same_request(evaluation.request, twin.request):
                    continue
                further = evaluation.outcome is not None or evaluation.began < twin.began
                if twin.outcome is not None or evaluation.failed:
                    further = False
                self._cancel([twin if further else evaluation])
                if further:
                    waiter.evaluations[at] = evaluation
                    evaluation.connection = waiter.connection
                    # the time in which both waited for it counts once
                    evaluation.waited_s -= time.monotonic() - max(lost.since, waiter.since)
                    self._deliver_if_complete(waiter)
                return True
        return False

    def _keep(self, evaluations: Sequence[Evaluation], kept_s: float) -> None:
        """Keep evaluations without a connection for a while: i-PI may repeat the requests."""
        now = time.time()
        for evaluation in evaluations:
            if evaluation.failed:
                self._cancel([evaluation])
            else:
                evaluation.left_at = now
        expiry = asyncio.ensure_future(self._expire(evaluations, kept_s))
        self._expiries.add(expiry)
        expiry.add_done_callback(self._expiries.discard)

    async def _expire(self, evaluations: Sequence[Evaluation], kept_s: float) -> None:
        """Cancel evaluations without a connection once it is clear that i-PI is gone."""
        left = [e for e in evaluations if e.left_at is not None]
        while left:
            await asyncio.sleep(kept_s)
            left = [e for e in left if e in self._evaluations and e.left_at is not None]
            gone = [e for e in left if not self._ipi_returned(e)]
            if gone:
                log.info("evaluation cancelled: i-PI has not reconnected", after_s=kept_s)
                self._cancel(gone)

    def _ipi_returned(self, evaluation: Evaluation) -> bool:
        """Whether i-PI has sent anything since, on any connection that is still open."""
        since = evaluation.left_at or 0.0
        return any(c.connected and (c.last_seen or 0.0) > since for c in self._connections)

    def _cancel(self, evaluations: Iterable[Evaluation]) -> None:
        for evaluation in list(evaluations):
            with contextlib.suppress(ValueError):
                self._evaluations.remove(evaluation)
            task = evaluation.task
            if evaluation.outcome is None and task is not None and task.cancel():
                self._ending.add(task)  # it may take a moment to clean up
                task.add_done_callback(self._ending.discard)


def _raise(error: Exception) -> None:
    raise error
