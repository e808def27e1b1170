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
    log-partition (so that ``pre`` is log p). bases: W_Uᵀ(A), W_Uᵀ(B). entropy, loss, kl_unigram: nats.
    rank: how many tokens exceed the target by more than rounding.
    marks: the clean argmax and the target (0 where there is none); at_marks, at_p: W_U at these tokens and W_U P.
    at_log_p: W_U (P log P), where it was asked for.
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
    marks: Int[Tensor, "2 pos"]
    at_marks: Float[Tensor, "2 pos d_model"]
    at_p: Float[Tensor, "pos d_model"]
    rank: Float[Tensor, " pos"]
    at_log_p: Float[Tensor, "pos d_model"] | None = None

    @property
    def top1(self) -> Int[Tensor, " pos"]:
        return self.marks[0]


def exact(x: Tensor) -> Tensor:
    """float64, on the processor where the device has none (mps)."""
    return x.to("cpu" if x.device.type == "mps" else x.device, torch.float64)


def clean(
    engine: Engine,
    last: LastLayer,
    positions: Int[Tensor, " pos"],
    targets: Int[Tensor, " pos"],
    *,
    at_log_p: bool = False,
) -> Clean:
    """Prepare some positions of a run; ``targets`` are theirs, -1 where there is none. at_log_p: whether it is wanted,
    a product with all of ``W_U``."""
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
    bases = torch.stack([engine.onto_vocabulary(part) for part in (A, B) if part is not None])
    pre = bases[0] / s.to(bases)[:, None] + readout.b_U
    if B is not None:
        pre += bases[1] / (s * r).to(bases)[:, None]
    log_partition = readout.cap(pre).logsumexp(-1)
    if readout.soft_cap is None:
        pre -= log_partition[:, None]
    pre, bases = pre.to(W_U), bases.to(W_U)
    p, entropy, loss, kl = _metrics(engine, pre, log_partition, targets)
    marks = torch.stack([pre.argmax(-1), targets.to(pre.device).clamp_min(0)])
    return Clean(
        targets=targets,
        A=A,
        B=B,
        u=u,
        s=s,
        r=r,
        pre=pre,
        bases=bases,
        p=p,
        log_partition=exact(log_partition),
        entropy=entropy,
        loss=loss,
        kl_unigram=kl,
        marks=marks,
        at_marks=exact(W_U[:, marks].permute(1, 2, 0)),
        at_p=exact(p @ W_U.T),
        rank=exact((pre > _just_above(pre, log_partition, marks[1])).sum(-1)),
        at_log_p=exact((p * pre) @ W_U.T) if at_log_p else None,
    )


def _just_above(
    pre: Float[Tensor, "pos vocab"], log_partition: Float[Tensor, " pos"], token: Int[Tensor, " pos"]
) -> Float[Tensor, "pos 1"]:
    """A token's logit and the rounding it may carry."""
    at = pre.gather(1, token[:, None])
    return at + 4 * torch.finfo(pre.dtype).eps * (at.abs() + log_partition.abs()[:, None])


def _metrics(
    engine: Engine,
    pre: Float[Tensor, "pos vocab"],
    log_partition: Float[Tensor, " pos"],
    targets: Int[Tensor, " pos"],
) -> tuple[Float[Tensor, "pos vocab"], Float[Tensor, " pos"], Float[Tensor, " pos"], Float[Tensor, " pos"] | None]:
    """P, entropy, loss and KL to the unigram distribution; one position at a time in float64."""
    p_freq = None if engine.unigram is None else exact(engine.unigram.p_freq)
    p, entropy, loss, cross = torch.empty_like(pre), [], [], []
    for pos, target in enumerate(targets.tolist()):
        log_p = _log_p(engine, pre[pos], log_partition[pos])
        one = log_p.exp()
        p[pos] = one
        entropy.append(-one @ log_p)
        loss.append(-log_p[target] if target >= 0 else log_p.new_tensor(torch.nan))
        if p_freq is not None:
            cross.append(-p_freq @ log_p)
    kl = None if engine.unigram is None else torch.stack(cross) - engine.unigram.entropy
    return p, torch.stack(entropy), torch.stack(loss), kl


def _log_p(engine: Engine, pre: Float[Tensor, " vocab"], log_partition: Float[Tensor, ""]) -> Float[Tensor, " vocab"]:
    """Clean log-probabilities of one position in float64, normalised exactly as the kernels see them."""
    u = exact(engine.readout.cap(pre)) - (exact(log_partition) if engine.readout.soft_cap is not None else 0.0)
    return u.log_softmax(-1)
