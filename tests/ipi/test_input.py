"""What an i-PI input says is found; what it lacks is said."""

from pathlib import Path

import pytest

from mixserver.core.errors import ConfigError
from mixserver.ipi.input import read_input
from mixserver.ipi.output import PropertiesTail

INPUTS = Path(__file__).parents[2] / "inputs"


def test_the_silicon_input_is_understood() -> None:
    ipi = read_input(INPUTS / "silicon_vacancy/input.xml")
    assert [s.as_upstream for s in ipi.sockets] == ["unix:silicon_vacancy"]
    assert ipi.total_steps == 200
    assert ipi.ensembles == ("nvt",)
    assert ipi.beads == 1
    assert (ipi.prefix, ipi.properties) == ("simulation", "out")
    (source,) = ipi.systems[0].sources
    assert source.file == INPUTS / "silicon_vacancy/init.xyz"


def test_an_inet_socket_is_host_and_port(tmp_path: Path) -> None:
    file = tmp_path / "input.xml"
    file.write_text(
        "<simulation><ffsocket name='a' mode='inet'><address> 0.0.0.0 </address>"
        "<port> 31415 </port></ffsocket></simulation>"
    )
    ipi = read_input(file)
    assert ipi.sockets[0].as_upstream == "0.0.0.0:31415"
    assert ipi.properties == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [("<simulation>", "not valid XML"), ("<simulation/>", "no <ffsocket>")],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "input.xml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_input(tmp_path / "input.xml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("<total_steps> 1e3 </total_steps>", "<total_steps> must be a whole number.* got '1e3'"),
        ("<system><initialize nbeads='x'/></system>", "initialize nbeads must .* got 'x'"),
        ("<ffsocket><port> http </port></ffsocket>", "<port> must .* got 'http'"),
        ("<ffsocket><batch_size> two </batch_size></ffsocket>", "<batch_size> must .* got 'two'"),
    ],
)
def test_what_is_no_number_is_said_with_its_tag_and_file(
    tmp_path: Path, change: str, said: str
) -> None:
    (tmp_path / "input.xml").write_text(f"<simulation>{change}<ffsocket/></simulation>")
    with pytest.raises(ConfigError, match=f"input.xml: {said}"):
        read_input(tmp_path / "input.xml")


def test_a_restart_has_its_beads_and_forces(tmp_path: Path) -> None:
    file = tmp_path / "RESTART"
    file.write_text(
        "<simulation><ffsocket name='a'><batch_size>2</batch_size>"
        "<activelist> [ 0, 2 ] </activelist></ffsocket><system>"
        "<forces><force forcefield='a'/><force forcefield='b' nbeads='1'/></forces>"
        "<beads natoms='3' nbeads='4'><names shape='(3)'>\n [ W, He,\n  W ]\n</names></beads>"
        "</system></simulation>"
    )
    (system,) = read_input(file).systems
    assert system.beads == 4
    assert system.forces == (("a", 4), ("b", 1))
    (socket,) = read_input(file).sockets
    assert (socket.batch_size, socket.active) == (2, (0, 2))


def test_a_missing_input_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_input(tmp_path / "input.xml")


def test_the_tail_reads_the_newest_complete_line(tmp_path: Path) -> None:
    file = tmp_path / "simulation.out"
    tail = PropertiesTail(file)
    assert tail.last() == {}
    file.write_text(
        "# column   1     --> step : The current simulation time step.\n"
        "# column   2     --> temperature{kelvin} : The current temperature.\n"
        "  0.0e+00  6.0e+02\n  1.0e+00  5.9e+02\n  2.0e+0"
    )
    assert tail.last() == {"step": 1.0, "temperature": 590.0}
    with file.open("a") as more:
        more.write("0  5.8e+02\n")
    assert tail.last() == {"step": 2.0, "temperature": 580.0}


def test_a_header_that_is_half_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "simulation.out"
    first = "# column   1     --> step : The current simulation time step.\n"
    second = "# column   2     --> temperature{kelvin} : The current temperature.\n"
    tail = PropertiesTail(file)
    for written in ("", first, first + second[:40], first + second, first + second + "  0.0e+00"):
        file.write_text(written)
        assert tail.last() == {}
        assert tail.new() == []
    file.write_text(first + second + "  0.0e+00  6.0e+02\n")
    assert tail.last() == {"step": 0.0, "temperature": 600.0}
    assert tail.new() == [{"step": 0.0, "temperature": 600.0}]
