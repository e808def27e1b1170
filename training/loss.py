"""Cross-entropy over the vocabulary without ever holding all logits: 256 tokens at a time, gradients taken on the way.

The logits of a step would be 4,096 x 4,096 floats, larger than the cache of a core; a chunk's fit, and the backward
pass needs none of them.
"""

import torch
from torch import Tensor

CHUNK = 256


class ChunkedCrossEntropy(torch.autograd.Function):
    """Mean negative log-likelihood of `targets` [n] under logits hidden [n, d] @ unembed.T [d, V], in float32."""

    @staticmethod
    def forward(ctx, hidden: Tensor, unembed: Tensor, targets: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        n, weight = len(targets), unembed.to(hidden.dtype)
        d_hidden, d_unembed = torch.empty_like(hidden), torch.zeros_like(unembed)
        total = torch.zeros((), device=hidden.device)
        for start in range(0, n, CHUNK):
            h, target = hidden[start : start + CHUNK], targets[start : start + CHUNK, None]
            z = (h @ weight.T).float()
            z -= z.amax(1, keepdim=True)
            wanted = z.gather(1, target)
            p = z.exp_()
            norm = p.sum(1, keepdim=True)
            total += (norm.log() - wanted).sum()
            p /= norm * n
            p.scatter_add_(1, target, torch.full_like(wanted, -1 / n))
            d_logits = p.to(hidden.dtype)
            d_hidden[start : start + CHUNK] = d_logits @ weight
            d_unembed += d_logits.T @ h
        ctx.save_for_backward(d_hidden, d_unembed)
        return total / n

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[no-untyped-def, override]
        d_hidden, d_unembed = ctx.saved_tensors
        return d_hidden * grad, d_unembed * grad, None


def cross_entropy(hidden: Tensor, unembed: Tensor, targets: Tensor) -> Tensor:
    """As the class, for hidden [batch, pos, d] and targets [batch, pos]."""
    result: Tensor = ChunkedCrossEntropy.apply(hidden.flatten(0, 1), unembed, targets.flatten())
    return result
