"""A stored result as code: a call of the client, and a notebook that computes its numbers without this program.

The notebook uses plain torch and transformer_lens only. An ablation there is a hook in a forward pass, so it also
checks the closed form that the numbers came from.
"""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from analysis.types import InputError
from app.db.results import answer_of
from app.db.tables import Result
from app.requests.prompt import PromptState

MOST_ROWS = 50  # of an effects table: each is a forward pass in the notebook


def attachment(text: str, name: str, media_type: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, 200, headers, f"{media_type}; charset=utf-8")


def client_code(stored: Result, base: str) -> str:
    """Python that opens the result through the client."""
    return (
        "from app.client import Nullscope\n\n"
        f"client = Nullscope({base.rstrip('/')!r})  # key=... where the server asks for one\n"
        f"saved = client.result({stored.hash!r})\n"
        'print(saved.verdict, saved.sentence)\nsaved.result["provenance"]'
    )


def notebook(stored: Result, means: Mapping[str, float] | None = None) -> str:
    """The .ipynb as JSON text. means: reference means of the neurons that are ablated to them."""
    cells = [_markdown(_title(stored)), _code(_load(stored))]
    answer = answer_of(stored)
    if stored.kind == "effects":
        cells += [_code(_effects(stored, answer))]
    elif stored.kind in ("trace", "prompt"):
        cells += [_code(_trace(stored, answer, means or {}))]
    else:
        raise InputError(
            f"There is no notebook for {stored.kind} results yet.",
            code="no_notebook",
            hint="Its JSON and Python give the same numbers.",
        )
    document = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "nullscope": {"hash": stored.hash, "request": stored.request, "versions": stored.versions},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1)


def needed_means(stored: Result) -> list[str]:
    """Neurons whose reference mean the notebook has to know."""
    return [item["neuron"] for item in _interventions(stored) if _to_reference_mean(item)]


def _to_reference_mean(item: Mapping[str, Any]) -> bool:
    return item["mode"] == "mean" and "head" not in item


def _interventions(stored: Result) -> list[dict[str, Any]]:
    options = stored.request["options"]
    if stored.kind == "prompt":
        request = PromptState.read({**options, "model": stored.model}).trace_request()
        return [item.model_dump(mode="json") for item in request.interventions]
    found: list[dict[str, Any]] = options.get("interventions") or []
    return found


def _title(stored: Result) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in stored.versions.items())
    return (
        f"# Nullscope: {stored.kind} on `{stored.model.replace('`', chr(39))}`\n\n"
        f"Request `{stored.hash}`. Weights sha256 `{stored.weights_sha256}`. Made with {versions}.\n\n"
        "Entropy and loss in nats. Set `NULLSCOPE_MODEL` (or `MODEL` below) to the model's folder or hub name."
    )


def _load(stored: Result) -> str:
    answer = answer_of(stored)
    source = (answer.get("provenance") or answer["trace"]["provenance"])["source"]
    model = stored.model if source == "local folder" else source
    return f"""import os
import torch
from transformers import AutoModelForCausalLM
from transformer_lens.model_bridge.sources import build_bridge_from_module

MODEL = os.environ.get("NULLSCOPE_MODEL", {model!r})
TOKENS = {stored.request["token_ids"]!r}

weights = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
bridge = build_bridge_from_module(weights, type(weights).__name__, hf_config=weights.config)
tokens = torch.tensor([TOKENS])


SCALE = {(answer.get("trace") or answer).get("ln_scale")!r}  # a constant final LN scale, or None: the model's own


def measure(hooks=()):
    if SCALE is not None:
        hooks = [*hooks, ("ln_final.hook_scale", lambda scale, hook: torch.full_like(scale, SCALE))]
    with torch.inference_mode():
        logits = bridge.run_with_hooks(tokens, fwd_hooks=list(hooks), return_type="logits")[0].float()
    log_p = logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    loss = -log_p[:-1].gather(-1, tokens[0, 1:, None])[:, 0]
    return entropy, loss


entropy, loss = measure()
print("entropy", entropy)"""


def _trace(stored: Result, answer: dict[str, Any], means: Mapping[str, float]) -> str:
    trace = answer.get("trace") or answer
    interventions = _interventions(stored)
    if missing := [name for name in needed_means(stored) if name not in means]:
        raise InputError(
            f"The reference mean of {missing[0]} is not known now.",
            code="baseline_not_ready",
            hint="Load the model first.",
        )
    for item in interventions:
        if _to_reference_mean(item):
            item |= {"mode": "value", "value": means[item["neuron"]]}
    checks = {"entropy": trace["clean"]["entropy"], "loss": trace["clean"]["loss"][:-1]}
    after = trace["intervened"]
    return f"""EXPECTED = {checks!r}
torch.testing.assert_close(entropy, torch.tensor(EXPECTED["entropy"]), atol=1e-3, rtol=1e-3)
torch.testing.assert_close(loss, torch.tensor(EXPECTED["loss"]), atol=1e-3, rtol=1e-3)

INTERVENTIONS = {interventions!r}


def changed(n, item):
    if item["mode"] == "scale":
        return n * item["value"]
    if item["mode"] == "clip":
        return n.clamp(item["min"], item["max"])
    return torch.full_like(n, item["value"] if item["mode"] == "value" else 0.0)


def head_hook(layer, head, where, mode):
    name = f"blocks.{{layer}}.attn.hook_z"
    _, seen = bridge.run_with_cache(tokens, names_filter=lambda found: found == name)
    mean = seen[name].mean((0, 1))[head]

    def hook(z, hook):
        new = z.clone()
        new[:, where, head] = z[:, :1, head] if mode == "bos" else mean if mode == "mean" else 0.0
        return new

    return name, hook


def hook_of(item):
    layer, index = map(int, (item.get("head") or item["neuron"]).split("."))
    where = item["positions"]
    where = slice(None) if where is None else slice(where["start"], where["stop"]) if isinstance(where, dict) else where
    if "head" in item:
        return head_hook(layer, index, where, item["mode"])

    def hook(activations, hook):
        new = activations.clone()
        new[:, where, index] = changed(new[:, where, index], item)
        return new

    return f"blocks.{{layer}}.mlp.hook_post", hook


if INTERVENTIONS:
    after_entropy, after_loss = measure([hook_of(item) for item in INTERVENTIONS])
    expected = {after["entropy"] if after else None!r}
    torch.testing.assert_close(after_entropy, torch.tensor(expected), atol=1e-3, rtol=1e-3)
    print("change of entropy", after_entropy - entropy)
print("the numbers agree")"""


def _effects(stored: Result, answer: dict[str, Any]) -> str:
    rows = [
        {
            "neuron": row["neuron"],
            "baseline": row["baseline"],
            "d_entropy": row["d_entropy"]["total"],
            "d_loss": row["d_loss"]["total"],
        }
        for row in answer["rows"][:MOST_ROWS]
    ]
    return f"""POSITION = {answer["clean"]["position"]}
ROWS = {rows!r}

for row in ROWS:
    layer, index = map(int, row["neuron"].split("."))

    def ablate(activations, hook):
        new = activations.clone()
        new[:, POSITION, index] = row["baseline"]
        return new

    after_entropy, after_loss = measure([(f"blocks.{{layer}}.mlp.hook_post", ablate)])
    change = (after_entropy - entropy)[POSITION].item()
    assert abs(change - row["d_entropy"]) < 1e-3, (row, change)
    if row["d_loss"] is not None:
        assert abs((after_loss - loss)[POSITION].item() - row["d_loss"]) < 1e-3, row
    print(row["neuron"], f"{{change:+.6f}}")
print("the numbers agree")"""


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "title", "metadata": {}, "source": text}


def _code(text: str) -> dict[str, Any]:
    identifier = "load" if text.startswith("import os") else "numbers"
    return {
        "cell_type": "code", "id": identifier, "metadata": {}, "execution_count": None, "outputs": [], "source": text
    }  # fmt: skip
