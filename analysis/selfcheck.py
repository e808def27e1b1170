"""The identities that the numbers rest on, tried on a loaded model (METHODS section 6, 1, 2, 4 and 8).

Each finding is the largest difference between what the closed form says and what the model does when hooked, in nats of
log-probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.metrics import wide
from analysis.model import Hook, Model
from analysis.trace import Trace, intervene, trace
from analysis.types import Intervention, NeuronId

_N_TOKENS, _N_NEURONS = 24, 12
_TOLERANCE_FACTOR = 2.0  # an ablated last layer adds the rounding of the model's own forward pass twice


@dataclass(frozen=True, slots=True)
class Finding:
    """One identity: what it claims, how far it is off, how far it may be."""

    name: str
    claim: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.error <= self.tolerance


@torch.inference_mode()
def run(model: Model, *, seed: int = 0) -> list[Finding]:
    """Try every identity on random tokens and random last-layer neurons of ``model``."""
    generator = torch.Generator().manual_seed(seed)
    n_tokens = min(_N_TOKENS, model.n_ctx)
    ids = model.known[torch.randint(model.n_tokens, (n_tokens,), generator=generator)].tolist()
    indices = torch.randperm(model.d_mlp, generator=generator)[:_N_NEURONS].tolist()
    clean = trace(model, ids)
    tokens = model.tokens(ids)
    ablation = [Intervention(NeuronId(model.last_layer, index), "zero") for index in indices]
    closed = intervene(model, clean, ablation, method="closed_form")

    tolerance = _TOLERANCE_FACTOR * model.self_check.tolerance

    def finding(name: str, claim: str, error: float) -> Finding:
        return Finding(name, claim, error, tolerance)

    hook = _zeroing(model, indices)
    return [
        finding(
            "logits",
            "log-probabilities of the folded readout = those of the plain transformers model",
            _gap(_log_probs(model, clean), _own(model, tokens, [])),
        ),
        finding(
            "closed_form",
            f"ablating {len(indices)} last-layer neurons in closed form = a hooked forward pass",
            _gap(_log_probs(model, closed), _own(model, tokens, [hook])),
        ),
        finding(
            "frozen_scale",
            "the same with the LN scale frozen = a pass with the scale hook frozen",
            _frozen_gap(model, clean, closed, tokens, hook),
        ),
        finding(
            "each_neuron",
            "each of them by itself: closed form = hooked pass",
            max(_one_gap(model, clean, tokens, index) for index in indices),
        ),
        finding(
            "no_change",
            "after all that, the clean run is what it was",
            _gap(_log_probs(model, trace(model, ids)), _log_probs(model, clean)),
        ),
    ]


def _log_probs(model: Model, run: Trace) -> Float[Tensor, "pos d_vocab"]:
    return model.readout.log_probs(run.last.resid)


def _own(model: Model, tokens: Int[Tensor, "1 pos"], hooks: list[Hook]) -> Float[Tensor, "pos d_vocab"]:
    return wide(model.logits(tokens, hooks=hooks))[0].log_softmax(-1)


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def _zeroing(model: Model, indices: list[int]) -> Hook:
    mask = torch.ones(model.d_mlp, dtype=model.dtype, device=model.device)
    mask[indices] = 0
    return f"blocks.{model.last_layer}.mlp.hook_post", lambda activations: activations * mask


def _one_gap(model: Model, clean: Trace, tokens: Int[Tensor, "1 pos"], index: int) -> float:
    closed = intervene(model, clean, [Intervention(NeuronId(model.last_layer, index), "zero")], method="closed_form")
    return _gap(_log_probs(model, closed), _own(model, tokens, [_zeroing(model, [index])]))


def _frozen_gap(model: Model, clean: Trace, closed: Trace, tokens: Int[Tensor, "1 pos"], hook: Hook) -> float:
    """The scale of the clean run, put in place of the ablated run's own by the hook on the final norm."""
    frozen = model.run(tokens, capture=["ln_final.hook_scale"])["ln_final.hook_scale"]
    hold: Callable[[Tensor], Tensor] = lambda scale: frozen.clone()  # noqa: E731
    own = _own(model, tokens, [hook, ("ln_final.hook_scale", hold)])
    scale = model.readout.scale(clean.last.resid)
    return _gap(model.readout.logits(closed.last.resid, scale=scale).log_softmax(-1), own)
