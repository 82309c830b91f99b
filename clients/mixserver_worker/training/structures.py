"""Reading training data: checked here, in words, before the networks' own loaders see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from mixserver.core.arrays import Mask
from mixserver.core.errors import ConfigError
from mixserver.wire.training import Keys

_LARGEST = 1e4
"""eV/Å; a larger force is no label but a failed calculation."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """The structures of some files, with labels under the networks' own names."""

    frames: list[Atoms]
    isolated: dict[int, float]
    """Energies (eV) of isolated atoms found among them, by atomic number; not in `frames`."""

    @property
    def numbers(self) -> set[int]:
        """Atomic numbers of all elements."""
        return {int(number) for frame in self.frames for number in frame.numbers}


def read_labelled(files: Sequence[str], keys: Keys) -> Labelled:
    """Read structures with energies and forces; a stress is optional.

    Raises:
        ConfigError: a file cannot be read, or a label is missing or not a finite number.
    """
    frames: list[Atoms] = []
    isolated: dict[int, float] = {}
    for file in files:
        for at, frame in enumerate(_read(file)):
            where = f"{file}, structure {at}"
            energy = _label(frame.info, keys.energy, "energy", where, ())
            if len(frame) == 1 and frame.info.get("config_type") == "IsolatedAtom":
                isolated[int(frame.numbers[0])] = float(energy)
                continue
            forces = _label(frame.arrays, keys.forces, "forces", where, (len(frame), 3))
            if np.abs(forces).max(initial=0.0) > _LARGEST:
                raise ConfigError(
                    f"{where}: a force of {np.abs(forces).max():.3g} eV/Å is no label of a "
                    "converged calculation; remove the structure"
                )
            if keys.stress in frame.info:
                frame.info[keys.stress] = _stress(frame.info[keys.stress], keys.stress, where)
            frames.append(frame)
    if not frames:
        raise ConfigError(f"{', '.join(files)}: no structure with labels; expected extxyz files")
    return Labelled(frames, isolated)


def read_environments(files: Sequence[str], mask: str) -> tuple[list[Atoms], list[Mask]]:
    """Read structures without labels, and the atoms (N,) of each that count as bulk.

    Raises:
        ConfigError: a file cannot be read, the array is missing, or no atom counts.
    """
    frames: list[Atoms] = []
    masks: list[Mask] = []
    for file in files:
        for at, frame in enumerate(_read(file)):
            chosen = np.ones(len(frame), bool)
            if mask:
                if mask not in frame.arrays:
                    raise ConfigError(
                        f"{file}, structure {at}: no per-atom array {mask!r}, which agreement.mask "
                        f"names; it has {', '.join(sorted(frame.arrays))}"
                    )
                chosen = np.asarray(frame.arrays[mask]).astype(bool)
            elif not frame.pbc.all():
                raise ConfigError(
                    f"{file}, structure {at} does not repeat in all three directions, so not all "
                    "its atoms are bulk: name the array that tells which are with agreement.mask"
                )
            if chosen.any():
                frames.append(frame)
                masks.append(chosen)
    if not frames:
        raise ConfigError(
            f"{', '.join(files)}: no atom counts as bulk"
            + (f" (agreement.mask = {mask!r} is false everywhere)" if mask else "")
        )
    return frames, masks


def split(count: int, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to train with, and held-out ones: at least one each where there are two."""
    order = [int(at) for at in np.random.default_rng(seed).permutation(count)]
    held = min(max(1, round(fraction * count)), count - 1) if count > 1 else 0
    return sorted(order[held:]), sorted(order[:held])


def _read(file: str) -> list[Atoms]:
    if not Path(file).is_file():
        raise ConfigError(f"{file} does not exist; expected an extxyz file of structures")
    try:
        found = read(file, index=":")
    except Exception as error:
        raise ConfigError(f"{file} cannot be read by ASE: {error}") from error
    frames = list(found)
    for at, frame in enumerate(frames):
        if not np.isfinite(frame.positions).all() or not np.isfinite(frame.cell.array).all():
            raise ConfigError(f"{file}, structure {at}: a position or cell is not a finite number")
        if not len(frame):
            raise ConfigError(f"{file}, structure {at} has no atoms")
    return frames


def _label(
    table: dict[str, object], key: str, kind: str, where: str, shape: tuple[int, ...]
) -> np.ndarray:
    if key not in table:
        raise ConfigError(
            f"{where}: no {kind} under the key {key!r}; there are "
            f"{', '.join(sorted(table)) or 'none'}. Say in [keys] what the labels are called (ASE "
            "itself takes away the keys energy, forces and stress: use others)"
        )
    try:
        value = np.asarray(table[key], float)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {key} is not a number: {table[key]!r}") from error
    if value.shape != shape:
        raise ConfigError(f"{where}: {key} has shape {value.shape}, expected {shape}")
    if not np.isfinite(value).all():
        raise ConfigError(
            f"{where}: {key} is not a finite number; remove the structure or compute it again"
        )
    return value


def _stress(value: object, key: str, where: str) -> np.ndarray:
    """As (3, 3), whatever its form in the file."""
    stress = np.asarray(value, float)
    if not np.isfinite(stress).all():
        raise ConfigError(f"{where}: {key} is not a finite number; remove the key or the structure")
    if stress.size == 9:
        return stress.reshape(3, 3)
    if stress.shape == (6,):
        xx, yy, zz, yz, xz, xy = stress
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    raise ConfigError(f"{where}: {key} has shape {stress.shape}, expected 3x3, 9 or 6 numbers")
