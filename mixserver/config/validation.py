"""Validation of mix.toml beyond the types of its keys: keys that exclude each other."""

from __future__ import annotations

import math

from mixserver.config.region_schema import (
    AtomSeeds,
    CriterionSeeds,
    Mixing,
    Region,
    SpeciesSeeds,
)
from mixserver.config.schema import Config, ExpensiveModel
from mixserver.wire.address import is_local


def validation_error(config: Config) -> str:
    """The first value or combination of values that cannot be right, with its cure; "" if none."""
    models, workers, upstream = config.models, config.workers, config.upstream
    if workers.heartbeat_s * 2 > workers.patience_s:
        return (
            f"workers.patience_s = {workers.patience_s} must be at least twice workers.heartbeat_s "
            f"= {workers.heartbeat_s}, or one late heartbeat counts as a death"
        )
    if why := _open_to_others(config):
        return why
    if models.cheap is None and models.expensive is None:
        return "[models] names no model; add [models.cheap], [models.expensive] or both"
    both = models.cheap is not None and models.expensive is not None
    if config.region is None and both:
        return (
            "two models but no [region]: define which atoms are expensive, or name one model only "
            "(mixserver then passes everything through to it)"
        )
    if config.region is not None and not both:
        return "[region] needs both [models.cheap] and [models.expensive]"
    if models.expensive is not None and (why := _unfit_job_sizes(models.expensive, config.region)):
        return why
    if not (upstream.address or upstream.channels.cheap or upstream.channels.correction):
        return 'upstream.address is missing: "unix:NAME" or "HOST:PORT", as in i-PI\'s <ffsocket>'
    if config.region is None and (upstream.channels.cheap or upstream.channels.correction):
        return "[upstream.channels] are parts of a mixed potential, but there is no [region]"
    if config.region is not None and workers.clients and (why := _not_for_stock_clients(config)):
        return (
            f"workers.clients: stock i-PI clients are the {workers.clients_role} model, but {why}; "
            f"start a worker of mixserver for it ([[local]], or mixserver-worker)"
        )
    if config.region is not None and workers.clients and workers.clients_geometry == "as_sent":
        return (
            "workers.clients_geometry = 'as_sent' is for pass-through: with a [region], atoms are "
            "wrapped into the cell; leave it out"
        )
    for local in config.local:
        if (models.cheap if local.role == "cheap" else models.expensive) is None:
            return f"[[local]] starts a worker for {local.role}, but [models] has no {local.role}"
    if config.region is None:
        return ""
    memory = config.region.hysteresis is not None or isinstance(config.region.seeds, CriterionSeeds)
    if memory and upstream.address and upstream.channels.correction:
        return (
            "a region with memory (hysteresis, a criterion) cannot know that the channels mixed "
            "and correction evaluate the same bead; use cheap and correction, or cheap and mixed"
        )
    return _region_error(config.region) or _mixing_error(config.region, config.mixing)


def unlocked_error(setting: str, address: str, keys_setting: str, keys: str) -> str:
    """Why a ZeroMQ address needs keys; "" if it has them, or if only this machine reaches it.

    Args:
        setting: the address's key, for the message.
        address: ZeroMQ address, or "".
        keys_setting: the key that names the folder of keys.
        keys: that folder, or "".
    """
    if keys or not address or is_local(address):
        return ""
    return (
        f"{setting} = {address!r} can be reached from other machines, so keys must protect it: "
        f'make them with mixserver keys new NAME, and set {keys_setting} = "keys", the folder that '
        "has them then; or bind to tcp://127.0.0.1:PORT and tunnel through ssh"
    )


def _open_to_others(config: Config) -> str:
    """An address that other machines can reach, though nothing protects it; "" if there is none."""
    workers, upstream = config.workers, config.upstream
    for setting, bound in (
        ("workers.door", workers.door),
        ("status.address", config.status.address),
    ):
        if why := unlocked_error(setting, bound, "workers.keys", workers.keys):
            return why
    if workers.clients and not workers.insecure and not is_local(workers.clients):
        return (
            f"workers.clients = {workers.clients!r} can be reached from other machines, and i-PI's "
            "protocol knows no keys: anyone there can give any forces. Bind to localhost:PORT and "
            "tunnel through ssh, or set workers.insecure = true if that network is only yours"
        )
    channels = upstream.channels
    for some in (upstream.address, channels.cheap, channels.correction):
        for address in (some,) if isinstance(some, str) else some:
            if address and not upstream.insecure and not is_local(address):
                return (
                    f"upstream address {address!r} is not on this machine, and i-PI's protocol "
                    "knows no keys: anyone between can read and change what is sent. Tunnel "
                    "through ssh, or set upstream.insecure = true if that network is only yours"
                )
    return ""


def _region_error(region: Region) -> str:
    for key in ("buffer_width", "halo_width"):
        value = getattr(region, key)
        if not isinstance(value, str) and value < 0:
            return f"region.{key} must not be negative, got {value} Å"
    seeds = region.seeds
    if not isinstance(seeds, CriterionSeeds):
        return ""
    if seeds.samples * seeds.sample_every > seeds.every:
        return (
            f"region.seeds: {seeds.samples} samples every {seeds.sample_every} evaluations "
            f"do not fit between selections every {seeds.every}; raise region.seeds.every"
        )
    if seeds.low > seeds.high:
        return f"region.seeds: low = {seeds.low} is above high = {seeds.high}"
    return ""


def _mixing_error(region: Region, mixing: Mixing) -> str:
    if mixing.kind == "force":
        if region.follow:
            return (
                "region.follow is for mixing.kind = 'energy'; under force mixing lambda follows "
                "its seeds anyway"
            )
        if mixing.zeros or mixing.dead_loads not in (None, "off"):
            return "mixing.zeros and mixing.dead_loads are for mixing.kind = 'energy'"
        return ""
    for symbol, zero in mixing.zeros.items():
        if not math.isfinite(zero):
            return f"mixing.zeros.{symbol} must be a finite number (eV), got {zero}"
    chosen = isinstance(region.seeds, CriterionSeeds)
    if mixing.zero_net != "blended":
        return (
            "mixing.zero_net is for mixing.kind = 'force'; energy mixing makes no net force; leave "
            "it out"
        )
    if region.buffer_width != "exact":
        return (
            "region.buffer_width is for mixing.kind = 'force'; energy mixing needs no buffer, only "
            "a halo; leave it out"
        )
    if region.hysteresis is not None and not chosen:
        return (
            "region.hysteresis gives lambda a memory, and with it no energy is conserved; under "
            "mixing.kind = 'energy' it is for regions selected by a criterion"
        )
    if mixing.dead_loads not in (None, "off") and (region.follow or chosen):
        return (
            "mixing.dead_loads need a lambda that never changes: region.follow = false and seeds "
            "that are not selected by a criterion"
        )
    return _follow_error(region) if region.follow else ""


def _unfit_job_sizes(model: ExpensiveModel, region: Region | None) -> str:
    """What is wrong with the sizes of jobs, or ""."""
    most, least = model.max_sites, model.min_sites
    if region is None and (most is not None or least > 1):
        return (
            "models.expensive.max_sites and min_sites divide a region, but there is no [region]; "
            "leave them out"
        )
    if most is not None and least > most:
        return (
            f"models.expensive.min_sites = {least} is more than models.expensive.max_sites = {most}"
        )
    return ""


def _not_for_stock_clients(config: Config) -> str:
    """What a stock client cannot compute: it returns one energy, forces and a virial."""
    if config.mixing.kind == "energy":
        return (
            "they return no weighted site energies, which mixing.kind = 'energy' asks of both "
            "models (mixing.kind = 'force' does without)"
        )
    chosen = config.region is not None and isinstance(config.region.seeds, CriterionSeeds)
    if chosen and config.workers.clients_role == "cheap":
        return "they compute no per-atom criterion, which region.seeds asks of the cheap model"
    return ""


def _follow_error(region: Region) -> str:
    if not isinstance(region.seeds, AtomSeeds | SpeciesSeeds):
        return (
            "region.follow = true needs seeds that are atoms (kind 'atoms' or 'species'): a body "
            "fixed in space would push the atoms, and a criterion selects them in jumps; set "
            "region.follow = false"
        )
    if region.profile == "linear" or not region.blend_width > 0:
        return (
            "region.follow = true needs a smooth profile ('quintic') and a blend_width above 0, or "
            "forces would jump"
        )
    if region.measure_from == "core":
        return (
            "region.follow = true measures the blend from the seeds, because the set of core atoms "
            "changes in jumps; leave region.measure_from out"
        )
    return ""


def stock_client_warning(config: Config) -> str:
    """The limitation of stock clients in this case, with the cure; "" if there is none."""
    workers = config.workers
    if not workers.clients or config.region is None or workers.clients_role != "expensive":
        return ""
    return (
        "workers.clients_role = 'expensive': the number of atoms in a cluster changes, but a "
        "process of a stock client takes one number only. i-PI's own drivers get EXIT at each "
        "change: start them in a loop (while i-pi-driver-py ...; do :; done). LAMMPS and ASE have "
        "atoms of their own and end the run: use mixserver-worker lammps or ase, which take any "
        "number and need no restart"
    )
