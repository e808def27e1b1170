"""nullscope restore: a backup becomes the database."""

from pathlib import Path

import click


@click.command("restore")
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--yes", is_flag=True, help="Replace a database that is there.")
def command(file: Path, yes: bool) -> None:
    """Put FILE in the place of the database. Stop the server first."""
    from app.commands.door import Refused, refusing

    with refusing():
        from app.db import Database
        from app.db.transfer import restore
        from app.jobs import LOCK, locked
        from app.settings import Settings

        settings = Settings()
        database = Database.of(settings)
        if database.path is not None and database.path.exists() and not yes:
            raise Refused(f"{database.path} exists. Stop the server, then: nullscope restore {file} --yes")
        lock = locked(settings.data_dir / LOCK)
        if lock is None:
            raise Refused(f"A server works with {settings.data_dir}. Stop it first.")
        with lock:
            restore(database, file)
        click.echo(f"{file} -> {database.shown}, schema {database.version()}")
