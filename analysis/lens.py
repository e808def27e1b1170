"""The logit lens: what the model would predict if it were read out behind each block (METHODS section 11).

    layer(y) = readout(y),   y = the stream behind a block (of="stream"), or what the block wrote alone (of="block")

The LN scale is that of y (scale="own"), or is held at the last stream's (scale="frozen"): then early layers, whose
streams are short, read near uniform, which says something of the scale and nothing of the layer. The last entry is the
model's own output. In a model whose attention and MLP read the same stream, "behind the attention" is that stream with
the attention's write added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import metrics
from analysis.model import Model
from analysis.readout import Readout

Scale = Literal["own", "frozen"]
Of = Literal["stream", "block"]


@dataclass(frozen=True, slots=True)
class LensLayer:
    """One reading at every position, in nats.

    loss: of the token at t + 1, NaN at the last position. kl_final: KL(P_last || P), zero at the end. top_ids,
    top_log_probs: the k most probable next tokens, falling.
    """

    name: str
    entropy: Float[Tensor, " pos"]
    loss: Float[Tensor, " pos"]
    kl_final: Float[Tensor, " pos"]
    ln_scale: Float[Tensor, " pos"]
    top_ids: Int[Tensor, "pos k"]
    top_log_probs: Float[Tensor, "pos k"]


@torch.inference_mode()
def lens(
    model: Model, token_ids: Sequence[int], *, scale: Scale = "own", of: Of = "stream", top_k: int = 5
) -> Iterator[LensLayer]:
    """A reading behind the embedding and every attention and MLP, in the order of the forward pass; one pass in all."""
    run = model.run(model.tokens(token_ids), capture=_names(model))
    captured = {name: metrics.wide(value) for name, value in run.items()}
    tokens = torch.tensor(list(token_ids))
    readout, last = model.readout, captured[f"blocks.{model.last_layer}.hook_resid_post"][0]
    frozen = readout.scale(last) if scale == "frozen" else None
    ends = [readout.log_probs(part) for part in torch.split(last, metrics.positions_per_chunk(readout.d_vocab))]
    for name, stream in _streams(model, captured, of):
        with torch.inference_mode():  # a generator's caller may have left the block
            yield _read(readout, name, stream, ends, tokens.to(last.device), frozen, top_k)


def held_bytes(model: Model, n_tokens: int) -> int:
    """What `lens` keeps from its first reading to its last: the streams, and the model's own output in full."""
    return 4 * n_tokens * (model.d_vocab + (3 * model.n_layers + 1) * model.d_model)


def _names(model: Model) -> list[str]:
    blocks = [f"blocks.{layer}" for layer in range(model.n_layers)]
    hooks = ("hook_attn_out", "hook_mlp_out", "hook_resid_post")
    return ["blocks.0.hook_resid_pre", *(f"{block}.{hook}" for block in blocks for hook in hooks)]


def _streams(model: Model, captured: dict[str, Tensor], of: Of) -> Iterator[tuple[str, Float[Tensor, "pos d_model"]]]:
    before = captured["blocks.0.hook_resid_pre"][0]
    yield "embed", before
    for layer in range(model.n_layers):
        attention, mlp, after = (
            captured[f"blocks.{layer}.{hook}"][0] for hook in ("hook_attn_out", "hook_mlp_out", "hook_resid_post")
        )
        yield f"L{layer}.attn", before + attention if of == "stream" else attention
        yield f"L{layer}.mlp", after if of == "stream" else mlp
        before = after


def _read(
    readout: Readout,
    name: str,
    stream: Float[Tensor, "pos d_model"],
    ends: Sequence[Float[Tensor, "chunk d_vocab"]],
    tokens: Int[Tensor, " pos"],
    frozen: Float[Tensor, " pos"] | None,
    top_k: int,
) -> LensLayer:
    """Logits are held for a chunk of positions at a time. ends: the model's own output, by chunk."""
    scale = readout.scale(stream) if frozen is None else frozen
    targets = torch.cat([tokens[1:], tokens[:1]])  # the last one is a placeholder, taken back below
    chunk = metrics.positions_per_chunk(readout.d_vocab)
    parts: list[tuple[Tensor, ...]] = []
    for end, x, s, target in zip(ends, *(torch.split(each, chunk) for each in (stream, scale, targets)), strict=True):
        log_probs = metrics.wide(readout.logits(x, scale=s)).log_softmax(-1)
        best = log_probs.topk(min(top_k, readout.d_vocab), dim=-1)
        kl = metrics.kl(end, log_probs)
        parts.append((metrics.entropy(log_probs), metrics.loss(log_probs, target), kl, best.indices, best.values))
    entropy, loss, kl_final, ids, values = (torch.cat(column) for column in zip(*parts, strict=True))
    loss = torch.cat([loss[:-1], loss.new_full((1,), float("nan"))])
    return LensLayer(name, entropy, loss, kl_final, scale, ids, values)
