"""nullscope texts: uploaded texts, here in the data folder or on a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from app.core.shell.output import escaped, print_json, print_table

if TYPE_CHECKING:
    from app.core.jobs import Jobs
    from app.sweep.texts import Texts

url_option = click.option("--url", help="Of a running server; by default the data folder on this machine.")


@click.group("texts")
def command() -> None:
    """Texts that were uploaded for sweeps: list, delete."""


@command.command("list")
@url_option
@click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table.")
def show(url: str | None, as_json: bool) -> None:
    """Everybody's in the data folder; on a server one's own, everybody's for an administrator."""
    answer = _rows(url)
    if as_json:
        print_json(answer)
        return
    columns = ("id", "name", "person", "n_bytes", "n_documents")
    rows = [[*(escaped(str(row[name])) for name in columns), row["used"][:10]] for row in answer["rows"]]
    print_table(("text", "name", "by", "bytes", "documents", "last used"), rows)


@command.command("delete")
@click.argument("text")
@url_option
def delete(text: str, url: str | None) -> None:
    """Remove the text with this id. One that a sweep still needs stays."""
    from app.core.shell.session import opened

    if url:
        from urllib.parse import quote

        with opened(None, url) as door:
            door.delete(f"/corpora/{quote(text, safe='')}")
    else:
        with _data_folder() as (texts, jobs):
            texts.delete(text, jobs)
    click.echo(f"The text {escaped(text)} is deleted.")


def _rows(url: str | None) -> dict[str, Any]:
    from app.core.shell.session import opened

    if url:
        with opened(None, url) as door:
            answer: dict[str, Any] = door.get("/corpora")
            return answer
    from app.core.access.gate import LOCAL
    from app.core.settings import Settings
    from app.sweep import to_view

    with _data_folder() as (texts, _):
        view = to_view.texts(texts, LOCAL, everybody=True, days=Settings().upload_days)
        return view.model_dump(mode="json")


@contextmanager
def _data_folder() -> "Iterator[tuple[Texts, Jobs]]":
    from app.core.shell.session import refusing

    with refusing():
        from app.core.jobs import Jobs
        from app.core.locks import DataFolder
        from app.core.settings import Settings
        from app.core.store import Database
        from app.sweep.texts import Texts

        settings = Settings()
        with DataFolder(settings.data_dir).held("command"):
            database = Database.of(settings)
            database.open()
            try:
                yield Texts.of(settings), Jobs(database)
            finally:
                database.close()
