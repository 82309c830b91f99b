"""Do mix.toml, the structure and i-PI's input speak of the same sockets, atoms and beads?

i-PI sends neither elements nor, unless asked, beads: where the two files disagree, forces would be
wrong without anybody noticing. Errors only, in words. Reads structures; runs nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mixserver.arrays import Numbers
from mixserver.config import Case, Channel, Config, CriterionSeeds
from mixserver.errors import ConfigError
from mixserver.frame import Topology
from mixserver.ipi_input import IpiInput, Socket, Source, System, read_labels
from mixserver.record.structures import read_atoms

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
    return [
        *address_errors(case, ipi),
        *atom_errors(case, ipi, topology),
        *bead_errors(case, ipi),
        *thermostat_errors(case, ipi),
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
        elif not any(_listens(socket, address) for socket in ipi.sockets):
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
        if any(_listens(socket, address) for socket in sockets):
            return channel
    return None


def atom_errors(case: Case, ipi: IpiInput, topology: Topology) -> list[str]:
    """Atoms that i-PI starts from and that are not those of the case's structure."""
    found: list[str] = []
    sockets = _ours(case, ipi)
    active = next((socket.active for socket in sockets if socket.active), ())
    for system in _systems(ipi, sockets):
        if system.labels:
            found += _differ(_numbers(system.labels), active, topology, ipi.file.name)
        for source in system.sources:
            try:
                theirs = _read(source)
            except ConfigError as error:
                found.append(f"i-PI's {error}")
            else:
                found += _differ(theirs, active, topology, source.file.name)
    return found


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
    sockets = [s for s in ipi.sockets if any(_listens(s, address) for address in divided)]
    batch = max((socket.batch_size for socket in sockets), default=1)
    if case.config.upstream.beads == "announced" and batch <= 1:
        return []
    names = {socket.name for socket in sockets}
    streams = sum(
        beads
        for system in _systems(ipi, sockets)
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
    return [s for s in ipi.sockets if any(_listens(s, address) for address in case.addresses)]


def _listens(socket: Socket, address: str) -> bool:
    if socket.as_upstream == address:
        return True
    host, _, port = address.rpartition(":")
    bound = socket.mode == "inet" and socket.address in _ANYWHERE
    return bound and host != "unix" and port == str(socket.port)


def _systems(ipi: IpiInput, sockets: list[Socket]) -> list[System]:
    """The systems whose forces may come from these sockets: all but those that name others."""
    names = {socket.name for socket in sockets}
    foreign = {name for name, of in ipi.forcefields.items() if not names & of}
    return [
        system
        for system in ipi.systems
        if not names or not system.forces or {name for name, _ in system.forces} - foreign
    ]


def _read(source: Source) -> Numbers:
    """(n,) atomic numbers in a file of <initialize>: 0 where a label is no element, (0,) if none.

    Raises:
        ConfigError: it cannot be read.
    """
    if not source.file.is_file():
        raise ConfigError(f"{source.file} (of <initialize>) does not exist")
    if source.mode == "chk":
        return _numbers(read_labels(source.file))
    if source.mode != "xyz":
        return np.asarray(read_atoms(source.file).numbers, dtype=np.int32)
    try:
        with source.file.open(encoding="utf-8") as lines:
            count = int(next(lines))
            next(lines)
            return _numbers([line.split()[0] for line in itertools.islice(lines, count)])
    except (OSError, ValueError, IndexError, StopIteration) as error:
        raise ConfigError(f"{source.file} is no xyz file: {error}") from error


def _numbers(labels: Sequence[str]) -> Numbers:
    """(n,) atomic numbers of labels; 0 for those that are no element."""
    return np.array([atomic_numbers.get(label, 0) for label in labels], dtype=np.int32)


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
