"""The inner loop of every effect: one pass over the vocabulary for each (token, neuron, condition).

A ``Tile`` holds a few vocabulary vectors and, for every token and neuron, the scalars that combine them into intervened
logits; a backend reduces each combination to a few numbers (``Sums``) without ever keeping the logits:

    eager     plain torch in chunks that stay in the processor's cache: the reference, always there
    compiled  the same arithmetic fused by torch.compile (CPU)
    triton    one fused kernel (CUDA)

``choose`` picks one; all of them take a ``Tile`` and give the same ``Sums``.
"""

from analysis.kernels.choice import Backend, BackendName, choose
from analysis.kernels.tile import Coefficients, Sums, Tile

__all__ = ["Backend", "BackendName", "Coefficients", "Sums", "Tile", "choose"]
