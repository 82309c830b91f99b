"""What stock i-PI clients do badly for a mix.toml that names an address for them."""

from __future__ import annotations

from mixserver.config.tables import Config


def stock_warning(config: Config) -> str:
    """What is slow with stock clients, or must be prepared for, with the cure; "" if nothing."""
    if (
        not config.workers.clients
        or config.region is None
        or config.workers.clients_role != "expensive"
    ):
        return ""
    return (
        "workers.clients_role = 'expensive': the number of atoms in a cluster changes, but a "
        "process of a stock client takes one number only. i-PI's own drivers get EXIT at each "
        "change: start them in a loop (while i-pi-driver-py ...; do :; done). LAMMPS and ASE have "
        "atoms of their own and end the run: use mixserver-worker lammps or ase, which take any "
        "number and need no restart"
    )
