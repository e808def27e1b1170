"""The model writes, and at each token it is seen how sure it was and which neurons made it so.

One forward pass over the prompt, then one a token with a key-value cache. The distribution of the next token is the
readout's, as everywhere here; each step has the numbers that a trace of the finished text has at that position, for
the distribution as it is (sampling changes what is chosen, not what is told). Interventions are hooks in these passes,
on the prompt, on what is written, or on both.

Sampling: temperature divides the logits, then the ``top_k`` most probable are kept, then the fewest whose probabilities
sum to ``top_p`` (Holtzman et al. 2020); temperature 0 takes the most probable. Draws come from a generator of its own
on the processor, in float64: one seed, one text, whatever else runs. Each token has its own noise, the token with the
largest p / noise is taken (exponential noise: a draw from p; Gumbel's maximum in logarithms). So two runs of one seed
whose distributions differ little write the same for as long as they can.

A text is taken up where it was left: tokens handed over as ``written`` are read with the prompt in one pass, told like
the others, and each uses up its draw. So 20 tokens and 20 more are the 40 that are written in one go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import metrics
from analysis.apply import edited
from analysis.attention import check_head, mean_outputs
from analysis.effects import Effects, Engine, strongest
from analysis.effects.clean import clean
from analysis.frequency import Unigram
from analysis.metrics import wide
from analysis.model import Hook, Model
from analysis.trace import AnyIntervention, LastLayer
from analysis.types import HeadIntervention, InputError, Intervention, NeuronId, Span, check_disjoint

Where = Literal["all", "prompt", "new"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is chosen. InputError for what cannot be."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf or (self.top_k is not None and self.top_k < 1):
            raise InputError("temperature is a number from 0 on and top_k at least 1.", code="sampling")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError("top_p lies above 0 and at most at 1.", code="sampling")


@dataclass(frozen=True, slots=True)
class Step:
    """One written token and the prediction that it was chosen from, nats.

    position: of the token. log_prob, rank: its own (rank 0: the most probable). effects: last-layer neurons ablated one
    by one at the position before, the largest changes of entropy first, where `Neurons` ask for them; activations: of
    the watched neurons there.
    """

    position: int
    token_id: int
    log_prob: float
    rank: int
    entropy: float
    ln_scale: float
    kl_unigram: float | None
    top_ids: Int[Tensor, " k"]
    top_log_probs: Float[Tensor, " k"]
    effects: Effects | None = None
    activations: dict[NeuronId, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Neurons:
    """What is told of last-layer neurons at each step. baseline: what an ablated one is set to. n: how many, those
    with the largest change of entropy."""

    engine: Engine
    baseline: Float[Tensor, " d_mlp"]
    n: int = 10


def generate(
    model: Model,
    token_ids: Sequence[int],
    *,
    max_new_tokens: int,
    written: Sequence[int] = (),
    sampling: Sampling | None = None,
    interventions: Sequence[AnyIntervention] = (),
    apply_to: Where = "all",
    watched: Sequence[NeuronId] = (),
    neurons: Neurons | None = None,
    top: int = 5,
    unigram: Unigram | None = None,
    means: Float[Tensor, "n_layers d_mlp"] | None = None,
) -> Iterator[Step]:
    """A step a token, at most ``max_new_tokens`` and what the context holds; close it to stop.

    written: ids that follow the prompt as if they had been written; they are told first, and are none of the new ones.
    means: reference means, for interventions of mode "mean" on neurons. A head set to its mean writes that over the
    prompt: a trace of the finished text takes it over all of that. InputError for impossible tokens, neurons, heads or
    positions; NotReadyError without means.
    """
    room = max(min(max_new_tokens, model.n_ctx - len(token_ids) - len(written)), 0)
    total = len(token_ids) + len(written) + room
    tokens = model.tokens([*token_ids, *written])
    for neuron in watched:
        model.check_neuron(neuron)
    hooks = _Hooks(model, token_ids, interventions, apply_to, means, total)
    choose, cache, offset = _Choice(sampling or Sampling(), written), None, 0
    read: dict[str, Tensor] = {}
    for position in range(len(token_ids), total):
        # Nothing of a step outlives it but the cache and what is still to be told of a text that was handed over:
        # between two of them others use the model.
        with torch.inference_mode():
            if not len(token_ids) < position <= len(token_ids) + len(written):
                captured, cache = model.extend(tokens, cache, capture=_names(model, watched), hooks=hooks.at(offset))
                offset += tokens.shape[1]
                read = {name: value[:, position - 1 - offset :].clone() for name, value in captured.items()}
            here = {name: value[:, [position - 1 - offset]] for name, value in read.items()}
            step = _step(model, here, position, choose, watched, neurons, top, unigram)
            tokens = torch.tensor([[step.token_id]], device=model.device)
        yield step


def ends(model: Model) -> frozenset[int]:
    """The tokens after which a text is over: the tokenizer's, and those that the model's own files name, as
    transformers' `generate` has them (a model for conversations has one behind a text and one behind a turn)."""
    own = model.transformers.generation_config.eos_token_id
    named = [model.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
    return frozenset(token for token in named if token is not None)


def _names(model: Model, watched: Sequence[NeuronId]) -> list[str]:
    last = f"blocks.{model.last_layer}"
    names = {f"{last}.hook_resid_post", f"{last}.mlp.hook_post"}
    names |= {f"blocks.{neuron.layer}.mlp.hook_post" for neuron in watched}
    if model.readout.post_norm is not None:
        names.add(f"{last}.mlp.hook_out")
    return sorted(names)


def _step(
    model: Model,
    captured: dict[str, Tensor],
    position: int,
    choose: Callable[[Float[Tensor, " vocab"]], int],
    watched: Sequence[NeuronId],
    neurons: Neurons | None,
    top: int,
    unigram: Unigram | None,
) -> Step:
    values = {name: wide(value[0, -1:]) for name, value in captured.items()}
    last = f"blocks.{model.last_layer}"
    resid = values[f"{last}.hook_resid_post"]
    start = None
    if neurons is not None:
        layer = LastLayer(resid, values[f"{last}.mlp.hook_post"], values.get(f"{last}.mlp.hook_out"))
        start = clean(neurons.engine, layer, torch.tensor([0]), torch.tensor([-1]), at_log_p=True)
    logits = model.readout.logits(resid) if start is None else model.readout.cap(start.pre)
    log_probs = wide(logits).log_softmax(-1)
    token = choose(log_probs[0])
    p_freq = None if unigram is None else unigram.p_freq.to(resid)
    told = metrics.summary(logits, torch.tensor([token], device=logits.device), p_freq)
    best = log_probs[0].topk(min(top, model.readout.d_vocab))
    table = None
    if neurons is not None and start is not None:
        table = strongest(neurons.engine, layer, start, baseline=neurons.baseline, n=neurons.n)
    return Step(
        position=position,
        token_id=token,
        log_prob=-float(told.loss[0]),
        rank=int(told.rank[0]),
        entropy=float(told.entropy[0]),
        ln_scale=float(model.readout.scale(resid)[0]),
        kl_unigram=None
        if told.cross_entropy is None or unigram is None
        else float(told.cross_entropy[0] - unigram.entropy),
        top_ids=best.indices,
        top_log_probs=best.values,
        effects=table,
        activations={
            neuron: float(values[f"blocks.{neuron.layer}.mlp.hook_post"][0, neuron.index]) for neuron in watched
        },
    )


class _Choice:
    """The next token from its log-probabilities: the ids that were handed over first, then what is drawn."""

    def __init__(self, sampling: Sampling, written: Sequence[int]) -> None:
        self._sampling, self._written = sampling, iter(written)
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, log_probs: Float[Tensor, " vocab"]) -> int:
        if self._sampling.temperature == 0:
            return next(self._written, int(log_probs.argmax()))
        # Drawn for a token that was handed over, too: what follows it has the noise of its own place.
        noise = torch.empty(log_probs.shape, dtype=torch.float64).exponential_(generator=self._generator)
        given = next(self._written, None)
        return self._drawn(log_probs, noise) if given is None else given

    def _drawn(self, log_probs: Float[Tensor, " vocab"], noise: Float[Tensor, " vocab"]) -> int:
        logits = log_probs.double().cpu()
        # From the largest down: divided by a number as small as floats have, the others are -inf and it stays 0.
        scaled = ((logits - logits.max()) / self._sampling.temperature).log_softmax(-1)
        values, ids = scaled.sort(descending=True, stable=True)
        if self._sampling.top_k is not None:
            values[self._sampling.top_k :] = -torch.inf
        p = values.softmax(-1)
        if self._sampling.top_p is not None:
            p = torch.where(p.cumsum(-1) - p < self._sampling.top_p, p, 0.0)
        return int(ids[(p / noise[ids]).argmax()])


class _Hooks:
    """The interventions on passes over a part of the text."""

    def __init__(
        self,
        model: Model,
        prompt: Sequence[int],
        interventions: Sequence[AnyIntervention],
        apply_to: Where,
        means: Float[Tensor, "n_layers d_mlp"] | None,
        total: int,
    ) -> None:
        check_disjoint(interventions, total)
        self._prompt, self._apply_to, self._means = len(prompt), apply_to, means
        self._check_places(interventions, total)
        self._neurons = [item for item in interventions if isinstance(item, Intervention)]
        self._heads = [item for item in interventions if isinstance(item, HeadIntervention)]
        for item in self._neurons:
            model.check_neuron(item.neuron)
        for head in self._heads:
            check_head(model, head.head)
        averaged = {item.head.layer for item in self._heads if item.mode == "mean"}
        self._head_means = mean_outputs(model, model.tokens(prompt), averaged) if averaged else {}
        self._first: dict[int, Tensor] = {}  # what each head wrote at token 0, by layer

    def _check_places(self, interventions: Sequence[AnyIntervention], total: int) -> None:
        """Named positions lie where interventions hold."""
        ends = {"all": (0, total), "prompt": (0, self._prompt), "new": (self._prompt, total)}
        allowed = range(*ends[self._apply_to])
        for item in interventions:
            for position in () if item.positions is None else item.at(total):
                if position not in allowed:
                    raise InputError(
                        f"Position {position} is not among those that apply_to leaves: {self._apply_to}.",
                        code="position_out_of_range",
                        hint=f"The prompt has positions 0 to {self._prompt - 1}, what is written those after.",
                    )

    def at(self, offset: int) -> list[Hook]:
        """For a pass whose first token is number ``offset`` of the text."""
        neurons = {item.neuron.layer for item in self._neurons}
        heads = {item.head.layer for item in self._heads}
        return [
            *((f"blocks.{layer}.mlp.hook_post", self._on_neurons(layer, offset)) for layer in sorted(neurons)),
            *((f"blocks.{layer}.attn.hook_z", self._on_heads(layer, offset)) for layer in sorted(heads)),
        ]

    def _where(self, item: AnyIntervention, offset: int, n: int) -> list[int]:
        """Places in this pass."""
        first = self._prompt if self._apply_to == "new" else 0
        stop = self._prompt if self._apply_to == "prompt" else offset + n
        match item.positions:
            case None:
                chosen = range(offset, offset + n)
            case Span(start, stop=end):
                chosen = range(max(start, offset), min(end, offset + n))
            case listed:
                return [at - offset for at in listed if max(first, offset) <= at < min(stop, offset + n)]
        return [at - offset for at in chosen if first <= at < stop]

    def _on_neurons(self, layer: int, offset: int) -> Callable[[Tensor], Tensor]:
        def hook(activations: Float[Tensor, "1 pos d_mlp"]) -> Float[Tensor, "1 pos d_mlp"]:
            n = activations.shape[1]
            placed = [(item, self._where(item, offset, n)) for item in self._neurons if item.neuron.layer == layer]
            return edited(activations, placed, self._means)

        return hook

    def _on_heads(self, layer: int, offset: int) -> Callable[[Tensor], Tensor]:
        def hook(z: Float[Tensor, "1 pos head d_head"]) -> Float[Tensor, "1 pos head d_head"]:
            if offset == 0:
                self._first[layer] = z[:, :1].clone()
            new = z.clone()
            for item in self._heads:
                where = self._where(item, offset, z.shape[1])
                if item.head.layer == layer and where:
                    new[:, where, item.head.head] = self._instead(item)
            return new

        return hook

    def _instead(self, item: HeadIntervention) -> Tensor:
        layer, head = item.head.layer, item.head.head
        if item.mode == "mean":
            return self._head_means[layer][head].to(self._first[layer])
        bos = self._first[layer][:, :, head]
        return bos if item.mode == "bos" else torch.zeros_like(bos)
