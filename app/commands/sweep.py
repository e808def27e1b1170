"""nullscope sweep: corpus sweeps in a folder, without a server. The same engine and the same bytes as the server's."""

import time
from pathlib import Path
from typing import Any

import click

from app.commands.door import refusing
from app.commands.output import print_json


@click.group("sweep")
def command() -> None:
    """Ablate neurons over a text: run, status, resume, export, figures."""


def _folder(function: Any) -> Any:
    return click.argument("folder", type=click.Path(path_type=Path, file_okay=False))(function)


def _model_options(function: Any) -> Any:
    for option in (
        click.option(
            "--dtype", type=click.Choice(["float32", "bfloat16", "float64"]), default="float32", show_default=True
        ),
        click.option("--device", default="cpu", show_default=True, help="Of the workers: cpu, cuda, cuda:1, ..."),
        click.option("--model", default="demo", show_default=True, help="Key or folder of the model."),
    ):
        function = option(function)
    return function


def _executor_options(function: Any) -> Any:
    for option in (
        click.option(
            "--address", default="auto", show_default=True, help="Of the Ray cluster: auto, HOST:PORT, local."
        ),
        click.option("--workers", type=click.IntRange(1), help="Processes or Ray actors; one a device by default."),
        click.option(
            "--executor", type=click.Choice(["inprocess", "processes", "ray"]), default="inprocess", show_default=True
        ),
    ):
        function = option(function)
    return function


@command.command("run")
@_folder
@click.option(
    "--corpus",
    help="Text: .jsonl, .txt, a folder, hub:DATASET?config=..&split=train&column=text; the model's sample by default.",
)
@click.option("--neurons", help="Names such as 3.17,3.42; every last-layer neuron by default.")
@click.option("--rows", type=click.IntRange(1), help="A seeded sample of that many rows; all by default.")
@click.option("--length", type=click.IntRange(2), help="Tokens in a row; n_ctx, 256 at most, by default.")
@click.option(
    "--baseline", default="mean", show_default=True, help="mean, filtered_mean, zero, resample, percentile:90, 1.5"
)
@click.option("--seed", default=0, show_default=True)
@click.option("--shard-rows", default=8, show_default=True, help="Rows in one durable unit.")
@click.option("--bootstrap", default=200, show_default=True, help="Replicates over sequences.")
@click.option("--sample-tokens", default=512, show_default=True, help="Tokens kept for scatter plots.")
@click.option("--max-documents", type=click.IntRange(1), help="Read no more documents than that.")
@click.option(
    "--backend", type=click.Choice(["auto", "eager", "compiled", "triton"]), default="auto", show_default=True
)
@click.option("--compact", is_flag=True, help="Remove the shards once the result is written.")
@_model_options
@_executor_options
def run(
    folder: Path, corpus: str | None, neurons: str | None, compact: bool, model: str, device: str, dtype: str,
    executor: str, workers: int | None, address: str, baseline: str, rows: int | None, **settings: Any,
) -> None:  # fmt: skip
    """Start a sweep in FOLDER, or go on with the one there when it is the same."""
    with refusing():
        from analysis.sweep import SweepBaseline, SweepConfig
        from analysis.types import NeuronId

        config = SweepConfig(
            neurons=tuple(NeuronId.parse(name) for name in neurons.replace(",", " ").split()) if neurons else None,
            baseline=SweepBaseline.parse(baseline),
            n_rows=rows,
            **settings,
        )
        loaded = _load(model, device, dtype)
        _start(folder, loaded, config, corpus)
        _work(folder, loaded, executor, workers, address, device, dtype)
        if compact:
            _compact(folder)


@command.command("resume")
@_folder
@_model_options
@_executor_options
def resume(folder: Path, model: str, device: str, dtype: str, executor: str, workers: int | None, address: str) -> None:
    """Go on with the sweep in FOLDER; any executor may."""
    with refusing():
        _work(folder, _load(model, device, dtype), executor, workers, address, device, dtype)


@command.command("status")
@_folder
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def status(folder: Path, as_json: bool) -> None:
    """How far the sweep in FOLDER is."""
    with refusing():
        from analysis.store import RunFolder
        from analysis.sweep.run import config_of

        run_folder = RunFolder(folder)
        manifest, finished = run_folder.manifest(), run_folder.result() is not None
    text = manifest["corpus"]
    shards = -(-text["rows"] // config_of(run_folder).shard_rows)
    done = {stage: run_folder.count(stage) for stage in ("baselines", "effects")}
    if as_json:
        print_json({"finished": finished, "shards": shards, **done, "manifest": manifest})
        return
    click.echo(f"{manifest['model']} over {text['source']}: {text['rows']} rows, {shards} shards")
    click.echo("finished" if finished else ", ".join(f"{stage} {n} of {shards}" for stage, n in done.items()))


@command.command("export")
@_folder
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help=".csv or .parquet")
def export(folder: Path, out: Path) -> None:
    """The table of a finished sweep in FOLDER, one line a neuron."""
    with refusing():
        result = _result(folder)
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".parquet":
            out.write_bytes(result.files()["neurons.parquet"])
        elif out.suffix == ".csv":
            out.write_text(_csv(result), encoding="utf-8")
        else:
            raise click.UsageError("--out must end in .csv or .parquet.")
    click.echo(f"{out}: {len(result.neurons)} neurons")


@command.command("figures")
@_folder
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="A folder; one CSV a figure."
)
@click.option("--top", default=6, show_default=True, help="Neurons in a set, 1 to 40.")
@click.option("--neuron", metavar="L.I", help="For figures of one neuron; the strongest by default.")
@click.option("-k", type=int, help="Dimension of the null space; the model's own by default.")
@click.option("--seed", default=0, show_default=True, help="Draws the norm-matched random neurons.")
@_model_options
def figures(folder: Path, out: Path, model: str, device: str, dtype: str, **options: Any) -> None:
    """The points of the paper's figures from the finished sweep in FOLDER, and each as an HTML page."""
    with refusing():
        from analysis.store import RunFolder
        from app.answers.sweep import figures_offline
        from app.figures.sweep import drawn
        from app.figures.theme import resolved
        from app.pages import as_csv
        from app.requests.sweep import FigureQuery

        query, result = FigureQuery.model_validate(options), _result(folder)
        found = figures_offline(*_load(model, device, dtype), result, RunFolder(folder), query)
        out.mkdir(parents=True, exist_ok=True)
        for view in found:
            (out / f"figure-{view.name}.csv").write_text(as_csv(view), encoding="utf-8")
            resolved(drawn(view)).write_html(out / f"figure-{view.name}.html", include_plotlyjs="directory")
            click.echo(f"{view.name:>3}  {view.title}")


def _load(name: str, device: str, dtype: str) -> tuple[Any, Any]:
    """(model, token counts or None)."""
    from analysis.distributed import Recipe, opened
    from analysis.registry import resolve
    from analysis.sweep import SweepConfig
    from analysis.types import NotFoundError

    spec = resolve(name)
    if spec.folder is None:
        raise NotFoundError(f"{name} has not been downloaded.", hint="Name its folder, such as ./models/gpt2.")
    return opened(Recipe(spec, spec.folder, SweepConfig(), dtype=dtype, device=device, counts=spec.counts))


def _start(folder: Path, loaded: tuple[Any, Any], config: Any, corpus: str | None) -> None:
    from analysis import corpus as texts
    from analysis.store import RunFolder
    from analysis.sweep.run import start
    from analysis.types import NotFoundError

    model, counts = loaded
    if corpus is None and model.spec.sample is None:
        raise NotFoundError(f"{model.key} has no sample text.", hint="Name one with --corpus.")
    if corpus is not None and corpus.startswith("hub:"):
        documents, source = _hub(corpus), corpus
    else:
        path = Path(corpus) if corpus else model.spec.sample
        documents, source = texts.documents(path), path.name if corpus else f"sample text of {model.key}"
    for _ in start(RunFolder(folder), model, counts, config, documents, source):
        pass


def _hub(address: str) -> Any:
    from urllib.parse import parse_qsl

    from analysis.corpus import hub_documents

    name, _, query = address.removeprefix("hub:").partition("?")
    given = dict(parse_qsl(query))
    if given.keys() - {"config", "split", "column"}:
        raise click.UsageError("A dataset is named hub:DATASET?config=..&split=..&column=..")
    return hub_documents(name, **given)


def _work(
    folder: Path, loaded: tuple[Any, Any], executor: str, workers: int | None, address: str, device: str, dtype: str
) -> None:
    """Run what is left, with one line a shard on standard error."""
    from analysis.store import RunFolder
    from analysis.sweep.run import config_of, run

    model, counts = loaded
    run_folder = RunFolder(folder)
    shown, started = None, time.monotonic()
    chosen = _executor(executor, workers, address, model, counts, config_of(run_folder), device, dtype)
    for step in run(run_folder, model, counts, chosen):
        now = (step.stage, step.shards_done)
        if now != shown:
            shown = now
            of = f" {step.shards_done} of {step.shards_total} shards" if step.shards_total else ""
            click.echo(f"{time.monotonic() - started:7.1f} s  {step.stage}{of}", err=True)
        if step.result is not None:
            click.echo(f"{step.result.n_tokens} tokens x {len(step.result.neurons)} neurons in {folder}")


def _executor(
    name: str, workers: int | None, address: str, model: Any, counts: Any, config: Any, device: str, dtype: str
) -> Any:
    import os

    from analysis import distributed
    from analysis.sweep.executor import InProcess
    from analysis.sweep.worker import Worker

    if name == "inprocess":
        return InProcess(Worker.build(model, counts, config))
    recipe = distributed.Recipe(
        model.spec, model.spec.folder, config, dtype=dtype, device=device, counts=model.spec.counts
    )
    if name == "processes":
        return distributed.LocalProcesses(recipe, workers or os.cpu_count() or 1)
    return distributed.OnRay(recipe, address, workers)


def _result(folder: Path) -> Any:
    from analysis.store import RunFolder
    from analysis.sweep.run import read
    from analysis.types import NotReadyError

    RunFolder(folder).manifest()
    if (result := read(RunFolder(folder))) is None:
        raise NotReadyError(f"The sweep in {folder.name} is not finished.", hint=f"nullscope sweep resume {folder}")
    return result


def _csv(result: Any) -> str:
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["neuron", *result.table])
    for place, neuron in enumerate(result.neurons):
        values = [column[place].item() for column in result.table.values()]
        writer.writerow([neuron, *("" if value != value else value for value in values)])
    return out.getvalue()


def _compact(folder: Path) -> None:
    """Without the shards the result can be read, not merged again."""
    import shutil

    for stage in ("baselines", "effects"):
        shutil.rmtree(folder / stage, ignore_errors=True)
