"""nullscope examples: the worked examples of the first paint, computed again and their claims checked."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


@click.command("examples")
@click.option("--check", is_flag=True, help="Only say whether the claims hold; write nothing.")
@click.option("--model", default="demo", show_default=True, help="Key of the model whose examples ship.")
def command(check: bool, model: str) -> None:
    """Compute the worked examples of a model again and write them where every claim holds; of the bundled one also the
    story and the induction page's."""
    failed = write_pages(check, model)
    if not check:
        write_marks(model)
    if model == "demo":
        if not check:
            write_story()
        write_finding(check)
    sys.exit(1 if failed else 0)


def files_of(model: str) -> list[Path]:
    from analysis.registry import resolve
    from app.prompt import examples

    home = resolve(model).home
    return sorted((home / examples.FOLDER).glob("*.json")) if home is not None else []


def write_pages(check: bool, model: str) -> int:
    """The prompt page's; how many claims do not hold."""
    from app.core.residency.host import ModelHost
    from app.core.settings import Settings
    from app.core.shell.session import refusing
    from app.prompt import examples
    from app.prompt.example_answer import page

    failed = 0
    with refusing(), data_dir_for(model) as folder:
        host = ModelHost(Settings(models=(model,), data_dir=folder))
        host.start()
        try:
            host.wait(model, 120)
            host.entry(model).means_settled.wait(600)
            for file in files_of(model):
                example = examples.Example.model_validate_json(file.read_text("utf-8"))
                view = host.submit(model, page, example).result()
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


@contextmanager
def data_dir_for(model: str) -> Iterator[Path]:
    """An empty one for the bundled model, whose labels must not follow a sweep of this machine; for others the one
    where their weights are."""
    from app.core.settings import Settings

    if model != "demo":
        yield Settings().data_dir
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)


def write_marks(model: str) -> None:
    """Label and rho of the neurons of every page, from the atlas."""
    from app.core.shell.session import opened
    from app.core.told import Mark
    from app.prompt import examples

    with data_dir_for(model) as folder, opened(model, None, data_dir=folder) as door:
        for file in files_of(model):
            example = examples.Example.model_validate_json(file.read_text("utf-8"))
            if example.view is None or example.view.effects is None:
                continue
            names = ",".join(row.neuron for row in example.view.effects.rows)
            found = door.get(f"/models/{door.quoted}/neurons?neurons={names}&limit=100")
            marks = {
                row["neuron"]: Mark(rho=row["rho"], labels=[each["name"] for each in row["labels"] if each["holds"]])
                for row in found["rows"]
            }
            examples.write(example, example.view.model_copy(update={"marks": marks}), file)


def write_story() -> None:
    """The story of the first page."""
    from app.core.example_files import write_json
    from app.core.packed import rounded
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
