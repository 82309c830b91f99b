"""i-PI's own regression tests and examples, with mixserver between i-PI and its drivers.

    IPI_SOURCE=path/to/i-pi python tests/ipi_suite.py [--transport unix inet shm] [-k EXPRESSION]

IPI_SOURCE is a checkout of i-PI (its releases on PyPI have no tests) with its Fortran driver built
(`make -C drivers/f90`, gfortran). Not collected by pytest: it takes half an hour.

i-PI's tests start `i-pi`, wait for its socket and start `i-pi-driver` or `i-pi-py_driver`. Programs
of these names are put first on PATH: the first gives i-PI's sockets the transport that is tried
and notes how many atoms each gets; the others start `mixserver serve` with the stock driver as its
client. Every test is run without mixserver first: one that fails there is not counted. One that
fails with mixserver only is run once more, alone, since some have limits of time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

PREFIX = "/tmp/ipi_"
DRIVERS = ("i-pi-driver", "i-pi-driver-py", "i-pi-py_driver")
TESTS = (
    "ipi_tests/regression_tests/test_run.py",
    "ipi_tests/regression_tests/test_restart.py",
    "ipi_tests/examples/test_examples.py",
)
LIMIT = """import ipi_tests.test_tools
ipi_tests.test_tools.TIMEOUT = {seconds}
"""
MIX = """[upstream]
address = "{address}"
structure = "atoms.xyz"
sockets_prefix = "{prefix}"
first_contact_s = 60.0
[models.cheap]
[workers]
clients = "{clients}"
[record]
every = 1000000
"""


def main(arguments: Sequence[str]) -> int:
    """Run the suite and print what failed; 1 if something fails by mixserver alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--transport", nargs="+", default=["unix", "inet", "shm"])
    parser.add_argument("--seconds", type=float, default=200.0, help="limit of one test's i-PI")
    parser.add_argument("-k", default="", help="as pytest's")
    options = parser.parse_args(arguments)
    source = os.environ.get("IPI_SOURCE", "")
    if not (Path(source) / "ipi_tests").is_dir():
        sys.stderr.write("IPI_SOURCE must name a checkout of i-PI that has ipi_tests/\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="ipi_suite_") as name:
        folder = Path(name)
        (folder / "suite_limit.py").write_text(LIMIT.format(seconds=options.seconds))
        select = ["-k", options.k] if options.k else []
        direct = _tests(Path(source), folder, "", [*_files(Path(source)), *select])
        _say("direct", direct)
        wrong = 0
        for transport in options.transport:
            through = _tests(Path(source), folder, transport, [*_files(Path(source)), *select])
            failed = [test for test, passed in through.items() if not passed and direct.get(test)]
            if failed:
                through |= _tests(Path(source), folder, transport, failed)
            _say(transport, through, direct)
            wrong += sum(not through[test] for test in failed)
    return 1 if wrong else 0


def _files(source: Path) -> list[str]:
    return [test for test in TESTS if (source / test).is_file()]


def _tests(source: Path, folder: Path, transport: str, what: Sequence[str]) -> dict[str, bool]:
    """Which of i-PI's tests passed, by their pytest names; "" is without mixserver."""
    there = os.pathsep.join((str(source / "bin"), str(Path(sys.executable).parent)))
    path = f"{there}{os.pathsep}{os.environ.get('PATH', '')}"
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{source}", "PATH": path}
    if transport:
        shims = folder / transport
        shims.mkdir(exist_ok=True)
        for name in ("i-pi", *DRIVERS):
            shim = shims / name
            shim.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} --as {name} "$@"\n')
            shim.chmod(0o755)
        environment |= {
            "IPI_SUITE_PATH": path,
            "IPI_SUITE_NOTES": str(shims),
            "IPI_SUITE_TRANSPORT": transport,
            "PATH": f"{shims}{os.pathsep}{path}",
        }
    options = ["-p", "suite_limit", "-p", "no:cacheprovider", "-q", "-o", "addopts="]
    command = [sys.executable, "-m", "pytest", *options, f"--junit-xml={report}", *what]
    with (folder / "pytest.log").open("ab") as log:
        subprocess.run(
            command,
            cwd=source,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )
    if not report.exists():
        raise SystemExit((folder / "pytest.log").read_text()[-4000:])
    found = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        if case.find("skipped") is None:
            found[test] = case.find("failure") is None and case.find("error") is None
    for note in (folder / transport).glob("*.json") if transport else ():
        Path(PREFIX + note.stem).unlink(missing_ok=True)
    return found


def _say(what: str, results: dict[str, bool], direct: dict[str, bool] | None = None) -> None:
    sys.stdout.write(f"{what}: {sum(results.values())} passed of {len(results)}\n")
    for test, passed in results.items():
        if not passed:
            own = "" if direct is None or direct.get(test) else " (without mixserver, too)"
            sys.stdout.write(f"  failed{own}: {test}\n")
    sys.stdout.flush()


def ipi(arguments: Sequence[str]) -> int:
    """Stand in for `i-pi`: give its sockets another transport, and note what comes by them."""
    for file in (Path(argument) for argument in arguments if Path(argument).is_file()):
        tree = ET.parse(file)  # noqa: S314 - i-PI's own input
        for element in tree.iter():
            if element.tag in {"ffsocket", "ffcavphsocket"}:
                _turn(tree.getroot(), element, file.parent)
        tree.write(file)
    command = [_real("i-pi"), *arguments]
    os.execv(command[0], command)  # noqa: S606


def _turn(root: ET.Element, element: ET.Element, folder: Path) -> None:
    transport, address = os.environ["IPI_SUITE_TRANSPORT"], element.find("address")
    if address is None or element.get("mode") != "unix":  # a RESTART of what was turned before
        return
    name = (address.text or "").strip()
    upstream = f"unix:{name}"
    element.set("mode", transport)
    if transport == "inet":
        port = element.find("port")
        port = ET.SubElement(element, "port") if port is None else port
        port.text, address.text = str(_free_port()), "localhost"
        upstream = f"localhost:{port.text}"
        Path(PREFIX + name).touch()  # the tests wait for the file of a unix socket
    note = {"upstream": upstream, "atoms": _atoms(root, element, folder)}
    (Path(os.environ["IPI_SUITE_NOTES"]) / f"{name}.json").write_text(json.dumps(note))


def driver(name: str, arguments: Sequence[str]) -> int:
    """Stand in for a stock driver: mixserver where it would connect, the driver behind that."""
    words = list(arguments)
    key = "-h" if name == "i-pi-driver" else "-a"
    at = words.index(key) + 1
    note = json.loads((Path(os.environ["IPI_SUITE_NOTES"]) / f"{words[at]}.json").read_text())
    inet = not note["upstream"].startswith("unix:")
    with tempfile.TemporaryDirectory(prefix="ipi_suite_") as folder:
        case = Path(folder)
        clients = f"suite_{os.getpid()}"
        words[at] = clients
        if inet:
            port = str(_free_port())
            clients, words[at] = f"localhost:{port}", "localhost"
            words = [word for word in words if word != "-u"] + ["-p", port]
        listen = clients if inet else f"unix:{clients}"
        mix = MIX.format(address=note["upstream"], prefix=PREFIX, clients=listen)
        (case / "mix.toml").write_text(mix)
        rows = "".join(f"H {2.0 * i} 0.0 0.0\n" for i in range(note["atoms"]))
        (case / "atoms.xyz").write_text(f"{note['atoms']}\n\n{rows}")
        return _serve(case, [_real(name), *words])


def _serve(case: Path, stock: Sequence[str]) -> int:
    log = case / "serve.log"
    with log.open("wb") as out:
        server = subprocess.Popen([_real("mixserver"), "serve", case], stdout=out, stderr=out)
    while server.poll() is None and "waiting for i-PI clients" not in log.read_text():
        time.sleep(0.05)
    client = subprocess.Popen(stock)
    try:
        while server.poll() is None and client.poll() is None:
            time.sleep(0.05)
        status = client.wait(60) if server.poll() == 0 else server.wait(60)
        if client.poll() is not None and client.returncode:
            status = client.returncode
        if status:
            sys.stderr.write(log.read_text()[-4000:])
        return status
    finally:
        for process in (client, server):
            process.kill()
            process.wait()


def _atoms(root: ET.Element, element: ET.Element, folder: Path) -> int:
    """How many atoms i-PI sends by a socket."""
    if chosen := re.findall(r"\d+", element.findtext("activelist") or ""):
        return len(chosen)
    names = {element.get("name")} | {o.get("name") for o in root if element in list(o)}
    for system in root.iter("system"):
        if any(force.get("forcefield") in names for force in system.iter("force")):
            photon = element.tag == "ffcavphsocket"  # which stays with i-PI
            return _atoms_of(system, folder) - photon
    return 1


def _atoms_of(system: ET.Element, folder: Path) -> int:
    beads = system.find("beads")
    if beads is not None:
        return int(beads.get("natoms", "0"))
    source = next(system.iter("file"))
    file = folder / (source.text or "").strip()
    mode = source.get("mode", "xyz")
    if mode == "chk":
        found = ET.parse(file).getroot().find(".//beads")  # noqa: S314
        return 0 if found is None else int(found.get("natoms", "0"))
    if mode == "pdb":
        rows = file.read_text().partition("\nEND")[0].splitlines()
        return sum(row.startswith(("ATOM", "HETATM")) for row in rows)
    if mode == "ase":
        from ase.io import read

        return len(read(file))
    return int(file.read_text().split()[0])


def _real(name: str) -> str:
    found = shutil.which(name, path=os.environ["IPI_SUITE_PATH"])
    if found is None:
        raise SystemExit(f"{name} is not on PATH")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as"]:
        stand_in, rest = sys.argv[2], sys.argv[3:]
        sys.exit(ipi(rest) if stand_in == "i-pi" else driver(stand_in, rest))
    sys.exit(main(sys.argv[1:]))
