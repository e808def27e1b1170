"""Request -> view, on the device thread. Page, API, shell and permalinks all call these functions.

`await caller.run(key, answers.core.trace, request)` gives the view.
"""

from pydantic import BaseModel

from analysis import trace as tracing
from analysis.trace import Trace
from analysis.types import NeuronId
from app.present import core as shown
from app.requests.canonical import canonical_request, content_hash
from app.requests.core import PromptRequest, TraceRequest
from app.requests.limits import check_prompt, check_tokens, check_trace
from app.residency.resident import Resident
from app.views.core import RunView, TokensView, TraceView


def prompt_ids(resident: Resident, request: PromptRequest) -> list[int]:
    """The prompt as token ids, BOS as asked for; InputError when there are none or too many.

    Text gets what the model was trained with unless `prepend_bos` says otherwise; token ids get nothing unless it is
    true. Never two.
    """
    check_prompt(request, resident.limits)
    ids = all_ids(resident, request)
    check_tokens(len(ids), resident.max_tokens)
    return ids


def all_ids(resident: Resident, request: PromptRequest) -> list[int]:
    model = resident.model
    if request.text is not None:
        return model.encode(request.text, prepend_bos=request.prepend_bos)
    assert request.token_ids is not None
    return model.with_bos(request.token_ids, bool(request.prepend_bos))


def count(resident: Resident, request: PromptRequest) -> TokensView:
    """The prompt cut into tokens, however many; for the live count."""
    check_prompt(request, resident.limits)
    ids = all_ids(resident, request)
    return TokensView(n_tokens=len(ids), max_tokens=resident.max_tokens, tokens=shown.tokens(resident.model, ids))


def trace(resident: Resident, request: TraceRequest) -> TraceView:
    """The prompt run clean and, where interventions are given, intervened."""
    check_trace(request, resident.limits)
    ids = prompt_ids(resident, request)
    resident.admit(len(ids), rows=2 if request.interventions else 1)
    interventions = [shown.intervention(item) for item in request.interventions]
    needs_mean = any(item.mode == "mean" for item in interventions)
    means = resident.require_means() if needs_mean else None
    clean = tracing.trace(
        resident.model, ids, neurons=[NeuronId.parse(name) for name in request.neurons], unigram=resident.unigram
    )
    changed = None
    if interventions:
        changed = tracing.intervene(resident.model, clean, interventions, unigram=resident.unigram, means=means)
    return TraceView(
        tokens=shown.tokens(resident.model, ids),
        clean=_run(resident, clean, request.top_k),
        intervened=None if changed is None else _run(resident, changed, request.top_k),
        provenance=shown.provenance(
            resident,
            ids,
            prepend_bos=request.prepend_bos,
            baseline=shown.baseline_name("mean", resident) if needs_mean else None,
            request_sha256=request_hash("trace", resident, ids, request),
        ),
    )


def _run(resident: Resident, trace: Trace, top_k: int) -> RunView:
    top = tracing.top_tokens(resident.model.readout, trace.last.resid, top_k)
    return shown.run(resident.model, trace, top)


def request_hash(kind: str, resident: Resident, ids: list[int], request: BaseModel) -> str:
    """The identity of a request on this model; see `app.requests.canonical`."""
    model = resident.model
    return content_hash(canonical_request(kind, model.key, model.weights_sha256, ids, request))
