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
    if not check:
        write_marks()
        write_story()
    write_finding(check)
    sys.exit(1 if failed else 0)


def write_pages(check: bool) -> int:
    """The prompt page's; how many claims do not hold."""
    from app.core.residency.host import ModelHost
    from app.core.settings import Settings
    from app.core.shell.session import refusing
    from app.prompt import examples
    from app.prompt.example_answer import page

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


def write_marks() -> None:
    """Label and rho of the neurons of every page, from the atlas."""
    from app.core.shell.session import opened
    from app.prompt import examples
    from app.prompt.view import Mark

    with tempfile.TemporaryDirectory() as scratch, opened("demo", None, data_dir=Path(scratch)) as door:
        for file in sorted(examples.BUNDLED.glob("*.json")):
            example = examples.Example.model_validate_json(file.read_text("utf-8"))
            if example.view is None or example.view.effects is None:
                continue
            names = ",".join(row.neuron for row in example.view.effects.rows)
            found = door.get(f"/models/demo/neurons?neurons={names}&limit=100")
            marks = {
                row["neuron"]: Mark(rho=row["rho"], labels=[each["name"] for each in row["labels"] if each["holds"]])
                for row in found["rows"]
            }
            examples.write(example, example.view.model_copy(update={"marks": marks}), file)


def write_story() -> None:
    """The story of the first page."""
    from app.core.example_files import rounded, write_json
    from app.core.shell.session import opened
    from app.prompt import story

    with tempfile.TemporaryDirectory() as scratch, opened("demo", None, data_dir=Path(scratch)) as door:
        write_json(rounded(door.get("/models/demo/story")), story.FILE)


def write_finding(check: bool) -> None:
    """The induction page's, through the API: with the labels of the atlas."""
    from app.core.shell.session import opened
    from app.induction import example

    # A folder of its own: labels follow the newest sweep in the data folder, and the bundled one's are wanted here.
    with tempfile.TemporaryDirectory() as scratch, opened("demo", None, data_dir=Path(scratch)) as door:
        new = example.computed(lambda request: door.model("induction", request.model_dump(mode="json")))
    click.echo(f"{new.ref.key}: {new.ref.claim}")
    if not check:
        example.write(new)
