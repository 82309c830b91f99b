"""Nodes on one machine: network namespaces around a switch whose ports can be unplugged.

A node has a network, a host name and an /etc/hosts of its own, and shares the files. Needs root, or
a kernel that lets users make namespaces (`unshare --user --map-root-user --net true`).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

NETWORK = "10.77.0"
"""First three numbers of all addresses."""
_IN_OWN_NAMESPACE = "TWO_NODES_IN_USER_NAMESPACE"


def permitted() -> bool:
    """Whether this user may make network namespaces."""
    try:
        done = subprocess.run(
            _as_root(["unshare", "--net", "--uts", "--mount", "true"]), check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def become_root() -> None:
    """Go on as root of a user namespace, unless this is root already."""
    if os.geteuid() != 0 and _IN_OWN_NAMESPACE not in os.environ:
        os.environ[_IN_OWN_NAMESPACE] = "1"
        command = _as_root([sys.executable, *sys.argv])
        os.execvp(command[0], command)  # noqa: S606


def _as_root(command: list[str]) -> list[str]:
    wrap = ["unshare", "--user", "--map-root-user"] if os.geteuid() != 0 else []
    return [*wrap, *command]


class Node:
    """A namespace that lives as long as a process that holds it.

    Args:
        name: its host name.
        hosts: the text of its /etc/hosts.
        folder: for temporary files.
    """

    def __init__(self, name: str, hosts: str, folder: Path) -> None:
        self.name = name
        file = folder / f"hosts.{name}"
        file.write_text(f"127.0.0.1 localhost\n{hosts}")
        script = f"hostname {name} && mount --bind {file} /etc/hosts && echo ready && exec cat"
        # it ends with this program, however that ends: then its stdin is closed
        self._holder = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--uts",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._holder.stdout is None or self._holder.stdout.readline() != "ready\n":
            raise RuntimeError(f"no namespace could be made for {name}")
        self.ip("link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        """Of the process that holds the namespace."""
        return self._holder.pid

    def command(self, words: Sequence[str | Path]) -> list[str]:
        """The command that runs another one on this node."""
        enter = ["nsenter", "--net", "--uts", "--mount", "--target", str(self.pid), "--"]
        return [*enter, *map(str, words)]

    def ip(self, *words: str) -> None:
        """Run `ip` on this node."""
        subprocess.run(self.command(["ip", *words]), check=True)

    def run(self, *words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on this node to its end."""
        return subprocess.run(
            self.command(words), capture_output=True, text=True, check=False, **more
        )

    def start(
        self, *words: str | Path, log: IO[bytes], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command on this node."""
        return subprocess.Popen(
            self.command(words),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )

    def close(self) -> None:
        """Give the namespace up; it vanishes with its last process."""
        self._holder.kill()
        self._holder.communicate()


class Network:
    """Nodes around a switch.

    Args:
        names: of the nodes; the first has the address .1, and so on.
        folder: for temporary files.
    """

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self._folder = folder
        self.address = {name: f"{NETWORK}.{at}" for at, name in enumerate(names, 1)}
        hosts = "".join(f"{address} {name}\n" for name, address in self.address.items())
        self._switch = Node("switch", hosts, folder)
        self._switch.ip("link", "add", "bridge", "type", "bridge")
        self._switch.ip("link", "set", "bridge", "up")
        self.nodes = {name: Node(name, hosts, folder) for name in names}
        for name, node in self.nodes.items():
            self._switch.ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns",
                            str(node.pid))  # fmt: skip
            self._switch.ip("link", "set", name, "up")
            node.ip("address", "add", f"{self.address[name]}/24", "dev", "eth0")
            node.ip("link", "set", "eth0", "up")
            self.plug(name)

    def plug(self, name: str) -> None:
        """Join a node to the others."""
        self._switch.ip("link", "set", name, "master", "bridge")

    def unplug(self, name: str) -> None:
        """Part a node from the others: what is sent is lost, and nobody is told."""
        self._switch.ip("link", "set", name, "nomaster")

    def mpiexec(self, program: Path, ranks: int) -> list[str]:
        """The command, as far as that of the ranks, that starts as many on each of all nodes.

        Args:
            program: MPICH's mpiexec.
            ranks: on each node.
        """
        shell = self._folder / "enter"  # takes the place of ssh: HOST COMMAND...
        cases = "".join(
            f'{name}) exec {shlex.join(node.command([]))} sh -c "$*" ;;\n'
            for name, node in self.nodes.items()
        )
        options = 'while [ "${1#-}" != "$1" ]; do shift; done\n'
        shell.write_text(f'#!/bin/sh\n{options}host="$1"\nshift\ncase "$host" in\n{cases}esac\n')
        shell.chmod(0o755)
        first, count = next(iter(self.nodes.values())), str(ranks * len(self.nodes))
        launcher = ("-launcher", "ssh", "-launcher-exec", shell, "-hosts", ",".join(self.nodes))
        return first.command([program, *launcher, "-n", count, "-ppn", str(ranks)])

    def close(self) -> None:
        """Give all namespaces up."""
        for node in (*self.nodes.values(), self._switch):
            node.close()


@contextlib.contextmanager
def network(names: Sequence[str], folder: Path) -> Iterator[Network]:
    """Nodes inside this context."""
    made = Network(names, folder)
    try:
        yield made
    finally:
        made.close()
