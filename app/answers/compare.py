"""The compare page, on the device thread: one short piece a side and a checkpoint."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from analysis import checkpoints, nullspace
from analysis.checkpoints import Snapshot
from analysis.types import NotFoundError
from app.answers.atlas import Footing
from app.present import atlas as shown
from app.present.plain import number, series
from app.residency.resident import Resident
from app.views.compare import Moment, Side, Training

TRACKED = 5


def checkpoint_files(resident: Resident) -> dict[int, Path]:
    return checkpoints.files(resident.model.spec.folder)


def whole(resident: Resident, on: Footing, k: int | None) -> Side:
    """The model itself."""
    here, model = on(resident), resident.model
    spectrum = here.atlas.spectrum
    chosen = spectrum.chosen(k)
    rho = torch.stack([here.rho(layer, chosen) for layer in range(model.n_layers)])
    table = here.atlas.table
    found = Snapshot(0, spectrum, chosen, table.norm, table.logit_var, rho)
    return _side(resident, model.key, found)


def checkpoint(resident: Resident, tokens: int, k: int | None) -> Side:
    """The model after so many training tokens."""
    found = checkpoint_files(resident)
    if tokens not in found:
        known = ", ".join(map(str, found)) or "none"
        raise NotFoundError(
            f"{resident.key} has no checkpoint at {tokens} tokens.",
            code="no_such_checkpoint",
            hint=f"There are: {known}.",
        )
    read = checkpoints.read(found[tokens], n_tokens=resident.model.n_tokens, k=k)
    return _side(resident, f"{resident.key}@{tokens}", read)


def _side(resident: Resident, name: str, found: Snapshot) -> Side:
    spectrum, d_mlp = found.spectrum, found.norm.shape[1]
    chance = nullspace.chance(spectrum.d_model, found.k, d_mlp, trivial=spectrum.trivial)
    return Side(
        name=name,
        n_layers=len(found.norm),
        d_model=spectrum.d_model,
        k=found.k,
        knee=spectrum.knee,
        chance=chance.maximum,
        norm=series(found.norm[-1]),
        logit_var=series(found.logit_var[-1]),
        rho=series(found.rho[-1]),
        singular_values=spectrum.S.tolist(),
        rho_by_layer={str(layer): shown.quantiles(found.rho[layer]) for layer in range(len(found.rho))},
        provenance=shown.source(resident, k=found.k),
    )


def tracked(resident: Resident, on: Footing) -> list[str]:
    """The last layer's entropy neurons, else its first by norm/LogitVar."""
    here, last = on(resident), resident.model.last_layer
    found = here.neurons(last, here.atlas.spectrum.k)
    rank = found.columns["norm_over_logit_var"]
    order = np.argsort(-np.nan_to_num(rank), kind="stable").tolist()
    carriers = set(found.carriers("entropy"))
    labelled = [index for index in order if index in carriers]
    return [f"{last}.{index}" for index in (labelled or order)[:TRACKED]]


def moment(resident: Resident, on: Footing, tokens: int | None, neurons: list[str]) -> Moment:
    """One checkpoint (None: the finished model) as the tracked neurons see it; k is the finished model's."""
    here, model = on(resident), resident.model
    spectrum = here.atlas.spectrum
    k, last = spectrum.k, model.last_layer
    if tokens is None:
        table = here.atlas.table
        found = Snapshot(0, spectrum, k, table.norm[last:], table.logit_var[last:], here.rho(last, k)[None])
    else:
        path = checkpoint_files(resident)[tokens]
        found = here.kept.kept(
            (model.weights_sha256, "checkpoint", tokens),
            lambda: checkpoints.read(path, n_tokens=model.n_tokens, k=k),
        )
    rho = found.rho[-1]

    def of(values: Tensor, scale: float = 1.0) -> dict[str, float | None]:
        return {name: number(values[int(name.partition(".")[2])] / scale) for name in neurons}

    return Moment(
        tokens=tokens,
        knee=found.spectrum.knee,
        above_chance=int((rho > here.chance(k).maximum).sum()),
        largest_rho=number(rho.max()),
        norm_over_median=of(found.norm[-1], float(found.norm[-1].median())),
        logit_var_over_median=of(found.logit_var[-1], float(found.logit_var[-1].median())),
        rho=of(rho),
    )


def training(resident: Resident, on: Footing, neurons: list[str], moments: list[Moment]) -> Training:
    here = on(resident)
    k = here.atlas.spectrum.k
    return Training(model=resident.key, k=k, chance=here.chance(k).maximum, neurons=neurons, moments=moments)
