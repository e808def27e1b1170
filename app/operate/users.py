"""nullscope users: who may come in, and as what."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.core.shell.output import print_table

if TYPE_CHECKING:
    from app.core.access.keys import KeyFile

file_option = click.option(
    "--auth-file", type=click.Path(dir_okay=False, path_type=Path), help="By default users.json in the data folder."
)


@click.group("users")
def command() -> None:
    """People's keys. Once there is one, everybody must log in; a running server sees changes at once."""


@contextmanager
def opened(auth_file: Path | None) -> "Iterator[KeyFile]":
    from app.core.shell.session import refusing

    with refusing():
        from app.core.access.gate import auth_path
        from app.core.access.keys import KeyFile
        from app.core.settings import Settings

        yield KeyFile(auth_file or auth_path(Settings()))


@command.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(["view", "run", "admin"]), default="run", show_default=True)
@file_option
def add(name: str, role: str, auth_file: Path | None) -> None:
    """Make a key for NAME and print it, once."""
    with opened(auth_file) as keys:
        key = keys.add(name, role)  # type: ignore[arg-type]
        click.echo(key)
        click.echo(f"{name} may {role}. The key is shown only now; {keys.path} keeps a hash of it.", err=True)


@command.command("list")
@file_option
def show(auth_file: Path | None) -> None:
    """Names, roles, since when."""
    with opened(auth_file) as keys:
        rows = [
            (p.name, p.role, p.id, datetime.fromtimestamp(p.created, UTC).strftime("%Y-%m-%d")) for p in keys.people()
        ]
    print_table(("name", "role", "key", "since"), rows)


@command.command("revoke")
@click.argument("name")
@file_option
def revoke(name: str, auth_file: Path | None) -> None:
    """End NAME's key and every session that was opened with it."""
    with opened(auth_file) as keys:
        person = keys.revoke(name)
        click.echo(f"{person.name}'s key {person.id} is revoked.")
        if not keys.people():
            click.echo(
                f"Nobody has a key now, and a server still asks for one. To ask nobody: stop it, delete {keys.path}.",
                err=True,
            )
