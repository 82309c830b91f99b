"""The MACE engine: jobs in, weighted site energies and their exact gradient out.

Reading a model file runs what is pickled in it (see `mace_model`): the worker reads only the one
named on its command line. Torch and mace are imported when the engine is made, not before; call
`threads.prepare_torch` first.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from clients.engine import Answer
from clients.engines.mace_model import head_index, import_mace, read_model
from clients.engines.refuse import refuse_nonsense
from mixserver.arrays import Indices, Mask, Scalars
from mixserver.errors import BadInput, ConfigError, WorkerFault
from mixserver.wire.worker import Evaluate, ModelCard

if TYPE_CHECKING:
    import torch

    from clients.engines.mace_sites import Weighed
    from clients.engines.mace_trial import Trial

_log = logging.getLogger("mixserver.mace")


class MaceEngine:
    """Evaluates jobs with one MACE model.

    Args:
        model: path of a .model file, or "mace_mp:NAME" / "mace_off:NAME".
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".
        dtype: precision of the model's arithmetic; "model" is that of the file. Edge vectors,
            sums of forces and energies are float64 in any case.
        head: name of the head, needed if the model has several.
        skin: Å by which neighbour lists reach further, so that they need not be made every time.
        threads: CPU threads; None leaves torch's choice.

    Raises:
        ConfigError: the model, the device, the precision or the head cannot be had.
        MissingPackage: torch or mace-torch is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        dtype: Literal["float64", "float32", "model"] = "float64",
        head: str | None = None,
        skin: float = 0.3,
        threads: int | None = None,
    ) -> None:
        if not 0.0 <= skin < np.inf:
            raise ConfigError(f"skin must be 0 Å or more, got {skin}")
        import_mace()
        import torch

        from clients.engines.mace_trial import trial_of

        if threads is not None:
            torch.set_num_threads(threads)
        where = _device(device)
        read = read_model(model)
        index = head_index(read.heads, head)
        precision = _precision(dtype, next(read.module.parameters()).dtype)
        self._skin, self._where, self._precision = skin, where, precision
        trial = trial_of(read.module, index)
        self._take(read.module, index, fast=True)
        if problem := self._tried(trial):
            _log.warning(
                "this model is evaluated by mace's own parts, which is slower: with faster ones %s",
                problem,
            )
            self._take(read_model(model).module, index, fast=False)
            if problem := self._tried(trial):
                raise ConfigError(
                    f"the model {model} cannot be evaluated site by site with this mace-torch: "
                    f"{problem} from what it says itself. mace-torch 0.3.16 is known to work."
                )
        name = str(precision).removeprefix("torch.")
        defined = f"mace {read.sha256} head={read.heads[index]} dtype={name}"
        self._card = ModelCard(
            engine="mace",
            name=read.name,
            fingerprint=hashlib.sha256(defined.encode()).hexdigest(),
            species=tuple(sorted(self._sites.species)),
            cutoff=self._sites.cutoff,
            receptive_field=self._sites.layers * self._sites.cutoff,
            weights=True,
            energies=True,
            dtype=name,
        )

    @property
    def card(self) -> ModelCard:
        """What the model is and what this engine can do with it."""
        return self._card

    def evaluate(self, job: Evaluate) -> Answer:
        """Evaluate one job without changing its arrays.

        Raises:
            BadInput: an unknown element, atoms on top of each other, a number that is not
                finite, a flat cell, or a criterion (this engine has none).
            WorkerFault: the device ran out of memory, or the model gave no finite answer.
        """
        if job.criterion:
            raise BadInput(f"the mace engine has no criteria, asked for {job.criterion!r}")
        refuse_nonsense(job, self._card.species, self._card.name)
        atoms = len(job.positions)
        weight = np.ones(atoms) if job.weight is None else job.weight
        active = job.sites
        forces = np.zeros((atoms, 3))
        energies = np.zeros(atoms) if job.energies else None
        if not active.any():
            return Answer(0.0, forces, np.zeros((3, 3)), energies)
        order, weighed = self._weigh(job, weight, active)
        forces[order] = weighed.forces
        if energies is not None:
            energies[order[: len(weighed.energies)]] = weighed.energies
        finite = np.isfinite(weighed.energy) and np.isfinite(weighed.virial).all()
        if not (finite and np.isfinite(forces).all()):
            raise WorkerFault(
                f"MACE model {self._card.name} gave an energy or forces that are not finite for "
                f"job {job.job} ({atoms} atoms) although all positions are"
            )
        return Answer(weighed.energy, forces, weighed.virial, energies)

    def close(self) -> None:
        """Give back memory."""
        self._scenes.clear()
        self._empty_caches()

    def _take(self, module: Any, head: int, *, fast: bool) -> None:
        from clients.engines.mace_graph import Scenes
        from clients.engines.mace_sites import SiteModel

        where, precision = self._where, self._precision
        self._sites = SiteModel(module, device=where, dtype=precision, head=head, fast=fast)
        self._scenes = Scenes(self._sites.cutoff, self._sites.layers, self._skin)

    def _tried(self, trial: Trial) -> str:
        """What is not as mace has it, in words; "" if all is."""
        job = Evaluate(
            job=0,
            stream=0,
            positions=trial.positions,
            numbers=trial.numbers,
            cell=100.0 * np.eye(3),
            pbc=(False, False, False),
        )
        ones = np.ones(len(trial.numbers))
        try:
            order, weighed = self._weigh(job, ones, ones > 0.0)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            self._scenes.clear()
        energies, forces = np.zeros(len(ones)), np.zeros((len(ones), 3))
        energies[order], forces[order] = weighed.energies, weighed.forces
        return trial.apart(energies, forces, self._precision)

    def _weigh(self, job: Evaluate, weight: Scalars, active: Mask) -> tuple[Indices, Weighed]:
        from clients.engines.mace_sites import OverlapError

        try:
            scene, positions = self._scenes.visit(
                job.stream, job.positions, job.numbers, job.cell, job.pbc, active
            )
            graph = scene.graph
            if scene.placed is None:
                scene.placed = self._sites.place(graph, job.numbers)
            sites = graph.order[: graph.atoms[0]]
            weighed = self._sites.weigh(scene.placed, positions[graph.order], weight[sites])
        except OverlapError as error:
            first, second = sorted(int(graph.order[place]) for place in error.args)
            raise BadInput(
                f"atoms {first} and {second} are at the same place (job {job.job})"
            ) from error
        except (MemoryError, RuntimeError) as error:
            self._fail(job, error)
        return graph.order, weighed

    def _fail(self, job: Evaluate, error: Exception) -> NoReturn:
        self._scenes.clear()
        self._empty_caches()
        text = str(error).partition("\n")[0]
        if isinstance(error, MemoryError) or "memory" in text.lower():
            raise WorkerFault(
                f"out of memory in job {job.job} ({len(job.positions)} atoms): {text}. Use "
                "smaller regions, float32, or a device with more memory."
            ) from error
        raise WorkerFault(f"torch failed in job {job.job}: {text}") from error

    def _empty_caches(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number.isdecimal() or name == "cuda"):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    there = torch.cuda.device_count()
    if int(number or 0) >= there:
        raise ConfigError(
            f"device {name} was asked for, but torch {torch.__version__} sees {there} CUDA "
            "devices. Use --device cpu, or install a CUDA build of torch and its driver."
        )
    return torch.device(name)


def _precision(name: str, own: torch.dtype) -> torch.dtype:
    import torch

    known = {"float64": torch.float64, "float32": torch.float32, "model": own}
    if name not in known:
        raise ConfigError(f"dtype must be float64, float32 or model, got {name!r}")
    if known[name] not in (torch.float64, torch.float32):
        raise ConfigError(f"the model is stored as {own}; choose float64 or float32")
    return known[name]
