"""The atlas page: the map of the neurons and the table below it, from the same columns."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from analysis import nullspace
from analysis.labels import LABELS
from analysis.neuron_columns import NeuronColumns
from analysis.published import KNOWN
from app.atlas import answer as answers
from app.atlas import view as views
from app.atlas.request import AtlasState, NeuronsQuery
from app.core import to_view
from app.core.plain import series
from app.core.prices import of_k
from app.core.question import priced
from app.core.residency.atlas_context import AtlasSource, Neurons
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident
from app.core.residency.shipped import ShippedContext

POINTS = Kind("points", "analysis.atlas", "app.atlas.page")
FACTS = ("norm", "logit_var", "rho")
"""What is told of every neuron of the map, whatever its axes are."""


@priced(lambda on, state, *more: of_k(state))
def page(
    resident: Resident, on: AtlasSource, state: AtlasState, parts: Collection[str], models: list[str]
) -> views.AtlasView:
    """`parts`: "map" and what else the answer will show."""
    here = on.on(resident)

    def drawn(found: NeuronColumns, layer: int | None, k: int) -> views.Points:
        """`points`, kept for the next request with the same axes: sorting and paging change the table alone."""
        inputs = (*here.inputs(layer, k), state.x, state.y, state.color, state.size)
        return resident.cached(POINTS, inputs, lambda: points(here, found, state, k))

    return page_of(here, to_view.origin(resident), state, parts, models, drawn)


def before_weights(
    here: ShippedContext, state: AtlasState, parts: Collection[str], models: list[str]
) -> views.AtlasView:
    """The page of a model whose weights are not loaded, from what ships of it."""
    page = page_of(here, here.origin(), state, parts, models, lambda found, layer, k: points(here, found, state, k))
    return page.model_copy(update={"weights_here": False})


def page_of(
    here: Neurons,
    origin: Mapping[str, Any],
    state: AtlasState,
    parts: Collection[str],
    models: list[str],
    drawn: Callable[[NeuronColumns, int | None, int], views.Points],
) -> views.AtlasView:
    """origin: what the numbers go back to. drawn: the points of the map, from columns, layer and k."""
    model = here.model
    layer = None if state.all_layers else here.layer(state.layer)
    k = here.atlas.spectrum.chosen(state.k)
    found = here.neurons(layer, k)
    query = NeuronsQuery(
        layer=layer,
        **{name: getattr(state, name) for name in ("k", "sweep", "label", "neurons", "sort", "order")},
        **state.bounds,
    ).model_copy(update={"offset": state.offset, "limit": state.limit})  # a file has more rows than a page
    return views.AtlasView(
        model=model.key,
        models=models,
        n_layers=model.n_layers,
        d_mlp=model.d_mlp,
        layer=layer,
        state=state.model_dump(),
        counts={name: len(found.carriers(name)) for name in LABELS},
        points=drawn(found, layer, k) if "map" in parts else None,
        table=answers.table(here, query, origin),
    )


def points(here: Neurons, found: NeuronColumns, state: AtlasState, k: int) -> views.Points:
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
        facts={name: series(found.columns[name]) for name in FACTS if name not in (state.x, state.y, state.color)},
        known={name: what for name, what in known.items() if int(name.partition(".")[0]) in found.layers},
        control_x=list(controls.get(state.x, [])) if state.y in controls else [],
        control_y=list(controls.get(state.y, [])) if state.x in controls else [],
        x_chance=chance_line(state.x, controls),
        y_chance=chance_line(state.y, controls),
    )


def control_columns(here: Neurons, k: int) -> Mapping[str, Sequence[float | None]]:
    """What random directions with the last layer's norms give, for the columns in which chance means something."""
    controls = here.atlas.controls
    spectrum = here.atlas.spectrum
    rho, at_one_percent = (nullspace.rho(controls.rows, spectrum.basis(each)) for each in (k, spectrum.k_share))
    return {
        "norm": series(controls.norm),
        "logit_var": series(controls.logit_var),
        "norm_over_logit_var": series(controls.norm / controls.logit_var),
        "skew": series(controls.skew),
        "kurtosis": series(controls.kurtosis),
        "rho": series(rho),
        "rho_share": series(at_one_percent),
        "frequency_alignment": series(controls.frequency_alignment),
    }


def chance_line(column: str, controls: Mapping[str, Sequence[float | None]]) -> float | None:
    """The controls' least LogitVar, or their largest rho or alignment: where chance ends."""
    values = [abs(value) for value in controls.get(column, []) if value is not None]
    if not values or column not in ("logit_var", "rho", "rho_share", "frequency_alignment"):
        return None
    return min(values) if column == "logit_var" else max(values)
