"""Sweeps as views: jobs, tables of neurons, examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from analysis import ranks
from analysis.store import MANIFEST, RunFolder
from analysis.sweep import Result
from analysis.types import NeuronId
from app.core.evidence import baseline_text, submitted_name
from app.core.jobs import Jobs
from app.core.jobs_view import JobView
from app.core.owned_jobs import job_view
from app.core.plain import number
from app.core.store import Job
from app.core.table import select
from app.sweep import view as views
from app.sweep.request import MEASURES, SWEEP_COLUMNS, SweepQuery
from app.sweep.store import BUNDLED, Sweeps
from app.sweep.texts import Text, Texts


def text(found: Text) -> views.CorpusView:
    return views.CorpusView(
        id=found.id,
        name=found.name,
        n_documents=found.n_documents or 0,
        n_characters=found.n_characters or 0,
        n_bytes=found.n_bytes,
        person=found.person,
        created=datetime.fromtimestamp(found.created, UTC),
        used=datetime.fromtimestamp(found.used, UTC),
    )


def texts(uploads: Texts, person: str, *, everybody: bool, days: float | None) -> views.CorporaView:
    """Uploads of one person, or of all; the bytes are that person's. days: after its last use a text is removed."""
    found = uploads.every()
    return views.CorporaView(
        person=person,
        rows=[text(each) for each in found if everybody or each.person == person],
        used_bytes=sum(each.n_bytes for each in found if each.person == person),
        quota_bytes=uploads.quota,
        days=days,
    )


def ended_job(sweep_id: str, model: str) -> JobView:
    """Of a finished sweep without a job (one that ships with a model, one in a folder), as if it had just ended."""
    return JobView(
        id=sweep_id, kind="sweep", model=model, state="finished", stage="done", done=0, total=0, fraction=1.0,
        result=f"/api/v1/sweeps/{sweep_id}",
    )  # fmt: skip


def ref(sweeps: Sweeps, sweep_id: str) -> views.SweepRef:
    """A sweep's line in the list; NotFoundError when there is none of that id."""
    if sweep_id.startswith(BUNDLED):
        return _without_job(sweep_id, sweep_id.removeprefix(BUNDLED), sweeps.folder(sweep_id).manifest())
    return _own(sweeps.jobs.get(sweep_id), sweeps.jobs)


def _own(found: Job, jobs: Jobs, places: Mapping[str, int] | None = None) -> views.SweepRef:
    shown = job_view(found, jobs, result=f"/api/v1/sweeps/{found.id}", places=places)
    return _ref(found.id, submitted_name(found.config), found.config["source"], found.config["sweep"], shown)


def _without_job(sweep_id: str, model: str, manifest: dict[str, Any]) -> views.SweepRef:
    """Of what ships with a model, or lies in a folder: nobody has called it anything."""
    source, config = manifest["corpus"]["source"], manifest["config"]
    name = submitted_name({"sweep": config, "source": source})
    return _ref(sweep_id, name, source, config, ended_job(sweep_id, model))


def _ref(sweep_id: str, name: str, source: str, config: dict[str, Any], shown: JobView) -> views.SweepRef:
    neurons = config["neurons"]
    what = "every last-layer neuron" if neurons is None else f"{len(neurons)} chosen"
    return views.SweepRef(
        id=sweep_id,
        name=name,
        model=shown.model,
        source=source,
        neurons=what,
        baseline=config["baseline"],
        baseline_text=baseline_text(config["baseline"]),
        rows=config["n_rows"],
        bundled=sweep_id.startswith(BUNDLED),
        job=shown,
    )


def every(sweeps: Sweeps) -> list[views.SweepRef]:
    """Newest first, the bundled ones last."""
    places = sweeps.jobs.places()
    own = [_own(found, sweeps.jobs, places) for found in sweeps.jobs.every("sweep")]
    return own + [ref(sweeps, sweep_id) for sweep_id in sweeps.bundled()]


def sweep(sweeps: Sweeps, sweep_id: str, result: Result | None, query: SweepQuery) -> views.SweepView:
    """One sweep with a page of its table; ``result`` None while there are no effects."""
    shown, folder = ref(sweeps, sweep_id), sweeps.folder(sweep_id)
    manifest = folder.manifest() if (folder.path / MANIFEST).exists() else None
    total, picked = (0, []) if result is None else _picked(result, query)
    return views.SweepView(
        id=sweep_id,
        state=shown.job.state,
        ref=shown,
        progress=shown.job,
        config=None if manifest is None else manifest["config"],
        manifest=manifest,
        clean=None if result is None else {name: number(value) for name, value in result.clean.items()},
        n_rows=result.n_rows if result else 0,
        n_tokens=result.n_tokens if result else 0,
        n_neurons=len(result.neurons) if result else 0,
        total=total,
        rows=[] if result is None else [row(result, place) for place in picked],
        sort=query.sort,
        order=query.order,
        offset=query.offset,
        limit=query.limit,
    )


def _picked(result: Result, query: SweepQuery) -> tuple[int, list[int]]:
    columns: dict[str, Sequence[Any]] = {"neuron": range(len(result.neurons))}
    needed = {query.sort, *(key[4:] for key in query.bounds)} - {"neuron"}
    for name in needed:
        columns[name] = column(result, name)
    return select(
        columns, bounds=query.bounds, sort=query.sort, order=query.order, offset=query.offset, limit=query.limit
    )


def column(result: Result, name: str) -> list[float | None]:
    """A column of the table; all null where the sweep does not have it (no token counts)."""
    if name not in result.table:
        return [None] * len(result.neurons)
    return [number(value) for value in result.table[name]]


def row(result: Result, place: int) -> views.SweepRow:
    """One neuron's line, with every interval."""
    table = result.table

    def value(name: str) -> float | None:
        return number(table[name][place]) if name in table else None

    def measures(condition: str) -> views.Measures:
        return views.Measures(**{name: value(f"{condition}.{name}") for name in MEASURES})

    low_high = {name: (value(f"{name}.low"), value(f"{name}.high")) for name in SWEEP_COLUMNS if f"{name}.low" in table}
    return views.SweepRow(
        neuron=str(result.neurons[place]),
        ln_fraction=value("ln_fraction"),
        ln_reliable=bool(table["ln_fraction.reliable"][place]),
        frequency_fraction=value("frequency_fraction"),
        frequency_reliable=bool(table.get("frequency_fraction.reliable", np.zeros(place + 1, bool))[place]),
        mlp_norm_fraction=value("mlp_norm_fraction"),
        baseline=value("baseline"),
        activation=views.ActivationView(
            **{name: value(f"activation.{name}") for name in ("mean", "std", "low", "high")}
        ),
        total=measures("total"),
        direct=measures("direct"),
        frequency=measures("frequency") if "frequency" in result.conditions else None,
        frozen=measures("frozen") if "frozen" in result.conditions else None,
        variance={name: value(f"{name}.var") for name in SWEEP_COLUMNS if f"{name}.var" in table},
        intervals={name: (a, b) for name, (a, b) in low_high.items() if a is not None and b is not None},
    )


CONTEXT = 24  # tokens shown on each side of an example


def neuron(
    sweep_id: str, model_key: str, result: Result, which: NeuronId, texts: Any, rows: Any
) -> views.SweepNeuronView:
    """Histogram and examples. texts: ids -> token texts; rows: row number -> ids."""
    from analysis.sweep import EXAMPLE_LISTS

    place = result.place[which]

    def example(value: float, number_: int, position: int) -> views.ExampleView:
        ids = rows(number_)
        words = texts(ids)
        start = max(0, position - CONTEXT)
        return views.ExampleView(
            value=value,
            row=number_,
            position=position,
            before="".join(words[start:position]),
            token=words[position],
            next=words[position + 1] if position + 1 < len(words) else "",
            after="".join(words[position + 2 : position + CONTEXT // 2]),
        )

    return views.SweepNeuronView(
        sweep=sweep_id,
        model=model_key,
        neuron=str(which),
        row=row(result, place),
        histogram=result.histogram[place].tolist(),
        low=float(result.table["activation.low"][place]),
        high=float(result.table["activation.high"][place]),
        lists=[
            views.ExampleList(
                quantity=quantity,
                sign=1 if sign > 0 else -1,
                examples=[example(*found) for found in result.examples(which, quantity, sign)],
            )
            for quantity, sign in EXAMPLE_LISTS
        ],
    )


_WORDS = {
    "abs_loss": "mean |Δ loss|, nats",
    "loss": "mean Δ loss, nats",
    "abs_entropy": "mean |ΔH|, nats",
    "entropy": "mean ΔH, nats",
    "abs_kl_unigram": "mean |Δ KL(P_freq ‖ P)|, nats",
    "kl_unigram": "mean Δ KL(P_freq ‖ P), nats",
    "reciprocal_rank": "mean Δ 1/(rank + 1)",
    "top1_changes": "share of changed predictions",
    "total": "",
    "direct": "LN frozen: ",
    "frequency": "frequency frozen: ",
    "frozen": "both norms frozen: ",
    "ln_fraction": "LN-mediated fraction",
    "mlp_norm_fraction": "fraction through the norm behind the MLP",
    "frequency_fraction": "frequency-mediated fraction",
    "std": "standard deviation",
    "low": "smallest",
    "high": "largest",
}


def label(column: str) -> str:
    """What a column of the table is: `direct.abs_loss` -> LN frozen: mean |Δ loss|, nats."""
    group, _, measure = column.rpartition(".")
    prefix = f"{group}: " if group == "activation" else _WORDS.get(group, "")
    return prefix + _WORDS.get(measure, measure)


def of_folder(folder: RunFolder) -> views.SweepRef:
    """The line of a finished sweep that lies in a folder of its own."""
    manifest = folder.manifest()
    return _without_job(folder.path.resolve().name, manifest["model"], manifest)


@dataclass(frozen=True, slots=True)
class Compared:
    """One side of a comparison."""

    ref: views.SweepRef
    result: Result
    weights_sha256: str


def compare(
    a: Compared, b: Compared, name: str, offset: int, limit: int, *, choices: list[views.SweepRef]
) -> views.CompareView:
    """The neurons of both sweeps, by how far they differ. choices: what else could stand on a side."""
    one, other = a.result, b.result
    both = [found for found in one.neurons if found in other.place]
    first, second = (dict(zip(r.neurons, column(r, name), strict=True)) for r in (one, other))
    rows = [
        views.CompareRow(
            neuron=str(found),
            a=first[found],
            b=second[found],
            difference=None if first[found] is None or second[found] is None else second[found] - first[found],  # type: ignore[operator]
        )
        for found in both
    ]
    rows.sort(key=lambda found: -abs(found.difference) if found.difference is not None else 1.0)
    return views.CompareView(
        a=a.ref,
        b=b.ref,
        column=name,
        label=label(name),
        same_weights=a.weights_sha256 == b.weights_sha256,
        columns={column: label(column) for column in SWEEP_COLUMNS[1:]},
        choices=choices,
        correlation=spearman([(r.a, r.b) for r in rows if r.a is not None and r.b is not None]),
        total=len(rows),
        offset=offset,
        limit=limit,
        rows=rows[offset : offset + limit],
        points=[views.Point(series="neurons", label=r.neuron, x=r.a, y=r.b) for r in rows],
    )


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Rank correlation of pairs; null for fewer than three or a constant side."""
    if not pairs:
        return None
    a, b = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    return ranks.spearman(a, b)
