"""The identities that the numbers rest on, tried on a loaded model (METHODS section 6, 1, 2, 4 and 8).

Each finding is the largest difference between what the closed form says and what the model does when hooked, in nats of
log-probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.metrics import wide
from analysis.model import Hook, Model
from analysis.trace import Trace, intervene, trace
from analysis.types import Intervention, NeuronId

TOKENS, _N_NEURONS = 24, 12
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


def run(model: Model, *, seed: int = 0) -> list[Finding]:
    """Every identity at once."""
    return list(steps(model, seed=seed))


def steps(model: Model, *, seed: int = 0) -> Iterator[Finding]:
    """Try every identity, one a step, on random tokens and random last-layer neurons of ``model``."""
    generator = torch.Generator().manual_seed(seed)
    n_tokens = min(TOKENS, model.n_ctx)
    ids = model.known[torch.randint(model.n_tokens, (n_tokens,), generator=generator)].tolist()
    indices = torch.randperm(model.d_mlp, generator=generator)[:_N_NEURONS].tolist()
    with torch.inference_mode():
        clean = trace(model, ids)
    for name, says, gap in IDENTITIES:
        with torch.inference_mode():
            error = gap(model, clean, indices)
        yield Finding(name, says.format(n=len(indices)), error, _TOLERANCE_FACTOR * model.self_check.tolerance)


def _logits_gap(model: Model, clean: Trace, indices: list[int]) -> float:
    return _gap(_log_probs(model, clean), _own(model, model.tokens(clean.token_ids), []))


def _closed_gap(model: Model, clean: Trace, indices: list[int]) -> float:
    hook = _zeroing(model, indices)
    return _gap(_log_probs(model, _closed(model, clean, indices)), _own(model, model.tokens(clean.token_ids), [hook]))


def _each_gap(model: Model, clean: Trace, indices: list[int]) -> float:
    return max(_closed_gap(model, clean, [index]) for index in indices)


def _clean_gap(model: Model, clean: Trace, indices: list[int]) -> float:
    return _gap(_log_probs(model, trace(model, clean.token_ids)), _log_probs(model, clean))


def _closed(model: Model, clean: Trace, indices: list[int]) -> Trace:
    ablation = [Intervention(NeuronId(model.last_layer, index), "zero") for index in indices]
    return intervene(model, clean, ablation, method="closed_form")


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


def _frozen_gap(model: Model, clean: Trace, indices: list[int]) -> float:
    """The scale of the clean run, put in place of the ablated run's own by the hook on the final norm."""
    tokens = model.tokens(clean.token_ids)
    frozen = model.run(tokens, capture=["ln_final.hook_scale"])["ln_final.hook_scale"]
    hold: Callable[[Tensor], Tensor] = lambda scale: frozen.clone()  # noqa: E731
    own = _own(model, tokens, [_zeroing(model, indices), ("ln_final.hook_scale", hold)])
    scale = model.readout.scale(clean.last.resid)
    return _gap(model.readout.logits(_closed(model, clean, indices).last.resid, scale=scale).log_softmax(-1), own)


IDENTITIES: tuple[tuple[str, str, Callable[[Model, Trace, list[int]], float]], ...] = (
    ("logits", "log-probabilities of the folded readout = those of the plain transformers model", _logits_gap),
    ("closed_form", "ablating {n} last-layer neurons in closed form = a hooked forward pass", _closed_gap),
    ("frozen_scale", "the same with the LN scale frozen = a pass with the scale hook frozen", _frozen_gap),
    ("each_neuron", "each of them by itself: closed form = hooked pass", _each_gap),
    ("no_change", "after all that, the clean run is what it was", _clean_gap),
)
"""(name, what it claims, how far a model is off); tried in this order, the last behind all others."""
