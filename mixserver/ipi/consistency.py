"""Consistency of mix.toml, the structure and i-PI's input: sockets, atoms, beads, thermostat.

i-PI sends neither elements nor, by default, bead numbers: if the files are inconsistent, forces
would be wrong without any error. Reads structures; starts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mixserver.config import Case, Channel, Config, CriterionSeeds
from mixserver.core.arrays import Numbers
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Topology
from mixserver.core.labels import known_atomic_numbers, unknown_elements
from mixserver.ipi.input import IpiInput, Socket, System
from mixserver.ipi.start import read_initial_state
from mixserver.ipi.values import invalid_values

_SWAPPING = {"atomswap", "al-kmc"}
_ANYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - what i-PI may bind, not what we do


def inconsistencies(case: Case, ipi: IpiInput, topology: Topology) -> list[str]:
    """All inconsistencies of a case and its i-PI input (or RESTART) that make a run wrong.

    Returns:
        One message per inconsistency, with its cure; empty if a run may begin.
    """
    if wrong := input_errors(ipi):
        return wrong  # further checks would be unreliable
    return [
        *address_errors(case, ipi),
        *atom_errors(case, ipi, topology),
        *bead_errors(case, ipi),
        *thermostat_errors(case, ipi),
        *exchange_errors(case, ipi),
    ]


def address_errors(case: Case, ipi: IpiInput) -> list[str]:
    """Addresses of mix.toml where i-PI does not listen, or that are given twice."""
    there = ", ".join(sorted(socket.as_upstream for socket in ipi.sockets))
    keys = {"mixed": "upstream.address"}
    found = []
    first: dict[str, str] = {}
    for channel, address in case.channels:
        key = keys.get(channel, f"upstream.channels.{channel}")
        if first.setdefault(address, key) != key:
            found.append(
                f"mix.toml has {address!r} as {first[address]} and as {key}, so i-PI would be sent "
                "now the one and now the other; give each an <ffsocket> of its own"
            )
        elif not any(matches_address(socket, address) for socket in ipi.sockets):
            found.append(
                f"mix.toml has {key} = {address!r}, but {ipi.file.name} has <ffsocket>s at "
                f"{there}; make them the same"
            )
    return found


def channel_of(case: Case, ipi: IpiInput, forcefield: str) -> Channel | None:
    """The channel that one of i-PI's forcefields receives; None if it is not served here."""
    names = ipi.forcefields.get(forcefield, frozenset())
    sockets = [socket for socket in ipi.sockets if socket.name in names]
    for channel, address in case.channels:
        if any(matches_address(socket, address) for socket in sockets):
            return channel
    return None


def input_errors(ipi: IpiInput) -> list[str]:
    """Errors for which i-PI itself would refuse its input: tags, attributes, values."""
    try:
        return invalid_values(ipi.file)
    except ConfigError as error:
        return [str(error)]


def atom_errors(case: Case, ipi: IpiInput, topology: Topology) -> list[str]:
    """Atoms that i-PI starts from and that are not those of the case's structure."""
    found: list[str] = []
    sockets = _ours(case, ipi)
    if any(socket.cavity for socket in sockets):
        return []  # i-PI does not send its photon
    active = active_atoms(case, ipi)
    for at, system in systems_served(case, ipi):
        try:
            labels = read_initial_state(ipi.file, at).labels
        except ConfigError as error:
            found.append(str(error))
            continue
        theirs = known_atomic_numbers(labels, case.config.upstream.labels)
        where = ", ".join(source.file.name for source in system.sources) or ipi.file.name
        found += _differ(theirs, active, topology, where)
    return list(dict.fromkeys(found))


def bead_errors(case: Case, ipi: IpiInput) -> list[str]:
    """A region with memory whose beads cannot be distinguished.

    Only i-PI's number of a request identifies its bead. i-PI sends it only on request, and only
    without batches: i-PI fills a batch with whatever is queued when it looks, so that a slot
    serves different beads in turn, even if all of them would fit.
    """
    region = case.config.region
    if region is None:
        return []
    criterion = isinstance(region.seeds, CriterionSeeds)
    if region.hysteresis is None and not criterion:
        return []
    # the cheap channel has no region, and so no memory
    divided = [address for channel, address in case.channels if channel != "cheap"]
    sockets = [s for s in ipi.sockets if any(matches_address(s, address) for address in divided)]
    batch = max((socket.batch_size for socket in sockets), default=1)
    if case.config.upstream.beads == "announced" and batch <= 1:
        return []
    names = {socket.name for socket in sockets}
    streams = sum(
        beads
        for _, system in systems_using(ipi, sockets)
        for forcefield, beads in system.forces
        if names & ipi.forcefields.get(forcefield, frozenset())
    )
    if streams <= 1:
        return []
    what = "a criterion" if criterion else "hysteresis"
    cure = "set upstream.beads = 'announced'" + (
        f" and leave <batch_size>{batch}</batch_size> out" if batch > 1 else ""
    )
    return [
        f"{ipi.file.name} requests forces on {streams} beads (of all systems and components), but "
        f"a region with {what} needs a memory per bead, and they cannot be distinguished; {cure}"
    ]


def thermostat_errors(case: Case, ipi: IpiInput) -> list[str]:
    """A thermostat outside the core that i-PI's thermostat cannot provide."""
    if case.config.ipi.thermostat == "everywhere":
        return []
    wrong = ""
    if case.config.region is None:
        return ["mix.toml has ipi.thermostat = 'cheap' but no [region], so there is no core"]
    if len(ipi.systems) != 1 or len(ipi.motions) != 1:
        wrong = f"{len(ipi.systems)} <system>s and {len(ipi.motions)} <motion>s"
    elif ipi.beads != 1:
        wrong = f"{ipi.beads} beads"
    else:
        motion = ipi.motions[0]
        if motion.mode != "dynamics":
            wrong = f"<motion mode='{motion.mode}'>"
        elif motion.ensemble != "nvt":
            wrong = f"<dynamics mode='{motion.ensemble}'>"
        elif motion.thermostat != "langevin":
            wrong = f"<thermostat mode='{motion.thermostat}'>"
    if not wrong:
        return []
    return [
        f"mix.toml has ipi.thermostat = 'cheap', but {ipi.file.name} has {wrong}; only the "
        "<thermostat mode='langevin'> of <dynamics mode='nvt'>, in one <system> with one bead, "
        "can exclude the core: change the input, or set ipi.thermostat = 'everywhere'"
    ]


def exchange_errors(case: Case, ipi: IpiInput) -> list[str]:
    """Motions that exchange atoms where a region by atoms, or the elements, cannot follow."""
    found = []
    region = case.config.region
    for motion in ipi.motions:
        if motion.mode == "alchemy":
            kinds = known_atomic_numbers(motion.names, case.config.upstream.labels)
            if len(set(kinds.tolist())) > 1 or 0 in kinds:
                found.append(
                    f"{ipi.file.name} has <motion mode='alchemy'> between "
                    f"{', '.join(motion.names)}: i-PI would exchange the elements of these atoms "
                    "without informing its drivers; only isotopes of one element (H, D) can be "
                    "exchanged"
                )
        elif motion.mode in _SWAPPING and region is not None:
            follows = case.config.mixing.kind == "energy" and region.follow
            if not follows:
                found.append(
                    f"{ipi.file.name} has <motion mode='{motion.mode}'>, which puts atoms in each "
                    "other's places: lambda, dead loads and memories of regions would go along "
                    "with them; use energy mixing with region.follow = true, whose energy "
                    "depends on positions alone"
                )
    return found


def check_elements(config: Config, topology: Topology) -> None:
    """Check that the models know the structure's elements, where mix.toml lists them.

    Raises:
        ConfigError: the structure has an element that a model does not know, or mix.toml
            names an unknown one.
    """
    species_numbers(tuple(config.mixing.zeros), "mixing.zeros")
    for role, model in (("cheap", config.models.cheap), ("expensive", config.models.expensive)):
        key = f"models.{role}.species"
        known = species_numbers(model.species if model else None, key)
        if unknown := unknown_elements(topology.numbers, known):
            raise ConfigError(
                f"the structure has {', '.join(unknown)}, but {key} "
                f"= {list(model.species or ()) if model else []} lacks it: use a model that knows "
                "all elements, or correct the key"
            )


def species_numbers(names: Sequence[str] | None, key: str) -> tuple[int, ...] | None:
    """Atomic numbers of element symbols.

    Raises:
        ConfigError: a symbol is not an element.
    """
    if names is None:
        return None
    unknown = [name for name in names if name not in atomic_numbers]
    if unknown:
        raise ConfigError(f"{key}: {unknown[0]!r} is not an element symbol")
    return tuple(int(atomic_numbers[name]) for name in names)


def _ours(case: Case, ipi: IpiInput) -> list[Socket]:
    return [
        s for s in ipi.sockets if any(matches_address(s, address) for address in case.addresses)
    ]


def uses_this_server(case: Case, ipi: IpiInput) -> bool:
    """Whether a socket of i-PI is at an address of mix.toml, and sends the atoms it starts from."""
    ours = _ours(case, ipi)
    return bool(ours) and not any(socket.cavity for socket in ours)


def active_atoms(case: Case, ipi: IpiInput) -> tuple[int, ...]:
    """The atoms that i-PI sends here, by <activelist>; () for all."""
    return next((socket.active for socket in _ours(case, ipi) if socket.active), ())


def matches_address(socket: Socket, address: str) -> bool:
    """Whether i-PI's socket is at an address of mix.toml."""
    if socket.as_upstream == address:
        return True
    host, _, port = address.rpartition(":")
    bound = socket.mode == "inet" and socket.address in _ANYWHERE
    return bound and host != "unix" and port == str(socket.port)


def systems_served(case: Case, ipi: IpiInput) -> list[tuple[int, System]]:
    """The systems whose forces may come from this server, with their number in the input."""
    return systems_using(ipi, _ours(case, ipi))


def systems_using(ipi: IpiInput, sockets: list[Socket]) -> list[tuple[int, System]]:
    """The systems whose forces may come from these sockets: all but those that name others."""
    names = {socket.name for socket in sockets}
    foreign = {name for name, of in ipi.forcefields.items() if not names & of}
    return [
        (at, system)
        for at, system in enumerate(ipi.systems)
        if not names or not system.forces or {name for name, _ in system.forces} - foreign
    ]


def _differ(theirs: Numbers, active: tuple[int, ...], topology: Topology, file: str) -> list[str]:
    if active and max(active) < len(theirs):
        theirs = theirs[list(active)]
    if not theirs.size:
        return []
    if len(theirs) != len(topology):
        return [
            f"i-PI starts from {len(theirs)} atoms ({file}), mix.toml's structure has "
            f"{len(topology)}; they must be the same atoms in the same order"
        ]
    differ = np.flatnonzero((theirs != topology.numbers) & (theirs != 0))
    if not differ.size:
        return []
    return [
        f"atom {differ[0]} is {chemical_symbols[theirs[differ[0]]]} in i-PI's {file} but "
        f"{chemical_symbols[topology.numbers[differ[0]]]} in mix.toml's structure "
        f"({differ.size} atoms differ); "
        "they must be in the same order"
    ]
