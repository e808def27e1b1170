"""nullscope backup: the database as one file."""

from pathlib import Path

import click


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def command(file: Path) -> None:
    """Write a consistent copy of the database to FILE; the server may go on. Finished sweeps are files of their own."""
    from app.core.shell.session import refusing

    with refusing():
        from app.core.locks import DataFolder
        from app.core.settings import Settings
        from app.core.store import Database
        from app.core.store.transfer import backup

        settings = Settings()
        database = Database.of(settings)
        with DataFolder(settings.data_dir).held("command"):
            backup(database, file)
        click.echo(f"{database.address} -> {file} ({file.stat().st_size} bytes)")
