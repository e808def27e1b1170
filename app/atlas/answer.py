"""Neurons by their weights, on the device thread: the table, one neuron, the spectrum, token frequency."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis import nullspace, published
from analysis.neuron_columns import NeuronColumns, quantiles
from analysis.types import NeuronId
from app.atlas import view as views
from app.atlas.request import NeuronsQuery, SpectrumQuery
from app.core import weights_rows
from app.core.null_space import null_space
from app.core.request import NothingAsked
from app.core.residency.atlas_context import AtlasSource, Neurons
from app.core.residency.resident import Resident
from app.core.residency.shipped import ShippedContext
from app.core.table import select
from app.core.to_view import origin as origin_of


def neurons(resident: Resident, query: NeuronsQuery, *, on: AtlasSource) -> views.NeuronsView:
    """The table: filtered, sorted, one page of rows."""
    return table(on.on(resident), query, origin_of(resident))


def table(here: Neurons, query: NeuronsQuery, origin: Mapping[str, Any]) -> views.NeuronsView:
    """The same of whatever is known of a model. origin: what its numbers go back to."""
    k = here.atlas.spectrum.chosen(query.k)
    found = here.neurons(query.layer, k)
    columns, wanted = _wanted(here, found, query)
    total, picked = select(
        columns, bounds=query.bounds, sort=query.sort, order=query.order, offset=query.offset, limit=query.limit
    )
    return views.NeuronsView(
        total=total,
        k=k,
        knee=here.atlas.spectrum.knee,
        null_space=null_space(here.atlas.spectrum),
        chance=weights_rows.chance_view(here.chance(k)),
        rows=[weights_rows.row(here.model, here.atlas, found, wanted[index]) for index in picked],
        evidence=weights_rows.evidence_source(here.findings),
        provenance=weights_rows.source_of(origin, k=k),
    )


def _wanted(here: Neurons, found: NeuronColumns, query: NeuronsQuery) -> tuple[Mapping[str, np.ndarray], Sequence[int]]:
    """Columns of the neurons that the query names or whose label it asks for, and their indices."""
    if not query.named and query.label is None:
        return found.columns, range(len(found))
    wanted = list(range(len(found)))
    if query.named:
        ids = sorted({here.model.check_neuron(NeuronId.parse(name)) for name in query.named})
        places = {layer: place for place, layer in enumerate(found.layers)}
        wanted = [places[neuron.layer] * found.d_mlp + neuron.index for neuron in ids if neuron.layer in places]
    if query.label is not None:
        carriers = set(found.carriers(query.label))
        wanted = [index for index in wanted if index in carriers]
    return {name: values[wanted] for name, values in found.columns.items()}, wanted


def spectrum(resident: Resident, query: SpectrumQuery, *, on: AtlasSource) -> views.SpectrumView:
    """The singular values, the knee, and rho of every layer for the k in use."""
    return spectrum_of(on.on(resident), query, origin_of(resident))


def spectrum_of(here: Neurons, query: SpectrumQuery, origin: Mapping[str, Any]) -> views.SpectrumView:
    """The same of whatever is known of a model. origin: what its numbers go back to."""
    model = here.model
    found = here.spectrum(query.vocab_centred)
    k = found.chosen(query.k)
    controls = nullspace.rho(here.atlas.controls.rows, found.basis(k))
    by_layer = {str(layer): quantiles(here.rho(layer, k, query.vocab_centred)) for layer in range(model.n_layers)}
    space = null_space(found)
    return views.SpectrumView(
        singular_values=found.S.tolist(),
        knee=space.knee,
        knee_ratio=space.fall,
        null_space=space,
        k=k,
        d_model=found.d_model,
        trivial=found.trivial,
        vocab_centred=query.vocab_centred and origin["folding"]["vocab_centred"],
        rho_quantiles=by_layer,
        chance=weights_rows.chance_view(here.chance(k)),
        controls=quantiles(controls),
        provenance=weights_rows.source_of(origin, k=k),
    )


def neurons_before_weights(here: ShippedContext, query: NeuronsQuery) -> views.NeuronsView:
    """The table of a model whose weights are not loaded, from what ships of it."""
    return table(here, query, here.origin())


def spectrum_before_weights(here: ShippedContext, query: SpectrumQuery) -> views.SpectrumView:
    """Likewise the spectrum."""
    return spectrum_of(here, query, here.origin())


def reproduce(resident: Resident, request: NothingAsked, *, on: AtlasSource) -> views.ReproduceView:
    """The literature's numbers for this model beside the computed ones; 404 where there are none."""
    here = on.on(resident)
    findings = published.reproduce(resident.model, here.atlas, resident.unigram)
    return views.ReproduceView(
        model=resident.key,
        holds=all(finding.holds for finding in findings),
        rows=[
            views.ReproduceRow(
                what=finding.what,
                published=finding.published,
                found=finding.found,
                tolerance=finding.tolerance,
                holds=finding.holds,
            )
            for finding in findings
        ],
        provenance=weights_rows.source(resident),
    )
