"""nullscope sweep estimate, run, status, resume: the same engine and the same bytes as the server's."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from app.core.shell.output import print_json
from app.core.shell.session import refusing
from app.sweep.shell_options import folder_argument, load, on_model_options


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


def _config_options(function: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--corpus",
                help="Text: .jsonl, .txt, a folder, hub:DATASET?config=..&split=train&column=text; the model's sample "
                "by default.",
            ),
            click.option("--neurons", help="Names such as 3.17,3.42; every last-layer neuron by default."),
            click.option("--rows", type=click.IntRange(1), help="A seeded sample of that many rows; all by default."),
            click.option("--length", type=click.IntRange(2), help="Tokens in a row; n_ctx, 256 at most, by default."),
            click.option(
                "--baseline",
                default="mean",
                show_default=True,
                help="mean, filtered_mean, zero, resample, percentile:90, 1.5",
            ),
            click.option("--seed", default=0, show_default=True),
            click.option("--shard-rows", default=8, show_default=True, help="Rows in one durable unit."),
            click.option("--bootstrap", default=200, show_default=True, help="Replicates over documents."),
            click.option("--sample-tokens", default=512, show_default=True, help="Tokens kept for scatter plots."),
            click.option("--split-at-end", is_flag=True, help="The end-of-text token inside a document ends it."),
            click.option("--max-documents", type=click.IntRange(1), help="Read no more documents than that."),
            click.option(
                "--backend",
                type=click.Choice(["auto", "eager", "compiled", "triton"]),
                default="auto",
                show_default=True,
            ),
        )
    ):
        function = option(function)
    return function


@click.command("run")
@folder_argument
@_config_options
@click.option("--compact", is_flag=True, help="Remove the shards once the result is written.")
@on_model_options
@_executor_options
def run(
    folder: Path, corpus: str | None, compact: bool, model: str, device: str, dtype: str,
    executor: str, workers: int | None, address: str, **settings: Any,
) -> None:  # fmt: skip
    """Start a sweep in FOLDER, or go on with the one there when it is the same."""
    with refusing():
        config = _config(**settings)
        loaded = load(model, device, dtype)
        _start(folder, loaded, config, corpus)
        _work(folder, loaded, executor, workers, address, device, dtype)
        if compact:
            _compact(folder)


@click.command("estimate")
@_config_options
@on_model_options
@click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table.")
def estimate(corpus: str | None, model: str, device: str, dtype: str, as_json: bool, **settings: Any) -> None:
    """Time, memory and disk of a run with these options.

    From its first rows and a short timed probe; nothing is started.
    """
    with refusing():
        from app.sweep import offline as sweep_offline

        config, loaded = _config(**settings), load(model, device, dtype)
        if corpus and corpus.startswith("hub:") and config.max_documents is None:
            raise click.UsageError("The length of a dataset of the hub is not known; name --max-documents.")

        def texts() -> Iterator[str]:
            return islice(_documents(loaded[0], corpus)[0], config.max_documents)

        answer = sweep_offline.estimate(*loaded, config, texts).model_dump(mode="json")
    if as_json:
        print_json(answer)
    else:
        print_estimate(answer)


def print_estimate(answer: dict[str, Any]) -> None:
    for name in ("rows", "tokens", "neurons", "token_neuron_pairs"):
        click.echo(f"{name.replace('_', ' '):18}  {answer[name]:,}")
    seconds = answer["seconds"]
    click.echo(
        f"{'seconds':18}  {seconds:,.0f}, in this process" if seconds >= 10 else f"{'seconds':18}  {seconds:.1f}"
    )
    for name in ("memory", "disk"):
        click.echo(f"{name:18}  {answer[f'{name}_bytes'] / 2**20:,.1f} MiB")


@click.command("resume")
@folder_argument
@on_model_options
@_executor_options
def resume(folder: Path, model: str, device: str, dtype: str, executor: str, workers: int | None, address: str) -> None:
    """Go on with the sweep in FOLDER; any executor may."""
    with refusing():
        _work(folder, load(model, device, dtype), executor, workers, address, device, dtype)


@click.command("status")
@folder_argument
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


def _config(*, neurons: str | None, baseline: str, rows: int | None, **settings: Any) -> Any:
    from analysis.grammar import listed
    from analysis.sweep import SweepBaseline, SweepConfig
    from analysis.types import NeuronId

    return SweepConfig(
        neurons=tuple(NeuronId.parse(name) for name in listed(neurons)) if neurons else None,
        baseline=SweepBaseline.parse(baseline),
        n_rows=rows,
        **settings,
    )


def _start(folder: Path, loaded: tuple[Any, Any], config: Any, corpus: str | None) -> None:
    from analysis.store import RunFolder
    from analysis.sweep.run import start

    model, counts = loaded
    documents, source = _documents(model, corpus)
    for _ in start(RunFolder(folder), model, counts, config, documents, source):
        pass


def _documents(model: Any, corpus: str | None) -> tuple[Any, str]:
    """What is read, and its name in the manifest."""
    from analysis import corpus as texts
    from analysis.types import NotFoundError

    if corpus is None and model.spec.sample is None:
        raise NotFoundError(f"{model.key} has no sample text.", hint="Name one with --corpus.")
    if corpus is not None and corpus.startswith("hub:"):
        return _hub(corpus), corpus
    path = Path(corpus) if corpus else model.spec.sample
    return texts.documents(path), path.name if corpus else f"sample text of {model.key}"


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


def _compact(folder: Path) -> None:
    """Without the shards the result can be read, not merged again."""
    import shutil

    for stage in ("baselines", "effects"):
        shutil.rmtree(folder / stage, ignore_errors=True)
