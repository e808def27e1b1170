"""The compare page, on the device thread: one short piece a side and a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis import checkpoints, nullspace
from analysis.checkpoints import Snapshot
from analysis.neuron_columns import quantiles
from analysis.types import NotFoundError
from app.compare.view import Moment, Side, Training
from app.core import weights_rows
from app.core.null_space import null_space
from app.core.plain import number, series
from app.core.prices import OTHER_K
from app.core.question import priced
from app.core.residency.atlas_context import AtlasSource
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident

TRACKED = 5

CHECKPOINT = Kind("checkpoint", "analysis.checkpoints")


@priced()
def checkpoint_files(resident: Resident) -> dict[int, Path]:
    return checkpoints.files(resident.model.spec.folder)


@priced(lambda on, k: 0.0 if k is None else OTHER_K)
def whole(resident: Resident, on: AtlasSource, k: int | None) -> Side:
    """The model itself."""
    here, model = on.on(resident), resident.model
    spectrum = here.atlas.spectrum
    chosen = spectrum.chosen(k)
    table, rho = here.atlas.table, here.rhos(range(model.n_layers), chosen)
    side = _side(resident, model.key, Snapshot(0, spectrum, chosen, table.norm, table.logit_var, rho))
    last = here.neurons(model.last_layer, chosen)
    carried: dict[str, list[str]] = {}
    for name in (label.name for layer in last.labels for label in layer):
        for index in last.carriers(name):
            carried.setdefault(last.names[index], []).append(name)
    return side.model_copy(update={"labels": carried})


@priced(4)
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
    read = checkpoints.read(found[tokens], known=resident.model.known, k=k)
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
        null_space=null_space(spectrum),
        chance=chance.maximum,
        norm=series(found.norm[-1]),
        logit_var=series(found.logit_var[-1]),
        rho=series(found.rho[-1]),
        singular_values=spectrum.S.tolist(),
        rho_by_layer={str(layer): quantiles(found.rho[layer]) for layer in range(len(found.rho))},
        provenance=weights_rows.source(resident, k=found.k),
    )


@priced()
def tracked(resident: Resident, on: AtlasSource) -> list[str]:
    """The last layer's entropy neurons, else its first by norm/LogitVar."""
    here, last = on.on(resident), resident.model.last_layer
    found = here.neurons(last, here.atlas.spectrum.k)
    rank = found.columns["norm_over_logit_var"]
    order = np.argsort(-np.nan_to_num(rank), kind="stable").tolist()
    carriers = set(found.carriers("entropy"))
    labelled = [index for index in order if index in carriers]
    return [f"{last}.{index}" for index in (labelled or order)[:TRACKED]]


@priced(1)
def moment(resident: Resident, on: AtlasSource, tokens: int | None, neurons: list[str]) -> Moment:
    """One checkpoint (None: the finished model) as the tracked neurons see it; k is the finished model's."""
    here, model = on.on(resident), resident.model
    spectrum = here.atlas.spectrum
    k, last = spectrum.k, model.last_layer
    if tokens is None:
        table = here.atlas.table
        found = Snapshot(0, spectrum, k, table.norm[last:], table.logit_var[last:], here.rhos([last], k))
    else:
        path = checkpoint_files(resident)[tokens]
        state = path.stat()
        found = resident.cached(
            CHECKPOINT,
            (tokens, k, str(path), state.st_size, state.st_mtime_ns),
            lambda: checkpoints.read_at(path, known=model.known, k=k),
        )
    rho = found.rho[-1]

    def of(values: Sequence[float], scale: float = 1.0) -> dict[str, float | None]:
        return {name: number(values[int(name.partition(".")[2])] / scale) for name in neurons}

    norm, logit_var = (values[-1] for values in (found.norm, found.logit_var))
    return Moment(
        tokens=tokens,
        knee=found.spectrum.knee,
        null_space=null_space(found.spectrum),
        above_chance=int((rho > here.chance(k).maximum).sum()),
        largest_rho=number(rho.max()),
        norm_over_median=of(norm.tolist(), float(norm.median())),
        logit_var_over_median=of(logit_var.tolist(), float(logit_var.median())),
        rho=of(rho.tolist()),
    )


@priced()
def training(resident: Resident, on: AtlasSource, neurons: list[str], moments: list[Moment]) -> Training:
    here = on.on(resident)
    k = here.atlas.spectrum.k
    return Training(
        model=resident.key,
        k=k,
        chance=here.chance(k).maximum,
        neurons=neurons,
        labels_rest_on=weights_rows.resting_on(here.findings),
        untrained=_untrained(moments[0], moments[-1]),
        moments=moments,
    )


def _untrained(first: Moment, last: Moment) -> str | None:
    """Whether the null space was there before training; None without a checkpoint of that."""
    if first.tokens != 0:
        return None
    if first.knee == last.knee and last.knee is not None:
        null = first.null_space.built_in
        exactly = f", and {null} of its directions are exactly null" if null else ""
        return (
            f"The untrained checkpoint has the same knee ({last.knee}){exactly}: this null space was built into the "
            "model. What training adds is the neurons that write into it."
        )
    at = "no knee" if first.knee is None else f"its knee at {first.knee}"
    return f"The untrained checkpoint has {at}: where the null space begins now, training decided."
