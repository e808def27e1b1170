"""nullscope sweep export, figures, neuron, calibration, compare: what a finished sweep in a folder says."""

from pathlib import Path
from typing import Any

import click

from app.core.shell.output import cell, escaped, print_json, print_table
from app.core.shell.session import refusing
from app.core.shell.tables import write_rows
from app.sweep.shell_options import folder_argument, load, on_model_options

json_option = click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table.")


@click.command("export")
@folder_argument
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help=".csv or .parquet")
def export(folder: Path, out: Path) -> None:
    """The table of a finished sweep in FOLDER, one line a neuron."""
    with refusing():
        from analysis.files import write_bytes

        result = _result(folder)
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".parquet":
            write_bytes(out, result.files()["neurons.parquet"])
        elif out.suffix == ".csv":
            write_bytes(out, _csv(result).encode())
        else:
            raise click.UsageError("--out must end in .csv or .parquet.")
    click.echo(f"{out}: {len(result.neurons)} neurons")


@click.command("figures")
@folder_argument
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="A folder; one CSV a figure."
)
@click.option("--top", default=6, show_default=True, help="Neurons in a set, 1 to 40.")
@click.option("--neuron", metavar="L.I", help="For figures of one neuron; the strongest by default.")
@click.option("-k", type=int, help="Dimension of the null space; the model's own by default.")
@click.option("--seed", default=0, show_default=True, help="Draws the controls.")
@on_model_options
def figures(folder: Path, out: Path, model: str, device: str, dtype: str, **options: Any) -> None:
    """The points of the paper's figures from the finished sweep in FOLDER, and each as an HTML page."""
    with refusing():
        from analysis.files import write_bytes
        from app.core.csv import as_csv
        from app.core.theme import resolved
        from app.sweep.charts import drawn
        from app.sweep.request import FigureQuery

        query = FigureQuery.model_validate(options)
        found = _finished(folder, model, device, dtype).figures(query)
        out.mkdir(parents=True, exist_ok=True)
        for view in found:
            write_bytes(out / f"figure-{view.name}.csv", as_csv(view).encode())
            resolved(drawn(view)).write_html(out / f"figure-{view.name}.html", include_plotlyjs="directory")
            click.echo(f"{view.name:>3}  {view.title}")


@click.command("neuron")
@folder_argument
@click.argument("neuron")
@click.option("--examples", default=3, show_default=True, type=click.IntRange(0), help="Printed of each list.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write every example to this .csv or .parquet file.")
@json_option
@on_model_options
def neuron(
    folder: Path, neuron: str, examples: int, out: str | None, as_json: bool, model: str, device: str, dtype: str
) -> None:
    """One neuron (layer.index) in the sweep in FOLDER.

    Every measure with its interval, and the tokens where the neuron acts most.
    """
    with refusing():
        view = _finished(folder, model, device, dtype).neuron(neuron)
    if out:
        write_rows(out, view.csv_rows())
    if as_json:
        print_json(view.model_dump(mode="json"))
    else:
        print_neuron(view.model_dump(mode="json"), examples)


def print_neuron(answer: dict[str, Any], examples: int) -> None:
    row = answer["row"]
    values = {name: row[name] for name in ("ln_fraction", "frequency_fraction", "baseline")}
    if row["mlp_norm_fraction"] is not None:
        values["mlp_norm_fraction"] = row["mlp_norm_fraction"]
    for group in ("activation", "total", "direct", "frequency", "frozen"):
        values |= {f"{group}.{name}": value for name, value in (row[group] or {}).items()}
    intervals = row["intervals"]
    print_table(
        ["measure", "value", "95 % from", "to"],
        [[name, value, *intervals.get(name, (None, None))] for name, value in values.items()],
    )
    for found in answer["lists"]:
        if not examples or not found["examples"]:
            continue
        click.echo(f"\n{found['quantity']}, {'largest' if found['sign'] > 0 else 'smallest'}")
        for each in found["examples"][:examples]:
            place = f"{each['row']}:{each['position']}"
            click.echo(
                f"  {cell(each['value']):>10}  {place:>8}  {escaped(each['before'][-40:])} [{escaped(each['token'])}]"
                f"{escaped(each['next'])}"
            )


@click.command("calibration")
@folder_argument
@click.option("-n", "--neuron", "neurons", multiple=True, metavar="L.I", help="Ablate these together; repeatable.")
@click.option("--top", default=4, show_default=True, help="Or so many of the strongest, 1 to 64.")
@click.option("--controls", default=20, show_default=True, help="Sets of random directions, 1 to 100.")
@click.option("--bins", default=15, show_default=True, help="Of confidence, 2 to 50.")
@click.option("--rows", type=int, help="Rows of the sweep that are used; all by default.")
@click.option("--seed", default=0, show_default=True, help="Draws the random sets.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the bins to this .csv or .parquet file.")
@json_option
@on_model_options
def calibration(
    folder: Path, neurons: tuple[str, ...], out: str | None, as_json: bool, model: str, device: str, dtype: str,
    **options: Any,
) -> None:  # fmt: skip
    """Is the model as right as it is sure?

    Clean, with neurons ablated together, with the same changes along random directions, over rows of the sweep in
    FOLDER.
    """
    with refusing():
        from app.sweep.request import CalibrationQuery

        query = CalibrationQuery.model_validate({"neurons": " ".join(neurons), **options})
        *_, view = _finished(folder, model, device, dtype).calibration(query)
    if out:
        write_rows(out, view.csv_rows())
    if as_json:
        print_json(view.model_dump(mode="json"))
    else:
        print_calibration(view.model_dump(mode="json"))


def print_calibration(answer: dict[str, Any]) -> None:
    columns = ["ece", "ece_change", "brier", "loss", "entropy", "accuracy"]
    print_table(
        ["run", *columns, "ECE from", "to", "neurons", "norms"],
        [
            [run["name"], *(run[name] for name in columns), *(run["ece_interval"] or (None, None)),
             " ".join(run["neurons"]) or "-", " ".join(f"{norm:.3g}" for norm in run["norms"]) or "-"]
            for run in answer["runs"]
        ],
    )  # fmt: skip
    click.echo()
    print_table(
        ["ablated - clean", "change", "rank", "of", "p"],
        [[each[name] for name in ("quantity", "value", "rank", "of", "p")] for each in answer["standings"]],
    )
    click.echo()
    print_table(
        ["ablated together", "n", "entropy", "loss", "ece"],
        [[each["series"], *(each[name] for name in ("n", "entropy", "loss", "ece"))] for each in answer["cumulative"]],
    )
    click.echo(f"\n{answer['n_tokens']} tokens of {answer['n_rows']} rows, {answer['n_bins']} bins; nats")


@click.command("compare")
@click.argument("first", type=click.Path(path_type=Path, file_okay=False))
@click.argument("second", type=click.Path(path_type=Path, file_okay=False))
@click.option("--column", default="total.abs_entropy", show_default=True, help="As in the table that export writes.")
@click.option("--offset", default=0, show_default=True)
@click.option("--limit", default=20, show_default=True, help="Neurons shown, 1 to 1000.")
@json_option
def compare(first: Path, second: Path, as_json: bool, **options: Any) -> None:
    """Two sweeps by one column, neuron by neuron.

    Those that differ most come first.
    """
    with refusing():
        from analysis.store import RunFolder
        from app.sweep import offline as sweep_offline
        from app.sweep.request import CompareQuery

        query = CompareQuery.model_validate({"a": first.name, "b": second.name, **options})
        sides = [(RunFolder(folder), _result(folder)) for folder in (first, second)]
        answer = sweep_offline.compare(sides, query).model_dump(mode="json")
    if as_json:
        print_json(answer)
    else:
        print_compare(answer)


def print_compare(answer: dict[str, Any]) -> None:
    for side in ("a", "b"):
        ref = answer[side]
        click.echo(
            f"{side}: {escaped(ref['id'])}, {ref['model']} over {escaped(ref['source'])}, {ref['baseline_text']}"
        )
    weights = "the same weights" if answer["same_weights"] else "OTHER WEIGHTS: neurons of one name are not the same"
    click.echo(f"{weights}; Spearman correlation {cell(answer['correlation'])}; {answer['label']}\n")
    print_table(
        ["neuron", "a", "b", "b - a"],
        [[row["neuron"], row["a"], row["b"], row["difference"]] for row in answer["rows"]],
    )
    click.echo(f"{len(answer['rows'])} of {answer['total']} neurons that are in both")


def _finished(folder: Path, model: str, device: str, dtype: str) -> Any:
    from analysis.store import RunFolder
    from app.sweep.offline import Finished, resident

    result = _result(folder)
    return Finished(resident(*load(model, device, dtype)), RunFolder(folder), result)


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
