"""A model's atlas before its weights are here: what ships of it, as the pages of the atlas read it.

`ShippedContext` answers what `AtlasContext` does beside a loaded model, for the two k that are stored.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from analysis import nullspace, shipped_atlas
from analysis.atlas import Atlas
from analysis.labels import Thresholds
from analysis.neuron_columns import NeuronColumns, neuron_columns
from analysis.nullspace import Chance, Spectrum
from analysis.registry import LISTED
from analysis.shipped_atlas import ShippedAtlas
from analysis.types import InputError, NeuronId
from app.core.evidence import Findings
from app.core.residency.atlas_context import evidence_of, layer_of


@lru_cache(2)
def read(file: Path, mtime_ns: int) -> ShippedAtlas:
    """Kept: every page of the same file shares it. mtime_ns: of the file, so that another one is read."""
    del mtime_ns
    return shipped_atlas.read(file)


def of_model(key: str) -> ShippedAtlas | None:
    """What ships of a listed model; None where nothing does. Reads the disk, as `names` and `file_of` do."""
    file = file_of(key)
    return None if file is None else read(file, file.stat().st_mtime_ns)


def names() -> list[str]:
    """Of the listed models whose atlas ships."""
    return [key for key in LISTED if file_of(key) is not None]


def file_of(key: str) -> Path | None:
    """Where the atlas of a listed model lies; None where none ships."""
    spec = LISTED.get(key)
    file = None if spec is None or spec.beside is None else spec.beside / shipped_atlas.FILE
    return file if file is not None and file.is_file() else None


@dataclass(frozen=True)
class ShippedModel:
    """What is known of a model without its weights."""

    key: str
    n_layers: int
    d_mlp: int
    d_model: int
    texts: Sequence[str]

    @property
    def last_layer(self) -> int:
        return self.n_layers - 1

    def token_texts(self, ids: Iterable[int]) -> list[str]:
        return [self.texts[index] for index in ids]

    def check_neuron(self, neuron: NeuronId) -> NeuronId:
        return neuron.check(n_layers=self.n_layers, d_mlp=self.d_mlp)


@dataclass(frozen=True)
class ShippedContext:
    """The stored atlas of a model, and what the sweep that ships with it found."""

    shipped: ShippedAtlas
    findings: Findings
    thresholds: Thresholds

    @property
    def atlas(self) -> Atlas:
        return self.shipped.atlas

    @property
    def model(self) -> ShippedModel:
        table = self.atlas.table
        facts, d_model = self.shipped.facts, self.atlas.spectrum.d_model
        return ShippedModel(facts["model"], table.n_layers, table.d_mlp, d_model, self.shipped.token_texts)

    def chance(self, k: int) -> Chance:
        """rho of random directions."""
        spectrum = self.atlas.spectrum
        return nullspace.chance(spectrum.d_model, k, self.atlas.table.d_mlp, trivial=spectrum.trivial)

    def spectrum(self, vocab_centred: bool = True) -> Spectrum:
        """InputError for the one that is not centred over the vocabulary, where the readout is."""
        if not vocab_centred and self.shipped.facts["folding"]["vocab_centred"]:
            raise self._needs_weights("The spectrum that is not centred over the vocabulary", "the one that is")
        return self.atlas.spectrum

    def rho(self, layer: int, k: int, vocab_centred: bool = True) -> Tensor:
        """InputError for a k that is not stored, and as `spectrum`."""
        self.spectrum(vocab_centred)
        return self._stored(k)[layer]

    def _stored(self, k: int) -> Tensor:
        stored = self.shipped.rho
        if k not in stored:
            raise self._needs_weights(f"rho for k = {k}", f"k = {' and '.join(map(str, stored))}")
        return stored[k]

    def _needs_weights(self, what: str, stored: str) -> InputError:
        key = self.model.key
        return InputError(
            f"{what} needs the weights of {key}, which are not loaded here.",
            code="needs_weights",
            hint=f"Stored: {stored}; nullscope get {key} brings more.",
        )

    def neurons(self, layer: int | None, k: int) -> NeuronColumns:
        """One layer of the table, or all. InputError for a k whose rho is not stored."""
        stored = self.shipped.rho
        rho = self._stored(k)
        layers = range(self.model.n_layers) if layer is None else [self.layer(layer)]
        label_k = self.atlas.label_k(k)
        labels = [
            self.atlas.labels_by(
                each,
                stored[label_k][each],
                k=k,
                thresholds=self.thresholds,
                evidence=evidence_of(self.findings, each),
            )
            for each in layers
        ]
        which = list(layers)
        share = stored[self.atlas.spectrum.k_share][which]
        return neuron_columns(self.atlas, layers, rho[which], share, labels, self.findings.neurons)

    def layer(self, layer: int | None) -> int:
        """A layer of the model, None for the last; NotFoundError for another."""
        return layer_of(self.model, layer)

    def origin(self) -> Mapping[str, Any]:
        """What its numbers go back to: `app.core.to_view.origin` of the model that they were computed from."""
        facts = self.shipped.facts
        return {
            "model": facts["model"],
            "source": "numbers that ship with the program; the weights are not here",
            "revision": None,
            "weights_sha256": facts["weights_sha256"],
            "dequantized": facts["dequantized"],
            "dtype": facts["dtype"],
            "device": "cpu",
            "versions": facts["versions"],
            "unigram": facts["unigram"],
            "folding": facts["folding"],
        }
