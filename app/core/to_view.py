"""Models, traces and effects as views."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from analysis import sinks
from analysis.chat import Confidence
from analysis.folder import check, dequantized
from analysis.model import Model
from analysis.registry import ModelSpec
from analysis.trace import TopTokens, Trace
from analysis.types import HeadId, HeadIntervention, Intervention, NeuronId, Positions, Span, UnsupportedModelError
from app.core.plain import number, ranks, series
from app.core.request import HeadInterventionRequest, InterventionRequest, SpanRequest
from app.core.residency.entry import Entry
from app.core.residency.facts import Facts, read_facts
from app.core.residency.host import ModelHost
from app.core.residency.hub import HubModels
from app.core.residency.published import PUBLISHED
from app.core.residency.replica import Replica
from app.core.residency.resident import Resident
from app.core.settings import Settings
from app.core.view import ConfidenceView, ModelRow, ModelsView, NextToken, PositionView, Provenance, RunView, Token

PACKAGES = ("nullscope", "torch", "transformers", "transformer_lens")


def intervention(request: InterventionRequest | HeadInterventionRequest) -> Intervention | HeadIntervention:
    """The request's words as the numerics' own."""
    positions: Positions = None
    if isinstance(request.positions, SpanRequest):
        positions = Span(request.positions.start, request.positions.stop)
    elif request.positions is not None:
        positions = tuple(request.positions)
    if isinstance(request, HeadInterventionRequest):
        return HeadIntervention(HeadId.parse(request.head), request.mode, positions)
    neuron = NeuronId.parse(request.neuron)
    return Intervention(neuron, request.mode, request.value, request.min, request.max, positions)


def tokens(model: Model, ids: Sequence[int]) -> list[Token]:
    told = zip(ids, model.token_texts(ids), model.roles(ids), strict=True)
    special = model.special_ids
    return [
        Token(position=t, id=index, text=text, special=index in special, role=role)
        for t, (index, text, role) in enumerate(told)
    ]


def confidence(found: Confidence | None, positions: Sequence[int]) -> ConfidenceView | None:
    """positions: of the answer's tokens."""
    return None if found is None else ConfidenceView(**asdict(found) | {"least": positions[found.least]})


def run(model: Model, trace: Trace, top: TopTokens) -> RunView:
    metrics = trace.metrics
    return RunView(
        entropy=series(metrics.entropy),
        loss=series(metrics.loss),
        ln_scale=series(metrics.ln_scale),
        kl_unigram=None if metrics.kl_unigram is None else series(metrics.kl_unigram),
        top1_prob=series(metrics.top1_prob),
        rank=ranks(metrics.rank),
        top=[
            next_tokens(model, ids, log_probs)
            for ids, log_probs in zip(top.ids.tolist(), top.log_probs.tolist(), strict=True)
        ],
        activations={str(neuron): series(values) for neuron, values in trace.activations.items()},
    )


def position(model: Model, trace: Trace, at: int) -> PositionView:
    """The clean run at one position."""
    metrics, target = trace.metrics, trace.target(at)
    ids = trace.token_ids
    texts = model.token_texts(ids[at : at + 2])
    return PositionView(
        position=at,
        token=Token(position=at, id=ids[at], text=texts[0]),
        next_token=None if target is None else Token(position=at + 1, id=target, text=texts[1]),
        entropy=number(metrics.entropy[at]),
        loss=number(metrics.loss[at]),
        ln_scale=number(metrics.ln_scale[at]),
        kl_unigram=None if metrics.kl_unigram is None else number(metrics.kl_unigram[at]),
        top1_prob=number(metrics.top1_prob[at]),
        rank=ranks(metrics.rank)[at],
    )


def next_tokens(model: Model, ids: Sequence[int], log_probs: Sequence[float]) -> list[NextToken]:

    texts = model.token_texts(ids)
    return [
        NextToken(id=index, text=text, prob=math.exp(log_prob), logprob=log_prob)
        for index, text, log_prob in zip(ids, texts, log_probs, strict=True)
    ]


def origin(resident: Resident) -> dict[str, Any]:
    """What every number of a model goes back to, whatever it was computed from."""
    model = resident.model
    return {
        "model": model.key,
        "source": model.spec.hub or "local folder",
        "revision": resident.revision,
        "weights_sha256": model.weights_sha256,
        "dequantized": model.spec.dequantized,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "versions": versions(),
        "unigram": resident.unigram.source if resident.unigram else None,
        "folding": folding(model),
    }


def provenance(
    resident: Resident,
    ids: Sequence[int],
    *,
    prepend_bos: bool | None,
    baseline: str | None,
    request_sha256: str,
    rows: list[list[int]] | None = None,
) -> Provenance:
    return Provenance(
        **origin(resident),
        token_ids=list(ids),
        rows=rows,
        prepend_bos=prepend_bos,
        baseline=baseline,
        request_sha256=request_sha256,
    )


def folding(model: Model) -> dict[str, bool]:
    """The switches of the readout that a number depends on."""
    readout = model.readout
    return {
        "centred": readout.centred,
        "vocab_centred": readout.vocab_centred,
        "post_norm": readout.post_norm is not None,
        "soft_cap": readout.soft_cap is not None,
    }


def baseline_name(baseline: float | str, resident: Resident) -> str:
    """How a result names its baseline: the mean with its text, a value with its number."""
    if baseline == "mean" and (means := resident.means_status.value) is not None:
        unknown = f", {means.unknown:.2g} of them unknown to its tokenizer" if means.unknown else ""
        left = f", {means.sinks} first tokens left out as attention sinks" if means.sinks else ""
        return f"mean over {means.n_tokens} tokens of {means.source}{left}{unknown}"
    if baseline == "prompt_mean":
        sink = sinks.leads_with_sink(resident.model) and not resident.settings.keep_sinks
        return f"mean over this prompt{', its first token left out as an attention sink' if sink else ''}"
    return "zero" if baseline == "zero" else f"value {baseline}"


@cache
def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that was not installed
            found[package] = "not installed"
    return found


def models(host: ModelHost, settings: Settings) -> ModelsView:
    return ModelsView(models=[model_row(entry, settings) for entry in host.entries.values()])


def model_row(entry: Entry, settings: Settings) -> ModelRow:
    """One row of GET /models: from the loaded model where there is one, else from the files."""
    status = entry.means
    return describe_model(
        spec=entry.spec,
        state=entry.state,
        error=entry.error,
        facts=entry.facts,
        settings=settings,
        revision=entry.revision,
        resident=entry.replicas[0][1] if entry.replicas else None,
        device=", ".join(worker.device for worker, _ in entry.replicas) or None,
        mean=status.state,
        mean_progress=status.progress,
        mean_source=status.value.source if status.value else None,
        mean_unknown=status.value.unknown if status.value else None,
        mean_error=status.error,
    )


def available_row(spec: ModelSpec, hub: HubModels, settings: Settings) -> ModelRow:
    """A model that is not loaded: what its files say, or that it would have to be downloaded, or why it is refused."""
    snapshot = None if spec.folder else hub.local(spec)
    folder = spec.folder or (snapshot.folder if snapshot else None)
    state: Literal["absent", "available", "failed"] = "absent" if folder is None else "available"
    facts, error = (PUBLISHED.get(spec.key) if folder is None else None), None
    try:
        if folder is not None:
            check(folder, spec.key)
            facts = read_facts(folder)
    except UnsupportedModelError as refused:
        state, error = "failed", refused.told
    return describe_model(
        spec=spec if folder is None else replace(spec, dequantized=dequantized(folder)),
        state=state,
        error=error,
        facts=facts,
        settings=settings,
        revision=snapshot.commit if snapshot else hub.recorded().get(spec.hub or ""),
    )


def _download(spec: ModelSpec, facts: Facts | None) -> int | None:
    """Bytes of the package, or of the weights in the number format in which the hub has them."""
    if spec.package is not None:
        return spec.package.bytes
    return facts.n_parameters * spec.item_bytes if facts is not None and spec.item_bytes is not None else None


def describe_model(
    *,
    spec: ModelSpec,
    state: Literal["available", "absent", "waiting", "loading", "loaded", "failed"],
    facts: Facts | None,
    settings: Settings,
    resident: Replica | None = None,
    **more: Any,
) -> ModelRow:
    model = resident.model if resident else None
    shape = model or facts
    absent = state == "absent" and spec.folder is None
    limit = settings.max_tokens
    return ModelRow(
        key=spec.key,
        loaded=model is not None,
        state=state,
        source=spec.hub or (spec.package.name if spec.package else "local folder"),
        licence=spec.licence,
        bytes_to_download=_download(spec, facts) if absent else None,
        dequantized=spec.dequantized,
        architecture=shape.architecture if shape else None,
        d_model=shape.d_model if shape else None,
        n_layers=shape.n_layers if shape else None,
        n_heads=shape.n_heads if shape else None,
        d_mlp=shape.d_mlp if shape else None,
        d_vocab=shape.d_vocab if shape else None,
        n_ctx=shape.n_ctx if shape else None,
        norm=shape.norm if shape else None,
        dtype=settings.dtype,
        bytes_on_disk=facts.bytes_on_disk if facts else None,
        bytes_needed=facts.bytes_needed(settings.dtype) if facts else None,
        weights_sha256=model.weights_sha256 if model else None,
        max_tokens=min(limit, shape.n_ctx) if shape else None,
        unigram=resident.unigram is not None if resident else None,
        **more,
    )
