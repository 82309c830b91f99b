"""Do mix.toml, the structure and i-PI's input speak of the same sockets, atoms and beads?

i-PI sends neither elements nor, unless asked, beads: where the two files disagree, forces would be
wrong without anybody noticing. Errors only, in words. Reads structures; runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mixserver.arrays import Numbers
from mixserver.config import Case, Channel, Config, CriterionSeeds
from mixserver.errors import ConfigError
from mixserver.frame import Topology
from mixserver.ipi_input import IpiInput, Socket, System
from mixserver.ipi_start import read_start
from mixserver.ipi_values import wrong_values
from mixserver.labels import known_numbers

_SWAPPING = {"atomswap", "al-kmc"}
_ANYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - what i-PI may bind, not what we do


def disagreements(case: Case, ipi: IpiInput, topology: Topology) -> list[str]:
    """Everything in which a case and its i-PI input disagree so that no run could be right.

    Args:
        case: the case.
        ipi: the input, or the RESTART, that i-PI will read.
        topology: the atoms of the case's structure.

    Returns:
        One message per disagreement, with its cure; empty if a run may begin.
    """
    wrong = input_errors(ipi)
    if wrong:
        return wrong  # nothing that follows could be trusted
    return [
        *address_errors(case, ipi),
        *atom_errors(case, ipi, topology),
        *bead_errors(case, ipi),
        *thermostat_errors(case, ipi),
        *exchange_errors(case, ipi),
    ]


def address_errors(case: Case, ipi: IpiInput) -> list[str]:
    """Addresses of mix.toml where i-PI does not listen, or that stand for two things."""
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
        elif not any(listens(socket, address) for socket in ipi.sockets):
            found.append(
                f"mix.toml has {key} = {address!r}, but {ipi.file.name} has <ffsocket>s at "
                f"{there}; make them the same"
            )
    return found


def channel_of(case: Case, ipi: IpiInput, forcefield: str) -> Channel | None:
    """What i-PI is answered when it asks one of its forcefields; None if that is not ours."""
    names = ipi.forcefields.get(forcefield, frozenset())
    sockets = [socket for socket in ipi.sockets if socket.name in names]
    for channel, address in case.channels:
        if any(listens(socket, address) for socket in sockets):
            return channel
    return None


def input_errors(ipi: IpiInput) -> list[str]:
    """What i-PI itself would refuse in its input: tags, attributes, values of the wrong kind."""
    try:
        return wrong_values(ipi.file)
    except ConfigError as error:
        return [str(error)]


def atom_errors(case: Case, ipi: IpiInput, topology: Topology) -> list[str]:
    """Atoms that i-PI starts from and that are not those of the case's structure."""
    found: list[str] = []
    sockets = _ours(case, ipi)
    if any(socket.cavity for socket in sockets):
        return []  # i-PI keeps its photon to itself
    active = active_atoms(case, ipi)
    for at, system in systems_asked(case, ipi):
        try:
            labels = read_start(ipi.file, at).labels
        except ConfigError as error:
            found.append(str(error))
            continue
        theirs = known_numbers(labels, case.config.upstream.labels)
        where = ", ".join(source.file.name for source in system.sources) or ipi.file.name
        found += _differ(theirs, active, topology, where)
    return list(dict.fromkeys(found))


def bead_errors(case: Case, ipi: IpiInput) -> list[str]:
    """A region with memory whose beads cannot be told apart.

    Only i-PI's number of a request names its bead, and it comes only if it is asked for, and only
    without batches: i-PI fills a batch with whatever is queued when it looks, so that a slot
    serves different beads in turn, even if all of them would fit.
    """
    region = case.config.region
    if region is None:
        return []
    criterion = isinstance(region.seeds, CriterionSeeds)
    if region.hysteresis is None and not criterion:
        return []
    # the cheap channel has no region, so nothing to remember
    divided = [address for channel, address in case.channels if channel != "cheap"]
    sockets = [s for s in ipi.sockets if any(listens(s, address) for address in divided)]
    batch = max((socket.batch_size for socket in sockets), default=1)
    if case.config.upstream.beads == "announced" and batch <= 1:
        return []
    names = {socket.name for socket in sockets}
    streams = sum(
        beads
        for _, system in systems_of(ipi, sockets)
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
        f"{ipi.file.name} asks for forces on {streams} beads (of all systems and components), but "
        f"a region with {what} needs a memory per bead, and they cannot be told apart; {cure}"
    ]


def thermostat_errors(case: Case, ipi: IpiInput) -> list[str]:
    """A thermostat outside the core where i-PI's thermostat cannot be made one."""
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
        "can leave the core alone: change the input, or set ipi.thermostat = 'everywhere'"
    ]


def exchange_errors(case: Case, ipi: IpiInput) -> list[str]:
    """Motions that exchange atoms where a region by atoms, or the elements, cannot follow."""
    found = []
    region = case.config.region
    for motion in ipi.motions:
        if motion.mode == "alchemy":
            kinds = known_numbers(motion.names, case.config.upstream.labels)
            if len(set(kinds.tolist())) > 1 or 0 in kinds:
                found.append(
                    f"{ipi.file.name} has <motion mode='alchemy'> between "
                    f"{', '.join(motion.names)}: i-PI would exchange what these atoms are without "
                    "telling its drivers; only isotopes of one element (H, D) can be exchanged"
                )
        elif motion.mode in _SWAPPING and region is not None:
            follows = case.config.mixing.kind == "energy" and region.follow
            if not follows:
                found.append(
                    f"{ipi.file.name} has <motion mode='{motion.mode}'>, which puts atoms in each "
                    "other's places: lambda, dead loads and memories of regions would go along "
                    "with them; use energy mixing with region.follow = true, whose energy knows "
                    "positions alone"
                )
    return found


def know_elements(config: Config, topology: Topology) -> None:
    """Hold the structure against the elements that mix.toml says the models know.

    Raises:
        ConfigError: the structure has an element that a model does not know, or there is none such.
    """
    species(tuple(config.mixing.zeros), "mixing.zeros")
    for role, model in (("cheap", config.models.cheap), ("expensive", config.models.expensive)):
        key = f"models.{role}.species"
        known = species(model.species if model else None, key)
        lacking = sorted(set(topology.numbers.tolist()) - set(known)) if known is not None else []
        if lacking:
            raise ConfigError(
                f"the structure has {', '.join(chemical_symbols[z] for z in lacking)}, but {key} "
                f"= {list(model.species or ()) if model else []} lacks it: use a model that knows "
                "all elements, or correct the key"
            )


def species(names: Sequence[str] | None, key: str) -> tuple[int, ...] | None:
    """Atomic numbers of element symbols.

    Raises:
        ConfigError: no such element.
    """
    if names is None:
        return None
    unknown = [name for name in names if name not in atomic_numbers]
    if unknown:
        raise ConfigError(f"{key}: {unknown[0]!r} is no element symbol")
    return tuple(int(atomic_numbers[name]) for name in names)


def _ours(case: Case, ipi: IpiInput) -> list[Socket]:
    return [s for s in ipi.sockets if any(listens(s, address) for address in case.addresses)]


def asks_us(case: Case, ipi: IpiInput) -> bool:
    """Whether a socket of i-PI is at an address of mix.toml, and sends the atoms it starts from."""
    ours = _ours(case, ipi)
    return bool(ours) and not any(socket.cavity for socket in ours)


def active_atoms(case: Case, ipi: IpiInput) -> tuple[int, ...]:
    """The atoms that i-PI sends here, by <activelist>; () for all."""
    return next((socket.active for socket in _ours(case, ipi) if socket.active), ())


def listens(socket: Socket, address: str) -> bool:
    """Whether i-PI's socket is at an address of mix.toml."""
    if socket.as_upstream == address:
        return True
    host, _, port = address.rpartition(":")
    bound = socket.mode == "inet" and socket.address in _ANYWHERE
    return bound and host != "unix" and port == str(socket.port)


def systems_asked(case: Case, ipi: IpiInput) -> list[tuple[int, System]]:
    """The systems whose forces may come from this server, with their number in the input."""
    return systems_of(ipi, _ours(case, ipi))


def systems_of(ipi: IpiInput, sockets: list[Socket]) -> list[tuple[int, System]]:
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
