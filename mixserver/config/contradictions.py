"""What a mix.toml says correctly but cannot mean. Knows its tables, no files."""

from __future__ import annotations

import math

from mixserver.config.tables import (
    AtomSeeds,
    Config,
    CriterionSeeds,
    CylinderSeeds,
    Mixing,
    Region,
    SpeciesSeeds,
    SphereSeeds,
)


def contradiction(config: Config) -> str:
    """What is typed correctly but cannot be meant, or ""."""
    models, workers, upstream = config.models, config.workers, config.upstream
    positive = {
        "upstream.connections": upstream.connections,
        "upstream.force_timeout_s": upstream.force_timeout_s,
        "workers.patience_s": workers.patience_s,
        "workers.heartbeat_s": workers.heartbeat_s,
        "workers.first_worker_s": workers.first_worker_s,
        "workers.failures": workers.failures,
        "workers.job_timeout_s": workers.job_timeout_s,
        "record.every": config.record.every,
    }
    limits = config.limits
    positive |= {
        f"limits.{name}": getattr(limits, name)
        for name in limits.__struct_fields__
        if name != "shortest_pair"
    }
    for key, value in positive.items():
        if not value > 0:
            return f"{key} must be positive, got {value}"
    waits = {
        "upstream.first_contact_s": upstream.first_contact_s,
        "upstream.later_contact_s": upstream.later_contact_s,
        "workers.join_s": workers.join_s,
    }
    for key, value in waits.items():
        if not value >= 0:
            return f"{key} must be a time in seconds, or 0 for ever, got {value}"
    if not 0.0 <= limits.shortest_pair < 1.0:
        return (
            f"limits.shortest_pair is a fraction of the sum of two covalent radii, from 0 (off) to "
            f"less than 1, got {limits.shortest_pair}"
        )
    if workers.heartbeat_s * 2 > workers.patience_s:
        return (
            f"workers.patience_s = {workers.patience_s} must be at least twice workers.heartbeat_s "
            f"= {workers.heartbeat_s}, or one late heartbeat counts as a death"
        )
    if models.cheap is None and models.expensive is None:
        return "[models] names no model; add [models.cheap], [models.expensive] or both"
    both = models.cheap is not None and models.expensive is not None
    if config.region is None and both:
        return (
            "two models but no [region]: say which atoms are expensive, or name one model only "
            "(mixserver then passes everything through to it)"
        )
    if config.region is not None and not both:
        return "[region] needs both [models.cheap] and [models.expensive]"
    if not (upstream.address or upstream.channels.cheap or upstream.channels.correction):
        return 'upstream.address is missing: "unix:NAME" or "HOST:PORT", as in i-PI\'s <ffsocket>'
    if config.region is None and (upstream.channels.cheap or upstream.channels.correction):
        return "[upstream.channels] are parts of a mixed potential, but there is no [region]"
    if config.region is not None and workers.clients and (why := _beyond_clients(config)):
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
        if not local.command or local.count < 1 or local.mpi < 1 or local.threads < 1:
            return "[[local]] needs a command, and count, mpi and threads of at least 1"
    if config.region is None:
        return ""
    memory = config.region.hysteresis is not None or isinstance(config.region.seeds, CriterionSeeds)
    if memory and upstream.address and upstream.channels.correction:
        return (
            "a region with memory (hysteresis, a criterion) cannot tell that the channels mixed "
            "and correction ask for the same bead; use cheap and correction, or cheap and mixed"
        )
    return _region_contradiction(config.region) or _mixing_contradiction(
        config.region, config.mixing
    )


def _region_contradiction(region: Region) -> str:
    for key in ("core_radius", "blend_width", "buffer_width", "halo_width"):
        value = getattr(region, key)
        if not isinstance(value, str) and value < 0:
            return f"region.{key} must not be negative, got {value} Å"
    memory = region.hysteresis
    if memory is not None and not (memory.time_in > 0 and memory.time_out > 0):
        return "region.hysteresis times must be positive (evaluations)"
    match region.seeds:
        case AtomSeeds(indices=()):
            return "region.seeds.indices is empty: name at least one atom, counted from 0"
        case SpeciesSeeds(elements=()):
            return "region.seeds.elements is empty: name at least one element"
        case SphereSeeds(radius=radius) | CylinderSeeds(radius=radius) if radius < 0:
            return f"region.seeds.radius must not be negative, got {radius} Å"
        case CriterionSeeds() as seeds:
            if min(seeds.every, seeds.sample_every, seeds.samples) < 1:
                return "region.seeds: every, sample_every and samples count from 1"
            if seeds.samples * seeds.sample_every > seeds.every:
                return (
                    f"region.seeds: {seeds.samples} samples every {seeds.sample_every} evaluations "
                    f"do not fit between choices every {seeds.every}; raise region.seeds.every"
                )
            if seeds.low > seeds.high:
                return f"region.seeds: low = {seeds.low} is above high = {seeds.high}"
        case _:
            pass
    return ""


def _mixing_contradiction(region: Region, mixing: Mixing) -> str:
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
            "mixing.kind = 'energy' it is for regions that a criterion chooses"
        )
    if mixing.dead_loads not in (None, "off") and (region.follow or chosen):
        return (
            "mixing.dead_loads need a lambda that never changes: region.follow = false and seeds "
            "that no criterion chooses"
        )
    return _follow_contradiction(region) if region.follow else ""


def _beyond_clients(config: Config) -> str:
    """What a stock client cannot answer: it returns one energy, forces and a virial."""
    if config.mixing.kind == "energy":
        return (
            "they return no weighted site energies, which mixing.kind = 'energy' asks of both "
            "models (mixing.kind = 'force' does without)"
        )
    chosen = config.region is not None and isinstance(config.region.seeds, CriterionSeeds)
    if chosen and config.workers.clients_role == "cheap":
        return "they compute no per-atom criterion, which region.seeds asks of the cheap model"
    return ""


def _follow_contradiction(region: Region) -> str:
    if not isinstance(region.seeds, AtomSeeds | SpeciesSeeds):
        return (
            "region.follow = true needs seeds that are atoms (kind 'atoms' or 'species'): a body "
            "fixed in space would push the atoms, and a criterion chooses in jumps; say "
            "region.follow = false"
        )
    if region.profile == "linear" or not region.blend_width > 0:
        return (
            "region.follow = true needs a smooth profile ('quintic') and a blend_width above 0, or "
            "forces would jump"
        )
    if region.measure_from == "core":
        return (
            "region.follow = true measures the blend from the seeds: which atoms are core changes "
            "in jumps; leave region.measure_from out"
        )
    return ""
