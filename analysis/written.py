"""A prompt run once, and what its pass wrote to the stream: what `decompose` splits, clean or intervened on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.components import MeanWrites, Terms, names, prompt_means, terms
from analysis.effects.clean import exact
from analysis.model import Model
from analysis.trace import AnyIntervention, hooks_of


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt run once: what its components are linear in, the last stream, and the means over it."""

    token_ids: tuple[int, ...]
    terms: Terms
    stream: Float[Tensor, "pos d_model"]
    means: MeanWrites


@torch.inference_mode()
def read(
    model: Model,
    token_ids: Sequence[int],
    *,
    interventions: Sequence[AnyIntervention] = (),
    reference_means: Float[Tensor, "n_layers d_mlp"] | None = None,
    keep_sinks: bool = False,
) -> Written:
    """One forward pass, with the interventions as hooks; InputError for impossible tokens, neurons or heads.

    What is read is what stood in the stream behind the interventions, so its parts sum to that stream as those of a
    clean pass do. reference_means: needed by interventions of mode "mean". keep_sinks: whether the
    means over the prompt count an attention sink.
    """
    last = f"blocks.{model.last_layer}.hook_resid_post"
    tokens = model.tokens(token_ids)
    hooks = hooks_of(model, tokens, interventions, reference_means)
    captured = model.run(tokens, capture=[*names(model), last], hooks=hooks)
    whole = terms(model, {name: value[0] for name, value in captured.items()})
    return Written(tuple(token_ids), whole, exact(captured[last][0]), prompt_means(model, whole, keep_sinks=keep_sinks))
