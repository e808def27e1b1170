"""What lives in the null space, and what moving along it does (METHODS section 2; paper section 3.2).

    share(W)         ‖W V0‖² / ‖W‖²: of a head, an embedding, an MLP; of a random direction (k - t) / (d - t), with
                     t = 1 where centring makes one direction trivial, else 0
walk             x + a ‖x_c‖ u for a singular direction u: with σ_u = 0 no logit moves before the LN scale divides
reconstruction   x = U Uᵀ x, and ‖W_Uᵀ V0 V0ᵀ x‖² = sum over the null space of σ_i² (u_i·x)²
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis import interrupt
from analysis.metrics import entropy, wide
from analysis.model import Model
from analysis.nullspace import Spectrum, share
from analysis.readout import Readout
from analysis.selfcheck import Finding
from analysis.types import InputError

EMBEDDINGS = 20_000
"""Token embeddings that are looked at, of a larger vocabulary."""

RECONSTRUCTION = 1e-5  # relative: float32 weights against a float64 spectrum of them


def head_shares(model: Model, spectrum: Spectrum, k: int) -> list[list[float]]:
    """The null space's share of what each head can write: (layer, head). NaN for a head that writes nothing."""
    basis, centre = spectrum.basis(k).to(model.device), model.readout.centre
    shares = []
    for layer in range(model.n_layers):
        interrupt.check()
        shares.append([share(centre(head.float()), basis) for head in model.W_O(layer)])
    return shares


def other_shares(model: Model, spectrum: Spectrum, k: int) -> dict[str, float]:
    """The same of token embeddings (EMBEDDINGS of them at most), of every layer's MLP, and of random directions."""
    basis, W_E = spectrum.basis(k).to(model.device), model.W_E
    stride = max(1, len(W_E) // EMBEDDINGS)
    shares = {"token embeddings": share(model.readout.centre(W_E[::stride].float()), basis)}
    for layer in range(model.n_layers):
        interrupt.check()
        shares[f"MLP {layer}"] = share(model.write_rows(layer), basis)
    trivial = int(spectrum.trivial)
    return shares | {"random directions": (k - trivial) / (spectrum.d_model - trivial)}


@dataclass(frozen=True, slots=True)
class Walk:
    """The last residual stream moved along one singular direction.

    amount: in lengths of the centred stream. frozen_change: the largest change of a log-probability with the LN scale
    held at its clean value, nats; entropy in nats.
    """

    direction: int
    singular_value: float
    amount: Float[Tensor, " steps"]
    ln_scale: Float[Tensor, " steps"]
    entropy: Float[Tensor, " steps"]
    frozen_change: Float[Tensor, " steps"]
    top1_prob: Float[Tensor, " steps"]


def walk(
    readout: Readout,
    spectrum: Spectrum,
    x: Float[Tensor, " d_model"],
    direction: int | None,
    *,
    reach: float,
    steps: int,
) -> Walk:
    """From -reach to reach; ``direction`` None takes the last that centring does not make trivial. InputError where
    there is no such direction.

    Forwards is where the stream lies already; of equal singular values it takes the stream's own direction.
    """
    last = spectrum.d_model - 1
    chosen = last - int(spectrum.trivial) if direction is None else direction
    if chosen > last:
        raise InputError(
            f"There is no direction {chosen}.", code="no_such_direction", hint=f"Directions run from 0 to {last}."
        )
    centred = readout.centre(x)
    unit = spectrum.direction(chosen, centred.double().cpu()).to(x)
    amount = torch.linspace(-reach, reach, steps, dtype=torch.float64)
    moved = x + (amount.to(x)[:, None] * centred.norm()) * unit
    frozen = readout.logits(moved, scale=readout.scale(x).expand(steps)).log_softmax(-1)
    log_probs = readout.log_probs(moved)
    return Walk(
        direction=chosen,
        singular_value=float(spectrum.S[chosen]),
        amount=amount,
        ln_scale=readout.scale(moved),
        entropy=entropy(log_probs),
        frozen_change=(frozen - readout.log_probs(x)).abs().amax(-1),
        top1_prob=log_probs.amax(-1).exp(),
    )


def reconstruction(readout: Readout, spectrum: Spectrum) -> Finding:
    """A random vector's null and row parts are what the spectrum says the logits see of them; relative to the whole
    vector."""
    k, W_U = spectrum.k, readout.W_U
    U, S = spectrum.U.to(W_U.device), spectrum.S.to(W_U.device)
    x = torch.randn(len(S), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(W_U.device)
    inside = spectrum.basis(k).to(W_U.device)
    null = inside @ (inside.T @ x)

    def gap(part: Tensor) -> float:
        seen = wide(part.to(W_U.dtype) @ W_U).double().norm()
        return float((seen - (S * (U.T @ part)).norm()).abs() / (S * (U.T @ x)).norm())

    return Finding(
        "null_space",
        f"a random vector and its parts in and outside of the null space (k = {k}): rebuilt from the singular vectors, "
        "and seen by the logits as the singular values say",
        max(float((U @ (U.T @ x) - x).norm() / x.norm()), gap(x), gap(null), gap(x - null)),
        RECONSTRUCTION,
    )
