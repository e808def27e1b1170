"""nullscope check: is what the program says about a model true of that model?"""

import sys
from urllib.parse import quote

import click

from app.core.shell.output import print_json, print_table
from app.core.shell.session import opened


@click.command("check")
@click.argument("model", required=False)
@click.option("--url", help="Ask a running server instead of loading the model here.")
@click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table.")
def command(model: str | None, url: str | None, as_json: bool) -> None:
    """Check MODEL (key or folder): its readout against its own logits, the closed form against hooked passes.

    Exit code 0 when every identity holds, 1 when one does not.
    """
    with opened(model, url) as door:
        answer = door.get(f"/models/{quote(door.key, safe='')}/check")
    if as_json:
        print_json(answer)
    else:
        columns = ("name", "error", "tolerance", "holds", "claim")
        print_table(columns, [[row[name] for name in columns] for row in answer["rows"]])
        verdict = "holds" if answer["holds"] else "DOES NOT HOLD"
        click.echo(f"{answer['model']} ({answer['architecture']}, {answer['dtype']}, {answer['device']}): {verdict}")
        if note := answer["kernels_note"]:
            click.echo(f"Kernels of the effects ({answer['kernels']}): {note}")
    sys.exit(0 if answer["holds"] else 1)
