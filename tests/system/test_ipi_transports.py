"""Real i-PI 3.3 over every transport and exchange it has, and ASE's SocketIOCalculator."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.socketio import SocketIOCalculator
from ase.units import GPa
from ipi.utils.units import unit_to_internal
from ipi_cases import CELL, Ipi, harmonic, start, unique
from limits import HANG_S

from mixserver.core.errors import NoAnswer
from mixserver.core.units import ANGSTROM, ELECTRONVOLT
from mixserver.ipi.session import Session
from mixserver.wire.ipi import Reply, Request

PRINTED = 2e-5
"""i-PI prints frames with six digits."""
PRINTED_PROPERTY = 2e-8
"""and properties with nine."""
CONSTANTS = 1e-6
"""ASE's bohr and hartree against i-PI's (eV/Å)."""

LEGACY = "<consolidate_messages>False</consolidate_messages>"
EXCHANGES = {"consolidated": "", "legacy": LEGACY, "batch": "<batch_size>3</batch_size>"}


class Answers:
    """Answers harmonically and keeps what was asked."""

    def __init__(self):
        self.requests: list[Request] = []
        self.many = asyncio.Event()

    async def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        if len(self.requests) == 40:
            self.many.set()
        return harmonic(request)


@pytest.fixture
def case(tmp_path):
    made = []

    def make(**settings):
        made.append(Ipi(tmp_path, **settings))
        return made[-1]

    yield make
    for ipi in made:
        ipi.kill()


async def drive(ipi, upstream):
    """Run i-PI to its end; its EXIT must end the session too."""
    ipi.launch()
    running = asyncio.create_task(upstream.run())
    try:
        code = await ipi.wait()
        assert code == 0, ipi.log[-3000:]
        await asyncio.wait_for(running, 5)
    finally:
        upstream.stop()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("mode", ["unix", "inet", "shm"])
async def test_every_transport_gives_the_analytic_forces_in_a_tilted_cell(case, mode, exchange):
    beads = 4 if exchange == "batch" else 1
    ipi = case(mode=mode, beads=beads, steps=3, socket=EXCHANGES[exchange])
    answers = Answers()
    await drive(ipi, Session(ipi.address, answers))

    first = answers.requests[0]
    np.testing.assert_allclose(first.positions, start(), atol=1e-9)
    np.testing.assert_allclose(first.cell, CELL, atol=1e-8)
    assert np.isfinite([harmonic(r).energy for r in answers.requests]).all()

    exact = harmonic(Request(start(), CELL))
    forces = next(ipi.frames("for"))
    np.testing.assert_allclose(forces, exact.forces, rtol=PRINTED, atol=1e-6)
    step, potential, *virial, conserved = ipi.properties()[:, :9].T
    assert list(step) == [0, 1, 2, 3]
    np.testing.assert_allclose(potential[0], exact.energy, rtol=PRINTED_PROPERTY)
    # i-PI scales the virial of P beads by P, and prints xx yy zz xy xz yz
    # in eV/Å³ of its own, which are not quite its eV over its Å cubed
    unit = ELECTRONVOLT / ANGSTROM**3 / unit_to_internal("pressure", "ev/ang3", 1.0)
    w = exact.virial / abs(np.linalg.det(CELL)) * beads * unit
    expected = [w[0, 0], w[1, 1], w[2, 2], w[0, 1], w[0, 2], w[1, 2]]
    np.testing.assert_allclose([column[0] for column in virial], expected, rtol=PRINTED_PROPERTY)
    assert np.ptp(conserved) < 1e-4
    for at, reported in enumerate(ipi.frames("for")):
        placed = list(ipi.frames("pos"))[at]
        np.testing.assert_allclose(reported, harmonic(Request(placed, CELL)).forces, atol=5e-4)


@pytest.mark.parametrize(
    ("mode", "socket"),
    [("unix", ""), ("unix", LEGACY), ("inet", "<batch_size>2</batch_size>"), ("shm", "")],
    ids=["consolidated", "legacy", "batch", "shm"],
)
async def test_ipi_repeats_a_request_that_timed_out(case, mode, socket):
    ipi = case(mode=mode, beads=2, steps=3, socket=socket)
    count = 0

    async def once_late(request):
        nonlocal count
        count += 1
        if count == 4:
            raise NoAnswer("slow")
        return harmonic(request)

    upstream = Session(ipi.address, once_late)
    await drive(ipi, upstream)
    assert upstream.failures == 1
    assert np.isfinite(ipi.properties()).all()
    if socket != LEGACY:
        assert "Unexpected getforce reply: b'ERR:EVALUATE'" in ipi.log
    assert len(ipi.log) < 20_000  # in the plain exchange i-PI can fall into printing for ever


async def test_beads_are_announced_and_each_is_where_it_was(case):
    ipi = case(beads=4, steps=6)
    answers = Answers()
    await drive(ipi, Session(ipi.address, answers, announce_beads=True))
    rounds = np.array([request.bead for request in answers.requests]).reshape(-1, 4)
    assert (np.sort(rounds, axis=1) == np.arange(4)).all()
    last = {}
    for request in answers.requests:
        if request.bead in last:
            assert np.abs(request.positions - last[request.bead]).max() < 0.05
        last[request.bead] = request.positions
    spread = np.ptp([last[bead] for bead in range(4)], axis=0).max()
    assert spread > 1e-3  # they are different beads


@pytest.mark.parametrize("mode", ["unix", "inet"])
async def test_several_connections_share_the_beads(case, mode):
    ipi = case(mode=mode, beads=4, steps=3)
    running, most = 0, 0

    async def slow(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return harmonic(request)

    upstream = Session(ipi.address, slow, connections=2)
    await drive(ipi, upstream)
    assert upstream.requests == 4 * 4
    assert most == 2


async def test_constant_pressure_conserves_what_it_should_in_a_flexible_cell(case):
    ipi = case(ensemble="npt", steps=40)
    answers = Answers()
    await drive(ipi, Session(ipi.address, answers))
    cells = np.array([request.cell for request in answers.requests])
    assert np.ptp(cells, axis=0).max() > 1e-3  # it does move
    conserved = ipi.properties()[:, 8]
    assert np.ptp(conserved) < 2e-3


@pytest.mark.parametrize("mode", ["unix", "shm"])
async def test_ipi_killed_and_restarted_finds_us_waiting(case, mode):
    ipi = case(mode=mode, steps=200)
    answers, killed = Answers(), asyncio.Event()

    async def answer(request):
        reply = await answers(request)
        if answers.many.is_set():
            await killed.wait()  # while it waits i-PI writes nothing: its checkpoint is whole
        return reply

    upstream = Session(ipi.address, answer)
    running = asyncio.create_task(upstream.run())
    try:
        ipi.launch()
        async with asyncio.timeout(HANG_S):
            await answers.many.wait()
        ipi.kill()
        killed.set()
        before = len(answers.requests)
        ipi.launch("simulation.chk")
        assert await ipi.wait() == 0, ipi.log[-3000:]
        await asyncio.wait_for(running, 5)
    finally:
        upstream.stop()
        await asyncio.gather(running, return_exceptions=True)
    assert len(answers.requests) > before
    assert ipi.properties()[-1, 0] == 200


async def test_extras_arrive_as_ipi_understands_them(case):
    ipi = case(steps=2)
    answers = Answers()
    ipi.write()
    text = (ipi.folder / "input.xml").read_text()
    (ipi.folder / "input.xml").write_text(
        text.replace(
            "</output>",
            "<trajectory filename='away' stride='1' extra_type='away'>extras</trajectory></output>",
        )
    )
    ipi.launch_written()
    upstream = Session(ipi.address, answers)
    await asyncio.wait_for(upstream.run(), 30)
    assert await ipi.wait() == 0
    lines = (Path(ipi.folder) / "simulation.away_0").read_text().split("\n")
    values = [float(line) for line in lines if line.strip() and "#" not in line]
    sent = [json.loads(harmonic(request).extras)["away"] for request in answers.requests]
    np.testing.assert_allclose(values, sent, rtol=1e-6)


@pytest.mark.parametrize("kind", ["unix", "inet"])
async def test_ases_socket_calculator_gets_energy_forces_and_stress(kind):
    ipi = Ipi(Path("unused"))
    name = unique("ase")
    address = f"unix:{name}" if kind == "unix" else f"localhost:{ipi.port}"
    where = {"unixsocket": name} if kind == "unix" else {"port": ipi.port}

    def use():
        atoms = Atoms("Si4", positions=start(), cell=CELL, pbc=True)
        found = []
        with SocketIOCalculator(**where, timeout=HANG_S) as calculator:
            atoms.calc = calculator
            for _ in range(3):
                atoms.rattle(0.02, rng=np.random.default_rng(1))
                atoms.set_cell(atoms.cell[:] * 1.01, scale_atoms=True)
                expected = harmonic(Request(atoms.positions.copy(), atoms.cell[:].copy()))
                found.append((atoms.get_potential_energy(), expected.energy))
                np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=CONSTANTS)
                stress = -expected.virial / atoms.get_volume()
                np.testing.assert_allclose(
                    atoms.get_stress(voigt=False) / GPa, stress / GPa, atol=CONSTANTS
                )
        return np.array(found)

    upstream = Session(address, Answers())
    running = asyncio.create_task(upstream.run())
    try:
        found = await asyncio.to_thread(use)
    finally:
        upstream.stop()
        await running
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=CONSTANTS)
    assert upstream.requests == 3
