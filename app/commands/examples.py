"""nullscope examples: the worked examples of the first paint, computed again and their claims checked."""

import sys
import tempfile
from pathlib import Path

import click


@click.command("examples")
@click.option("--check", is_flag=True, help="Only say whether the claims hold; write nothing.")
def command(check: bool) -> None:
    """Compute the worked examples of the bundled model again and write them where every claim holds."""
    failed = write_pages(check)
    write_finding(check)
    sys.exit(1 if failed else 0)


def write_pages(check: bool) -> int:
    """The prompt page's; how many claims do not hold."""
    from app import examples
    from app.answers.examples import page
    from app.commands.door import refusing
    from app.residency.host import ModelHost
    from app.settings import Settings

    failed = 0
    with refusing(), tempfile.TemporaryDirectory() as scratch:
        host = ModelHost(Settings(models=("demo",), data_dir=Path(scratch)))
        host.start()
        try:
            host.wait("demo", 120)
            host.entry("demo").means_settled.wait(600)
            for file in sorted(examples.BUNDLED.glob("*.json")):
                example = examples.Example.model_validate_json(file.read_text("utf-8"))
                view = host.submit("demo", page, example).result()
                wrong = examples.failures(example, view)
                failed += bool(wrong)
                click.echo(f"{example.key}: " + ("; ".join(wrong) if wrong else "holds"))
                for item in example.checks:
                    click.echo(f"    {item.figures(view)}")
                if not check and not wrong:
                    examples.write(example, view, file)
        finally:
            host.close()
    return failed


def write_finding(check: bool) -> None:
    """The induction page's, through the API: with the labels of the atlas."""
    from app import examples
    from app.commands.door import opened

    # A folder of its own: labels follow the newest sweep in the data folder, and the bundled one's are wanted here.
    with tempfile.TemporaryDirectory() as scratch, opened("demo", None, data_dir=Path(scratch)) as door:
        new = examples.found(lambda request: door.model("induction", request.model_dump(mode="json")))
    click.echo(f"{new.ref.key}: {new.ref.claim}")
    if not check:
        examples.write_finding(new)
