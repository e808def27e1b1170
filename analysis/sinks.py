"""Attention sinks: first tokens that the model uses as a resting place for attention, and that means leave out.

At such a token the residual stream is of another size than anywhere else (massive activations: Sun et al. 2024, arXiv
2402.17762), whatever the token is, and so are activations and LN scale: one in a row of 256 moves a mean. The rule,
one for tokens that are BOS and tokens that are not:

    behind some block the stream of the first token is more than RATIO times as long as the median of the others'

measured once for a model, on a row of its own tokens drawn with a seed (BOS in front where it prepends one). Measured:
SmolLM2-135M 186 (no BOS), Gemma 3 270M 27 to 31 (BOS), the bundled model 6 to 7, random weights below 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.metrics import wide
from analysis.model import Model

RATIO = 10.0
LENGTH = 12

_SINKS: WeakKeyDictionary[Model, bool] = WeakKeyDictionary()


def leads_with_sink(model: Model) -> bool:
    """Whether the first token of a row is a sink in this model. One short forward pass, the first time."""
    if (known := _SINKS.get(model)) is None:
        known = _SINKS[model] = outlying(_lengths(model))
    return known


def skipped(model: Model, token_ids: Sequence[int], *, keep: bool = False) -> int:
    """How many of a row's first positions averages and scales leave out: 1 where its first token is BOS or a sink and
    enough others are there, else 0. keep: leave no sink out."""
    if len(token_ids) <= 2:
        return 0
    return 1 if token_ids[0] == model.bos_id else sinks_in(model, len(token_ids), keep=keep)


def sinks_in(model: Model, n_tokens: int, *, keep: bool = False) -> int:
    """How many of a row's first positions means of activations leave out: 1 where its first token is a sink, BOS or
    not, and others are there. keep: none."""
    return int(not keep and n_tokens > 1 and leads_with_sink(model))


def outlying(lengths: Float[Tensor, "n_layers pos"]) -> bool:
    """The rule, from the lengths of the residual streams behind each block."""
    if lengths.shape[1] < 2:
        return False
    return bool((lengths[:, 0] > RATIO * lengths[:, 1:].median(1).values).any())


def _lengths(model: Model) -> Float[Tensor, "n_layers pos"]:
    generator = torch.Generator().manual_seed(0)
    drawn = model.known[torch.randint(model.n_tokens, (min(LENGTH, model.n_ctx),), generator=generator)].tolist()
    if model.prepends_bos() and model.bos_id is not None:
        drawn[0] = model.bos_id
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(model.n_layers)]
    captured = model.run(model.tokens(drawn), capture=names)
    return torch.stack([wide(captured[name])[0].norm(dim=-1) for name in names])
