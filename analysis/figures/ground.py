"""A sweep, its model and its atlas, made ready for figures."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from analysis import nullspace
from analysis.atlas import Atlas
from analysis.evidence import evidence_of
from analysis.figures.controls import ControlEffects
from analysis.figures.data import Dropout, Ground
from analysis.labels import Thresholds
from analysis.model import Model
from analysis.sets import Path, Sets
from analysis.sweep import Result
from analysis.types import NeuronId


def weights_of(model: Model, atlas: Atlas, result: Result, k: int) -> dict[str, Float[ndarray, " n"]]:
    """norm, logit_var, rho and frequency_alignment of a sweep's neurons."""
    layers = [neuron.layer for neuron in result.neurons]
    indices = [neuron.index for neuron in result.neurons]
    names = ("norm", "logit_var", "frequency_alignment")
    columns = {name: getattr(atlas.table, name)[layers, indices].double().numpy() for name in names}
    basis = atlas.spectrum.basis(k)
    rho = np.zeros(len(layers))
    for layer in sorted(set(layers)):
        places = [place for place, other in enumerate(layers) if other == layer]
        rows = model.write_rows(layer)[[indices[place] for place in places]]
        rho[places] = nullspace.rho(rows, basis).cpu().numpy()
    return columns | {"rho": rho}


def sets_of(model: Model, atlas: Atlas, result: Result, k: int) -> Sets:
    """What the sweep's sets of neurons are chosen from."""
    chance = nullspace.chance(model.d_model, k, len(result.neurons), trivial=atlas.spectrum.trivial).maximum
    return Sets(result, weights_of(model, atlas, result, k), chance, atlas.controls.largest_alignment)


def ground_of(
    model: Model,
    atlas: Atlas,
    result: Result,
    *,
    k: int,
    top: int,
    neuron: str | None,
    seed: int,
    controls: Callable[[tuple[int, ...], Path], ControlEffects | None],
    thresholds: Thresholds | None,
    dropout: Dropout | None,
    null_space: str,
) -> Ground:
    """thresholds: of the labels; None where this sweep may not speak for them; null_space: what is said of it."""
    spectrum, sets, once = atlas.spectrum, sets_of(model, atlas, result, k), cache(controls)

    def written(place: int) -> torch.Tensor:
        at = result.neurons[place]
        return model.write_rows(at.layer)[at.index]

    def cosines(place: int) -> Float[ndarray, " d_model"]:
        found: ndarray = nullspace.cosines(written(place), spectrum).numpy()
        return found

    def direction(place: int) -> Float[ndarray, " d_model"]:
        norm = written(place).norm()[None]
        row = nullspace.random_rows(norm, model.d_model, centred=model.readout.centred, seed=seed)[0]
        found: ndarray = nullspace.cosines(row, spectrum).numpy()
        return found

    return Ground(
        sets=sets,
        k=k,
        top=top,
        asked=neuron,
        singular=spectrum.S.numpy(),
        cosines=cosines,
        direction=direction,
        controls=lambda places, path: once(tuple(places), path),
        labelled=None if thresholds is None else _labelled(model, atlas, sets, thresholds, k),
        dropout=dropout,
        null_space=null_space,
    )


def _labelled(model: Model, atlas: Atlas, sets: Sets, thresholds: Thresholds, k: int) -> frozenset[int]:
    """The places of the last-layer neurons that carry the label entropy, by their weights and this sweep."""
    layer = model.last_layer
    said = evidence_of(sets.result)
    places = {neuron.index: place for neuron, place in sets.result.place.items() if neuron.layer == layer}
    evidence = {index: said[str(NeuronId(layer, index))] for index in places}
    labels = atlas.labels(layer, model.write_rows(layer), k=k, thresholds=thresholds, evidence=evidence)
    (entropy,) = (label for label in labels if label.name == "entropy")
    return frozenset(place for index, place in places.items() if bool(entropy.holds[index]))
