"""The identity of a request: one hash over what decides its result, and nothing else."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel

from app.core.request import PromptRequest

PROMPT_KEYS = {"text", "token_ids", "turns", "prepend_bos"}


def canonical_request(
    kind: str, key: str, weights_sha256: str, token_ids: list[int], request: BaseModel
) -> dict[str, Any]:
    """What is stored under a permalink: the prompt as final token ids (BOS included), every option spelled out.

    Two requests that must give the same result give equal dictionaries, whether the prompt came as text or as ids.
    A request that is no prompt (repeated text, drawn from a seed) is spelled out whole; its ids are the first row's.
    """
    return {
        "kind": kind,
        "model": key,
        "weights_sha256": weights_sha256,
        "token_ids": token_ids,
        "options": options_of(request),
    }


def options_of(request: BaseModel) -> dict[str, Any]:
    """What a request asks beside its prompt."""
    apart = PROMPT_KEYS if isinstance(request, PromptRequest) else set()
    return request.model_dump(mode="json", exclude=apart)


def content_hash(canonical: dict[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON: sorted keys, no spaces, ASCII."""
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
