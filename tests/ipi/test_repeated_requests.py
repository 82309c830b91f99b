"""What i-PI asks for again is not evaluated again, against a hand-written i-PI that gives up."""

import asyncio
import os
import threading
import time

import numpy as np
import pytest
from fake_ipi import CELL, POSITIONS, FakeIpi, at_once, play, spring
from limits import HANG_S

from mixserver.core.errors import EvaluationError, NoAnswer, UpstreamError, WorkerFault
from mixserver.ipi.session import Session, repeated_requests


@pytest.fixture
def ipi():
    fake = FakeIpi()
    fake.listen(8)
    yield fake
    fake.close()


class Model:
    """Evaluates when it is let, and remembers what it was asked and what was withdrawn."""

    def __init__(self):
        self.asked, self.withdrawn = [], []
        self.begun = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)
        self.freed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def let(self):
        self._loop.call_soon_threadsafe(self.freed.set)

    async def answer(self, request):
        self.asked.append(request)
        self.begun.release()
        try:
            await self.freed.wait()
        except asyncio.CancelledError:
            self.withdrawn.append(request)
            raise
        finally:
            self.ended.release()
        return spring(request)


def asking(ipi, positions=POSITIONS, cell=CELL, timeout=HANG_S):
    """i-PI sends a request to the next driver that connects."""
    peer = ipi.accept(timeout)
    peer.ready()
    peer.ask(positions, cell=cell)
    return peer


def waits(semaphore):
    assert semaphore.acquire(timeout=HANG_S)


@pytest.mark.parametrize("how", ["exit", "close"], ids=["i-PI drops us", "the connection is lost"])
@pytest.mark.parametrize("when", ["under way", "done meanwhile"])
async def test_what_is_asked_again_is_evaluated_once(ipi, how, when):
    model = Model()

    def scene():
        peer = asking(ipi)
        waits(model.begun)
        getattr(peer, how)()
        if when == "done meanwhile":
            time.sleep(0.1)
            model.let()
            waits(model.ended)
        peer = asking(ipi)
        model.let()
        energy, _, _ = peer.forces(2)
        other, _, _ = peer.force(POSITIONS + 1.0)
        peer.exit()
        return energy, other

    upstream = Session(ipi.address, model.answer)
    energy, other = await play(upstream, scene)
    assert len(model.asked) == 2
    assert not model.withdrawn
    assert energy != other
    assert (upstream.requests, upstream.failures) == (2, 0)


async def test_impatience_that_goes_on_is_answered_in_the_end_and_said_once(ipi, capsys):
    model = Model()

    def scene():
        for _ in range(4):
            peer = asking(ipi)
            time.sleep(0.1)
            peer.exit()
        peer = ipi.accept()  # now the last EXIT was read
        model.let()
        peer.force(POSITIONS)
        peer.exit()

    await play(Session(ipi.address, model.answer), scene)
    assert len(model.asked) == 1
    said = capsys.readouterr().out
    assert said.count("<timeout>") >= 1
    assert said.count("well above the time of the slowest evaluation") == 1


async def test_one_that_failed_unheard_because_another_superseded_it_is_evaluated_anew(ipi, capsys):
    model, began = Model(), []

    async def superseded_once(request):
        began.append(request)
        reply = await model.answer(request)
        if len(began) == 1:
            raise NoAnswer("superseded")
        return reply

    def scene():
        peer = asking(ipi)
        waits(model.begun)
        peer.close()
        time.sleep(0.1)
        model.let()
        waits(model.ended)
        time.sleep(0.1)
        peer = asking(ipi)
        energy, _, _ = peer.forces(2)
        peer.exit()
        return energy

    upstream = Session(ipi.address, superseded_once)
    assert await play(upstream, scene) > 0
    assert len(began) == 2
    assert (upstream.requests, upstream.failures) == (1, 0)
    assert "no longer waits for has failed" in capsys.readouterr().out


async def test_other_positions_withdraw_what_was_left(ipi):
    model = Model()

    def scene():
        peer = asking(ipi)
        waits(model.begun)
        peer.exit()
        peer = asking(ipi, POSITIONS + 1.0)
        waits(model.ended)
        assert [r.positions[0, 0] for r in model.withdrawn] == [0.0]
        model.let()
        energy, _, _ = peer.forces(2)
        peer.exit()
        return energy

    energy = await play(Session(ipi.address, model.answer), scene)
    assert len(model.asked) == 2
    assert energy > 0


async def test_another_cell_is_another_request(ipi):
    model = Model()

    def scene():
        peer = asking(ipi)
        waits(model.begun)
        peer.exit()
        peer = ipi.accept()
        peer.ready()
        peer.ask(POSITIONS, cell=np.diag([9.0, 8.0, 7.5]))
        waits(model.begun)
        model.let()
        peer.forces(2)
        peer.exit()

    await play(Session(ipi.address, model.answer), scene)
    assert len(model.asked) == 2


async def test_another_connection_may_ask_for_it(ipi):
    model = Model()

    def scene():
        one, two = ipi.accept(), ipi.accept()
        one.ready()
        one.ask(POSITIONS)
        waits(model.begun)
        two.ready()
        two.ask(POSITIONS + 1.0)
        waits(model.begun)
        one.exit()
        two.exit()
        # i-PI deals them out in its own order: each connection gets what the other had
        one, two = ipi.accept(), ipi.accept()
        one.ready()
        two.ready()
        two.ask(POSITIONS)
        one.ask(POSITIONS + 1.0)
        model.let()
        first, _, _ = two.forces(2)
        second, _, _ = one.forces(2)
        one.exit()
        two.exit()
        return first, second

    first, second = await play(Session(ipi.address, model.answer, connections=2), scene)
    assert len(model.asked) == 2
    assert not model.withdrawn
    assert first < second


async def test_beads_at_one_place_are_each_evaluated(ipi):
    model = Model()

    def scene():
        one, two = ipi.accept(), ipi.accept()
        for peer in (one, two):
            peer.ready()
            peer.ask(POSITIONS)
            waits(model.begun)
        model.let()
        for peer in (one, two):
            peer.forces(2)
            peer.exit()

    await play(Session(ipi.address, model.answer, connections=2), scene)
    assert len(model.asked) == 2


async def test_of_beads_at_one_place_that_ipi_drops_the_first_begun_goes_on(ipi):
    model = Model()

    def scene():
        one, two = ipi.accept(), ipi.accept()
        for peer in (one, two):
            peer.ready()
            peer.ask(POSITIONS)
            waits(model.begun)
        one.exit()
        waits(model.ended)  # one evaluation is enough for the connection that still waits
        two.exit()
        one, two = ipi.accept(), ipi.accept()
        for peer in (one, two):
            peer.ready()
            peer.ask(POSITIONS)
        waits(model.begun)  # for the second bead
        model.let()
        for peer in (one, two):
            peer.forces(2)
            peer.exit()

    await play(Session(ipi.address, model.answer, connections=2), scene)
    assert len(model.asked) == 3
    assert [request is model.asked[1] for request in model.withdrawn] == [True]


async def test_a_batch_that_is_asked_again_is_evaluated_once(ipi):
    model = Model()
    frames = np.stack([POSITIONS, POSITIONS + 1.0]).reshape(-1, 3)

    def scene():
        for again in (False, True):
            peer = ipi.accept()
            peer.ready(" , batch_size:2")
            peer.ask(frames, slots=2)
            if not again:
                waits(model.begun)
                waits(model.begun)
                peer.exit()
        model.let()
        assert peer.read(12) == b"FORCEREADY  "
        energies = np.frombuffer(peer.read(16))
        peer.read(4 + 2 * 48 + 2 * 72 + 2 * (4 + 2))
        peer.exit()
        return energies

    energies = await play(Session(ipi.address, model.answer), scene)
    assert len(model.asked) == 2
    assert energies[0] < energies[1]


async def test_an_evaluation_beyond_the_longest_wait_goes_on_and_serves_the_next(ipi):
    model = Model()

    def scene():
        peer = asking(ipi)
        assert peer.read(12) == b"ERR:EVALUATE"
        peer.close()
        model.let()
        peer = ipi.accept()
        peer.force(POSITIONS)
        peer.exit()

    upstream = Session(ipi.address, model.answer, force_timeout_s=0.3)
    await play(upstream, scene)
    assert len(model.asked) == 1
    assert upstream.failures == 1


async def test_connections_that_wait_too_long_at_one_time_are_not_failures_in_a_row(ipi):
    """Beads that start at one place, each on a connection of its own, all slow."""
    model, beads = Model(), 6

    def scene():
        for again in (False, True):
            peers = [asking(ipi) for _ in range(beads)]
            for peer in peers:
                if again:
                    peer.forces(2)
                else:
                    assert peer.read(12) == b"ERR:EVALUATE"
            model.let()
            for peer in peers:
                peer.exit() if again else peer.close()

    upstream = Session(ipi.address, model.answer, connections=beads, force_timeout_s=0.5)
    await play(upstream, scene)
    assert len(model.asked) == beads
    assert not model.withdrawn
    assert upstream.failures == beads


async def test_what_took_too_long_ends_if_ipi_does_not_come_back(ipi, monkeypatch):
    monkeypatch.setattr(repeated_requests, "_KEPT_AFTER_TIMEOUT_S", 0.3)
    model = Model()

    def scene():
        peer = asking(ipi)
        assert peer.read(12) == b"ERR:EVALUATE"
        ipi.listener.close()
        peer.close()
        waits(model.ended)

    upstream = Session(ipi.address, model.answer, force_timeout_s=0.3)
    await play(upstream, scene, ends=False)
    assert len(model.withdrawn) == 1


async def test_what_nobody_can_wait_for_ends(ipi):
    """However often i-PI asks again: an evaluation has an end."""
    model = Model()

    def scene():
        while True:
            try:
                peer = asking(ipi, timeout=2)
                time.sleep(0.15)
                peer.exit()
            except (OSError, EOFError):
                return

    upstream = Session(ipi.address, model.answer, force_timeout_s=0.2)
    running = asyncio.create_task(upstream.run())
    there = asyncio.create_task(asyncio.to_thread(scene))
    with pytest.raises(EvaluationError, match="in all, though i-PI repeated") as caught:
        await asyncio.wait_for(running, HANG_S)
    assert not isinstance(caught.value, NoAnswer)
    ipi.close()
    await there
    assert len(model.asked) == 1


async def test_a_failure_that_asking_again_does_not_cure_ends_at_once(ipi):
    async def broken(request):
        raise WorkerFault("out of memory")

    def scene():
        peer = asking(ipi)
        return peer.read(12)

    upstream = Session(ipi.address, broken)
    running = asyncio.create_task(upstream.run())
    told = asyncio.create_task(asyncio.to_thread(scene))
    with pytest.raises(WorkerFault, match="out of memory"):
        await running
    assert await told == b"ERR:WORKER  "
    assert upstream.failures == 1


async def test_an_ipi_that_stays_away_ends_the_session(ipi):
    def scene():
        peer = ipi.accept()
        peer.force(POSITIONS)
        peer.close()
        ipi.listener.close()
        os.unlink(f"/tmp/ipi_{ipi.name}")

    running = asyncio.create_task(Session(ipi.address, at_once, later_contact_s=0.5).run())
    await asyncio.to_thread(scene)
    with pytest.raises(UpstreamError, match="later_contact_s"):
        await asyncio.wait_for(running, HANG_S)


async def test_an_ipi_that_thinks_long_or_comes_back_is_waited_for(ipi):
    def scene():
        for _ in range(2):
            peer = ipi.accept()
            peer.force(POSITIONS)
            time.sleep(1.0)  # it thinks, connected
            peer.force(POSITIONS)
            if _ == 0:
                peer.close()
        peer.exit()

    upstream = Session(ipi.address, at_once, later_contact_s=0.6)
    await play(upstream, scene)
    assert upstream.requests == 4
