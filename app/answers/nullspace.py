"""The null-space page, on the device thread: the spectrum, rho of every neuron, what else lives there, a test walk."""

from collections.abc import Collection

import torch
from torch import Tensor

from analysis import nullspace
from analysis import trace as tracing
from analysis.metrics import entropy
from analysis.model import Model
from analysis.nullspace import Spectrum
from analysis.types import InputError
from app.answers import atlas as answers
from app.answers.atlas import Footing, Ground
from app.answers.core import prompt_ids, provenance
from app.answers.neuron import sample_rows
from app.present import atlas as atlas_shown
from app.present import core as core_shown
from app.present.plain import number, series
from app.requests.atlas import NullspaceQuery, NullspaceState, WalkRequest
from app.requests.core import PromptRequest
from app.residency.resident import Resident
from app.views import atlas as views

STEPS = 25
SAMPLE_TOKENS = 64
"""Tokens of the sample that the page's own walk takes."""


def page(
    resident: Resident, on: Footing, state: NullspaceState, parts: Collection[str], models: list[str]
) -> views.NullspaceView:
    """`parts`: "others" (heads and embeddings) and "walk" where the answer shows them."""
    here, model = on(resident), resident.model
    query = NullspaceQuery(k=state.k, vocab_centred=state.vocab_centred, layer=state.layer)
    spectrum = answers.spectrum(resident, on, query)
    layer, rho = _rho(here, query, spectrum.k)
    chosen, others = here.spectrum(state.vocab_centred), "others" in parts
    return views.NullspaceView(
        model=model.key,
        models=models,
        state=state.model_dump(),
        spectrum=spectrum,
        layer=layer,
        rho=series(rho),
        neurons_above=int((rho > spectrum.chance.maximum).sum()),
        heads=_heads(model, chosen, spectrum.k) if others else None,
        embeddings=_embeddings(here, chosen, spectrum.k) if others else {},
        walk=_page_walk(resident, state, chosen) if "walk" in parts else None,
    )


def shares(resident: Resident, on: Footing, query: NullspaceQuery) -> views.NullspaceShares:
    """The null space's share of neurons, heads and embeddings."""
    here, model = on(resident), resident.model
    spectrum = here.spectrum(query.vocab_centred)
    k = spectrum.chosen(query.k)
    (layer, rho), chance = _rho(here, query, k), here.chance(k)
    return views.NullspaceShares(
        k=k,
        layer=layer,
        rho=series(rho),
        chance=atlas_shown.chance_view(chance),
        neurons_above=int((rho > chance.maximum).sum()),
        heads=_heads(model, spectrum, k),
        embeddings=_embeddings(here, spectrum, k),
        provenance=atlas_shown.source(resident, k=k),
    )


def _rho(here: Ground, query: NullspaceQuery, k: int) -> tuple[int, Tensor]:
    """The layer asked for, and rho of its neurons."""
    layer = here.model.last_layer if query.layer is None else here.layer(query.layer)
    return layer, here.rho(layer, k, query.vocab_centred)


def _heads(model: Model, spectrum: Spectrum, k: int) -> list[list[float | None]]:
    """Share of what each head can write that lies in the null space."""
    basis, centre = spectrum.basis(k).to(model.device), model.readout.centre
    return [
        [number(nullspace.share(centre(head.float()), basis)) for head in model.W_O(layer)]
        for layer in range(model.n_layers)
    ]


def _embeddings(here: Ground, spectrum: Spectrum, k: int) -> dict[str, float]:
    """The same of token embeddings (a sample of a large vocabulary), of every layer's MLP, and of chance."""
    model = here.model
    basis, centre = spectrum.basis(k).to(model.device), model.readout.centre
    W_E = model.W_E
    stride = max(1, len(W_E) // 20_000)
    found = {"token embeddings": nullspace.share(centre(W_E[::stride].float()), basis)}
    for layer in range(model.n_layers):
        found[f"MLP {layer}"] = nullspace.share(model.write_rows(layer), basis)
    trivial = int(spectrum.trivial)
    found["random directions"] = (k - trivial) / (spectrum.d_model - trivial)
    return found


def walked(resident: Resident, on: Footing, request: WalkRequest) -> views.WalkView:
    """The walk at the last token of a prompt."""
    ids = prompt_ids(resident, request)
    found = walk(resident, ids, on(resident).spectrum(request.vocab_centred), request.direction, request.reach)
    return views.WalkView(**dict(found), provenance=provenance("walk", resident, ids, request))


def _page_walk(resident: Resident, state: NullspaceState, spectrum: Spectrum) -> views.Walk:
    """On the reader's text, else on the beginning of the model's sample."""
    if state.text:
        ids = prompt_ids(resident, PromptRequest(text=state.text))
    else:
        rows = sample_rows(resident)
        ids = (rows[0] if rows else [resident.model.bos_id or 0])[:SAMPLE_TOKENS]
    return walk(resident, ids, spectrum, state.direction, state.reach)


def walk(resident: Resident, ids: list[int], spectrum: Spectrum, direction: int | None, reach: float) -> views.Walk:
    """Move the last residual stream along one singular direction: with a null direction only the LN scale grows."""
    model, readout = resident.model, resident.model.readout
    resident.admit(len(ids))
    x = tracing.trace(model, ids).last.resid[-1]
    last = spectrum.d_model - 1
    chosen = last - int(spectrum.trivial) if direction is None else direction
    if chosen > last:
        raise InputError(
            f"There is no direction {chosen}.", code="no_such_direction", hint=f"Directions run from 0 to {last}."
        )
    unit = spectrum.U[:, chosen].to(x)
    amount = torch.linspace(-reach, reach, STEPS, dtype=torch.float64)
    length = readout.centre(x).norm()
    moved = x + (amount.to(x)[:, None] * length) * unit
    frozen = readout.logits(moved, scale=readout.scale(x).expand(STEPS)).log_softmax(-1)
    log_probs = readout.log_probs(moved)
    return views.Walk(
        direction=chosen,
        singular_value=float(spectrum.S[chosen]),
        token=core_shown.tokens(model, ids)[-1],
        amount=amount.tolist(),
        ln_scale=series(readout.scale(moved)),
        entropy=series(entropy(log_probs)),
        frozen_change=series((frozen - readout.log_probs(x)).abs().amax(-1)),
        top1_prob=series(log_probs.amax(-1).exp()),
    )
