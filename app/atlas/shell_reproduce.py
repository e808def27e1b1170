"""nullscope reproduce: the published values of a model beside what this program finds."""

import sys

import click

from app.core.shell.output import print_json, print_table
from app.core.shell.session import opened


@click.command("reproduce")
@click.argument("model", default="gpt2")
@click.option("--url", help="Ask a running server instead of loading the model here.")
@click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table.")
def command(model: str, url: str | None, as_json: bool) -> None:
    """Check MODEL against published values: gpt2, pythia-1.4b and phi-1.5 against those of arXiv 2406.16254, eleven
    models against their five leading neurons by v (Zahrivyi 2026). MODEL is a key, or a local folder of that name.
    Needs the real weights.

    Exit code 0 when every value is found within its tolerance, 1 when one is not.
    """
    with opened(model, url) as door:
        answer = door.get(f"/models/{door.quoted}/reproduce")
    if as_json:
        print_json(answer)
    else:
        columns = ("what", "published", "found", "tolerance", "holds")
        print_table(columns, [[row[name] for name in columns] for row in answer["rows"]])
        good = sum(row["holds"] for row in answer["rows"])
        click.echo(f"{model}: {good} of {len(answer['rows'])} published values reproduced")
    sys.exit(0 if answer["holds"] else 1)
