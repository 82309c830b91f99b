"""What upstream may send that cannot be answered: `mixserver serve` says so and ends."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from limits import HANG_S

from mixserver.wire.ipi import Send
from mixserver.wire.ipi_server import Client, ClientReady, ForcesReceived

BIN = Path(sys.executable).parent
N, SIDE = 27, 12.0
POSITIONS = np.stack(np.meshgrid(*[np.arange(3) * 4.0] * 3), axis=-1).reshape(-1, 3) + 1.0


class Served:
    """A server with toy workers, and this test as its i-PI."""

    def __init__(self, folder: Path, *prefix: str) -> None:
        rows = "\n".join(f"Ar {x} {y} {z}" for x, y, z in POSITIONS)
        named = "positions{angstrom} cell{angstrom}"
        (folder / "init.xyz").write_text(
            f"{N}\n# CELL(abcABC): {SIDE} {SIDE} {SIDE} 90 90 90 {named}\n{rows}\n"
        )
        door = f"ipc://{folder}/door"
        (folder / "mix.toml").write_text(
            f'[upstream]\naddress = "unix:up"\nstructure = "init.xyz"\n'
            f'sockets_prefix = "{folder}/"\n[models.cheap]\n[workers]\ndoor = "{door}"\n'
        )
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "up"))
        self.listener.listen(4)
        self.listener.settimeout(HANG_S)
        self.server = subprocess.Popen(
            [*prefix, BIN / "mixserver", "serve", folder, "--quiet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.worker = subprocess.Popen(
            [BIN / "mixserver-worker", "toy", "--server", door, "--sigma", "3.4"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.folder = folder
        self.client = Client()
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(HANG_S)
        self.connection.sendall(self.client.greeting())
        self._until(ClientReady)

    def ask(self, positions: np.ndarray, cell: np.ndarray | None = None) -> ForcesReceived:
        self.connection.sendall(
            self.client.request(positions, np.eye(3) * SIDE if cell is None else cell)
        )
        forces = self._until(ForcesReceived)
        self._until(ClientReady)
        return forces

    def _until(self, kind: type) -> ForcesReceived:
        while True:
            n = self.connection.recv_into(self.client.get_buffer())
            if n == 0:
                raise EOFError
            events = self.client.buffer_updated(n)
            for event in events:
                if isinstance(event, Send):
                    self.connection.sendall(event.data)
            found = [event for event in events if isinstance(event, kind)]
            if found:
                return found[0]

    def ended(self) -> str:
        output, _ = self.server.communicate(timeout=HANG_S)
        return output

    def close(self) -> None:
        self.connection.close()
        self.listener.close()
        for process in (self.server, self.worker):
            process.kill()
            process.communicate()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.close()


@pytest.mark.parametrize(
    ("positions", "cell", "said"),
    [
        (np.where(POSITIONS == POSITIONS[5], np.nan, POSITIONS), None, "not finite"),
        (np.where(POSITIONS > 8.0, np.inf, POSITIONS), None, "not finite"),
        (POSITIONS[:-1], None, "i-PI sent 26 atoms but the structure that names them has 27"),
        (POSITIONS, np.diag([12.0, 12.0, 1e-9]), "a cell without a volume"),
        (
            np.vstack([POSITIONS[:1], POSITIONS[:-1]]),
            None,
            "cannot be evaluated: atoms 0 and 1 are 0.0e+00",
        ),
    ],
    ids=["nan", "inf", "too few atoms", "flat cell", "coincident atoms"],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_what_cannot_be_answered_ends_the_server_with_the_reason(
    served: Served, positions: np.ndarray, cell: np.ndarray | None, said: str
) -> None:
    forces = served.ask(POSITIONS)  # a good request is answered
    assert forces.reply.forces.shape == (N, 3)
    assert forces.reply.energy < 0
    with pytest.raises((EOFError, ConnectionError, Exception)):
        served.ask(positions, cell)
    output = served.ended()
    assert served.server.returncode == 1
    assert said in output
    saved = served.folder / "runs/0001/failed.xyz"
    assert saved.exists() == (len(positions) == N)


def test_a_disk_that_is_full_ends_no_server(tmp_path: Path) -> None:
    served = Served(tmp_path, "prlimit", "--fsize=1000")
    try:
        for step in range(12):
            served.ask(POSITIONS + 0.01 * step)
        served.worker.terminate()
        served.worker.wait(HANG_S)
        served.connection.sendall(b"EXIT".ljust(12))
        output = served.ended()
    finally:
        served.close()
    assert served.server.returncode == 0, output
    assert output.count("records cannot be written any more") == 1
    assert output.count("is incomplete") == 1
    assert (tmp_path / "runs/0001/mixserver.jsonl").stat().st_size <= 1000


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        (tmp_path / "init.xyz").write_text(
            "1\n# CELL(abcABC): 9 9 9 90 90 90 positions{angstrom} cell{angstrom}\nAr 0 0 0\n"
        )
        (tmp_path / "mix.toml").write_text(
            '[upstream]\naddress = "unix:up"\nstructure = "init.xyz"\n[models.cheap]\n'
            f'[workers]\ndoor = "tcp://127.0.0.1:{port}"\n'
        )
        done = subprocess.run(
            [BIN / "mixserver", "serve", tmp_path],
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "in use" in done.stderr
