"""The operator's limits on one request, checked before any work is done. Each refusal names both numbers."""

from collections.abc import Sequence

from pydantic import BaseModel

from analysis.types import InputError
from app.core.request import PromptRequest, TraceRequest
from app.core.settings import Limits


def check_prompt(request: PromptRequest, limits: Limits) -> None:
    if request.text is not None:
        check_text(request.text, limits)
    if request.turns is not None:
        check_text("".join(turn.content for turn in request.turns), limits)
    if request.token_ids is not None:
        check_tokens(len(request.token_ids), limits.max_tokens)
    neurons = getattr(request, "neurons", None)
    if isinstance(neurons, list):
        check_neurons(len(neurons), limits)


def check_neurons(n_neurons: int, limits: Limits) -> None:
    """Neurons named one by one."""
    _within(n_neurons, limits.max_neurons, "neurons", "request")


def check_rows(n_rows: int, limits: Limits) -> None:
    """Rows of repeated text."""
    _within(n_rows, limits.max_rows, "rows", "request")


def check_request(request: BaseModel, limits: Limits) -> None:
    """Whatever can be said of a request before any model is asked, by its fields."""
    if isinstance(request, TraceRequest):
        check_trace(request, limits)
    elif isinstance(request, PromptRequest):
        check_prompt(request, limits)
    elif isinstance(text := getattr(request, "text", None), str):
        check_text(text, limits)
    if (rows := getattr(request, "n_rows", None)) is not None:
        check_rows(rows, limits)
    lists = [getattr(request, name, None) for name in ("neurons", "clip")]
    check_neurons(len({name for names in lists if isinstance(names, list) for name in names}), limits)


def check_text(text: str, limits: Limits) -> None:
    """Before it is cut into tokens."""
    _within(len(text), limits.max_characters, "characters", "prompt")


def check_trace(request: TraceRequest, limits: Limits) -> None:
    check_prompt(request, limits)
    check_interventions(request.interventions, limits)
    if request.top_k > limits.max_top_k:
        raise InputError(
            f"top_k is {request.top_k}; at most {limits.max_top_k} are allowed here.",
            code="limit_top_k",
            hint="Ask for fewer next tokens.",
        )


def check_interventions(items: Sequence[object], limits: Limits) -> None:
    _within(len(items), limits.max_interventions, "interventions", "request")


def check_tokens(n_tokens: int, limit: int) -> None:
    """Once the prompt is cut into tokens; the limit is the lower of the operator's and the model's context."""
    _within(n_tokens, limit, "tokens", "prompt")


def check_known(token_ids: Sequence[int], d_vocab: int) -> None:
    """Every id is in the vocabulary."""
    if (largest := max(token_ids)) >= d_vocab:
        raise InputError(
            f"Token id {largest} is outside the vocabulary.",
            code="unknown_token",
            hint=f"Ids run from 0 to {d_vocab - 1}.",
        )


def _within(count: int, limit: int, what: str, where: str) -> None:
    if count > limit:
        raise InputError(
            f"The {where} has {count} {what}; at most {limit} are allowed here.",
            code=f"limit_{what}",
            hint=f"Send fewer {what}.",
        )
