"""The one place where a mix.toml becomes objects."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mixserver.agreement import know_elements, species
from mixserver.channels import ChannelStep
from mixserver.comparison import Comparison
from mixserver.config import Case, Channel, Config, Model
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.events import Door
from mixserver.dispatch.ipi_door import IpiDoor
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.zmq_door import ZmqDoor
from mixserver.frame import Frame, Topology
from mixserver.guard import GuardedStep
from mixserver.mixing.mixer import Mixer
from mixserver.prepare import STATE, Preparation, once
from mixserver.record.recorder import Recorder
from mixserver.record.runs import Origin
from mixserver.reference import read_reference
from mixserver.region.selecting import Selecting
from mixserver.restarting import Models
from mixserver.selectors import build_selector, uses, with_journal
from mixserver.step import MixedStep, PlainStep, Step
from mixserver.upstream import Upstream, too_long
from mixserver.wire.address import checked_door, parse_address
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.worker import ModelCard, Role

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
    upstreams: Sequence[tuple[Channel, Callable[[Answering], Upstream]]]
    """Who asks, and for which part of the potential."""
    door: Door
    """Where mixserver's own workers connect."""
    selector: Selecting | None
    """Remembers what regions remember; None without a region."""
    preparation: Preparation | None
    """Knows what must be known before mixing; None without a region."""
    models: Models
    """Who answers this run, and who answered the run it goes on from."""


def build(
    case: Case,
    folder: Path,
    *,
    sockets_prefix: str | None = None,
    door_address: str | None = None,
    earlier: Path | None = None,
    begun_with: Origin | None = None,
) -> Parts:
    """Make the objects a case asks for; opens files of `folder`, but no socket.

    Args:
        case: the case.
        folder: where records go.
        sockets_prefix: instead of the configured one.
        door_address: instead of the configured one.
        earlier: the folder of the run that goes on; it has what must be the same, or go on.
        begun_with: what i-PI starts from there, for this run's run.json.

    Raises:
        ConfigError: the structure cannot be read, or the settings do not fit it.
    """
    config = case.config
    topology, start = read_reference(case)
    know_elements(config, topology)
    policy = build_policy(config)
    door = ZmqDoor(
        checked_door(door_address or config.workers.door), policy, atoms=len(topology.numbers)
    )
    doors: list[Door] = [door]
    prefix = sockets_prefix or config.upstream.sockets_prefix
    for address in case.addresses:
        parse_address(address, sockets_prefix=prefix)
    if config.workers.clients:
        doors.append(_clients(config, config.upstream.sockets_prefix))
    dispatcher = Dispatcher(policy, doors)
    selector = None if config.region is None else build_selector(config, start)
    if selector is not None:
        selector = with_journal(selector, folder, earlier)
    recorder = Recorder(
        folder, every=config.record.every, regions_every=config.record.regions_every
    )
    role: Role = "cheap" if config.models.cheap is not None else "expensive"
    asked: list[Role] = [role] if selector is None else ["cheap", "expensive"]
    models = Models(dispatcher, asked, folder, earlier, begun_with)
    preparation: Preparation | None = None
    step: Step
    if selector is not None:
        preparation = Preparation(config, start, lambda: build_selector(config, start), dispatcher)
        known = None if earlier is None else earlier / STATE
        mixer = partial(_mixer, models, preparation, folder, known, case.folder / STATE)
        kind = MixedStep if {channel for channel, _ in case.channels} == {"mixed"} else ChannelStep
        step = kind(
            topology,
            selector,
            once(mixer),
            dispatcher,
            recorder,
            with_extras=config.record.extras,
            with_lambda=config.ipi.thermostat == "cheap",
            comparison=Comparison(
                start,
                uses(config),
                refuse=config.upstream.mismatch == "refuse",
                resumed=earlier is not None,
            ),
        )
    else:
        stock = bool(config.workers.clients)  # whose extras are theirs alone
        plain = PlainStep(
            topology,
            role,
            dispatcher,
            recorder,
            with_extras=config.record.extras and not stock,
            wrap=stock and config.workers.clients_geometry == "standard",
        )
        step = _Compared(plain, models)
    step = GuardedStep(step, topology, config.limits, mixed=selector is not None)
    upstreams = [
        (channel, _upstream(config, address, prefix, selector))
        for channel, address in case.channels
    ]
    return Parts(
        topology, start, step, dispatcher, recorder, upstreams, door, selector, preparation, models
    )


@dataclass(frozen=True, slots=True)
class _Compared:
    """A step that asks its model nothing before it is known to be the one of the earlier run."""

    step: Step
    models: Models

    async def answer(self, request: Request, channel: Channel = "mixed") -> Reply:
        await self.models.known()
        return await self.step.answer(request, channel)


async def _mixer(
    models: Models, preparation: Preparation, folder: Path, known: Path | None, kept: Path
) -> Mixer:
    await models.known()
    return await preparation.mixer(folder, known, kept)


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
    region, probe = config.region is not None, config.workers.clients_probe
    return IpiDoor(
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
    config: Config, address: str, prefix: str, selector: Selecting | None
) -> Callable[[Answering], Upstream]:
    def make(answer: Answering) -> Upstream:
        return Upstream(
            address,
            answer,
            sockets_prefix=prefix,
            connections=config.upstream.connections,
            announce_beads=config.upstream.beads == "announced",
            force_timeout_s=config.upstream.force_timeout_s,
            first_contact_s=config.upstream.first_contact_s,
            later_contact_s=config.upstream.later_contact_s,
            again=too_long,
            connected=None if selector is None else selector.connected,
        )

    return make
