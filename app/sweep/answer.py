"""What the sweep pages and API ask of a resident model, on the device thread."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as File
from typing import Any

import numpy as np

from analysis.atlas import Atlas
from analysis.calibration import Calibration, difference
from analysis.calibration_study import NamedSet, Studied, Study
from analysis.corpus import RowSet
from analysis.figures import ControlEffects, Dropout, Figure, Ground, Point, control_effects, figure, ground_of, sets_of
from analysis.grammar import listed
from analysis.labels import Thresholds
from analysis.model import Model
from analysis.sets import NAMES, Path, Sets
from analysis.store import RunFolder, sha256
from analysis.sweep import Result
from analysis.sweep.run import config_of
from analysis.types import InputError, NeuronId, NotFoundError
from app.core.errors import ConflictError
from app.core.evidence import RULE_BASELINES, ships
from app.core.null_space import null_space
from app.core.plain import number
from app.core.prices import of_k
from app.core.question import priced
from app.core.residency.atlas import of_this_model
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident
from app.core.view import StandingView
from app.sweep import to_view
from app.sweep import view as views
from app.sweep.request import CalibrationQuery, FigureQuery

CONTROLS = Kind("controls of figures", "analysis.figures.controls")
CALIBRATION = Kind("calibration", "analysis.calibration_study", "app.sweep.answer")


def ground(resident: Resident, atlas: Atlas, result: Result, folder: RunFolder, query: FigureQuery) -> Ground:
    """What the figures of a sweep are drawn from."""
    model, config = resident.model, config_of(folder)
    speaks = (config.neurons is None or ships(model.spec, folder)) and str(config.baseline) in RULE_BASELINES

    def controls(places: tuple[int, ...], path: Path) -> ControlEffects | None:
        def effects() -> ControlEffects | None:
            return control_effects(resident.engine, result, places, path, last_layer=model.last_layer, seed=query.seed)

        if result.sample_stream is None:
            return None
        tokens = sha256(result.sample_stream.tobytes() + result.column("baseline").tobytes())
        return resident.cached(CONTROLS, (tokens, places, path, query.seed), effects)

    return ground_of(
        model,
        atlas,
        result,
        k=atlas.spectrum.chosen(query.k),
        top=query.top,
        neuron=query.neuron,
        seed=query.seed,
        controls=controls,
        thresholds=replace(Thresholds(), **resident.settings.label_thresholds) if speaks else None,
        dropout=dropout_runs(model.spec.folder),
        null_space=null_space(atlas.spectrum).says,
    )


def dropout_runs(folder: File | None) -> Dropout | None:
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


@priced(lambda atlas, result, sweep_id, folder, names, query: 1 + of_k(query))
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
    of_this_model(atlas, resident)
    on = ground(resident, atlas, result, folder, query)
    return [figure_view(on, figure(on, name), name, sweep_id, resident.key) for name in names]


def figure_view(on: Ground, found: Figure, name: str, sweep_id: str, key: str) -> views.FigureView:
    """A figure with its marks' links, and what is known of them."""
    fields = {each.name: getattr(found, each.name) for each in dataclasses.fields(found)}
    fields |= {"neurons": _neurons(on) if found.kind == "scatter" and found.rows[0].label in _places(on) else {}}
    return views.FigureView(
        **fields | {"rows": [_point(point, sweep_id) for point in found.rows], "notes": list(found.notes)},
        name=name,
        sweep=sweep_id,
        model=key,
    )


def _places(on: Ground) -> dict[str, int]:
    return {str(neuron): place for neuron, place in on.result.place.items()}


def _neurons(on: Ground) -> dict[str, views.NeuronOfFigure]:
    weights, labelled = on.sets.weights, on.labelled or frozenset()
    return {
        name: views.NeuronOfFigure(
            **{column: number(weights[column][place]) for column in ("norm", "logit_var", "rho")},
            labels=["entropy"] if place in labelled else [],
        )
        for name, place in _places(on).items()
    }


def _point(point: Point, sweep_id: str) -> views.Point:
    def known(value: float | None) -> float | None:
        return None if value is None else number(value)

    return views.Point(
        series=point.series,
        label=point.label,
        x=point.x if isinstance(point.x, str) else known(point.x),
        y=known(point.y),
        colour=known(point.colour),
        low=known(point.low),
        high=known(point.high),
        href=None if point.neuron is None or point.low is not None else f"/sweeps/{sweep_id}/neurons/{point.neuron}",
        marked=point.marked,
    )


@priced()
def neuron(resident: Resident, sweep_id: str, result: Result, folder: RunFolder, name: str) -> views.SweepNeuronView:
    """What a sweep knows of one neuron, with text around its examples."""
    which = NeuronId.parse(name)
    if which not in result.place:
        raise NotFoundError(f"{which} is not in this sweep.", code="no_such_neuron")
    rows = RowSet.open(folder.path)
    return to_view.neuron(sweep_id, resident.key, result, which, resident.model.token_texts, rows.row)


@priced(40, "run")
def calibrate(
    resident: Resident, query: CalibrationQuery, atlas: Atlas, result: Result, sweep_id: str, folder: RunFolder
) -> Iterator[Any]:
    """Reliability clean, ablated, and with the same changes along random directions; then sets of 1, 2, 4, ...
    neurons."""
    of_these_weights(resident.model, folder)
    of_this_model(atlas, resident)
    of = sha256(json.dumps(folder.manifest(), sort_keys=True).encode())
    asked = query.model_dump_json(exclude={"format", "model"})
    kept_as = resident.key_of(CALIBRATION, sweep_id, of, asked, resident.counts_sha256)
    if (known := resident.cache.get(kept_as)) is not None:
        yield known
        return
    model, rows = resident.model, RowSet.open(folder.path)
    sets = sets_of(model, atlas, result, atlas.spectrum.chosen(None))
    chosen, note = _chosen(sets, query)
    outside = [str(result.neurons[place]) for place in chosen if result.neurons[place].layer != model.last_layer]
    if outside:
        raise InputError(
            f"{outside[0]} is not in the last layer.", code="not_last_layer", hint="Name last-layer neurons."
        )
    n_rows = len(rows) if query.rows is None else min(query.rows, len(rows))
    study = Study(
        model,
        result,
        chosen,
        [place for place in sets.ranked("direct") if result.neurons[place].layer == model.last_layer],
        n_controls=query.controls,
        bins=query.bins,
        seed=query.seed,
        most=max(2 * query.top, 16),
    )
    for done, found in study.run(rows, n_rows, config_of(folder).token_filter):
        yield done
        if found is not None:
            view = calibration_view(found, query, sweep_id, resident.key, note)
            resident.cache.put(kept_as, view)
            yield view


def _chosen(sets: Sets, query: CalibrationQuery) -> tuple[list[int], str | None]:
    """The places ablated together, and what they are; InputError where none is named and none stands out."""
    names = listed(query.neurons)
    places = {str(found): place for found, place in sets.result.place.items()}
    missing = [name for name in names if name not in places]
    if missing:
        raise NotFoundError(f"{missing[0][:20]!r} is not in this sweep.", code="no_such_neuron")
    if names:
        return list(dict.fromkeys(places[name] for name in names)), None
    if chosen := sets.strongest("direct", query.top):
        return chosen, f"The {len(chosen)} neurons with the {NAMES['direct']} and ρ beyond chance."
    place, why = sets.one()
    return [place], f"No neuron has an LN-mediated effect and ρ beyond chance; ablated is {why}."


def calibration_view(
    found: Studied, query: CalibrationQuery, sweep_id: str, key: str, note: str | None
) -> views.CalibrationView:
    clean = found.runs[0]
    return views.CalibrationView(
        sweep=sweep_id,
        model=key,
        n_bins=query.bins,
        n_rows=found.n_rows,
        n_tokens=found.n_tokens,
        n_documents=found.n_documents,
        note=note,
        runs=[_run(run, each, clean) for run, each in zip(found.runs, found.sets, strict=True)],
        standings=[StandingView.of_standing(name, stands) for name, stands in found.standings().items()],
        cumulative=[
            views.CumulativePoint(series=name, n=n, entropy=c.entropy, loss=c.loss, ece=c.error.value)
            for name, n, c in found.growing
        ],
        query=query.model_dump(exclude={"format", "model"}),
    )


def _run(run: Calibration, each: NamedSet, clean: Calibration) -> views.CalibrationRun:
    bins = zip(run.edges[:-1], run.edges[1:], run.count, run.confidence, run.accuracy, strict=True)
    change = None if run is clean else difference(run.error, clean.error)
    return views.CalibrationRun(
        name=run.name,
        neurons=list(map(str, each.neurons)),
        norms=list(each.norms),
        ece=run.error.value,
        ece_interval=_interval(run.error.low, run.error.high),
        ece_plain=run.error.plain,
        ece_change=None if change is None else change[0],
        ece_change_interval=None if change is None else _interval(*change[1:]),
        brier=run.brier,
        loss=run.loss,
        entropy=run.entropy,
        accuracy=run.overall_accuracy,
        bins=[
            views.BinView(
                low=low, high=high, count=int(count), confidence=number(confidence), accuracy=number(accuracy)
            )
            for low, high, count, confidence, accuracy in bins
        ],
    )


def _interval(low: float, high: float) -> tuple[float, float] | None:
    return (low, high) if np.isfinite([low, high]).all() else None
