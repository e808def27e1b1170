"""nullscope restore: a backup becomes the database."""

from pathlib import Path

import click


@click.command("restore")
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--yes", is_flag=True, help="Replace a database that is there.")
def command(file: Path, yes: bool) -> None:
    """Put FILE in the place of the database. Stop the server first."""
    from app.core.shell.session import Refused, refusing

    with refusing():
        from app.core.locks import DataFolder
        from app.core.settings import Settings
        from app.core.store import Database
        from app.core.store.transfer import restore

        settings = Settings()
        database = Database.of(settings)
        if database.path is not None and database.path.exists() and not yes:
            raise Refused(f"{database.path} exists. Stop the server, then: nullscope restore {file} --yes")
        with DataFolder(settings.data_dir).held("restore"):
            restore(database, file)
        click.echo(f"{file} -> {database.address}, schema {database.version()}")
