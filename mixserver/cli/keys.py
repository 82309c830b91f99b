"""`mixserver keys`: make, list and revoke the keys with which workers connect."""

from __future__ import annotations

from pathlib import Path

import click

_FOLDER = click.option(
    "--keys",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("keys"),
    show_default=True,
    metavar="DIR",
    help="The folder of keys, which workers.keys in mix.toml names.",
)


@click.group()
def keys() -> None:
    """Make, list and revoke the keys with which workers connect.

    \b
    Examples:
      mixserver keys new gpu-node --role expensive
      mixserver-worker mace si.model --server tcp://HOST:PORT \\
          --key gpu-node.key --server-key server.pub
      mixserver keys revoke gpu-node
    """


@keys.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the key to FILE instead of DIR/NAME.key.",
)
@click.option(
    "--role",
    type=click.Choice(["cheap", "expensive"]),
    default=None,
    help="Workers with this key may join for this role only. Default: for any.",
)
@_FOLDER
def new(name: str, folder: Path, out: Path | None, role: str | None) -> None:
    """Make a key NAME for one worker or several, and put it on the list.

    The first time, the server's own key is made too. Move the file to the worker's machine; with
    server.pub it is all that the worker needs.
    """
    from mixserver.core.key_folder import KeyFolder

    store = KeyFolder(folder)
    file = store.new(name, out, role or "")
    only = f", for the role {role} only" if role else ""
    click.echo(
        f"{file}: the key {name}{only}; move it to the worker's machine, and keep it private"
    )
    click.echo(f"{store.server_public}: the server's public key; workers need it as well")
    bound = f" --role {role}" if role else ""
    click.echo(f"mixserver-worker ENGINE ...{bound} --key {file.name} --server-key server.pub")


@keys.command(name="list")
@_FOLDER
def list_(folder: Path) -> None:
    """Show the keys that may connect, and those that were revoked."""
    from mixserver.cli.tables import text_table
    from mixserver.core.key_folder import KeyFolder

    rows = [
        (
            key.name,
            "allowed" if key.allowed else "revoked",
            key.role or "any",
            key.public.decode("ascii"),
        )
        for key in KeyFolder(folder).listed()
    ]
    click.echo(text_table(("name", "state", "role", "public key"), rows, left=(0, 1, 2, 3)))


@keys.command()
@click.argument("name")
@_FOLDER
def revoke(name: str, folder: Path) -> None:
    """Take the key NAME off the list.

    A running server ends its connections within seconds; their jobs go to other workers.
    """
    from mixserver.core.key_folder import KeyFolder

    kept = KeyFolder(folder).revoke(name)
    click.echo(f"revoked {name}: no connection with it from now on ({kept})")
