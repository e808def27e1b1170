"""nullscope backup: the database as one file."""

from pathlib import Path

import click


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def command(file: Path) -> None:
    """Write a consistent copy of the database to FILE; the server may go on. Finished sweeps are files of their own."""
    from app.commands.door import refusing

    with refusing():
        from app.db import Database
        from app.db.transfer import backup
        from app.settings import Settings

        database = Database.of(Settings())
        backup(database, file)
        click.echo(f"{database.shown} -> {file} ({file.stat().st_size} bytes)")
