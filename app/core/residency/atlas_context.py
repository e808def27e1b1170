"""A model with its neuron atlas and what sweeps found: what the answers about neurons are made from.

source = AtlasSource(atlas, findings)        # known before the device's thread
context = source.on(resident)                         # there
context.neurons(layer=3, k=8).columns["rho"]
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from analysis import nullspace
from analysis.atlas import Atlas
from analysis.labels import Evidence, Thresholds
from analysis.model import Model
from analysis.neuron_columns import NeuronColumns, neuron_columns
from analysis.nullspace import Chance, Spectrum
from analysis.types import NeuronId, NotFoundError
from app.core.evidence import Findings
from app.core.residency.atlas import of_this_model
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident

RHO = Kind("rho of a layer", "analysis.nullspace")
NEURONS = Kind("neurons", "analysis.atlas", "analysis.neuron_columns")


class OfModel(Protocol):
    """What is known of a model whether or not its weights are here."""

    @property
    def key(self) -> str: ...
    @property
    def n_layers(self) -> int: ...
    @property
    def d_mlp(self) -> int: ...
    @property
    def last_layer(self) -> int: ...
    def token_texts(self, ids: Iterable[int]) -> list[str]: ...
    def check_neuron(self, neuron: NeuronId) -> NeuronId: ...


class Neurons(Protocol):
    """The neuron table of a model: beside its weights (`AtlasContext`), or as it ships (`ShippedContext`)."""

    @property
    def atlas(self) -> Atlas: ...
    @property
    def findings(self) -> Findings: ...
    @property
    def model(self) -> OfModel: ...
    def chance(self, k: int) -> Chance:
        """rho of random directions."""

    def spectrum(self, vocab_centred: bool = True) -> Spectrum:
        """Of W_U, centred over the vocabulary or not."""

    def rho(self, layer: int, k: int, vocab_centred: bool = True) -> Tensor:
        """Of every neuron of a layer: (d_mlp,)."""

    def neurons(self, layer: int | None, k: int) -> NeuronColumns:
        """One layer of the table, or all, for one k."""

    def layer(self, layer: int | None) -> int:
        """A layer of the model, None for the last; NotFoundError for another."""


def layer_of(model: OfModel, layer: int | None) -> int:
    """A layer of the model, None for the last; NotFoundError for another."""
    if layer is None:
        return model.last_layer
    if layer >= model.n_layers:
        raise NotFoundError(
            f"There is no layer {layer}.", code="no_such_layer", hint=f"Layers run from 0 to {model.n_layers - 1}."
        )
    return layer


def evidence_of(findings: Findings, layer: int) -> dict[int, Evidence]:
    """What a sweep found of one layer, by index."""
    ids = {NeuronId.parse(name): found for name, found in findings.neurons.items()}
    return {neuron.index: found for neuron, found in ids.items() if neuron.layer == layer}


@dataclass(frozen=True)
class AtlasContext:
    """The model, its atlas, and the causal evidence of finished sweeps. On the device's thread."""

    resident: Resident
    atlas: Atlas
    findings: Findings
    thresholds: Thresholds

    @property
    def model(self) -> Model:
        return self.resident.model

    def spectrum(self, vocab_centred: bool = True) -> Spectrum:
        return self.atlas.spectrum if vocab_centred else self.atlas.uncentred

    def chance(self, k: int) -> Chance:
        """rho of random directions."""
        model = self.model
        return nullspace.chance(model.d_model, k, model.d_mlp, trivial=self.atlas.spectrum.trivial)

    def rho(self, layer: int, k: int, vocab_centred: bool = True) -> Tensor:
        """Of every neuron of a layer: (d_mlp,)."""

        def made() -> Tensor:
            basis = self.spectrum(vocab_centred).basis(k)
            return nullspace.rho(self.model.write_rows(layer), basis).cpu()

        return self.resident.cached(RHO, (layer, k, vocab_centred), made)

    def rhos(self, layers: Sequence[int], k: int) -> Tensor:
        """Of several layers: (len(layers), d_mlp)."""
        return torch.stack([self.rho(layer, k) for layer in layers])

    def neurons(self, layer: int | None, k: int) -> NeuronColumns:
        """One layer of the table, or all, for one k; kept for the next request."""
        layers = range(self.model.n_layers) if layer is None else [self.layer(layer)]
        return self.resident.cached(NEURONS, self.inputs(layer, k), lambda: self._neurons(layers, k))

    def inputs(self, layer: int | None, k: int) -> tuple[Hashable, ...]:
        """What `neurons` depends on beside the model."""
        thresholds = astuple(self.thresholds)
        return layer, k, thresholds, self.resident.counts_sha256, self.findings.digest

    def _neurons(self, layers: Sequence[int], k: int) -> NeuronColumns:
        rho, rho_share = (self.rhos(layers, each) for each in (k, self.atlas.spectrum.k_share))
        labels = [
            self.atlas.labels(
                layer,
                self.model.write_rows(layer),
                k=k,
                thresholds=self.thresholds,
                evidence=evidence_of(self.findings, layer),
            )
            for layer in layers
        ]
        return neuron_columns(self.atlas, layers, rho, rho_share, labels, self.findings.neurons)

    def layer(self, layer: int | None) -> int:
        """A layer of the model, None for the last; NotFoundError for another."""
        return layer_of(self.model, layer)


@dataclass(frozen=True)
class AtlasSource:
    """What is known of a model's atlas before the device's thread."""

    atlas: Atlas
    findings: Findings

    def on(self, resident: Resident) -> AtlasContext:
        """ConflictError when the atlas is not of the resident's weights."""
        thresholds = replace(Thresholds(), **resident.settings.label_thresholds)
        return AtlasContext(resident, of_this_model(self.atlas, resident), self.findings, thresholds)
