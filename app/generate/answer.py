"""The resident model writes, a token a slice: between two tokens others are answered. On the device's thread."""

import math
from collections.abc import Iterator
from typing import Any

from analysis import generate as writing
from analysis.chat import Confidence
from analysis.effects import Effects
from analysis.generate import Neurons, Sampling, Step
from analysis.model import Model
from analysis.types import NeuronId
from app.core import to_view
from app.core.answer import prompt_ids, provenance
from app.core.limits import check_known, check_tokens
from app.core.request import InterventionRequest
from app.core.residency.resident import Resident
from app.core.view import Parts
from app.generate.request import GenerateRequest
from app.generate.view import GenerateView, PromptToken, StepNeuronView, StepView
from app.generate.written import Written, pieces


def generate(resident: Resident, request: GenerateRequest) -> Iterator[GenerateView | int]:
    """Tokens written, then the view of the whole."""
    whole: GenerateView | None = None
    for done, view in enumerate(lines(resident, request), start=1):
        whole = view
        yield done
    assert whole is not None
    yield whole


def lines(resident: Resident, request: GenerateRequest) -> Iterator[GenerateView]:
    """A view a token, then the whole."""
    model, ids = resident.model, prompt_ids(resident, request)
    read = len(ids) + _given(resident, ids, request)
    wanted = min(request.max_new_tokens, resident.max_tokens - read)
    resident.admit(read + wanted, rows=2)
    steps, log_probs, text = list[StepView](), list[float](), Written(model, ids, request.stop)
    finish = "length" if wanted == request.max_new_tokens else "context"
    for step in _steps(resident, ids, request, wanted):
        given = len(steps) < len(request.written)
        if request.stop_at_eos and not given and step.token_id in writing.ends(model):
            finish, piece = "eos", model.token_texts([step.token_id])[0]
        else:
            piece = text.add(step.token_id, given=given)
            finish = "stop" if text.stopped else finish
        log_probs.append(step.log_prob)
        steps.append(_step(model, step, request).model_copy(update={"piece": piece, "given": given}))
        before = _prompt(model, ids) if len(steps) == 1 else []
        yield GenerateView(prompt=before, tokens=steps[-1:], text=text.new(), finish_reason=None)
        if finish in ("eos", "stop"):
            break
    if rest := text.new(whole=True):
        yield GenerateView(prompt=[], tokens=[], text=rest, finish_reason=None)
    sure = Confidence.of([step.entropy for step in steps], log_probs, [step.rank for step in steps])
    yield GenerateView(
        prompt=_prompt(model, ids),
        tokens=steps,
        text=text.whole,
        finish_reason=finish,
        confidence=to_view.confidence(sure, [step.position for step in steps]),
        provenance=provenance("generate", resident, ids, request, "mean" if _needs_means(request) else None),
    )


def _steps(resident: Resident, ids: list[int], request: GenerateRequest, wanted: int) -> Iterator[Step]:
    means = resident.require_means() if _needs_means(request) else None
    return writing.generate(
        resident.model,
        ids,
        max_new_tokens=wanted,
        written=request.written,
        sampling=Sampling(request.temperature, request.top_k, request.top_p, request.seed),
        interventions=[to_view.intervention(item) for item in request.interventions],
        apply_to=request.apply_to,
        watched=[NeuronId.parse(name) for name in request.neurons],
        neurons=Neurons(resident.engine, means[-1], request.top_neurons)
        if request.top_neurons and means is not None
        else None,
        top=request.alternatives,
        unigram=resident.unigram,
        means=means,
    )


def _needs_means(request: GenerateRequest) -> bool:
    """Whether the reference means are needed: for a neuron set to its own, or for what ablation is measured by."""
    to_mean = (isinstance(item, InterventionRequest) and item.mode == "mean" for item in request.interventions)
    return bool(request.top_neurons) or any(to_mean)


def _prompt(model: Model, ids: list[int]) -> list[PromptToken]:
    told = zip(to_view.tokens(model, ids), pieces(model, ids), strict=True)
    return [PromptToken(**token.model_dump(), piece=piece) for token, piece in told]


def _given(resident: Resident, ids: list[int], request: GenerateRequest) -> int:
    """How many tokens were handed over; InputError where they are none of the model's, or too many."""
    if request.written:
        check_known(request.written, resident.model.d_vocab)
        check_tokens(len(ids) + len(request.written), resident.max_tokens)
    return len(request.written)


def _step(model: Model, step: Step, request: GenerateRequest) -> StepView:
    return StepView(
        position=step.position,
        id=step.token_id,
        text=model.token_texts([step.token_id])[0],
        prob=math.exp(step.log_prob),
        rank=step.rank,
        entropy=step.entropy,
        ln_scale=step.ln_scale,
        kl_unigram=step.kl_unigram,
        top=to_view.next_tokens(model, step.top_ids.tolist(), step.top_log_probs.tolist()),
        neurons=[] if step.effects is None else _neurons(model, step.effects),
        activations={str(neuron): value for neuron, value in step.activations.items()},
    )


def _neurons(model: Model, table: Effects) -> list[StepNeuronView]:
    return [
        StepNeuronView(
            neuron=f"{model.last_layer}.{int(table.neurons[i])}",
            activation=float(table.activation[i]),
            d_entropy=Parts(**{name: _at(getattr(table.d_entropy, name), i) for name in Parts.model_fields}),
        )
        for i in range(len(table.neurons))
    ]


def _at(values: Any, i: int) -> float | None:
    return None if values is None else float(values[i])
