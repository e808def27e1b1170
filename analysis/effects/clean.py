"""The clean run at a few positions, in the terms that every ablation is a combination of.

For the plain architectures the residual stream is xc and an ablation adds delta w; where a norm stands between the MLP
and the residual stream (r its scale, g its gain, u its input) it is A + B/r, A the stream before the MLP, B = g u, and

    r'² = r² + (2 delta u·w + delta² ‖w‖²)/d
    s'² = ‖A + (B + delta g w)/r'‖²/d + eps

both from d_model-sized dot products, and

    z = W_Uᵀ(A)/s' + W_Uᵀ(B)/(s' r') + delta/(s' r') m + b_U,     m = W_Uᵀ(g w).

The plain case is A = xc, r = r' = 1, g = 1 and no B. Scalars are float64, vocabulary vectors in the readout's dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.effects.engine import Engine
from analysis.trace import LastLayer
from analysis.types import InputError


@dataclass(frozen=True, slots=True)
class Clean:
    """Clean logits and what they are made of.

    targets: the next token, -1 where there is none. pre: logits before the cap less, where nothing is capped, their
    log-partition (so that ``pre`` is log p). bases: W_Uᵀ(A), W_Uᵀ(B). entropy: nats. kl_unigram: None without counts.
    """

    targets: Int[Tensor, " pos"]
    A: Float[Tensor, "pos d_model"]
    B: Float[Tensor, "pos d_model"] | None
    u: Float[Tensor, "pos d_model"] | None
    s: Float[Tensor, " pos"]
    r: Float[Tensor, " pos"]
    pre: Float[Tensor, "pos vocab"]
    bases: Float[Tensor, "b pos vocab"]
    p: Float[Tensor, "pos vocab"]
    log_partition: Float[Tensor, " pos"]
    entropy: Float[Tensor, " pos"]
    loss: Float[Tensor, " pos"]
    kl_unigram: Float[Tensor, " pos"] | None
    top1: Int[Tensor, " pos"]


def exact(x: Tensor) -> Tensor:
    """float64, on the processor where the device has none (mps)."""
    return x.to("cpu" if x.device.type == "mps" else x.device, torch.float64)


def clean(engine: Engine, last: LastLayer, positions: Int[Tensor, " pos"], targets: Int[Tensor, " pos"]) -> Clean:
    """Prepare some positions of a run; ``targets`` are theirs, -1 where there is none."""
    readout = engine.readout
    resid = exact(last.resid[positions])
    A, B, u, r = readout.centre(resid), None, None, torch.ones_like(resid[:, 0])
    if readout.post_norm is not None:
        if last.mlp_out is None:
            raise InputError("A post-norm readout needs the MLP's output before its norm.")
        u = exact(last.mlp_out[positions])
        r = readout.post_norm.scale(u)
        B = engine.seen(u)
        A = A - B / r[:, None]
    s = readout.scale(resid)
    W_U = readout.W_U
    bases = torch.stack([part.to(W_U) @ W_U for part in (A, B) if part is not None])
    pre = bases[0] / s.to(W_U)[:, None] + readout.b_U
    if B is not None:
        pre += bases[1] / (s * r).to(W_U)[:, None]
    log_partition = readout.cap(pre).logsumexp(-1)
    if readout.soft_cap is None:
        pre -= log_partition[:, None]
    log_p = [_log_p(engine, row, total) for row, total in zip(pre, log_partition, strict=True)]
    entropy = torch.stack([-(row.exp() * row).sum() for row in log_p])
    loss = torch.stack([-row[target] for row, target in zip(log_p, targets.clamp_min(0), strict=True)])
    kl = None
    if engine.unigram is not None:
        freq = exact(engine.unigram.log_p)
        kl = torch.stack([(freq.exp() * (freq - row)).sum() for row in log_p])
    p = torch.stack([row.exp().to(W_U) for row in log_p])
    loss = loss.where(targets.to(loss.device) >= 0, torch.nan)
    return Clean(targets, A, B, u, s, r, pre, bases, p, exact(log_partition), entropy, loss, kl, pre.argmax(-1))


def _log_p(engine: Engine, pre: Float[Tensor, " vocab"], log_partition: Float[Tensor, ""]) -> Float[Tensor, " vocab"]:
    """Clean log-probabilities of one position in float64, normalised exactly as the kernels see them."""
    u = exact(engine.readout.cap(pre)) - (exact(log_partition) if engine.readout.soft_cap is not None else 0.0)
    return u.log_softmax(-1)
