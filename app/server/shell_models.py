"""nullscope models: what is here, how large it is, what loading takes."""

from pathlib import Path
from typing import Any

import click

from app.core.shell.output import print_json, print_table
from app.core.shell.session import Refused, opened, refusing


@click.command("models")
@click.option("--url", help="Ask a running server which models it serves.")
@click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table.")
@click.option("--accept", metavar="KEY", help="Record the hub's present commit of a model as the one to use.")
@click.option(
    "--reference", metavar="KEY=FILE", help="Have the server at --url take a model's means over this .txt or .jsonl."
)
@click.argument("folders", nargs=-1)
def command(
    url: str | None, as_json: bool, accept: str | None, reference: str | None, folders: tuple[str, ...]
) -> None:
    """The bundled model, the allow-list of hub models and any FOLDERS. Nothing is loaded."""
    with refusing():
        if reference:
            send_reference(url, reference)
        if accept:
            click.echo(accept_commit(accept))
            return
        if url:
            with opened(None, url) as door:
                answer = door.get("/models")
        else:
            answer = known_models(folders)
    if as_json:
        print_json(answer)
    else:
        print_models(answer)


def send_reference(url: str | None, reference: str) -> None:
    from urllib.parse import quote

    key, _, name = reference.partition("=")
    if url is None:
        raise Refused("--reference needs --url; a server takes it itself: nullscope serve --reference KEY=FILE.")
    if not name:
        raise Refused("--reference is KEY=FILE.")
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise Refused(f"{name} cannot be read: {error.strerror or error}.") from None
    with opened(key, url) as door:
        door.send(f"/models/{door.quoted}/reference?name={quote(Path(name).name, safe='')}", content)


def known_models(folders: tuple[str, ...]) -> dict[str, Any]:
    """GET /models' shape for everything this machine could serve."""
    from analysis.registry import LISTED, bundled, resolve
    from app.core.residency.hub import HubModels
    from app.core.settings import Settings
    from app.core.to_view import available_row

    settings = Settings()
    hub = HubModels(settings.data_dir)
    specs = [bundled(), *(resolve(folder) for folder in folders), *LISTED.values()]
    return {"models": [available_row(spec, hub, settings).model_dump(mode="json") for spec in specs]}


def accept_commit(key: str) -> str:
    from analysis.registry import resolve
    from app.core.residency.hub import HubModels
    from app.core.settings import Settings

    spec = resolve(key)
    if spec.hub is None:
        raise Refused(f"{key} is a local folder; only hub models have commits.")
    before, now = HubModels(Settings().data_dir).accept(spec)
    return f"{spec.key}: {now} is recorded" + (f" instead of {before}." if before not in (None, now) else ".")


def print_models(answer: dict[str, Any]) -> None:
    from app.core.format import size

    shape_columns = ["layers", "d_model", "d_mlp", "d_vocab", "context", "norm"]
    columns = ["key", "state", *shape_columns, "on disk", "to load", "download", "licence", "source"]
    rows = []
    for row in answer["models"]:
        bytes_of = ("bytes_on_disk", "bytes_needed", "bytes_to_download")
        sizes = [None if row[name] is None else size(row[name]) for name in bytes_of]
        shape = [row[name] for name in ("n_layers", "d_model", "d_mlp", "d_vocab", "n_ctx", "norm")]
        rows.append([row["key"], row["state"], *shape, *sizes, row["licence"], row["source"]])
    print_table(columns, rows)
    for row in answer["models"]:
        if row["error"]:
            click.echo(f"{row['key']}: {row['error']}", err=True)
