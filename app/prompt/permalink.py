"""The prompt page under a permalink."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from analysis.types import InputError
from app.core import pages
from app.core.at_hand import FIELDS, AtHand
from app.core.caller import Caller
from app.core.canonical import content_hash
from app.core.limits import check_request, check_tokens
from app.core.permalink_view import PermalinkView
from app.core.settings import Limits
from app.core.store.results import NewResult
from app.prompt import charts as figures
from app.prompt.answer import bare
from app.prompt.questions import PAGE
from app.prompt.request import PromptState
from app.prompt.view import PromptView


def of_page(state: PromptState, view: PromptView) -> NewResult:
    """What to store of a prompt page as it stands."""
    assert view.trace is not None
    source = view.trace.provenance
    canonical = {
        "kind": PAGE.name,
        "model": source.model,
        "weights_sha256": source.weights_sha256,
        "token_ids": source.token_ids,
        "options": options_of(state),
    }
    answer = bare(view).model_dump_json()
    return NewResult(content_hash(canonical), canonical, source.versions, answer, state.text)


def options_of(state: PromptState) -> dict[str, str]:
    """What stands for a page in its canonical request."""
    return {name: value for name, value in state.fields().items() if name not in ("model", "example") and value}


def spelled(request: Mapping[str, Any], limits: Limits) -> dict[str, str]:
    """The options of a stored page's canonical request as this version stores them; InputError where they do not
    hold."""
    if not request["token_ids"]:
        raise InputError("The prompt is empty.")
    check_tokens(len(request["token_ids"]), limits.max_tokens)
    state = PromptState.read({**request["options"], "model": request["model"]})
    check_request(state.trace_request(), limits)
    if pinned := state.of_pin():
        check_request(pinned.trace_request(), limits)
    return options_of(state)


def opened(request: Request, caller: Caller, saved: PermalinkView) -> Response:
    """The prompt page of a stored result, with the verdict on it."""
    own = {"models": list(caller.host.entries), "saved": saved.model_dump(), "marks": saved.told.marks}
    view = PromptView.model_validate({**bare(PromptView.model_validate(saved.result)).model_dump(), **own})
    return pages.respond(
        request,
        view,
        template="prompt/prompt.html",
        title="Prompt",
        model=saved.model,
        figures={"curves": lambda: figures.curves(view), "changes": lambda: figures.changes(view)},
        hand=AtHand({name: view.state[name] for name in FIELDS if view.state.get(name)}),
        runs=True,
    )
