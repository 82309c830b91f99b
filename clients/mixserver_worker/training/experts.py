"""Makes the two experts and their data from a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from mixserver.core.errors import ConfigError
from mixserver.wire.training import ExpertJob, TrainingJob
from mixserver_worker.training.mace_expert import (
    MaceData,
    MaceExpert,
    cutoff_of,
    e0s_of,
    environment_graphs,
    graphs,
    least_squares_e0s,
    new_network,
    read_network,
    tie_scale,
)
from mixserver_worker.training.mace_options import mace_arguments
from mixserver_worker.training.structures import (
    Labelled,
    read_environments,
    read_labelled,
    split,
)


@dataclass(frozen=True, eq=False)
class Trainee:
    """An expert with its own data."""

    name: str
    expert: MaceExpert
    weight: float
    train: MaceData | None
    """None if it is not trained."""
    valid: MaceData | None


@dataclass(frozen=True, eq=False)
class Shared:
    """Bulk environments as graphs of each expert, in the same order."""

    large: MaceData
    small: MaceData


@dataclass(frozen=True, eq=False)
class Pair:
    """All that is trained, and what ties it together."""

    large: Trainee
    small: Trainee | None
    shared: Shared | None
    held: Shared | None
    """Environments that are only measured."""
    e0s: dict[str, float]
    notes: tuple[str, ...]

    @property
    def trainees(self) -> list[Trainee]:
        """Those that are trained."""
        listed = [self.large, *([self.small] if self.small else [])]
        return [one for one in listed if one.expert.trained]


def make_pair(job: TrainingJob) -> Pair:
    """Read the data, and make the networks.

    Raises:
        ConfigError: data, options or models do not allow it.
    """
    torch.set_default_dtype(getattr(torch, job.dtype))
    data = {"large": _data(job, job.large)}
    if job.small is not None:
        data["small"] = _data(job, job.small)
    given = read_network(job.large.model) if job.large.model else None
    e0s = e0s_of(given) if given is not None else _e0s(job, data["large"])
    for name, own in data.items():
        _check_elements(name, own, e0s)
    large = _trainee(job, "large", job.large, data["large"], e0s, given)
    if job.small is None:
        return Pair(large, None, None, None, _by_symbol(e0s), ())
    begun = read_network(job.small.model) if job.small.model else None
    small = _trainee(job, "small", job.small, data["small"], e0s, begun, like=large.expert)
    shared, held = _environments(job, large, small, e0s)
    return Pair(large, small, shared, held, _by_symbol(e0s), tuple(_notes(data, e0s)))


def _data(job: TrainingJob, wanted: ExpertJob) -> Labelled | None:
    return read_labelled(wanted.data, job.keys) if wanted.data else None


def _e0s(job: TrainingJob, data: Labelled | None) -> dict[int, float]:
    if data is None:
        raise ConfigError("the large expert has neither a model nor data")
    if job.e0s:
        return {atomic_numbers[symbol]: energy for symbol, energy in job.e0s.items()}
    if data.isolated:
        return dict(data.isolated)
    return least_squares_e0s(data.frames, job.keys)


def _check_elements(name: str, data: Labelled | None, e0s: dict[int, float]) -> None:
    missing = sorted(chemical_symbols[z] for z in (data.numbers if data else set()) - set(e0s))
    if missing:
        raise ConfigError(
            f"the data of the {name} expert have {', '.join(missing)}, which the table of energies "
            f"of free atoms lacks: it has {', '.join(_by_symbol(e0s))}. Both experts have the same "
            "table: add the element to [e0s], or take a large model that knows it"
        )


def _trainee(
    job: TrainingJob,
    name: str,
    wanted: ExpertJob,
    data: Labelled | None,
    e0s: dict[int, float],
    given: torch.nn.Module | None,
    like: MaceExpert | None = None,
) -> Trainee:
    arguments = mace_arguments(job, name, wanted.options)
    numbers = sorted(e0s)
    cutoff = float(arguments.r_max) if given is None else cutoff_of(given)
    train = valid = None
    frames: list[Atoms] = []
    if data is not None:
        frames = data.frames
        fitted, held = split(len(frames), job.validation, job.seed)
        made = graphs(frames, job.keys, numbers, cutoff)
        train = MaceData([made[at] for at in fitted], arguments.batch_size, job.seed)
        valid = MaceData([made[at] for at in held], arguments.valid_batch_size, job.seed)
    stress = any(job.keys.stress in one.info for one in frames)
    outputs = {
        "energy": True, "forces": True, "virials": False, "dipoles": False,
        "stress": stress and arguments.loss in ("stress", "huber", "universal"),
    }  # fmt: skip
    if given is None:
        if train is None:
            raise ConfigError(f"the {name} expert has neither a model nor data")
        torch.manual_seed(job.seed + (name == "small"))
        module, _ = new_network(arguments, train.graphs, e0s)
    else:
        module = given.to(getattr(torch, job.dtype))
        if e0s_of(module).keys() != e0s.keys():
            raise ConfigError(
                f"{wanted.model} knows the elements {', '.join(_by_symbol(e0s_of(module)))}, and "
                f"the large expert {', '.join(_by_symbol(e0s))}: they must be the same"
            )
    if like is not None:
        tie_scale(module, like.module)
    trained = not wanted.fixed
    if trained and train is None:
        raise ConfigError(f"the {name} expert is to be trained and has no data: give {name}.data")
    expert = MaceExpert(module, arguments, trained=trained, outputs=outputs, device=job.device)
    return Trainee(name, expert, wanted.weight, train if trained else None, valid)


def _environments(
    job: TrainingJob, large: Trainee, small: Trainee, e0s: dict[int, float]
) -> tuple[Shared | None, Shared | None]:
    wanted = job.agreement
    if not wanted.data:
        return None, None
    frames, masks = read_environments(wanted.data, wanted.mask)
    found = {int(number) for frame in frames for number in frame.numbers}
    missing = sorted(chemical_symbols[z] for z in found - set(e0s))
    if missing:
        raise ConfigError(
            f"the bulk environments have {', '.join(missing)}, which the experts do not know; they "
            f"know {', '.join(_by_symbol(e0s))}"
        )
    fitted, held = split(len(frames), job.validation, job.seed)

    def shared(chosen: Sequence[int]) -> Shared:
        picked, theirs = [frames[at] for at in chosen], [masks[at] for at in chosen]
        made = []
        for trainee in (large, small):
            cutoff = trainee.expert.cutoff
            listed = environment_graphs(picked, theirs, sorted(e0s), cutoff)
            made.append(MaceData(listed, wanted.batch, job.seed + 2))
        if not large.expert.trained:
            _keep_predictions(large.expert, made[0])
        return Shared(*made)

    return shared(fitted), (shared(held) if held else None)


def _keep_predictions(expert: MaceExpert, data: MaceData) -> None:
    """Let the graphs of an expert that is not trained carry what it says of them."""
    alone = MaceData(data.graphs, 1, 0)
    found = [expert.predict(batch, training=False) for batch in alone.all()]
    for graph, made in zip(data.graphs, found, strict=True):
        graph.kept_energies, graph.kept_forces = made.energies.cpu(), made.forces.cpu()


def _notes(data: dict[str, Labelled | None], e0s: dict[int, float]) -> list[str]:
    small = data.get("small")
    untrained = sorted(chemical_symbols[z] for z in set(e0s) - (small.numbers if small else set()))
    if not untrained:
        return []
    return [
        f"the small expert's data have no {', '.join(untrained)}: near such atoms its energies "
        "mean nothing, so they must lie within the region of the large one"
    ]


def _by_symbol(e0s: dict[int, float]) -> dict[str, float]:
    return {chemical_symbols[number]: energy for number, energy in sorted(e0s.items())}
