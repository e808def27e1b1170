"""Neurons by their weights, on the device thread: the table, one neuron, the spectrum, token frequency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis import nullspace, published, weights
from analysis.atlas import Atlas
from analysis.labels import Evidence, Thresholds
from analysis.model import Model
from analysis.nullspace import Chance, Spectrum
from analysis.published import KNOWN
from analysis.types import NeuronId, NotFoundError
from app.present import atlas as shown
from app.present.plain import number, series
from app.present.table import select
from app.requests.atlas import NeuronQuery, NeuronsQuery, SpectrumQuery
from app.residency.atlas import Atlases
from app.residency.resident import Resident
from app.views import atlas as views

NEAREST = 10
EFFECTS_SHOWN = 20
SAMPLED_TOKENS = 6000
BINS = 60


@dataclass(frozen=True)
class Ground:
    """What every answer here stands on: the model, its atlas, and the causal evidence of finished sweeps."""

    resident: Resident
    atlas: Atlas
    kept: Atlases
    evidence: Mapping[str, Evidence]
    thresholds: Thresholds

    @property
    def model(self) -> Model:
        return self.resident.model

    def spectrum(self, vocab_centred: bool = True) -> Spectrum:
        return self.atlas.spectrum if vocab_centred else self.atlas.uncentred

    def chance(self, k: int) -> Chance:
        model = self.model
        return nullspace.chance(model.d_model, k, model.d_mlp, trivial=self.atlas.spectrum.trivial)

    def rho(self, layer: int, k: int, vocab_centred: bool = True) -> Tensor:
        """Of every neuron of a layer."""
        basis = self.spectrum(vocab_centred).basis(k)
        return nullspace.rho(self.model.write_rows(layer), basis).cpu()

    def neurons(self, layer: int | None, k: int) -> shown.Neurons:
        """One layer of the table, or all, for one k; kept for the next request.

        What is kept holds the evidence, so that its id names it as long as the entry lives.
        """
        layers = range(self.model.n_layers) if layer is None else [self.layer(layer)]
        name = (self.model.weights_sha256, self.model.key, layer, k, id(self.evidence))
        return self.kept.kept(name, lambda: self._neurons(layers, k), most=6)

    def _neurons(self, layers: Any, k: int) -> shown.Neurons:
        chance = self.chance(k).maximum
        rho = torch.stack([self.rho(layer, k) for layer in layers])
        labels = [
            self.atlas.labels(layer, rho[place], chance, thresholds=self.thresholds, evidence=self._evidence_of(layer))
            for place, layer in enumerate(layers)
        ]
        return shown.neurons(self.atlas, layers, rho, labels, self.evidence)

    def _evidence_of(self, layer: int) -> dict[int, Evidence]:
        ids = {NeuronId.parse(name): found for name, found in self.evidence.items()}
        return {neuron.index: found for neuron, found in ids.items() if neuron.layer == layer}

    def layer(self, layer: int) -> int:
        """A layer of the model; NotFoundError for another."""
        if layer >= self.model.n_layers:
            raise NotFoundError(
                f"There is no layer {layer}.",
                code="no_such_layer",
                hint=f"Layers run from 0 to {self.model.n_layers - 1}.",
            )
        return layer


def ground(resident: Resident, atlas: Atlas, kept: Atlases, evidence: Mapping[str, Evidence]) -> Ground:
    thresholds = replace(Thresholds(), **resident.settings.label_thresholds)
    return Ground(resident, atlas, kept, evidence, thresholds)


def neurons(resident: Resident, on: "Footing", query: NeuronsQuery) -> views.NeuronsView:
    """The table: filtered, sorted, one page of rows."""
    here = on(resident)
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
        chance=shown.chance_view(here.chance(k)),
        rows=[shown.row(here.model, here.atlas, found, wanted[index]) for index in picked],
        provenance=shown.source(resident, k=k),
    )


def _wanted(here: Ground, found: shown.Neurons, query: NeuronsQuery) -> tuple[Mapping[str, np.ndarray], Sequence[int]]:
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


def neuron(resident: Resident, on: "Footing", name: str, query: NeuronQuery) -> views.NeuronView:
    """Everything that the weights say about one neuron."""
    here, model = on(resident), resident.model
    which = model.check_neuron(NeuronId.parse(name))
    spectrum = here.atlas.spectrum
    k = spectrum.chosen(query.k)
    found = here.neurons(which.layer, k)
    row = model.write_rows(which.layer)[which.index]
    effect = weights.logit_effect(row, model.readout)[: model.n_tokens].double().cpu()
    order = effect.argsort(descending=True)
    around = [which.index - 1, which.index + 1]
    previous, following = (f"{which.layer}.{i}" if 0 <= i < model.d_mlp else None for i in around)
    return views.NeuronView(
        neuron=str(which),
        layer=which.layer,
        index=which.index,
        n_layers=model.n_layers,
        d_mlp=model.d_mlp,
        previous=previous,
        next=following,
        weights=shown.row(model, here.atlas, found, which.index),
        percentiles=_percentiles(found, which.index),
        known=KNOWN.get(model.key, {}).get(str(which)),
        k=k,
        knee=spectrum.knee,
        chance=shown.chance_view(here.chance(k)),
        singular_values=spectrum.S.tolist(),
        null_space_cosines=[value or 0.0 for value in series(nullspace.cosines(row, spectrum))],
        raised=shown.effect_tokens(model, order[:EFFECTS_SHOWN], effect[order[:EFFECTS_SHOWN]]),
        lowered=shown.effect_tokens(model, order.flip(0)[:EFFECTS_SHOWN], effect[order.flip(0)[:EFFECTS_SHOWN]]),
        effect_histogram=histogram(effect),
        effect_by_frequency=_by_frequency(resident, effect),
        nearest_out=_nearest(model.write_rows(which.layer), which),
        nearest_in=_nearest(model.W_in(which.layer).T, which),
        provenance=shown.source(resident, k=k),
    )


def _percentiles(found: shown.Neurons, index: int) -> dict[str, float | None]:
    """Share of the layer's neurons with a smaller value."""
    shares: dict[str, float | None] = {}
    for name, values in found.columns.items():
        if name not in ("neuron", "layer"):
            known = values[~np.isnan(values)]
            shares[name] = None if np.isnan(values[index]) else float((known < values[index]).mean())
    return shares


def histogram(values: Tensor, bins: int = BINS) -> views.Histogram:
    counts, edges = torch.histogram(values.double(), bins)
    return views.Histogram(edges=edges.tolist(), counts=[int(count) for count in counts.tolist()])


def sampled(n: int) -> Tensor:
    """At most SAMPLED_TOKENS ids, evenly spread: what a scatter over a large vocabulary shows."""
    count = min(n, SAMPLED_TOKENS)
    return torch.arange(count) * n // count


def _by_frequency(resident: Resident, effect: Tensor) -> list[tuple[float, float]] | None:
    if resident.unigram is None:
        return None
    which = sampled(len(effect))
    logs = (resident.unigram.counts[which].double() + 1).log10()
    return list(zip(logs.tolist(), effect[which].tolist(), strict=True))


def _nearest(rows: Tensor, which: NeuronId) -> list[views.Neighbour]:
    """The neurons of the same layer with the most similar (or opposite) direction."""
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    cosines = unit @ unit[which.index]
    cosines[which.index] = 0
    best = cosines.abs().topk(min(NEAREST, len(cosines) - 1)).indices.tolist()
    return [views.Neighbour(neuron=f"{which.layer}.{i}", cosine=number(cosines[i])) for i in best]


def spectrum(resident: Resident, on: "Footing", query: SpectrumQuery) -> views.SpectrumView:
    """The singular values, the knee, and rho of every layer for the k in use."""
    here, model = on(resident), resident.model
    found = here.spectrum(query.vocab_centred)
    k = found.chosen(query.k)
    controls = nullspace.rho(here.atlas.controls.rows, found.basis(k))
    by_layer = {str(layer): shown.quantiles(here.rho(layer, k, query.vocab_centred)) for layer in range(model.n_layers)}
    knee = found.knee
    return views.SpectrumView(
        singular_values=found.S.tolist(),
        knee=knee,
        knee_ratio=None if knee is None else number(found.S[knee] / found.S[knee + 1]),
        k=k,
        d_model=model.d_model,
        trivial=found.trivial,
        vocab_centred=query.vocab_centred and model.readout.vocab_centred,
        rho_quantiles=by_layer,
        chance=shown.chance_view(here.chance(k)),
        controls=shown.quantiles(controls),
        provenance=shown.source(resident, k=k),
    )


def reproduce(resident: Resident, on: "Footing") -> views.ReproduceView:
    """The literature's numbers for this model beside the computed ones; 404 where there are none."""
    here = on(resident)
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
        provenance=shown.source(resident),
    )


@dataclass(frozen=True)
class Footing:
    """What a route knows before it is on the device thread."""

    atlas: Atlas
    kept: Atlases
    evidence: Mapping[str, Evidence]

    def __call__(self, resident: Resident) -> Ground:
        return ground(resident, self.atlas, self.kept, self.evidence)
