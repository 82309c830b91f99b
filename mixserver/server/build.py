"""The one place where a mix.toml becomes objects."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from mixserver.config import Case, Channel, Config, ExpensiveModel, Model
from mixserver.core.frame import Frame, Topology
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.ipi_clients.listener import IpiListener
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.events import Listener
from mixserver.dispatch.zmq_workers.listener import ZmqListener
from mixserver.dispatch.zmq_workers.lock import ZmqLock
from mixserver.ipi.consistency import check_elements, species_numbers
from mixserver.ipi.session import Session
from mixserver.mixing.mixer import Mixer
from mixserver.mixing.single import SingleModel
from mixserver.region.fixed import FixedRegion
from mixserver.region.protocol import RegionModel
from mixserver.server.access import lock_of, warn_of_open_addresses
from mixserver.server.channels import Channels
from mixserver.server.coalesce import cache_async
from mixserver.server.energy_reference import ENERGY_REFERENCE
from mixserver.server.evaluator import Answer, Evaluating, Evaluator, Separately
from mixserver.server.guard import GuardedEvaluator
from mixserver.server.mixing_setup import MixingSetup
from mixserver.server.records.recorder import Recorder
from mixserver.server.reference.comparison import StructureComparison
from mixserver.server.reference.structure import read_reference
from mixserver.server.region_memory import JournalledRegion
from mixserver.server.regions import build_region_model, uses, with_journal
from mixserver.server.runs import RestartOrigin
from mixserver.server.same_potential import ModelRecord, atoms_digest, check_same_atoms
from mixserver.server.warnings.warning_log import WarningLog
from mixserver.wire.address import check_worker_address, parse_address
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.worker import STOCK_CLIENT, ModelCard, Role

Answering = Callable[[Request], Awaitable[Reply]]


@dataclass(slots=True)
class Parts:
    """Everything a service runs, made from one case."""

    topology: Topology
    start: Frame
    """The structure file's own positions."""
    answer: Answer
    """Answers i-PI's requests."""
    dispatcher: Dispatcher
    recorder: Recorder
    upstreams: Sequence[tuple[Channel, Callable[[Answering], Session]]]
    """Who asks, and for which part of the potential."""
    listener: Listener
    """Where mixserver's own workers connect."""
    lock: ZmqLock | None
    """Lets in only workers with keys; None if the listener is open without."""
    region_model: RegionModel | None
    """Remembers what regions remember; None without a region."""
    setup: MixingSetup | None
    """Knows what must be known before mixing; None without a region."""
    warnings: WarningLog
    """The warnings of the run."""
    config: Config
    """The case's."""
    models: ModelRecord
    """Who answers this run, and who answered the run it goes on from."""
    worker_environment: dict[str, str] = field(default_factory=dict)
    """Environment variables for workers that are started here: where their keys are."""


def build(
    case: Case,
    folder: Path,
    *,
    sockets_prefix: str | None = None,
    listener_address: str | None = None,
    earlier: Path | None = None,
    restarted_from: RestartOrigin | None = None,
) -> Parts:
    """Make the objects a case asks for; opens files of `folder`, but no socket.

    Args:
        case: the case.
        folder: where records go.
        sockets_prefix: instead of the configured one.
        listener_address: instead of the configured one.
        earlier: the folder of the run that goes on.
        restarted_from: what i-PI starts from there, for this run's run.json.

    Raises:
        ConfigError: the structure cannot be read, or the settings do not fit it.
    """
    config = case.config
    topology, start = read_reference(case)
    check_elements(config, topology)
    policy = build_policy(config)
    lock = lock_of(case)
    warn_of_open_addresses(case)
    listener = ZmqListener(
        check_worker_address(listener_address or config.workers.door),
        policy,
        atoms=len(topology.numbers),
        lock=lock,
    )
    listeners: list[Listener] = [listener]
    prefix = sockets_prefix or config.upstream.sockets_prefix
    for address in case.addresses:
        parse_address(address, sockets_prefix=prefix)
    if config.workers.clients:
        listeners.append(_clients(config, config.upstream.sockets_prefix))
    dispatcher = Dispatcher(policy, listeners)
    role: Role = "cheap" if config.models.cheap is not None else "expensive"
    roles: list[Role] = [role] if config.region is None else ["cheap", "expensive"]
    digest = atoms_digest(topology)
    if earlier is not None:
        check_same_atoms(earlier, digest)
    models = ModelRecord(dispatcher, roles, folder, earlier, restarted_from, digest)
    setup: MixingSetup | None = None
    region_model: RegionModel | None = None
    if config.region is not None:
        setup = MixingSetup(config, start, lambda: build_region_model(config, start), dispatcher)
        region_model = with_journal(setup.fresh(), folder, earlier)
    recorder = Recorder(
        folder,
        every=config.record.every,
        regions_every=0 if region_model is None else config.record.regions_every,
    )
    if setup is None or region_model is None:
        evaluator = _single(config, role, dispatcher, models, recorder, topology)
    else:
        evaluator = _mixed(case, setup, region_model, models, recorder)
    warnings = WarningLog(folder)
    answer = GuardedEvaluator(
        evaluator,
        topology,
        config.limits,
        mixed=setup is not None,
        warnings=warnings,
        close_pair=config.warnings.shortest_pair,
    )
    return Parts(
        topology=topology,
        start=start,
        answer=answer,
        dispatcher=dispatcher,
        recorder=recorder,
        upstreams=[
            (channel, _upstream(config, address, prefix, region_model))
            for channel, address in case.channels
        ],
        listener=listener,
        lock=lock,
        region_model=region_model,
        setup=setup,
        warnings=warnings,
        config=config,
        models=models,
    )


def _mixed(
    case: Case,
    setup: MixingSetup,
    region_model: RegionModel,
    models: ModelRecord,
    recorder: Recorder,
) -> Evaluator:
    """Two models and a region."""
    config, start, dispatcher, earlier = case.config, setup.start, setup.dispatcher, models.earlier
    evaluating: Evaluating
    if {channel for channel, _ in case.channels} == {"mixed"}:
        evaluating = Separately(region_model, dispatcher)
    else:
        evaluating = Channels(region_model, dispatcher, len(start))

    @cache_async
    async def make_mixer() -> Mixer:
        await models.compare()
        known = None if earlier is None else earlier / ENERGY_REFERENCE
        return await setup.mixer(recorder.folder, known, case.folder / ENERGY_REFERENCE)

    return Evaluator(
        start.topology,
        evaluating,
        make_mixer,
        recorder,
        with_extras=config.record.extras,
        with_lambda=config.ipi.thermostat == "cheap",
        comparison=StructureComparison(
            start,
            uses(config),
            refuse=config.upstream.mismatch == "refuse",
            resumed=earlier is not None,
        ),
    )


def _single(
    config: Config,
    role: Role,
    dispatcher: Dispatcher,
    models: ModelRecord,
    recorder: Recorder,
    topology: Topology,
) -> Evaluator:
    """One model for all atoms."""
    stock = bool(config.workers.clients)  # whose extras are theirs alone

    async def make_mixer() -> Mixer:
        await models.compare()  # no job before the model is known to be the earlier run's
        return SingleModel(role, wrap=stock and config.workers.clients_geometry == "standard")

    fraction = np.full(len(topology), float(role == "expensive"))
    region_model = FixedRegion(fraction, np.empty(0, dtype=np.intp))
    return Evaluator(
        topology,
        Separately(region_model, dispatcher),
        make_mixer,
        recorder,
        with_extras=config.record.extras and not stock,
    )


def build_policy(config: Config) -> Policy:
    """The rules of dispatch that the [models] and [workers] tables ask for."""
    roles: dict[Role, str] = {}
    if config.models.cheap is not None:
        roles["cheap"] = config.models.cheap.fingerprint
    if config.models.expensive is not None:
        roles["expensive"] = config.models.expensive.fingerprint
    workers = config.workers
    return Policy(
        roles=roles,
        patience_s=workers.patience_s,
        heartbeat_s=workers.heartbeat_s,
        first_worker_s=workers.first_worker_s,
        failures=workers.failures,
        job_timeout_s=workers.job_timeout_s,
        second_copy=workers.second_copy,
        audit=workers.audit,
        batch_sites=(config.models.expensive or ExpensiveModel()).batch_sites,
        when_none=workers.when_none,
    )


def _clients(config: Config, prefix: str) -> IpiListener:
    role = config.workers.clients_role
    stated = (config.models.cheap if role == "cheap" else config.models.expensive) or Model()
    card = ModelCard(
        engine=STOCK_CLIENT,
        name=f"stock client at {config.workers.clients}",
        fingerprint=stated.fingerprint or hashlib.sha256(b"ipi-client").hexdigest(),
        species=species_numbers(stated.species, f"models.{role}.species"),
        receptive_field=stated.receptive_field,
    )
    region, probe = config.region is not None, config.workers.clients_probe
    return IpiListener(
        config.workers.clients,
        role,
        card=card,
        geometry=config.workers.clients_geometry or ("standard" if region else "as_sent"),
        test_count=probe is not False,
        test_order=region if probe is None else probe,
        sockets_prefix=prefix,
        heartbeat_s=config.workers.heartbeat_s,
        patience_s=config.workers.patience_s,
    )


def _upstream(
    config: Config, address: str, prefix: str, region_model: RegionModel | None
) -> Callable[[Answering], Session]:
    upstream = config.upstream
    return partial(
        Session,
        address,
        sockets_prefix=prefix,
        connections=upstream.connections,
        announce_beads=upstream.beads == "announced",
        force_timeout_s=upstream.force_timeout_s,
        first_contact_s=upstream.first_contact_s,
        later_contact_s=upstream.later_contact_s,
        connected=region_model.connected if isinstance(region_model, JournalledRegion) else None,
    )
