"""What the sweep pages and API ask of a resident model, on the device thread."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from analysis import calibration, nullspace
from analysis.atlas import Atlas
from analysis.calibration import NeuronSet
from analysis.corpus import RowSet
from analysis.model import Model
from analysis.store import RunFolder
from analysis.sweep import Result
from analysis.sweep.run import config_of
from analysis.types import InputError, NeuronId, NotFoundError
from app.errors import ConflictError
from app.present import sweep as shown
from app.present.sweep_figures import figure as made
from app.present.sweep_ground import Dropout, Ground
from app.requests.sweep import CalibrationQuery, FigureQuery
from app.residency.resident import Resident
from app.views import sweep as views


def weights_of(model: Model, atlas: Atlas, result: Result, k: int) -> dict[str, np.ndarray]:
    """norm, logit_var, rho and frequency_alignment of a sweep's neurons."""
    where = tuple(zip(*((neuron.layer, neuron.index) for neuron in result.neurons), strict=True))
    layers, indices = (list(part) for part in where)
    table = atlas.table
    found = {
        name: getattr(table, name)[layers, indices].double().numpy()
        for name in ("norm", "logit_var", "frequency_alignment")
    }
    basis = atlas.spectrum.basis(k)
    rho = np.zeros(len(layers))
    for layer in sorted(set(layers)):
        here = [place for place, other in enumerate(layers) if other == layer]
        rows = model.write_rows(layer)[[indices[place] for place in here]]
        rho[here] = nullspace.rho(rows, basis).cpu().numpy()
    return found | {"rho": rho}


def ground(model: Model, atlas: Atlas, result: Result, sweep_id: str, query: FigureQuery) -> Ground:
    k = atlas.spectrum.chosen(query.k)

    def cosines(place: int) -> np.ndarray:
        neuron = result.neurons[place]
        row = model.write_rows(neuron.layer)[neuron.index]
        found: np.ndarray = nullspace.cosines(row, atlas.spectrum).numpy()
        return found

    folder = model.spec.folder
    return Ground(
        sweep=sweep_id,
        model=model.key,
        result=result,
        query=query,
        weights=weights_of(model, atlas, result, k),
        k=k,
        chance=nullspace.chance(model.d_model, k, len(result.neurons), trivial=atlas.spectrum.trivial).maximum,
        singular=atlas.spectrum.S.numpy(),
        cosines=cosines,
        dropout=dropout_runs(folder),
    )


def dropout_runs(folder: Path | None) -> Dropout | None:
    """What `dropout_spectrum.npy` and `dropout_spectrum.json` say, where a model ships them."""
    file = None if folder is None else folder / "dropout_spectrum.npy"
    if file is None or not file.is_file():
        return None
    return Dropout(np.load(file, allow_pickle=False), json.loads(file.with_suffix(".json").read_text())["tokens"])


def of_these_weights(model: Model, folder: RunFolder) -> None:
    """ConflictError for a sweep of other weights than the model's: no figure mixes the two."""
    if folder.manifest()["weights_sha256"] != model.weights_sha256:
        raise ConflictError(
            f"This sweep was made with other weights than those of {model.key}.",
            code="other_weights",
            hint="Its table still stands; for figures start a new sweep.",
        )


def figures(
    resident: Resident,
    atlas: Atlas,
    result: Result,
    sweep_id: str,
    folder: RunFolder,
    names: list[str],
    query: FigureQuery,
) -> list[views.FigureView]:
    """Some figures of a sweep."""
    of_these_weights(resident.model, folder)
    on = ground(resident.model, atlas, result, sweep_id, query)
    return [made(on, name) for name in names]


def neuron(resident: Resident, sweep_id: str, result: Result, folder: RunFolder, name: str) -> views.SweepNeuronView:
    """What a sweep knows of one neuron, with text around its examples."""
    which = NeuronId.parse(name)
    if which not in result.place:
        raise NotFoundError(f"{which} is not in this sweep.", code="no_such_neuron")
    rows = RowSet.open(folder.path)
    return shown.neuron(sweep_id, resident.key, result, which, resident.model.token_texts, rows.row)


def calibrate(
    resident: Resident, atlas: Atlas, result: Result, sweep_id: str, folder: RunFolder, query: CalibrationQuery
) -> Iterator[Any]:
    """Reliability clean, ablated, and with norm-matched random sets ablated; then sets of 1, 2, 4, ... neurons."""
    of_these_weights(resident.model, folder)
    model = resident.model
    on = ground(model, atlas, result, sweep_id, FigureQuery(top=query.top, seed=query.seed))
    chosen = _named(on, query) or on.strongest("direct")
    outside = [str(result.neurons[place]) for place in chosen if result.neurons[place].layer != model.last_layer]
    if outside:
        raise InputError(
            f"{outside[0]} is not in the last layer.", code="not_last_layer", hint="Name last-layer neurons."
        )
    sets = [NeuronSet("clean", (), ()), _set(on, "ablated", chosen)]
    for number in range(query.controls):
        drawn = ground(model, atlas, result, sweep_id, FigureQuery(top=query.top, seed=query.seed + number))
        sets.append(_set(drawn, f"random {number + 1}", drawn.controls(chosen)))
    ranked, sizes = _ranked(on), [2**i for i in range(12) if 2**i <= max(2 * query.top, 16)]
    ranked = ranked[: sizes[-1]]
    random = on.controls(ranked)
    orders = {"strongest": ranked, "norm-matched random": random}
    growing = [(name, n, _set(on, "", order[:n])) for name, order in orders.items() for n in sizes if n <= len(order)]
    rows = [RowSet.open(folder.path).row(i) for i in range(min(query.rows, len(RowSet.open(folder.path))))]
    tokens: list[calibration.Tokens] = []
    every = [*sets, *(each for _, _, each in growing)]
    for done, found in calibration.run(model, rows, every, config_of(folder).token_filter):
        tokens = found
        yield done
    runs = [calibration.summarise(each.name, found, bins=query.bins) for each, found in zip(sets, tokens, strict=False)]
    points = [
        (name, n, calibration.summarise("", found, bins=query.bins, replicates=0))
        for (name, n, _), found in zip(growing, tokens[len(sets) :], strict=True)
    ]
    yield views.CalibrationView(
        sweep=sweep_id,
        model=resident.key,
        n_bins=query.bins,
        n_rows=len(rows),
        n_tokens=len(tokens[0].loss),
        runs=[_run(run, each, model.last_layer) for run, each in zip(runs, sets, strict=True)],
        cumulative=[
            *(
                views.CumulativePoint(series=name, n=0, entropy=runs[0].entropy, loss=runs[0].loss, ece=runs[0].ece)
                for name in ("strongest", "norm-matched random")
            ),
            *(
                views.CumulativePoint(series=name, n=n, entropy=c.entropy, loss=c.loss, ece=c.ece)
                for name, n, c in points
            ),
        ],
        query=query.model_dump(exclude={"format", "model"}),
    )


def _named(on: Ground, query: CalibrationQuery) -> list[int]:
    names = query.neurons.replace(",", " ").split()
    places = {str(found): place for found, place in on.result.place.items()}
    missing = [name for name in names if name not in places]
    if missing:
        raise NotFoundError(f"{missing[0][:20]!r} is not in this sweep.", code="no_such_neuron")
    return list(dict.fromkeys(places[name] for name in names))


def _ranked(on: Ground) -> list[int]:
    """The sweep's neurons, the entropy neurons first, then by LN-mediated effect."""
    strongest = on.strongest("direct")
    return strongest + [place for place in on.ranked("direct") if place not in strongest]


def _set(on: Ground, name: str, places: list[int]) -> NeuronSet:
    """Neurons with the sweep's baseline; under resampling their mean."""
    value = on.column("baseline")
    value = np.where(np.isfinite(value), value, on.column("activation.mean"))
    return NeuronSet(
        name, tuple(on.result.neurons[place].index for place in places), tuple(float(value[place]) for place in places)
    )


def _run(run: calibration.Calibration, each: NeuronSet, layer: int) -> views.CalibrationRun:
    bins = zip(run.edges[:-1], run.edges[1:], run.count, run.confidence, run.accuracy, strict=True)
    return views.CalibrationRun(
        name=run.name,
        neurons=[f"{layer}.{index}" for index in each.indices],
        ece=run.ece,
        ece_interval=run.ece_interval,
        brier=run.brier,
        loss=run.loss,
        entropy=run.entropy,
        accuracy=run.overall_accuracy,
        bins=[
            views.BinView(
                low=low, high=high, count=int(count), confidence=_known(confidence), accuracy=_known(accuracy)
            )
            for low, high, count, confidence, accuracy in bins
        ],
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
