"""Rows are made once for what they are of, and anew when that changes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import silicon
from mixserver_worker.engines.lammps.descriptors import snap_rows
from mixserver_worker.engines.lammps.loading import bundled_potentials
from structlog.testing import capture_logs
from tolerance import SAME

from mixserver.core.errors import ConfigError, EvaluationError
from mixserver.distill.data.labels import LabelledStructure, Structure
from mixserver.distill.fitting.descriptor_rows import (
    RowFiles,
    compute_reference_rows,
    compute_rows,
    folder_name,
)
from mixserver.wire.descriptor import SnapDescriptor


def descriptor(**other: object) -> SnapDescriptor:
    values: dict[str, object] = {
        "twojmax": 2,
        "cutoff": 4.7,
        "elements": ("Si",),
        "radii": (0.5,),
        "weights": (1.0,),
    }
    return SnapDescriptor(**{**values, **other})  # type: ignore[arg-type]


def labels(folder: Path, name: str, *, seed: int = 0, cells: int = 1) -> Path:
    """A label file whose energies nobody looks at."""
    frame = silicon(cells, seed=seed)
    n = len(frame)
    group = (np.arange(n) % 2).astype(np.int32)
    s = Structure(name, "hot", frame.topology.numbers, frame.positions, frame.cell, group)
    file = folder / f"{name}.npz"
    LabelledStructure(s, np.zeros(2), np.zeros((2, n, 3)), np.zeros((2, 3, 3))).save(file)
    return file


def expected(d: SnapDescriptor, *, seed: int) -> np.ndarray:
    frame = silicon(1, seed=seed)
    settings = SnapDescriptor(
        twojmax=d.twojmax,
        cutoff=d.cutoff,
        elements=d.elements,
        radii=d.radii,
        weights=d.weights,
        rfac0=d.rfac0,
        rmin0=d.rmin0,
        quadratic=d.quadratic,
        bzero=d.bzero,
    )
    group = (np.arange(8) % 2).astype(np.int32)
    return snap_rows(settings, frame.topology.numbers, frame.positions, frame.cell, group)


async def test_rows_are_made_by_two_programs_and_only_once(tmp_path: Path) -> None:
    files = [labels(tmp_path, f"s{at}", seed=at) for at in range(3)]
    told: list[tuple[int, int]] = []
    rows = await compute_rows(
        descriptor(),
        files,
        tmp_path / "rows",
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[0] == (0, 3)
    assert told[-1] == (3, 3)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    for at in range(3):
        np.testing.assert_allclose(rows(f"s{at}"), expected(descriptor(), seed=at), rtol=SAME)
    made = {file: file.stat().st_mtime_ns for file in rows.folder.glob("*.npy")}
    logs = {file: file.read_bytes() for file in rows.folder.glob("*.log")}
    await compute_rows(descriptor(), files, tmp_path / "rows")
    assert {file: file.stat().st_mtime_ns for file in made} == made
    assert {file: file.read_bytes() for file in logs} == logs


async def test_each_set_of_descriptors_has_its_own_folder(tmp_path: Path) -> None:
    file = labels(tmp_path, "s")
    sets = [descriptor(), descriptor(twojmax=3), descriptor(rfac0=0.9), descriptor(bzero=False)]
    assert len({folder_name(d) for d in sets}) == 4
    assert folder_name(sets[0]).startswith("2J2_4.7_")
    for d in sets[:2]:
        rows = await compute_rows(d, [file], tmp_path / "rows")
        assert rows("s").shape == (2, 1 + 24 + 6, d.columns)
    assert len(list((tmp_path / "rows").iterdir())) == 2


async def test_a_structure_made_anew_under_its_name_has_new_rows(tmp_path: Path) -> None:
    kept = labels(tmp_path, "kept", seed=5)
    file = labels(tmp_path, "s", seed=0)
    rows = await compute_rows(descriptor(), [kept, file], tmp_path / "rows")
    first = (rows.folder / "kept.npy").stat().st_mtime_ns
    labels(tmp_path, "s", seed=1)
    rows = await compute_rows(descriptor(), [kept, file], tmp_path / "rows")
    np.testing.assert_allclose(rows("s"), expected(descriptor(), seed=1), rtol=SAME)
    assert (rows.folder / "kept.npy").stat().st_mtime_ns == first


@pytest.mark.parametrize("damage", [b"{", b'{"s.npy": 3}', None])
async def test_rows_of_nobody_knows_what_are_not_used(damage: bytes | None, tmp_path: Path) -> None:
    file = labels(tmp_path, "s")
    folder = tmp_path / "rows" / folder_name(descriptor())
    folder.mkdir(parents=True)
    np.save(folder / "s.npy", np.zeros((2, 31, 6)))
    if damage is not None:
        (folder / "sources.json").write_bytes(damage)
    rows = await compute_rows(descriptor(), [file], tmp_path / "rows")
    np.testing.assert_allclose(rows("s"), expected(descriptor(), seed=0), rtol=SAME)


async def test_reference_rows_follow_the_files_they_are_of(tmp_path: Path) -> None:
    file = labels(tmp_path, "s")
    stock = bundled_potentials()[0] / "Si_Zuo_JPCA2020.snapcoeff"
    constant = "-5.663990890722773"
    coefficients = tmp_path / "my.snapcoeff"
    coefficients.write_text(stock.read_text())
    (tmp_path / "inner.in").write_text(
        "pair_style snap\npair_coeff * * my.snapcoeff Si_Zuo_JPCA2020.snapparam Si\n"
    )
    commands = tmp_path / "my.in"
    commands.write_text("include inner.in\n")
    before = (await compute_reference_rows(commands, [file], tmp_path / "rows"))("s")
    coefficients.write_text(stock.read_text().replace(constant, "-6.663990890722773"))
    after = (await compute_reference_rows(commands, [file], tmp_path / "rows"))("s")
    np.testing.assert_allclose((after - before)[:, 0, 0], -4.0, atol=1e-9)  # 4 atoms a group
    np.testing.assert_allclose(after[:, 1:], before[:, 1:], atol=1e-9)


async def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    file = labels(tmp_path, "s")
    d = descriptor(elements=("C",))
    with pytest.raises(EvaluationError, match=r"(?s)end of .*s\.npz: there are atoms of Si"):
        await compute_rows(d, [file], tmp_path / "rows")


async def test_a_program_that_is_killed_says_so_and_the_rest_is_made_later(tmp_path: Path) -> None:
    files = [labels(tmp_path, f"s{at}", seed=at, cells=2) for at in range(30)]
    d = descriptor(twojmax=6)
    folder = tmp_path / "rows" / folder_name(d)

    def kill(logs: Sequence[MutableMapping[str, Any]]) -> None:
        while not list(folder.glob("*.npy")):
            time.sleep(0.01)
        pid, _ = [line["pid"] for line in logs if line["event"] == "started"]
        os.kill(pid, signal.SIGKILL)

    with capture_logs() as logs:
        killing = asyncio.create_task(asyncio.to_thread(kill, logs))
        with pytest.raises(EvaluationError, match="killed by signal 9"):
            await compute_rows(d, files, tmp_path / "rows")
        await killing
    whole = list(folder.glob("*.npy"))
    assert 0 < len(whole) < 30
    times = {file: file.stat().st_mtime_ns for file in whole}
    rows = await compute_rows(d, files, tmp_path / "rows")
    assert {file: file.stat().st_mtime_ns for file in whole} == times
    assert all(rows(f"s{at}").shape == (2, 1 + 192 + 6, d.columns) for at in range(30))


def test_damaged_rows_name_the_cure(tmp_path: Path) -> None:
    (tmp_path / "s.npy").write_bytes(b"\x93NUMPY nonsense")
    with pytest.raises(ConfigError, match="delete it"):
        RowFiles(tmp_path)("s")
    with pytest.raises(ConfigError, match="delete it"):
        RowFiles(tmp_path)("other")


async def test_commands_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.in cannot be read"):
        await compute_reference_rows(tmp_path / "none.in", [], tmp_path / "rows")
