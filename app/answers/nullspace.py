"""The null-space page, on the device thread: the spectrum, rho of every neuron, what else lives there, a test walk."""

from collections.abc import Collection

import torch
from torch import Tensor

from analysis import nullspace
from analysis import trace as tracing
from analysis.model import Model
from analysis.nullspace import Spectrum
from app.answers import atlas as answers
from app.answers.atlas import Footing, Ground
from app.answers.core import prompt_ids
from app.answers.neuron import sample_rows
from app.present import core as shown
from app.present.plain import number, series
from app.requests.atlas import NullspaceState, SpectrumQuery
from app.requests.core import PromptRequest
from app.residency.resident import Resident
from app.views import atlas as views

STEPS = 25
WALK_TOKENS = 64


def page(
    resident: Resident, on: Footing, state: NullspaceState, parts: Collection[str], models: list[str]
) -> views.NullspaceView:
    """`parts`: "others" (heads and embeddings) and "walk" where the answer shows them."""
    here, model = on(resident), resident.model
    layer = model.last_layer if state.layer is None else here.layer(state.layer)
    query = SpectrumQuery(k=state.k, vocab_centred=state.vocab_centred)
    spectrum = answers.spectrum(resident, on, query)
    rho = here.rho(layer, spectrum.k, state.vocab_centred)
    chosen = here.spectrum(state.vocab_centred)
    return views.NullspaceView(
        model=model.key,
        models=models,
        state=state.model_dump(),
        spectrum=spectrum,
        layer=layer,
        rho=series(rho),
        neurons_above=int((rho > spectrum.chance.maximum).sum()),
        heads=_heads(model, chosen, spectrum.k) if "others" in parts else None,
        embeddings=_embeddings(here, chosen, spectrum.k) if "others" in parts else {},
        walk=walk(resident, here, state, chosen) if "walk" in parts else None,
    )


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


def walk(resident: Resident, here: Ground, state: NullspaceState, spectrum: Spectrum) -> views.Walk:
    """Move the last residual stream along one singular direction: with a null direction only the LN scale grows."""
    model, readout = resident.model, resident.model.readout
    rows = sample_rows(resident)
    text = PromptRequest(text=state.text) if state.text else None
    ids = prompt_ids(resident, text) if text else (rows[0] if rows else [model.bos_id or 0])
    ids = list(ids[:WALK_TOKENS])
    resident.admit(len(ids))
    x = tracing.trace(model, ids).last.resid[-1]
    last = spectrum.d_model - 1
    direction = min(last - int(spectrum.trivial) if state.direction is None else state.direction, last)
    unit = spectrum.U[:, direction].to(x)
    amount = torch.linspace(-state.reach, state.reach, STEPS, dtype=torch.float64)
    length = readout.centre(x).norm()
    moved = x + (amount.to(x)[:, None] * length) * unit
    frozen = readout.logits(moved, scale=readout.scale(x).expand(STEPS)).log_softmax(-1)
    log_probs = readout.log_probs(moved)
    return views.Walk(
        direction=direction,
        singular_value=float(spectrum.S[direction]),
        token=shown.tokens(model, ids)[-1],
        amount=amount.tolist(),
        ln_scale=series(readout.scale(moved)),
        entropy=series(_entropy(log_probs)),
        frozen_change=series((frozen - readout.log_probs(x)).abs().amax(-1)),
        top_logit=series(log_probs.amax(-1).exp()),
    )


def _entropy(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).sum(-1)
