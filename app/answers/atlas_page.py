"""The atlas page: the map of the neurons and the table below it, from the same columns."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from analysis import nullspace
from analysis.labels import LABELS
from analysis.published import KNOWN
from app.answers import atlas as answers
from app.answers.atlas import Footing, Ground
from app.present import atlas as shown
from app.present.plain import series
from app.requests.atlas import AtlasState, NeuronsQuery
from app.residency.resident import Resident
from app.views import atlas as views


def page(
    resident: Resident, on: Footing, state: AtlasState, parts: Collection[str], models: list[str]
) -> views.AtlasView:
    """`parts`: "map" and what else the answer will show."""
    here, model = on(resident), resident.model
    layer = None if state.all_layers else model.last_layer if state.layer is None else here.layer(state.layer)
    k = here.atlas.spectrum.chosen(state.k)
    found = here.neurons(layer, k)
    query = NeuronsQuery(
        layer=layer,
        **{name: getattr(state, name) for name in ("k", "label", "neurons", "sort", "order", "offset", "limit")},
        **state.bounds,
    )
    return views.AtlasView(
        model=model.key,
        models=models,
        n_layers=model.n_layers,
        d_mlp=model.d_mlp,
        layer=layer,
        state=state.model_dump(),
        counts={name: len(found.carriers(name)) for name in LABELS},
        points=_kept_points(here, found, state, k) if "map" in parts else None,
        table=answers.neurons(resident, on, query),
    )


def _kept_points(here: Ground, found: shown.Neurons, state: AtlasState, k: int) -> views.Points:
    """`points`, kept for the next request with the same axes: sorting and paging change the table alone."""
    name = ("points", id(found), state.x, state.y, state.color, state.size)
    _, made = here.kept.kept(name, lambda: (found, points(here, found, state, k)))  # found: its id stays its own
    return made


def points(here: Ground, found: shown.Neurons, state: AtlasState, k: int) -> views.Points:
    """Every neuron of the shown layers, whatever the table filters; labels and names where they have one."""
    names = found.names
    carried: dict[int, list[str]] = {}
    for label in LABELS:
        for index in found.carriers(label):
            carried.setdefault(index, []).append(label)
    known = KNOWN.get(here.model.key, {})
    controls = control_columns(here, k)
    return views.Points(
        neuron=names,
        x=series(found.columns[state.x]),
        y=series(found.columns[state.y]),
        color=series(found.columns[state.color]),
        size=series(found.columns[state.size]) if state.size else None,
        labels={names[index]: ",".join(carries) for index, carries in carried.items()},
        known={name: what for name, what in known.items() if int(name.partition(".")[0]) in found.layers},
        control_x=list(controls.get(state.x, [])) if state.y in controls else [],
        control_y=list(controls.get(state.y, [])) if state.x in controls else [],
        x_chance=chance_line(state.x, controls),
        y_chance=chance_line(state.y, controls),
    )


def control_columns(here: Ground, k: int) -> Mapping[str, Sequence[float | None]]:
    """What random directions with the last layer's norms give, for the columns in which chance means something."""
    controls = here.atlas.controls
    rho = nullspace.rho(controls.rows, here.atlas.spectrum.basis(k))
    return {
        "norm": series(controls.norm),
        "logit_var": series(controls.logit_var),
        "norm_over_logit_var": series(controls.norm / controls.logit_var),
        "rho": series(rho),
        "frequency_alignment": series(controls.frequency_alignment),
    }


def chance_line(column: str, controls: Mapping[str, Sequence[float | None]]) -> float | None:
    """The controls' median LogitVar, or their largest rho or alignment: where chance ends."""
    values = [abs(value) for value in controls.get(column, []) if value is not None]
    if not values or column not in ("logit_var", "rho", "frequency_alignment"):
        return None
    return float(torch.tensor(values).median()) if column == "logit_var" else max(values)


def waiting(job: Any, key: str, models: list[str], to: str) -> views.Waiting:
    """How far the table is."""
    return views.Waiting(
        model=key, models=models, state=job.state, stage=job.stage, fraction=job.fraction, eta=job.eta, to=to
    )
