"""Figures for Prometheus over HTTP, on a thread of its own, made from a status when it asks."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import structlog

from mixserver.core.errors import ConfigError, MissingPackage
from mixserver.server.records.statistics import BOUNDS_S, Histogram
from mixserver.server.status.snapshot import Snapshots
from mixserver.wire.address import is_local_host, parse_address
from mixserver.wire.status import Status

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = structlog.get_logger(__name__)

_ANSWER_S: Final = 5.0
"""How long Prometheus is kept waiting for a server that is busy."""
_STATES: Final = ("idle", "busy", "overdue", "silent")
_ROLE_STATES: Final = ("ok", "degraded", "awaited", "starved")
_REGION: Final = ("core", "blend", "buffer", "halo")
_EVENTS: Final = {
    "joined": ("mixserver_workers_joined", "Workers that were accepted, reconnects too"),
    "lost": ("mixserver_workers_lost", "Workers that were no longer counted on"),
    "rejected": ("mixserver_workers_rejected", "Requests to join that were refused"),
    "dropped": ("mixserver_workers_dropped", "Workers that were disconnected for a fault"),
    "requeued": ("mixserver_jobs_requeued", "Jobs that were given to another worker"),
    "copied": ("mixserver_jobs_copied", "Jobs that a second worker was given, too"),
    "disputed": ("mixserver_jobs_disputed", "Jobs that a worker reported to be at fault"),
    "failed": ("mixserver_jobs_failed", "Jobs that will have no result"),
}
"""Counts of the status: the metric of each, and what it is."""


@contextlib.asynccontextmanager
async def serving_metrics(
    address: str, snapshots: Snapshots, snapshot: Callable[[], Awaitable[Status]]
) -> AsyncIterator[str]:
    """Prometheus can read http://ADDRESS/metrics inside this context; yields the bound address.

    Args:
        address: "HOST:PORT"; port 0 picks a free one.
        snapshots: whose recorder keeps histograms from now on.
        snapshot: the status now, on the event loop.

    Raises:
        MissingPackage: prometheus-client is not installed.
        ConfigError: the address is malformed or in use.
    """
    try:
        from prometheus_client import start_http_server  # noqa: PLC0415 - an extra
        from prometheus_client.registry import (  # noqa: PLC0415
            Collector,
            CollectorRegistry,
        )
    except ImportError:
        raise MissingPackage("prometheus-client", "metrics") from None
    place = parse_address(address)
    if place.unix:
        raise ConfigError(f"status.metrics = {address!r} must be HOST:PORT, such as 127.0.0.1:9464")
    loop = asyncio.get_running_loop()
    statistics = snapshots.service.parts.recorder.statistics
    statistics.keep_histograms()

    async def taken() -> tuple[Status, dict[str, Histogram]]:
        """A status, and the histograms of the same evaluations."""
        status = await snapshot()
        return status, copy.deepcopy(dict(statistics.histograms or {}))

    class StatusCollector(Collector):
        """Asks the event loop for a status whenever Prometheus asks."""

        def collect(self) -> Iterator[Metric]:
            """All metrics now."""
            asked = asyncio.run_coroutine_threadsafe(taken(), loop)
            try:
                status, histograms = asked.result(_ANSWER_S)
            except TimeoutError:
                asked.cancel()
                raise
            yield from metrics(status, histograms)

        def describe(self) -> list[Metric]:
            """No metrics yet: nothing is asked when the collector is registered."""
            return []

    registry = CollectorRegistry()
    registry.register(StatusCollector())
    try:
        server, thread = start_http_server(place.port, place.host, registry)
    except OSError as error:
        raise ConfigError(
            f"status.metrics = {address!r} cannot be bound: {error.strerror}. Expected HOST:PORT "
            "with an address of this machine and a free port"
        ) from error
    bound = f"{place.host}:{server.server_port}"
    if not is_local_host(place.host):
        log.warning("figures are readable by all who reach this address", address=bound)
    log.info("figures for Prometheus", address=f"http://{bound}/metrics")

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    try:
        yield bound
    finally:
        await asyncio.to_thread(stop)


def metrics(status: Status, histograms: Mapping[str, Histogram]) -> Iterator[Metric]:
    """A status as metrics, in base units; names as Prometheus wants them.

    Args:
        status: of the server.
        histograms: of the times of its evaluations, by part.
    """
    from prometheus_client.core import (  # noqa: PLC0415 - an extra
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )

    evaluations, ipi = status.evaluations, status.ipi

    def gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
        if value is not None:
            yield GaugeMetricFamily(name, text, value=value)

    yield InfoMetricFamily(
        "mixserver",
        "The run",
        value={"version": status.program, "case": status.case, "run": status.run},
    )
    yield from gauge("mixserver_up_seconds", "Since the server started", status.up_s)
    yield from gauge("mixserver_healthy", "1 if mixserver status --check passes", status.healthy)
    yield CounterMetricFamily("mixserver_evaluations", "Evaluations", value=evaluations.total)
    age = evaluations.last_age_s
    yield from gauge(
        "mixserver_last_evaluation_timestamp_seconds",
        "When the latest evaluation was made",
        None if age is None else status.time - age,
    )
    times = HistogramMetricFamily(
        "mixserver_evaluation_seconds", "Time of an evaluation, by part", labels=["part"]
    )
    for part, histogram in histograms.items():
        times.add_metric([part], _buckets(histogram), histogram.sum_s)
    yield times

    workers = GaugeMetricFamily(
        "mixserver_workers", "Workers that have joined", labels=["role", "state"]
    )
    states = GaugeMetricFamily(
        "mixserver_role_state", "1 for the state a role is in", labels=["role", "state"]
    )
    queue = GaugeMetricFamily(
        "mixserver_queue_jobs", "Jobs that wait for a worker", labels=["role"]
    )
    for role in status.roles:
        mine = [worker for worker in status.workers if worker.role == role.role]
        for state in _STATES:
            count = sum(worker.state == state for worker in mine)
            workers.add_metric([role.role, state], count)
        for role_state in _ROLE_STATES:
            states.add_metric([role.role, role_state], float(role.state == role_state))
        queue.add_metric([role.role], role.queue)
    yield from (workers, states, queue)

    who = ["worker", "role", "host"]
    jobs = CounterMetricFamily("mixserver_worker_jobs", "Jobs with a result", labels=who)
    busy = CounterMetricFamily(
        "mixserver_worker_job_seconds", "Time from assignment to result", labels=who
    )
    for worker in status.workers:
        labels = [worker.name, worker.role, worker.host]
        jobs.add_metric(labels, worker.jobs)
        busy.add_metric(labels, worker.jobs * (worker.mean_s or 0.0))
    yield from (jobs, busy)
    for event, (name, text) in _EVENTS.items():
        yield CounterMetricFamily(name, text, value=status.counts.get(event, 0))

    atoms = GaugeMetricFamily(
        "mixserver_region_atoms", "Atoms of the latest region", labels=["part"]
    )
    for part in _REGION:
        if (size := getattr(evaluations, part)) is not None:
            atoms.add_metric([part], size)
    yield atoms
    yield from gauge("mixserver_clusters", "Expensive jobs an evaluation", evaluations.clusters)
    mismatch = GaugeMetricFamily(
        "mixserver_force_mismatch_electronvolts_per_angstrom",
        "Difference of the models' forces in the latest evaluation",
        labels=["where", "measure"],
    )
    for where, prefix in (("blend", ""), ("core", "core_")):
        for measure in ("max", "rms"):
            value = getattr(evaluations, f"{prefix}mismatch_{measure}")
            if value is not None:
                mismatch.add_metric([where, measure], value)
    yield mismatch
    yield from gauge(
        "mixserver_lambda_work_electronvolts", "Work of updates of lambda", evaluations.work
    )
    yield from gauge("mixserver_ipi_connected", "1 if i-PI is connected", ipi.state == "connected")
    yield from gauge("mixserver_ipi_step", "Steps that i-PI has made", ipi.step)
    yield from gauge("mixserver_ipi_total_steps", "Steps that i-PI will make", ipi.total_steps)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts with their bounds."""
    counts = list(histogram.counts)
    bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
    total, found = 0, []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        found.append((bound, float(total)))
    return found
