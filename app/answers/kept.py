"""Which answers are kept under a permalink, and how a kept one is computed again.

An answer's kind is the name that its canonical request carries; the request that computes it again is the stored
options with the stored token ids.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from analysis.induction.heads import score_rows
from analysis.types import NeuronId, NotFoundError
from app.answers import core, effects, induction, prompt
from app.answers.induction_rows import built
from app.db.results import NewResult
from app.db.tables import Result
from app.errors import ConflictError
from app.requests.canonical import canonical_request, content_hash
from app.requests.core import EffectsRequest, PromptRequest, TraceRequest
from app.requests.effects import DoseRequest, HeatmapRequest, JointRequest, LedgerRequest
from app.requests.induction import (
    AttributionRequest,
    HeadAblationRequest,
    HeadsRequest,
    InductionRequest,
    NaturalRequest,
    RepeatRequest,
)
from app.requests.prompt import PromptState
from app.residency.resident import Resident
from app.views.prompt import PromptView
from app.views.sweep import SweepView


@dataclass(frozen=True)
class Kind:
    """A question that has permalinks.

    answer: ``answer(resident, request)`` gives the view; with `steps` it is an iterator whose last item is the view.
    footed: it also takes the atlas' footing, or None while there is none. loose: keys of the answer, wherever they
    stand, that follow from more than the request, so that another value there is no difference.
    """

    name: str
    request: type[BaseModel]
    answer: Callable[..., Any]
    steps: bool = False
    footed: bool = False
    loose: frozenset[str] = frozenset()


KINDS = {
    kind.name: kind
    for kind in (
        Kind("trace", TraceRequest, core.trace),
        Kind("effects", EffectsRequest, core.effects),
        Kind("heatmap", HeatmapRequest, effects.heatmap, steps=True),
        Kind("joint", JointRequest, effects.joint),
        Kind("dose", DoseRequest, effects.dose),
        Kind("ledger", LedgerRequest, effects.ledger),
        Kind("induction", InductionRequest, induction.induction, steps=True, footed=True, loose=frozenset({"labels"})),
        Kind("heads", HeadsRequest, induction.head_scores, steps=True),
        Kind("attribution", AttributionRequest, induction.attribution, steps=True),
        Kind("head_ablation", HeadAblationRequest, induction.head_ablation, steps=True),
        Kind("natural_repeats", NaturalRequest, induction.natural_repeats, steps=True),
    )
}
PAGE = "prompt"  # the prompt page with its selection, interventions and pins: a whole page, not one question
SWEEP = "sweep"  # hours of work that is stored already: shown, never computed again by opening it


def kind_of(answer: Callable[..., Any]) -> Kind | None:
    return next((kind for kind in KINDS.values() if kind.answer is answer), None)


def of_answer(kind: Kind, request: BaseModel, view: Any) -> NewResult:
    """What to store of an answer; its provenance already names the hash."""
    source = view.provenance
    canonical = canonical_request(kind.name, source.model, source.weights_sha256, source.token_ids, request)
    return NewResult(
        hash=content_hash(canonical),
        request=canonical,
        versions=source.versions,
        answer=view.model_dump_json(exclude={"permalink"}),
        preview=_preview(request, source.token_ids),
    )


def _preview(request: BaseModel, token_ids: list[int]) -> str:
    """The beginning of what was asked about: its text, its seed, else its first token ids."""
    if text := getattr(request, "text", None):
        return str(text)
    if (seed := getattr(request, "seed", None)) is not None:
        return f"seed {seed}, {getattr(request, 'kind', 'random ids').replace('_', ' ')}"
    return _first_ids(token_ids) if token_ids else "the sample text"


def of_sweep(view: SweepView, manifest: dict[str, Any]) -> NewResult:
    """What to store of a finished sweep: its request, its averages and the first rows of its table."""
    canonical = {
        "kind": SWEEP,
        "model": view.ref.model,
        "weights_sha256": manifest["weights_sha256"],
        "token_ids": [],
        "options": {**manifest["config"], "corpus": manifest["corpus"]["sha256"]},
    }
    parts = {"id", "clean", "n_rows", "n_tokens", "n_neurons", "total", "rows", "manifest"}
    answer = view.model_dump_json(include=parts)
    versions = {"torch": str(manifest["torch"])}
    return NewResult(content_hash(canonical), canonical, versions, answer, f"sweep over {view.ref.source}")


def of_page(state: PromptState, view: PromptView) -> NewResult:
    """What to store of a prompt page as it stands."""
    assert view.trace is not None
    source = view.trace.provenance
    options = {name: value for name, value in state.fields().items() if name not in ("model", "example") and value}
    canonical = {
        "kind": PAGE,
        "model": source.model,
        "weights_sha256": source.weights_sha256,
        "token_ids": source.token_ids,
        "options": options,
    }
    answer = bare(view).model_dump_json()
    return NewResult(content_hash(canonical), canonical, source.versions, answer, state.text)


def bare(view: PromptView) -> PromptView:
    """A page without what belongs to the server, not to the result."""
    state = {**view.state, "example": ""}
    own: dict[str, Any] = {"models": [], "examples": [], "example": None, "code": {}, "from_file": False}
    return view.model_copy(update={**own, "state": state})


def _first_ids(token_ids: list[int]) -> str:
    return "token ids " + " ".join(map(str, token_ids[:16])) + (" …" if len(token_ids) > 16 else "")


def page_again(resident: Resident, stored: Result) -> PromptView:
    """A stored prompt page, from the model as it is now. On the device thread."""
    return bare(prompt.page(resident, state_of(stored), prompt.EVERYTHING, {"models": [], "examples": []}))


def request_of(stored: Result) -> tuple[Kind, BaseModel]:
    """The question that a stored result answers; NotFoundError when this version does not know its kind."""
    kind = KINDS.get(stored.kind)
    if kind is None:
        raise NotFoundError(f"This version has no {stored.kind} results.", code="unknown_kind")
    options = dict(stored.request["options"])
    if issubclass(kind.request, PromptRequest):
        options["token_ids"] = stored.request["token_ids"]
    return kind, kind.request.model_validate(options)


def state_of(stored: Result) -> PromptState:
    return PromptState.read({**stored.request["options"], "model": stored.model})


def text_of(resident: Resident, stored: Result) -> str | None:
    """The prompt as text; None where there is none, or its tokens cannot be had back from a text. On the device
    thread."""
    kind = KINDS.get(stored.kind)
    if stored.kind != PAGE and not (kind and issubclass(kind.request, PromptRequest)):
        found: str | None = stored.request["options"].get("text")
        return found
    model, token_ids = resident.model, stored.request["token_ids"]
    ids = token_ids[1:] if token_ids[:1] == [model.bos_id] else token_ids
    text = "".join(model.token_texts(ids))
    return text if model.encode(text, prepend_bos=len(ids) != len(token_ids)) == token_ids else None


def means_of(resident: Resident, neurons: list[str]) -> dict[str, float]:
    """Reference means of some neurons. On the device thread."""
    means = resident.require_means()
    found = [(name, NeuronId.parse(name)) for name in neurons]
    return {name: float(means[neuron.layer, neuron.index]) for name, neuron in found}


def rows_of(resident: Resident, stored: Result) -> list[list[int]]:
    """Token ids of every row of a stored result over repeated text. On the device thread.

    ConflictError where the sample text or the tokenizer is no longer the one that the result was made with.
    """
    _, request = request_of(stored)
    if isinstance(request, HeadsRequest):
        repeat = score_rows(resident.model, n_rows=request.rows, seed=request.seed, length=request.length)
    else:
        assert isinstance(request, RepeatRequest)
        repeat, _ = built(resident, request)
    rows: list[list[int]] = repeat.tokens.tolist()
    if rows[0] != stored.request["token_ids"]:
        raise ConflictError(
            "The rows of this result cannot be had back: the model's sample text is another one now.",
            code="other_text",
            hint="Its JSON has the numbers; run it again for a notebook.",
        )
    return rows
