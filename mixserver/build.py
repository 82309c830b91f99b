"""The one place where a mix.toml becomes objects."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog

from mixserver.agreement import know_elements, species
from mixserver.config import (
    AtomSeeds,
    Case,
    Config,
    CriterionSeeds,
    CylinderSeeds,
    Model,
    SlabSeeds,
    SpeciesSeeds,
    SphereSeeds,
)
from mixserver.config import Region as RegionTable
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.events import Door
from mixserver.dispatch.ipi_door import IpiDoor
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.zmq_door import ZmqDoor
from mixserver.errors import ConfigError
from mixserver.frame import Frame, Topology
from mixserver.mixing.mixer import ForceMixer, Reach
from mixserver.record.recorder import Recorder
from mixserver.record.structures import read_structure
from mixserver.region import seeds as kinds
from mixserver.region.selector import Selector
from mixserver.step import MixedStep, PlainStep, Step
from mixserver.upstream import Upstream
from mixserver.wire.address import checked_door, parse_address
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.worker import ModelCard, Role

log = structlog.get_logger(__name__)

Answering = Callable[[Request], Awaitable[Reply]]


@dataclass(slots=True)
class Parts:
    """Everything a service runs, made from one case."""

    topology: Topology
    start: Frame
    """The structure file's own positions."""
    step: Step
    dispatcher: Dispatcher
    recorder: Recorder
    upstreams: Sequence[Callable[[Answering], Upstream]]
    door: Door
    """Where mixserver's own workers connect."""
    selector: Selector | None
    """Remembers what regions remember; None without a region."""


def build(
    case: Case,
    folder: Path,
    *,
    sockets_prefix: str | None = None,
    door_address: str | None = None,
    memory: Path | None = None,
) -> Parts:
    """Make the objects a case asks for; opens files of `folder`, but no socket.

    Args:
        case: the case.
        folder: where records go.
        sockets_prefix: instead of the configured one.
        door_address: instead of the configured one.
        memory: file with what the regions of an earlier run remembered.

    Raises:
        ConfigError: the structure cannot be read, or the settings do not fit it.
    """
    config = case.config
    topology, start = read_structure(case.structure)
    know_elements(config, topology)
    policy = build_policy(config)
    door = ZmqDoor(checked_door(door_address or config.workers.door), policy)
    doors: list[Door] = [door]
    prefix = sockets_prefix or config.upstream.sockets_prefix
    for address in case.addresses:
        parse_address(address, sockets_prefix=prefix)
    if config.workers.clients:
        doors.append(_clients(config, config.upstream.sockets_prefix))
    dispatcher = Dispatcher(policy, doors)
    selector = build_selector(config.region, topology) if config.region else None
    if selector is not None and memory is not None:
        recall(selector, memory)
    recorder = Recorder(
        folder, every=config.record.every, regions_every=config.record.regions_every
    )
    step: Step
    if selector is not None:
        step = MixedStep(
            topology,
            selector,
            lambda card: build_mixer(config, card),
            dispatcher,
            recorder,
            with_extras=config.record.extras,
        )
    else:
        role: Role = "cheap" if config.models.cheap is not None else "expensive"
        step = PlainStep(topology, role, dispatcher, recorder, with_extras=config.record.extras)
    upstreams = [_upstream(config, address, prefix) for address in case.addresses]
    return Parts(topology, start, step, dispatcher, recorder, upstreams, door, selector)


def remember(selector: Selector, file: Path) -> None:
    """Write down what regions remember (hysteresis, seeds, samples), for a restart.

    Raises:
        OSError: the file cannot be written.
    """
    file.write_bytes(msgspec.json.encode(selector.state()))


def recall(selector: Selector, file: Path) -> None:
    """Take back what `remember` wrote; without the file, regions start anew.

    Raises:
        ConfigError: the file is something else, or of other atoms.
    """
    cure = f"delete {file}, and regions start anew"
    try:
        state = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        log.warning("regions start anew: their memory was not saved", file=str(file))
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{file} is no memory of regions: {error}; {cure}") from error
    else:
        try:
            selector.restore(state)
        except ConfigError as error:
            raise ConfigError(f"{file} does not fit this case: {error}; {cure}") from error


def build_selector(table: RegionTable, topology: Topology) -> Selector:
    """The selector a [region] table asks for.

    Raises:
        ConfigError: seeds that are not among the atoms.
    """
    return Selector(
        _seeds(table, topology),
        core_radius=table.core_radius,
        blend_width=table.blend_width,
        profile=table.profile,
        measure_from=table.measure_from,
        hysteresis=(table.hysteresis.time_in, table.hysteresis.time_out)
        if table.hysteresis
        else None,
        atoms=len(topology),
    )


def build_mixer(config: Config, card: ModelCard) -> ForceMixer:
    """The mixer for an expensive model that has introduced itself.

    Raises:
        ConfigError: the buffers are thinner than the model needs and that was not allowed, or its
            reach is unknown.
    """
    table = config.region
    if table is None:
        raise ConfigError("a mixer needs a [region]")
    stated = config.models.expensive or Model()
    field = card.receptive_field if card.receptive_field is not None else stated.receptive_field
    return ForceMixer(
        reach=Reach(receptive_field=field, weights=card.weights, name=card.name),
        buffer_width=None if table.buffer_width == "exact" else table.buffer_width,
        halo_width=None if table.halo_width == "exact" else table.halo_width,
        allow_thin=table.allow_thin_buffer,
        zero_net=config.mixing.zero_net,
    )


def _seeds(table: RegionTable, topology: Topology) -> kinds.Seeds | kinds.CriterionSeeds:
    n = len(topology)
    match table.seeds:
        case AtomSeeds(indices=indices):
            return kinds.AtomSeeds(_inside(indices, n, "region.seeds.indices"))
        case SpeciesSeeds(elements=elements):
            wanted = species(elements, "region.seeds.elements") or ()
            if not np.isin(topology.numbers, wanted).any():
                raise ConfigError(
                    f"region.seeds.elements = {list(elements)}: the structure has none of them"
                )
            return kinds.SpeciesSeeds(topology.numbers, wanted)
        case SphereSeeds() as s:
            return kinds.SphereSeeds(s.centre, s.radius, fractional=s.fractional)
        case SlabSeeds() as s:
            return kinds.SlabSeeds("abc".index(s.axis), s.low, s.high)
        case CylinderSeeds() as s:
            return kinds.CylinderSeeds(
                "abc".index(s.axis), s.centre, s.radius, fractional=s.fractional
            )
        case CriterionSeeds() as s:
            chosen = species(s.species, "region.seeds.species")
            initial = s.initial
            return kinds.CriterionSeeds(
                s.compute,
                low=s.low,
                high=s.high,
                every=s.every,
                sample_every=s.sample_every,
                samples=s.samples,
                initial=_inside(initial, n, "region.seeds.initial")
                if initial is not None
                else None,
                eligible=np.isin(topology.numbers, chosen) if chosen is not None else None,
            )


def _inside(indices: Sequence[int], n: int, key: str) -> tuple[int, ...]:
    outside = [i for i in indices if not 0 <= i < n]
    if outside:
        raise ConfigError(
            f"{key} names atom {outside[0]}, but the structure has {n} atoms, counted from 0"
        )
    return tuple(indices)


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
        when_none=workers.when_none,
    )


def _clients(config: Config, prefix: str) -> IpiDoor:
    role = config.workers.clients_role
    stated = (config.models.cheap if role == "cheap" else config.models.expensive) or Model()
    card = ModelCard(
        engine="ipi-client",
        name=f"stock client at {config.workers.clients}",
        fingerprint=stated.fingerprint or hashlib.sha256(b"ipi-client").hexdigest(),
        species=species(stated.species, f"models.{role}.species"),
        receptive_field=stated.receptive_field,
    )
    return IpiDoor(
        config.workers.clients,
        role,
        card=card,
        sockets_prefix=prefix,
        heartbeat_s=config.workers.heartbeat_s,
    )


def _upstream(config: Config, address: str, prefix: str) -> Callable[[Answering], Upstream]:
    def make(answer: Answering) -> Upstream:
        return Upstream(
            address,
            answer,
            sockets_prefix=prefix,
            connections=config.upstream.connections,
            announce_beads=config.upstream.beads == "announced",
            force_timeout_s=config.upstream.force_timeout_s,
            first_contact_s=config.upstream.first_contact_s,
        )

    return make
