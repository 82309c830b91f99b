"""The i-PI codec, against bytes written down by hand from the protocol's description."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ipi.interfaces.utils import parse_extra
from ipi.utils.units import unit_to_internal

from mixserver.core import units
from mixserver.core.errors import (
    BadInput,
    ConfigError,
    EvaluationError,
    NoWorkerError,
    ProtocolError,
    UpstreamError,
    WorkerFault,
)
from mixserver.wire.address import parse_address
from mixserver.wire.ipi import Reply, Send
from mixserver.wire.ipi_driver import SEGMENTS, AttachMemory, Driver, ExitReceived, RequestsReceived
from mixserver.wire.ipi_reply import check_reply, error_header
from mixserver.wire.ipi_server import Client, ClientReady, ForcesReceived, ipi_virial

ROUND_TRIP = 1e-12

STATUS, GETFORCE = b"STATUS      ", b"GETFORCE    "
READY, NEEDINIT, HAVEDATA = b"READY       ", b"NEEDINIT    ", b"HAVEDATA    "
CELL = np.array([[5.0, 0.0, 0.0], [1.1, 4.6, 0.0], [-0.7, 0.9, 5.3]])

numbers = st.floats(-1e4, 1e4, allow_subnormal=False)
atoms = st.integers(1, 6)


def bohr(array):
    return np.asarray(array) * 1.8897261


def init(rid=0, text=" "):
    return b"INIT        " + struct.pack("<ii", rid, len(text)) + text.encode()


def wire_cell(cell):
    """ax bx cx ay by cy az bz cz, then the inverse."""
    columns = bohr(cell).T
    return columns.tobytes() + np.linalg.inv(columns).tobytes()


def posdata(positions, cell=CELL):
    return (
        b"POSDATA     "
        + wire_cell(cell)
        + struct.pack("<i", len(positions))
        + bohr(positions).tobytes()
    )


def batch(frames, cell=CELL):
    data = b"POSDATA     " + struct.pack("<i", len(frames[0])) + wire_cell(cell) * len(frames)
    return data + b"".join(bohr(frame).tobytes() for frame in frames)


def said(events):
    return b"".join(bytes(event.data) for event in events if isinstance(event, Send))


def asked(events):
    return [
        request
        for event in events
        if isinstance(event, RequestsReceived)
        for request in event.requests
    ]


def reply(n, seed=0, extras=""):
    random = np.random.default_rng(seed)
    virial = random.normal(size=(3, 3))
    return Reply(
        float(random.normal()), random.normal(size=(n, 3)), (virial + virial.T) / 2, extras
    )


def ready_driver(text=" ", **settings_):
    driver = Driver(**settings_)
    assert said(driver.feed(STATUS)) == NEEDINIT
    assert said(driver.feed(init(7, text) + STATUS)) == READY
    return driver


def unpack(data, n, slots=1):
    """What i-PI reads: header, energies, count, forces, virials, extras (atomic units)."""
    data = bytes(data)
    assert data[:12] == b"FORCEREADY  "
    energies = np.frombuffer(data, "<f8", slots, 12)
    at = 12 + 8 * slots
    assert struct.unpack_from("<i", data, at) == (n,)
    forces = np.frombuffer(data, "<f8", 3 * n * slots, at + 4).reshape(slots, n, 3)
    at += 4 + 24 * n * slots
    virials = np.frombuffer(data, "<f8", 9 * slots, at).reshape(slots, 3, 3)
    at += 72 * slots
    extras = []
    for _ in range(slots):
        (length,) = struct.unpack_from("<i", data, at)
        extras.append(data[at + 4 : at + 4 + length].decode())
        at += 4 + length
    assert at == len(data)
    return energies, forces, virials, extras


# --- values and units ---------------------------------------------------------------------------


def test_the_constants_are_the_ones_of_the_installed_ipi():
    assert unit_to_internal("length", "angstrom", 1.0) == units.ANGSTROM
    assert unit_to_internal("energy", "electronvolt", 1.0) == units.ELECTRONVOLT


def test_a_request_is_in_angstrom_and_its_cell_in_rows():
    positions = np.arange(6.0).reshape(2, 3)
    (request,) = asked(ready_driver().feed(posdata(positions)))
    np.testing.assert_allclose(request.positions, positions, rtol=ROUND_TRIP, atol=ROUND_TRIP)
    np.testing.assert_allclose(request.cell, CELL, rtol=ROUND_TRIP, atol=ROUND_TRIP)
    assert request.cell.flags.c_contiguous


def test_a_reply_is_in_hartree_and_all_nine_numbers_of_its_virial_are_transposed():
    driver = ready_driver()
    driver.feed(posdata(np.zeros((2, 3))) + GETFORCE)
    lopsided = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    checked = check_reply(Reply(1.5, np.ones((2, 3)), lopsided, "text"), 2)
    energies, forces, virials, extras = unpack(said(driver.answer([checked])), 2)
    assert energies[0] == 1.5 * 0.036749326
    np.testing.assert_allclose(forces[0], 0.036749326 / 1.8897261, rtol=ROUND_TRIP)
    np.testing.assert_allclose(virials[0] / 0.036749326, lopsided.T)
    assert extras == ["text"]


# --- any chunking, any exchange -----------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    n=atoms,
    slots=st.integers(1, 3),
    consolidated=st.booleans(),
    extras=st.text(max_size=8),
)
def test_any_chunking_reads_and_answers_the_same(data, n, slots, consolidated, extras):
    frames = [data.draw(hnp.arrays(np.float64, (n, 3), elements=numbers)) for _ in range(slots)]
    text = " a : 1 , " + (f", batch_size:{slots}" if slots > 1 else "")
    body = posdata(frames[0]) if slots == 1 else batch(frames)
    stream = STATUS + init(3, text) + STATUS + body + (GETFORCE if consolidated else STATUS)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    driver, events = Driver(), []
    for low, high in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += driver.feed(stream[low:high])
    assert said(events) == NEEDINIT + READY
    requests = asked(events)
    assert [request.slot for request in requests] == list(range(slots))
    for request, frame in zip(requests, frames, strict=True):
        np.testing.assert_allclose(request.positions, frame, rtol=ROUND_TRIP, atol=ROUND_TRIP)
        assert request.parameters.startswith("a : 1 ,")

    replies = [reply(n, seed, extras) for seed in range(slots)]
    out = said(driver.answer(replies))
    if not consolidated:
        assert out == HAVEDATA
        out = said(driver.feed(GETFORCE))
    energies, forces, virials, texts = unpack(out, n, slots)
    for slot, sent in enumerate(replies):
        np.testing.assert_allclose(energies[slot] / units.ELECTRONVOLT, sent.energy, ROUND_TRIP)
        np.testing.assert_allclose(forces[slot] / units.EV_PER_ANGSTROM, sent.forces, ROUND_TRIP)
        np.testing.assert_allclose(virials[slot] / units.ELECTRONVOLT, sent.virial, ROUND_TRIP)
    assert texts == [extras] * slots
    assert said(driver.feed(STATUS)) == READY
    assert not driver.busy


@pytest.mark.parametrize("most", [1, 1000, 1 << 20])
@pytest.mark.parametrize("n", [2, 2700, 5000])  # less and more than is read at once
def test_bytes_may_be_put_where_the_driver_wants_them(n, most):
    positions = np.random.default_rng(0).normal(size=(n, 3))
    stream = STATUS + init() + STATUS + posdata(positions) + GETFORCE
    driver, events, calls = Driver(), [], 0
    while stream:
        place = driver.get_buffer()
        taken = min(len(place), len(stream), most)
        place[:taken], stream = stream[:taken], stream[taken:]
        events += driver.buffer_updated(taken)
        calls += 1
    (request,) = asked(events)
    np.testing.assert_allclose(request.positions, positions, rtol=ROUND_TRIP, atol=ROUND_TRIP)
    assert said(driver.answer([reply(n)]))[:12] == b"FORCEREADY  "
    if n == 2 and most == 1 << 20:
        assert calls == 1


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=atoms, needinit=st.booleans(), extras=st.text(max_size=8))
def test_what_the_server_side_asks_the_driver_side_reads(data, n, needinit, extras):
    client, driver = Client(), Driver()
    if not needinit:
        driver.feed(init())
    positions = data.draw(hnp.arrays(np.float64, (n, 3), elements=numbers))
    events = client.feed(said(driver.feed(client.greeting())))
    while (text := said(events)) and not any(isinstance(event, ClientReady) for event in events):
        events = client.feed(said(driver.feed(text)))
    assert any(isinstance(event, ClientReady) for event in events)
    (request,) = asked(driver.feed(client.request(positions, CELL)))
    np.testing.assert_allclose(request.positions, positions, rtol=ROUND_TRIP, atol=ROUND_TRIP)
    np.testing.assert_allclose(request.cell, CELL, rtol=ROUND_TRIP, atol=ROUND_TRIP)
    sent = reply(n, 1, extras)
    stream = said(driver.answer([sent]))
    cut = data.draw(st.integers(0, len(stream)))
    events = client.feed(stream[:cut]) + client.feed(stream[cut:])
    (forces,) = [event.reply for event in events if isinstance(event, ForcesReceived)]
    np.testing.assert_allclose(forces.energy, sent.energy, rtol=ROUND_TRIP)
    np.testing.assert_allclose(forces.forces, sent.forces, rtol=ROUND_TRIP, atol=ROUND_TRIP)
    np.testing.assert_allclose(forces.virial, sent.virial, rtol=ROUND_TRIP, atol=ROUND_TRIP)
    assert forces.extras == extras.replace("\0", "")
    assert any(
        isinstance(event, ClientReady) for event in client.feed(said(driver.feed(said(events))))
    )


def test_an_answer_given_before_getforce_waits_for_it():
    driver = ready_driver()
    driver.feed(posdata(np.zeros((1, 3))))
    assert driver.answer([reply(1)]) == []
    assert said(driver.feed(STATUS)) == HAVEDATA
    assert said(driver.feed(GETFORCE))[:12] == b"FORCEREADY  "


def test_a_status_while_computing_is_answered_once_the_forces_are_there():
    driver = ready_driver()
    driver.feed(posdata(np.zeros((1, 3))))
    assert driver.feed(STATUS) == []
    assert said(driver.answer([reply(1)])) == HAVEDATA


def test_announced_beads_are_named_before_every_request():
    driver = Driver(announce_beads=True)
    for bead in (3, 0, 11):
        assert said(driver.feed(STATUS)) == NEEDINIT
        assert said(driver.feed(init(bead) + STATUS)) == READY
        (request,) = asked(driver.feed(posdata(np.zeros((1, 3))) + GETFORCE))
        assert request.bead == bead
        driver.answer([reply(1)])


@pytest.mark.parametrize("settings_", [{}, {"announce_beads": True}])
def test_no_bead_is_named_where_ipi_does_not_say_it(settings_):
    text = " , batch_size:2" if settings_ else " "
    driver = ready_driver(text, **settings_)
    frames = [np.zeros((1, 3)), np.ones((1, 3))]
    data = batch(frames) if settings_ else posdata(frames[0])
    assert {request.bead for request in asked(driver.feed(data))} == {None}


def test_an_exit_says_whether_forces_were_awaited():
    driver = ready_driver()
    assert driver.feed(b"EXIT        ") == [ExitReceived(busy=False)]
    driver.feed(posdata(np.zeros((1, 3))) + GETFORCE)
    assert driver.feed(b"EXIT        ") == [ExitReceived(busy=True)]


# --- shared memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 3])
def test_shared_memory_is_recognised_and_used(slots):
    n = 2
    driver = ready_driver(f" , batch_size:{slots}" if slots > 1 else " ")
    names = [f"ipi_shm_77_5_{kind}" for kind in SEGMENTS]
    announced = b"".join(struct.pack("<i", len(name)) + name.encode() for name in names)
    (attach,) = driver.feed(b"POSDATA     " + struct.pack("<i", n) + announced)
    assert attach == AttachMemory(tuple(names))
    shapes = [(slots, n, 3), (slots, 3, 3), (slots, 3, 3), (slots,), (slots, n, 3), (slots, 3, 3)]
    pos, h, _, pot, force, vir = arrays = [np.zeros(shape) for shape in shapes]
    frames = np.random.default_rng(0).normal(size=(slots, n, 3))
    pos[:], h[:] = bohr(frames), bohr(CELL).T
    requests = asked(driver.attached([array.data.cast("B") for array in arrays]))
    for _ in range(2):
        for request, frame in zip(requests, frames, strict=True):
            np.testing.assert_allclose(request.positions, frame, rtol=ROUND_TRIP, atol=ROUND_TRIP)
            np.testing.assert_allclose(request.cell, CELL, rtol=ROUND_TRIP, atol=ROUND_TRIP)
        driver.feed(GETFORCE)
        replies = [reply(n, seed, "{}") for seed in range(slots)]
        data = said(driver.answer(replies))
        assert data == b"FORCEREADY  " + (struct.pack("<i", 2) + b"{}") * slots
        for slot, sent in enumerate(replies):
            assert pot[slot] == sent.energy * units.ELECTRONVOLT
            np.testing.assert_allclose(force[slot], sent.forces * units.EV_PER_ANGSTROM, ROUND_TRIP)
            np.testing.assert_allclose(vir[slot], sent.virial * units.ELECTRONVOLT, ROUND_TRIP)
        kept = requests[0].positions.copy()
        frames = frames + 1.0
        pos[:] = bohr(frames)
        np.testing.assert_array_equal(requests[0].positions, kept)  # a copy, not i-PI's memory
        assert said(driver.feed(STATUS)) == READY
        requests = asked(driver.feed(b"POSDATA     " + struct.pack("<i", n)))


def test_shared_memory_that_is_too_small_is_refused():
    driver = ready_driver()
    names = [f"ipi_shm_77_5_{kind}" for kind in SEGMENTS]
    announced = b"".join(struct.pack("<i", len(name)) + name.encode() for name in names)
    driver.feed(b"POSDATA     " + struct.pack("<i", 2) + announced)
    with pytest.raises(ProtocolError, match="'pos' must hold"):
        driver.attached([memoryview(bytearray(40))] * 6)


# --- what ends badly ----------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([STATUS, GETFORCE, b"EXIT        ", b"INIT        ", b"POSDATA     "]),
            st.binary(max_size=40),
            st.binary(min_size=4, max_size=4),
            st.just(struct.pack("<i", 1)),
        ),
        max_size=12,
    )
)
def test_garbage_is_refused_with_the_documented_error(chunks):
    for machine in (Driver(), Client()):
        try:
            for chunk in chunks:
                machine.feed(chunk)
        except ProtocolError:
            with pytest.raises(ProtocolError):
                machine.get_buffer()


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"GET / HTTP/1", "is it really i-PI"),
        (GETFORCE, "without POSDATA"),
        (posdata(np.zeros((1, 3))) * 2, "before the last one was answered"),
        (b"POSDATA     " + bytes(144) + struct.pack("<i", -1), "-1 atoms"),
        (b"POSDATA     " + bytes(144) + struct.pack("<i", 1 << 30), "atoms"),
        (b"INIT        " + struct.pack("<ii", 0, -5), "length of INIT's parameters"),
        (b"INIT        " + struct.pack("<ii", 0, 1) + b"\xff", "must be UTF-8"),
        (init(0, "batch_size:0"), "batch_size must be"),
        (init(0, "batch_size:x"), "batch_size must be"),
    ],
)
def test_a_broken_stream_says_what_is_wrong(stream, message):
    with pytest.raises(ProtocolError, match=message):
        Driver().feed(stream)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"HTTP/1.1 400", "expected READY"),
        (READY + b"FORCEREADY  ", "without a request"),
    ],
)
def test_a_client_that_is_none_is_refused(stream, message):
    with pytest.raises(ProtocolError, match=message):
        Client().feed(stream)


def test_a_client_with_other_atoms_is_refused():
    client = Client()
    client.feed(READY)
    client.request(np.zeros((2, 3)), CELL)
    with pytest.raises(ProtocolError, match="an i-PI client got 2 atoms"):
        client.feed(b"FORCEREADY  " + bytes(8) + struct.pack("<i", 3))


def test_all_nine_numbers_of_a_clients_virial_come_in_and_its_upper_triangle_counts_as_in_ipi():
    client = Client()
    client.feed(READY)
    client.request(np.zeros((1, 3)), CELL)
    wire = np.array([[1.0, 2.0, 3.0], [7.0, 4.0, 5.0], [8.0, 9.0, 6.0]])
    stream = (
        b"FORCEREADY  " + bytes(8) + struct.pack("<i", 1) + bytes(24) + wire.tobytes() + bytes(4)
    )
    forces, _ = client.feed(stream)
    np.testing.assert_allclose(forces.reply.virial, wire.T * units.HARTREE, rtol=ROUND_TRIP)
    expected = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]]) * units.HARTREE
    np.testing.assert_allclose(ipi_virial(forces.reply.virial), expected, rtol=ROUND_TRIP)


def test_what_a_client_says_of_its_virial_reaches_ipi_as_it_came():
    wire = np.random.default_rng(4).normal(size=(3, 3))
    client, driver = Client(), ready_driver()
    client.feed(READY)
    client.request(np.zeros((2, 3)), CELL)
    stream = b"FORCEREADY  " + bytes(8) + struct.pack("<i", 2) + bytes(48)
    forces, _ = client.feed(stream + wire.tobytes() + bytes(4))
    driver.feed(posdata(np.zeros((2, 3))) + GETFORCE)
    _, _, virials, _ = unpack(said(driver.answer([check_reply(forces.reply, 2)])), 2)
    np.testing.assert_allclose(virials[0], wire, rtol=ROUND_TRIP)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": float("nan")}, "energy"),
        ({"forces": np.zeros((3, 3))}, "one row per atom of its request"),
        ({"forces": np.array([[0.0, 0.0, 0.0], [0.0, np.inf, 0.0]])}, r"not finite \(atom 1\)"),
        ({"virial": np.full((3, 3), np.nan)}, "virial"),
        ({"virial": np.zeros(6)}, r"must be \(3, 3\)"),
        ({"extras": "[1, 2]"}, "JSON object"),
        ({"extras": "3"}, "JSON object"),
        ({"extras": "NaN"}, "JSON object"),
        ({"extras": '{"raw": NaN}'}, "raw"),
        ({"extras": '"raw"'}, "JSON object"),
        ({"extras": "null"}, "JSON object"),
        ({"extras": '{"raw": 1}'}, '"raw"'),
        ({"extras": "\ud800"}, "UTF-8"),
        ({"extras": " " * (1 << 24) + "x"}, "bytes"),
    ],
)
def test_what_would_kill_ipis_polling_thread_is_refused(change, message):
    values = {"energy": 0.0, "forces": np.zeros((2, 3)), "virial": np.zeros((3, 3)), **change}
    with pytest.raises(EvaluationError, match=message):
        check_reply(Reply(**values), 2)


json_like = st.one_of(
    st.text(max_size=20),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["raw", "dipole", "a"]), inner, max_size=3)
        ),
        max_leaves=5,
    ).map(json.dumps),
)


@settings(max_examples=300)
@given(json_like)
def test_extras_are_let_through_exactly_if_ipis_own_parser_takes_them(text):
    try:
        parse_extra(text)
        harmless = True
    except (ValueError, TypeError):
        harmless = False
    try:
        check_reply(Reply(0.0, np.zeros((1, 3)), np.zeros((3, 3)), text), 1)
        passed = True
    except EvaluationError:
        passed = False
    assert passed == harmless


def test_a_refusal_is_one_header_where_ipi_waits_for_forceready():
    driver = ready_driver()
    driver.feed(posdata(np.zeros((2, 3))) + GETFORCE)
    told = bytes(driver.refuse(NoWorkerError("nobody")))
    assert told[:12] == b"ERR:NOWORKER"
    # consolidated and alone: i-PI looks at the header only when a whole answer has come
    assert len(told) == 12 + 8 + 4 + 2 * 24 + 72 + 4
    assert not told[12:].strip(b"\0")

    plain = ready_driver()
    plain.feed(posdata(np.zeros((2, 3))) + STATUS)
    assert plain.refuse(NoWorkerError("nobody")) == b""

    two = ready_driver(" , batch_size:2")
    two.feed(batch([np.zeros((1, 3))] * 2) + GETFORCE)
    assert two.refuse(NoWorkerError("nobody")) == b"ERR:NOWORKER"


def test_every_kind_of_failure_has_its_own_header():
    kinds = (BadInput, WorkerFault, NoWorkerError, UpstreamError, EvaluationError, ConfigError)
    headers = [error_header(kind("x")) for kind in kinds]
    assert len(set(headers)) == len(kinds)
    assert {len(header) for header in headers} == {12}


# --- addresses ----------------------------------------------------------------------------------


def test_addresses_are_read_as_ipi_writes_them():
    assert parse_address("unix:si").path == "/tmp/ipi_si"
    assert parse_address("unix:si", sockets_prefix="/run/x_").path == "/run/x_si"
    assert str(parse_address("unix:/var/tmp/si")) == "/var/tmp/si"
    assert (parse_address("box:31415").host, parse_address("box:31415").port) == ("box", 31415)
    assert str(parse_address("[::1]:7")) == "[::1]:7"


@pytest.mark.parametrize(
    "text", ["", "unix", "unix:", "unix:a/b", "host", "host:", ":1", "h:65536", "h:-1", "h:1e3"]
)
def test_a_malformed_address_is_the_users_to_cure(text):
    with pytest.raises(ConfigError, match="expected unix:NAME"):
        parse_address(text)


def test_a_path_no_unix_socket_can_have_is_refused():
    with pytest.raises(ConfigError, match="107"):
        parse_address("unix:" + "x" * 120)
